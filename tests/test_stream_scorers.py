import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from network_helpers import trained

from dynagest.card import NetworkCard
from dynagest.errors import ClipError, ModelError
from dynagest.networks.build import create_model
from dynagest.networks.weights import save_network
from dynagest.predictor import Predictor, softmax
from dynagest.runtimes.torch_network import TorchNetwork, TorchSplit, TorchStream
from dynagest.stream.load import load_scorer, make_scorer
from dynagest.stream.prepare import prepare_frame
from dynagest.stream.scores import Scores
from dynagest.stream.state import State, StateScorer
from dynagest.stream.window import Unsplit, WindowScorer

T, SIZE, FPS = 4, 32, 4.0
CARD = NetworkCard(model="tsm_resnet18", classes=("a", "b", "c"), num_segments=T, fps=FPS, size=SIZE, width=8)
ONLINE = CARD.model_copy(update={"options": {"online": True}})


def scene(time: float, size: tuple[int, int] = (40, 60)) -> np.ndarray:
    """What a camera sees at ``time``: a light that moves and changes its colour, in noise that is always the same."""
    y, x = np.mgrid[: size[0], : size[1]]
    glow = np.exp(-((x - 30 - 15 * np.sin(time)) ** 2 + (y - 20 - 8 * np.cos(1.3 * time)) ** 2) / 60)[..., None]
    colour = 0.5 + 0.5 * np.cos(time * np.array([0.7, 1.1, 1.9]))
    noise = np.random.default_rng(0).uniform(0, 60, (*size, 1))
    return (noise + 180 * glow * colour).astype(np.uint8)


def watch(scorer: WindowScorer | StateScorer, rate: float, seconds: float = 3.0) -> list[Scores]:
    count = round(seconds * rate)
    return [scores for i in range(count + 1) for scores in scorer.push(scene(i / rate), i / rate)]


def network(card: NetworkCard):  # type: ignore[no-untyped-def]
    net = trained(card.model, 3, T, width=8, options=card.options)
    torch.nn.init.normal_(net.classifier.weight, std=0.1)
    return net


class Brightness:
    """A ``SplitNetwork`` whose logits are the mean brightness of each frame of a window: it shows what it was given."""

    card = CARD.model_copy(update={"classes": ("0", "1", "2", "3")})

    def __init__(self) -> None:
        self.stems = self.rests = 0

    def stem(self, frames: np.ndarray) -> np.ndarray:
        self.stems += len(frames)
        return frames.mean((2, 3), keepdims=True)

    def rest(self, features: np.ndarray) -> np.ndarray:
        self.rests += len(features)
        return features.mean((2, 3, 4))


class Sum:
    """A ``StreamNetwork`` that adds up brightness, and how many steps it took."""

    card = CARD

    def __init__(self, frames: int = 1) -> None:
        self.frames, self.steps = frames, 0

    def initial_state(self) -> State:
        return {"sum": np.zeros((1, 3), np.float32)}

    def step(self, frames: np.ndarray, state: State) -> tuple[np.ndarray, State]:
        assert len(frames) == self.frames
        self.steps += 1
        totals = state["sum"] + np.cumsum([[frame.mean(), 0, 0] for frame in frames], axis=0, dtype=np.float32)
        return totals, {"sum": totals[-1:]}


def grey(value: int) -> np.ndarray:
    return np.full((40, 60, 3), value, np.uint8)


def normalised(value: int) -> float:
    return float(np.mean((value / 255 - np.array(CARD.mean)) / np.array(CARD.std)))


def test_a_frame_is_prepared_as_the_predictor_does_it() -> None:
    seen = []

    class Network:
        card = CARD

        def logits(self, clips: np.ndarray) -> np.ndarray:
            seen.append(clips)
            return np.zeros((1, 3), np.float32)

    for size in ((40, 60), (61, 47), (480, 640), (20, 24)):
        frames = [scene(time, size) for time in range(T)]
        Predictor(Network()).predict(frames)
        assert np.array_equal(seen.pop(), np.stack([prepare_frame(frame, CARD) for frame in frames], axis=1))


def test_the_first_scores_come_with_t_frames_and_then_every_hop_ticks() -> None:
    network = Brightness()
    scorer = WindowScorer(network, hop=2)
    values = range(0, 200, 20)
    answers = [scores for i, value in enumerate(values) for scores in scorer.push(grey(value), i / FPS)]
    assert [scores.time for scores in answers] == [0.75, 1.25, 1.75, 2.25]
    for scores, last in zip(answers, (3, 5, 7, 9), strict=True):
        window = np.array([[normalised(values[i]) for i in range(last - 3, last + 1)]])
        assert np.allclose(scores.scores, softmax(window)[0], atol=1e-6)
        assert scores.scores.sum() == pytest.approx(1)
    assert (network.stems, network.rests) == (10, 4)


def test_frames_between_ticks_cost_nothing_and_repeated_ones_no_stem() -> None:
    network = Brightness()
    watch(WindowScorer(network), rate=40.0, seconds=2.0)
    assert (network.stems, network.rests) == (9, 6)
    slow = Brightness()
    scorer = WindowScorer(slow)
    for i in range(5):
        scorer.push(grey(50 * i), i / 2)
    assert (slow.stems, slow.rests) == (5, 6)


def test_after_a_long_gap_a_window_holds_only_what_came_after_it() -> None:
    scorer = WindowScorer(Brightness())
    for i in range(6):
        scorer.push(grey(250), i / FPS)
    later = [scorer.push(grey(10 * i), 100 + i / FPS) for i in range(4)]
    assert [len(scores) for scores in later] == [0, 0, 0, 1]
    assert np.allclose(later[3][0].scores, softmax(np.array([[normalised(10 * i) for i in range(4)]]))[0], atol=1e-6)


def test_several_frames_at_once_are_scored_as_one_by_one_and_a_gap_ends_their_waiting() -> None:
    times = [i / FPS for i in range(5)] + [100 + i / FPS for i in range(4)]
    answers = {}
    for frames in (1, 2, 3):
        network = Sum(frames)
        scorer = StateScorer(network)
        by_push = [scorer.push(grey(20 * i), time) for i, time in enumerate(times)]
        answers[frames] = [scores for each in by_push for scores in each]
        assert [len(each) for each in by_push] == {
            1: [1, 1, 1, 1, 1, 1, 1, 1, 1],
            2: [0, 2, 0, 2, 0, 1, 2, 0, 2],
            3: [0, 0, 3, 0, 0, 2, 0, 3, 0],
        }[frames]
        assert network.steps == {1: 9, 2: 5, 3: 3}[frames]
    for frames in (2, 3):
        for one, several in zip(answers[1], answers[frames], strict=False):
            assert one.time == several.time
            assert np.allclose(one.scores, several.scores)
    scorer.reset()
    assert [len(scorer.push(grey(20), i / FPS)) for i in range(4)] == [0, 0, 3, 0]
    assert [scores.time for scores in scorer.finish()] == [3 / FPS]
    assert scorer.finish() == []


def test_after_a_long_gap_or_a_reset_the_state_begins_anew() -> None:
    scorer = StateScorer(Sum())
    first = [scorer.push(grey(200), i / FPS)[0].scores for i in range(3)]
    assert not np.allclose(first[0], first[2])
    assert np.allclose(scorer.push(grey(200), 50.0)[0].scores, first[0])
    scorer.reset()
    again = scorer.push(grey(200), 0.0)[0]
    assert np.allclose(again.scores, first[0])
    assert again.time == 0.0


def test_after_the_end_of_a_stream_the_next_frame_begins_another() -> None:
    """Even one that comes at once, as from a camera that is back before a gap would have ended the stream."""
    states, windows = StateScorer(Sum()), WindowScorer(Brightness())
    first = [states.push(grey(200), i / FPS)[0].scores for i in range(T)]
    for i in range(T):
        windows.push(grey(250), i / FPS)
    assert states.finish() == windows.finish() == []
    again = [states.push(grey(200), (T + i) / FPS)[0].scores for i in range(T)]
    assert np.allclose(again, first)
    assert [len(windows.push(grey(10 * i), (T + i) / FPS)) for i in range(T)] == [0, 0, 0, 1]


def test_a_state_steps_once_for_each_tick_however_many_frames_come() -> None:
    fast, slow = Sum(), Sum()
    watch(StateScorer(fast), rate=36.0)
    watch(StateScorer(slow), rate=2.0)
    assert fast.steps == slow.steps == 13


@pytest.mark.parametrize("model", ["tsm_resnet18", "action_resnet18", "tea_res2net50"])
def test_window_scores_are_those_of_the_clip_network(model: str) -> None:
    card = CARD.model_copy(update={"model": model})
    net = network(card)
    scorer = WindowScorer(TorchSplit(net, card))
    answers = watch(scorer, rate=FPS)
    assert len(answers) == 13 - T + 1
    clips = TorchNetwork(net, card)
    for last, scores in enumerate(answers, start=T - 1):
        clip = np.stack([prepare_frame(scene(i / FPS), card)[0] for i in range(last - T + 1, last + 1)])
        assert np.allclose(scores.scores, softmax(clips.logits(clip[None]))[0], atol=1e-5)
    unsplit = watch(WindowScorer(Unsplit(clips)), rate=FPS)
    assert all(np.allclose(a.scores, b.scores, atol=1e-5) for a, b in zip(answers, unsplit, strict=True))
    assert not np.allclose(answers[0].scores, answers[-1].scores, atol=1e-2)


def test_a_window_over_a_clip_gives_what_the_predictor_gives() -> None:
    net = network(CARD)
    frames = [scene(i / FPS) for i in range(T)]
    expected = Predictor(TorchNetwork(net, CARD)).predict(frames)
    scorer = make_scorer(net, CARD)
    answers = [scores for i, frame in enumerate(frames) for scores in scorer.push(frame, i / FPS)]
    assert np.allclose(answers[-1].scores, expected.scores, atol=1e-5)


@pytest.mark.parametrize("model", ["tsm_resnet18", "action_resnet18"])
def test_the_state_gives_what_the_clip_network_gives_for_the_frames_so_far(model: str) -> None:
    card = ONLINE.model_copy(update={"model": model})
    net = network(card)
    scorer = StateScorer(TorchStream(net, card))
    clips = TorchNetwork(net, card)
    for last in range(T):
        (scores,) = scorer.push(scene(last / FPS), last / FPS)
        clip = np.stack([prepare_frame(scene(i / FPS), card)[0] for i in range(last + 1)])
        assert np.allclose(scores.scores, softmax(clips.logits(clip[None]))[0], atol=1e-5)


@pytest.mark.parametrize("card", [CARD, ONLINE])
def test_a_camera_at_half_the_rate_gives_the_same_answer(card: NetworkCard) -> None:
    net = network(card)
    answers = {rate: watch(make_scorer(net, card), rate) for rate in (8.0, 16.0, 32.0, 30.0, 15.0)}
    for rate, scores in answers.items():
        assert [one.time for one in scores] == pytest.approx([one.time for one in answers[32.0]])
        # Where a frame falls on every tick there is no difference at all.
        tolerance = 1e-6 if rate % FPS == 0 else 0.02
        for one, other in zip(scores, answers[32.0], strict=True):
            assert np.allclose(one.scores, other.scores, atol=tolerance)


def test_a_saved_network_gets_the_scorer_that_suits_it(tmp_path) -> None:  # type: ignore[no-untyped-def]
    for card, kind in ((CARD, WindowScorer), (ONLINE, StateScorer)):
        save_network(tmp_path, network(card), card)
        scorer = load_scorer(tmp_path)
        assert isinstance(scorer, kind)
        assert scorer.card == card


def test_networks_that_cannot_run_are_refused() -> None:
    with pytest.raises(ModelError, match="no 2D network"):
        TorchStream(create_model("c3d", 3, 16, size=32), CARD)
    depth = CARD.model_copy(update={"options": {"inputs": "depth"}})
    with pytest.raises(ModelError, match="depth"):
        make_scorer(create_model("tsm_resnet18", 3, T, width=8, options=depth.options), depth)


@pytest.mark.parametrize("frame", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32), "frame.png"])
def test_a_frame_of_another_kind_is_refused(frame: object) -> None:
    with pytest.raises(ClipError, match="uint8"):
        WindowScorer(Brightness()).push(frame, 0.0)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", [WindowScorer, StateScorer])
def test_a_frame_that_is_refused_counts_as_not_taken(kind: Callable[[Any], WindowScorer | StateScorer]) -> None:
    def new() -> WindowScorer | StateScorer:
        return kind(Sum() if kind is StateScorer else Brightness())

    disturbed, undisturbed, answers = new(), new(), 0
    for index in range(24):  # the refused ones would be a stream's first frame, and the nearest to many ticks
        with pytest.raises(ClipError, match="uint8"):
            disturbed.push(np.zeros((4, 4, 3), np.float32), 0.4 * index)
        time = 0.4 * index + 0.3
        given, wanted = (scorer.push(grey(10 * index), time) for scorer in (disturbed, undisturbed))
        assert [each.time for each in given] == [each.time for each in wanted]
        assert all(np.array_equal(a.scores, b.scores) for a, b in zip(given, wanted, strict=True))
        answers += len(given)
    assert answers > 20


def test_scoring_needs_no_torch() -> None:
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "import dynagest.stream.window, dynagest.stream.state, dynagest.stream.load, dynagest.clips.rate"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
