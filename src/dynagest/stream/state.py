"""Scores frame by frame, for networks that look back only and remember what they saw. Needs no torch."""

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from dynagest.card import NetworkCard
from dynagest.runtimes.arrays import softmax
from dynagest.stream.clock import Clock
from dynagest.stream.prepare import prepare_frame
from dynagest.stream.scores import Scores

State = Mapping[str, Any]
"""Named arrays, in whatever form the network keeps them; nobody else looks into them."""


class StreamNetwork(Protocol):
    """A network that takes one frame and a state (see ``networks/streaming.py`` for what they mean)."""

    @property
    def card(self) -> NetworkCard: ...

    def initial_state(self) -> State:
        """The state before the first frame."""

    def step(self, frame: np.ndarray, state: State) -> tuple[np.ndarray, State]:
        """A frame (1, 3, s, s) float32, normalised as ``card`` says -> logits (1, K) float32 and the new state.

        The state that was given is left as it was.
        """


class StateScorer:
    """Scores at every tick of ``card.fps``, from the first frame on, at the cost of one frame.

    Those of the clip network for the last T frames, or fewer at the start, that remembers what came before them. A
    ``Scores.time`` is the tick of the frame. A late frame is left out: the network sees fewer of them a second. Another
    rate than the card's is ``fps``. Raises ``WeightsError`` where there is neither, ``ModelError`` for a network that
    wants depth.
    """

    def __init__(self, network: StreamNetwork, fps: float | None = None) -> None:
        self.network = network
        self._clock = Clock.of(network.card, fps)
        self._state = network.initial_state()
        self.left_out = 0

    @property
    def card(self) -> NetworkCard:
        """Of the network."""
        return self.network.card

    @property
    def rate(self) -> float:
        """See ``Scorer``."""
        return self._clock.fps

    def push(self, frame: np.ndarray, time: float, behind: float = 0.0) -> list[Scores]:
        """See ``Scorer``. Raises ``ClipError`` as ``Clock.push``."""
        scores = []
        for tick in self._clock.push(frame, time):
            if tick.first:
                self._state = self.network.initial_state()
            elif self._clock.late(behind):
                self.left_out += 1
                continue
            logits, self._state = self.network.step(prepare_frame(tick.frame, self.card), self._state)
            scores.append(Scores(tick.time, softmax(logits)[0]))
        return scores

    def reset(self) -> None:
        """Forget everything: the next frame begins a stream."""
        self._clock.reset()
