"""What a scorer is: timed frames in, scores of all classes over time out. Needs no torch."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from dynagest.card import NetworkCard


@dataclass(frozen=True, slots=True)
class Scores:
    """Scores (K,) in [0, 1] that sum to 1, in the order of the card's classes; ``time`` in seconds is that of the
    newest frame that they come from: of its tick, so that times rise strictly and evenly (see ``clock.py``)."""

    time: float
    scores: np.ndarray


class Scorer(Protocol):
    """Turns timed frames into scores. Frames are taken by time (``card.fps``), never by count."""

    @property
    def card(self) -> NetworkCard: ...

    @property
    def rate(self) -> float:
        """How many scores a second it is to give."""

    @property
    def left_out(self) -> int:
        """How many it has not given, because they would have come too late."""

    def push(self, frame: np.ndarray, time: float, behind: float = 0.0) -> list[Scores]:
        """One more frame, uint8 RGB (H, W, 3), taken at ``time`` seconds: no scores, one or several.

        Frames up to ``behind`` seconds newer are waiting; where that is much (``Clock.late``), the scores of this one
        are left out, so that a slow machine gives fewer of them, and not ever later ones.
        """

    def finish(self) -> list[Scores]:
        """The stream is over: the scores that waited for more frames. The next frame begins another."""

    def reset(self) -> None:
        """Forget everything: the next frame begins a stream."""
