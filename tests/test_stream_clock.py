import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynagest.card import NetworkCard
from dynagest.errors import ClipError, ModelError, RecipeError, WeightsError
from dynagest.stream.clock import Clock, Tick

LONGEST_GAP = 1.0


def numbered(index: int) -> np.ndarray:
    return np.full((1, 1, 3), index, np.int64)


def feed(clock: Clock, times: list[float]) -> list[Tick]:
    return [tick for index, time in enumerate(times) for tick in clock.push(numbered(index), time)]


def picks(ticks: list[Tick]) -> list[int]:
    return [int(tick.frame[0, 0, 0]) for tick in ticks]


def camera(rate: float, seconds: float, jitter: float = 0.0, seed: int = 0, start: float = 0.0) -> list[float]:
    """Times of a camera's frames, each off by up to ``jitter`` frames, the first exact."""
    noise = np.random.default_rng(seed).uniform(-jitter, jitter, math.floor(seconds * rate) + 1)
    noise[0] = 0
    return [start + float(i + e) / rate for i, e in enumerate(noise)]


def test_the_nearest_frames_at_30_15_and_10_a_second() -> None:
    at = {rate: feed(Clock(7.5, LONGEST_GAP), camera(rate, 2.0)) for rate in (30.0, 15.0, 10.0)}
    assert picks(at[30.0]) == list(range(0, 61, 4))
    assert picks(at[15.0]) == list(range(0, 31, 2))
    assert picks(at[10.0])[:6] == [0, 1, 3, 4, 5, 7]
    assert all(np.allclose([tick.time for tick in ticks], np.arange(16) / 7.5) for ticks in at.values())
    assert [tick.first for tick in at[30.0]] == [True] + 15 * [False]


@given(
    fps=st.floats(2.0, 30.0),
    faster=st.floats(1.0, 8.0),
    jitter=st.floats(0.0, 0.4),
    seed=st.integers(0, 1000),
    start=st.floats(0.0, 1e6),
)
def test_any_camera_as_fast_as_the_network_gives_the_same_frames_within_half_a_frame(
    fps: float, faster: float, jitter: float, seed: int, start: float
) -> None:
    rate = fps * faster
    times = camera(rate, 3.0, jitter, seed, start)
    ticks = feed(Clock(fps, LONGEST_GAP), times)
    # As many ticks as fit in the time, on an even grid, whatever the camera does.
    assert abs(len(ticks) - (math.floor((times[-1] - start) * fps) + 1)) <= (
        1 if (times[-1] - start) * fps % 1 > 0.999 else 0
    )
    assert np.allclose([tick.time - start for tick in ticks], np.arange(len(ticks)) / fps, atol=1e-6)
    for tick, index in zip(ticks, picks(ticks), strict=True):
        assert abs(times[index] - tick.time) <= min(abs(time - tick.time) for time in times) + 1e-6
        assert abs(times[index] - tick.time) <= (0.5 + jitter) / rate + 1e-6


@given(st.lists(st.floats(-0.5, 0.9), min_size=1, max_size=40), st.floats(1.0, 20.0))
def test_ticks_rise_and_wait_for_no_frame_that_has_come(steps: list[float], fps: float) -> None:
    clock, time, last, newest = Clock(fps, LONGEST_GAP), 10.0, -math.inf, -math.inf
    for index, step in enumerate(steps):
        time = max(time + step, newest - LONGEST_GAP / 2)
        newest = max(newest, time)
        for tick in clock.push(numbered(index), time):
            assert tick.time > last
            last = tick.time
        assert newest - 1 / fps < last + 1e-6 <= newest + 2e-6


def test_a_camera_that_drops_from_30_to_15_keeps_the_ticks() -> None:
    times = camera(30.0, 2.0) + [2.0 + k / 15 for k in range(1, 31)]
    ticks = feed(Clock(7.5, LONGEST_GAP), times)
    assert np.allclose([times[index] for index in picks(ticks)], [tick.time for tick in ticks])
    assert len(ticks) == 31


def test_a_gap_is_filled_from_both_sides() -> None:
    ticks = feed(Clock(10.0, LONGEST_GAP), [0.0, 0.1, 0.6])
    assert picks(ticks) == [0, 1, 1, 1, 2, 2, 2]
    assert [tick.repeated for tick in ticks] == [False, False, True, True, False, True, True]
    assert not any(tick.first for tick in ticks[1:])
    # Of two that are as near the newer one; a gap of just ``longest_gap`` is still filled.
    assert picks(feed(Clock(4.0, LONGEST_GAP), [0.0, 0.5])) == [0, 1, 1]
    assert [tick.first for tick in feed(Clock(4.0, LONGEST_GAP), [0.0, LONGEST_GAP])] == [True] + 4 * [False]


def test_a_longer_gap_begins_another_stream() -> None:
    ticks = feed(Clock(10.0, LONGEST_GAP), [0.0, 0.1, 1.15, 1.25])
    assert picks(ticks) == [0, 1, 2, 3]
    assert [tick.first for tick in ticks] == [True, False, True, False]
    assert [tick.time for tick in ticks] == pytest.approx([0.0, 0.1, 1.15, 1.25])


def test_repeated_and_overtaken_frames_are_left_out() -> None:
    assert picks(feed(Clock(10.0, LONGEST_GAP), [0.0, 0.1, 0.1, 0.05, 0.2])) == [0, 1, 4]


def test_a_camera_may_read_every_frame_into_the_same_array() -> None:
    times = [index / 24 for index in range(48)]
    clock, buffer, ticks = Clock(8.0, LONGEST_GAP), numbered(0), []
    for index, time in enumerate(times):
        buffer[...] = numbered(index)
        ticks += clock.push(buffer, time)
    assert picks(ticks) == list(range(0, 48, 3))
    assert not any(tick.repeated for tick in ticks)


def test_of_two_frames_with_one_time_the_first_counts() -> None:
    assert picks(feed(Clock(10.0, LONGEST_GAP), [0.0, 0.12, 0.12, 0.4])) == [0, 1, 1, 3, 3]


def test_rounding_makes_no_tick_wait_for_the_next_frame() -> None:
    assert 0.1 + 2 / 10 > 0.3
    assert picks(feed(Clock(10.0, LONGEST_GAP), [0.1, 0.2, 0.3])) == [0, 1, 2]


def test_a_clock_set_back_is_refused_until_reset() -> None:
    clock = Clock(10.0, LONGEST_GAP)
    feed(clock, [5.0, 5.1])
    with pytest.raises(ClipError, match="must rise"):
        clock.push(numbered(2), 0.0)
    clock.reset()
    assert [tick.first for tick in clock.push(numbered(0), 0.0)] == [True]


@pytest.mark.parametrize("time", [math.nan, math.inf])
def test_a_time_that_is_no_number_is_refused(time: float) -> None:
    with pytest.raises(ClipError, match="give seconds"):
        Clock(10.0, LONGEST_GAP).push(numbered(0), time)


def test_the_card_gives_the_rate_and_the_longest_gap() -> None:
    card = NetworkCard(model="tsm_resnet18", classes=("a", "b"), num_segments=8, fps=4.0)
    clock, other = Clock.of(card), Clock.of(card, fps=16.0)
    assert (clock.fps, clock.longest_gap, other.fps, other.longest_gap) == (4.0, 2.0, 16.0, 0.5)
    with pytest.raises(WeightsError, match=r"give --fps .* 8 for 1 s, 4 for 2 s"):
        Clock.of(card.model_copy(update={"fps": None}))
    for fps in (0, -1.0, math.nan, math.inf):
        with pytest.raises(RecipeError, match=f"fps={fps:g}: is no frame rate; give more than 0, at most 1000 frames"):
            Clock.of(card, fps=fps)
    with pytest.raises(ModelError, match="rgbd"):
        Clock.of(card.model_copy(update={"options": {"inputs": "rgbd"}}))


@pytest.mark.parametrize(("fps", "patience"), [(4.0, 0.5), (8.0, 0.25), (25.0, 0.25)])
def test_a_frame_is_late_after_two_ticks_and_a_quarter_of_a_second(fps: float, patience: float) -> None:
    clock = Clock(fps, LONGEST_GAP)
    assert (clock.late(patience), clock.late(patience + 0.01)) == (False, True)
