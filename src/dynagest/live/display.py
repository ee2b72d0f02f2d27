"""Shows live recognition: as a panel in a terminal, as lines of text, or as JSON."""

import json
import threading
import time
from collections import deque
from typing import Protocol

import numpy as np
from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from dynagest.live.actions import payload
from dynagest.live.capture import Status
from dynagest.live.loop import Look, Meter
from dynagest.stream.events import Event
from dynagest.stream.scores import Scores

_REFRESH = 0.1  # s
_EVENTS, _MESSAGES = 6, 4


class Display(Protocol):
    """Shows looks as they come. ``closed``: the user wants to end. ``say`` may be called from any thread."""

    @property
    def closed(self) -> bool: ...

    def show(self, look: Look, meter: Meter) -> None:
        """Show the next look."""

    def say(self, text: str, failed: bool) -> None:
        """Show a line from an action, or one about a failure."""

    def close(self) -> None:
        """End the display."""


def numbers(meter: Meter, status: Status) -> str:
    """The rate, the latency and the losses in a line: ``29.8 frames/s · 24 ms from camera to answer · 3 dropped``."""
    parts = [f"{meter.fps:.1f} frames/s"]
    if meter.latency is not None:
        parts.append(f"{meter.latency * 1000:.0f} ms from camera to answer")
    parts += [f"{status.dropped} dropped"] if status.dropped else []
    parts += [f"{status.corrupt} corrupt"] if status.corrupt else []
    parts += [f"lost {status.lost} times" if status.lost > 1 else "lost once"] if status.lost else []
    return " · ".join(parts)


def trouble(status: Status) -> str:
    """The fault of a source that is lost, or an empty text."""
    return f"{status.fault}; trying again" if status.state == "lost" else ""


class Lines:
    """Prints a line for each report of a gesture and each message; for logs and pipes."""

    closed = False

    def __init__(self) -> None:
        self._console = Console(highlight=False, soft_wrap=True, emoji=False)

    def show(self, look: Look, meter: Meter) -> None:
        """See ``Display``."""
        for event in look.events:
            self._console.print(told(event), markup=False)
        for text in look.news:
            self.say(text, True)

    def say(self, text: str, failed: bool) -> None:
        """See ``Display``."""
        self._console.print(text, markup=False, style="red" if failed else None)

    def close(self) -> None:
        """See ``Display``."""


class Json:
    """Prints one JSON object per line, ``{"type": "event" | "message" | "status", ...}``; for programs."""

    closed = False

    def show(self, look: Look, meter: Meter) -> None:
        """See ``Display``."""
        latency = None if look.latency is None else round(look.latency, 4)
        for event in look.events:
            self._print({"type": "event", **payload(event), "latency": latency})
        for text in look.news:
            self._print({"type": "status", "state": look.status.state, "text": text})

    def say(self, text: str, failed: bool) -> None:
        """See ``Display``."""
        self._print({"type": "message", "text": text, "failed": failed})

    def close(self) -> None:
        """See ``Display``."""

    def _print(self, line: dict[str, object]) -> None:
        print(json.dumps(line), flush=True)


class Terminal:
    """A redrawn panel: the best class and its score, gestures recognised, messages, rate, latency and losses."""

    closed = False

    def __init__(self, title: str, classes: tuple[str, ...], console: Console | None = None) -> None:
        self._title, self._classes = title, classes
        self._events: deque[Event] = deque(maxlen=_EVENTS)
        self._messages: deque[tuple[str, bool]] = deque(maxlen=_MESSAGES)
        self._lock = threading.Lock()  # for the messages, which come from any thread
        self._drawn = 0.0
        self._live = Live(console=console or Console(), auto_refresh=False)
        self._live.start()

    def show(self, look: Look, meter: Meter) -> None:
        """See ``Display``."""
        for event in look.events:
            self._add(event)
        for text in look.news:
            self.say(text, True)
        now = time.monotonic()
        if now - self._drawn >= _REFRESH or look.status.state == "ended":
            self._drawn = now
            self._live.update(self._draw(look, meter), refresh=True)

    def say(self, text: str, failed: bool) -> None:
        """See ``Display``."""
        with self._lock:
            self._messages.append((text, failed))

    def close(self) -> None:
        """See ``Display``."""
        self._live.stop()

    def _add(self, event: Event) -> None:
        if event.end is not None and self._events and self._events[-1].fired == event.fired:
            self._events.pop()
        self._events.append(event)

    def _draw(self, look: Look, meter: Meter) -> Panel:
        name, score = ("waiting", 0.0) if look.scores is None else best(look.scores, self._classes)
        head = Table.grid(padding=(0, 1), expand=True)
        head.add_column(ratio=2, no_wrap=True)
        head.add_column(ratio=3)
        head.add_column(width=4, justify="right")
        head.add_row(Text(name, style="bold"), ProgressBar(total=1.0, completed=score), f"{score:.0%}" if score else "")
        below = "recognised, newest first:" if self._events else "nothing recognised yet"
        rows: list[Table | Text] = [head, Text(), Text(below, style="dim")]
        rows += [Text(told(event), style="green" if event.end is None else "") for event in reversed(self._events)]
        rows += [Text()] * (1 + _EVENTS - len(self._events))
        with self._lock:
            messages = tuple(self._messages)
        rows += [Text(text, style="red" if failed else "cyan") for text, failed in messages]
        fault = trouble(look.status)
        rows.append(Text(fault, style="bold red") if fault else Text(numbers(meter, look.status), style="dim"))
        return Panel(Group(*rows), title=Text(self._title), subtitle="Ctrl-C ends")


def best(scores: Scores, classes: tuple[str, ...]) -> tuple[str, float]:
    """The name of the best class, and its score."""
    index = int(np.argmax(scores.scores))
    return classes[index], float(scores.scores[index])


def told(event: Event) -> str:
    """An event as a line: ``  12.3 s  wave 91%`` at its activation, ``  12.3 s  wave 93%, 1.2 s long`` at its end."""
    end = "" if event.end is None else f", {event.end - event.begin:.1f} s long"
    return f"{event.begin:6.1f} s  {event.label} {event.confidence:.0%}{end}"
