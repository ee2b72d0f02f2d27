"""A window with the camera's picture. Uses tkinter, because the OpenCV package that is installed has no windows."""

import time
from collections import deque
from typing import Any

import cv2
import numpy as np

from dynagest.errors import DisplayError
from dynagest.live.display import best, numbers, told, trouble
from dynagest.live.loop import Look, Meter

WIDTH = 640  # pixels, of the picture
_BACK, _FRONT, _DIM, _BAR, _BAD = "#16181d", "#f4f5f7", "#9aa3b2", "#3aa675", "#ff7b72"
_EVENTS = 5
_REFRESH = 1 / 30  # s


class Window:
    """A display with the picture, the best class and a bar of its score, and the gestures recognised last.

    With ``mirror`` the picture is mirrored, as people know themselves. Escape, q or closing the window ends. Raises
    ``DisplayError`` when there is no tkinter or no screen.
    """

    def __init__(self, title: str, classes: tuple[str, ...] = (), mirror: bool = False) -> None:
        try:
            import tkinter
        except ImportError as error:
            raise DisplayError(
                f"--window: this Python has no tkinter ({error}); install it (Debian: apt install python3-tk), or "
                "leave --window out and watch in the terminal"
            ) from error
        try:
            self._root = tkinter.Tk()
        except tkinter.TclError as error:
            raise DisplayError(f"--window: there is no screen here ({error}); leave --window out") from error
        self._tkinter: Any = tkinter
        self._classes, self._mirror, self.closed = classes, mirror, False
        self._events: deque[str] = deque(maxlen=_EVENTS)
        self._message, self._drawn = ("", False), 0.0
        self._root.title(title)
        self._root.configure(background=_BACK)
        for key in ("<Escape>", "q"):
            self._root.bind(key, lambda _: self._end())
        self._root.protocol("WM_DELETE_WINDOW", self._end)
        self._picture = tkinter.Label(self._root, borderwidth=0, background=_BACK)
        self._picture.pack()
        self._name = self._text(size=22, colour=_FRONT)
        self._bar = tkinter.Canvas(self._root, width=WIDTH, height=10, background="#2a2e37", highlightthickness=0)
        self._bar.pack()
        self._filled = self._bar.create_rectangle(0, 0, 0, 10, fill=_BAR, width=0)
        self._recent = self._text(size=13, colour=_FRONT)
        self._line = self._text(size=11, colour=_DIM)

    def show(self, look: Look, meter: Meter) -> None:
        """See ``Display``."""
        for event in look.events:
            if event.end is None:
                self._events.appendleft(told(event).strip())
        for text in look.news:
            self.say(text, True)
        now = time.monotonic()
        if now - self._drawn < _REFRESH:
            return
        self._drawn = now
        name, score = ("", 0.0) if look.scores is None else best(look.scores, self._classes)
        fault = trouble(look.status) or (self._message[0] if self._message[1] else "")
        line = fault or " · ".join(text for text in (numbers(meter, look.status), self._message[0]) if text)
        self.draw(look.frame.rgb if look.frame else None, name, score, "\n".join(self._events), line, bad=bool(fault))

    def draw(
        self, picture: np.ndarray | None, name: str, share: float, below: str, line: str, *, bad: bool = False
    ) -> None:
        """Draw ``picture``, uint8 RGB (H, W, 3), or keep the last one for None. ``share`` in [0, 1] fills the bar."""
        if self.closed:
            return
        if picture is not None:
            height = round(picture.shape[0] * WIDTH / picture.shape[1])
            image = cv2.resize(picture, (WIDTH, height), interpolation=cv2.INTER_AREA)
            image = image[:, ::-1] if self._mirror else image
            data = b"P6 %d %d 255 " % (WIDTH, height) + np.ascontiguousarray(image).tobytes()
            self._image = self._tkinter.PhotoImage(master=self._root, data=data, format="PPM")
            self._picture.configure(image=self._image)
        self._name.configure(text=name)
        self._bar.coords(self._filled, 0, 0, WIDTH * min(max(share, 0.0), 1.0), 10)
        self._recent.configure(text=below)
        self._line.configure(text=line, foreground=_BAD if bad else _DIM)
        try:
            self._root.update()
        except self._tkinter.TclError:  # it was destroyed during the update
            self.closed = True

    def say(self, text: str, failed: bool) -> None:
        """See ``Display``. The text is shown with the next look, because only one thread may use tkinter."""
        self._message = (text, failed)

    def close(self) -> None:
        """See ``Display``."""
        if not self.closed:
            self._end()

    def _end(self) -> None:
        self.closed = True
        self._root.destroy()

    def _text(self, size: int, colour: str) -> Any:
        label = self._tkinter.Label(
            self._root,
            font=("TkDefaultFont", size),
            foreground=colour,
            background=_BACK,
            justify="left",
            anchor="w",
            wraplength=WIDTH - 24,
        )
        label.pack(fill="x", padx=12, pady=6)
        return label
