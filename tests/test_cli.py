"""The command line as a user meets it: help, output, exit codes, and mistakes without a traceback."""

import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from dynagest.cli import app, main

COMMANDS = [
    ["train"],
    ["evaluate"],
    ["predict"],
    ["count"],
    ["doctor"],
    ["data", "index"],
    ["data", "check"],
    ["data", "synth"],
]


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, list(arguments), env={"COLUMNS": "200"})
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


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


def test_help_needs_no_torch() -> None:
    code = "import sys; from dynagest.cli import app; assert 'torch' not in sys.modules and 'cv2' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


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


def test_index_and_check(clips: Path, tmp_path: Path) -> None:
    manifest = tmp_path / "clips" / "manifest.csv"
    code, output = run("data", "index", "folders", str(clips), "--out", str(manifest), "--holdout", "0.34")
    assert code == 0
    assert "4 train, 2 val clips of 2 classes" in output
    code, output = run("data", "check", str(manifest), "--sheet", str(tmp_path / "sheet.png"))
    assert code == 0
    assert "0 errors" in output
    assert cv2.imread(str(tmp_path / "sheet.png")).shape[0] > 40


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


def test_train_shows_its_recipe() -> None:
    code, output = run("train", "egogesture", "--show", "--set", "batch=32")
    assert code == 0
    assert "lr = 0.0025" in output
    assert "batch = 32" in output
    assert "milestones = (10, 15, 20)" in output


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["count", "action_resnet5"], "action_resnet50"),
        (["train", "egogestur", "--data", "x"], "egogesture"),
        (["train", "demo"], "--data"),
        (["train", "demo", "--data", "nowhere.csv"], "nowhere.csv"),
        (["train", "demo", "--data", "x", "--set", "lrr=1"], "did you mean lr"),
        (["data", "index", "isogdd", "."], "isogd"),
        (["data", "index", "isogd", "/nowhere"], "/nowhere"),
        (["data", "check", "nowhere"], "nowhere"),
        (["data", "synth", "x", "--preset", "easy"], "demo"),
        (["data", "synth", "x", "--set", "clutter=2"], "clutter"),
        (["evaluate", "nowhere"], "nowhere"),
        (["predict", "nowhere", "x.mp4"], "nowhere"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_is_one_message_and_exit_code_2(
    arguments: list[str], says: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["dynagest", *arguments])
    with pytest.raises(SystemExit) as stopped:
        main()
    error = capsys.readouterr().err
    assert stopped.value.code == 2
    assert "error:" in error
    assert says in error
    assert "Traceback" not in error
    assert list(tmp_path.iterdir()) == []


def test_the_module_is_the_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "dynagest", "train", "demo"], capture_output=True, text=True, check=False, env=os.environ
    )
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
