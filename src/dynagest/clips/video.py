"""Reads frames of video files, in sequence and exactly (see ``frames.py`` for the rules). Needs no torch."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import av
import numpy as np
import numpy.typing as npt
from av.video.reformatter import VideoReformatter

from dynagest.clips.demux import KeyFrames, Video
from dynagest.errors import ClipError, counted

# In grey stored as three channels, lossy compression makes these differ by a few values; in a colour map they differ by
# far more.
_COLOUR_SPREAD = 16

Array = npt.NDArray[Any]


def too_short(path: Path, count: int, wanted: int) -> ClipError:
    """The error for a clip of ``count`` frames that ends before frame ``wanted``."""
    return ClipError(f"{path}: has {counted(count, 'frame')}, but frame {wanted} (counted from 0) is asked for")


def deep_grey(name: Path | str) -> ClipError:
    """The error for what should be RGB but is 16-bit grey."""
    return ClipError(
        f"{name}: is 16-bit grey, as depth is, where RGB is wanted; name the pictures in colour, with depth beside "
        "them, or save infrared with 8 bits"
    )


def rgb_array(frame: av.VideoFrame, reformatter: VideoReformatter, name: Path | str) -> Array:
    """Convert a frame to RGB, uint8 (H, W, 3). Raises ``ClipError``, which names ``name``, for 16-bit grey."""
    components = frame.format.components
    if len(components) == 1 and components[0].bits >= 16:  # 10 or 12 bits are those of a monochrome camera
        raise deep_grey(name)
    return reformatter.reformat(frame, format="rgb24", threads=1).to_ndarray()


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
    with Video(path) as video:
        count = sum(1 for _ in video.pictures())
    if not count:
        raise ClipError(f"{path}: holds no frames")
    return count


def video_rate(path: Path) -> float | None:
    """Frames a second by the times of the pictures if all have one, else by the header; ``None`` if neither states it.

    Raises ``ClipError`` as ``count_video`` does for a file that cannot be read.
    """
    with Video(path) as video:
        times = video.times()
        if times and times[-1] > times[0]:
            return (len(times) - 1) / (times[-1] - times[0])
        return float(video.stream.average_rate) if video.stream.average_rate else None


def video_times(path: Path) -> list[float] | None:
    """The times of the pictures in seconds, ascending; ``None`` if one of them has none. Decodes as ``count_video``.

    Raises ``ClipError`` as ``count_video`` does for a file that cannot be read.
    """
    with Video(path) as video:
        return video.times()


def pixel_shape(path: Path) -> float:
    """How many times as wide as high the pixels of a video are meant to be shown; 1 where it does not say.

    Raises ``ClipError`` as ``count_video`` does for a file that cannot be read.
    """
    with Video(path) as video:
        return float(video.stream.sample_aspect_ratio or 1)


def key_frames(path: Path) -> KeyFrames | None:
    """Find the key frames of a video from its packets, decoding nothing: 8 ms for a minute of 320 x 240.

    ``None`` for a container or codec where they do not tell which frames can be left out. Raises ``ClipError`` as
    ``count_video`` does for a file that cannot be read.
    """
    with Video(path) as video:
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
    with Video(path) as video:
        for index, frame in video.decode(wanted, keys):
            if frame.is_corrupt:
                raise ClipError(f"{path}: frame {index} is corrupt")
            if index not in needed:
                continue
            if kind == "depth":
                image = _depth_array(frame, reformatter, path, first=not frames)
            else:
                image = rgb_array(frame, reformatter, path)
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
    with Video(path) as video:
        for index, frame in video.decode_all():
            if frame.is_corrupt:
                raise ClipError(f"{path}: frame {index} is corrupt")
            time = frame.time if fps is None else index / fps
            if time is None:
                raise ClipError(f"{path}: frame {index} has no time; store the video in another container, such as mkv")
            first = time if first is None else first
            image = rgb_array(frame, reformatter, path)
            yield as_shown(image, frame), time - first


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
