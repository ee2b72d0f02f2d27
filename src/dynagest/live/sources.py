"""The sources of frames: a camera, a video file, or a stream of this host. Each is read from one thread only."""

import math
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import av
import cv2
import numpy as np
from av.video.reformatter import VideoReformatter

from dynagest.clips.demux import NO_DECODER, open_video
from dynagest.clips.frames import VIDEO_SUFFIXES
from dynagest.clips.video import as_shown, rgb_array
from dynagest.errors import CameraError, ClipError
from dynagest.live.loopback import on_this_host

SCHEMES = ("http", "rtsp", "tcp", "udp")
# Only containers are allowed: a playlist could lead to another host.
_CONTAINERS = "mpjpeg,mjpeg,jpeg_pipe,matroska,webm,mov,mp4,avi,mpegts,mpeg,ogg,flv,rtsp,sdp,h264,hevc,image2pipe"
_PATIENCE = 5.0  # s without data after which a stream counts as lost
_WIDTH, _HEIGHT = 640, 480  # pixels that a camera is asked for; it may give others
_FAULTS_IN_A_ROW = 30  # undecodable pictures in a row after which a camera counts as lost
_SLIP = 1.0  # s; a file's frame that is older than the newest one is left out, one older by more is an error
_OLDEST_STAMP = 2.0  # s; if the first time stamp is older than this, or lies ahead, the driver uses another clock


class Source(Protocol):
    """A source of frames, in order. ``name`` is for messages.

    ``live`` means that frames come in real time and a lost source can be opened again. Otherwise the source has its own
    times and an end.
    """

    name: str
    live: bool

    def open(self) -> None:
        """Open the source, or open it again after ``CameraError``. Raises ``CameraError`` when it cannot be opened."""

    def read(self) -> tuple[np.ndarray, float] | None:
        """Return the next frame, uint8 RGB (H, W, 3), and its time in seconds, or ``None`` at the end.

        If ``live``, the time is that of ``time.monotonic`` at capture, otherwise it counts from the first frame. Raises
        ``ClipError`` for a frame that cannot be decoded, after which reading may go on, and ``CameraError`` when the
        source is lost or cannot be used.
        """

    def close(self) -> None:
        """Release the device or file. It may be opened again."""


def open_source(which: str) -> Source:
    """Return the source that a user names by a camera's number, a video file, or a URL of this host.

    It is not opened yet. Raises ``CameraError`` for anything else, including a URL of another host.
    """
    if which.isdecimal():
        return Camera(int(which))
    if "://" in which:
        on_this_host(which, SCHEMES, CameraError)
        return NetworkStream(which)
    path = Path(which)
    if path.is_file():
        return VideoFile(path)
    kinds = "a camera's number such as 0, a video file, or a URL of this host"
    if path.is_dir():
        raise CameraError(f"{which}: is a folder; give {kinds}")
    if path.suffix.lower() in VIDEO_SUFFIXES or path.exists():
        raise CameraError(f"{which}: no such video file; give {kinds}")
    raise CameraError(f"{which}: not a camera; give {kinds}")


class Camera:
    """A camera of this machine, through OpenCV."""

    live = True

    def __init__(self, index: int) -> None:
        self.name, self._index = f"camera {index}", index
        self._device: Any = None

    def open(self) -> None:
        """See ``Source.open``."""
        self.close()
        # Silenced, because OpenCV prints its own errors for a camera that is not there, at each try.
        before = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
        try:
            device = cv2.VideoCapture(self._index)
        finally:
            cv2.utils.logging.setLogLevel(before)
        if not device.isOpened():
            device.release()
            raise CameraError(f"{self.name}: cannot be opened; {_cameras_told()}")
        device.set(cv2.CAP_PROP_FRAME_WIDTH, _WIDTH)
        device.set(cv2.CAP_PROP_FRAME_HEIGHT, _HEIGHT)
        device.set(cv2.CAP_PROP_BUFFERSIZE, 1)  # a picture in a longer buffer would be late already
        self._device, self._count, self._faults = device, 0, 0
        self._stamped: bool | None = None  # whether its stamps are of our clock; known from its first picture on

    def read(self) -> tuple[np.ndarray, float] | None:
        """See ``Source.read``."""
        device = self._device
        if device is None or not device.grab():
            raise CameraError(f"{self.name}: gives no pictures any more; is it unplugged?")
        now = time.monotonic()
        # Linux stamps a picture, by this same clock, when its exposure is read out; other systems' values are no times.
        # The choice holds until the camera is opened again, because time must not step back.
        stamp = device.get(cv2.CAP_PROP_POS_MSEC) / 1000
        if self._stamped is None:
            self._stamped = 0 <= now - stamp < _OLDEST_STAMP
        self._count += 1
        sound, image = device.retrieve()
        if not sound or image is None or image.ndim != 3:
            self._faults += 1
            if self._faults >= _FAULTS_IN_A_ROW:
                raise CameraError(f"{self.name}: {self._faults} pictures in a row cannot be decoded")
            raise ClipError(f"{self.name}: picture {self._count} cannot be decoded")
        self._faults = 0
        return cv2.cvtColor(image, cv2.COLOR_BGR2RGB), stamp if self._stamped else now

    def close(self) -> None:
        """See ``Source.close``."""
        if self._device is not None:
            self._device.release()
            self._device = None


class VideoFile:
    """A video file: its frames in order of presentation, with its own times. A damaged frame does not end it."""

    live = False

    def __init__(self, path: Path) -> None:
        self.name, self._path = str(path), path
        self._container: Any = None

    def open(self) -> None:
        """See ``Source.open``."""
        self.close()
        try:
            self._container = open_video(self._path)
        except (av.FFmpegError, OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise CameraError(f"{self.name}: not a video that can be read ({reason})") from error
        self._decoded, self._newest = _decode(self._container, self.name), -math.inf

    def read(self) -> tuple[np.ndarray, float] | None:
        """See ``Source.read``."""
        for found in self._decoded:
            if isinstance(found, ClipError):
                raise found
            if found[1] < self._newest - _SLIP:
                raise CameraError(
                    f"{self.name}: after {self._newest:.1f} s its times jump back to {found[1]:.1f} s, as where two "
                    "recordings were put one behind the other; cut it there"
                )
            if found[1] < self._newest:
                continue
            self._newest = found[1]
            return found
        return None

    def close(self) -> None:
        """See ``Source.close``."""
        if self._container is not None:
            self._container.close()
            self._container = None


class NetworkStream:
    """A stream of this host, for example from ``ffmpeg`` or a camera's bridge. Opening it checks the host again."""

    live = True

    def __init__(self, url: str) -> None:
        self.name, self._url = url, url
        self._container: Any = None

    def open(self) -> None:
        """See ``Source.open``."""
        self.close()
        parts, address = on_this_host(self._url, SCHEMES, CameraError)
        host = f"[{address}]" if ":" in address else address
        url = parts._replace(netloc=host if parts.port is None else f"{host}:{parts.port}").geturl()
        options = {"format_whitelist": _CONTAINERS, "fflags": "nobuffer", "flags": "low_delay"}
        if parts.scheme == "http":
            # A redirect, or a proxy that the environment names, could lead to another host than the one checked.
            options |= {"max_redirects": "0", "http_proxy": ""}
        try:
            self._container = av.open(url, options=options, timeout=_PATIENCE, metadata_errors="replace")
        except (av.FFmpegError, OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise CameraError(f"{self.name}: no stream that can be read ({reason})") from error
        self._decoded = _decode(self._container, self.name)

    def read(self) -> tuple[np.ndarray, float] | None:
        """See ``Source.read``."""
        for found in self._decoded:
            if isinstance(found, ClipError):
                raise found
            return found[0], time.monotonic()
        raise CameraError(f"{self.name}: the stream has ended")

    def close(self) -> None:
        """See ``Source.close``."""
        if self._container is not None:
            self._container.close()
            self._container = None


def _decode(container: Any, name: str) -> Iterator[tuple[np.ndarray, float] | ClipError]:
    """Yield each frame with its seconds from the first one, or a ``ClipError`` in the place of a damaged frame."""
    if not container.streams.video:
        raise CameraError(f"{name}: has no pictures in it")
    stream = container.streams.video[0]
    if stream.codec_context is None:
        raise CameraError(f"{name}: {NO_DECODER}")
    if stream.codec_context.name == "mjpeg":
        stream.codec_context.options = {"err_detect": "explode"}  # otherwise the decoder hides damage
    reformatter = VideoReformatter()
    first: float | None = None
    index = 0
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
        except av.FFmpegError as error:
            # The rest of the container cannot be read.
            yield ClipError(f"{name}: broken off after frame {index - 1} ({error.strerror})")
            return
        if packet is None:
            if index == 0:
                raise CameraError(f"{name}: holds no frames")
            return
        try:
            frames = packet.decode()
        except av.FFmpegError as error:
            yield ClipError(f"{name}: frame {index} is corrupt ({error.strerror})")
            index += 1
            continue
        for frame in frames:
            index += 1
            if frame.is_corrupt:
                yield ClipError(f"{name}: frame {index - 1} is corrupt")
                continue
            if frame.time is None:
                raise CameraError(f"{name}: its frames have no times; store it in another container, such as mkv")
            first = frame.time if first is None else first
            try:
                image = rgb_array(frame, reformatter, name)
            except ClipError as error:  # not a fault of this frame, so not yielded
                raise CameraError(str(error)) from error
            yield np.ascontiguousarray(as_shown(image, frame)), frame.time - first


def _cameras_told() -> str:
    if sys.platform != "linux":
        return (
            "plug it in, close what else uses it, allow this program the camera in the system's privacy settings, or "
            "give a video file"
        )
    devices = sorted(Path("/dev").glob("video*"))
    if devices:
        return f"there are {', '.join(map(str, devices))}: plug it in, close what else uses it, or may you read it?"
    return "no camera was found: plug one in, or give a video file"
