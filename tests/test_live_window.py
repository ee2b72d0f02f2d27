"""The window of ``dynagest live``, drawn by a stand-in for tkinter, because there may be no screen."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from cli_helpers import run
from fake_tkinter import Tk, fake

from dynagest.card import NetworkCard
from dynagest.clips.gesture_folder import write_clip
from dynagest.live.capture import Frame, Status
from dynagest.live.loop import Look, Meter
from dynagest.live.window import WIDTH, Window
from dynagest.stream.events import Event, EventDetector, EventSettings
from dynagest.stream.recogniser import Recogniser
from dynagest.stream.scores import Scores

CLASSES = ("none", "dark", "bright")
RED, BLUE = (230, 10, 10), (10, 10, 230)


class Drawn(NamedTuple):
    """What a window shows."""

    picture: np.ndarray | None
    name: str
    bar: float  # pixels that are filled
    recent: str
    line: str
    colour: str  # of the line


def drawn(root: Tk) -> Drawn:
    picture, name, bar, recent, line = root.packed
    image = picture.options.get("image")
    ((left, top, right, bottom),) = bar.rectangles.values()  # type: ignore[attr-defined]
    assert (left, top, bottom) == (0, 0, 10)
    texts = [each.options.get("text", "") for each in (name, recent, line)]
    return Drawn(None if image is None else image.pixels, texts[0], right, *texts[1:], line.options["foreground"])


def half_red() -> np.ndarray:
    """A frame (24, 32, 3): red on the left, blue on the right."""
    frame = np.empty((24, 32, 3), np.uint8)
    frame[:, :16], frame[:, 16:] = RED, BLUE
    return frame


def look(status: Status | None = None, *, events: tuple[Event, ...] = (), frame: bool = True) -> Look:
    """A frame and scores of which "bright" is the best."""
    scores = Scores(1.5, np.array([0.05, 0.2, 0.75]))
    return Look(Frame(half_red(), 1.5, 0.0) if frame else None, scores, events, 0.02, status or Status())


@pytest.fixture(autouse=True)
def _tkinter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tkinter", fake())


@pytest.fixture
def wait(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Lets seconds pass for the window."""
    now = 100.0

    def pass_(seconds: float) -> None:
        nonlocal now
        now += seconds

    monkeypatch.setattr("dynagest.live.window.time.monotonic", lambda: now)
    return pass_


@pytest.mark.parametrize("mirror", [False, True])
def test_a_look_is_drawn(mirror: bool, wait: Callable[[float], None]) -> None:
    window = Window("camera 0", CLASSES, mirror)
    (root,) = Tk.made
    window.show(look(events=(Event("bright", 1.0, None, 0.91, 1.5),)), Meter())
    assert root.named == "camera 0"
    assert root.updates == 1, "what is drawn is also shown"
    seen = drawn(root)
    assert seen.picture is not None
    assert seen.picture.shape == (480, WIDTH, 3)
    left, right = seen.picture[200, 5], seen.picture[200, -5]
    assert (tuple(left), tuple(right)) == ((BLUE, RED) if mirror else (RED, BLUE))
    assert (seen.name, seen.recent, seen.line) == ("bright", "1.0 s  bright 91%", "0.0 frames/s")
    assert seen.bar == pytest.approx(0.75 * WIDTH)
    window.close()
    assert root.destroyed == 1
    assert window.closed


def test_faults_and_messages_are_told_in_the_last_line(wait: Callable[[float], None]) -> None:
    window = Window("camera 0", CLASSES)
    (root,) = Tk.made
    window.say("seen bright", False)
    window.show(look(), Meter())
    first = drawn(root)
    assert first.line == "0.0 frames/s · seen bright"
    wait(1)
    window.show(look(Status("lost", 10, fault="camera 0: is gone"), frame=False), Meter())
    lost = drawn(root)
    assert lost.line == "camera 0: is gone; trying again"
    assert lost.colour != first.colour
    assert lost.picture is first.picture, "the last picture stays"
    wait(1)
    window.say("run xdotool: cannot be started", True)
    window.show(look(), Meter())
    assert drawn(root)[4:] == ("run xdotool: cannot be started", lost.colour)


def test_it_is_not_drawn_more_often_than_is_seen_and_forgets_no_gesture(wait: Callable[[float], None]) -> None:
    window = Window("camera 0", CLASSES)
    (root,) = Tk.made
    for second in range(7):
        wait(0.01)
        window.show(look(events=(Event("dark", second, None, 0.8, second),)), Meter())
        window.show(look(events=(Event("dark", second, second + 0.5, 0.8, second),)), Meter())  # its end says no more
    assert root.updates == 2
    wait(0.04)
    window.show(look(), Meter())
    assert root.updates == 3
    assert [row.split()[0] for row in drawn(root).recent.splitlines()] == ["6.0", "5.0", "4.0", "3.0", "2.0"]


@pytest.mark.parametrize("how", ["<Escape>", "q", "the button"])
def test_it_can_be_closed_while_it_is_drawn(how: str, wait: Callable[[float], None]) -> None:
    window = Window("camera 0", CLASSES)
    (root,) = Tk.made
    press = root.protocols["WM_DELETE_WINDOW"] if how == "the button" else lambda: root.bound[how](None)
    root.happens.append(press)
    assert not window.closed
    window.show(look(), Meter())
    assert window.closed
    wait(1)
    window.show(look(), Meter())
    window.close()
    assert (root.updates, root.destroyed) == (1, 1)


def test_the_bar_stays_within_its_width() -> None:
    window = Window("record")
    (root,) = Tk.made
    for share, filled in ((-0.1, 0), (0.5, WIDTH / 2), (1.1, WIDTH)):
        window.draw(None, "wave, clip 1 of 5", share, "", "clip 1 of 5")
        assert drawn(root) == (None, "wave, clip 1 of 5", filled, "", "clip 1 of 5", drawn(root).colour)


class Brightness:
    """Scores every frame as "bright"."""

    card = NetworkCard(model="fake", classes=CLASSES, num_segments=2, fps=10, size=32)
    rate, left_out = 10.0, 0

    def push(self, frame: np.ndarray, time: float, behind: float = 0.0) -> list[Scores]:
        return [Scores(time, np.array([0.02, 0.02, 0.96]))]

    def finish(self) -> list[Scores]:
        return []

    def reset(self) -> None:
        pass


def test_the_command_shows_a_video_and_closes_its_window(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = EventSettings(smoothing=0, lag=0, cooldown=0.1)
    recogniser = Recogniser(Brightness(), EventDetector(CLASSES, settings))
    monkeypatch.setattr("dynagest.stream.load.load_recogniser", lambda *_, **__: recogniser)
    monkeypatch.setattr("dynagest.live.window._REFRESH", 0.0)
    video = write_clip(tmp_path, "stream", [half_red()] * 8, [index / 10 for index in range(8)])
    code, _ = run("live", str(video), "--model", "x.onnx", "--fast", "--window")
    assert code == 0
    (root,) = Tk.made
    assert root.destroyed == 1
    seen = drawn(root)
    assert root.named.startswith("dynagest live · ")
    assert seen.picture is not None
    assert seen.picture[200, 5].argmax() == 0, "a file is not mirrored"
    assert (seen.name, seen.recent.split()[2]) == ("bright", "bright")
