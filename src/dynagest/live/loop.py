"""The loop of live recognition: frames to the recogniser as they come, and how long the answer took."""

import statistics
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from dynagest.live.capture import Capture, Frame, Status
from dynagest.stream.events import Event
from dynagest.stream.recogniser import Recogniser, Update
from dynagest.stream.scores import Scores

SPAN = 2.0  # s over which rate and delay are averaged
_WAIT = 0.2  # s after which a look without a frame is given, so that a display stays alive


@dataclass(frozen=True, slots=True)
class Look:
    """What one turn of the loop brought.

    ``frame`` is ``None`` where none came in time; ``scores`` are the newest ones, ``events`` those of this turn.
    ``latency``: seconds from the capture of this frame to its answer; ``None`` if it brought no scores. ``news``: what
    changed about the source since the look before, in lines.
    """

    frame: Frame | None
    scores: Scores | None
    events: tuple[Event, ...]
    latency: float | None
    status: Status
    news: tuple[str, ...] = ()


def recognise(capture: Capture, recogniser: Recogniser) -> Iterator[Look]:
    """Looks until the source has ended; the last one brings the end of the gesture that was going on.

    Frames that a newer one has overtaken are recognised as well (see ``Scorer.push``), but bring a look only with an
    answer. A source that is lost ends the gesture that was going on. Raises ``DynagestError`` as the source and the
    network do.
    """
    recogniser.reset()
    scores: Scores | None = None
    watching, told = False, Status()
    while True:
        found = capture.oldest(_WAIT)
        status = capture.status
        if found is None:
            over = status.state != "running" and watching
            last = recogniser.finish() if over else Update()
            scores = last.scores[-1] if last.scores else scores
            watching = watching and not over
            yield Look(None, scores, last.events, None, status, news(told, status))
            told = status
            if status.state == "ended":
                return
            continue
        watching = True
        frame, behind = found
        update = recogniser.push(frame.rgb, frame.time, behind)
        if update.scores:
            scores = update.scores[-1]
        elif behind:
            continue
        latency = time.monotonic() - frame.captured if update.scores else None
        yield Look(frame, scores, update.events, latency, status, news(told, status))
        told = status


def news(before: Status, now: Status) -> tuple[str, ...]:
    """What changed about the source, in lines."""
    lines = []
    if now.corrupt > before.corrupt:
        more = now.corrupt - before.corrupt
        lines.append(f"left out: {now.fault}" + (f", and {more - 1} more" if more > 1 else ""))
    if now.lost > before.lost:
        lines.append(f"{now.fault}; trying again until it is back")
    if before.state == "lost" and now.state == "running":
        lines.append("the source is back")
    return tuple(lines)


@dataclass
class Meter:
    """Rate and delay of the last ``SPAN`` seconds."""

    _frames: deque[float] = field(default_factory=deque)
    _delays: deque[tuple[float, float]] = field(default_factory=deque)

    def add(self, look: Look) -> None:
        """Count a look."""
        now = time.monotonic()
        if look.frame is not None:
            self._frames.append(now)
        if look.latency is not None:
            self._delays.append((now, look.latency))
        while self._frames and now - self._frames[0] > SPAN:
            self._frames.popleft()
        while self._delays and now - self._delays[0][0] > SPAN:
            self._delays.popleft()

    @property
    def fps(self) -> float:
        """Frames looked at in a second; 0 for fewer than two."""
        if len(self._frames) < 2:
            return 0.0
        return (len(self._frames) - 1) / max(self._frames[-1] - self._frames[0], 1e-9)

    @property
    def latency(self) -> float | None:
        """Median seconds from capture to answer."""
        return statistics.median(delay for _, delay in self._delays) if self._delays else None
