"""Frames of video files, in sequence and exact (see ``frames.py`` for the rule). Needs no torch."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import av
import numpy as np
import numpy.typing as npt
from av.video.reformatter import VideoReformatter

from dynagest.errors import ClipError

# Grey is stored with three channels that lossy compression moves apart by a few values; a colour map by far more.
_COLOUR_SPREAD = 16
_AGAIN = "copy or record it again, or leave it out"
NO_DECODER = "FFmpeg has no decoder for its pictures; convert it, to H.264 say"

Array = npt.NDArray[Any]


def too_short(path: Path, count: int, wanted: int) -> ClipError:
    """The error for a clip that ends before a wanted frame."""
    return ClipError(f"{path}: has {count} frames, but frame {wanted} (counted from 0) is asked for")


def one_channel(image: Array, path: Path) -> Array:
    """Grey of an image that may hold it in three equal channels (a fourth one, transparency, is dropped)."""
    if image.ndim == 2:
        return image
    colours = image[..., :3]
    some = colours[::4, ::4]  # on every pixel this would cost more than decoding
    if np.mean(some.max(axis=2) - some.min(axis=2)) > _COLOUR_SPREAD:
        raise ClipError(f"{path}: is in colour; depth must be grey values, not a colour map")
    return np.ascontiguousarray(colours[..., 1])


def count_video(path: Path) -> int:
    """Frames of a video, by its packets where they tell: 0.5 ms for an IsoGD clip, where decoding takes 5.

    Raises ``ClipError``.
    """
    with _Video(path) as video:
        count = sum(1 for _ in video.pictures())
    if not count:
        raise ClipError(f"{path}: holds no frames")
    return count


def video_rate(path: Path) -> float | None:
    """Frames a second, by the times of pictures where all have one, else as the header says; ``None`` if neither."""
    with _Video(path) as video:
        times = [picture.pts for picture in video.pictures()]
        known = [time for time in times if time is not None]
        if len(known) == len(times) > 1 and video.stream.time_base is not None:
            span = float((max(known) - min(known)) * video.stream.time_base)
            if span > 0:
                return (len(known) - 1) / span
        return float(video.stream.average_rate) if video.stream.average_rate else None


def read_video(path: Path, wanted: list[int], kind: Literal["rgb", "depth"]) -> dict[int, Array]:
    """The frames ``wanted`` (ascending, counted from 0) by their indices, none behind the last of them is decoded.

    ``rgb`` gives uint8 (H, W, 3), ``depth`` uint8 or uint16 (H, W). Raises ``ClipError`` when there are fewer frames,
    or one up to the last wanted is corrupt.
    """
    frames: dict[int, Array] = {}
    needed = set(wanted)
    # One for all frames: building a scaler for each takes as long as decoding (PyAV's to_ndarray(format=...) does).
    reformatter = VideoReformatter()
    with _Video(path) as video:
        for index, frame in video.decode(wanted):
            if frame.is_corrupt:
                raise ClipError(f"{path}: frame {index} is corrupt")
            if index not in needed:
                continue
            if kind == "depth":
                image = _depth_array(frame, reformatter, path, first=not frames)
            else:
                image = reformatter.reformat(frame, format="rgb24", threads=1).to_ndarray()
            frames[index] = as_shown(image, frame)
            if len(frames) == len(needed):
                return frames
    count = count_video(path)
    if count > wanted[-1]:
        raise ClipError(f"{path}: only some of its {count} frames can be decoded; it is corrupt")
    raise too_short(path, count, wanted[-1])


def iterate_video(path: Path) -> Iterator[tuple[npt.NDArray[np.uint8], float]]:
    """(frame uint8 RGB (H, W, 3), seconds since the first frame) in order of presentation, decoded one at a time.

    Raises ``ClipError`` when the file is missing, truncated or corrupt, or states no times.
    """
    reformatter = VideoReformatter()
    first: float | None = None
    with _Video(path) as video:
        for index, frame in video.decode_all():
            if frame.is_corrupt:
                raise ClipError(f"{path}: frame {index} is corrupt")
            if frame.time is None:
                raise ClipError(f"{path}: frame {index} has no time; store the video in another container, such as mkv")
            first = frame.time if first is None else first
            image = reformatter.reformat(frame, format="rgb24", threads=1).to_ndarray()
            yield as_shown(image, frame), frame.time - first


def as_shown(image: Array, frame: av.VideoFrame) -> Array:
    """Turned and mirrored as the file's header says: phones store portrait video lying on its side, and what their
    front cameras take sometimes mirrored as well (which ``frame.rotation`` does not tell from a turn)."""
    matrix = frame.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return image
    # A stored pixel (x, y) is shown at (a x + c y, b x + d y); by quarter turns two of the four are 0.
    a, b, _, c, d = np.frombuffer(matrix, np.int32)[:5]
    if abs(b) > abs(a):
        image, a, d = image.swapaxes(0, 1), c, b
    return image[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]


def _depth_array(frame: av.VideoFrame, reformatter: VideoReformatter, path: Path, *, first: bool) -> Array:
    """uint8 or uint16 (H, W). Only the ``first`` frame of a lossy video is checked for colour."""
    if frame.format.name.startswith("gray"):
        return frame.to_ndarray()
    if max(component.bits for component in frame.format.components) > 8:
        raise ClipError(f"{path}: its pixel format is {frame.format.name}; keep 16-bit depth as FFV1 in gray16le")
    exact = frame.format.is_rgb or frame.format.has_palette
    if exact or first:
        grey = one_channel(reformatter.reformat(frame, format="rgb24", threads=1).to_ndarray(), path)
        if exact:
            return grey
    return reformatter.reformat(frame, format="gray", threads=1).to_ndarray()


class _Video:
    """An open video file whose every failure is a ``ClipError`` with its name."""

    def __init__(self, path: Path) -> None:
        self.path = path
        _refuse_truncated(path)
        try:
            self.container = av.open(str(path))
        except (av.FFmpegError, ValueError) as error:
            raise ClipError(f"{path}: not a video that can be read, or truncated ({_reason(error)})") from error
        if not self.container.streams.video:
            self.container.close()
            raise ClipError(f"{path}: has no pictures in it")
        self.stream = self.container.streams.video[0]
        if self.stream.codec_context is None:
            self.container.close()
            raise ClipError(f"{path}: {NO_DECODER}")
        # The sizes of an AVI's packets, by its index; an empty entry repeats a picture.
        entries = self.stream.index_entries if self.container.format.name == "avi" else ()
        self.listed = [entry.size for entry in entries if entry.size > 0]
        # Data-loading workers are the parallelism; more threads a video make each frame dearer.
        self.stream.codec_context.thread_count = 1
        if self.stream.codec_context.name == "mjpeg":
            # Other decoders mark frames in which they cover up a fault; this one shows them without a word.
            self.stream.codec_context.options = {"err_detect": "explode"}

    def __enter__(self) -> "_Video":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        self.container.close()
        if isinstance(error, av.FFmpegError):
            raise ClipError(f"{self.path}: truncated or corrupt ({_reason(error)})") from error

    def pictures(self) -> Iterator[av.Packet | av.VideoFrame]:
        """What has the time of each picture: its packet, or in a transport stream the picture itself, decoded.

        There the two fields of one picture may be packets of their own, and a recording may begin with packets that
        depend on what was before, of which nothing is shown.
        """
        if self.container.format.name == "mpegts":
            yield from (frame for _, frame in self.decode_all())
        else:
            yield from self.packets()

    def packets(self) -> Iterator[av.Packet]:
        """The packets that give a picture each, in order of decoding. Raises ``ClipError`` where some are missing."""
        for packet in self._demux():
            # Empty: the end. Discarded: cut off by the file's edit list, and never shown. Hidden: see there.
            if packet.size and not packet.is_discard and not self._hidden(packet):
                yield packet

    def _demux(self) -> Iterator[av.Packet]:
        """The packets, each compared with what the file lists, as far as it does.

        Where damage swallows the head of a packet, FFmpeg goes on with the next one and the rest would shift unnoticed.
        """
        stored = 0
        for packet in self.container.demux(self.stream):
            if packet.is_corrupt:
                raise ClipError(f"{self.path}: truncated or corrupt")
            if packet.size:
                if stored < len(self.listed) and packet.size != self.listed[stored]:
                    raise ClipError(f"{self.path}: corrupt: frame {stored} is not where the file lists it")
                stored += 1
            yield packet
        # An MP4 lists every packet at its start or end; the count in an AVI's header is often wrong in sound files.
        listed = self.stream.frames if "mp4" in self.container.format.name else len(self.listed)
        if stored < listed:
            raise ClipError(f"{self.path}: truncated: {stored} of {listed} frames")

    def _hidden(self, packet: av.Packet) -> bool:
        # VP8 stores reference pictures that are never shown as packets of their own; bit 4 of the frame tag says so.
        return self.stream.codec_context.name == "vp8" and not bytes(packet)[0] & 0x10

    def decode(self, wanted: list[int]) -> Iterator[tuple[int, av.VideoFrame]]:
        """(index, frame) in order of presentation, leaving out frames on which no wanted one depends, if possible."""
        if self.stream.codec.intra_only or self.stream.codec_context.name == "ffv1":
            yield from self._decode_alone(wanted)
        else:
            yield from self.decode_all()

    def decode_all(self) -> Iterator[tuple[int, av.VideoFrame]]:
        """(index, frame) of every frame, in order of presentation."""
        index = 0
        for packet in self._demux():
            for frame in packet.decode():
                yield index, frame
                index += 1

    def _decode_alone(self, wanted: list[int]) -> Iterator[tuple[int, av.VideoFrame]]:
        """For codecs that give a frame a packet in order, each depending on none before the last key frame."""
        needed = set(wanted)
        waiting: list[tuple[int, av.Packet]] = []
        for index, packet in enumerate(self.packets()):
            if packet.is_keyframe:
                waiting = []
            waiting.append((index, packet))
            if index in needed:
                for number, part in waiting:
                    pictures = part.decode()
                    if len(pictures) != 1:
                        raise ClipError(f"{self.path}: frame {number} is corrupt")
                    yield number, pictures[0]
                waiting = []


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


def _refuse_truncated(path: Path) -> None:
    """FFmpeg plays what there is of a truncated file; AVI, Matroska and GIF tell how long the file should be."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(4096)
            file.seek(max(size - 64, 0))
            tail = file.read()
    except OSError as error:
        raise ClipError(f"{path}: cannot be read ({error.strerror})") from error
    if not size:
        raise ClipError(f"{path}: empty file; {_AGAIN}")
    promised = _promised_size(head)
    if promised > size:
        raise ClipError(f"{path}: truncated: {size} of {promised} bytes; {_AGAIN}")
    if head.startswith(b"GIF8") and not tail.rstrip(b"\0").endswith(b";"):
        raise ClipError(f"{path}: truncated: the end of the GIF is missing; {_AGAIN}")


def _promised_size(head: bytes) -> int:
    """The bytes that an AVI or Matroska file says it has; 0 if it does not say."""
    if head.startswith(b"RIFF"):
        return 8 + int.from_bytes(head[4:8], "little")
    if head.startswith(b"\x1a\x45\xdf\xa3"):
        header, start = _vint(head, 4)
        segment = start + header
        if head[segment : segment + 4] == b"\x18\x53\x80\x67":
            length, start = _vint(head, segment + 4)
            return start + length if length else 0
    return 0


def _vint(data: bytes, at: int) -> tuple[int, int]:
    """A Matroska variable-length integer: (value, position behind it); 0 where it means "unknown"."""
    if at >= len(data):
        return 0, at
    length = 9 - data[at].bit_length()
    value = int.from_bytes(data[at : at + length], "big") & ((1 << 7 * length) - 1)
    return (0 if value == (1 << 7 * length) - 1 else value), at + length
