"""Reads frames of video files, in sequence and exactly (see ``frames.py`` for the rules). Needs no torch."""

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any, Literal

import av
import numpy as np
import numpy.typing as npt
from av.container import InputContainer
from av.video.reformatter import VideoReformatter

from dynagest.errors import ClipError

# In grey stored as three channels, lossy compression makes these differ by a few values; in a colour map they differ by
# far more.
_COLOUR_SPREAD = 16
_AGAIN = "copy or record it again, or leave it out"
NO_DECODER = "FFmpeg has no decoder for its pictures; convert it, to H.264 say"

# What a camera, a phone or a browser records. AVI does not say in which order pictures are shown, and a transport
# stream not where a picture begins; the key frames of other codecs may be none (GIF, MPEG-4 in packed packets).
_KEYED_CONTAINERS = ("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm")
_KEYED_CODECS = ("h264", "hevc", "vp8", "vp9", "av1")

Array = npt.NDArray[Any]


def too_short(path: Path, count: int, wanted: int) -> ClipError:
    """The error for a clip of ``count`` frames that ends before frame ``wanted``."""
    return ClipError(f"{path}: has {count} frames, but frame {wanted} (counted from 0) is asked for")


def one_channel(image: Array, path: Path) -> Array:
    """Return grey (H, W) of an image that may hold it in three equal channels; a fourth, transparency, is dropped.

    Raises ``ClipError`` if the image is in colour.
    """
    if image.ndim == 2:
        return image
    colours = image[..., :3]
    some = colours[::4, ::4]  # all pixels would take longer than decoding
    if np.mean(some.max(axis=2) - some.min(axis=2)) > _COLOUR_SPREAD:
        raise ClipError(f"{path}: is in colour; depth must be grey values, not a colour map")
    return np.ascontiguousarray(colours[..., 1])


def count_video(path: Path) -> int:
    """Count the frames of a video by its packets: 0.5 ms for an IsoGD clip, where decoding takes 5 ms.

    Only the pictures of a transport stream are decoded. Raises ``ClipError`` if there are none, or if the file is
    missing, truncated, corrupt or not a video.
    """
    with _Video(path) as video:
        count = sum(1 for _ in video.pictures())
    if not count:
        raise ClipError(f"{path}: holds no frames")
    return count


def video_rate(path: Path) -> float | None:
    """Frames a second by the times of the pictures if all have one, else by the header; ``None`` if neither states it.

    Raises ``ClipError`` as ``count_video`` does for a file that cannot be read.
    """
    with _Video(path) as video:
        times = video.times()
        if times and times[-1] > times[0]:
            return (len(times) - 1) / (times[-1] - times[0])
        return float(video.stream.average_rate) if video.stream.average_rate else None


def video_times(path: Path) -> list[float] | None:
    """The times of the pictures in seconds, ascending; ``None`` if one of them has none. Decodes as ``count_video``.

    Raises ``ClipError`` as ``count_video`` does for a file that cannot be read.
    """
    with _Video(path) as video:
        return video.times()


def pixel_shape(path: Path) -> float:
    """How many times as wide as high the pixels of a video are meant to be shown; 1 where it does not say.

    Raises ``ClipError`` as ``count_video`` does for a file that cannot be read.
    """
    with _Video(path) as video:
        return float(video.stream.sample_aspect_ratio or 1)


@dataclass(frozen=True)
class KeyFrames:
    """Where decoding of a video may begin.

    ``stamps``: the times of its pictures in the stream's own unit, ascending, so that the picture of index i is that of
    time ``stamps[i]``. ``starts``: (index, number of the packet) of each key frame, ascending.
    """

    stamps: npt.NDArray[np.int64]
    starts: tuple[tuple[int, int], ...]

    def before(self, index: int) -> tuple[int, int]:
        """The last key frame that is shown no later than the picture of ``index``."""
        return self.starts[bisect_right(self.starts, index, key=itemgetter(0)) - 1]


def key_frames(path: Path) -> KeyFrames | None:
    """Find the key frames of a video from its packets, decoding nothing: 5 ms for a minute.

    ``None`` for a container or codec where they do not tell which frames can be left out. Raises ``ClipError`` as
    ``count_video`` does for a file that cannot be read.
    """
    with _Video(path) as video:
        return video.key_frames()


def read_video(
    path: Path, wanted: list[int], kind: Literal["rgb", "depth"], keys: KeyFrames | None = None
) -> dict[int, Array]:
    """Read the frames ``wanted`` (ascending, without repetition, counted from 0). Returns them by their indices.

    Decodes no further than the last of them, and with ``keys`` from the last key frame before the first of them, else
    from the start of the file. ``rgb`` gives uint8 (H, W, 3), ``depth`` uint8 or uint16 (H, W). Raises
    ``ClipError`` if there are fewer frames, if one of those decoded is corrupt, or if depth is in colour or in a pixel
    format that cannot be read.
    """
    frames: dict[int, Array] = {}
    needed = set(wanted)
    # One for all frames, because to build a scaler for each, as PyAV's to_ndarray(format=...) does, takes as long as
    # decoding.
    reformatter = VideoReformatter()
    with _Video(path) as video:
        for index, frame in video.decode(wanted, keys):
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


def iterate_video(path: Path, fps: float | None = None) -> Iterator[tuple[npt.NDArray[np.uint8], float]]:
    """Yield (frame uint8 RGB (H, W, 3), seconds since the first frame) in order of presentation, decoded one at a time.

    With ``fps`` frame i is at i / fps seconds, whatever times the file states. Raises ``ClipError`` if the file is
    missing, truncated or corrupt, or if it states no times and there is no ``fps``.
    """
    reformatter = VideoReformatter()
    first: float | None = None
    with _Video(path) as video:
        for index, frame in video.decode_all():
            if frame.is_corrupt:
                raise ClipError(f"{path}: frame {index} is corrupt")
            time = frame.time if fps is None else index / fps
            if time is None:
                raise ClipError(f"{path}: frame {index} has no time; store the video in another container, such as mkv")
            first = time if first is None else first
            image = reformatter.reformat(frame, format="rgb24", threads=1).to_ndarray()
            yield as_shown(image, frame), time - first


def open_video(path: Path) -> InputContainer:
    """Open a video file in FFmpeg. Raises what PyAV raises for a file that is no video.

    The path is absolute, because FFmpeg takes what stands before a colon in ``12:30.mp4`` for a protocol. Tags, such as
    a title in Latin-1, need not be UTF-8: nothing here reads them.
    """
    return av.open(str(path.absolute()), metadata_errors="replace")


def as_shown(image: Array, frame: av.VideoFrame) -> Array:
    """Rotate by quarter turns and mirror ``image`` as the file's header says.

    Phones store portrait video lying on its side, and sometimes the video of their front cameras mirrored as well
    (which ``frame.rotation`` does not distinguish from a turn).
    """
    matrix = frame.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return image
    # A stored pixel (x, y) is shown at (a x + c y, b x + d y); for quarter turns, two of the four are 0.
    a, b, _, c, d = np.frombuffer(matrix, np.int32)[:5]
    if abs(b) > abs(a):
        image, a, d = image.swapaxes(0, 1), c, b
    return image[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]


def _depth_array(frame: av.VideoFrame, reformatter: VideoReformatter, path: Path, *, first: bool) -> Array:
    """Convert a frame to uint8 or uint16 depth (H, W). In a YUV video only the ``first`` is checked for colour."""
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
    """An open video file; all its failures are raised as ``ClipError`` with its name."""

    def __init__(self, path: Path) -> None:
        self.path = path
        _refuse_truncated(path)
        try:
            self.container = open_video(path)
        except (av.FFmpegError, ValueError) as error:
            raise ClipError(f"{path}: not a video that can be read, or truncated ({_reason(error)})") from error
        if not self.container.streams.video:
            self.container.close()
            raise ClipError(f"{path}: has no pictures in it")
        self.stream = self.container.streams.video[0]
        if self.stream.codec_context is None:
            self.container.close()
            raise ClipError(f"{path}: {NO_DECODER}")
        # The sizes of an AVI's packets according to its index; an empty entry repeats a picture.
        entries = self.stream.index_entries if self.container.format.name == "avi" else ()
        self.listed = [entry.size for entry in entries if entry.size > 0]
        # Data workers run in parallel already; more threads per video would only make each frame more expensive.
        self.stream.codec_context.thread_count = 1
        if self.stream.codec_context.name == "mjpeg":
            # Other decoders mark frames in which they conceal a fault; this one does not.
            self.stream.codec_context.options = {"err_detect": "explode"}

    def __enter__(self) -> "_Video":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        self.container.close()
        if isinstance(error, av.FFmpegError):
            raise ClipError(f"{self.path}: truncated or corrupt ({_reason(error)})") from error

    def pictures(self) -> Iterator[av.Packet | av.VideoFrame]:
        """Yield one object with a time for each picture: its packet, or in a transport stream the decoded picture.

        In a transport stream the two fields of a picture may be separate packets, and a recording may begin with
        packets that depend on earlier ones and give no picture.
        """
        if self.container.format.name == "mpegts":
            yield from (frame for _, frame in self.decode_all())
        else:
            yield from self.packets()

    def times(self) -> list[float] | None:
        """See ``video_times``."""
        stamps = [picture.pts for picture in self.pictures()]
        known = [stamp for stamp in stamps if stamp is not None]
        base = self.stream.time_base
        return None if base is None or len(known) < len(stamps) else [float(stamp * base) for stamp in sorted(known)]

    def packets(self) -> Iterator[av.Packet]:
        """Yield the packets with one picture each, in order of decoding. Raises ``ClipError`` if some are missing."""
        for packet in self._demux():
            if self._is_picture(packet):
                yield packet

    def _demux(self) -> Iterator[av.Packet]:
        """Yield all packets, compared with the file's own list of them as far as it has one.

        If damage destroys the head of a packet, FFmpeg goes on with the next one, and the other frames would shift
        unnoticed. Raises ``ClipError`` for that.
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
        # An MP4 lists every packet at its start or end; the count in an AVI's header is often wrong in intact files.
        listed = self.stream.frames if "mp4" in self.container.format.name else len(self.listed)
        if stored < listed:
            raise ClipError(f"{self.path}: truncated: {stored} of {listed} frames")

    def _is_picture(self, packet: av.Packet) -> bool:
        # An empty packet is the end. A discarded one is cut off by the file's edit list and never shown.
        if not packet.size or packet.is_discard:
            return False
        # VP8 has packets for reference pictures that are never shown; in these, bit 4 of the frame tag is 0.
        return self.stream.codec_context.name != "vp8" or bool(bytes(packet)[0] & 0x10)

    def key_frames(self) -> KeyFrames | None:
        """See the function ``key_frames``."""
        if self.container.format.name not in _KEYED_CONTAINERS or self.stream.codec.canonical_name not in _KEYED_CODECS:
            return None
        shown, keys = [], []
        for place, packet in enumerate(self._demux()):
            if self._is_picture(packet):
                shown.append(packet.pts)
                if packet.is_keyframe:
                    keys.append((packet.pts, place))
        stamps = np.unique(np.array([pts for pts in shown if pts is not None], np.int64))
        # A recording cut at a key frame may begin with pictures that cannot be shown: then numbers are not ranks.
        if len(stamps) < len(shown) or not keys or keys[0] != (stamps[0], 0):
            return None
        return KeyFrames(stamps, tuple((int(np.searchsorted(stamps, pts)), place) for pts, place in sorted(keys)))

    def decode(self, wanted: list[int], keys: KeyFrames | None) -> Iterator[tuple[int, av.VideoFrame]]:
        """Yield (index, frame) in order of presentation, if possible without frames on which no wanted one depends."""
        if self.stream.codec.intra_only or self.stream.codec_context.name == "ffv1":
            yield from self._decode_alone(wanted)
        elif keys is not None:
            yield from self._decode_from(*keys.before(wanted[0]), keys.stamps)
        else:
            yield from self.decode_all()

    def decode_all(self) -> Iterator[tuple[int, av.VideoFrame]]:
        """Yield (index, frame) for every frame, in order of presentation."""
        index = 0
        for packet in self._demux():
            for frame in packet.decode():
                yield index, frame
                index += 1

    def _decode_from(
        self, index: int, place: int, stamps: npt.NDArray[np.int64]
    ) -> Iterator[tuple[int, av.VideoFrame]]:
        """Yield (index, frame) from the key frame that is packet ``place`` and picture ``index``, by their times.

        Packets before it are read, not jumped over: a container's index need not lead to the packet asked for. Pictures
        that follow the key frame but are shown before it may depend on earlier ones, and are left out.
        """
        begin = stamps[index]
        for number, packet in enumerate(self._demux()):
            if number < place:
                continue
            for frame in packet.decode():
                if frame.pts is not None and frame.pts < begin:
                    continue
                if index == len(stamps) or frame.pts != stamps[index]:
                    raise ClipError(f"{self.path}: frame {index} is corrupt")
                yield index, frame
                index += 1

    def _decode_alone(self, wanted: list[int]) -> Iterator[tuple[int, av.VideoFrame]]:
        """Yield (index, frame) for the wanted frames and those on which they depend.

        For codecs with one frame per packet, in order, of which none depends on frames before the last key frame.
        """
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
    """Raise ``ClipError`` for a file that is empty or, as an AVI, Matroska or GIF file can tell, truncated.

    FFmpeg would play a truncated file as far as it goes.
    """
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
    """The size in bytes that an AVI or Matroska file states in its head; 0 if it states none."""
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
    """Read a Matroska variable-length integer: (value, position behind it). The value is 0 if it is "unknown"."""
    if at >= len(data):
        return 0, at
    length = 9 - data[at].bit_length()
    value = int.from_bytes(data[at : at + length], "big") & ((1 << 7 * length) - 1)
    return (0 if value == (1 << 7 * length) - 1 else value), at + length
