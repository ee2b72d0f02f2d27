"""Reads the requested frames of a file, and no others. Needs no torch.

Frames are counted from 0. Frame ``i`` is

* in a **video**, the i-th picture in order of presentation. The file is read in sequence and never by seeking: the
  time stamps of H.264 with B-frames in AVI (NVGesture) are not reliable, and seeking in it silently gives wrong frames.
  But pictures are decoded only from the last key frame on, where times can be relied on (H.264, HEVC, VP8, VP9 and AV1
  in mp4, mov, mkv and webm) or nothing depends on pictures before it (Motion JPEG, PNG, FFV1, ...).
* in a **folder of numbered images**, the file whose number is the lowest one plus ``i``. The number is the last run of
  digits in the name. A missing number is an error that names the file, never a shift or a repeat. A damaged image is an
  error too, if the damage can be detected at all; for JPEG see ``jpeg.py``.
* in an **npz** file (depth only), row ``i`` of its one array, or of the one called ``depth``: (n, H, W).
"""

import threading
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from dynagest.clips.demux import KeyFrames
from dynagest.clips.image_folder import GAP, ImageFolder, depth_image, rgb_image
from dynagest.clips.manifest import Clip
from dynagest.clips.video import (
    Array,
    count_video,
    key_frames,
    read_video,
    too_short,
    video_rate,
)
from dynagest.errors import ClipError

VIDEO_SUFFIXES = frozenset(
    (".mp4", ".avi", ".mov", ".mkv", ".webm", ".gif", ".m4v", ".mpg", ".mpeg", ".wmv", ".3gp", ".ts", ".mts", ".m2ts")
)
ARRAY_SUFFIX = ".npz"
_NEAR = 100  # frames before the first one wanted; decoding so few takes 12 ms at 320 x 240, a search for key frames 8

# numpy reads an array's header with ast, which two threads at once can make fail with a SystemError (in Python 3.11.7).
_ONE_AT_A_TIME = threading.Lock()
_NPZ_ADVICE = "write depth with numpy.savez_compressed(path, depth=array), array uint8 or uint16 (frames, H, W)"


def frame_rate(path: Path) -> float | None:
    """Frames a second of a video; ``None`` for a folder of images, or a video that does not state it.

    Raises ``ClipError`` if the video cannot be read.
    """
    return None if is_folder(path) else video_rate(path)


def check_frame(frame: Any, name: str) -> None:
    """Raise ``ClipError``, which calls the frame ``name``, unless it is RGB, uint8 (H, W, 3), and not empty."""
    array = isinstance(frame, np.ndarray)
    if not array or frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3 or 0 in frame.shape:
        what = f"{frame.dtype} {frame.shape}" if array else type(frame).__name__
        raise ClipError(f"{name} is {what}; give RGB frames as uint8 arrays (height, width, 3)")


def check_frames(frames: Iterable[np.ndarray]) -> None:
    """Raise ``ClipError`` unless ``frames`` are RGB, uint8 (H, W, 3), and of one size."""
    first: tuple[int, ...] = ()
    for index, frame in enumerate(frames):
        check_frame(frame, f"frame {index}")
        first = first or frame.shape
        if frame.shape != first:
            raise ClipError(
                f"frame {index} is {frame.shape[1]} x {frame.shape[0]}, the first {first[1]} x {first[0]}; the frames "
                "of a video have one size"
            )


class FrameReader:
    """Reads frames of any number of files.

    Remembers how folders are numbered, how long videos are, where their key frames lie and which JPEGs are whole, for a
    dataset that reads the same files over and over. Files must not change meanwhile.
    """

    def __init__(self) -> None:
        self._folders: dict[Path, ImageFolder] = {}
        self._counts: dict[Path, int] = {}
        self._keys: dict[Path, KeyFrames | None] = {}

    def count(self, path: Path) -> int:
        """Count the frames of a video, a folder of numbered images or an npz file, without decoding them if possible.

        Raises ``ClipError``, naming file and reason, if it is missing, empty, truncated, or none of these.
        """
        if path not in self._counts:
            if is_folder(path):
                self._counts[path] = self.images(path).count
            elif path.suffix.lower() == ARRAY_SUFFIX:
                self._counts[path] = len(_load_array(path))
            else:
                self._counts[path] = count_video(path)
        return self._counts[path]

    def length(self, clip: Clip) -> int:
        """The number of frames of a clip's RGB.

        If the clip has an ``end``, a video is not opened, and ``frames`` finds out whether the range lies within it.
        Raises ``ClipError`` if there are no frames, and like ``count`` and ``require_whole``.
        """
        end = self.count(clip.video) if clip.end is None else clip.end
        if end <= clip.start:
            raise ClipError(
                f"{clip.video}: the clip begins at frame {clip.start} and ends at frame {end}, so it has none; correct "
                "its range in the manifest"
            )
        self.require_whole(clip.video, clip.start, end)
        return end - clip.start

    def first_number(self, path: Path) -> int | None:
        """The number of the image that is frame 0 of a folder; ``None`` if ``path`` is none. Raises as ``count``."""
        return self.images(path).first if is_folder(path) else None

    def require_whole(self, path: Path, start: int, end: int) -> None:
        """Raise ``ClipError`` if an image with an index from ``start`` to ``end`` (excluded) is missing in a folder.

        ``frames`` alone would notice this only for the frames it is asked for, so that a clip would be readable in one
        epoch and not in another. Does nothing for videos, which would have to be decoded.
        """
        if is_folder(path):
            folder = self.images(path)
            if end > folder.count:
                raise too_short(path, folder.count, end - 1)
            missing = next((index for index in folder.missing if start <= index < end), None)
            if missing is not None:
                raise ClipError(f"{path / folder.name(missing)}: {GAP}")

    def frames(self, path: Path, indices: Sequence[int] | npt.NDArray[np.integer]) -> npt.NDArray[np.uint8]:
        """Read RGB frames, uint8 (len(indices), H, W, 3), of a video or a folder of numbered images.

        ``indices`` may be in any order and repeat (each frame is decoded once). Raises ``ClipError`` like ``count``,
        and if the file has fewer frames, its frames differ in size, or a frame is corrupt.
        """
        if is_folder(path):
            return _gather(path, indices, lambda wanted: self.images(path).read(wanted, rgb_image))
        return _gather(path, indices, lambda wanted: self._video(path, wanted, "rgb"))

    def depth(self, path: Path, indices: Sequence[int] | npt.NDArray[np.integer]) -> Array:
        """Read raw depth, uint8 or uint16 (len(indices), H, W), of a video, a folder of numbered images or an npz file.

        Of an 8-bit YUV video this is the luma, stretched from the video's limited range to 0..255 unless the file
        states the full range. "Holes are 0" in IsoGD refers to these values, because its encoder was given RGB. They
        equal the green channel of a conversion to RGB within 1, while red and blue carry the rounding of the chroma (up
        to 3), which holds no depth. Raises ``ClipError`` like ``frames``, and for pictures in colour.
        """
        if is_folder(path):
            return _gather(path, indices, lambda wanted: self.images(path).read(wanted, depth_image))
        if path.suffix.lower() == ARRAY_SUFFIX:
            return _gather(path, indices, lambda wanted: _rows(path, wanted))
        return _gather(path, indices, lambda wanted: self._video(path, wanted, "depth"))

    def _video(self, path: Path, wanted: list[int], kind: Literal["rgb", "depth"]) -> dict[int, Array]:
        if wanted[0] < _NEAR:
            return read_video(path, wanted, kind)
        if path not in self._keys:
            self._keys[path] = key_frames(path)
        return read_video(path, wanted, kind, self._keys[path])

    def images(self, path: Path) -> ImageFolder:
        """The images of a folder. Raises ``ClipError`` as ``ImageFolder.scan``."""
        if path not in self._folders:
            self._folders[path] = ImageFolder.scan(path)
        return self._folders[path]


def is_folder(path: Path) -> bool:
    """Whether ``path`` is a folder. Raises ``ClipError`` if it cannot be looked at (a parent may not be entered)."""
    try:
        return path.is_dir()
    except OSError as error:
        raise ClipError(f"{path}: cannot be read ({error.strerror})") from error


def _gather(
    path: Path, indices: Sequence[int] | npt.NDArray[np.integer], read: Callable[[list[int]], dict[int, Array]]
) -> Array:
    """Read each distinct frame once with ``read`` and stack the frames in the order of ``indices``."""
    order = [int(i) for i in indices]
    assert order, "no frames asked for"
    assert min(order) >= 0, "frames count from 0"
    frames = read(sorted(set(order)))
    sizes = {frame.shape[:2] for frame in frames.values()}
    if len(sizes) > 1:
        raise ClipError(f"{path}: its frames differ in size: {', '.join(f'{w}x{h}' for h, w in sorted(sizes))}")
    return np.stack([frames[i] for i in order])


def _load_array(path: Path) -> Array:
    try:
        # np.load would take a text file for a pickle, and would accept a single array (npy).
        if path.stat().st_size and not zipfile.is_zipfile(path):
            raise ClipError(f"{path}: not an npz file, or a truncated one; {_NPZ_ADVICE}")
        with _ONE_AT_A_TIME, np.load(path, allow_pickle=False) as file:
            names = list(file.files)
            name = names[0] if len(names) == 1 else "depth"
            if name not in names:
                raise ClipError(f"{path}: holds {', '.join(names) or 'no array'}; name the one with depth 'depth'")
            array = file[name]
    except OSError as error:
        raise ClipError(f"{path}: cannot be read ({error.strerror or error})") from error
    except EOFError as error:
        raise ClipError(f"{path}: empty file; {_NPZ_ADVICE}") from error
    except MemoryError as error:
        raise ClipError(f"{path}: its array does not fit into memory; keep depth that is this long as FFV1") from error
    # RuntimeError: encrypted or an unknown compression; TokenError: in the header of the array
    except (zipfile.BadZipFile, zlib.error, RuntimeError, tokenize.TokenError) as error:
        raise ClipError(f"{path}: corrupt npz file; write it again") from error
    except ValueError as error:
        raise ClipError(f"{path}: holds something else than plain arrays; {_NPZ_ADVICE}") from error
    if not isinstance(array, np.ndarray):
        raise ClipError(f"{path}: holds something else than plain arrays; {_NPZ_ADVICE}")
    if array.ndim != 3 or 0 in array.shape or array.dtype not in (np.uint8, np.uint16):
        raise ClipError(f"{path}: {array.dtype} {array.shape}; depth must be uint8 or uint16 of shape (frames, H, W)")
    return array


def _rows(path: Path, wanted: list[int]) -> dict[int, Array]:
    array = _load_array(path)
    if wanted[-1] >= len(array):
        raise too_short(path, len(array), wanted[-1])
    return {index: array[index] for index in wanted}
