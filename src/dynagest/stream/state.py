"""Scores streams frame by frame, with networks that keep a state. Needs no torch."""

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from dynagest.card import NetworkCard
from dynagest.clips.frames import check_frame
from dynagest.runtimes.arrays import fill_up, softmax
from dynagest.stream.clock import Clock
from dynagest.stream.prepare import prepare_frame
from dynagest.stream.scores import Scores

State = Mapping[str, Any]
"""Named arrays or tensors, in a form that only the network knows."""


class StreamNetwork(Protocol):
    """A network that takes the next frame, or several, and a state (see ``networks/streaming.py``)."""

    @property
    def card(self) -> NetworkCard: ...

    @property
    def frames(self) -> int:
        """F, the number of frames that a step takes."""

    def initial_state(self) -> State:
        """The state before the first frame."""

    def step(self, frames: np.ndarray, state: State) -> tuple[np.ndarray, State]:
        """Frames (F, 3, s, s) float32, normalised as ``card`` says -> logits (F, K) float32 and the new state.

        ``state`` itself is not modified.
        """


class StateScorer:
    """A ``Scorer`` that gives scores at every tick, from the first frame on, for one step of its network.

    The scores are those of the clip network for the last T frames. Until there are T, an online network has fewer, and
    a window is filled up with the first. An online network also remembers what came before. ``Scores.time`` is the tick
    of the frame. The network does not see a late frame, unless it begins a stream. When a step takes F frames, the
    first of them wait for the last, for a gap that ends the stream, or for ``finish``.

    ``fps`` replaces the card's rate. Raises ``WeightsError`` when there is neither, ``ModelError`` for a network that
    is fed depth.
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
        """See ``Scorer``."""
        check_frame(frame, "a frame of the stream")
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
        """Forget all frames. The next one begins a stream."""
        self._clock.reset()
        self._waiting.clear()

    def _answer(self) -> list[Scores]:
        """The scores of the waiting frames, of which there are at most F."""
        if not self._waiting:
            return []
        times, frames = zip(*self._waiting, strict=True)
        self._waiting.clear()
        logits, self._state = self.network.step(fill_up(np.concatenate(frames), self.network.frames), self._state)
        return [Scores(time, scores) for time, scores in zip(times, softmax(logits), strict=False)]
