"""A stand-in for tkinter, for machines without a screen: it keeps what is drawn, and complains as Tk does."""

import re
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np


class TclError(Exception):
    """What Tk raises when a window is used that is gone."""


class Widget:
    """A widget and its options, in the order in which it was packed into its window."""

    def __init__(self, root: "Tk", **options: Any) -> None:
        self.root, self.options = root, options

    def configure(self, **options: Any) -> None:
        self.root.alive()
        self.options |= options

    def pack(self, **_: Any) -> None:
        self.root.alive()
        self.root.packed.append(self)


class Label(Widget):
    """Text or a picture."""


class Canvas(Widget):
    """A canvas of which only rectangles are known, by number."""

    def __init__(self, root: "Tk", **options: Any) -> None:
        super().__init__(root, **options)
        self.rectangles: dict[int, tuple[float, ...]] = {}

    def create_rectangle(self, *corners: float, **_: Any) -> int:
        self.rectangles[len(self.rectangles) + 1] = corners
        return len(self.rectangles)

    def coords(self, number: int, *corners: float) -> None:
        self.root.alive()
        assert number in self.rectangles
        self.rectangles[number] = corners


class PhotoImage:
    """A picture read from a PPM: ``pixels`` (H, W, 3)."""

    def __init__(self, *, master: "Tk", data: bytes, format: str) -> None:
        master.alive()
        head = re.match(rb"P6\s(\d+)\s(\d+)\s255\s", data)
        assert head
        assert format == "PPM"
        width, height = map(int, head.groups())
        self.pixels = np.frombuffer(data[head.end() :], np.uint8).reshape(height, width, 3)


class Tk:
    """The window. ``happens`` are called, once each, while it is updated; ``made`` are all windows, the newest last."""

    made: list["Tk"] = []  # noqa: RUF012, emptied by `fake`

    def __init__(self) -> None:
        Tk.made.append(self)
        self.packed: list[Widget] = []
        self.bound: dict[str, Callable[[object], None]] = {}
        self.protocols: dict[str, Callable[[], None]] = {}
        self.happens: list[Callable[[], None]] = []
        self.named, self.destroyed, self.updates = "", 0, 0

    def alive(self) -> None:
        if self.destroyed:
            raise TclError('can\'t invoke "winfo" command: application has been destroyed')

    def title(self, text: str) -> None:
        self.named = text

    def configure(self, **_: Any) -> None:
        self.alive()

    def bind(self, key: str, call: Callable[[object], None]) -> None:
        self.bound[key] = call

    def protocol(self, name: str, call: Callable[[], None]) -> None:
        self.protocols[name] = call

    def update(self) -> None:
        self.alive()
        self.updates += 1
        while self.happens:
            self.happens.pop(0)()
        self.alive()

    def destroy(self) -> None:
        self.alive()
        self.destroyed += 1


def fake() -> ModuleType:
    """The module, without windows yet."""
    Tk.made.clear()
    module: Any = ModuleType("tkinter")
    module.TclError, module.Tk, module.Label, module.Canvas, module.PhotoImage = TclError, Tk, Label, Canvas, PhotoImage
    return module
