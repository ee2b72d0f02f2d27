"""What goes wrong while training: numbers, clips and disks. Nothing is lost, and one error says which."""

import errno
import json
import os
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from rich.console import Console
from training_toys import ToyClips, assert_same, toy_data, toy_recipe, weights

from dynagest.clips.dataset import collate
from dynagest.errors import DivergedError, RunError, TrainingError
from dynagest.task.depth import DepthTask
from dynagest.training.assemble import build_task
from dynagest.training.checkpoint import read_checkpoint
from dynagest.training.data import TrainingData
from dynagest.training.display import Display
from dynagest.training.engine import Engine
from dynagest.training.log import read_log
from dynagest.training.trainer import train
from dynagest.training.unreadable import UnreadableClips


def test_loss_that_is_not_finite_stops(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"step \d.*learning rate 0\.01.*clip 5") as caught:
        train(toy_recipe(), toy_data(poisoned=(5,)), tmp_path / "run")
    assert "warm-up" in str(caught.value)


def test_diverging_gradient_stops_before_the_weights_do(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="not finite"):
        train(toy_recipe(lr=1e30, checkpoint_steps=1), toy_data(), tmp_path / "run")
    assert all(value.isfinite().all() for value in weights(tmp_path / "run").values() if value.is_floating_point())


def test_a_validation_that_is_not_finite_stops_and_keeps_no_network(tmp_path: Path) -> None:
    """The one step of the epoch has a sound loss and gradient; what it makes of the weights shows only afterwards."""
    recipe = toy_recipe(lr=1e30, batch=12, epochs=1, milestones=())
    with pytest.raises(
        DivergedError, match=r"validation after epoch 1: the loss is not finite \((inf|nan)\), although"
    ):
        train(recipe, toy_data(), tmp_path / "run")
    assert not (tmp_path / "run" / "network.safetensors").exists()
    assert read_checkpoint(tmp_path / "run").progress.step == 0, "as it was before the step, and can be read"


def test_a_gradient_that_is_not_finite_stops_though_the_loss_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward = DepthTask.forward

    def overflowing(task: DepthTask, *batch: torch.Tensor) -> object:
        output = forward(task, *batch)
        output.loss.register_hook(lambda gradient: gradient * float("inf"))
        return output

    monkeypatch.setattr(DepthTask, "forward", overflowing)
    with pytest.raises(TrainingError, match=r"not finite \(loss [\d.]+, gradient norm (inf|nan)\)"):
        train(toy_recipe(), toy_data(), tmp_path)


def test_a_full_gpu_ends_in_an_error_that_says_what_to_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nOf the allocated memory ...")

    with monkeypatch.context() as gpu:
        gpu.setattr(DepthTask, "forward", full)
        with pytest.raises(TrainingError) as caught:
            train(toy_recipe(accumulate=2), toy_data(), tmp_path / "run")
    assert "step 1: 4 clips, in 2 parts, do not fit" in str(caught.value)
    assert "(CUDA out of memory. Tried to allocate 2.00 GiB.). Set a larger accumulate" in str(caught.value)
    assert train(toy_recipe(accumulate=2), toy_data(), tmp_path / "run", resume=True).steps == 6


@pytest.mark.parametrize(("batch", "accumulate"), [(1, 1), (2, 2)])
def test_a_part_of_one_value_per_channel_ends_in_an_error_that_says_what_to_set(
    tmp_path: Path, batch: int, accumulate: int
) -> None:
    recipe = toy_recipe(model="tsn_resnet18", msd="none", num_segments=1, batch=batch, accumulate=accumulate)
    clips = TrainingData.of_sources(ToyClips(frames=1), None)
    with pytest.raises(TrainingError) as caught:
        train(recipe, clips, tmp_path / "run")
    assert f"step 1: {batch} readable clips, in {accumulate} parts (batch {batch}, acc" in str(caught.value)
    assert "Set a larger batch or a smaller accumulate" in str(caught.value)
    wider = recipe.with_overrides({"batch": 2 * accumulate})
    train(wider, clips, tmp_path / "run", overwrite=True)


def test_validation_takes_no_more_memory_than_training(monkeypatch: pytest.MonkeyPatch) -> None:
    shares, forward = [], DepthTask.forward

    def watched(task: DepthTask, rgb: torch.Tensor, *others: torch.Tensor) -> object:
        shares.append(len(rgb))
        return forward(task, rgb, *others)

    monkeypatch.setattr(DepthTask, "forward", watched)
    clips, found = ToyClips(sparse_depth=True), []
    for accumulate in (1, 2, 9):
        recipe = toy_recipe(accumulate=accumulate)
        task, _ = build_task(recipe, len(clips.classes), torch.device("cpu"))
        sums, _ = Engine(Accelerator(cpu=True), task, recipe).validate([collate([clips[0, i] for i in range(5)])])
        found.append(sums.means(task.terms) | {"clips": sums.clips})
    assert shares == [5, 3, 2, 1, 1, 1, 1, 1]
    assert found[1:] == [pytest.approx(found[0], rel=1e-4)] * 2


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


def test_a_damaged_list_of_unreadable_clips_is_named(tmp_path: Path) -> None:
    (tmp_path / "unreadable.jsonl").write_text('{"split": "train", "ind')
    with pytest.raises(RunError, match=r"unreadable\.jsonl: no list of unreadable clips .*; remove it"):
        UnreadableClips(tmp_path, 0.1, Display(None, 1, 1), writes=True)


def test_a_step_without_a_readable_clip_is_skipped(tmp_path: Path) -> None:
    summary = train(toy_recipe(batch=1, epochs=1, milestones=()), toy_data(count=4, unreadable=(2,)), tmp_path)
    assert (summary.steps, summary.unreadable) == (4, 1)
    notes = [line["text"] for line in read_log(tmp_path) if line["event"] == "note"]
    assert [note for note in notes if "skipped, a process has no readable clip" in note]
    trained = {line["step"] for line in read_log(tmp_path) if line["event"] == "train"}
    assert trained <= {2, 4}


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
        if len(calls) in (1, 4):  # the second is at step 0 of the second run, the third after epoch 1
            raise RunError(f"{path}: cannot be written (No space left on device)")
        real(path, data)

    monkeypatch.setattr(checkpoint, "write_atomically", second_fails)
    with pytest.raises(RunError, match="No space left") as caught:
        train(toy_recipe(), toy_data(), tmp_path / "run")
    assert "--resume" not in str(caught.value), "nothing is saved yet"
    with pytest.raises(RunError, match="No space left") as caught:
        train(toy_recipe(), toy_data(), tmp_path / "run")
    assert f"What was saved of the run stays: then go on with --resume --out {tmp_path / 'run'}" in str(caught.value)
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
    assert "start again" not in str(caught.value)
    assert str(caught.value).endswith(f"go on with --resume --out {tmp_path}")
    assert "Traceback" not in capfd.readouterr().err
    monkeypatch.undo()
    # What half a line leaves behind does not keep the run from being resumed.
    data = TrainingData.of_sources(ToyClips(unreadable=(3,)), ToyClips(6, seed=1), "toy clips")
    assert train(toy_recipe(log_steps=1), data, tmp_path, resume=True).steps == 6
