"""Two independent cues to which values of raw depth are near. Needs no torch.

Each gives a number from -1 (surely near = dark) over 0 (no evidence) to 1 (surely near = bright).
"""

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

# 8-bit holes are 0, but lossy compression smears them up to 7; 16-bit ones are exactly 0.
SMEAR_8BIT = 7

MIN_FRAMES = 4
MIN_SEEN = 0.4
MIN_MOVING = 0.02
_STEP = 0.15

MIN_PLACES = 300
_ROWS = 240
_EDGE, _LEAST_STEP = 0.06, 8.0
_FROM_EDGE, _BAND, _INWARDS = 2.5, 1.5, 4.0

Raw = npt.NDArray[Any]


def passing(raw: Raw) -> float:
    """The cue of what passes in front of what, from -1 to 1, in raw depth (T, H, W), uint8 or uint16.

    A hand passes in front of what is behind it: if a pixel shows one value most of the time and another for a while,
    the short-lived value is the nearer one. So among pixels that change by more than 15 % of the clip's range, a pixel
    whose values reach further above its median in time than below it speaks for near = bright, else for near = dark.
    Holes and the pixels beside them are left out.

    The cue is 0 for fewer than 4 frames, if fewer than 2 % of the pixels move, or if less than 40 % of the frame has
    depth: then the hand is cut out, and what passes over a pixel is the hand's rim, which is farther.
    """
    if len(raw) < MIN_FRAMES:
        return 0.0
    step = max(1, raw.shape[1] // 120)
    depth = raw[:, step // 2 :: step, step // 2 :: step].astype(np.float32)
    kernel = np.ones((5, 5), np.uint8)
    valid = np.stack([cv2.erode((frame > _floor(raw)).astype(np.uint8), kernel) for frame in depth]).astype(bool)
    seen = valid.sum(axis=0) > max(MIN_FRAMES - 1, len(depth) // 2)
    if seen.mean() < MIN_SEEN:
        return 0.0
    values = np.where(valid, depth, np.nan)[:, seen]
    low, high = np.nanpercentile(values, (2, 98))
    middle = np.nanmedian(values, axis=0)
    above, below = np.nanmax(values, axis=0) - middle, middle - np.nanmin(values, axis=0)
    moving = above + below > _STEP * max(high - low, 1)
    if moving.sum() < MIN_MOVING * seen.size:
        return 0.0
    return float(np.mean(np.sign(above[moving] - below[moving])))


def outlines(raw: Raw) -> float:
    """The cue of how surfaces bend at their outlines, from -1 to 1, in raw depth (T, H, W), uint8 or uint16.

    Hands, arms and heads are round: towards their outline they turn away from the camera and recede, however they move
    and whether or not anything is seen behind them. What lies behind an outline, or beside a hole, is on average flat.
    So in frames reduced to about 240 rows, the depth 2.5 to 4 pixels from the edges is compared with the depth 4 pixels
    further inwards. Edges are holes, and steps of more than 6 % of the clip's range and more than 8 units; closer to
    them sensors and codecs mix both sides. The cue is the sum of the differences divided by the sum of their absolute
    values; 0 if fewer than 300 places can be compared.
    """
    step = max(1, round(raw.shape[1] / _ROWS))
    depth = raw[:, step // 2 :: step, step // 2 :: step]
    values = depth[depth > _floor(raw)]
    if not values.size:
        return 0.0
    low, high = np.percentile(values, (2, 98))
    jump = max(_EDGE * (high - low), _LEAST_STEP)
    differences = np.concatenate([_bends(frame, _floor(raw), jump) for frame in depth])
    size = float(np.abs(differences).sum())
    return float(differences.sum()) / size if len(differences) >= MIN_PLACES and size else 0.0


def _floor(raw: Raw) -> int:
    return SMEAR_8BIT if raw.dtype == np.uint8 else 0


def _bends(frame: Raw, floor: int, step: float) -> npt.NDArray[np.float32]:
    """Depth further inwards minus depth near the edge, (places,), where both lie on one smooth surface of a frame."""
    depth, valid = frame.astype(np.float32), frame > floor
    kernel, beyond = np.ones((3, 3), np.uint8), np.float32(1e9)
    highest = cv2.dilate(np.where(valid, depth, -beyond), kernel)
    lowest = cv2.erode(np.where(valid, depth, beyond), kernel)
    smooth = (valid & (highest - lowest <= step)).astype(np.uint8)
    # The border of the image does not count as an edge: distanceTransform measures the distance to zeros inside only.
    distance = cv2.distanceTransform(smooth, cv2.DIST_L2, 5)
    mean = cv2.blur(depth * smooth, (3, 3)) / np.maximum(cv2.blur(smooth.astype(np.float32), (3, 3)), 1e-6)
    inwards = np.stack((cv2.Sobel(distance, cv2.CV_32F, 0, 1), cv2.Sobel(distance, cv2.CV_32F, 1, 0))) / 8
    length = np.hypot(*inwards)
    here = (distance >= _FROM_EDGE) & (distance < _FROM_EDGE + _BAND) & (length > 0.6)  # shorter between two edges
    outer = np.array(np.nonzero(here))
    inner = outer + np.rint(_INWARDS * inwards[:, here] / length[here]).astype(int)
    inside = ((inner >= 0) & (inner < np.array(frame.shape)[:, None])).all(axis=0)
    (y, x), (inner_y, inner_x) = outer[:, inside], inner[:, inside]
    further = distance[inner_y, inner_x] >= distance[y, x] + 0.6 * _INWARDS
    # Clipped, so that an undetected edge does not outweigh the rest.
    return np.clip((mean[inner_y, inner_x] - mean[y, x])[further], -step, step)
