"""The training run: what it leaves behind, what it refuses, and that an interruption changes nothing."""

import errno
import json
import os
import signal
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file
from training_toys import CLASSES, ToyClips, start, toy_data, toy_recipe

from dynagest.clips.manifest import Clip, Manifest
from dynagest.errors import DepthError, ManifestError, ModelError, RecipeError, RunError, TrainingError, WeightsError
from dynagest.networks.build import create_model
from dynagest.networks.weights import load_network
from dynagest.task.saved import load_decoders
from dynagest.training.assemble import build_task
from dynagest.training.batches import BatchPlan, InOrder, PlannedBatches
from dynagest.training.checkpoint import read_checkpoint
from dynagest.training.data import TrainingData, build_loader, choose_workers, training_view, validation_view
from dynagest.training.log import read_log
from dynagest.training.run import has_run, trained_on
from dynagest.training.trainer import train

CPU = torch.device("cpu")


def weights(run_dir: Path) -> dict[str, torch.Tensor]:
    return load_file(run_dir / "checkpoint.safetensors")


def assert_same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    assert [name for name in one if not torch.equal(one[name], other[name])] == []


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


def test_two_arms_start_from_the_same_network() -> None:
    arms = [toy_recipe(msd=msd, local_weight=weight) for msd, weight in [("none", 1), ("both", 1), ("local", 5)]]
    states = [build_task(recipe, 3, CPU)[0].network.state_dict() for recipe in arms]
    assert_same(states[0], states[1])
    assert_same(states[0], states[2])
    other = build_task(toy_recipe(seed=1), 3, CPU)[0].network.state_dict()
    assert not torch.equal(other["base_model.conv1.weight"], states[0]["base_model.conv1.weight"])


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
    process = start(tmp_path / "run", "--clips=24", "--slow=0.1", "--set", "workers=1", "log_steps=1")
    while process.stdout is not None and "step 1/6" not in (line := process.stdout.readline()):
        assert line, process.communicate()[1]
    os.killpg(process.pid, signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    assert process.returncode not in (0, -signal.SIGINT)
    assert "go on with --resume" in out
    assert 0 < read_checkpoint(tmp_path / "run").progress.step < 6
    train(toy_recipe(), toy_data(count=24), tmp_path / "run", resume=True)
    train(toy_recipe(), toy_data(count=24), tmp_path / "whole")
    assert_same(weights(tmp_path / "run"), weights(tmp_path / "whole"))


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


def test_resuming_with_another_recipe_says_what_differs(finished: Path) -> None:
    with pytest.raises(RunError, match=r"weight_decay: 1e-05, 0\.1"):
        train(toy_recipe(weight_decay=0.1), toy_data(), finished, resume=True)
    with pytest.raises(RunError, match="data's fingerprint"):
        train(toy_recipe(), toy_data(count=13), finished, resume=True)


def test_loss_that_is_not_finite_stops(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"step \d.*learning rate 0\.01.*clip 5") as caught:
        train(toy_recipe(), toy_data(poisoned=(5,)), tmp_path / "run")
    assert "warm-up" in str(caught.value)


def test_diverging_gradient_stops_before_the_weights_do(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="not finite"):
        train(toy_recipe(lr=1e30, checkpoint_steps=1), toy_data(), tmp_path / "run")
    assert all(value.isfinite().all() for value in weights(tmp_path / "run").values() if value.is_floating_point())


def test_unreadable_clips_are_left_out_counted_and_listed(tmp_path: Path) -> None:
    recipe = toy_recipe(unreadable_share=0.2)
    console = Console(record=True, width=200, file=open(os.devnull, "w"))  # noqa: SIM115, PTH123
    summary = train(recipe, toy_data(unreadable=(3, 8)), tmp_path / "run", console=console)
    assert summary.unreadable == 2
    listed = [json.loads(line) for line in (tmp_path / "run" / "unreadable.jsonl").read_text().splitlines()]
    assert sorted((entry["split"], entry["index"], entry["file"], entry["reason"]) for entry in listed) == [
        *(("train", 3, "clip3.mp4", "truncated"), ("train", 8, "clip8.mp4", "truncated"))
    ]
    assert "unreadable, left out" in console.export_text()
    epochs = [line for line in read_log(tmp_path / "run") if line["event"] == "epoch"]
    assert [line["train"]["clips"] for line in epochs] == [10, 10]


def test_too_many_unreadable_clips_stop_the_run(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"4 of 12 train clips are unreadable.*allows 1 % of them, or 3"):
        train(toy_recipe(batch=12), toy_data(unreadable=(3, 4, 5, 9)), tmp_path / "run")
    assert "clip3.mp4" in (tmp_path / "run" / "unreadable.jsonl").read_text()
    broken = TrainingData.of_sources(ToyClips(), ToyClips(6, unreadable=(0, 1, 2, 3)))
    with pytest.raises(TrainingError, match="4 of 6 validation clips"):
        train(toy_recipe(), broken, tmp_path / "validation")


@pytest.mark.parametrize("split", ["train", "validation"])
def test_a_few_unreadable_clips_of_a_small_set_stop_nothing(tmp_path: Path, split: str) -> None:
    bad = (3, 4, 5)
    sources = [ToyClips(12, unreadable=bad if split == "train" else ()), ToyClips(6, unreadable=bad)]
    data = TrainingData.of_sources(sources[0], None if split == "train" else sources[1])
    assert train(toy_recipe(), data, tmp_path).steps == 6
    listed = [json.loads(line)["index"] for line in (tmp_path / "unreadable.jsonl").read_text().splitlines()]
    assert sorted(listed) == [3, 4, 5]


@pytest.mark.parametrize("split", ["train", "validation"])
def test_nothing_readable_stops_however_few_they_are(tmp_path: Path, split: str) -> None:
    sources = {"train": ToyClips(3), "validation": ToyClips(2)} | {split: ToyClips(2, unreadable=(0, 1))}
    with pytest.raises(TrainingError, match=f"2 of 2 {split} clips"):
        train(toy_recipe(), TrainingData.of_sources(sources["train"], sources["validation"]), tmp_path)


def test_full_disk_while_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dynagest.training import checkpoint

    real, calls = checkpoint.write_atomically, []

    def second_fails(path: Path, data: bytes) -> None:
        calls.append(path)
        if len(calls) == 3:  # the first is at step 0, the second after epoch 1
            raise RunError(f"{path}: cannot be written (No space left on device)")
        real(path, data)

    monkeypatch.setattr(checkpoint, "write_atomically", second_fails)
    with pytest.raises(RunError, match="No space left"):
        train(toy_recipe(), toy_data(), tmp_path / "run")
    monkeypatch.undo()
    assert read_checkpoint(tmp_path / "run").progress.step == 3
    train(toy_recipe(), toy_data(), tmp_path / "run", resume=True)
    train(toy_recipe(), toy_data(), tmp_path / "whole")
    assert_same(weights(tmp_path / "run"), weights(tmp_path / "whole"))


@pytest.mark.parametrize("name", ["log.jsonl", "events.out.tfevents", "unreadable.jsonl", "network.safetensors"])
def test_full_disk_ends_in_one_error_that_names_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """Half of what is written to one file arrives; from the first step on, since a run begins with the same files."""

    class FullDisk:
        def __init__(self, file) -> None:
            self.file = file

        def __getattr__(self, attribute: str):
            return getattr(self.file, attribute)

        def __enter__(self):
            return self

        def __exit__(self, *error: object) -> None:
            self.file.close()

        def write(self, data) -> None:
            self.file.write(data[: len(data) // 2])
            raise OSError(errno.ENOSPC, "No space left on device")

    real = Path.open

    def full(self: Path, mode: str = "r", *args, **kwargs):
        file = real(self, mode, *args, **kwargs)
        return FullDisk(file) if name in self.name and mode != "r" and filled else file

    class Filling(ToyClips):
        def __getitem__(self, key: tuple[int, int]):
            filled.append(key)
            return super().__getitem__(key)

    filled: list[tuple[int, int]] = []
    monkeypatch.setattr(Path, "open", full)
    data = TrainingData.of_sources(Filling(unreadable=(3,)), ToyClips(6, seed=1), "toy clips")
    with pytest.raises(RunError, match="No space left on device") as caught:
        train(toy_recipe(log_steps=1), data, tmp_path)
    assert name in str(caught.value)
    assert "Traceback" not in capfd.readouterr().err
    monkeypatch.undo()
    # What half a line leaves behind does not keep the run from being resumed.
    data = TrainingData.of_sources(ToyClips(unreadable=(3,)), ToyClips(6, seed=1), "toy clips")
    assert train(toy_recipe(log_steps=1), data, tmp_path, resume=True).steps == 6


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


def test_the_card_tells_how_clips_were_sampled(tmp_path: Path) -> None:
    recipe = toy_recipe(epochs=1, milestones=(), sampling="dense", stride=3)
    train(recipe, toy_data(validation=False), tmp_path)
    card = load_network(tmp_path)[1]
    assert (card.sampling, card.stride) == ("dense", 3)


def test_epochs_are_permutations_cut_evenly() -> None:
    plan = BatchPlan(clips=17, batch=4, seed=3)
    assert plan.steps_per_epoch == 5
    batches = [plan.keys(step) for step in range(10)]
    assert [len(batch) for batch in batches] == [4, 4, 3, 3, 3] * 2
    for epoch in (0, 1):
        keys = [key for batch in batches[5 * epoch : 5 * epoch + 5] for key in batch]
        assert sorted(keys) == [(epoch, index) for index in range(17)]
    assert [index for _, index in batches[0]] != [index for _, index in batches[5]]
    assert plan.keys(2) == BatchPlan(17, 4, 3).keys(2) != BatchPlan(17, 4, 4).keys(2)


def test_processes_share_a_batch_and_resuming_skips() -> None:
    plan = BatchPlan(clips=10, batch=4, seed=0)
    shares = [list(PlannedBatches(plan, 1, 6, process, 2)) for process in (0, 1)]
    for step, (one, two) in enumerate(zip(*shares, strict=True), start=1):
        assert sorted(one + two) == sorted(plan.keys(step))
    validation = [list(InOrder(7, 2, process, 2)) for process in (0, 1)]
    assert sorted(key for share in validation for batch in share for key in batch) == [(0, i) for i in range(7)]


def test_views_of_a_recipe() -> None:
    recipe = toy_recipe(scales=(0.5,), hue=0.3, msd="none", sampling="dense", stride=3)
    view = training_view(recipe)
    assert (view.augment, view.scales, view.hue, view.depth, view.stride) == (True, (0.5,), 0.3, False, 3)
    assert replace(view, augment=False).num_segments == validation_view(recipe).num_segments == 4
    assert not validation_view(recipe).augment


def test_choosing_workers() -> None:
    assert choose_workers(toy_recipe(workers=5), CPU, 1)[0] == 5
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dynagest.doctor.LOW_SHARED_MIB", float("inf"))
        assert choose_workers(toy_recipe(workers=None), CPU, 1) == (
            0,
            "autodetected 0 data workers because /dev/shm is too small for their batches",
        )
    count, why = choose_workers(toy_recipe(workers=None), CPU, 1)
    assert count >= 1
    assert why.startswith(f"autodetected {count} data workers because")


def test_workers_end_with_the_loader() -> None:
    loader = build_loader(ToyClips(), InOrder(12, 4), workers=2, prefetch=1, pin=False)
    batches = iter(loader)
    batch, unreadable = next(batches)
    assert batch is not None
    assert batch["index"].tolist() == [0, 1, 2, 3]
    assert unreadable == []
    processes = [worker.pid for worker in batches._workers]
    del batches, loader
    assert not any(
        Path(f"/proc/{pid}").exists() and "Z" not in Path(f"/proc/{pid}/stat").read_text() for pid in processes
    )


@dataclass
class ContradictingClips(ToyClips):
    """Clips whose depth is not what it was declared to be."""

    def __getitem__(self, key: tuple[int, int]):
        raise DepthError("depth.yaml: says near is bright")


def test_mistake_found_by_a_worker_keeps_its_message(tmp_path: Path) -> None:
    data = TrainingData.of_sources(ContradictingClips(), None)
    with pytest.raises(DepthError, match=r"^depth\.yaml: says near is bright$"):
        train(toy_recipe(workers=1), data, tmp_path / "run")


class TestManifests:
    """What a recipe takes from a manifest, and what it says when that is not there."""

    @staticmethod
    def manifest(tmp_path: Path, *splits: str) -> Manifest:
        clips = [Clip(tmp_path / f"{k}.mp4", f"c{k % 2}", split=split, row=k + 2) for k, split in enumerate(splits)]
        return Manifest.of(clips)

    def test_splits(self, tmp_path: Path) -> None:
        manifest = self.manifest(tmp_path, "train", "val", "train", "test")
        selected = TrainingData.of_manifest(manifest, toy_recipe(msd="none"))
        assert (len(selected.train), len(selected.validation)) == (2, 1)
        both = TrainingData.of_manifest(
            manifest, toy_recipe(msd="none", train_splits=("train", "val"), validate_on=None)
        )
        assert (len(both.train), both.validation) == (3, None)
        assert selected.fingerprint != both.fingerprint

    def test_fingerprint_is_of_the_clips_not_of_where_they_lie(self, tmp_path: Path) -> None:
        prints = []
        for name in ("here", "there"):
            manifest = self.manifest(tmp_path / name, "train", "val")
            manifest = replace(manifest, path=tmp_path / name / "manifest.csv")
            prints.append(TrainingData.of_manifest(manifest, toy_recipe(msd="none")).fingerprint)
        assert prints[0] == prints[1]

    def test_nothing_to_validate_on(self, tmp_path: Path) -> None:
        with pytest.raises(RecipeError, match="validate_on=none"):
            TrainingData.of_manifest(self.manifest(tmp_path, "train"), toy_recipe(msd="none"))

    def test_nothing_to_train_on(self, tmp_path: Path) -> None:
        with pytest.raises(ManifestError, match="no clips in split train"):
            TrainingData.of_manifest(self.manifest(tmp_path, "test"), toy_recipe(msd="none"))

    def test_one_class_is_nothing_to_learn(self, tmp_path: Path) -> None:
        with pytest.raises(ManifestError, match="c0 is its only class"):
            TrainingData.of_manifest(self.manifest(tmp_path, "train"), toy_recipe(msd="none", validate_on=None))

    def test_decoders_without_depth(self, tmp_path: Path) -> None:
        with pytest.raises(RecipeError, match="set msd=none"):
            TrainingData.of_manifest(self.manifest(tmp_path, "train", "val"), toy_recipe())

    def test_clips_on_disk(self, tmp_path: Path) -> None:
        """Folders of images, one of them empty: trained on, the empty one left out by name."""
        import cv2

        random = np.random.default_rng(0)
        clips = []
        for k in range(5):
            folder = tmp_path / "clips" / str(k)
            folder.mkdir(parents=True)
            for t in range(6 if k != 4 else 0):
                cv2.imwrite(str(folder / f"{t:06d}.jpg"), random.integers(0, 255, (48, 64, 3), dtype=np.uint8))
            clips.append(Clip(folder, f"c{k % 2}", row=k + 2))
        recipe = toy_recipe(msd="none", validate_on=None, unreadable_share=0.5, epochs=1, milestones=())
        summary = train(recipe, Manifest.of(clips), tmp_path / "run")
        assert summary.unreadable == 1
        assert str(tmp_path / "clips" / "4") in (tmp_path / "run" / "unreadable.jsonl").read_text()


def test_small_network_is_what_the_recipe_says() -> None:
    task, report = build_task(toy_recipe(width=16, msd="global", global_scale="full"), 3, CPU)
    assert report is None
    assert task.network.width == create_model("action_resnet18", 3, width=16).width
    assert [decoder.stages for _, decoder in task.decoder.parts()] == [5]
