"""Live recognition on a machine that is slower than its network: fewer answers, the same ones, and the user is told.

Time is simulated: it goes on when the network computes, or when there is nothing to do.
"""

import re
from collections.abc import Callable

import numpy as np
import pytest

from dynagest.card import NetworkCard
from dynagest.live.capture import Frame, Status
from dynagest.live.loop import Look, recognise
from dynagest.live.pace import Pace
from dynagest.stream.events import EventDetector, EventSettings
from dynagest.stream.recogniser import Recogniser
from dynagest.stream.scores import Scores
from dynagest.stream.state import State, StateScorer
from dynagest.stream.window import WindowScorer

SECONDS, RATE, FPS, T = 30, 30, 8.0, 8
CLASSES = ("none", *"abcdefg")
CARD = NetworkCard(model="simulated", classes=CLASSES, num_segments=T, fps=FPS, size=32)
SCORERS = (WindowScorer, StateScorer)


class Machine:
    """A camera, a network that takes ``cost`` seconds for an answer (the first one ``first``), and their time."""

    card = CARD

    def __init__(self, cost: Callable[[float], float]) -> None:
        self.now, self.taken, self.cost, self.starts = 0.0, 0, cost, 0

    @property
    def status(self) -> Status:
        return Status("ended" if self.taken > SECONDS * RATE else "running", self.taken)

    def oldest(self, timeout: float) -> tuple[Frame, float] | None:
        if self.taken > SECONDS * RATE:
            return None
        time = self.taken / RATE
        self.now = max(self.now, time)
        newest = min(int(self.now * RATE + 1e-6), SECONDS * RATE)
        frame = Frame(np.full((32, 32, 3), self.taken % 251, np.uint8), time, time)
        self.taken += 1
        return frame, newest / RATE - time

    def stem(self, frames: np.ndarray) -> np.ndarray:
        return frames

    def rest(self, features: np.ndarray) -> np.ndarray:
        self.now += self.cost(self.now)
        return features[:, :, 0].mean((2, 3))

    frames = 1

    def initial_state(self) -> State:
        self.starts += 1
        return {}

    def step(self, frame: np.ndarray, state: State) -> tuple[np.ndarray, State]:
        self.now += self.cost(self.now)
        return np.zeros((1, len(CLASSES)), np.float32), {}


def run(
    kind: type[WindowScorer] | type[StateScorer],
    cost: float | Callable[[float], float],
    monkeypatch: pytest.MonkeyPatch,
) -> tuple[Machine, dict[float, Scores], list[float], list[str]]:
    """The machine, its answers by their times, their delays, and what the user was told."""
    machine = Machine(cost if callable(cost) else lambda _: cost)
    monkeypatch.setattr("time.monotonic", lambda: machine.now)
    scorer = kind(machine)  # type: ignore[arg-type]
    pace, answers, delays, told = Pace(scorer), {}, [], []
    recogniser = Recogniser(scorer, EventDetector(CLASSES, EventSettings()))
    for look in recognise(machine, recogniser):  # type: ignore[arg-type]
        if look.latency is not None:
            assert look.scores is not None
            answers[look.scores.time] = look.scores
            delays.append(look.latency)
        if text := pace.add(look):
            told.append(text)
    return machine, answers, delays, told


@pytest.mark.parametrize("kind", SCORERS)
@pytest.mark.parametrize("cost", [0.03, 0.12])
def test_a_machine_that_keeps_up_leaves_nothing_out(
    kind: type[WindowScorer] | type[StateScorer], cost: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, answers, delays, told = run(kind, cost, monkeypatch)
    assert len(answers) == SECONDS * FPS + 1 - (T - 1 if kind is WindowScorer else 0)
    assert max(delays) < 2 * cost
    assert told == []


@pytest.mark.parametrize("kind", SCORERS)
@pytest.mark.parametrize("cost", [0.15, 0.46, 1.2])
def test_a_slow_machine_gives_as_many_answers_as_it_can_and_is_told_once(
    kind: type[WindowScorer] | type[StateScorer], cost: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine, answers, delays, told = run(kind, cost, monkeypatch)
    assert machine.starts == (2 if kind is StateScorer else 0), "made, and begun: never begun again"
    assert len(answers) > 0.9 * (SECONDS - 1) / cost
    assert np.median(delays[len(delays) // 2 :]) < cost + 0.3, "it does not grow"
    (text,) = told
    assert (found := re.match(r"this machine manages (\d\.\d) of the 8\.0 answers a second", text))
    assert float(found[1]) == pytest.approx(1 / cost, abs=0.3)
    assert ("--hop" in text) is (kind is WindowScorer)


def test_a_slow_machine_leaves_out_windows_and_never_a_frame_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    all_answers = run(WindowScorer, 0.0, monkeypatch)[1]
    answers = run(WindowScorer, 0.46, monkeypatch)[1]
    assert 50 < len(answers) < 70
    for time, scores in answers.items():
        assert np.array_equal(scores.scores, all_answers[time].scores)


@pytest.mark.parametrize("kind", SCORERS)
def test_a_moment_of_trouble_is_made_up_for_and_nobody_is_told(
    kind: type[WindowScorer] | type[StateScorer], monkeypatch: pytest.MonkeyPatch
) -> None:
    halts = [1.0, 10.0, 20.0]  # s at which an answer takes 0.2 s, the first one 1.5 s

    def cost(now: float) -> float:
        if halts and now >= halts[0]:
            return 1.5 if halts.pop(0) == 1.0 else 0.2
        return 0.04

    _, answers, _, told = run(kind, cost, monkeypatch)
    assert told == []
    times = [time for time in answers if time > 4]
    assert np.allclose(np.diff(times), 1 / FPS), "none was left out"


def test_what_a_camera_that_was_away_has_not_given_is_not_left_out() -> None:
    class Scorer:
        card, rate, left_out = CARD, FPS, 0

    pace = Pace(Scorer())  # type: ignore[arg-type]
    for time in (0.0, 3.0, 60.0, 120.0):
        frame = Frame(np.zeros((1, 1, 3), np.uint8), time, time)
        assert pace.add(Look(frame, None, (), None, Status())) == ""


@pytest.mark.parametrize(("missed", "told"), [(4, False), (5, True)])
def test_a_tenth_of_the_answers_may_be_missing_and_those_of_the_beginning_do_not_count(missed: int, told: bool) -> None:
    """In five seconds there are forty answers to give."""

    class Scorer:
        card, rate, left_out = CARD, FPS, 0

    scorer = Scorer()
    pace = Pace(scorer)  # type: ignore[arg-type]

    def add(time: float) -> bool:
        return bool(pace.add(Look(Frame(np.zeros((1, 1, 3), np.uint8), time, time), None, (), None, Status())))

    assert not add(0.0)
    scorer.left_out = 12
    assert not add(2.0)
    scorer.left_out += missed
    assert not add(6.9)
    assert add(7.0) is told
