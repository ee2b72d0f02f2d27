"""An open video file: its packets, its key frames and its pictures, each fault named with the file. Needs no torch."""

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
from av.container import InputContainer

from dynagest.errors import ClipError

_AGAIN = "copy or record it again, or leave it out"
NO_DECODER = "FFmpeg has no decoder for its pictures; convert it, to H.264 say"

# What a camera, a phone or a browser records. AVI does not say in which order pictures are shown, and a transport
# stream not where a picture begins; the key frames of other codecs may be none (GIF, MPEG-4 in packed packets).
_KEYED_CONTAINERS = ("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm")
_KEYED_CODECS = ("h264", "hevc", "vp8", "vp9", "av1")


def open_video(path: Path) -> InputContainer:
    """Open a video file in FFmpeg. Raises what PyAV raises for a file that is no video.

    The path is absolute, because FFmpeg takes what stands before a colon in ``12:30.mp4`` for a protocol. Tags, such as
    a title in Latin-1, need not be UTF-8: nothing here reads them.
    """
    return av.open(str(path.absolute()), metadata_errors="replace")


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


class Video:
    """An open video file; all its failures are raised as ``ClipError`` with its name.

    Raises ``ClipError`` if it is missing, truncated, not a video, or of a codec that FFmpeg cannot decode.
    """

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

    def __enter__(self) -> "Video":
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
        """The times of the pictures in seconds, ascending; ``None`` if one of them has none."""
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
        """Find the key frames, decoding nothing; ``None`` where they do not tell which frames can be left out."""
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
        if not size:  # also of a pipe, which to open would wait for ever
            raise ClipError(f"{path}: empty file; {_AGAIN}")
        with path.open("rb") as file:
            head = file.read(4096)
            file.seek(max(size - 64, 0))
            tail = file.read()
    except OSError as error:
        raise ClipError(f"{path}: cannot be read ({error.strerror})") from error
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
