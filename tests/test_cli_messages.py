"""What the command line says of mistakes, and of names that its markup could swallow: one message, no traceback."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import typer
from cli_helpers import run
from rich.text import Text

from dynagest import doctor
from dynagest.card import NetworkCard
from dynagest.cli import main
from dynagest.cli.export import _print as print_export
from dynagest.cli.live import _told as announce
from dynagest.cli.options import choose_device
from dynagest.cli.progress import rendering
from dynagest.errors import RecipeError, RunError, first_line
from dynagest.export.verify import Comparison
from dynagest.export.write import Export
from dynagest.live.record import Prompt
from dynagest.networks.build import create_model
from dynagest.networks.weights import save_network
from dynagest.runtimes.model_file import ModelInfo

LONG = "x" * 300  # as a name pasted twice
BRACKETS = "[train] pip install 'dynagest[train]' [/] [bold]x[/bold]"


def test_the_doctor_says_words_in_brackets(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [doctor.Finding("torch", "warning", BRACKETS), doctor.Finding("disk", "ok", "in /data/[red]")]
    monkeypatch.setattr(doctor, "examine", lambda folder: found)
    code, output = run("doctor")
    assert code == 0
    lines = [line.strip().split(None, 2) for line in output.splitlines()]
    assert lines == [["warning", "torch", BRACKETS], ["ok", "disk", "in /data/[red]"]]


def test_an_interrupted_rendering_tells_a_folder_in_brackets(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as stopped, rendering("clips", Path("data/[red]")):
        raise KeyboardInterrupt
    assert stopped.value.exit_code == 130
    assert capsys.readouterr().err == "interrupted; the same command completes data/[red]\n"


def test_count_names_a_run_in_brackets(tmp_path: Path) -> None:
    card = NetworkCard(model="tsn_resnet18", classes=("a", "b"), num_segments=4, size=32, width=8)
    folder = save_network(tmp_path / "[red]", create_model("tsn_resnet18", 2, 4, width=8), card).parent
    assert f"{folder} " in run("count", str(folder))[1]


def test_export_names_a_file_in_brackets(capsys: pytest.CaptureFixture[str]) -> None:
    card = NetworkCard(model="tsn_resnet18", classes=("a", "b"))
    info = ModelInfo(mode="clip", precision="fp32", card=card)
    compared = Comparison.of(np.eye(2), np.eye(2), np.arange(2))
    print_export(Export(Path("runs/[red].onnx"), info, "two clips", compared, 2**20, 2**20, 0.001, 0.002))
    assert "[red].onnx, fp32" in capsys.readouterr().out


def test_another_librarys_error_is_told_in_one_plain_line() -> None:
    assert first_line(RuntimeError("\x1b[96m\n[torch.onnx] \x1b[31mno way\x1b[0m\nmore")) == "[torch.onnx] no way"


def test_a_gesture_in_brackets_is_announced() -> None:
    prompt = Prompt("[red] [/]", 1, 5, "recording", 1.5, None)
    assert Text.from_markup(announce(prompt, 2.0)).plain == "[red] [/], clip 1 of 5: recording, 1.5 of 2 s"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["count", "action_resnet5"], "action_resnet50"),
        (["count", "redundanc"], "there is no network or system 'redundanc'; did you mean redundancy"),
        (["train", "egogestur", "--data", "x"], "egogesture"),
        (["train", "demo"], "--data"),
        (["train", "demo", "--data", "x", "--resume", "--overwrite"], "one of them"),
        (["train", "--resume"], "--resume --out"),
        (["train", "--resume", "--out", "nowhere"], "nowhere/recipe.json: is not there, so there is no run to resume"),
        (["train", "demo", "--data", "nowhere.csv"], "nowhere.csv"),
        (["train", "demo", "--data", "x", "--set", "lrr=1"], "did you mean lr"),
        (["data", "index", "isogdd", "."], "isogd"),
        (["data", "index", "isogd", "/nowhere"], "/nowhere"),
        (["data", "check", "nowhere"], "nowhere"),
        (["data", "synth", "x", "--preset", "easy"], "demo"),
        (["data", "synth", "x", "--set", "clutter=2"], "clutter"),
        (["evaluate", "nowhere"], "nowhere"),
        (["predict", "nowhere", "x.mp4"], "nowhere"),
        (["predict", LONG, "x.mp4"], f"{LONG}: File name too long; check the name"),
        (["train", "demo", "--data", LONG], f"{LONG}: File name too long; check the name"),
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


@pytest.mark.parametrize(
    ("arguments", "package", "says"),
    [
        (["evaluate", "x"], "torch", 'torch, which is not installed: pip install "dynagest[train]"; to recognise'),
        (["count", "tsn_resnet18"], "torch", 'torch, which is not installed: pip install "dynagest[train]"\n'),
        (
            ["serve", "x.onnx"],
            "uvicorn",
            'uvicorn, which is not installed: pip install "dynagest[serve]"\n',
        ),
    ],
)
def test_a_package_that_is_not_installed_is_no_traceback(
    arguments: list[str], package: str, says: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.delitem(sys.modules, "dynagest.web.serve", raising=False)
    monkeypatch.setattr(sys, "argv", ["dynagest", *arguments])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 2
    assert says in capsys.readouterr().err


def test_a_package_that_dynagest_does_not_name_is_a_bug(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dynagest.cli.app", lambda: __import__("no_such_package"))
    with pytest.raises(ModuleNotFoundError, match="no_such_package"):
        main()


def test_a_device_that_is_not_there() -> None:
    for arguments in (["evaluate", "run"], ["predict", "run", "x.mp4"]):
        with pytest.raises(RecipeError, match="--device quantum: not to be used here"):
            run(*arguments, "--device", "quantum")


def test_the_module_is_the_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "dynagest", "train", "demo"], capture_output=True, text=True, check=False, env=os.environ
    )
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("device", ["hpu", "privateuseone", "meta", "opengl", "vulkan", "foo", "cuda:x", ""])
def test_a_device_that_computes_nothing_is_refused_in_one_line(device: str) -> None:
    with pytest.raises(RecipeError, match=f"^--device {device}: not to be used here") as told:
        choose_device(device)
    assert len(str(told.value)) < 120
    assert "\n" not in str(told.value)


def test_evaluate_refuses_a_file_before_it_tests(tmp_path: Path) -> None:
    weights = tmp_path / "network.safetensors"
    weights.write_bytes(b"anything")
    with pytest.raises(RunError, match=f"network.safetensors: is a file; .* as in {tmp_path}$"):
        run("evaluate", str(weights), "--data", "nowhere")
