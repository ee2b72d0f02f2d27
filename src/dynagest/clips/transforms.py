"""Crops, drawn once per clip. Needs no torch.

A crop is a rectangle in fractions of the frame, so that one draw cuts the same part out of RGB and depth, whatever
their resolutions and however depth lies in the RGB frame. It is cut from the source frame and resized once, directly to
the network's size: the same picture as resizing the shorter side first, for a fraction of the work.
"""

import math
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from dynagest.clips.depth import DepthSpec, to_rgb

# The scales of the paper (III-D), and the slightly different ones of ACTION-Net's code.
PAPER_SCALES = (1.0, 7 / 8, 3 / 4, 2 / 3)
ACTION_SCALES = (1.0, 0.875, 0.75, 0.66)
# The places of a crop: (x, y) in quarters of the room that it leaves in the frame.
_CORNERS_AND_CENTRE = ((0, 0), (4, 0), (0, 4), (4, 4), (2, 2))
_THIRTEEN = (*_CORNERS_AND_CENTRE, (0, 2), (4, 2), (2, 0), (2, 4), (1, 1), (3, 1), (1, 3), (3, 3))

Frames = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Crop:
    """A rectangle in fractions of the frame's height and width, and whether it is mirrored left to right."""

    top: float
    left: float
    height: float
    width: float
    flip: bool = False

    @classmethod
    def at(cls, x: int, y: int, width: int, height: int, frame: tuple[int, int], flip: bool = False) -> "Crop":
        """The crop of ``width`` x ``height`` pixels with its top left corner at (x, y) of ``frame`` (height, width)."""
        return cls(y / frame[0], x / frame[1], height / frame[0], width / frame[1], flip)


WHOLE_FRAME = Crop(top=0.0, left=0.0, height=1.0, width=1.0)


def center_crop(height: int, width: int) -> Crop:
    """The square in the middle of the frame, as large as the shorter side."""
    side = min(height, width)
    return Crop.at((width - side) // 2, (height - side) // 2, side, side, (height, width))


def three_crops(height: int, width: int) -> tuple[Crop, Crop, Crop]:
    """Squares as large as the shorter side at the start, the middle and the end of the longer one (paper, IV-B)."""
    side, frame = min(height, width), (height, width)
    return (
        Crop.at(0, 0, side, side, frame),
        center_crop(height, width),
        Crop.at(width - side, height - side, side, side, frame),
    )


def paper_crop(
    height: int,
    width: int,
    rng: np.random.Generator,
    scales: tuple[float, ...] = PAPER_SCALES,
    flip: bool = False,
) -> Crop:
    """Draw the paper's crop: a square in a corner or the centre, its side a random scale of the shorter side."""
    scale = scales[rng.integers(len(scales))]
    return _place(height, width, scale, scale, _CORNERS_AND_CENTRE, rng, flip)


def action_crop(
    height: int,
    width: int,
    rng: np.random.Generator,
    scales: tuple[float, ...] = ACTION_SCALES,
    flip: bool = False,
) -> Crop:
    """Draw ACTION-Net's crop: at one of 13 places, its width and height at scales of the shorter side.

    The two scales are the same or neighbours in ``scales``.
    """
    steps = range(len(scales))
    pairs = [(i, j) for i in steps for j in steps if abs(i - j) <= 1]
    i, j = pairs[rng.integers(len(pairs))]
    return _place(height, width, scales[i], scales[j], _THIRTEEN, rng, flip)


def _place(
    height: int,
    width: int,
    scale_x: float,
    scale_y: float,
    places: tuple[tuple[int, int], ...],
    rng: np.random.Generator,
    flip: bool,
) -> Crop:
    short = min(height, width)
    w, h = max(1, round(scale_x * short)), max(1, round(scale_y * short))
    x, y = places[rng.integers(len(places))]
    return Crop.at((width - w) * x // 4, (height - h) * y // 4, w, h, (height, width), flip)


def apply(crop: Crop, frames: Frames, size: int) -> Frames:
    """Cut the crop out of every frame, uint8 (T, H, W, 3), and resize it: uint8 (T, size, size, 3)."""
    height, width = frames.shape[1:3]
    top, left = round(crop.top * height), round(crop.left * width)
    bottom, right = round((crop.top + crop.height) * height), round((crop.left + crop.width) * width)
    out = np.empty((len(frames), size, size, 3), np.uint8)
    for frame, target in zip(frames, out, strict=True):
        _resize(frame[top:bottom, left:right], size, target)
    return np.ascontiguousarray(out[:, :, ::-1]) if crop.flip else out


def apply_depth(
    crop: Crop, depth: npt.NDArray[Any], size: int, spec: DepthSpec | None, rgb_size: tuple[int, int]
) -> npt.NDArray[np.float32]:
    """Cut out the part of the depth (T, h, w) that lies under the crop of RGB: canonical float32 (T, size, size).

    ``depth`` is raw and described by ``spec``, or, without ``spec``, canonical float32 that covers the RGB frame.
    ``rgb_size``: (height, width) of the RGB frames. The result is in [0, 1], and 0 outside the depth camera's field.
    Depth is made canonical before it is resized, because interpolation between a raw hole (0) and a far surface (255 if
    near is dark) gives values that look like a hand. Raises ``DepthError`` if depth contradicts ``spec``.
    """
    frame, (height, width) = (depth.shape[1], depth.shape[2]), rgb_size
    affine = spec.affine if spec else None
    scale_x, scale_y, shift_x, shift_y = to_rgb(affine, frame, rgb_size)
    # The rectangle in depth pixels. It stays a rectangle, as the map into the RGB frame has no rotation.
    x, y = (crop.left * width - shift_x) / scale_x, (crop.top * height - shift_y) / scale_y
    w, h = crop.width * width / scale_x, crop.height * height / scale_y
    # Only this part is needed, with a margin for the interpolation at the border and for holes just beyond it.
    more = 1 + (spec.erode if spec else 0)
    left, right = _covered(x, w, more, frame[1])
    top, bottom = _covered(y, h, more, frame[0])
    out = np.zeros((len(depth), size, size), np.float32)
    if left < right and top < bottom:
        part = depth[:, top:bottom, left:right]
        canonical = part if spec is None else spec.canonical(part)
        border = cv2.BORDER_CONSTANT if affine else cv2.BORDER_REPLICATE
        for image, target in zip(canonical, out, strict=True):
            _resample(image, (x - left, y - top, w, h), size, border, target)
    return np.ascontiguousarray(out[:, :, ::-1]) if crop.flip else out


def _covered(start: float, length: float, more: int, side: int) -> tuple[int, int]:
    """The pixels, of ``side``, that a range touches and ``more`` on either end: the first, and the one after the last.

    They are cut off at the image's ends. A range that ends at a pixel's edge does not touch the next one.
    """
    first, last = math.floor(start + 1e-6) - more, math.ceil(start + length - 1e-6) + more
    return min(max(first, 0), side), min(max(last, 0), side)


def _resize(image: npt.NDArray[Any], size: int, target: npt.NDArray[Any]) -> None:
    fine = _fine(max(image.shape[:2]), size)
    _average(cv2.resize(image, (fine, fine), interpolation=cv2.INTER_LINEAR), size, target)


def _fine(length: float, size: int) -> int:
    """The smallest multiple of ``size`` that is at least half of ``length``.

    Bilinear interpolation can shrink ``length`` to it; shrinking by more than half would skip pixels. The rest is done
    by averaging whole pixels, which is exact and faster than OpenCV's INTER_AREA at a ratio that is not whole (from 240
    x 240 to 112 x 112: 0.12 ms instead of 0.28).
    """
    return size * max(1, math.ceil(length / size / 2))


def _average(image: npt.NDArray[Any], size: int, target: npt.NDArray[Any]) -> None:
    if len(image) == size:
        target[...] = image
    else:
        cv2.resize(image, (size, size), dst=target, interpolation=cv2.INTER_AREA)


def _resample(
    image: npt.NDArray[np.float32],
    rectangle: tuple[float, float, float, float],
    size: int,
    border: int,
    target: npt.NDArray[np.float32],
) -> None:
    """Like ``_resize``, for a rectangle (x, y, width, height) that may lie between pixels or reach beyond the image."""
    x, y, w, h = rectangle
    left, top, right, bottom = (round(edge) for edge in (x, y, x + w, y + h))
    between = max(abs(x - left), abs(y - top), abs(x + w - right), abs(y + h - bottom)) > 1e-6
    if not between and min(left, top) >= 0 and right <= image.shape[1] and bottom <= image.shape[0]:
        _resize(image[top:bottom, left:right], size, target)
        return
    fine = _fine(max(w, h), size)
    step_x, step_y = w / fine, h / fine
    matrix = np.array([[step_x, 0, x + step_x / 2 - 0.5], [0, step_y, y + step_y / 2 - 0.5]], np.float64)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    _average(cv2.warpAffine(image, matrix, (fine, fine), flags=flags, borderMode=border), size, target)
