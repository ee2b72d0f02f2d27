"""Chooses the frames of a clip that the network sees. Needs no torch."""

import numpy as np
import numpy.typing as npt

from dynagest.card import Sampling

DEPTH_LENGTH_TOLERANCE = 3
LONG = 900  # frames, half a minute at 30 a second; the longest gestures of EgoGesture and IsoGD have 162 and 405


def sample_indices(
    n: int, length: int, sampling: Sampling, stride: int, rng: np.random.Generator | None
) -> npt.NDArray[np.int64]:
    """Choose ``length`` of ``n`` frames: by ``dense_indices``, ``stride`` apart, or else by ``segment_indices``."""
    return dense_indices(n, length, stride, rng) if sampling == "dense" else segment_indices(n, length, rng)


def segment_indices(n: int, segments: int, rng: np.random.Generator | None = None) -> npt.NDArray[np.int64]:
    """Choose one frame from each of ``segments`` equal parts of ``n`` frames (paper, III-D).

    Returns indices, int64 (segments,), ascending: a random frame of each part, or its middle frame without ``rng``. The
    borders of the parts are ``k * n / segments`` rounded down, so that every frame belongs to a part; ACTION-Net's
    sampling never uses the last ``n mod segments`` frames. If there are fewer frames than segments (where ACTION-Net
    takes frame 0 throughout), each frame is repeated equally often, give or take one, and nothing is random.
    """
    assert n >= 1
    assert segments >= 1
    borders = np.arange(segments + 1, dtype=np.int64) * n // segments
    first, last = borders[:-1], borders[1:] - 1
    if n < segments:
        return first
    if rng is None:
        return (first + last) // 2
    return rng.integers(first, last, endpoint=True)


def dense_indices(
    n: int, length: int, stride: int = 1, rng: np.random.Generator | None = None
) -> npt.NDArray[np.int64]:
    """Choose ``length`` frames, ``stride`` apart, from a window within ``n`` frames: int64 (length,), ascending.

    The window lies at random, or in the middle without ``rng``. In a clip shorter than the window the frames are spread
    over the whole clip instead, and repeated evenly if there are fewer than ``length``; nothing is random then.
    """
    assert stride >= 1
    free = n - ((length - 1) * stride + 1)
    if free < 0:
        return segment_indices(n, length)
    start = free // 2 if rng is None else int(rng.integers(0, free, endpoint=True))
    return start + stride * np.arange(length, dtype=np.int64)


def depth_indices(indices: npt.NDArray[np.int64], n: int, n_depth: int) -> npt.NDArray[np.int64] | None:
    """Choose the depth frames, of ``n_depth``, for the frames ``indices`` of ``n`` RGB frames; ``None`` if unclear.

    Depth frame i belongs to RGB frame i. In NVGesture the two streams end up to 3 frames apart, so the last depth frame
    stands for missing ones. If the lengths differ by more, the result is ``None``, because depth probably has another
    frame rate or belongs to another clip.
    """
    if n_depth < 1 or abs(n - n_depth) > DEPTH_LENGTH_TOLERANCE:
        return None
    return np.minimum(indices, n_depth - 1)
