"""The training run: what it leaves behind, what it refuses, and that an interruption changes nothing."""

import json
import os
import shutil
import signal
import time
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file
from training_toys import CLASSES, ToyClips, assert_same, start, toy_data, toy_recipe, weights

from dynagest.clips.dataset import UnreadableClip
from dynagest.errors import ModelError, RunError, WeightsError
from dynagest.lock import sole_writer
from dynagest.networks.weights import load_network
from dynagest.run_folder import trained_on
from dynagest.task.saved import load_decoders
from dynagest.training.assemble import build_task
from dynagest.training.checkpoint import Checkpoint, read_checkpoint
from dynagest.training.data import TrainingData
from dynagest.training.engine import Engine
from dynagest.training.folder import has_run, read_recipe
from dynagest.training.log import RunLog, read_log
from dynagest.training.scores import Sums
from dynagest.training.trainer import train

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two epochs of three steps on twelve clips."""
    torch.set_num_threads(1)
    run_dir = tmp_path_factory.mktemp("runs") / "finished"
    train(toy_recipe(), toy_data(), run_dir)
    return run_dir


def test_run_folder_explains_itself(finished: Path) -> None:
    names = {path.name for path in finished.iterdir()}
    assert names == {
        *("recipe.json", "environment.json", "log.jsonl", "tensorboard", "checkpoint.safetensors"),
        *("network.safetensors", "network.json", "decoders.safetensors", "decoders.json"),
    }
    assert json.loads((finished / "recipe.json").read_text())["model"] == "action_resnet18"
    environment = json.loads((finished / "environment.json").read_text())
    assert environment["packages"]["torch"].partition("+")[0] == torch.__version__.partition("+")[0]
    assert (environment["data"], environment["seed"], environment["processes"]) == ("toy clips", 0, 1)


def test_trains_on_the_recipes_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    used = []
    update = Engine.update
    monkeypatch.setattr(Engine, "update", lambda engine: (used.append(torch.get_num_threads()), update(engine)))
    train(toy_recipe(threads=2), toy_data(), tmp_path)
    assert set(used) == {2}
    assert torch.get_num_threads() == 1, "as it was before"
    assert json.loads((tmp_path / "environment.json").read_text())["threads"] == 2


def test_folder_tells_whether_there_is_a_run_and_on_what(finished: Path, tmp_path: Path) -> None:
    assert has_run(finished)
    assert not has_run(tmp_path)
    with pytest.raises(RunError, match="name the data with --data"):
        trained_on(finished)
    (tmp_path / "environment.json").write_text(json.dumps({"data": str(finished)}))
    assert trained_on(tmp_path) == finished
    with pytest.raises(RunError, match="does not tell"):
        trained_on(tmp_path / "nothing")


def test_log(finished: Path) -> None:
    lines = read_log(finished)
    epochs = [line for line in lines if line["event"] == "epoch"]
    assert [(line["epoch"], line["step"], line["train"]["clips"], line["validation"]["clips"]) for line in epochs] == [
        *((1, 3, 12, 6), (2, 6, 12, 6))
    ]
    assert epochs[0]["best"]
    steps = [line for line in lines if line["event"] == "train"]
    assert [line["step"] for line in steps] == [2, 3, 5, 6]
    assert [line["lr"] for line in steps] == pytest.approx([0.01, 0.01, 0.001, 0.001])
    for line in steps:
        assert line["loss"] == pytest.approx(line["cross_entropy"] + line["local"] + 0.01 * line["global"])
        assert line["grad_norm"] > 0


def test_saved_network_is_the_one_with_the_best_validation(finished: Path) -> None:
    net, card = load_network(finished)
    assert (card.classes, card.model, card.num_segments, card.size, card.width) == (
        CLASSES,
        "action_resnet18",
        4,
        32,
        8,
    )
    assert not any("decoder" in name for name in net.state_dict())
    best = read_checkpoint(finished).progress.best
    assert best is not None
    assert int(card.provenance["epoch"]) == best.epoch
    clips = ToyClips(6, seed=1)
    rgb = torch.stack([clips[(0, index)]["rgb"] for index in range(6)]).float() / 255
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (card.mean, card.std))
    with torch.no_grad():
        predicted = net.eval()((rgb - mean) / std).argmax(dim=1)
    assert (predicted == torch.arange(6) % 3).float().mean().item() == pytest.approx(best.top1)


def test_the_epoch_of_the_best_accuracy_is_kept_and_among_equals_that_of_the_lower_class_loss(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also by a run that was stopped after that epoch and is resumed."""
    # Clips recognised of six, and the sums of cross-entropy and local error; the total loss would choose otherwise.
    epochs = [(3, 3.0, 0.1), (4, 9.0, 0.1), (4, 8.0, 6.0), (4, 8.5, 0.1), (3, 1.0, 0.1), (4, 8.0, 6.0)]
    left = list(epochs)

    def validate(engine: Engine, loader: object) -> tuple[Sums, list[UnreadableClip]]:
        if len(left) == 2 and not stopped:
            stopped.append(True)
            raise RunError("the disk is full")
        correct, *terms = left.pop(0)
        return Sums(6.0, 6.0, correct, (*terms, 0.0)), []

    stopped: list[bool] = []
    monkeypatch.setattr(Engine, "validate", validate)
    recipe = toy_recipe(epochs=6, batch=12)
    with pytest.raises(RunError):
        train(recipe, toy_data(), tmp_path)
    sitting = read_checkpoint(tmp_path)
    long = sitting.model_copy(update={"progress": sitting.progress.model_copy(update={"seconds": 1000.0})})
    monkeypatch.setattr("dynagest.training.trainer.read_checkpoint", lambda run_dir: long)
    summary = train(recipe, toy_data(), tmp_path, resume=True)
    assert summary.seconds > 1000  # of both sittings
    assert (summary.best_epoch, summary.best_top1) == (3, pytest.approx(4 / 6))
    assert load_network(tmp_path)[1].provenance["epoch"] == "3"
    log = [line for line in read_log(tmp_path) if line["event"] == "epoch"]
    assert [line["best"] for line in log] == [True, True, True, False, False, False]


def test_saved_decoders_fit_the_saved_network(finished: Path) -> None:
    net, _ = load_network(finished)
    msd = load_decoders(finished, net)
    with torch.no_grad(), msd.attached(net.eval()) as taps:
        net(torch.zeros(1, 4, 3, 32, 32))
        masks = msd(msd.features(taps))
    assert masks.local.shape == (4, 1, 32, 32)
    assert masks.global_.shape == (4, 1, 8, 8)


def test_it_learns(tmp_path: Path) -> None:
    recipe = toy_recipe(model="tsm_resnet18", epochs=8, schedule="cosine")
    summary = train(recipe, toy_data(count=48), tmp_path / "run")
    assert summary.best_top1 is not None
    assert summary.best_top1 > 0.8  # chance: 1/3
    epochs = [line for line in read_log(tmp_path / "run") if line["event"] == "epoch"]
    assert epochs[-1]["validation"]["local"] < 0.5 * epochs[0]["validation"]["local"]


@pytest.mark.parametrize("changes", [{}, {"precision": "bf16"}, {"accumulate": 2}])
def test_same_seed_same_weights(tmp_path: Path, changes: dict[str, object]) -> None:
    recipe = toy_recipe(epochs=1, milestones=(), dropout=0.2, **changes)
    train(recipe, toy_data(), tmp_path / "one")
    torch.rand(3)  # whatever else the process does with the global generator
    train(recipe, toy_data(), tmp_path / "two")
    assert_same(weights(tmp_path / "one"), weights(tmp_path / "two"))


def test_training_leaves_the_global_generator_alone(tmp_path: Path) -> None:
    torch.manual_seed(11)
    expected = torch.rand(1)
    torch.manual_seed(11)
    train(toy_recipe(epochs=1, milestones=()), toy_data(), tmp_path / "run")
    assert torch.equal(torch.rand(1), expected)


def test_building_a_network_leaves_the_generators_of_gpus_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    seeded = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeded.append)
    build_task(toy_recipe(), 3, CPU)
    assert not seeded


def test_workers_change_nothing(tmp_path: Path) -> None:
    for workers in (0, 2):
        train(toy_recipe(epochs=1, milestones=(), workers=workers), toy_data(), tmp_path / str(workers))
    assert_same(weights(tmp_path / "0"), weights(tmp_path / "2"))


def test_accumulating_is_one_step_of_the_same_clips(tmp_path: Path) -> None:
    train(toy_recipe(epochs=1, milestones=(), accumulate=3), toy_data(), tmp_path / "parts")
    assert read_checkpoint(tmp_path / "parts").progress.step == 3
    epochs = [line for line in read_log(tmp_path / "parts") if line["event"] == "epoch"]
    assert epochs[0]["train"]["clips"] == 12


def test_last_epoch_is_kept_without_validation(tmp_path: Path) -> None:
    summary = train(toy_recipe(), toy_data(validation=False), tmp_path / "run")
    assert (summary.best_epoch, summary.best_top1) == (None, None)
    saved = load_file(tmp_path / "run" / "network.safetensors")
    last = {name.removeprefix("task.network."): value for name, value in weights(tmp_path / "run").items()}
    assert all(torch.equal(value, last[name]) for name, value in saved.items())


def test_few_clips_are_looked_at_until_there_are_enough_steps(tmp_path: Path) -> None:
    recipe, console = toy_recipe(fewest_steps=7), Console(file=StringIO(), width=200)
    summary = train(recipe, toy_data(), tmp_path, console=console)  # 12 clips in batches of 4
    assert (summary.epochs, summary.steps) == (3, 9)
    told = console.file.getvalue()  # type: ignore[attr-defined]
    assert "3 epochs instead of 2, so that 12 clips make 7 steps (--set epochs=2 keeps to 2)" in told
    assert json.loads((tmp_path / "recipe.json").read_text())["epochs"] == 3
    for again in (recipe, read_recipe(tmp_path)):
        assert train(again, toy_data(), tmp_path, resume=True).steps == 9


def test_start_from_a_run(finished: Path, tmp_path: Path) -> None:
    trained = load_network(finished)[0].state_dict()
    console = Console(record=True, width=200, file=open(os.devnull, "w"))  # noqa: SIM115, PTH123
    train(toy_recipe(epochs=1, milestones=(), lr=1e-12), toy_data(), tmp_path / "run", init=finished, console=console)
    started = load_network(tmp_path / "run")[0].state_dict()
    name = "base_model.layer4.0.conv1.net.weight"
    torch.testing.assert_close(started[name], trained[name], rtol=0, atol=1e-6)
    assert "start from" in console.export_text()


def test_start_from_the_file_that_a_run_is_resumed_from(finished: Path, tmp_path: Path) -> None:
    last = weights(finished)
    recipe = toy_recipe(epochs=1, milestones=(), lr=1e-12)
    train(recipe, toy_data(validation=False), tmp_path, init=finished / "checkpoint.safetensors")
    started = load_network(tmp_path)[0].state_dict()
    for name in ("base_model.layer4.0.conv1.net.weight", "classifier.weight"):
        torch.testing.assert_close(started[name], last[f"task.network.{name}"], rtol=0, atol=1e-6)


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


def test_tensorboard_reads_the_scalars(finished: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board = EventAccumulator(str(finished / "tensorboard")).Reload()
    ours = {line["step"]: line["loss"] for line in read_log(finished) if line["event"] == "train"}
    theirs = {event.step: event.value for event in board.Scalars("train/loss")}
    assert theirs == pytest.approx(ours)
    assert [event.step for event in board.Scalars("epoch/validation/top1")] == [3, 6]


def test_a_recipe_made_for_fine_tuning_says_so_when_it_starts_from_scratch(finished: Path, tmp_path: Path) -> None:
    recipe = toy_recipe(epochs=1, milestones=(), starts_from="the EgoGesture model")
    console = Console(record=True, width=200, file=open(os.devnull, "w"))  # noqa: SIM115, PTH123
    train(recipe, toy_data(validation=False), tmp_path / "scratch", console=console)
    notes = [line["text"] for line in read_log(tmp_path / "scratch") if line["event"] == "note"]
    for said in (console.export_text(), "\n".join(notes)):
        assert "WARNING: the recipe toy is meant to start from the EgoGesture model" in said
        assert "--init" in said
    train(recipe, toy_data(validation=False), tmp_path / "tuned", init=finished)
    assert not [line for line in read_log(tmp_path / "tuned") if "WARNING" in line.get("text", "")]


def test_the_card_names_the_data_without_the_path_on_this_machine(tmp_path: Path) -> None:
    data = TrainingData.of_sources(ToyClips(), None, "/home/anna/my_clips/manifest.csv")
    train(toy_recipe(epochs=1, milestones=()), data, tmp_path)
    assert load_network(tmp_path)[1].provenance["data"] == "my_clips/manifest.csv"
    assert json.loads((tmp_path / "environment.json").read_text())["data"] == "/home/anna/my_clips/manifest.csv"


def test_the_card_tells_how_clips_were_sampled(tmp_path: Path) -> None:
    recipe = toy_recipe(epochs=1, milestones=(), sampling="dense", stride=3)
    train(recipe, toy_data(validation=False), tmp_path)
    card = load_network(tmp_path)[1]
    assert (card.sampling, card.stride) == ("dense", 3)


def test_decoders_of_the_run_that_is_started_from_go_on_where_they_fit(finished: Path, tmp_path: Path) -> None:
    run = shutil.copytree(finished, tmp_path / "run")
    old = dict(load_decoders(run, load_network(run)[0]).parts())

    def kept(**changes: object) -> tuple[str, ...]:
        """The kinds that are said to be taken over; these have the old weights, and no others."""
        task, begun = build_task(toy_recipe(init=str(run), seed=7, **changes), len(CLASSES), CPU)
        assert begun is not None
        for kind, decoder in task.decoder.parts() if task.decoder else ():
            pairs = zip(decoder.state_dict().values(), old[kind].state_dict().values(), strict=False)
            assert all(torch.equal(*pair) for pair in pairs) == (kind in begun.decoders)
        assert ("with its decoders: " + ", ".join(begun.decoders) in str(begun)) == bool(begun.decoders)
        return begun.decoders

    assert kept() == ("local", "global")
    assert kept(msd="global") == ("global",)
    assert kept(global_scale="full") == ("local",)
    assert kept(msd="none") == ()
    assert kept(size=64) == ("local", "global")
    (run / "decoders.safetensors").unlink()
    assert kept() == ()
