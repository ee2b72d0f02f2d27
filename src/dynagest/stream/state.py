"""Scores frame by frame, for networks that look back only and remember what they saw. Needs no torch."""

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from dynagest.card import NetworkCard
from dynagest.runtimes.arrays import fill_up, softmax
from dynagest.stream.clock import Clock
from dynagest.stream.prepare import prepare_frame
from dynagest.stream.scores import Scores

State = Mapping[str, Any]
"""Named arrays, in whatever form the network keeps them; nobody else looks into them."""


class StreamNetwork(Protocol):
    """A network that takes a frame, or a few, and a state (see ``networks/streaming.py`` for what they mean)."""

    @property
    def card(self) -> NetworkCard: ...

    @property
    def frames(self) -> int:
        """How many frames a step takes, F."""

    def initial_state(self) -> State:
        """The state before the first frame."""

    def step(self, frames: np.ndarray, state: State) -> tuple[np.ndarray, State]:
        """Frames (F, 3, s, s) float32, normalised as ``card`` says -> logits (F, K) float32 and the new state.

        The state that was given is left as it was.
        """


class StateScorer:
    """Scores at every tick of ``card.fps``, from the first frame on, at the cost of one frame.

    Those of the clip network for the last T frames, or fewer at the start, that remembers what came before them. A
    ``Scores.time`` is the tick of the frame. A late frame is left out: the network sees fewer of them a second. Where a
    step takes F frames, the first of them wait for the last, or for a gap, or for ``finish``.
    Another rate than the card's is ``fps``. Raises ``WeightsError`` where there is neither, ``ModelError`` for a
    network that wants depth.
    """

    def __init__(self, network: StreamNetwork, fps: float | None = None) -> None:
        self.network, self.card = network, network.card
        self._clock = Clock.of(network.card, fps)
        self._state = network.initial_state()
        self._waiting: list[tuple[float, np.ndarray]] = []
        self.left_out = 0

    @property
    def rate(self) -> float:
        """See ``Scorer``."""
        return self._clock.fps

    def push(self, frame: np.ndarray, time: float, behind: float = 0.0) -> list[Scores]:
        """See ``Scorer``. Raises ``ClipError`` as ``Clock.push``."""
        scores = []
        for tick in self._clock.push(frame, time):
            if tick.first:
                scores += self._answer()
                self._state = self.network.initial_state()
            elif self._clock.late(behind):
                self.left_out += 1
                continue
            self._waiting.append((tick.time, prepare_frame(tick.frame, self.card)))
            if len(self._waiting) == self.network.frames:
                scores += self._answer()
        return scores

    def finish(self) -> list[Scores]:
        """See ``Scorer``."""
        scores = self._answer()
        self.reset()
        return scores

    def reset(self) -> None:
        """Forget everything: the next frame begins a stream."""
        self._clock.reset()
        self._waiting.clear()

    def _answer(self) -> list[Scores]:
        """The scores of the frames that wait, which are at most those of a step."""
        if not self._waiting:
            return []
        times, frames = zip(*self._waiting, strict=True)
        self._waiting.clear()
        logits, self._state = self.network.step(fill_up(np.concatenate(frames), self.network.frames), self._state)
        return [Scores(time, scores) for time, scores in zip(times, softmax(logits), strict=False)]
