"""A folder of numbered images: which frame is which file, and the decoding of one image. Needs no torch."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from dynagest.clips import jpeg, png
from dynagest.clips.video import Array, deep_grey, one_channel, too_short
from dynagest.errors import ClipError

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"})
GAP = "missing; the images of a clip must be numbered without gaps"
_MOST_MISSING = 1_000_000  # images of a folder; a list of all numbers between two time stamps would fill the memory


@dataclass(frozen=True)
class ImageFolder:
    """How a folder's images are named, without a list of the names: EgoGesture's folders hold thousands.

    ``missing``: the indices of missing numbers. ``judged``: a byte for each image, 1 once it was found whole, because
    judging a JPEG takes half as long as decoding it.
    """

    path: Path
    prefix: str
    suffix: str
    digits: int
    first: int
    count: int
    missing: tuple[int, ...]
    judged: bytearray

    @classmethod
    def scan(cls, path: Path) -> "ImageFolder":
        """Look at the names in a folder. Raises ``ClipError`` unless its images, one or more, are numbered alike."""
        # .DS_Store, ._000001.jpg and Thumbs.db are not frames.
        try:
            entries = list(path.iterdir())
        except OSError as error:
            raise ClipError(f"{path}: cannot be read ({error.strerror})") from error
        names = [p.name for p in entries if p.suffix.lower() in IMAGE_SUFFIXES and not p.name.startswith(".")]
        if not names:
            kinds = ", ".join(sorted(IMAGE_SUFFIXES))
            raise ClipError(f"{path}: holds no numbered images ({kinds}); name the folder that does, or a video")
        parts = {name: re.fullmatch(r"(.*?)([0-9]+)([^0-9]*\.[A-Za-z]+)", name, re.DOTALL) for name in names}
        unnumbered = min((name for name, match in parts.items() if match is None), default=None)
        if unnumbered:
            raise ClipError(f"{path}: {unnumbered} has no frame number in its name")
        found = sorted((int(m[2]), m[1], m[3], len(m[2])) for m in parts.values() if m)
        (first, prefix, suffix, _), last = found[0], found[-1][0]
        count, there = last - first + 1, {number for number, *_ in found}
        if count - len(there) > _MOST_MISSING:
            raise ClipError(
                f"{path}: its images are numbered from {first} to {last}, as by a clock: number them 1, 2, 3, ..."
            )
        missing = tuple(n - first for n in range(first, last + 1) if n not in there) if len(there) < count else ()
        digits = min(width for *_, width in found)
        folder = cls(path, prefix, suffix, digits, first, count, missing, bytearray(count))
        strange = next((name for name, m in parts.items() if m and folder.name(int(m[2]) - first) != name), None)
        if strange:
            raise ClipError(
                f"{path}: {folder.name(0)} and {strange} are named differently; one folder, one stream of images"
            )
        return folder

    def name(self, index: int) -> str:
        """The name of the image with an index, also of a missing one."""
        return f"{self.prefix}{self.first + index:0{self.digits}d}{self.suffix}"

    def read(self, wanted: list[int], load: Callable[[Path, bool], Array]) -> dict[int, Array]:
        """Load the images of ascending indices with ``load(path, judge)``. Raises ``ClipError`` beyond the last."""
        if wanted[-1] >= self.count:
            raise ClipError(f"{too_short(self.path, self.count, wanted[-1])}, which would be {self.name(wanted[-1])}")
        images = {}
        for index in wanted:
            images[index] = load(self.path / self.name(index), not self.judged[index])
            self.judged[index] = 1
        return images


def _image_data(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise ClipError(f"{path}: {GAP}") from error
    except OSError as error:
        raise ClipError(f"{path}: cannot be read ({error.strerror})") from error


def _decoded(data: bytes, flags: int, path: Path, judge: bool) -> Array:
    damaged = jpeg.is_damaged if judge else jpeg.is_truncated
    whole = not (data.startswith(jpeg.HEAD) and damaged(data))
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags) if data and whole else None
    except cv2.error:  # it claims to be larger than any picture
        image = None
    if image is None:
        raise ClipError(f"{path}: {'truncated or corrupt image' if data else 'empty file'}")
    return image


def _may_be_deep(data: bytes) -> bool:
    """Whether an image may have more than 8 bits a value: a PNG's header says so, a TIFF is not looked into."""
    return (data.startswith(png.SIGNATURE) and data[24] == 16) or data.startswith((b"II", b"MM"))


def rgb_image(path: Path, judge: bool) -> Array:
    data = _image_data(path)
    image = _decoded(data, cv2.IMREAD_COLOR_RGB, path, judge)
    # OpenCV has dropped the lower half of 16 bits, without which millimetres are black.
    if judge and _may_be_deep(data):
        stored = _decoded(data, cv2.IMREAD_UNCHANGED, path, judge=False)
        if stored.ndim == 2 and stored.dtype != np.uint8:
            raise deep_grey(path)
    return image


def depth_image(path: Path, judge: bool) -> Array:
    return one_channel(_decoded(_image_data(path), cv2.IMREAD_UNCHANGED, path, judge), path)
