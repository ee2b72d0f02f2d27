"""Packs and unpacks the clips that travel between page and server, and decodes their pictures. Needs no torch.

In both directions a clip is one body of type ``application/vnd.dynagest.clip``::

    "DGC1"  4 bytes
    length of the header, unsigned 32 bit, little-endian
    header, JSON: {"times": [seconds, ...], "sizes": [bytes, ...]}
    the JPEG pictures, one after another
"""

import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

from dynagest.clips.demux import open_video
from dynagest.clips.jpeg import is_damaged, picture_size
from dynagest.web.guard import RequestError

CLIP_TYPE = "application/vnd.dynagest.clip"
_MAGIC = b"DGC1"
_HEAD = struct.Struct("<4sI")


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of what a server accepts. ``side`` is in pixels, of the longer side of a picture."""

    clip_bytes: int = 16_000_000
    upload_seconds: float = 20.0
    clip_frames: int = 600
    clip_seconds: float = 15.0
    fewest_frames: int = 8
    side: int = 1280
    gestures: int = 50
    clips: int = 200  # per gesture
    free_bytes: int = 500_000_000  # that must be free on the disk before a clip is stored


@dataclass(frozen=True, slots=True)
class Recording:
    """The JPEG files of a clip's pictures, from a browser or a Motion JPEG file, with their times in seconds."""

    pictures: tuple[bytes, ...]
    times: tuple[float, ...]

    def pack(self) -> bytes:
        """Return the body that ``unpack`` reads."""
        header = json.dumps({"times": self.times, "sizes": [len(picture) for picture in self.pictures]}).encode()
        return _HEAD.pack(_MAGIC, len(header)) + header + b"".join(self.pictures)

    @classmethod
    def unpack(cls, body: bytes, limits: Limits) -> "Recording":
        """Read a body. Raises ``RequestError`` (422) if it is not a clip or exceeds ``limits``. Decodes no picture."""
        if len(body) < _HEAD.size or body[:4] != _MAGIC:
            raise unfit("not a clip: it begins with other bytes than DGC1")
        length = _HEAD.unpack_from(body)[1]
        start = _HEAD.size + length
        if start > len(body) or length > 100_000:
            raise unfit("not a clip: its header is longer than the clip, or than any")
        try:
            header = json.loads(body[_HEAD.size : start])
        except (ValueError, RecursionError):
            raise unfit("not a clip: its header is no JSON") from None
        if not isinstance(header, dict) or header.keys() != {"times", "sizes"}:
            raise unfit("not a clip: its header must hold times and sizes")
        times, sizes = header["times"], header["sizes"]
        if not _numbers(times, (int, float)) or not _numbers(sizes, (int,)) or len(times) != len(sizes):
            raise unfit("not a clip: its header must hold one time and one size for each picture, as numbers")
        if not limits.fewest_frames <= len(times) <= limits.clip_frames:
            change = "longer" if len(times) < limits.fewest_frames else "shorter"
            raise unfit(
                f"a clip of {len(times)} frames; {limits.fewest_frames} to {limits.clip_frames} are taken, so record "
                f"for a {change} time"
            )
        if not all(-1e9 < time < 1e9 for time in times) or any(b - a < 0.001 for a, b in pairwise(times)):
            raise unfit("the times of a clip must rise, by a millisecond at least")
        if times[-1] - times[0] > limits.clip_seconds:
            raise unfit(f"a clip of {times[-1] - times[0]:.1f} seconds; {limits.clip_seconds:g} are taken at most")
        if any(size < 1 for size in sizes) or start + sum(sizes) != len(body):
            raise unfit("not a clip: its pictures are not as long as its header says")
        ends = np.cumsum([start, *sizes]).tolist()
        return cls(tuple(body[a:b] for a, b in pairwise(ends)), tuple(float(time) for time in times))

    def frames(self, limits: Limits) -> "Frames":
        """Check every picture, and return them as frames.

        Raises ``RequestError`` (422) for a picture that is damaged, has a side below 16 or above ``limits.side``
        pixels, or is of another size than the first.
        """
        size: tuple[int, int] | None = None
        for index, picture in enumerate(self.pictures):
            found = picture_size(picture)  # before it is decoded: a small file can claim to be an enormous picture
            if found is None:
                raise _damaged(index)
            if not 16 <= min(found) <= max(found) <= limits.side:
                raise unfit(
                    f"picture {index} is {found[1]} x {found[0]}; sides of 16 to {limits.side} pixels are taken"
                )
            if size not in (None, found):
                raise unfit(f"picture {index} has another size than the one before; the pictures of a clip have one")
            size = found
            if is_damaged(picture):
                raise _damaged(index)
        assert size is not None, "unpack takes no clip without pictures"
        return Frames(self.pictures, size)


@dataclass(frozen=True, slots=True)
class Frames(Sequence[np.ndarray]):
    """JPEG pictures of one size (height, width) as uint8 RGB frames (H, W, 3), each decoded on access.

    All frames together may take two hundred times the memory of the files. Access raises ``RequestError`` (422) for a
    picture that cannot be decoded or has another size.
    """

    pictures: tuple[bytes, ...]
    size: tuple[int, int]

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: Any) -> Any:
        picture = np.frombuffer(self.pictures[index], np.uint8)
        frame = cv2.imdecode(picture, cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION)
        if frame is None or frame.shape[:2] != self.size:
            raise _damaged(index)
        return frame


def read_recording(path: Path) -> Recording:
    """Read a Motion JPEG file, without decoding it. Raises ``RequestError`` (409) for a file that cannot be read."""
    name = f"{path.parent.name}/{path.name}"
    try:
        with open_video(path) as container:
            stream = container.streams.video[0]
            codec = stream.codec_context  # None if FFmpeg does not know it
            mjpeg = codec is not None and codec.name == "mjpeg"
            packets = [packet for packet in container.demux(stream) if packet.size] if mjpeg else []
            timed = [(packet.pts, packet.time_base) for packet in packets if packet.pts is not None]
            if not mjpeg or len(timed) < len(packets):
                raise RequestError(HTTPStatus.CONFLICT, f"{name} is no Motion JPEG with times; only that is shown here")
            if not packets:
                raise RequestError(HTTPStatus.CONFLICT, f"{name} holds no pictures; delete it")
            times = tuple(round(float(pts * unit), 6) for pts, unit in timed)
            return Recording(tuple(bytes(packet) for packet in packets), times)
    except (OSError, av.FFmpegError, IndexError):
        raise RequestError(HTTPStatus.CONFLICT, f"{name} cannot be read; delete it") from None


def _numbers(values: object, kinds: tuple[type, ...]) -> bool:
    return isinstance(values, list) and all(type(value) in kinds for value in values)


def unfit(message: str) -> RequestError:
    """The error (422) for a body whose content cannot be accepted."""
    return RequestError(HTTPStatus.UNPROCESSABLE_ENTITY, message)


def _damaged(index: int) -> RequestError:
    return unfit(f"picture {index} of the clip is not a whole JPEG")
