"""The loop of live recognition, what is shown of it, and the command."""

import io
import json
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from live_fakes import FakeCamera, JustMissed, picture
from rich.console import Console
from rich.text import Text
from typer.testing import CliRunner

from dynagest.card import NetworkCard
from dynagest.cli import app
from dynagest.clips.gesture_folder import write_clip
from dynagest.errors import CameraError, ClipError, DisplayError, WeightsError
from dynagest.live.capture import Capture, Frame, Status
from dynagest.live.display import Lines, Terminal, numbers
from dynagest.live.loop import Look, Meter, news, recognise
from dynagest.live.sources import VideoFile
from dynagest.stream.events import Event, EventDetector, EventSettings
from dynagest.stream.load import load_recogniser
from dynagest.stream.recogniser import Recogniser
from dynagest.stream.scores import Scores

CLASSES = ("none", "dark", "bright")
CARD = NetworkCard(model="fake", classes=CLASSES, num_segments=2, fps=10, size=32)
QUICK = EventSettings(smoothing=0, lag=0, cooldown=0.1)


class BrightnessScorer:
    """Scores a frame by its grey: below 60 none, below 150 "dark", above it "bright"."""

    card, rate, left_out = CARD, 10.0, 0

    def push(self, frame: np.ndarray, time: float, behind: float = 0.0) -> list[Scores]:
        value = int(frame.mean())
        return [Scores(time, np.eye(3)[0 if value < 60 else 1 if value < 150 else 2] * 0.94 + 0.02)]

    def finish(self) -> list[Scores]:
        return []

    def reset(self) -> None:
        pass


def brightness() -> Recogniser:
    return Recogniser(BrightnessScorer(), EventDetector(CLASSES, QUICK))


GREYS = [0] * 6 + [100] * 8 + [0] * 6 + [220] * 8 + [0] * 6 + [220] * 8 + [0] * 4
GESTURES = ["dark", "bright", "bright"]


@pytest.fixture
def video(tmp_path: Path) -> Path:
    """4.6 s at 10 frames a second in which three gestures are made."""
    frames = [np.full((48, 64, 3), grey, np.uint8) for grey in GREYS]
    return write_clip(tmp_path / "streams", "stream", frames, [index / 10 for index in range(len(frames))])


def begun(looks: list[Look]) -> list[str]:
    return [event.label for look in looks for event in look.events if event.end is None]


def ended(looks: list[Look]) -> list[tuple[str, float, float | None]]:
    return [(e.label, round(e.begin, 2), e.end and round(e.end, 2)) for look in looks for e in look.events if e.end]


def test_fast_and_in_real_time_give_the_same_answers(video: Path) -> None:
    answers = []
    for fast in (True, False):
        with Capture(VideoFile(video), fast=fast) as capture:
            looks = list(recognise(capture, brightness()))
        assert begun(looks) == GESTURES
        answers.append(ended(looks))
        assert looks[-1].status.state == "ended"
    assert answers[0] == answers[1]
    assert [label for label, _, _ in answers[0]] == GESTURES


def test_latency_is_counted_from_capture() -> None:
    class Slow(BrightnessScorer):
        def push(self, frame: np.ndarray, time_: float, behind: float = 0.0) -> list[Scores]:
            time.sleep(0.03)
            return super().push(frame, time_, behind)

    camera = FakeCamera([picture(0)] * 5, pause=0.05)
    with Capture(camera) as capture:
        looks = list(recognise(capture, Recogniser(Slow(), EventDetector(CLASSES, QUICK))))
    delays = [look.latency for look in looks if look.latency is not None]
    assert delays
    assert min(delays) >= 0.03


def test_a_camera_that_goes_away_ends_its_gesture_and_comes_back() -> None:
    steps = [picture(0)] * 3 + [picture(220)] * 5 + [CameraError("gone")] + [picture(0)] * 5 + [picture(100)] * 5
    with Capture(FakeCamera(steps, pause=0.06), retry=0.4) as capture:
        looks = list(recognise(capture, brightness()))
    assert begun(looks) == ["bright", "dark"]
    (bright, _) = [event for look in looks for event in look.events if event.end is not None]
    assert bright.label == "bright"
    assert any(look.status.state == "lost" and look.frame is None for look in looks), "a display stays alive meanwhile"
    assert [line for look in looks for line in look.news] == [
        "gone; trying again until it is back",
        "the source is back",
    ]


def test_what_comes_as_a_wait_is_over_is_not_lost_with_the_end_of_the_source() -> None:
    with JustMissed(FakeCamera([picture(220)] * 3)) as capture:
        looks = list(recognise(capture, brightness()))
    assert sum(look.frame is not None for look in looks) == 3
    assert begun(looks) == ["bright"]
    file = FakeCamera([CameraError("torn")])
    file.live = False
    with JustMissed(file) as capture, pytest.raises(CameraError, match="torn"):
        list(recognise(capture, brightness()))


def test_the_meter_counts_the_last_two_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    meter = Meter()
    assert (meter.fps, meter.latency) == (0.0, None)
    times = [*(index / 25 for index in range(100)), *(4 + index / 10 for index in range(22))]  # the camera slows down
    for now in times:
        latency = 0.04 if now < 4 else 0.9 if now == 5 else 0.08  # the median is not moved by a single one
        meter.add(Look(Frame(picture(0), now, now), None, (), latency, Status()))
    assert meter.fps == pytest.approx(10)
    assert meter.latency == 0.08


def test_the_meter_counts_frames_that_brought_no_look(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    meter = Meter()
    for now in (index / 8 for index in range(40)):  # 24 frames a second of which three come while the network computes
        meter.add(Look(Frame(picture(0), now, now), None, (), 0.1, Status(), passed=3))
    assert meter.fps == pytest.approx(24)


def test_what_is_said_about_the_source() -> None:
    lost = Status("lost", 10, 2, 1, 1, "camera 0: gives no pictures any more")
    assert news(Status(), lost) == (
        "left out: camera 0: gives no pictures any more",
        "camera 0: gives no pictures any more; trying again until it is back",
    )
    back = Status("running", 11, 2, 1, 1, lost.fault)
    assert news(lost, back) == ("the source is back",)
    assert news(Status(), back)[1:] == (f"{lost.fault}; trying again until it is back", "the source is back")
    assert news(Status(), Status("running", 9, 0, 3, 0, "torn")) == ("left out: torn, and 2 more",)
    assert numbers(Meter(), lost) == "0.0 frames/s · 2 dropped · 1 corrupt · lost once"


def test_a_line_is_printed_as_it_was_given(capsys: pytest.CaptureFixture[str]) -> None:
    Lines().say("run ./a [b]: exit code 1: :warning:", True)
    assert capsys.readouterr().out == "run ./a [b]: exit code 1: :warning:\n"


def test_the_terminal_shows_class_confidence_events_and_failures() -> None:
    out = io.StringIO()
    display = Terminal("camera 0", CLASSES, Console(file=out, force_terminal=True, width=90))
    event = Event("bright", 1.0, None, 0.91, 1.5)
    display.say("run xdotool: cannot be started", True)
    display.show(Look(None, Scores(1.5, np.array([0.05, 0.05, 0.9])), (event,), 0.02, Status("ended")), Meter())
    display.close()
    text = out.getvalue()
    for part in ("camera 0", "bright", "90%", "1.0 s  bright 91%", "run xdotool: cannot be started", "frames/s"):
        assert part in text


def test_the_terminal_says_what_is_seen_and_what_was_recognised() -> None:
    def drawn(scores: Scores | None, *events: Event) -> str:
        out = io.StringIO()
        display = Terminal("camera 0", CLASSES, Console(file=out, force_terminal=True, width=90))
        display.show(Look(None, scores, events, 0.02, Status("ended")), Meter())
        display.close()
        return out.getvalue()

    nothing = drawn(None)
    assert "waiting" in nothing
    assert "%" not in nothing, "before the first answer there is no score, be it 0"
    seen = drawn(Scores(1.5, np.array([0.05, 0.05, 0.9])))
    assert seen.index("90%") < seen.index("nothing recognised yet")
    both = drawn(Scores(1.5, np.array([0.05, 0.05, 0.9])), Event("bright", 1.0, None, 0.91, 1.5))
    assert both.index("90%") < both.index("recognised, newest first:") < both.index("1.0 s  bright 91%")


def test_the_terminal_shows_a_gesture_in_one_line_from_its_activation_to_its_end() -> None:
    out = io.StringIO()
    display = Terminal("camera 0", CLASSES, Console(file=out, force_terminal=True, width=90))
    for begin in (1.0, 3.0):
        for end, confidence in ((None, 0.91), (begin + 1.25, 0.93)):
            out.truncate(0)
            event = Event("bright", begin, end, confidence, begin + 0.5)
            display.show(Look(None, None, (event,), None, Status("ended")), Meter())
    last = out.getvalue()
    display.close()
    assert "1.0 s  bright 93%, 1.2 s long" in last
    assert "3.0 s  bright 93%, 1.2 s long" in last
    assert "91%" not in last


def test_an_action_may_say_something_while_the_terminal_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    display = Terminal("camera 0", CLASSES, Console(file=out, force_terminal=True, width=90))

    def text(content: str = "", style: str = "") -> Text:
        if content == "first":
            action = threading.Thread(target=display.say, args=("second", False))
            action.start()
            action.join(10)
            assert not action.is_alive()
        return Text(content, style)

    display.say("first", False)
    monkeypatch.setattr("dynagest.live.display.Text", text)
    for _ in range(2):
        display.show(Look(None, None, (), None, Status("ended")), Meter())
    display.close()
    assert "second" in out.getvalue()


@pytest.fixture
def fake_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dynagest.stream.load.load_recogniser", lambda *_, **__: brightness())


def invoke(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, list(arguments), env={"COLUMNS": "200"})
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


def test_the_command_prints_json_and_does_actions(fake_model: None, video: Path, tmp_path: Path) -> None:
    actions = tmp_path / "actions.yaml"
    actions.write_text("actions:\n  - gesture: dark\n    print: 'seen {label}'\n")
    code, out, err = invoke("live", str(video), "--model", "x.onnx", "--fast", "--json", "--actions", str(actions))
    assert code == 0
    lines = [json.loads(line) for line in out.splitlines()]
    events = [line for line in lines if line["type"] == "event"]
    assert [event["label"] for event in events if event["end"] is None] == GESTURES
    assert all(event["latency"] is None or event["latency"] >= 0 for event in events)
    assert {"type": "message", "text": "seen dark", "failed": False} in lines
    assert "46 frames" in err


def test_a_machine_that_is_too_slow_is_told_once(video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Late(BrightnessScorer):
        def push(self, frame: np.ndarray, time_: float, behind: float = 0.0) -> list[Scores]:
            self.left_out += 1
            return super().push(frame, time_, behind)

    monkeypatch.setattr("dynagest.live.pace.SPAN", 1.0)
    late = Recogniser(Late(), EventDetector(CLASSES, QUICK))
    monkeypatch.setattr("dynagest.stream.load.load_recogniser", lambda *_, **__: late)
    code, out, _ = invoke("live", str(video), "--model", "x.onnx", "--fast")
    assert code == 0
    assert out.count("this machine manages 0.0 of the 10.0 answers a second") == 1


def test_the_command_prints_lines_where_there_is_no_terminal(fake_model: None, video: Path) -> None:
    code, out, _ = invoke("live", str(video), "--model", "x.onnx", "--fast")
    assert code == 0
    assert [line.split()[2] for line in out.splitlines() if "long" not in line] == GESTURES


def test_a_video_shorter_than_what_the_network_sees_at_once(video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Silent(BrightnessScorer):
        def push(self, frame: np.ndarray, time: float, behind: float = 0.0) -> list[Scores]:
            return []

    silent = Recogniser(Silent(), EventDetector(CLASSES, QUICK))
    monkeypatch.setattr("dynagest.stream.load.load_recogniser", lambda *_, **__: silent)
    code, out, _ = invoke("live", str(video), "--model", "x.onnx", "--fast", "--fps", "5")
    assert code == 0
    assert out == "shorter than the 2 frames at 5 frames/s that the network sees at once, so nothing was recognised\n"


def test_the_command_hands_its_options_on(video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr("dynagest.stream.load.load_recogniser", lambda *options: asked.append(options) or brightness())
    options = ["--hop", "3", "--threads", "2", "--fps", "5"]
    assert invoke("live", str(video), "--model", "x.onnx", "--fast", *options)[0] == 0
    assert asked == [(Path("x.onnx"), None, 5.0, 3, 2)]


@pytest.mark.parametrize("command", [["live"], ["record"], ["data", "depth"]], ids=" ".join)
def test_help_shows_an_example(command: list[str]) -> None:
    code, out, _ = invoke(*command, "--help")
    assert code == 0
    assert "Example" in out
    assert f"dynagest {' '.join(command)}" in out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["live", "0"], "--model is missing"),
        (["live", "0", "--model", "x.onnx", "--fast"], "cannot be read faster"),
        (["live", "0", "--model", "x.onnx", "--window", "--json"], "give one of them"),
        (["live", "63", "--model", "x.onnx"], "camera 63: cannot be opened"),
        (["live", "nowhere.mp4", "--model", "x.onnx"], "no such video file"),
        (["record", "x"], "--gestures is missing"),
        (["record", "x", "--gestures", "a,b", "--camera", "63"], "cannot be opened"),
    ],
)
def test_mistakes_are_named(arguments: list[str], says: str, fake_model: None) -> None:
    from dynagest.errors import DynagestError

    with pytest.raises(DynagestError, match=says):
        invoke(*arguments)


@pytest.mark.parametrize("content", ["", "{}", '{"model": "x", "classes": ["a", "b"], "version": 99}'])
def test_a_run_of_another_version_is_a_named_error(content: str, tmp_path: Path) -> None:
    (tmp_path / "network.json").write_text(content)
    (tmp_path / "network.safetensors").write_bytes(b"\0" * 64)
    with pytest.raises(WeightsError, match=r"network\.(json|safetensors)"):
        load_recogniser(tmp_path)


def test_an_export_that_is_none_is_a_named_error(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    for data in (b"", b"no network"):
        path.write_bytes(data)
        with pytest.raises(WeightsError, match=r"model\.onnx"):
            load_recogniser(path)


def test_a_window_without_a_screen_is_a_named_error(monkeypatch: pytest.MonkeyPatch) -> None:
    from dynagest.live.window import Window

    monkeypatch.delenv("DISPLAY", raising=False)
    with pytest.raises(DisplayError, match="leave --window out"):
        Window("title")


def test_live_and_actions_need_no_torch() -> None:
    import subprocess
    import sys

    names = "actions, capture, display, loop, pace, record, sources, window"
    code = f"import sys; from dynagest.live import {names}; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_frame_that_waits_behind_others_is_passed_on_but_looked_at_only_if_it_brings_scores() -> None:
    class Waiting:
        """Five frames, of which each is read when the others have come already."""

        status = Status()

        def __init__(self) -> None:
            self.frames = [Frame(picture(0), index / 30, index / 30) for index in range(5)]

        def oldest(self, timeout: float) -> tuple[Frame, float] | None:
            if not self.frames:
                self.status = Status("ended")
                return None
            frame = self.frames.pop(0)
            return frame, (self.frames[-1].time - frame.time if self.frames else 0.0)

    class Third(BrightnessScorer):
        """Scores the third frame alone."""

        seen = 0

        def push(self, frame: np.ndarray, time: float, behind: float = 0.0) -> list[Scores]:
            self.seen += 1
            return super().push(frame, time, behind) if self.seen == 3 else []

    scorer = Third()
    looks = list(recognise(Waiting(), Recogniser(scorer, EventDetector(CLASSES, QUICK))))  # type: ignore[arg-type]
    assert scorer.seen == 5
    assert [look.frame and round(30 * look.frame.time) for look in looks] == [2, 4, None]
    assert [look.passed for look in looks] == [3, 2, 0]


def test_corrupt_frames_do_not_stop_recognition() -> None:
    bad = [ClipError("fake camera: picture cannot be decoded")]
    steps = [picture(0)] * 3 + bad + [picture(220)] * 3 + bad * 2 + [picture(220)] * 3 + [picture(0)] * 3
    with Capture(FakeCamera(steps, pause=0.05)) as capture:
        looks = list(recognise(capture, brightness()))
    assert begun(looks) == ["bright"]
    assert looks[-1].status.corrupt == 3
