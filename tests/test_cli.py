"""The command line as a user meets it: help, output, exit codes."""

import inspect
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import typer
from cli_helpers import run
from clip_files import rgb_frames, save_video
from typer.testing import CliRunner

import dynagest
from dynagest.card import NetworkCard
from dynagest.cli import app, main
from dynagest.errors import ClipError, ManifestError, RunError
from dynagest.networks.build import create_model
from dynagest.networks.weights import save_network
from dynagest.training.checkpoint import read_checkpoint
from dynagest.training.interrupt import Interrupts

GROUP = typer.main.get_command(app).commands
COMMANDS = [[name] for name in GROUP if name != "data"] + [["data", name] for name in GROUP["data"].commands]


def test_version() -> None:
    assert run("--version") == (0, f"dynagest {dynagest.__version__}\n")


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    """Two classes of three clips each, as folders of 10 frames."""
    for label in ("left", "right"):
        for number in range(3):
            folder = tmp_path / "clips" / label / f"clip{number}" / "color"
            folder.mkdir(parents=True)
            for frame in range(10):
                image = np.full((40, 48, 3), (20 * frame, 100, 50 * number), np.uint8)
                cv2.imwrite(str(folder / f"{frame + 1:06d}.png"), image)
    return tmp_path / "clips"


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_shows_an_example(command: list[str]) -> None:
    code, output = run(*command, "--help")
    assert code == 0
    assert "Example" in output
    assert f"dynagest {' '.join(command)}" in output
    examples = output[output.index("Example") :].splitlines()
    assert all(line.count("dynagest ") <= 1 for line in examples), "each has a line of its own"
    assert "--no-" not in output, "a flag that is off need not be turned off"
    valued = [line for line in output.splitlines() if "<bool>" in line]
    assert all("--help" in line for line in valued), "a flag takes no value (that of --help is typer's own)"


@pytest.mark.parametrize("name", [name for name in dynagest.__all__ if name != "__version__"])
def test_every_public_name_shows_an_example(name: str) -> None:
    text = inspect.getdoc(getattr(dynagest, name)) or ""
    assert re.search("Example|>>>", text)
    for code in re.findall(r"Example: ``(.+?)``", text, re.DOTALL):
        compile(code, name, "exec")


def test_help_needs_no_torch() -> None:
    code = "import sys; from dynagest.cli import app; assert 'torch' not in sys.modules and 'cv2' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_no_digit_is_cut_off_in_a_narrow_terminal() -> None:
    """It is left to the terminal to break the lines: "14.5" for 14.509 would be another number."""
    result = CliRunner().invoke(app, ["count", "tsn_resnet18"], env={"COLUMNS": "40"})
    assert {"tsn_resnet18", "11,219,091", "14.509", "12.669"} <= set(result.output.split())


def test_count_prints_the_constants_of_the_paper() -> None:
    code, output = run("count", "tsm_resnet50", "action_resnet50", "tea_res2net50")
    assert code == 0
    for figure in (
        "23,678,099",
        "27,895,919",
        "24,269,821",
        "32.698",
        "34.435",
        "34.536",
        "28.200",
        "29.803",
        "31.084",
    ):
        assert figure in output
    assert "8,553,472" in output
    assert "4.371" in output


def test_the_advice_for_a_missing_manifest_leads_to_one(clips: Path, tmp_path: Path) -> None:
    folder = clips.rename(tmp_path / "my clips")
    with pytest.raises(ManifestError, match="is not there") as missing:
        run("data", "check", str(folder))
    advised = shlex.split(str(missing.value).split("`")[-2])
    assert run(*advised[1:])[0] == 0
    assert "errors: 0" in run("data", "check", str(folder))[1]


def test_index_and_check(clips: Path, tmp_path: Path) -> None:
    manifest = tmp_path / "clips" / "manifest.csv"
    code, output = run("data", "index", "folders", str(clips), "--out", str(clips), "--holdout", "0.34")
    assert code == 0
    assert "4 train, 2 val clips of 2 classes: left, right\n" in output
    code, output = run("data", "check", str(manifest), "--sheet", str(tmp_path / "sheet.png"))
    assert code == 0
    assert "errors: 0" in output
    assert f"next: dynagest train RECIPE --data {manifest}; " in output
    assert cv2.imread(str(tmp_path / "sheet.png")).shape[0] > 40


def test_places_in_brackets_are_told_whole(clips: Path, tmp_path: Path) -> None:
    place = tmp_path / "[red]" / "[sheet] of all the clips that there are, with a name that is longer than a line.png"
    run("data", "index", "folders", str(clips), "--out", str(clips))
    result = CliRunner().invoke(app, ["data", "check", str(clips), "--sheet", str(place)], env={"COLUMNS": "80"})
    assert result.stderr == f"contact sheet: {place}\n"
    assert place.is_file()


def test_a_sheet_that_cannot_be_written_is_told_before_the_check(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("data", "index", "folders", str(clips), "--out", str(clips))
    monkeypatch.setattr("dynagest.clips.checks.check.check", lambda *_: pytest.fail("checked first"))
    with pytest.raises(RunError, match="is a folder, so no file can be written there"):
        run("data", "check", str(clips), "--sheet", str(tmp_path))
    with pytest.raises(RunError, match="cannot be written"):
        run("data", "check", str(clips), "--sheet", str(clips / "manifest.csv" / "sheet.png"))


def test_check_lists_faults_and_exits_with_1(clips: Path, tmp_path: Path) -> None:
    manifest = clips / "manifest.csv"
    run("data", "index", "folders", str(clips), "--out", str(manifest))
    (clips / "left" / "clip0" / "color" / "000004.png").write_bytes(b"")
    (clips / "right" / "clip1" / "color" / "000010.png").write_bytes(b"not a picture")
    code, output = run("data", "check", str(manifest), "--json")
    assert code == 1
    errors = " ".join(p["message"] for p in json.loads(output)["problems"] if p["severity"] == "error")
    assert "000004.png" in errors
    assert "000010.png" in errors


def test_bad_rows_do_not_hide_what_is_wrong_with_the_files_of_others(clips: Path) -> None:
    manifest = clips / "manifest.csv"
    run("data", "index", "folders", str(clips), "--out", str(manifest))
    rows = manifest.read_text(encoding="utf-8").splitlines()
    rows[1] = rows[1].replace("train", "trian")
    manifest.write_text("\n".join([*rows, "clips,,1"]) + "\n", encoding="utf-8")
    (clips / "right" / "clip1" / "color" / "000010.png").write_bytes(b"")
    code, output = run("data", "check", str(manifest))
    assert code == 1
    told = [line for line in output.splitlines() if line.startswith("error: ")]
    assert told[0] == f"error: line 2: {manifest}: split 'trian' is none of train, val, test"
    assert told[1] == f"error: line 8: {manifest}: 3 cells, the header has 9"
    assert told[2] == f"error: line 6: {clips / 'right' / 'clip1' / 'color'}: 000010.png: empty file"
    assert "not listed" not in output, "the rows that list these clips are to be mended"
    assert output.endswith("errors: 3, warnings: 0\n")
    manifest.write_text("\n".join(rows[:2]) + "\n", encoding="utf-8")
    with pytest.raises(ManifestError, match=r"1 fault to correct:\n  line 2: split 'trian'"):
        run("data", "check", str(manifest))


def test_train_shows_its_recipe() -> None:
    code, output = run("train", "egogesture", "--show", "--set", "batch=32")
    assert code == 0
    assert "lr = 0.0025" in output
    assert "batch = 32" in output
    assert "milestones = (10, 15, 20)" in output


SMALL = [f"--set={pair}" for pair in ("epochs=1", "warmup_epochs=0", "width=8", "size=32", "workers=0", "batch=4")]


def indexed(clips: Path, split: str) -> Path:
    """The clips with every third one in ``split``."""
    manifest = clips / "manifest.csv"
    run("data", "index", "folders", str(clips), "--out", str(manifest))
    head, *rows = manifest.read_text().splitlines()
    at = head.split(",").index("split")
    for place in range(0, len(rows), 3):
        cells = rows[place].split(",")
        rows[place] = ",".join([*cells[:at], split, *cells[at + 1 :]])
    manifest.write_text("\n".join([head, *rows]) + "\n")
    return manifest


def test_train_evaluate_predict(clips: Path, tmp_path: Path) -> None:
    manifest, folder = indexed(clips, "val"), tmp_path / "run"
    code, output = run("train", "webcam", "--data", str(manifest), "--out", str(folder), *SMALL)
    assert code == 0
    assert "WARNING: the recipe webcam is meant to start from" in output
    assert f"report: {folder / 'report.html'}" in output
    assert "Not tested yet" in (folder / "report.html").read_text()
    # There is no test split, so the hint is one that works.
    hint = next(line for line in output.splitlines() if line.startswith("next: dynagest"))
    assert hint.endswith("--split val")
    code, output = run(*hint.removeprefix("next: dynagest ").split(), "--device", "cpu", "--dtype", "bfloat16")
    assert code == 0
    assert "bfloat16 on cpu" in output
    (folder / "metrics.json").unlink()
    (folder / "metrics.json").mkdir()
    result = CliRunner().invoke(app, hint.removeprefix("next: dynagest ").split())
    assert "so no file can be written there" in str(result.exception)
    assert "float32 on cpu" in result.output, "what was found is told before it is written"
    video = clips / "left" / "clip0" / "color"
    result = CliRunner().invoke(app, ["predict", str(folder), str(video), "--json"])
    assert {entry["class"] for entry in json.loads(result.stdout)["top"]} == {"left", "right"}
    assert result.stderr.startswith("on c")
    more = CliRunner().invoke(app, ["predict", str(folder), str(video), "--json", "--protocol", "paper"])
    assert more.exit_code == 0
    assert json.loads(more.stdout)["top"] != json.loads(result.stdout)["top"]


@pytest.mark.parametrize("stages", ["[]", "[{name: plain, changes: {epochs: 2}}]"], ids=["alone", "in a stage"])
def test_a_stopped_run_goes_on_by_its_own_recipe_and_data(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stages: str
) -> None:
    data, folder = indexed(clips, "val"), tmp_path / "run"
    other = data.with_name("other.csv")
    other.write_text(data.read_text().replace(",val,", ",train,"))
    card = NetworkCard(model="action_resnet18", classes=("left", "right"), size=32, width=8)
    init = save_network(tmp_path / "before", create_model("action_resnet18", 2, width=8), card).parent
    options = [*SMALL[1:], "--set=epochs=3", "--set=lr=0.003", f"--set=stages={stages}", "--init", str(init)]

    def stopped(interrupts: Interrupts) -> Interrupts:
        interrupts.requested = True
        return interrupts

    with monkeypatch.context() as patched:
        patched.setattr(Interrupts, "__enter__", stopped)
        assert run("train", "webcam", "--data", str(data), "--out", str(folder), *options)[0] == 130
    recipe = json.loads((folder / "recipe.json").read_text())
    resume = ["train", "--resume", "--out", str(folder)]
    for contradiction, says in (
        (["--set", "epochs=4"], "epochs: 3, 4"),
        (["--init", str(tmp_path)], f"init: {init}, {tmp_path}"),
        (["demo"], "name: webcam, demo"),
        (["--data", str(other)], "data's fingerprint"),
    ):
        with pytest.raises(RunError, match=f"(?s)another recipe or other data, so it cannot be continued.*{says}"):
            run(*resume, *contradiction)
    code, output = run(*resume, "--set", "log_steps=1")
    assert code == 0
    assert f"{folder}: 3 epochs, 3 steps" in output
    assert read_checkpoint(folder).progress.finished
    decided = {"precision": "auto", "log_steps": 10}
    assert json.loads((folder / "recipe.json").read_text()) | decided == recipe | decided


@pytest.mark.parametrize("split", ["train", "val"])
def test_no_hint_without_a_split_to_test(clips: Path, tmp_path: Path, split: str) -> None:
    data = ["--data", str(indexed(clips, split)), "--out", str(tmp_path / "run")]
    code, output = run("train", "webcam", *data, *SMALL, "--set=train_splits=train,val")
    assert code == 0
    assert "next: dynagest evaluate" not in output


def test_a_recipe_of_the_paper_is_tested_as_in_the_paper(clips: Path, tmp_path: Path) -> None:
    data = indexed(clips, "test")
    data.write_text(data.read_text().replace(",test,", ",val,", 1))
    for recipe, told in (("isogd", "--split val --protocol paper"), ("nvgesture", "--split test --protocol paper")):
        out = tmp_path / recipe
        code, output = run("train", recipe, "--data", str(data), "--out", str(out), *SMALL, "--set=msd=none")
        assert code == 0
        assert f"next: dynagest evaluate {out} {told}\n" in output


def test_only_the_main_process_tells(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What Accelerate would make of these variables is no part of this: the trainer is a stand-in."""
    from dynagest.training import trainer

    done = trainer.TrainingSummary(tmp_path, 1, 1, 1.0, None, None, 0)
    monkeypatch.setattr(trainer, "train", lambda *args, **options: done)
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("LOCAL_RANK", "1")
    manifest = str(indexed(clips, "test"))
    capsys.readouterr()
    for data, expected in ((manifest, 0), ("nowhere.csv", 2)):
        monkeypatch.setattr(sys, "argv", ["dynagest", "train", "webcam", "--data", data])
        with pytest.raises(SystemExit) as stopped:
            main()
        assert stopped.value.code == expected
    assert capsys.readouterr() == ("", "")


def test_predict_goes_on_after_a_missing_video(clips: Path, tmp_path: Path) -> None:
    card = NetworkCard(model="tsm_resnet18", classes=("left", "right"), num_segments=4, size=32, width=8)
    save_network(tmp_path, create_model("tsm_resnet18", 2, 4, width=8), card)
    video = clips / "left" / "clip0" / "color"
    result = CliRunner().invoke(app, ["predict", str(tmp_path), "missing.mp4", str(video)])
    assert isinstance(result.exception, ClipError)
    assert "missing.mp4" in str(result.exception)
    assert str(video) in result.stdout
    assert result.stderr.startswith("on c")
    nothing = CliRunner().invoke(app, ["predict", str(tmp_path), "missing.mp4"])
    assert isinstance(nothing.exception, ClipError)
    assert nothing.output == "", "the error alone is told"


def test_predict_says_that_a_recording_is_more_than_one_gesture(tmp_path: Path) -> None:
    card = NetworkCard(model="tsm_resnet18", classes=("left", "right"), num_segments=4, size=32, width=8)
    save_network(tmp_path, create_model("tsm_resnet18", 2, 4, width=8), card)
    videos = [save_video(tmp_path / f"{n} frames.avi", rgb_frames(n)) for n in (900, 901)]
    result = CliRunner().invoke(app, ["predict", str(tmp_path), *map(str, videos)])
    assert result.stderr.count("note: ") == 1
    told = (
        f"note: {videos[1]}: 901 frames are taken for one gesture; for those in it: dynagest live '{videos[1]}' --model"
    )
    assert told in result.stderr


def test_index_keeps_what_a_user_wrote(clips: Path, tmp_path: Path) -> None:
    depth = clips / "right" / "clip0" / "depth"
    depth.mkdir()
    for frame in range(10):
        cv2.imwrite(str(depth / f"{frame + 1:06d}.png"), np.full((40, 48), 20 * frame, np.uint8))
    own = b"# measured by Ann\nnear: bright\n"
    (clips / "depth.yaml").write_bytes(own)
    manifest = clips / "manifest.csv"
    command = ["data", "index", "folders", str(clips), "--out", str(manifest)]
    for _ in range(2):  # the same again changes nothing and is fine
        assert run(*command)[0] == 0
        assert (clips / "depth.yaml").read_bytes() == own
    edited = manifest.read_text().replace("left/clip0", "left/../left/clip0")
    manifest.write_text(edited)
    (clips / "classes.txt").write_text("right\nleft\n")
    with pytest.raises(ManifestError, match=r"classes\.txt and manifest\.csv would change; pass --overwrite"):
        run(*command)
    assert manifest.read_text() == edited
    assert (clips / "classes.txt").read_text() == "right\nleft\n"
    with pytest.raises(ManifestError, match=r"depth\.yaml and manifest\.csv would change"):
        run(*command, "--depth", "isogd")
    assert (clips / "depth.yaml").read_bytes() == own
    assert run(*command, "--overwrite")[0] == 0
    assert (clips / "classes.txt").read_text() == "left\nright\n"
    assert (clips / "depth.yaml").read_bytes() == own


@pytest.mark.slow
def test_ctrl_c_stops_synth_without_tracebacks_and_the_next_run_completes(tmp_path: Path) -> None:
    folder = tmp_path / "generated"
    options = ["--preset", "demo", "--train", "12", "--val", "1", "--test", "1", "--workers", "2"]  # seconds of work
    command = [sys.executable, "-m", "dynagest", "data", "synth", str(folder), *options]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True) as process:
        while process.poll() is None and not any(folder.rglob("*.avi")):
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGINT)
        _, error = process.communicate()
    assert process.returncode == 130
    assert error.replace("\n", "") == f"interrupted; the same command completes {folder}"
    assert not (folder / "manifest.csv").exists()
    subprocess.run(command, check=True)
    assert (folder / "manifest.csv").exists()
