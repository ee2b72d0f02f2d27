"""The clips that the page records: how they travel, and the folder in which they lie. Needs no torch.

A clip travels as one body, of type ``application/vnd.dynagest.clip``, both ways::

    "DGC1"  4 bytes
    length of the header, unsigned 32 bit, little-endian
    header, JSON: {"times": [seconds, ...], "sizes": [bytes, ...]}
    the JPEG pictures, one behind the other

The folder is that of ``clips/gesture_folder.py``, which writes it.
"""

import json
import re
import shutil
import struct
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from http import HTTPStatus
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

from dynagest.clips.adapters.common import IndexOptions
from dynagest.clips.adapters.folders import index_folders
from dynagest.clips.depth import DEPTH_FILE
from dynagest.clips.gesture_folder import SUFFIX, check_label, gestures, refresh_manifest, write_clip
from dynagest.clips.jpeg import END, HEAD, is_damaged
from dynagest.clips.manifest import CLASSES_FILE, MANIFEST_FILE, Manifest
from dynagest.clips.teacher import RECORD_FILE, depth_path, list_pseudo_depth
from dynagest.errors import DynagestError
from dynagest.web.guard import RequestError

CLIP_TYPE = "application/vnd.dynagest.clip"
_MAGIC = b"DGC1"
_HEAD = struct.Struct("<4sI")
_SIZE = struct.Struct(">HH")
# Markers of a JPEG, behind 0xff (ITU-T T.81, table B.1): those that begin a segment with a length.
_SCAN = 0xDA
_FRAME_HEADERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_SEGMENTS = _FRAME_HEADERS | {0xC4, 0xCC, _SCAN, 0xDB, 0xDD, *range(0xE0, 0xF0), 0xFE}
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7]")  # what ends a scan; 0xff 0x00 is a byte of it, the others restart it
_LONGEST_NAME = 255  # bytes in UTF-8, for all file systems in use
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


@dataclass(frozen=True, slots=True)
class Limits:
    """What one server takes. Sides in pixels, sizes in bytes."""

    clip_bytes: int = 16_000_000
    upload_seconds: float = 20.0
    clip_frames: int = 600
    clip_seconds: float = 15.0
    fewest_frames: int = 8
    side: int = 1280
    gestures: int = 50
    clips: int = 200  # of one gesture
    free_bytes: int = 500_000_000  # that must remain on the disk


@dataclass(frozen=True, slots=True)
class Recording:
    """JPEG pictures (Motion JPEG's own, or a browser's) with the times in seconds at which they were taken."""

    pictures: tuple[bytes, ...]
    times: tuple[float, ...]

    def pack(self) -> bytes:
        """The body that ``unpack`` reads."""
        header = json.dumps({"times": self.times, "sizes": [len(picture) for picture in self.pictures]}).encode()
        return _HEAD.pack(_MAGIC, len(header)) + header + b"".join(self.pictures)

    @classmethod
    def unpack(cls, body: bytes, limits: Limits) -> "Recording":
        """Raises ``RequestError`` for anything that is no clip or more than ``limits``."""
        if len(body) < _HEAD.size or body[:4] != _MAGIC:
            raise _bad("not a clip: it begins with other bytes than DGC1")
        length = _HEAD.unpack_from(body)[1]
        start = _HEAD.size + length
        if start > len(body) or length > 100_000:
            raise _bad("not a clip: its header is longer than the clip, or than any")
        try:
            header = json.loads(body[_HEAD.size : start])
        except (ValueError, RecursionError):
            raise _bad("not a clip: its header is no JSON") from None
        if not isinstance(header, dict) or header.keys() != {"times", "sizes"}:
            raise _bad("not a clip: its header must hold times and sizes")
        times, sizes = header["times"], header["sizes"]
        if not _numbers(times, (int, float)) or not _numbers(sizes, (int,)) or len(times) != len(sizes):
            raise _bad("not a clip: times and sizes must be as many numbers")
        if not limits.fewest_frames <= len(times) <= limits.clip_frames:
            raise _bad(f"a clip of {len(times)} frames; {limits.fewest_frames} to {limits.clip_frames} are taken")
        if not all(-1e9 < time < 1e9 for time in times) or any(b - a < 0.001 for a, b in _pairs(times)):
            raise _bad("the times of a clip must rise, by a millisecond at least")
        if times[-1] - times[0] > limits.clip_seconds:
            raise _bad(f"a clip of {times[-1] - times[0]:.1f} seconds; {limits.clip_seconds:g} are taken at most")
        if any(size < 1 for size in sizes) or start + sum(sizes) != len(body):
            raise _bad("not a clip: its pictures are not as long as its header says")
        ends = np.cumsum([start, *sizes]).tolist()
        return cls(tuple(body[a:b] for a, b in _pairs(ends)), tuple(float(time) for time in times))

    def frames(self, limits: Limits) -> "Frames":
        """The pictures to look at. Raises ``RequestError`` for one that is no whole JPEG or too large."""
        size: tuple[int, int] | None = None
        for index, picture in enumerate(self.pictures):
            found = _jpeg_size(picture)  # before it is decoded: a small file can claim to be an enormous picture
            if found is None:
                raise _damaged(index)
            if not 16 <= min(found) <= max(found) <= limits.side:
                raise _bad(f"picture {index} is {found[1]} x {found[0]}; sides of 16 to {limits.side} pixels are taken")
            if size not in (None, found):
                raise _bad(f"picture {index} has another size than the one before; the pictures of a clip have one")
            size = found
            if is_damaged(picture):
                raise _damaged(index)
        assert size is not None, "unpack takes no clip without pictures"
        return Frames(self.pictures, size)


@dataclass(frozen=True, slots=True)
class Frames(Sequence[np.ndarray]):
    """JPEG pictures of one size (height, width) as uint8 RGB (H, W, 3), each decoded when it is looked at.

    Together they may be two hundred times as large as their files. Raises ``RequestError`` for a picture that does not
    decode, or to another size.
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


@dataclass(frozen=True, slots=True)
class Recorded:
    """A clip in the folder: its name within its gesture, frames and seconds; ``fault``: why it cannot be shown."""

    name: str
    frames: int
    seconds: float
    fault: str = ""


class ClipFolder:
    """The user's gestures. Several browsers may use it at once; changes happen one after another."""

    def __init__(self, folder: Path, limits: Limits | None = None) -> None:
        self.folder, self.limits = folder, limits or Limits()
        self._change = threading.Lock()
        self._known: dict[tuple[Path, int], Recorded] = {}

    def listing(self) -> list[dict[str, Any]]:
        """``{"label": ..., "clips": [{"name", "frames", "seconds", "fault"}, ...]}`` a gesture, in natural order."""
        return [{"label": label, "clips": list(self._described(label))} for label in gestures(self.folder)]

    def add(self, label: str, body: bytes) -> Recorded:
        """Store a recording. Raises ``RequestError`` for what is none, or more than the limits allow."""
        self._check(label, new=True)
        recording = Recording.unpack(body, self.limits)
        frames = recording.frames(self.limits)
        with self._change:
            self._check_list()
            if (self.folder / label).is_symlink():
                raise _bad(f"{label} is a link to another folder, where nothing is recorded; choose another name")
            here = gestures(self.folder)
            if label not in here and len(here) >= self.limits.gestures:
                raise _full(f"there are {len(here)} gestures, as many as are taken; delete one")
            if len(self._clips(label)) >= self.limits.clips:
                raise _full(f"{label} has {self.limits.clips} clips, as many as are taken; delete some")
            self.folder.mkdir(parents=True, exist_ok=True)
            if shutil.disk_usage(self.folder).free < self.limits.free_bytes:
                raise RequestError(HTTPStatus.INSUFFICIENT_STORAGE, "the disk of this machine is nearly full")
            return self._describe(write_clip(self.folder, label, frames, recording.times))

    def read(self, label: str, name: str) -> Recording:
        """A stored recording. Raises ``RequestError`` 404 when there is none of that name."""
        return read_recording(self._find(label, name))

    def delete(self, label: str, name: str) -> None:
        """Remove a clip, and its gesture with its last one. Raises ``RequestError`` 404 when there is none."""
        with self._change:
            path = self._find(label, name)
            self._check_list()
            path.unlink()
            depth_path(path).unlink(missing_ok=True)  # of a teacher, if there was one
            if not any(path.parent.iterdir()):
                path.parent.rmdir()
            if index_folders(self.folder, IndexOptions()).clips:
                refresh_manifest(self.folder)
            else:
                # What the depth of a teacher means is its own to say; what a sensor's does, the user said.
                declared = (DEPTH_FILE, RECORD_FILE) if (self.folder / RECORD_FILE).exists() else ()
                for left in (MANIFEST_FILE, CLASSES_FILE, *declared):
                    (self.folder / left).unlink(missing_ok=True)

    def refresh(self) -> None:
        """Bring the manifest up to what lies in the folder. Raises ``ManifestError`` where that cannot be done."""
        with self._change:
            refresh_manifest(self.folder)

    def list_depth(self) -> Manifest:
        """List the depth that a teacher wrote: it did so itself, but a clip may have been added at the same moment."""
        with self._change:
            return list_pseudo_depth(self.folder / MANIFEST_FILE)

    def count_depth(self) -> tuple[int, int]:
        """How many clips have a teacher's depth, and how many there are."""
        clips = [path for label in gestures(self.folder) for path in self._clips(label)]
        return sum(depth_path(path).exists() for path in clips), len(clips)

    def _check_list(self) -> None:
        # Before a change: one that could not be listed would be told to have failed, and be made again.
        if self.folder.exists() and index_folders(self.folder, IndexOptions()).clips:
            refresh_manifest(self.folder)
        elif (self.folder / MANIFEST_FILE).exists():
            Manifest.read(self.folder)

    def _clips(self, label: str) -> list[Path]:
        home = self.folder / label
        if home.is_symlink():
            return []
        try:
            found = [path for path in home.iterdir() if path.suffix == SUFFIX and _NAME.fullmatch(path.stem)]
        except (FileNotFoundError, NotADirectoryError):
            return []
        return sorted(path for path in found if path.is_file() and not path.is_symlink())

    def _find(self, label: str, name: str) -> Path:
        self._check(label, new=False)
        if not _NAME.fullmatch(name):
            raise RequestError(HTTPStatus.NOT_FOUND, "there is no such clip")
        path = self.folder / label / f"{name}{SUFFIX}"
        if path not in self._clips(label):
            raise RequestError(HTTPStatus.NOT_FOUND, f"there is no clip {name} of {label}; it may have been deleted")
        return path

    def _check(self, label: str, new: bool) -> None:
        if (size := len(label.encode())) > _LONGEST_NAME:
            raise _bad(
                f"this name takes {size} bytes, and {_LONGEST_NAME} are what a folder's may; choose a shorter one"
            )
        try:
            check_label(label, self.folder if new else None)
        except DynagestError as error:
            raise RequestError(HTTPStatus.UNPROCESSABLE_ENTITY, str(error)) from None

    def _described(self, label: str) -> Iterator[dict[str, Any]]:
        for path in self._clips(label):
            with suppress(FileNotFoundError):  # another browser has just deleted it
                yield asdict(self._describe(path))

    def _describe(self, path: Path) -> Recorded:
        key = (path, path.stat().st_mtime_ns)
        if key not in self._known:
            try:
                times = read_recording(path).times
            except RequestError as error:
                return Recorded(path.stem, 0, 0.0, error.message)
            self._known[key] = Recorded(path.stem, len(times), round(times[-1] - times[0], 3))
        return self._known[key]


def read_recording(path: Path) -> Recording:
    """A Motion JPEG file as it lies there, nothing decoded. Raises ``RequestError`` for one that cannot be read."""
    name = f"{path.parent.name}/{path.name}"
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            codec = stream.codec_context  # None where FFmpeg does not know it
            mjpeg = codec is not None and codec.name == "mjpeg"
            packets = [packet for packet in container.demux(stream) if packet.size] if mjpeg else []
            if not mjpeg or any(packet.pts is None for packet in packets):
                raise RequestError(HTTPStatus.CONFLICT, f"{name} is no Motion JPEG with times; only that is shown here")
            if not packets:
                raise RequestError(HTTPStatus.CONFLICT, f"{name} holds no pictures; delete it")
            times = tuple(round(float(packet.pts * packet.time_base), 6) for packet in packets)
            return Recording(tuple(bytes(packet) for packet in packets), times)
    except (OSError, av.FFmpegError, IndexError):
        raise RequestError(HTTPStatus.CONFLICT, f"{name} cannot be read; delete it") from None


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    """(height, width) by the frame header of a JPEG; ``None`` if there is not exactly one.

    Also for a marker that stands where none is needed (fill bytes, a restart or the like outside a scan, a height that
    follows later): cameras and browsers write none, and where decoders disagree, one could see another picture.
    """
    if data[:2] != HEAD:
        return None
    at, sizes = 2, []
    while data[at : at + 2] != END:
        if at + 9 > len(data) or data[at] != 0xFF or data[at + 1] not in _SEGMENTS:
            return None
        kind, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        if kind in _FRAME_HEADERS:
            sizes.append(_SIZE.unpack_from(data, at + 5))
        at += 2 + length
        if kind == _SCAN and (marker := _MARKER.search(data, at)):
            at = marker.start()
    return sizes[0] if len(sizes) == 1 else None


def _numbers(values: object, kinds: tuple[type, ...]) -> bool:
    return isinstance(values, list) and all(type(value) in kinds for value in values)


def _pairs(values: Sequence[Any]) -> list[tuple[Any, Any]]:
    return list(pairwise(values))


def _bad(message: str) -> RequestError:
    return RequestError(HTTPStatus.UNPROCESSABLE_ENTITY, message)


def _damaged(index: int) -> RequestError:
    return _bad(f"picture {index} of the clip is not a whole JPEG")


def _full(message: str) -> RequestError:
    return RequestError(HTTPStatus.CONFLICT, message)
