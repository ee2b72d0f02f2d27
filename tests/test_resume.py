"""A training run that is interrupted, resumed, overwritten, or meets a folder that is used already."""

import os
import shutil
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest
from training_toys import ToyClips, assert_same, start, toy_data, toy_recipe, weights

from dynagest.errors import ModelError, RunError, WeightsError
from dynagest.lock import sole_writer
from dynagest.networks.weights import load_network
from dynagest.training.checkpoint import Checkpoint, read_checkpoint
from dynagest.training.engine import Engine
from dynagest.training.folder import has_run, read_recipe
from dynagest.training.log import RunLog, read_log
from dynagest.training.trainer import train


def test_killed_run_resumes_to_the_same_weights(tmp_path: Path) -> None:
    """SIGKILL in the middle of an epoch, with workers running; resumed in this process."""
    recipe = toy_recipe(checkpoint_steps=2, workers=0)
    train(recipe, toy_data(count=24), tmp_path / "whole")
    process = start(tmp_path / "killed", "--clips=24", "--slow=0.1", "--set", "checkpoint_steps=2", "workers=1")
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        if has_run(tmp_path / "killed") and read_checkpoint(tmp_path / "killed").progress.step:
            break
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    progress = read_checkpoint(tmp_path / "killed").progress
    assert 0 < progress.step < 12
    assert progress.step % 6 != 0
    train(recipe, toy_data(count=24), tmp_path / "killed", resume=True)
    assert_same(weights(tmp_path / "killed"), weights(tmp_path / "whole"))
    for name in ("network.safetensors", "decoders.safetensors"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    lines = [[line for line in read_log(tmp_path / run) if line["event"] == "epoch"] for run in ("killed", "whole")]
    killed, whole = ([line | {"time": 0} for line in log] for log in lines)
    assert killed == whole


def test_ctrl_c_writes_the_checkpoint_and_says_how_to_resume(tmp_path: Path) -> None:
    process = start(tmp_path / "my run", "--clips=24", "--slow=0.1", "--set", "workers=1", "log_steps=1")
    while process.stdout is not None and "step 1/6" not in (line := process.stdout.readline()):
        assert line, process.communicate()[1]
    os.killpg(process.pid, signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    assert process.returncode not in (0, -signal.SIGINT)
    assert f"go on with --resume --out '{tmp_path / 'my run'}'" in out
    assert 0 < read_checkpoint(tmp_path / "my run").progress.step < 6
    train(toy_recipe(), toy_data(count=24), tmp_path / "my run", resume=True)
    train(toy_recipe(), toy_data(count=24), tmp_path / "whole")
    assert_same(weights(tmp_path / "my run"), weights(tmp_path / "whole"))


def test_checkpoints_are_written_as_often_as_the_recipe_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[int] = []

    def note(run_dir: Path, task: object, optimiser: object, checkpoint: Checkpoint) -> None:
        steps.append(checkpoint.progress.step)

    monkeypatch.setattr("dynagest.training.loop.save_checkpoint", note)
    for changes, expected in (({}, [0, 3, 6]), ({"checkpoint_seconds": 1e-9}, [0, 1, 2, 3, 4, 5, 6])):
        train(toy_recipe(**changes), toy_data(), tmp_path / str(len(changes)))
        assert steps == expected
        steps.clear()


def test_the_log_of_a_resumed_run_tells_each_step_once(tmp_path: Path) -> None:
    log = RunLog(tmp_path, 0)
    for step in (2, 4, 6):
        log.write("train", step, epoch=step, lr=0.1, loss=1.0)
    RunLog(tmp_path, 4).write("train", 6, epoch=6, lr=0.1, loss=0.5)
    assert [(line["step"], line["loss"]) for line in read_log(tmp_path)] == [(2, 1.0), (4, 1.0), (6, 0.5)]


def test_a_damaged_recipe_beside_a_whole_checkpoint_costs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as interrupted:
        interrupted.setattr(Engine, "step", stop)
        with pytest.raises(KeyboardInterrupt):
            train(toy_recipe(), toy_data(), tmp_path)
    recipe = tmp_path / "recipe.json"
    whole = recipe.read_bytes()
    recipe.write_bytes(whole[:100])
    with pytest.raises(RunError, match=r"recipe\.json: .*; remove it, and the recipe is taken") as caught:
        read_recipe(tmp_path)
    assert "--overwrite" not in str(caught.value)
    recipe.unlink()
    assert read_recipe(tmp_path) == toy_recipe()
    assert train(read_recipe(tmp_path), toy_data(), tmp_path, resume=True).steps == 6
    assert recipe.read_bytes() == whole


def test_a_damaged_recipe_before_the_first_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "recipe.json").write_text("{")
    with pytest.raises(RunError, match=r"recipe\.json: .*; put back a copy of it, or start the run anew"):
        read_recipe(tmp_path)


def test_signal_handlers_are_put_back(finished: Path, tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT)
    train(toy_recipe(epochs=1, milestones=()), toy_data(validation=False), tmp_path / "run")
    assert signal.getsignal(signal.SIGINT) is before


def test_finished_run_is_not_overwritten_unless_told(finished: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="finished run"):
        train(toy_recipe(), toy_data(), finished)
    before = (finished / "checkpoint.safetensors").read_bytes()
    summary = train(toy_recipe(), toy_data(), finished, resume=True)
    assert summary.steps == 6
    assert (finished / "checkpoint.safetensors").read_bytes() == before


def test_a_run_that_another_process_trains_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Engine, "step", stop)
    with pytest.raises(KeyboardInterrupt):
        train(toy_recipe(), toy_data(), tmp_path)
    monkeypatch.undo()
    log = (tmp_path / "log.jsonl").read_bytes()
    with sole_writer(tmp_path):
        for options in ({}, {"resume": True}, {"overwrite": True}):
            with pytest.raises(RunError, match=f"{tmp_path}: another process is writing there"):
                train(toy_recipe(), toy_data(), tmp_path, **options)
    assert (tmp_path / "log.jsonl").read_bytes() == log
    assert train(toy_recipe(), toy_data(), tmp_path, resume=True).steps == 6
    assert not list(tmp_path.glob("*.lock"))


def test_a_file_in_place_of_the_run_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("keep")
    with pytest.raises(RunError, match="run: is a file; name a folder"):
        train(toy_recipe(), toy_data(), tmp_path / "run")
    assert (tmp_path / "run").read_text() == "keep"


def test_run_killed_before_its_first_step_can_be_resumed(tmp_path: Path) -> None:
    class Killed(BaseException):
        pass

    class Deadly(ToyClips):
        def __getitem__(self, key: tuple[int, int]):
            raise Killed

    deadly = replace(toy_data(), train=Deadly())
    with pytest.raises(Killed):
        train(toy_recipe(), deadly, tmp_path / "run")
    assert train(toy_recipe(), toy_data(), tmp_path / "run", resume=True).steps == 6


def test_a_run_without_a_network_yet_says_how_to_finish_it(finished: Path, tmp_path: Path) -> None:
    run_dir = tmp_path / "my run"
    run_dir.mkdir()
    shutil.copy(finished / "checkpoint.safetensors", run_dir)
    with pytest.raises(WeightsError, match=f"has no network yet; finish it by `dynagest train .* '{run_dir}'`"):
        load_network(run_dir)


def test_mistake_in_the_recipe_costs_no_older_run(finished: Path) -> None:
    with pytest.raises(ModelError, match="no network"):
        train(toy_recipe(model="action_resnet19"), toy_data(), finished, overwrite=True)
    with pytest.raises(WeightsError):
        train(toy_recipe(), toy_data(), finished, init=finished / "nothing.pth", overwrite=True)
    assert has_run(finished)


def test_overwriting_removes_what_belongs_to_the_old_run(tmp_path: Path) -> None:
    train(toy_recipe(epochs=1, milestones=()), toy_data(), tmp_path)
    (tmp_path / "metrics.json").write_text("{}")
    (tmp_path / "my notes.txt").write_text("keep")
    (tmp_path / "network-int8.onnx").write_bytes(b"of the network that was here")
    train(toy_recipe(epochs=1, milestones=(), msd="none"), toy_data(), tmp_path, overwrite=True)
    names = {path.name for path in tmp_path.iterdir()}
    assert "my notes.txt" in names
    assert not names & {"metrics.json", "decoders.json", "decoders.safetensors", "network-int8.onnx"}


def test_what_no_run_left_is_not_removed_unless_told(tmp_path: Path) -> None:
    """A run in a folder that is used for other things, as by ``--out .``."""
    others = tmp_path / "tensorboard" / "others" / "events"
    others.parent.mkdir(parents=True)
    others.write_text("keep")
    with pytest.raises(RunError, match="holds tensorboard, but no run to resume; name another folder"):
        train(toy_recipe(), toy_data(), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["tensorboard"]
    assert others.read_text() == "keep"


def test_resuming_with_another_recipe_says_what_differs(finished: Path) -> None:
    with pytest.raises(RunError, match=r"(?s)leave these as they were.*weight_decay: 1e-05, 0\.1"):
        train(toy_recipe(weight_decay=0.1), toy_data(), finished, resume=True)
    with pytest.raises(RunError, match="data's fingerprint"):
        train(toy_recipe(), toy_data(count=13), finished, resume=True)
