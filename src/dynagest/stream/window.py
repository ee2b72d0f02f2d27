"""Scores streams by sliding windows, with networks that look both ways in time. Needs no torch."""

from collections import deque
from typing import Protocol

import numpy as np

from dynagest.card import NetworkCard
from dynagest.clips.frames import check_frame
from dynagest.predictor import ClipNetwork
from dynagest.runtimes.arrays import softmax
from dynagest.stream.clock import Clock
from dynagest.stream.prepare import prepare_frame
from dynagest.stream.scores import Scores


class SplitNetwork(Protocol):
    """A clip network in two parts: a stem that sees each frame alone, and the rest, which takes the stem's features."""

    @property
    def card(self) -> NetworkCard: ...

    def stem(self, frames: np.ndarray) -> np.ndarray:
        """(F, 3, s, s) float32, normalised as ``card`` says -> features (F, C, h, w) float32."""

    def rest(self, features: np.ndarray) -> np.ndarray:
        """Features of clips (N, T, C, h, w) -> logits (N, K) float32."""


class Unsplit:
    """A ``ClipNetwork`` that cannot be split, as a ``SplitNetwork`` with an empty stem."""

    def __init__(self, network: ClipNetwork) -> None:
        self.card, self._network = network.card, network

    def stem(self, frames: np.ndarray) -> np.ndarray:
        """Return ``frames`` unchanged."""
        return frames

    def rest(self, features: np.ndarray) -> np.ndarray:
        """The logits (N, K) of the whole network for clips (N, T, 3, s, s)."""
        return self._network.logits(features)


class WindowScorer:
    """A ``Scorer`` that gives the scores of the last T frames every ``hop`` ticks, as soon as there are T frames.

    The scores are those of the clip network for these frames. Resizing, normalisation and the stem are computed once
    per frame and kept for the T windows that contain it. ``Scores.time`` is the tick of the newest frame. A window that
    ends at a late frame is left out, but the frame stays in later windows.

    ``fps`` replaces the card's rate. Raises ``WeightsError`` when there is neither, ``ModelError`` for a network that
    is fed depth.
    """

    def __init__(self, network: SplitNetwork, hop: int = 1, fps: float | None = None) -> None:
        assert hop >= 1
        self.network, self.card, self.hop = network, network.card, hop
        self._clock = Clock.of(network.card, fps)
        self._features: deque[np.ndarray] = deque(maxlen=network.card.num_segments)
        self._until_due = 0
        self.left_out = 0

    @property
    def rate(self) -> float:
        """See ``Scorer``."""
        return self._clock.fps / self.hop

    def push(self, frame: np.ndarray, time: float, behind: float = 0.0) -> list[Scores]:
        """See ``Scorer``."""
        check_frame(frame, "a frame of the stream")
        scores = []
        for tick in self._clock.push(frame, time):
            if tick.first:
                self._until_due = self.card.num_segments  # by then no features of the previous stream are left
            if tick.repeated:
                self._features.append(self._features[-1])
            else:
                self._features.append(self.network.stem(prepare_frame(tick.frame, self.card))[0])
            self._until_due -= 1
            if self._until_due == 0:
                self._until_due = self.hop
                if self._clock.late(behind):
                    self.left_out += 1
                    continue
                logits = self.network.rest(np.stack(self._features)[None])
                scores.append(Scores(tick.time, softmax(logits)[0]))
        return scores

    def finish(self) -> list[Scores]:
        """See ``Scorer``. Returns nothing, because no scores wait."""
        self.reset()
        return []

    def reset(self) -> None:
        """Forget all frames. The next one begins a stream."""
        self._clock.reset()
