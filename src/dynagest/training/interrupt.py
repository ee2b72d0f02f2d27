"""Lets the step in progress finish after Ctrl-C or SIGTERM."""

import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Self


class TrainingInterrupted(KeyboardInterrupt):
    """Raised after Ctrl-C or SIGTERM, once the checkpoint is written. The message says how to resume."""


class Interrupts:
    """A context in which the first signal only sets ``requested``; a second one raises ``KeyboardInterrupt`` at once.

    ``numbers`` are the signals, by default SIGINT and SIGTERM. Outside the main thread, where Python allows no signal
    handlers, the context does nothing.
    """

    def __init__(self, *numbers: int) -> None:
        self.requested = False
        self._numbers = numbers or (signal.SIGINT, signal.SIGTERM)
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in self._numbers:
                self._previous[number] = signal.signal(number, self._request)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _request(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
