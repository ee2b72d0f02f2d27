"""Recording clips of one's own: the files, the manifest beside them, and the session with its countdown."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from live_fakes import FakeCamera, JustMissed, picture
from typer.testing import CliRunner

from dynagest.cli import app
from dynagest.clips.checks.check import check
from dynagest.clips.depth import DEPTH_FILE
from dynagest.clips.frames import FrameReader
from dynagest.clips.gesture_folder import check_label, count_clips, gestures, open_clips, refresh_manifest, write_clip
from dynagest.clips.manifest import Manifest
from dynagest.clips.pseudo_depth import PSEUDO, depth_path
from dynagest.clips.video import iterate_video, video_rate
from dynagest.errors import CameraError, ClipError, ManifestError, RunError
from dynagest.live.capture import Capture, Frame, Status
from dynagest.live.record import Prompt, record
from dynagest.live.sources import VideoFile

SIDES = st.integers(16, 70)
REFUSED = ["", ".", "..", "../up", "a/b", "a\\b", ".hidden", "-x", "_x", " a", "a ", "a  b", "a\nb", "a\0b", "a,b"]
REFUSED += ["a.b", "~", "train", "Test", "VALIDATION", "CON", "lpt1", "x" * 65, "$HOME", "a:b", "\u202eevil"]
REFUSED += ["\u0301a", "a👍"]


def clip(count: int = 10, fps: float = 20.0, value: int = 0) -> tuple[list[np.ndarray], list[float]]:
    frames = [np.full((48, 64, 3), value + 10 * index, np.uint8) for index in range(count)]
    return frames, [5 + index / fps for index in range(count)]


def test_a_clip_is_read_back_as_it_was(tmp_path: Path) -> None:
    frames, _ = clip(12)
    times = np.cumsum(np.random.default_rng(0).uniform(0.02, 0.07, 12)).tolist()
    path = write_clip(tmp_path, "wave", frames, times)
    assert path == tmp_path / "wave" / "001.mkv"
    assert FrameReader().count(path) == 12
    read = FrameReader().frames(path, range(12))
    assert np.abs(read.astype(int) - np.stack(frames)).max() <= 3
    assert [time for _, time in iterate_video(path)] == pytest.approx([time - times[0] for time in times], abs=6e-4)
    assert video_rate(path) == pytest.approx(11 / (times[-1] - times[0]), rel=2e-3)


@settings(max_examples=15)
@given(gaps=st.lists(st.integers(1, 400), min_size=1, max_size=20), size=st.tuples(SIDES, SIDES))
def test_any_times_and_sizes_survive(
    gaps: list[int], size: tuple[int, int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    stamps = np.cumsum([0, *gaps]) / 1000
    frames = [np.full((*size, 3), 90, np.uint8)] * len(stamps)
    path = write_clip(tmp_path_factory.mktemp("clips"), "wave", frames, stamps.tolist())
    read = list(iterate_video(path))
    assert [time for _, time in read] == pytest.approx(stamps.tolist(), abs=1e-9)
    assert read[0][0].shape == (*size, 3)


def test_numbers_grow_and_nothing_is_overwritten(tmp_path: Path) -> None:
    first = write_clip(tmp_path, "wave", *clip())
    before = first.read_bytes()
    (tmp_path / "wave" / "007.mkv").write_bytes(before)
    (tmp_path / "wave" / ".008.mkv.tmp").write_bytes(b"somebody else is at it")
    assert write_clip(tmp_path, "wave", *clip(value=50)).name == "009.mkv"
    assert first.read_bytes() == before


def test_a_clip_does_not_get_the_depth_of_one_that_was_deleted(tmp_path: Path) -> None:
    write_clip(tmp_path, "wave", *clip())
    second = write_clip(tmp_path, "wave", *clip())
    depth_path(second).write_bytes(b"depth of the second")
    (tmp_path / DEPTH_FILE).write_text(PSEUDO.to_yaml())
    second.unlink()
    with pytest.raises(ManifestError, match=r"002\.depth\.npz: depth without a clip"):
        write_clip(tmp_path, "wave", *clip())
    assert sorted(path.name for path in second.parent.glob("*.mkv")) == ["001.mkv", "003.mkv"]


def test_two_programs_at_once_never_take_the_same_number(tmp_path: Path) -> None:
    code = (
        "import sys, numpy as np; from dynagest.clips.gesture_folder import write_clip\n"
        "for _ in range(6): write_clip(sys.argv[1], 'wave', [np.zeros((16, 16, 3), np.uint8)] * 2, [0, 1])"
    )
    programs = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path)]) for _ in range(2)]
    assert [program.wait(60) for program in programs] == [0, 0]
    assert len(refresh_manifest(tmp_path)) == 12
    assert [path for path in (tmp_path / "wave").iterdir() if path.suffix == ".tmp"] == []


@pytest.mark.parametrize(
    "label", ["wave", "swipe left", "thumb_up", "Winken", "приветствие", "挥手", "नमस्ते", "تَالِي", "2 fingers", "none"]
)
def test_names_of_gestures(label: str, tmp_path: Path) -> None:
    write_clip(tmp_path, label, *clip())
    assert gestures(tmp_path) == (label,)
    assert Manifest.read(tmp_path).classes == (label,)


@pytest.mark.parametrize(
    "label",
    REFUSED,
)
def test_names_that_are_refused(label: str, tmp_path: Path) -> None:
    with pytest.raises(ManifestError):
        write_clip(tmp_path / "data", label, *clip())
    assert not (tmp_path / "data").exists()


def test_a_name_that_differs_in_capitals_or_in_how_it_is_encoded_is_refused(tmp_path: Path) -> None:
    write_clip(tmp_path, "Wave", *clip())
    with pytest.raises(ManifestError, match="'Wave' already"):
        check_label("wave", tmp_path)
    write_clip(tmp_path, "\u00e9t\u00e9", *clip())
    with pytest.raises(ManifestError, match="already"):
        check_label("e\u0301te\u0301", tmp_path)


@pytest.mark.parametrize(
    ("frames", "times", "says"),
    [
        (clip(1)[0], [0.0], "two frames or more"),
        (clip(3)[0], [0.0, 1.0], "2 times"),
        (clip(3)[0], [0.0, 1.0, 1.0], "times rise"),
        (clip(3)[0], [0.0, 0.0004, 1.0], "times rise"),
        (clip(2)[0], [0.0, float("nan")], "not all numbers"),
        ([picture(0), picture(0)[:10]], [0.0, 1.0], "frame 1 is 32 x 10, the first 32 x 24"),
        ([picture(0).astype(float)] * 2, [0.0, 1.0], "uint8"),
        ([picture(0)[:0]] * 2, [0.0, 1.0], "uint8"),
    ],
)
def test_what_is_no_clip_is_refused(frames: list[np.ndarray], times: list[float], says: str, tmp_path: Path) -> None:
    with pytest.raises(ClipError, match=says):
        write_clip(tmp_path, "wave", frames, times)
    assert not (tmp_path / "wave").exists()


def test_the_manifest_keeps_what_a_user_wrote(tmp_path: Path) -> None:
    write_clip(tmp_path, "wave", *clip())
    write_clip(tmp_path, "wave", *clip())
    manifest = tmp_path / "manifest.csv"
    manifest.write_text("video,label,split,subject\nwave/001.mkv,wave,val,anna\nwave/002.mkv,wave,train,ben\n")
    (tmp_path / "wave" / "002.mkv").unlink()
    write_clip(tmp_path, "push", *clip())
    rows = [(clip.video.name, clip.label, clip.split, clip.subject) for clip in Manifest.read(tmp_path).clips]
    assert rows == [("001.mkv", "wave", "val", "anna"), ("001.mkv", "push", "train", "")]
    assert Manifest.read(tmp_path).classes == ("wave", "push"), "outputs that are known keep their place"


def test_a_folder_without_a_manifest_is_indexed(tmp_path: Path) -> None:
    for label in ("a", "b"):
        write_clip(tmp_path, label, *clip())
    (tmp_path / "manifest.csv").unlink()
    (tmp_path / "classes.txt").unlink()
    manifest, note = open_clips(tmp_path)
    assert len(manifest) == 2
    assert note == f"{manifest.path}: written, 2 clips of 2 classes: a, b"
    assert open_clips(tmp_path)[1] == f"{manifest.path}: 2 clips of 2 classes: a, b"
    late = tmp_path / "b" / "copied.mkv"
    late.write_bytes(manifest.clips[0].video.read_bytes())
    known, note = open_clips(tmp_path)[1].splitlines()
    assert known == f"{manifest.path}: 2 clips of 2 classes: a, b", "a manifest is the user's, and stays as it is"
    assert note.startswith(f"note: 1 clip in its folder not listed, the first {late}: not trained on; ")
    late.unlink()
    manifest.path.unlink()
    (tmp_path / "a" / "b.flv").write_bytes(b"")
    written, note = open_clips(tmp_path)[1].splitlines()
    assert written == f"{manifest.path}: written, 2 clips of 2 classes: a, b"
    assert note.startswith(f"note: 1 file is no clip and was left out, the first {tmp_path / 'a' / 'b.flv'}; ")
    with pytest.raises(ManifestError):
        open_clips(tmp_path / "nothing.csv")


def filmed(folder: Path, seconds: float, fps: float = 20.0) -> Path:
    """A video whose grey tells the time: ten values a second."""
    count = round(seconds * fps)
    frames = [np.full((48, 64, 3), int(10 * index / fps) % 250, np.uint8) for index in range(count)]
    return write_clip(folder, "film", frames, [index / fps for index in range(count)])


def session(video: Path, folder: Path, names: list[str], clips: int) -> list[Prompt]:
    with Capture(VideoFile(video), fast=True) as capture:
        return list(record(capture, folder, names, clips, seconds=1.0, countdown=0.5))


def test_a_session_counts_down_and_records_each_gesture(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    prompts = session(filmed(tmp_path / "film", 14), folder, ["wave", "push"], 2)
    saved = [(prompt.gesture, prompt.number, prompt.path) for prompt in prompts if prompt.phase == "saved"]
    assert saved == [
        (name, number, folder / name / f"{number:03d}.mkv") for name in ("wave", "push") for number in (1, 2)
    ]
    # 0.5 s, and 2 s more to read the name of each gesture; then a second of frames.
    begins = [int(FrameReader().frames(path, [0])[0, 20, 20, 0]) for _, _, path in saved]
    assert begins == pytest.approx([25, 40, 75, 90], abs=6)  # two times JPEG
    for _, _, path in saved:
        assert video_rate(path) == pytest.approx(20, rel=0.01)
        assert FrameReader().count(path) == pytest.approx(21, abs=1)
    left = [prompt.left for prompt in prompts if prompt.gesture == "wave" and prompt.number == 1]
    assert left[0] == pytest.approx(2.5)
    report = check(Manifest.read(folder))
    assert not report.errors


def test_a_session_goes_on_where_it_was_stopped(tmp_path: Path) -> None:
    video = filmed(tmp_path / "film", 6)
    with pytest.raises(CameraError, match="ended before clip 1 of push"):
        session(video, tmp_path / "mine", ["wave", "push"], 2)
    assert count_clips(tmp_path / "mine", "wave") == 2
    prompts = session(video, tmp_path / "mine", ["wave", "push"], 2)
    assert {prompt.gesture for prompt in prompts} == {"push"}
    (tmp_path / "mine" / "push" / "002.mkv").unlink()
    prompts = session(video, tmp_path / "mine", ["wave", "push"], 2)
    assert (prompts[0].number, prompts[0].left) == (2, pytest.approx(2.5)), "the name is read again"
    assert session(video, tmp_path / "mine", ["wave", "push"], 2) == []


@pytest.mark.parametrize("seen", [True, False], ids=["waited for", "over while a clip was written"])
@pytest.mark.parametrize(("countdown", "first"), [(-2.0, "recording"), (-1.0, "ready")])
def test_no_clip_holds_frames_from_before_and_after_a_loss(
    seen: bool, countdown: float, first: str, tmp_path: Path
) -> None:
    """Frames from before it may still wait when the status tells of it; or it is over before anybody looks."""
    before = [Frame(picture(10), index / 20, 0.0) for index in range(3)]
    after = [Frame(picture(200), 5 + index / 20, 0.0, lost=1) for index in range(80)]
    frames = [*before, *([None] if seen else []), *after]
    capture = SimpleNamespace(next=lambda _: frames.pop(0), status=Status("lost", lost=1))
    prompts = list(record(capture, tmp_path, ["wave"], 1, 0.3, countdown))  # type: ignore[arg-type]
    phases = [first] * 3 + ["lost"] * seen
    assert [prompt.phase for prompt in prompts[: len(phases)]] == phases
    assert prompts[len(phases)].phase == first
    assert prompts[len(phases)].left == pytest.approx(0.3 if first == "recording" else 1.0), "all begins anew"
    read = [(frame[5, 5, 0], time) for frame, time in iterate_video(tmp_path / "wave" / "001.mkv")]
    assert all(value in range(197, 204) for value, _ in read)
    assert read[-1][1] == pytest.approx(0.3)


def test_a_fault_that_comes_as_a_wait_is_over_is_told(tmp_path: Path) -> None:
    file = FakeCamera([CameraError("torn")])
    file.live = False
    with JustMissed(file) as capture, pytest.raises(CameraError, match="torn"):
        list(record(capture, tmp_path, ["wave"], 1, seconds=1.0, countdown=0.0))


def test_of_frames_with_one_time_a_clip_takes_the_first(tmp_path: Path) -> None:
    """As in a burst, or by the clock of Windows, which before Python 3.13 moves on every 15.6 ms."""
    frames = [Frame(picture(index), index // 3 * 0.0156, 0.0) for index in range(60)]
    capture = SimpleNamespace(next=lambda _: frames.pop(0), status=Status())
    prompts = list(record(capture, tmp_path, ["wave"], 1, seconds=0.1, countdown=-2.0))  # type: ignore[arg-type]
    assert prompts[-1].phase == "saved"
    times = [moment for _, moment in iterate_video(tmp_path / "wave" / "001.mkv")]
    assert times == pytest.approx([0.0156 * index for index in range(8)], abs=1e-3)


def test_a_bad_name_is_told_before_the_camera_is_opened(tmp_path: Path) -> None:
    arguments = ["record", str(tmp_path / "mine"), "--gestures", "wave,../b", "--camera", str(tmp_path / "none.mp4")]
    result = CliRunner().invoke(app, arguments)
    assert isinstance(result.exception, ManifestError)
    assert "'../b'" in str(result.exception)
    assert not (tmp_path / "mine").exists()


def test_a_folder_that_cannot_be_written_is_told_before_the_camera_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def told(folder: Path) -> str:
        arguments = ["record", str(folder), "--gestures", "wave,push", "--camera", str(tmp_path / "none.mp4")]
        result = CliRunner().invoke(app, arguments)
        assert isinstance(result.exception, RunError)
        return str(result.exception)

    (tmp_path / "file").touch()
    says = f"{tmp_path / 'file' / 'mine'}: no clip can be written there: {tmp_path / 'file'} is a file; choose another"
    assert told(tmp_path / "file" / "mine").startswith(says)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "push").touch()
    assert f"{tmp_path / 'mine' / 'push'} is a file" in told(tmp_path / "mine")
    # Root may write everywhere.
    monkeypatch.setattr(os, "access", lambda path, mode: mode == os.F_OK and Path(path).exists())
    assert f"{tmp_path} may not be written by you" in told(tmp_path / "new" / "mine")
    assert not (tmp_path / "new").exists()


def test_the_command_records_and_data_check_accepts(tmp_path: Path) -> None:
    video = filmed(tmp_path / "film", 12)
    arguments = ["record", str(tmp_path / "mine"), "--gestures", "wave, push", "--clips", "2", "--seconds", "1"]
    result = CliRunner().invoke(app, [*arguments, "--countdown", "0.5", "--camera", str(video), "--fast"])
    assert result.exit_code == 0, result.output
    assert len(result.stdout.splitlines()) == 4
    assert "4 clips recorded" in result.stderr
    assert CliRunner().invoke(app, ["data", "check", str(tmp_path / "mine")]).exit_code == 0
    again = CliRunner().invoke(app, [*arguments, "--camera", str(video), "--fast"])
    assert "nothing left to record" in again.stderr
