"""The loop of live recognition: passes captured frames to the recogniser, and measures rate and latency."""

import statistics
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from dynagest.live.capture import Capture, Frame, Status
from dynagest.stream.events import Event
from dynagest.stream.recogniser import Recogniser, Update
from dynagest.stream.scores import Scores

SPAN = 2.0  # s over which rate and latency are measured
_WAIT = 0.2  # s without a frame after which a look without one is given, so that the display is still updated


@dataclass(frozen=True, slots=True)
class Look:
    """The result of one turn of the loop.

    ``frame`` is ``None`` when none came in time. ``scores`` are the newest ones so far, ``events`` those of this turn.
    ``latency`` is the time in seconds from the capture of this frame to its scores, ``None`` if it brought none.
    ``news`` tells in lines what changed about the source since the look before. ``passed`` frames were passed on since
    then, this one included.
    """

    frame: Frame | None
    scores: Scores | None
    events: tuple[Event, ...]
    latency: float | None
    status: Status
    news: tuple[str, ...] = ()
    passed: int = 1


def recognise(capture: Capture, recogniser: Recogniser) -> Iterator[Look]:
    """Recognise gestures until the source ends, and yield a look for each turn of the loop.

    Frames that wait behind newer ones are passed on as well, but yield a look only if they bring scores (see
    ``Scorer.push``). A gesture that is going on ends when the source ends or is lost. Raises the ``DynagestError`` of
    the source or the network.
    """
    recogniser.reset()
    scores: Scores | None = None
    watching, told, passed = False, Status(), 0
    while True:
        found = capture.oldest(_WAIT)
        status = capture.status
        if found is None:
            over = status.state != "running" and watching
            last = recogniser.finish() if over else Update()
            scores = last.scores[-1] if last.scores else scores
            watching = watching and not over
            yield Look(None, scores, last.events, None, status, news(told, status), passed)
            told, passed = status, 0
            if status.state == "ended":
                return
            continue
        watching = True
        frame, behind = found
        update = recogniser.push(frame.rgb, frame.time, behind)
        passed += 1
        if update.scores:
            scores = update.scores[-1]
        elif behind:
            continue
        latency = time.monotonic() - frame.captured if update.scores else None
        yield Look(frame, scores, update.events, latency, status, news(told, status), passed)
        told, passed = status, 0


def news(before: Status, now: Status) -> tuple[str, ...]:
    """Tell in lines what changed about the source between two statuses."""
    lines = []
    if now.corrupt > before.corrupt:
        more = now.corrupt - before.corrupt
        lines.append(f"left out: {now.fault}" + (f", and {more - 1} more" if more > 1 else ""))
    if now.lost > before.lost:
        lines.append(f"{now.fault}; trying again until it is back")
    if (before.state == "lost" or now.lost > before.lost) and now.state == "running":
        lines.append("the source is back")
    return tuple(lines)


@dataclass
class Meter:
    """Measures rate and latency over the last ``SPAN`` seconds."""

    _frames: deque[tuple[float, int]] = field(default_factory=deque)
    _delays: deque[tuple[float, float]] = field(default_factory=deque)

    def add(self, look: Look) -> None:
        """Count a look."""
        now = time.monotonic()
        if look.frame is not None:
            self._frames.append((now, look.passed))
        if look.latency is not None:
            self._delays.append((now, look.latency))
        while self._frames and now - self._frames[0][0] > SPAN:
            self._frames.popleft()
        while self._delays and now - self._delays[0][0] > SPAN:
            self._delays.popleft()

    @property
    def fps(self) -> float:
        """Frames passed on per second, those that brought no look included; 0 if there were fewer than two looks."""
        if len(self._frames) < 2:
            return 0.0
        passed = sum(count for _, count in self._frames) - self._frames[0][1]  # those before the span are not in it
        return passed / max(self._frames[-1][0] - self._frames[0][0], 1e-9)

    @property
    def latency(self) -> float | None:
        """The median time in seconds from capture to scores; ``None`` if there were no scores."""
        return statistics.median(delay for _, delay in self._delays) if self._delays else None
