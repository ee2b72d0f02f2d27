"""Every script of ``benchmarks/`` runs to its end at its smallest setting and prints its rows. No time is looked at."""

import argparse
import json
import os
import re
import runpy
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
from export_helpers import save_run
from reproduce_helpers import NO_SPEEDS
from reproduce_helpers import job as small_job
from web_browser import needs_browser

from dynagest.export import export
from dynagest.reproduce.paired import interval
from dynagest.reproduce.plan import plan
from dynagest.reproduce.runner import JOB_FILE, Ledger, Outcome
from dynagest.reproduce.scales import SCALES
from dynagest.reproduce.study import STUDY

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
SCRIPTS = sorted(path.name for path in BENCHMARKS.glob("*.py") if "__main__" in path.read_text(encoding="utf-8"))
NETWORKS = ("tsn_resnet50", "tsm_resnet50", "action_resnet50", "tea_res2net50")
LITERAL = ("plain, contiguous", "three-branch ACTION", "literal TEA")
CODECS = (
    *("JPEG folders", "JPEG + PNG16 depth", "Motion JPEG, avi", "MPEG-4, avi"),
    *("H.264, mp4", "H.264, mp4, a recording"),
)


def start(script: str, folder: Path, *options: object) -> subprocess.CompletedProcess[str]:
    """A script that has ended, in a folder of its own."""
    command = [sys.executable, str(BENCHMARKS / script), *map(str, options)]
    wide = os.environ | {"COLUMNS": "200"}
    return subprocess.run(command, cwd=folder, env=wide, capture_output=True, text=True, check=False)


def run(script: str, folder: Path, *options: object) -> str:
    """What it prints. It must end with exit code 0."""
    done = start(script, folder, *options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def rows(text: str) -> list[list[str]]:
    """The cells of every line that is one of a table: with borders, or cells two spaces apart."""
    lines = (re.split(r"\s*│\s*|\s{2,}", line.strip("│ ")) for line in text.splitlines())
    return [cells for cells in lines if len(cells) > 1]


def is_number(cell: str) -> bool:
    return re.fullmatch(r"[+-]?\d[\d.e+-]*(x|%| %)?", cell) is not None


def numbered(text: str, count: int) -> list[str]:
    """The first cell of every row that ends in so many numbers."""
    return [cells[0] for cells in rows(text) if len(cells) > count and all(map(is_number, cells[-count:]))]


def checks(done: subprocess.CompletedProcess[str], path: Path) -> dict[str, bool]:
    """What a soak judged. A short one on a busy machine may fail by what it measured (exit code 1)."""
    assert done.returncode in (0, 1), done.stdout + done.stderr
    assert path.is_file(), done.stdout + done.stderr
    found = {check["name"]: check["passed"] for check in json.loads(path.read_text())["checks"]}
    assert done.returncode == (0 if all(found.values()) else 1)
    assert [name for name in found if name not in done.stdout] == []
    return found


@pytest.mark.parametrize("script", SCRIPTS)
def test_it_says_how_it_is_used(
    script: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [script, "--help"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(BENCHMARKS / script), run_name="__main__")
    assert ended.value.code == 0
    assert f"usage: {script}" in capsys.readouterr().out


def test_every_script_is_run_below() -> None:
    here = Path(__file__).read_text(encoding="utf-8")
    assert [script for script in SCRIPTS if not re.search(rf'(run|start)\("{script}"', here)] == []


@pytest.mark.parametrize(
    ("script", "options"), [("soak.py", ["--minutes", "0.1"]), ("soak_page.py", ["runs/live", "--minutes", "3"])]
)
def test_a_soak_too_short_to_be_judged_is_refused(
    script: str, options: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [script, *options])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(BENCHMARKS / script), run_name="__main__")
    assert ended.value.code == 2
    assert f"--minutes {options[-1]}: too short" in capsys.readouterr().err


@pytest.mark.parametrize("script", ["soak.py", "soak_page.py"])
def test_as_few_minutes_as_a_soak_says_are_enough(script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made = runpy.run_path(str(BENCHMARKS / script))
    said = re.search(r"``--minutes (\d+)`` is enough", made["__doc__"])
    assert said is not None
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float)
    monkeypatch.setattr(sys, "argv", [script, "--minutes", said[1]])
    assert made["read_options"](parser, made["SAMPLE"]).minutes == float(said[1])


@pytest.mark.slow
def test_networks(tmp_path: Path) -> None:
    out = run("networks.py", tmp_path, "--rounds", 1, "--size", 32, "--frames", 2, "--threads", 1)
    assert numbered(out, 4) == [*NETWORKS, *LITERAL] * 2, "inference and training"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mode", "files"),
    [("clip", [""]), ("stream", ["", ", 2 at once", ", 4 at once"]), ("window", [", clips", ""])],
)
def test_latency(mode: str, files: list[str], tmp_path: Path) -> None:
    small = ("--only", "action_resnet18:16:64", "--rounds", 1, "--threads", 1)
    out = run("latency.py", tmp_path, "--modes", mode, *small)
    found = [tuple(cells[:2]) for cells in rows(out) if len(cells) == 6]
    expected = [("PyTorch eager", "fp32"), ("PyTorch eager, autocast", "bf16")]
    for runtime, precisions in (("ONNX Runtime", ("fp32", "int8")), ("OpenVINO", ("fp32", "bf16", "int8"))):
        expected += [(runtime + which, precision) for precision in precisions for which in files]
    assert found == expected, "a file that cannot be made is left out"


@pytest.mark.slow
def test_pipeline(tmp_path: Path) -> None:
    out = run("pipeline.py", tmp_path, "--clips", 1, "--rounds", 1)
    assert numbered(out, 6) == [codec for codec in CODECS for _ in (112, 224)]


@pytest.mark.slow
def test_pipeline_on_real_clips(shared_data: Path, tmp_path: Path) -> None:
    out = run("pipeline.py", tmp_path, "--clips", 1, "--rounds", 1, "--isogd", shared_data / "isogd")
    assert numbered(out, 6)[-4:] == ["IsoGD, as shipped"] * 2 + ["IsoGD, aligned"] * 2


@pytest.mark.slow
def test_synth(tmp_path: Path) -> None:
    out = run("synth.py", tmp_path, "--clips", 1, "--size", 32, "--frames", 2, "--processes", 2)
    number = r"\d+\.\d"
    assert re.match(f"2 frames of 32 x 32, 2 processes: {number} clips/s by the clock; {number} ms of CPU a clip", out)


@pytest.mark.slow
def test_full_size(tmp_path: Path) -> None:
    small = ("--cpu", "--batch", 1, "--size", 32, "--rounds", 1, "--models", "tsn_resnet18")
    out = run("full_size.py", tmp_path, "out", *small, "--hours", 0, "IV")
    assert numbered(out, 6) == ["tsn_resnet18"]
    kept = json.loads((tmp_path / "out" / "throughput.json").read_text())
    assert [network["model"] for network in kept["networks"]] == ["tsn_resnet18"]
    assert (tmp_path / "out" / "table-IV.md").is_file(), "no run was begun in no time, but the table is there"


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What ``dynagest reproduce`` leaves: a run without decoders, and its twin with both."""
    folder = tmp_path_factory.mktemp("study")
    rows = ("--rows", "TSM, none", "--rows", "TSM, both", "--seeds", "1")
    command = ["-m", "dynagest", "reproduce", "decoders", "--scale", "smoke", *rows, "--out", str(folder)]
    subprocess.run([sys.executable, *command], check=True, capture_output=True)
    return folder


@pytest.mark.slow
def test_decoders(study: Path, tmp_path: Path) -> None:
    (taught,) = study.glob("runs/*-both-*")
    out = run("decoders.py", tmp_path, taught, "--batches", 1)
    assert not (taught / "masks.json").exists(), "the table of masks is of all held-out clips, not of these"
    guesses = ("decoder", "mean depth", "brightness", "untrained")
    masks = [tuple(cells[:2]) for cells in rows(out) if len(cells) == 4 and is_number(cells[-1])]
    assert masks == [(mask, guess) for mask in ("local", "global") for guess in guesses]
    parts = ("stem", "layer1", "layer2", "layer3", "layer4")
    assert numbered(out, 4) == [*parts, *parts], "before the first step, and after the last"


def test_gradients_before_the_first_step_are_those_of_what_the_run_started_from(tmp_path: Path) -> None:
    """A run that knew the gestures was shown with random weights."""
    start = runpy.run_path(str(BENCHMARKS / "decoders.py"))["from_its_start"]
    fresh, before = small_job(), small_job(seed=1)
    after = fresh.model_copy(update={"after": before.key})
    assert start(fresh, tmp_path) == fresh.recipe
    with pytest.raises(SystemExit, match=f"run {before.key} is not there, which {after.name} started from"):
        start(after, tmp_path)
    folder = tmp_path / "runs" / before.name
    folder.mkdir(parents=True)
    (folder / "metrics.json").touch()
    assert start(after, tmp_path).init == str(folder)


@pytest.mark.parametrize(("msd", "says"), [(None, "is no run of `dynagest reproduce`"), ("none", "has no decoders")])
def test_decoders_of_other_folders_are_refused(
    msd: str | None, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if msd:
        (tmp_path / JOB_FILE).write_text(small_job(msd=msd).model_dump_json())
    monkeypatch.setattr(sys, "argv", ["decoders.py", str(tmp_path)])
    with pytest.raises(SystemExit):
        runpy.run_path(str(BENCHMARKS / "decoders.py"), run_name="__main__")
    assert f"{tmp_path}: {says}" in capsys.readouterr().err


def test_a_row_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["networks.py", "--only", "action"])
    with pytest.raises(SystemExit):
        runpy.run_path(str(BENCHMARKS / "networks.py"), run_name="__main__")
    assert "--only: invalid choice: 'action' (choose from " in capsys.readouterr().err


@pytest.mark.slow
def test_starts(study: Path, tmp_path: Path) -> None:
    # So short a training never leaves chance: these two do, ten lines before the epochs that are expected below.
    for arm, first in (("none", 30), ("both", 20)):
        (log,) = study.glob(f"runs/*-{arm}-*/log.jsonl")
        known = [float(number >= first) for number in range(50)]
        lines = [
            {"event": "train", "time": 0.0, "step": number, "epoch": number / 10, "lr": 0.1, "top1": top1}
            for number, top1 in enumerate(known)
        ]
        log.write_text("".join(json.dumps(line) + "\n" for line in lines))
    out = run("starts.py", tmp_path, study, "--known", 1)
    (row,) = [cells for cells in rows(out) if cells[0].startswith("TSM")]
    assert row[:5] == ["TSM, 1 epochs, clutter 0.3", "1", "3.9", "2.9", "-1.0"]
    assert "1 pairs of 1 seeds: the start differs by -25.6 %,\nis earlier in 1\n" in out


def test_starts_tell_runs_that_know_the_gestures_from_fresh_ones(tmp_path: Path) -> None:
    """Both train for as long on the same clips; one took the other's place in the table."""
    table = STUDY["conditions"].only(["hard clutter: both", "first without, then hard clutter: both"])
    ledger = Ledger(tmp_path / "ledger.jsonl")
    for job in plan(table, SCALES["small"], {}, range(2), NO_SPEEDS).jobs:
        folder = tmp_path / "runs" / job.name
        folder.mkdir(parents=True)
        (folder / JOB_FILE).write_text(job.model_dump_json())
        first = (2 if job.after else 20) - (job.recipe.msd == "both")
        lines = [
            {"event": "train", "time": 0.0, "step": k, "epoch": k / 10, "lr": 0.1, "top1": float(k >= first)}
            for k in range(40)
        ]
        (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        ledger.add(Outcome(key=job.key, name=job.name, top1=0.5))
    pairs, never = runpy.run_path(str(BENCHMARKS / "starts.py"))["read_pairs"](tmp_path, 1.0, 0.01)
    assert never == []
    starts = {name: [[arm.start for arm in pair] for pair in seeds.values()] for name, seeds in pairs.items()}
    assert starts == {
        "TSM, 20 epochs, clutter 1.0": [[2.9, 2.8]] * 2,
        "TSM, 20 epochs, clutter 1.0, trained before": [[1.1, 1.0]] * 2,
    }


def test_starts_of_nothing_are_no_table(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "argv", ["starts.py", str(tmp_path)])
    with pytest.raises(SystemExit, match="no run with both decoders has a twin"):
        runpy.run_path(str(BENCHMARKS / "starts.py"), run_name="__main__")


def test_power_takes_each_pair_once_and_where_it_has_most_seeds(tmp_path: Path) -> None:
    plain = {str(seed): 50.0 for seed in range(5)}
    better = {"0": 52.0, "1": 53.0, "2": 53.0, "3": 51.5, "4": 51.0}

    def row(name: str, by_seed: dict[str, float], against: str | None) -> dict:
        values = [by_seed[seed] - plain[seed] for seed in by_seed] if against else []
        found = interval(values) if against else None
        score = {"by_seed": by_seed, "minutes": 60.0 * len(by_seed), "difference": found and asdict(found)}
        return {"name": name, "system": "tsm", "against": against, "scores": [score]}

    def table(name: str, *rows: dict) -> None:
        (tmp_path / f"table-{name}.json").write_text(json.dumps({"table": name, "rows": rows}))

    few = dict(list(better.items())[:3])
    nothing = {"0": 50.1, "1": 49.9, "2": 50.3, "3": 50.1, "4": 50.1}
    table(
        "A",
        row("plain", plain, None),
        row("few", few, "plain"),
        row("nothing", nothing, "plain"),
        row("same", plain, "plain"),
    )
    table("B", row("none", plain, None), row("all", better, "none"))
    table("masks")
    out = run("power.py", tmp_path, tmp_path, "--width", "2")
    found = {cells[0]: cells[1:] for cells in rows(out) if len(cells) == 5}
    assert found["B: all - none"] == ["+2.1 ± 1.1", "5", "0.0063", "6"]
    assert found["A: nothing - plain"] == ["+0.1 ± 0.2", "5", "0.19", "3"]
    assert found["A: same - plain"] == ["+0.0 ± 0.0", "5", "1", "3"]
    assert not any("few" in name for name in found)
    # One more seed of both rows, at an hour a run.
    assert (
        "3 differences: zero lies outside of 1, after Bonferroni's correction outside of 1. 1 interval is not narrower "
        "than 2 points; more seeds until all are would take 2 hours." in out
    )


def test_power_of_nothing_is_no_table(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["power.py", "nowhere"])
    with pytest.raises(SystemExit):
        runpy.run_path(str(BENCHMARKS / "power.py"), run_name="__main__")
    assert "nowhere: no table-*.json with a difference over three seeds or more" in capsys.readouterr().err


@pytest.mark.slow
def test_soak(tmp_path: Path) -> None:
    found = checks(start("soak.py", tmp_path, "--minutes", 0.4), tmp_path / "soak.json")
    measured = ("memory stays flat", "delay does not grow", "no files are left open", "no threads are left")
    assert found.keys() >= set(measured)
    others = {name: passed for name, passed in found.items() if name not in measured}
    expected = ("unplugged and back", "corrupt pictures left out", "card of another version", "card without classes")
    assert others == dict.fromkeys((*expected, "half a file"), True)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = save_run(tmp_path_factory.mktemp("run"), "action_resnet18")
    export(folder, "onnx", clips=2)
    return folder / "network-fp32.onnx"


@pytest.mark.slow
def test_browser(exported: Path, tmp_path: Path) -> None:
    needs_browser()
    out = run("browser.py", tmp_path, exported, "--seconds", 1)
    assert re.match(r"network-fp32.onnx on CPU, \d threads?: \d+\.\d frames/s, .+ ms preprocessing \(\d+ frames\)", out)
    summary = json.loads(run("browser.py", tmp_path, exported, "--seconds", 1, "--json"))
    assert summary["network"] == "network-fp32.onnx"
    assert summary["isolated"], "without it the network has one thread"
    assert 0 < summary["preprocessing_ms"] < summary["median_ms"] <= summary["p95_ms"]


@pytest.mark.slow
def test_soak_page(exported: Path, tmp_path: Path) -> None:
    needs_browser()
    done = start("soak_page.py", tmp_path, exported, "--minutes", 4, "--browsers", 2)
    found = checks(done, tmp_path / "soak_page.json")
    flat = [f"flat: {name}" for name in ("heap", "nodes", "listeners", "renderer", "browser", "server")]
    rates = ["delay does not grow", "camera keeps its rate", "network keeps its rate", "gestures to the end"]
    assert list(found) == [*flat, *rates]
