"""Reads a source in a thread of its own, and keeps its last few frames for a reader that may be slow."""

import threading
import time
from dataclasses import dataclass, replace
from typing import Literal, Self

import numpy as np

from dynagest.errors import CameraError, ClipError
from dynagest.live.sources import Source

State = Literal["running", "lost", "ended"]
_WAITING = 32  # frames; at 30 a second, those that come while a network computes for a second


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame: ``rgb`` is a uint8 array (H, W, 3), ``time`` are seconds of the stream.

    ``captured``, from which latency counts, is a ``time.monotonic``: when a live source took the frame, or when a
    file's frame was due or, with ``fast``, read. Before it, the source had been lost ``lost`` times.
    """

    rgb: np.ndarray
    time: float
    captured: float
    lost: int = 0


@dataclass(frozen=True, slots=True)
class Status:
    """The state of a capture and its counts so far.

    ``taken`` frames came from the source; ``dropped`` of them were not handed out, because newer ones had come;
    ``corrupt`` frames could not be decoded. The source was lost ``lost`` times. ``fault`` describes the last fault;
    it is empty if there was none.
    """

    state: State = "running"
    taken: int = 0
    dropped: int = 0
    corrupt: int = 0
    lost: int = 0
    fault: str = ""


class Capture:
    """The frames of a source: ``oldest`` gives them in order, ``next`` only the newest. A context manager.

    A few frames wait for the reader. When too many wait, the one whose loss leaves the smallest gap is dropped and
    counted, so that the others still cover the whole time.

    * A **live** source (camera, network stream) that is lost is opened again, with a try every ``retry`` seconds. The
      stream's time goes on meanwhile.
    * A **file** is played at its own pace, like a camera. With ``fast``, each frame is handed over as soon as the
      reader has taken the one before, and none is dropped.

    A frame that cannot be decoded is counted and left out. Entering raises ``CameraError`` when the source cannot be
    opened.

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
        # A driver may hang in a read; the program can end nevertheless, because the thread is a daemon.
        self._thread.join(timeout=2.0)

    @property
    def status(self) -> Status:
        """The current status. It says "ended" only when all frames were taken and the error, if any, was raised.

        So a caller that was given no frame, and then reads "ended", has missed nothing in between.
        """
        with self._changed:
            left = self._status.state == "ended" and (self._frames or self._error is not None)
            return replace(self._status, state="running") if left else self._status

    def next(self, timeout: float) -> Frame | None:
        """Return the newest waiting frame, and drop the older ones.

        Waits up to ``timeout`` seconds for a frame. Returns ``None`` when none came, and at once when the source has
        ended (see ``status``). Raises the error that ended the capture, if there was one, once no frame is waiting.
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
        """Return the oldest waiting frame, and by how many seconds the newest one is newer. Otherwise as ``next``."""
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
            error, self._error = self._error, None
            raise error
        return bool(self._frames)

    def _run(self) -> None:
        try:
            self._read_all()
        except BaseException as error:  # raised in ``next`` or ``oldest``, in a thread that can tell the user
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
                self._hand_over(rgb, moment - start, moment)
            elif self._fast:
                self._hand_over(rgb, moment, time.monotonic())
            elif not self._stop.wait(max(start + moment - time.monotonic(), 0)):
                self._hand_over(rgb, moment, start + moment)

    def _hand_over(self, rgb: np.ndarray, moment: float, captured: float) -> None:
        with self._changed:
            if self._fast:
                self._changed.wait_for(lambda: not self._frames or self._stop.is_set())
            frames = self._frames
            if dropped := len(frames) == _WAITING:
                del frames[min(range(1, len(frames) - 1), key=lambda at: frames[at + 1].time - frames[at - 1].time)]
            status = self._status
            frames.append(Frame(rgb, moment, captured, status.lost))
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
            again = lost and old.state == "running"  # opened again without giving a frame: the same loss
            self._status = replace(
                old,
                state="lost" if lost else old.state,
                corrupt=old.corrupt + corrupt,
                lost=old.lost + again,
                fault=fault,
            )
            self._changed.notify_all()
