"""Samples a stream of any frame rate at the ticks of a network, by time and not by frame count. Needs no torch."""

import math
from dataclasses import dataclass
from typing import Self

import numpy as np

from dynagest.card import FASTEST, NetworkCard
from dynagest.errors import ClipError, ModelError, RecipeError, WeightsError

_PATIENCE = 0.25  # s: a frame is never late while the newest waiting frame is at most this much newer
_CLOSE = 1e-6  # s: a frame this little before a tick counts as at the tick; rounding could delay the tick by a frame


@dataclass(frozen=True, slots=True)
class Tick:
    """The frame for one tick: (H, W, 3), as it was pushed.

    ``time`` is the tick's time in seconds. ``first``: a stream begins here, so nothing from before may be used.
    ``repeated``: the frame is the same as the previous tick's.
    """

    time: float
    frame: np.ndarray
    first: bool = False
    repeated: bool = False


class Clock:
    """Picks a frame for each tick of a stream: tick k is at t0 + k / fps, where t0 is the time of the first frame.

    Each tick takes the frame nearest to it in time, as soon as a frame at or after the tick has come. So a picked frame
    is at most half a frame interval away from its tick, and the number of ticks does not depend on the camera's rate or
    jitter. Rounding errors do not add up from tick to tick.

    * In a **gap** of up to ``longest_gap`` seconds, each tick takes the frame before or after it, whichever is nearer.
    * A **longer gap** ends the stream: the frame after it begins another, with ``Tick.first``.
    * A frame **not newer** than the newest one is ignored: it was repeated, or overtaken on its way. A frame older by
      more than ``longest_gap`` means another stream or a clock that was set back, and raises ``ClipError``.

    Frames are copied, so a camera loop may read each frame into the same array.

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
        """The clock of a network: at ``fps`` (default: ``card.fps``), with the time of T frames as the longest gap.

        Raises ``ModelError`` when the network is fed depth, ``WeightsError`` when neither ``fps`` nor the card has a
        rate, and ``RecipeError`` for an ``fps`` that is no rate.
        """
        if card.inputs != "rgb":
            raise ModelError(
                f"{card.model}: wants {card.inputs} frames; a stream has RGB only, so choose an RGB network"
            )
        fps = card.fps if fps is None else fps
        if fps is None:
            raise WeightsError(
                f"{card.model}: its card does not say how many frames a second it is to see; give --fps (in Python "
                f"fps=...), its {card.num_segments} frames over the seconds of a typical gesture: "
                f"{card.num_segments} for 1 s, {card.num_segments / 2:g} for 2 s"
            )
        if not 0 < fps <= FASTEST:
            raise RecipeError(f"fps={fps:g}: is no frame rate; give more than 0, at most {FASTEST:g} frames a second")
        return cls(fps, longest_gap=card.num_segments / fps)

    def late(self, behind: float) -> bool:
        """Whether a frame is late: the newest waiting one is ``behind`` seconds newer, more than two ticks and 0.25 s.

        A machine that was held up for less may still catch up.
        """
        return behind > max(_PATIENCE, 2 / self.fps)

    def reset(self) -> None:
        """Forget all frames. The next one begins a stream."""
        self._newest: tuple[np.ndarray, float] | None = None
        self._picked: np.ndarray | None = None
        self._start, self._next = 0.0, 0

    def push(self, frame: np.ndarray, time: float) -> list[Tick]:
        """Take the next frame (H, W, 3), taken at ``time`` seconds. Returns the ticks that it decides, often none.

        Raises ``ClipError`` for a time that is not finite, or more than ``longest_gap`` before the newest one.
        """
        if not math.isfinite(time):
            raise ClipError(f"a frame with the time {time}: give seconds, rising from frame to frame")
        if self._newest is None or time - self._newest[1] > self.longest_gap:
            frame = np.array(frame)
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
        frame = np.array(frame)
        ticks = []
        while (due := self._start + self._next / self.fps) <= time + _CLOSE:
            nearer = frame if time - due <= due - before else older
            ticks.append(Tick(due, nearer, repeated=nearer is self._picked))
            self._picked = nearer
            self._next += 1
        self._newest = frame, time
        return ticks
