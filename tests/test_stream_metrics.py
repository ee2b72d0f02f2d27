"""Metrics of streams, worked out by hand, and the rules that hold for any streams."""

import itertools
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dynagest.clips.streams import Span
from dynagest.stream.events import Event
from dynagest.stream.metrics import (
    Recording,
    StreamSummary,
    edit_distance,
    false_activations,
    jaccard,
    match,
    summarise,
)


def event(label: str, begin: float, end: float, fired: float | None = None) -> Event:
    return Event(label, begin, end, 0.9, begin if fired is None else fired)


@pytest.mark.parametrize(
    ("true", "found", "edits"),
    [
        ("124", "32", 2),  # the three examples of the ChaLearn challenge
        ("1", "2", 1),
        ("222", "2", 2),
        ("", "12", 2),
        ("12", "", 2),
        ("12345", "1245", 1),
        ("kitten", "sitting", 3),
        ("12", "21", 2),
    ],
)
def test_edit_distance(true: str, found: str, edits: int):
    assert edit_distance(true, found) == edit_distance(found, true) == edits


def test_jaccard_by_hand():
    """wave: 1 s of 2 s true, found 1.5 s: 1 / 2.5. grab: two gestures of 1 s, one found exactly: 1 / 2. The push that
    is not there takes no part. (0.4 + 0.5) / 2."""
    truth = [Span("wave", 1, 3), Span("grab", 4, 5), Span("grab", 6, 7)]
    found = [event("wave", 2, 3.5), event("grab", 4, 5), event("push", 8, 9)]
    assert jaccard(truth, found) == pytest.approx(0.45)


def test_jaccard_counts_overlapping_events_of_a_class_once():
    assert jaccard([Span("wave", 0, 4)], [event("wave", 0, 2), event("wave", 1, 3)]) == pytest.approx(3 / 4)


def test_jaccard_is_that_of_frames():
    """With begins and ends at whole frames, the same as counting frames."""
    rng = np.random.default_rng(3)
    for _ in range(20):
        edges = np.sort(rng.choice(80, 8, replace=False))
        truth = [Span("ab"[i % 2], edges[2 * i] / 10, edges[2 * i + 1] / 10) for i in range(4)]
        other = np.sort(rng.choice(80, 8, replace=False))
        found = [event("ab"[i // 2], other[2 * i] / 10, other[2 * i + 1] / 10) for i in range(4)]
        frames = []
        for label in "ab":
            true, seen = np.zeros(80, bool), np.zeros(80, bool)
            for span in truth:
                true[round(span.begin * 10) : round(span.end * 10)] |= span.label == label
            for one in found:
                seen[round(one.begin * 10) : round(one.end * 10)] |= one.label == label
            frames.append((true & seen).sum() / (true | seen).sum())
        assert jaccard(truth, found) == pytest.approx(np.mean(frames))


def test_an_activation_recognises_one_gesture_of_its_label_in_time():
    truth = [Span("wave", 1, 2), Span("wave", 2.2, 3.2), Span("grab", 5, 6), Span("tap", 8, 9)]
    found = [
        event("wave", 1, 2, fired=0.9),  # too early
        event("wave", 1, 2, fired=1.5),
        event("wave", 1, 2, fired=1.8),  # a double: but the second gesture has not begun
        event("wave", 2, 3, fired=3.0),
        event("push", 5, 6, fired=5.5),  # wrong label
        event("grab", 5, 6, fired=6.9),  # late, within the second of grace
        event("tap", 8, 9, fired=10.1),  # too late
    ]
    pairs = match(truth, found)
    assert [(span.begin, one.fired) for span, one in pairs] == [(1, 1.5), (2.2, 3.0), (5, 6.9)]
    assert false_activations(truth, found) == {"wave": 2, "push": 1, "tap": 1}


def test_a_late_activation_leaves_the_next_gesture_to_the_next_one():
    truth = [Span("wave", 1, 2), Span("wave", 2.2, 3.2)]
    found = [event("wave", 1, 2, fired=2.4), event("wave", 2, 3, fired=2.9)]
    assert [(span.begin, one.fired) for span, one in match(truth, found)] == [(1, 2.4), (2.2, 2.9)]


def test_the_summary_by_hand():
    """Three gestures in 1.5 minutes; one recognised 0.6 s after its begin and 0.4 s before its end, one 1.3 s and 0.3 s
    late, one missed; one false activation. Edits: one deletion and one insertion."""
    first = Recording(
        "a",
        60.0,
        (Span("wave", 1, 2), Span("grab", 5, 6)),
        (event("wave", 1, 2, fired=1.6), event("push", 3, 4), event("grab", 5, 6, fired=6.3)),
    )
    second = Recording("b", 30.0, (Span("wave", 3, 4),), ())
    found = summarise([first, second])
    assert (found.streams, found.minutes, found.gestures, found.activations, found.recognised) == (2, 1.5, 3, 3, 2)
    assert found.levenshtein == pytest.approx(1 - 2 / 3)
    assert found.mean_jaccard == pytest.approx((1.0 + 0.0) / 2)
    assert found.recall == pytest.approx(2 / 3)
    assert found.false_per_minute == pytest.approx(1 / 1.5)
    assert found.delay_from_begin == pytest.approx((0.6 + 1.3) / 2)
    assert found.delay_from_end == pytest.approx((-0.4 + 0.3) / 2)
    assert found.early_share == pytest.approx(0.5)


def test_a_gesture_made_twice_is_recognised_twice_only_if_it_is_reported_twice():
    truth = (Span("wave", 1, 2), Span("wave", 2.3, 3.3), Span("grab", 5, 6), Span("grab", 6.2, 7), Span("wave", 9, 10))
    merged, twice = [event("wave", 1.2, 3.2)], [event("wave", 1.2, 2), event("wave", 2.5, 3.2)]
    later = [event("grab", 5.2, 5.9), event("grab", 6.4, 7), event("wave", 9.2, 10)]
    once = summarise([Recording("a", 60.0, truth, (*merged, *later))])
    assert (once.recognised, once.repeats, once.repeats_recognised) == (4, 2, 1)
    both = summarise([Recording("a", 60.0, truth, (*twice, *later)), Recording("b", 60.0, truth[:1], ())])
    assert (both.recognised, both.repeats, both.repeats_recognised) == (5, 2, 2)


def test_levenshtein_falls_below_zero_and_streams_without_gestures_count_for_false_activations_only():
    noisy = Recording("a", 60.0, (Span("wave", 1, 2),), tuple(event("push", t, t + 0.5) for t in (5, 6, 7)))
    assert summarise([noisy]).levenshtein == pytest.approx(-2)
    empty = Recording("b", 120.0, (), (event("push", 1, 2),))
    assert summarise([empty]).levenshtein is None
    assert summarise([empty]).mean_jaccard is None
    assert summarise([empty]).false_per_minute == pytest.approx(0.5)
    perfect = Recording("c", 60.0, (Span("wave", 1, 2),), (event("wave", 1, 2),))
    assert summarise([perfect, empty]).mean_jaccard == 1.0


@st.composite
def recordings(draw: st.DrawFn) -> list[Recording]:
    made = []
    for name in draw(st.lists(st.sampled_from("abcdef"), min_size=1, max_size=4, unique=True)):
        edges = sorted(draw(st.lists(st.integers(0, 600), min_size=0, max_size=16, unique=True)))
        spans = tuple(
            Span(draw(st.sampled_from("xyz")), a / 10, b / 10)
            for a, b in itertools.pairwise(edges[: len(edges) // 2 * 2])
        )
        starts = sorted(draw(st.lists(st.integers(0, 600), max_size=8)))
        found = tuple(
            Event(draw(st.sampled_from("xyz")), t / 10, t / 10 + draw(st.integers(0, 20)) / 10, 0.5, t / 10 + 0.3)
            for t in starts
        )
        made.append(Recording(name, 65.0, spans, found))
    return made


@given(recordings())
def test_bounds_and_order(made: list[Recording]):
    found = summarise(made)
    assert 0 <= found.recognised <= min(found.gestures, found.activations)
    assert 0 <= found.repeats_recognised <= min(found.repeats, found.recognised)
    assert found.repeats <= max(found.gestures - 1, 0)
    assert found.false_per_minute >= 0
    if found.gestures:
        assert found.levenshtein is not None
        assert 1 - max(found.gestures, found.activations + found.gestures) / found.gestures <= found.levenshtein <= 1
        assert 0 <= found.recall <= 1
        assert 0 <= found.mean_jaccard <= 1
    if found.recognised:
        assert found.delay_from_begin >= 0
        assert found.delay_from_begin >= found.delay_from_end
        assert 0 <= found.early_share <= 1
    assert as_numbers(summarise(made[::-1])) == pytest.approx(as_numbers(found), nan_ok=True)
    swapped = dict(zip("xyz", "zxy", strict=True))
    renamed = [
        Recording(
            one.name,
            one.seconds,
            tuple(Span(swapped[s.label], s.begin, s.end) for s in one.truth),
            tuple(Event(swapped[e.label], e.begin, e.end, e.confidence, e.fired) for e in one.found),
        )
        for one in made
    ]
    assert as_numbers(summarise(renamed)) == pytest.approx(as_numbers(found), nan_ok=True)


def as_numbers(summary: StreamSummary) -> list[float]:
    return [np.nan if value is None else float(value) for value in asdict(summary).values()]


@example([(0, 6), (0, 2)], [1, 5])  # one gesture within another: the shorter one is taken first
@given(st.lists(st.tuples(st.integers(0, 20), st.integers(1, 6)), max_size=5), st.lists(st.integers(0, 25), max_size=5))
def test_as_many_are_matched_as_can_be(spans: list[tuple[int, int]], fired: list[int]):
    truth = [Span("x", begin, begin + length) for begin, length in spans]
    found = [event("x", 0, 1, fired=time) for time in fired]

    def most(events: list[Event], free: list[Span]) -> int:
        if not events:
            return 0
        first, *rest = events
        taken = [
            1 + most(rest, free[:i] + free[i + 1 :])
            for i, span in enumerate(free)
            if span.begin <= first.fired <= span.end + 1.0
        ]
        return max(taken, default=0) if taken and max(taken) > most(rest, free) else most(rest, free)

    assert len(match(truth, found)) == most(found, truth)


@given(recordings())
def test_what_is_true_scores_one(made: list[Recording]):
    perfect = [
        Recording(one.name, one.seconds, one.truth, tuple(event(s.label, s.begin, s.end) for s in one.truth))
        for one in made
    ]
    found = summarise(perfect)
    if found.gestures:
        assert (found.levenshtein, found.recall, found.false_per_minute) == (1.0, 1.0, 0.0)
        assert found.mean_jaccard == pytest.approx(1.0)
        assert found.delay_from_begin == 0.0
