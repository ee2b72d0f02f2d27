"""Which frames are sampled: every one can be, each segment gives one, short clips repeat evenly."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynagest.clips.sampling import dense_indices, depth_indices, segment_indices

lengths = st.integers(1, 400)
segments = st.integers(1, 32)
seeds = st.integers(0, 2**32 - 1)


@given(lengths, segments, st.none() | seeds)
def test_segment_indices_are_in_range_and_ascending(n: int, t: int, seed: int | None) -> None:
    rng = None if seed is None else np.random.default_rng(seed)
    indices = segment_indices(n, t, rng)
    assert indices.shape == (t,)
    assert indices.dtype == np.int64
    assert indices.min() >= 0
    assert indices.max() < n
    assert (np.diff(indices) >= 0).all()


@given(lengths, segments, st.none() | seeds)
def test_each_segment_gives_one_frame(n: int, t: int, seed: int | None) -> None:
    if n < t:
        return
    indices = segment_indices(n, t, None if seed is None else np.random.default_rng(seed))
    for k, index in enumerate(indices.tolist()):
        assert k * n // t <= index < (k + 1) * n // t


@given(st.integers(1, 31), st.integers(2, 32), seeds)
def test_short_clips_repeat_every_frame_evenly(n: int, t: int, seed: int) -> None:
    if n >= t:
        return
    indices = segment_indices(n, t, np.random.default_rng(seed))
    counts = np.bincount(indices, minlength=n)
    assert counts.min() >= 1
    assert counts.max() - counts.min() <= 1
    assert (indices == segment_indices(n, t)).all()


@pytest.mark.parametrize("n", [8, 9, 15, 37])
def test_every_frame_is_reachable(n: int) -> None:
    """ACTION-Net's sampler never draws the last n mod T frames."""
    rng = np.random.default_rng(0)
    drawn = np.concatenate([segment_indices(n, 8, rng) for _ in range(400)])
    assert set(drawn.tolist()) == set(range(n))


def test_middle_of_each_segment() -> None:
    assert segment_indices(80, 8).tolist() == [4, 14, 24, 34, 44, 54, 64, 74]
    assert segment_indices(8, 8).tolist() == list(range(8))
    assert segment_indices(3, 8).tolist() == [0, 0, 0, 1, 1, 1, 2, 2]


def test_same_seed_same_frames_and_another_seed_others() -> None:
    first, again, other = (segment_indices(200, 8, np.random.default_rng(seed)).tolist() for seed in (5, 5, 6))
    assert first == again
    assert first != other


@given(lengths, segments, st.integers(1, 8), st.none() | seeds)
def test_dense_indices_are_in_range_and_evenly_apart(n: int, t: int, stride: int, seed: int | None) -> None:
    indices = dense_indices(n, t, stride, None if seed is None else np.random.default_rng(seed))
    assert indices.shape == (t,)
    assert indices.min() >= 0
    assert indices.max() < n
    if n >= (t - 1) * stride + 1:
        assert (np.diff(indices) == stride).all()
    else:
        assert indices.tolist() == segment_indices(n, t).tolist()


def test_dense_window_is_in_the_middle_and_reaches_both_ends() -> None:
    assert dense_indices(20, 4, 2).tolist() == [6, 8, 10, 12]
    rng = np.random.default_rng(0)
    starts = {int(dense_indices(10, 4, 2, rng)[0]) for _ in range(200)}
    assert starts == {0, 1, 2, 3}


def test_depth_clamps_up_to_three_frames_and_no_further() -> None:
    indices = np.array([0, 40, 79])
    assert depth_indices(indices, 80, 80).tolist() == [0, 40, 79]
    assert depth_indices(indices, 80, 83).tolist() == [0, 40, 79]
    assert depth_indices(indices, 80, 77).tolist() == [0, 40, 76]
    assert depth_indices(indices, 80, 76) is None
    assert depth_indices(indices, 80, 84) is None
    assert depth_indices(np.array([0]), 1, 0) is None
