"""Reads a source in a thread of its own and keeps the newest frames, few of them, for a reader that may be slow."""

import threading
import time
from dataclasses import dataclass, replace
from typing import Literal, Self

import numpy as np

from dynagest.errors import CameraError, ClipError
from dynagest.live.sources import Source

State = Literal["running", "lost", "ended"]
_WAITING = 32  # frames; at 30 a second, what comes while a network computes for a second


@dataclass(frozen=True, slots=True)
class Frame:
    """uint8 RGB (H, W, 3). ``time``: seconds of the stream, rising. ``captured``: ``time.monotonic`` when it was taken,
    or, of a file, was due or read; latency counts from it."""

    rgb: np.ndarray
    time: float
    captured: float


@dataclass(frozen=True, slots=True)
class Status:
    """How capture goes on: frames ``taken``, ``dropped`` because too many newer ones came, ``corrupt``; times that the
    source was ``lost``; ``fault``: the last one in words, empty if there was none."""

    state: State = "running"
    taken: int = 0
    dropped: int = 0
    corrupt: int = 0
    lost: int = 0
    fault: str = ""


class Capture:
    """The frames of a source, either all of them in order or the newest only.

    The last few wait for a reader. Of more, one is dropped and counted wherever it leaves the smallest gap, so that
    those that wait still tell of the whole time.

    * A **live** source (camera, network stream) that is lost is tried again every ``retry`` seconds until it is back;
      its stream's time goes on meanwhile.
    * A **file** is played by its own times, as a camera would; ``fast`` hands over every frame as soon as the last one
      was taken, and drops none.

    A frame that cannot be decoded is counted and left out. Used as a context manager; ``CameraError`` on entering
    where the source cannot be opened at all.

    Example::

        with Capture(open_source("0")) as capture:
            while (frame := capture.next(1.0)) or capture.status.state != "ended": ...
    """

    def __init__(self, source: Source, *, fast: bool = False, retry: float = 0.5) -> None:
        assert not (fast and source.live), "only a file can be read faster than the world goes"
        self.source, self._fast, self._retry = source, fast, retry
        self._changed = threading.Condition()
        self._stop = threading.Event()
        self._frames: list[Frame] = []
        self._status = Status()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="capture", daemon=True)

    def __enter__(self) -> Self:
        self.source.open()
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        with self._changed:
            self._changed.notify_all()
        # A driver may hang in a read; the thread is a daemon, and the program may end without it.
        self._thread.join(timeout=2.0)

    @property
    def status(self) -> Status:
        """As of now."""
        with self._changed:
            return self._status

    def next(self, timeout: float) -> Frame | None:
        """The newest frame that was not handed out yet; waits for one up to ``timeout`` seconds, else ``None``.

        ``None`` at once when the source has ended (see ``status``). Raises whatever capture itself failed with. Older
        frames are dropped.
        """
        with self._changed:
            if not self._wait(timeout):
                return None
            frame = self._frames[-1]
            self._status = replace(self._status, dropped=self._status.dropped + len(self._frames) - 1)
            self._frames.clear()
            self._changed.notify_all()
            return frame

    def oldest(self, timeout: float) -> tuple[Frame, float] | None:
        """As ``next``, but the oldest frame that waits; and how many seconds it is behind the newest one."""
        with self._changed:
            if not self._wait(timeout):
                return None
            behind = self._frames[-1].time - self._frames[0].time
            frame = self._frames.pop(0)
            self._changed.notify_all()
            return frame, behind

    def _wait(self, timeout: float) -> bool:
        self._changed.wait_for(lambda: bool(self._frames) or self._status.state == "ended", timeout)
        if not self._frames and self._error is not None:
            raise self._error
        return bool(self._frames)

    def _run(self) -> None:
        try:
            self._read_all()
        except BaseException as error:  # raised in ``next``, in the thread that can tell the user
            self._error = error
        finally:
            self.source.close()
            with self._changed:
                self._status = replace(self._status, state="ended")
                self._changed.notify_all()

    def _read_all(self) -> None:
        start: float | None = None
        while not self._stop.is_set():
            try:
                found = self.source.read()
            except ClipError as error:
                self._note(str(error), corrupt=True)
                continue
            except CameraError as error:
                if not self.source.live:
                    raise
                self._note(str(error), lost=True)
                self._reopen()
                continue
            if found is None:
                return
            rgb, moment = found
            if start is None:
                start = moment if self.source.live else time.monotonic()
            if self.source.live:
                self._hand_over(Frame(rgb, moment - start, moment))
            elif self._fast:
                self._hand_over(Frame(rgb, moment, time.monotonic()))
            elif not self._stop.wait(max(start + moment - time.monotonic(), 0)):
                self._hand_over(Frame(rgb, moment, start + moment))

    def _hand_over(self, frame: Frame) -> None:
        with self._changed:
            if self._fast:
                self._changed.wait_for(lambda: not self._frames or self._stop.is_set())
            frames = self._frames
            if dropped := len(frames) == _WAITING:
                del frames[min(range(1, len(frames) - 1), key=lambda at: frames[at + 1].time - frames[at - 1].time)]
            frames.append(frame)
            status = self._status
            self._status = replace(status, state="running", taken=status.taken + 1, dropped=status.dropped + dropped)
            self._changed.notify_all()

    def _reopen(self) -> None:
        while not self._stop.wait(self._retry):
            try:
                self.source.open()
                return
            except CameraError as error:
                self._note(str(error))

    def _note(self, fault: str, *, corrupt: bool = False, lost: bool = False) -> None:
        with self._changed:
            old = self._status
            again = lost and old.state == "running"  # one that comes back without a picture was never back
            self._status = replace(
                old,
                state="lost" if lost else old.state,
                corrupt=old.corrupt + corrupt,
                lost=old.lost + again,
                fault=fault,
            )
            self._changed.notify_all()
