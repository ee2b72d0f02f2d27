"""The event detector: one activation for each gesture, begin and end, twice in a row, any time step."""

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from event_vectors import VECTORS, bumps, cases, run
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from dynagest.card import NetworkCard
from dynagest.errors import ClipError, RunError, WeightsError
from dynagest.run_folder import EVENTS_FILE
from dynagest.stream.events import Event, EventDetector, EventSettings, EventsFile, tuned_settings
from dynagest.stream.recogniser import Recogniser
from dynagest.stream.scores import Scores

CLASSES = ("left", "right", "none")
SHARP = EventSettings(smoothing=0.0, threshold=0.6, dip=0.3, cooldown=0.0, longest=9.0, lag=0.1)


def feed(detector: EventDetector, evidence: list[float], step: float = 0.1, start: float = 0.0) -> list[Event]:
    """Scores in which "left" has this evidence and "none" the rest, one every ``step`` seconds."""
    events = []
    for index, value in enumerate(evidence):
        events += detector.push(Scores(start + index * step, np.array((value, 0.0, 1 - value))))
    return events


def fired(events: list[Event]) -> list[tuple[str, float]]:
    return [(event.label, round(event.fired, 6)) for event in events if event.end is None]


def test_one_gesture_worked_out_by_hand():
    """0.8 at 0.3 s is the first evidence of 0.6; 0.2 at 0.1 s the last of at most 0.6 / 2; 0.6 at 0.6 s the first
    below 1.0 - 0.3, so that 0.5 s was the last that spoke for it. 0.1 s are taken off begin and end."""
    found = feed(EventDetector(CLASSES, SHARP), [0.0, 0.2, 0.5, 0.8, 1.0, 1.0, 0.6, 0.3, 0.0])
    assert [event.label for event in found] == ["left", "left"]
    activation, over = found
    assert activation.begin == pytest.approx(0.0)
    assert (activation.end, activation.confidence) == (None, 0.8)
    assert activation.fired == pytest.approx(0.3)
    assert (over.begin, over.fired, over.confidence) == (activation.begin, activation.fired, 1.0)
    assert over.end == pytest.approx(0.4)


def test_the_scores_are_averaged_with_the_time_constant():
    """After one time constant of evidence 1 the average is 1 - 1/e = 0.632, however many steps that took."""
    slow = SHARP.model_copy(update={"smoothing": 0.2, "threshold": 1 - math.exp(-1) - 1e-6, "dip": 0.1})
    assert fired(feed(EventDetector(CLASSES, slow), [1.0, 1.0], step=0.2)) == [("left", 0.2)]
    assert fired(feed(EventDetector(CLASSES, slow), [1.0] * 5, step=0.05)) == [("left", 0.2)]
    assert fired(feed(EventDetector(CLASSES, slow), [1.0] * 4, step=0.05)) == []


def test_before_the_first_scores_nothing_is_going_on():
    """So a stream that begins in the middle of something takes as long to report it as any other."""
    detector = EventDetector(CLASSES, EventSettings(smoothing=0.15))
    assert detector.push(Scores(7.0, np.array((1.0, 0.0, 0.0)))) == []
    assert fired(detector.push(Scores(7.2, np.array((1.0, 0.0, 0.0))))) == [("left", 7.2)]


@pytest.mark.parametrize(
    ("valley", "count"),
    [
        ([0.4], 2),
        ([0.69], 2),  # peak 1.0 - dip 0.3 = 0.7, and 1.0 is 0.3 above the valley
        ([0.75], 1),  # not below the peak by the dip: the same gesture goes on
    ],
)
def test_the_same_gesture_twice_counts_twice_if_the_evidence_dips(valley: list[float], count: int):
    assert len(fired(feed(EventDetector(CLASSES, SHARP), [0, 1, 1, *valley, 1, 1, 0]))) == count


def test_after_a_dip_the_evidence_must_win_back_as_much():
    detector = EventDetector(CLASSES, SHARP)
    assert fired(feed(detector, [0, 1.0, 0.65, 0.9])) == [("left", 0.1)]  # 0.9 < 0.65 + 0.3
    assert fired(feed(detector, [0.96], start=0.4)) == [("left", 0.4)]


def test_a_cooldown_holds_everything_back_and_a_late_answer_is_still_given():
    classes = ("left", "right", "none")
    detector = EventDetector(classes, SHARP.model_copy(update={"cooldown": 0.45}))
    rows = [(0.0, 0, 0), (0.1, 1, 0), (0.2, 0, 1), (0.3, 0, 1), (0.4, 0, 1), (0.5, 0, 1), (0.6, 0, 1)]
    events = [e for t, a, b in rows for e in detector.push(Scores(t, np.array((a, b, 1.0 - a - b))))]
    assert fired(events) == [("left", 0.1), ("right", 0.6)]


def test_another_gesture_ends_the_one_that_goes_on():
    detector = EventDetector(CLASSES, SHARP.model_copy(update={"dip": 0.6}))
    rows = [(0.0, 0.0, 0.0), (0.1, 0.65, 0.0), (0.2, 0.3, 0.7)]  # 0.3 has not lost 0.6, but right leads
    events = [e for t, a, b in rows for e in detector.push(Scores(t, np.array((a, b, 1 - a - b))))]
    assert [(e.label, e.end is None) for e in events] == [("left", True), ("left", False), ("right", True)]
    assert events[2].begin >= events[1].end


def test_none_must_be_beaten_whatever_the_threshold():
    low = SHARP.model_copy(update={"threshold": 0.2, "dip": 0.1})
    assert fired(feed(EventDetector(CLASSES, low), [0, 0.45, 0.49])) == []
    assert fired(feed(EventDetector(CLASSES, low), [0, 0.45, 0.51])) == [("left", 0.2)]


def test_without_a_class_none_the_lead_over_the_second_decides():
    detector = EventDetector(("a", "b", "c"), SHARP)
    assert detector.push(Scores(0.0, np.array((0.6, 0.4, 0.0)))) == []  # sure of a or b, not of which
    assert detector.push(Scores(0.1, np.array((0.5, 0.5, 0.0)))) == []
    (event,) = detector.push(Scores(0.2, np.array((0.8, 0.1, 0.1))))
    assert (event.label, event.confidence) == ("a", pytest.approx(0.7))


def test_a_gesture_that_never_ends_is_over_after_longest_and_not_reported_again():
    found = feed(EventDetector(CLASSES, SHARP.model_copy(update={"longest": 0.5})), [0.0, *[1.0] * 20])
    assert len(found) == 2
    assert found[1].end == pytest.approx(0.5 - 0.1)


def test_a_gap_ends_a_gesture_where_it_was_last_seen():
    detector = EventDetector(CLASSES, SHARP)
    feed(detector, [0.0, 1.0, 1.0])
    (over,) = detector.push(Scores(60.0, np.array((0.0, 0.0, 1.0))))
    assert over.end == pytest.approx(0.2 - 0.1)


def test_events_of_one_stream_do_not_begin_before_it_or_before_the_last_one_ended():
    lagging = SHARP.model_copy(update={"lag": 5.0})
    found = feed(EventDetector(CLASSES, lagging), [0, 1, 1, 0, 0, 1, 0], start=3.0)
    assert [(event.begin, event.end) for event in found] == [(3.0, None), (3.0, 3.0), (3.0, None), (3.0, 3.0)]


def test_finish_ends_what_is_going_on_and_reset_forgets():
    detector = EventDetector(CLASSES, SHARP)
    assert detector.finish() == []
    feed(detector, [0, 1, 1])
    (over,) = detector.finish()
    assert (over.label, over.end) == ("left", pytest.approx(0.1))
    first = feed(detector, [0, 0.3, 0.9, 0.2])
    detector.reset()
    assert feed(detector, [0, 0.3, 0.9, 0.2]) == first


def test_what_cannot_be_is_refused():
    detector = EventDetector(CLASSES, SHARP)
    detector.push(Scores(1.0, np.array((0.0, 0.0, 1.0))))
    with pytest.raises(ClipError, match=r"0\.500 s came after those at 1\.000 s"):
        detector.push(Scores(0.5, np.array((0.0, 0.0, 1.0))))
    with pytest.raises(WeightsError, match="not finite"):
        detector.push(Scores(2.0, np.array((np.nan, 0.0, 1.0))))
    with pytest.raises(ValidationError, match="make it smaller"):
        EventSettings(threshold=0.4, dip=0.5)


@pytest.mark.parametrize("rate", [10, 15, 24, 30, 60])
def test_the_frame_rate_makes_no_difference(rate: int):
    """Of one course of scores any rate gives the same gestures, and times within two frames of the finest one's."""
    plan = [("left", 1.0, 2.0, 1.0), ("left", 2.1, 3.1, 0.9), ("right", 3.4, 4.6, 0.8)]

    def found(fps: int) -> list[tuple[str, float, float, float]]:
        answers = run(CLASSES, EventSettings(), bumps(CLASSES, plan, np.arange(0, 6, 1 / fps)))
        return [(e["label"], e["begin"], e["end"], e["fired"]) for a in answers for e in a if e["end"] is not None]

    fine, coarse = found(200), found(rate)
    assert [one[0] for one in coarse] == ["left", "left", "right"]
    assert np.abs(np.array([one[1:] for one in coarse]) - np.array([one[1:] for one in fine])).max() < 2 / rate


@settings(max_examples=150)
@given(
    steps=st.lists(st.floats(0.0, 0.6), min_size=1, max_size=60),
    seed=st.integers(0, 2**32 - 1),
    background=st.booleans(),
    chosen=st.builds(
        lambda s, t, d, c, w, g: EventSettings(smoothing=s, threshold=t, dip=d * t, cooldown=c, longest=w, lag=g),
        *(st.floats(0, 0.5), st.floats(0.1, 0.95), st.floats(0.05, 1), st.floats(0, 1), st.floats(0.2, 3)),
        st.floats(0, 1),
    ),
)
def test_whatever_the_scores_events_come_in_order(
    steps: list[float], seed: int, background: bool, chosen: EventSettings
):
    classes = CLASSES if background else ("left", "right", "grab")
    rng = np.random.default_rng(seed)
    times = np.cumsum(steps).tolist()
    rows = rng.dirichlet((0.3, 0.3, 0.3), len(times))
    detector = EventDetector(classes, chosen)
    events = [event for time, row in zip(times, rows, strict=True) for event in detector.push(Scores(time, row))]
    events += detector.finish()
    assert [event.end is None for event in events] == [True, False] * (len(events) // 2)
    starts, ends = events[::2], events[1::2]
    for start, end in zip(starts, ends, strict=True):
        assert (start.label, start.begin, start.fired) == (end.label, end.begin, end.fired)
        assert start.label != "none"
        assert times[0] <= start.begin <= start.fired
        assert end.end is not None
        assert start.begin <= end.end
        assert end.end <= max(start.begin, start.fired + chosen.longest)
        assert 0 < start.confidence <= end.confidence <= 1 + 1e-9
        assert start.confidence >= chosen.threshold
    for one, following in zip(ends, starts[1:], strict=False):
        assert following.begin >= one.end
        assert following.fired - one.fired >= chosen.cooldown


def test_the_table_that_the_web_page_shares_is_current():
    """Written by ``python tests/event_vectors.py``; run it when the algorithm has changed on purpose."""
    stored, fresh = json.loads(VECTORS.read_text()), json.loads(json.dumps(cases()))
    assert [case["name"] for case in stored] == [case["name"] for case in fresh]
    for case, again in zip(stored, fresh, strict=True):
        assert {k: v for k, v in case.items() if k != "events"} == {k: v for k, v in again.items() if k != "events"}
        for events, same in zip(case["events"], again["events"], strict=True):
            assert [event["label"] for event in events] == [event["label"] for event in same]
            for event, other in zip(events, same, strict=True):
                for key in ("begin", "end", "confidence", "fired"):
                    assert event[key] == other[key] or event[key] == pytest.approx(other[key], abs=1e-9)
    assert sum(event["end"] is None for case in stored for events in case["events"] for event in events) > 30


class StandIn:
    """A scorer that reads the score of "left" from the first pixel, every other frame; an odd one waits for the end."""

    card = NetworkCard(model="stand-in", classes=CLASSES)

    def __init__(self) -> None:
        self.count = 0

    def push(self, frame: np.ndarray, time: float, behind: float = 0.0) -> list[Scores]:
        self.count += 1
        value = float(frame[0, 0, 0]) / 255
        self.newest = [Scores(time, np.array((value, 0.0, 1 - value)))]
        return [] if self.count % 2 else self.newest

    def finish(self) -> list[Scores]:
        waiting = self.newest if self.count % 2 else []
        self.reset()
        return waiting

    def reset(self) -> None:
        self.count = 0


def test_the_recogniser_joins_scorer_and_detector():
    recogniser = Recogniser(StandIn(), EventDetector(CLASSES, SHARP))
    frames = [np.full((2, 2, 3), value, np.uint8) for value in (0, 0, 255, 255, 255, 255)]
    updates = [recogniser.push(frame, index / 10) for index, frame in enumerate(frames)]
    assert [len(update.scores) for update in updates] == [0, 1, 0, 1, 0, 1]
    assert [(e.label, e.fired) for update in updates for e in update.events] == [("left", pytest.approx(0.3))]
    (over,) = recogniser.finish().events
    assert over.end == pytest.approx(0.4)
    assert recogniser.scorer.count == 0


def test_after_a_reset_the_recogniser_knows_no_gesture_and_no_time():
    recogniser = Recogniser(StandIn(), EventDetector(CLASSES, SHARP))
    frames = [np.full((2, 2, 3), value, np.uint8) for value in (0, 0, 255, 255)]
    for _ in range(2):
        updates = [recogniser.push(frame, 5 + index / 10) for index, frame in enumerate(frames)]
        assert [(e.label, e.end) for update in updates for e in update.events] == [("left", None)]
        recogniser.reset()
    assert recogniser.finish().events == ()


def test_what_waited_for_the_end_of_a_stream_counts():
    recogniser = Recogniser(StandIn(), EventDetector(CLASSES, SHARP))
    frames = [np.full((2, 2, 3), value, np.uint8) for value in (0, 0, 255)]
    assert not any(recogniser.push(frame, index / 10).events for index, frame in enumerate(frames))
    update = recogniser.finish()
    assert [scores.time for scores in update.scores] == [pytest.approx(0.2)]
    begun, over = update.events
    assert (begun.label, begun.end, over.label) == ("left", None, "left")
    assert over.end is not None


@pytest.mark.parametrize("shape", [(2,), (4,), (1, 3)])
def test_scores_of_another_network_are_refused(shape: tuple[int, ...]):
    with pytest.raises(WeightsError, match=r"for 3 classes: of another network; give the detector the classes"):
        EventDetector(CLASSES, SHARP).push(Scores(0.0, np.zeros(shape)))


def test_settings_live_beside_the_network(tmp_path: Path):
    assert tuned_settings(tmp_path) is None
    written = EventsFile(settings=SHARP, tuned={"data": "streams"}).write(tmp_path)
    assert written == tmp_path / EVENTS_FILE
    assert EventsFile.read(tmp_path) == EventsFile(settings=SHARP, tuned={"data": "streams"})
    assert tuned_settings(tmp_path / "network.safetensors") == SHARP
    written.write_text(written.read_text().replace('"lag"', '"leg"'))
    with pytest.raises(RunError, match="not an events file"):
        tuned_settings(tmp_path)


def test_streams_need_neither_torch_nor_what_the_report_is_made_with():
    modules = ("events", "recogniser", "metrics", "scored", "tune")
    blocked = "; ".join(f"sys.modules['{name}'] = None" for name in ("torch", "jinja2", "markupsafe", "matplotlib"))
    imports = "; ".join(f"import dynagest.stream.{name}" for name in modules)
    code = f"import sys; {blocked}; {imports}; import dynagest.testing.stream_evaluation"
    subprocess.run([sys.executable, "-c", code], check=True)
