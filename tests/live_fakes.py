"""Stand-ins for a camera, for the tests of live recognition and recording."""

import threading
import time
from collections.abc import Sequence

import numpy as np

from dynagest.errors import CameraError
from dynagest.live.capture import Capture, Frame

Step = np.ndarray | Exception


def picture(value: int) -> np.ndarray:
    return np.full((24, 32, 3), value, np.uint8)


class FakeCamera:
    """A live source that plays ``steps``: frames, and errors to raise. ``openings`` fail before it can be opened."""

    name, live = "fake camera", True

    def __init__(self, steps: Sequence[Step], pause: float = 0.005, openings: int = 0) -> None:
        self.steps, self.pause, self.refusals = list(steps), pause, openings
        self.opened = 0
        self.done = threading.Event()

    def open(self) -> None:
        self.opened += 1
        if self.opened > 1 and self.refusals:
            self.refusals -= 1
            raise CameraError(f"{self.name}: not there")

    def read(self) -> tuple[np.ndarray, float] | None:
        if not self.steps:
            self.done.set()
            return None
        time.sleep(self.pause)
        step = self.steps.pop(0)
        if isinstance(step, Exception):
            raise step
        return step, time.monotonic()

    def close(self) -> None:
        pass


class JustMissed(Capture):
    """Its reader's first wait is over just before everything comes, with which the source ends."""

    missed = False

    def _wait(self, timeout: float) -> bool:
        if self.missed:
            return super()._wait(timeout)
        self.missed = True
        assert self._changed.wait_for(lambda: self._status.state == "ended", 5)
        return False


def drain(capture: Capture) -> list[Frame]:
    """The frames that come until the source ends."""
    frames = []
    while True:
        frame = capture.next(1.0)
        if frame is not None:
            frames.append(frame)
        elif capture.status.state == "ended":
            return frames
