"""Frames taken by time: which frame of a stream, of whatever rate, a network sees at each of its ticks. No torch."""

import math
from dataclasses import dataclass
from typing import Self

import numpy as np

from dynagest.card import NetworkCard
from dynagest.errors import ClipError, ModelError, WeightsError

_PATIENCE = 0.25  # s that an answer may wait for its turn
_CLOSE = 1e-6  # s: a frame this little before a tick is at the tick; rounding would make it wait for the next frame


@dataclass(frozen=True, slots=True)
class Tick:
    """The frame for one tick: (H, W, 3) as it was pushed.

    ``time``: of the tick, s. ``first``: a stream begins here, nothing before it counts. ``repeated``: the frame is that
    of the tick before.
    """

    time: float
    frame: np.ndarray
    first: bool = False
    repeated: bool = False


class Clock:
    """Picks a frame for each tick of a stream: tick k is at t0 + k / fps, t0 the time of the first frame.

    Each tick takes the frame nearest to it in time, once a frame at or behind it has come. So what is picked depends on
    the rate and the jitter of the camera by at most half the distance of two frames, and the number of ticks not at
    all. Nothing is rounded on from tick to tick.

    * A **gap** of up to ``longest_gap`` seconds: its ticks take the frame before or behind it, whichever is nearer.
    * A **longer gap** ends the stream: the frame behind it begins another, with ``Tick.first``.
    * A frame **not newer** than the newest one is left out: repeated or overtaken on its way. One that is older by more
      than ``longest_gap`` speaks of another stream or a clock that was set back: ``ClipError``.

    Frames are kept, not copied, until the next one comes.

        >>> clock = Clock(fps=8.0, longest_gap=1.0)
        >>> for frame, time in camera:
        ...     for tick in clock.push(frame, time): ...
    """

    def __init__(self, fps: float, longest_gap: float) -> None:
        assert 0 < fps < math.inf
        self.fps, self.longest_gap = fps, longest_gap
        self.reset()

    @classmethod
    def of(cls, card: NetworkCard, fps: float | None = None) -> Self:
        """The clock of a network: ``card.fps`` unless another rate is given; no gap longer than its T frames.

        Raises ``ModelError`` when the network sees more than RGB, ``WeightsError`` when its card knows no rate.
        """
        if card.inputs != "rgb":
            raise ModelError(
                f"{card.model}: wants {card.inputs} frames; a stream has RGB only, so choose an RGB network"
            )
        fps = fps or card.fps
        if fps is None:
            raise WeightsError(
                f"{card.model}: its card does not say how many frames a second it is to see; give --fps (in Python "
                f"fps=...), its {card.num_segments} frames over the seconds of a typical gesture: "
                f"{card.num_segments} for 1 s, {card.num_segments / 2:g} for 2 s"
            )
        return cls(fps, longest_gap=card.num_segments / fps)

    def late(self, behind: float) -> bool:
        """Whether a frame is late: frames that are ``behind`` seconds newer, more than two ticks, are waiting.

        Until then a machine that was held up for a moment may still make up for it.
        """
        return behind > max(_PATIENCE, 2 / self.fps)

    def reset(self) -> None:
        """Forget everything: the next frame begins a stream."""
        self._newest: tuple[np.ndarray, float] | None = None
        self._picked: np.ndarray | None = None
        self._start, self._next = 0.0, 0

    def push(self, frame: np.ndarray, time: float) -> list[Tick]:
        """One more frame (H, W, 3), taken at ``time`` seconds: the ticks that it decides, none, one or several.

        Raises ``ClipError`` for a time that is no number or far behind the newest one.
        """
        if not math.isfinite(time):
            raise ClipError(f"a frame with the time {time}: give seconds, rising from frame to frame")
        if self._newest is None or time - self._newest[1] > self.longest_gap:
            self._newest, self._picked = (frame, time), frame
            self._start, self._next = time, 1
            return [Tick(time, frame, first=True)]
        older, before = self._newest
        if time <= before:
            if before - time > self.longest_gap:
                raise ClipError(
                    f"a frame at {time:.3f} s came after one at {before:.3f} s: times of a stream must rise; "
                    "reset() before another stream"
                )
            return []
        ticks = []
        while (due := self._start + self._next / self.fps) <= time + _CLOSE:
            nearer = frame if time - due <= due - before else older
            ticks.append(Tick(due, nearer, repeated=nearer is self._picked))
            self._picked = nearer
            self._next += 1
        self._newest = frame, time
        return ticks
