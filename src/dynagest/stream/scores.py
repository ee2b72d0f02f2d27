"""The interface of a scorer, which turns timed frames into scores of all classes over time. Needs no torch."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from dynagest.card import NetworkCard


@dataclass(frozen=True, slots=True)
class Scores:
    """Scores (K,) in [0, 1] that sum to 1, in the order of the card's classes.

    ``time``, in seconds, is the tick of the newest frame that they come from (see ``clock.py``). So times rise
    strictly, and in equal steps within a stream unless scores are left out.
    """

    time: float
    scores: np.ndarray


class Scorer(Protocol):
    """Turns timed frames into scores. It picks frames by their time, at the network's rate, never by their count."""

    @property
    def card(self) -> NetworkCard: ...

    @property
    def rate(self) -> float:
        """Scores per second when none is left out."""

    @property
    def left_out(self) -> int:
        """The number of scores so far that were not computed, because they would have come too late."""

    def push(self, frame: np.ndarray, time: float, behind: float = 0.0) -> list[Scores]:
        """Take the next frame, a uint8 RGB array (H, W, 3), taken at ``time`` seconds. Returns its scores, if any.

        Frames up to ``behind`` seconds newer are waiting. If that is too much (``Clock.late``), this frame's scores are
        left out, so that a slow machine gives fewer scores instead of later and later ones.

        Raises ``ClipError`` when this is no frame, which then counts as not taken, and as ``Clock.push`` does.
        """

    def finish(self) -> list[Scores]:
        """End the stream. Returns the scores that were waiting for more frames. The next frame begins a stream."""

    def reset(self) -> None:
        """Forget all frames. The next one begins a stream."""
