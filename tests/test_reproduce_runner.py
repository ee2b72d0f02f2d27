"""Running what is missing: once, whatever interrupts it."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from clip_files import BRIGHT, depth_frames, rgb_frames, save_video
from filelock import FileLock, Timeout
from reproduce_helpers import job
from typer.testing import CliRunner

from dynagest.cli import app
from dynagest.clips.manifest import Clip, Manifest
from dynagest.errors import RunError, TrainingError
from dynagest.reproduce.jobs import OnDisk, digest
from dynagest.reproduce.masks import GUESSES
from dynagest.reproduce.runner import Ledger, Outcome, run_job, run_missing
from dynagest.reproduce.study import MASKS, STUDY
from dynagest.reproduce.tables import TABLES
from dynagest.testing.evaluate import evaluate
from dynagest.testing.evaluation import Evaluation
from dynagest.training.environment import processor
from dynagest.training.interrupt import TrainingInterrupted


def test_a_job_is_run_once(tmp_path):
    ledger, said = Ledger(tmp_path / "ledger.jsonl"), []
    assert run_missing([job(), job()], tmp_path, ledger, told=said.append) == []
    outcome = ledger.read()[job().key]
    assert outcome.clips == 4
    assert outcome.top1 in {0, 0.25, 0.5, 0.75, 1}
    assert [line.split()[0] for line in said] == ["start", "done"]
    said.clear()
    shutil.rmtree(tmp_path / "runs")
    assert run_missing([job()], tmp_path, ledger, told=said.append) == []
    assert said == []
    # But where a picture needs its network. Of two outcomes, as of two machines, the tables keep the first.
    other = outcome.model_copy(update={"top1": 0.123, "clips": 9})
    ledger.path.write_text(f"{other.model_dump_json()}\n")
    assert run_missing([job()], tmp_path, ledger, told=said.append, pictured=[job()]) == []
    assert [line.split()[0] for line in said] == ["start", "done"]
    assert said[0].endswith("(0 to go, again for its network, which is gone: its outcome stays)")
    assert ledger.read() == {job().key: other}


def test_a_job_starts_from_the_one_before(tmp_path):
    ledger = Ledger(tmp_path / "ledger.jsonl")
    first = job(seed=1)
    second = job(seed=2, epochs=1).model_copy(update={"after": first.key})
    assert run_missing([second, first], tmp_path, ledger, told=lambda line: None) == []
    log = (tmp_path / "runs" / second.name / "log.jsonl").read_text()
    assert str(tmp_path / "runs" / first.name) in log
    assert set(ledger.read()) == {first.key, second.key}


def test_a_run_goes_on_where_it_and_what_it_started_from_have_moved(tmp_path):
    """As on another machine. The key says which weights they are, wherever they lie."""
    here, there = tmp_path / "here", tmp_path / "there"
    first = job(seed=1, epochs=1)
    second = job(seed=2, epochs=1).model_copy(update={"after": first.key})
    ledger, again = Ledger(tmp_path / "ledger.jsonl"), Ledger(tmp_path / "again.jsonl")
    assert run_missing([first, second], here, ledger, told=lambda line: None) == []
    here.rename(there)
    log = (there / "runs" / second.name / "log.jsonl").read_bytes()
    run_job(second, there, again)
    assert again.read()[second.key].top1 == ledger.read()[second.key].top1
    assert (there / "runs" / second.name / "log.jsonl").read_bytes() == log  # trained no step more


def test_a_run_that_diverges_is_an_outcome(tmp_path):
    ledger = Ledger(tmp_path / "ledger.jsonl")
    wild = job(lr=1e30, optimiser="sgd", clip_norm=1e30)
    (tmp_path / "runs" / wild.name).mkdir(parents=True)
    run_job(wild, tmp_path, ledger)
    outcome = ledger.read()[wild.key]
    assert outcome.top1 is None
    assert outcome.failed is not None
    assert "not finite" in outcome.failed


def test_a_run_has_the_threads_of_its_recipe_from_its_start_to_its_test(tmp_path, monkeypatch):
    found = []

    def tested(*arguments: Any, **options: Any) -> Evaluation:
        found.append(torch.get_num_threads())
        return evaluate(*arguments, **options)

    monkeypatch.setattr("dynagest.testing.evaluate.evaluate", tested)
    ledger, three = Ledger(tmp_path / "ledger.jsonl"), job(threads=3, epochs=1)
    (tmp_path / "runs" / three.name).mkdir(parents=True)
    run_job(three, tmp_path, ledger)
    assert found == [3]
    machine = ledger.read()[three.key].machine
    assert machine.startswith("3 of ")
    assert processor() in machine


def test_what_diverged_is_not_run_again_and_what_starts_from_it_is_named(tmp_path):
    ledger, said = Ledger(tmp_path / "ledger.jsonl"), []
    first = job()
    ledger.add(Outcome(key=first.key, name=first.name, top1=None, failed="not finite"))
    after = [job(seed=seed).model_copy(update={"after": first.key}) for seed in (1, 2)]
    errors = run_missing([first, *after], tmp_path, ledger, told=said.append)
    run_job(first, tmp_path, ledger)  # nor by a process that had waited for the one whose loss was not finite
    assert said == []
    assert not (tmp_path / "runs" / first.name / "recipe.json").exists()
    assert [error.split(":")[0] for error in errors] == [each.name for each in after]
    assert all(first.key in error for error in errors)


def test_training_that_could_go_on_another_day_is_no_outcome(tmp_path, monkeypatch):
    def dead(*arguments, **options):
        raise TrainingError("a data worker ended in mid-run (killed)")

    monkeypatch.setattr("dynagest.training.trainer.train", dead)
    ledger = Ledger(tmp_path / "ledger.jsonl")
    (tmp_path / "runs" / job().name).mkdir(parents=True)
    with pytest.raises(TrainingError, match="data worker"):
        run_job(job(), tmp_path, ledger)
    assert ledger.read() == {}


def test_a_run_stopped_while_it_was_starting_has_not_failed(tmp_path, monkeypatch):
    """Until a job's process has imported everything, SIGTERM ends it as any process."""
    command = [sys.executable, "-c", "import os, signal; os.kill(os.getpid(), signal.SIGTERM); print(1)"]
    monkeypatch.setattr(
        "dynagest.reproduce.runner._start",
        lambda *arguments: subprocess.Popen(command, stderr=subprocess.DEVNULL),
    )
    said: list[str] = []
    assert run_missing([job()], tmp_path, Ledger(tmp_path / "ledger.jsonl"), told=said.append) == []
    assert said[-1] == f"stopped {job().name}"


def test_asked_to_end_it_ends_what_it_has_started(tmp_path, monkeypatch):
    started = []

    def start(*arguments):
        started.append(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]))
        os.kill(os.getpid(), signal.SIGTERM)
        return started[0]

    monkeypatch.setattr("dynagest.reproduce.runner._start", start)
    said: list[str] = []
    with pytest.raises(TrainingInterrupted, match="the same command goes on"):
        run_missing([job(), job(seed=1)], tmp_path, Ledger(tmp_path / "ledger.jsonl"), told=said.append)
    assert said[-1] == "stopped; the same command goes on from where the runs stand"  # Typer ends without a word
    assert [process.returncode for process in started] == [-signal.SIGTERM]


@pytest.mark.parametrize("split", ["val", "test"])
def test_a_manifest_is_tested_on_the_split_of_the_job(tmp_path, split):
    """IsoGD's job tests on val, and what is not in it is not there; one of the test clips cannot be read."""
    clips = []
    for index, part in enumerate(["train"] * 4 + ["val"] * 2 + ["test"] * 3):
        label = "ab"[index % 2]
        video = save_video(tmp_path / "clips" / f"{index}.avi", rgb_frames(8, seed=index))
        depth = save_video(tmp_path / "clips" / f"{index}d.avi", depth_frames(8))
        clips.append(Clip(video, label, depth, split=part))
    video.write_bytes(b"")
    path = Manifest.of(clips, depth=BRIGHT, classes=("a", "b")).write(tmp_path / "manifest.csv").path
    assert path is not None
    data = OnDisk(name="isogd", manifest=path, content=digest(path), split=split)
    for changes in ({}, {"options": {"inputs": "rgbd"}, "msd": "none"}):
        once = job(epochs=1, **changes).model_copy(update={"data": data, "protocol": "paper"})
        ledger = Ledger(tmp_path / "ledger.jsonl")
        (tmp_path / "runs" / once.name).mkdir(parents=True)
        run_job(once, tmp_path, ledger)
        outcome = ledger.read()[once.key]
        assert (outcome.clips, outcome.unreadable) == {"val": (2, 0), "test": (2, 1)}[split]


def test_a_job_that_cannot_run_is_named_and_the_others_go_on(tmp_path):
    ledger = Ledger(tmp_path / "ledger.jsonl")
    wrong = job(flip_labels={"grab": "nothing"})
    errors = run_missing([wrong, job()], tmp_path, ledger, parallel=2, told=lambda line: None)
    assert len(errors) == 1
    assert wrong.name in errors[0]
    assert "'nothing' is not among the classes" in errors[0]
    assert set(ledger.read()) == {job().key}


def test_a_run_that_is_killed_alone_is_told_by_its_signal(tmp_path, monkeypatch):
    """The last line that it wrote is of something else."""
    command = [sys.executable, "-c", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"]
    monkeypatch.setattr("dynagest.reproduce.runner._start", lambda *arguments: subprocess.Popen(command))
    ledger, said = Ledger(tmp_path / "ledger.jsonl"), []
    (tmp_path / "runs" / job().name).mkdir(parents=True)
    (tmp_path / "runs" / job().name / "output.txt").write_text("epoch 3/20\n")
    ledger.add(Outcome(key=job().key, name=job().name, top1=0.5))  # run again for a picture, which now has no network
    (error,) = run_missing([job()], tmp_path, ledger, told=said.append, pictured=[job()])
    assert "Killed from outside, as when memory runs out; the same command goes on" in error
    assert said[-1] == f"failed  {job().name}"


def test_a_ledger_that_cannot_be_written_is_refused_before_anything_runs(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"file: takes no files or no locks \(.*\); choose a folder that can be written"):
        run_missing([job()], tmp_path, Ledger(tmp_path / "file" / "ledger.jsonl"))
    assert not (tmp_path / "runs").exists()


class Working:
    """Stands for the process of a run: it ends well when it has been asked twice, or is told to."""

    returncode = None

    def __init__(self) -> None:
        self.asked = 0

    def poll(self) -> int | None:
        self.asked += 1
        self.returncode = 0 if self.asked > 2 and self.returncode is None else self.returncode
        return self.returncode

    def terminate(self) -> None:
        self.returncode = -signal.SIGTERM

    def wait(self) -> int | None:
        return self.returncode


@pytest.mark.parametrize(("parallel", "threads"), [(1, 8), (2, 4), (3, 2)])
def test_so_many_runs_at_once_share_the_cores(tmp_path, monkeypatch, parallel, threads):
    started: list[Working] = []
    most, given = [], set()

    def start(job, root, ledger, threads):
        started.append(Working())
        most.append(sum(each.returncode is None for each in started))
        given.add(threads)
        return started[-1]

    monkeypatch.setattr("dynagest.reproduce.runner._start", start)
    monkeypatch.setattr("dynagest.reproduce.runner.available_cores", lambda: 8)
    monkeypatch.setattr("dynagest.reproduce.runner.time.sleep", lambda seconds: None)
    jobs = [job(seed=seed) for seed in range(5)]
    run_missing(jobs, tmp_path, Ledger(tmp_path / "ledger.jsonl"), parallel=parallel, told=lambda line: None)
    assert len(started) == 5
    assert max(most) == parallel
    assert given == {threads}


def test_when_the_time_is_over_no_run_is_started_and_those_at_work_stop(tmp_path, monkeypatch):
    started: list[Working] = []
    now = 0.0

    def start(*arguments):
        nonlocal now
        now = 60.5  # the first one has just begun when the minute is over
        started.append(Working())
        return started[0]

    monkeypatch.setattr("dynagest.reproduce.runner._start", start)
    monkeypatch.setattr("dynagest.reproduce.runner.time.monotonic", lambda: now)
    monkeypatch.setattr("dynagest.reproduce.runner.time.sleep", lambda seconds: None)
    said: list[str] = []
    jobs = [job(), job(seed=1)]
    assert run_missing(jobs, tmp_path, Ledger(tmp_path / "ledger.jsonl"), seconds=60, told=said.append) == []
    assert [each.returncode for each in started] == [-signal.SIGTERM]
    assert [line.split()[0] for line in said] == ["start", "stopped"]


def test_in_no_time_nothing_is_started_however_coarse_the_clock_is(tmp_path, monkeypatch):
    monkeypatch.setattr("dynagest.reproduce.runner.time.monotonic", lambda: 0.0)
    monkeypatch.setattr("dynagest.reproduce.runner._start", lambda *arguments: pytest.fail("a run was started"))
    assert run_missing([job()], tmp_path, Ledger(tmp_path / "ledger.jsonl"), seconds=0.0) == []


def test_the_ledger_is_read_and_written_by_one_process_at_a_time(tmp_path, monkeypatch):
    """Otherwise an outcome that another run adds in between would be lost."""
    path = tmp_path / "ledger.jsonl"
    read, held = Ledger.read, []

    def reading(self: Ledger) -> dict[str, Outcome]:
        try:
            with FileLock(tmp_path / ".ledger.jsonl.lock", timeout=0):
                held.append(False)
        except Timeout:
            held.append(True)
        return read(self)

    monkeypatch.setattr(Ledger, "read", reading)
    for key in "ab":
        Ledger(path).add(Outcome(key=key, name=key, top1=0.5))
    assert held == [True, True]
    assert list(Ledger(path).read()) == ["a", "b"]


def test_runs_at_work_are_ended_when_another_cannot_start(tmp_path, monkeypatch):
    started = []

    def start(*arguments):
        if started:
            raise RunError("disk full")
        started.append(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]))
        return started[0]

    monkeypatch.setattr("dynagest.reproduce.runner._start", start)
    with pytest.raises(RunError, match="disk full"):
        run_missing([job(), job(seed=1)], tmp_path, Ledger(tmp_path / "ledger.jsonl"), parallel=2)
    assert started[0].returncode == -signal.SIGTERM


def test_a_damaged_ledger_is_refused(tmp_path):
    path = tmp_path / "ledger.jsonl"
    Ledger(path).add(Outcome(key="a", name="a", top1=0.5))
    assert set(Ledger(path).read()) == {"a"}
    path.write_text(path.read_text() + '{"key": "b", "na')
    with pytest.raises(RunError, match=r"line 2 is no outcome \(it is not JSON.*; remove that line, and its run is"):
        Ledger(path).read()
    path.write_text('{"key": "a", "name": "a", "top1": 0.5, "of_another_version": 1}')
    with pytest.raises(RunError, match=r"line 1 is no outcome \(of_another_version: there is no such field"):
        Ledger(path).read()
    for top1 in ("92.5", "NaN"):  # in %, as the tables have it, or no number: 9250 % and nan would stand in the table
        path.write_text(f'{{"key": "a", "name": "a", "top1": {top1}}}')
        with pytest.raises(RunError, match=r"line 1 is no outcome \(top1: is .*, but must be at"):
            Ledger(path).read()


def reproduce(out: Path, *arguments: str) -> subprocess.Popen[bytes]:
    # Always two at once: with another number of threads sums are added up in another order.
    command = [sys.executable, "-m", "dynagest", "reproduce", *arguments, "--scale", "smoke", "--parallel", "2"]
    command += ["--out", str(out)]
    return subprocess.Popen(
        command, env=os.environ | {"OMP_NUM_THREADS": "1"}, stdout=subprocess.DEVNULL, start_new_session=True
    )


def scores(out: Path) -> list[object]:
    (table,) = out.glob("table-*.json")
    return [row["scores"][0]["by_seed"] for row in json.loads(table.read_text())["rows"]]


def networks(out: Path) -> dict[str, str]:
    """A digest of each run's weights: accuracies on eight clips do not tell two runs apart."""
    paths = (out / "runs").glob("*/network.safetensors")
    return {path.parent.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


# Of one training a run; of three stages, and of a run that another one starts from.
@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [
        ["IV"],
        ["V", "--rows", "Segmentation*, 8 *", "--rows", "MTUT*"],
        ["conditions", "--rows", "first without*none", "--rows", "first without*both"],
    ],
)
def test_killed_at_any_moment_it_comes_to_the_same_table(tmp_path, arguments):
    assert reproduce(tmp_path / "whole", *arguments).wait() == 0
    broken = tmp_path / "broken"
    for seconds in (3.0, 6.0, 9.0):
        process = reproduce(broken, *arguments)
        time.sleep(seconds)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    process = reproduce(broken, *arguments)
    time.sleep(4.0)
    process.kill()  # the command alone: what it had started goes on, and the next one waits for it
    process.wait()
    assert reproduce(broken, *arguments).wait() == 0
    assert scores(broken) == scores(tmp_path / "whole")
    assert len(networks(broken)) >= 2
    assert networks(broken) == networks(tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.parametrize("table", [name for name in TABLES | STUDY if name not in ("IV", "masks")])
def test_every_table_at_smoke(table, tmp_path_factory):
    out = tmp_path_factory.getbasetemp() / "reproduce"
    command = [sys.executable, "-m", "dynagest", "reproduce", table, "--scale", "smoke", "--out", str(out)]
    done = subprocess.run(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows = json.loads((out / f"table-{table}.json").read_text())["rows"]
    assert [row["name"] for row in rows] == [row.name for row in (TABLES | STUDY)[table].rows]
    assert all(0 <= row["scores"][0]["mean"]["mean"] <= 100 for row in rows)
    assert (out / f"table-{table}.png").stat().st_size > 1000


def test_masks_are_scored_against_the_guesses_over_all_seeds(tmp_path):
    command = ["reproduce", "masks", "--rows", "raw depth", "--scale", "smoke", "--seeds", "2", "--out", str(tmp_path)]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    (scores,) = json.loads((tmp_path / "table-masks.json").read_text())["rows"].values()
    assert [(score["mask"], score["guess"]) for score in scores] == [
        (mask, guess) for mask in ("local", "global") for guess in GUESSES
    ]
    runs = [json.loads(path.read_text()) for path in sorted(tmp_path.glob("runs/*/masks.json"))]
    assert len(runs) == 2
    assert runs[0] != runs[1]
    decoder = scores[0]["mse"]
    assert decoder == pytest.approx((runs[0][0]["mse"] + runs[1][0]["mse"]) / 2)
    assert len(list(tmp_path.glob("figure-masks-*.png"))) == 1


@pytest.mark.slow
def test_masks_at_smoke_have_every_target(tmp_path):
    done = CliRunner().invoke(app, ["reproduce", "masks", "--scale", "smoke", "--seeds", "1", "--out", str(tmp_path)])
    assert done.exit_code == 0, done.output
    assert list(json.loads((tmp_path / "table-masks.json").read_text())["rows"]) == [row.name for row in MASKS.rows]
