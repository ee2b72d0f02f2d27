"""Which frames of a clip the network sees. Needs no torch."""

import numpy as np
import numpy.typing as npt

DEPTH_LENGTH_TOLERANCE = 3


def segment_indices(n: int, segments: int, rng: np.random.Generator | None = None) -> npt.NDArray[np.int64]:
    """One frame from each of ``segments`` equal parts of ``n`` frames (paper, III-D): int64 (segments,), ascending.

    A random frame of each part, or its middle one without ``rng``. The parts' borders are ``k * n / segments`` rounded
    down, so every frame belongs to one, unlike ACTION-Net's, which never uses the last ``n mod segments`` frames. With
    fewer frames than segments (where ACTION-Net takes frame 0 throughout) each frame is repeated equally often, give or
    take one, and nothing is random.
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
    """``length`` frames, ``stride`` apart, from a window within ``n`` frames: int64 (length,), ascending.

    The window lies at random, or in the middle without ``rng``. In a clip too short for it the frames are spread over
    the whole clip instead, and repeated evenly if there are fewer than ``length``.
    """
    assert stride >= 1
    free = n - ((length - 1) * stride + 1)
    if free < 0:
        return segment_indices(n, length)
    start = free // 2 if rng is None else int(rng.integers(0, free, endpoint=True))
    return start + stride * np.arange(length, dtype=np.int64)


def depth_indices(indices: npt.NDArray[np.int64], n: int, n_depth: int) -> npt.NDArray[np.int64] | None:
    """The frames of depth, ``n_depth`` long, that belong to ``indices`` of ``n`` RGB frames; ``None`` if unclear.

    Frame i goes with frame i. NVGesture's streams stop up to 3 frames apart: there the last depth frame stands for the
    missing ones. Lengths further apart speak of another frame rate or another clip.
    """
    if n_depth < 1 or abs(n - n_depth) > DEPTH_LENGTH_TOLERANCE:
        return None
    return np.minimum(indices, n_depth - 1)
