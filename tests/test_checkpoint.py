"""Checkpoints: everything that resuming needs, atomically, without pickles."""

import errno
import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from training_toys import toy_recipe

from dynagest.errors import RunError
from dynagest.networks.weights import to_safetensors
from dynagest.training.assemble import build_task
from dynagest.training.checkpoint import (
    Best,
    Checkpoint,
    Progress,
    check_resumable,
    load_checkpoint,
    read_checkpoint,
    save_checkpoint,
)
from dynagest.training.optimiser import build_optimiser

CPU = torch.device("cpu")
PROGRESS = Progress(step=7, best=Best(epoch=2, top1=0.1 + 0.2, loss=1 / 3), unreadable=1, sums=(1.5, 0.1), seconds=3)


def step(task, optimiser) -> None:
    generator = torch.Generator().manual_seed(1)
    rgb, depth = (torch.rand(2, 4, channels, 32, 32, generator=generator) for channels in (3, 1))
    optimiser.zero_grad()
    task(rgb, torch.tensor([0, 1]), depth, torch.tensor([True, True])).loss.backward()
    optimiser.step()


def stepped(seed: int = 0, kind: str = "sgd"):
    """A task and its optimiser after one step, so that there is momentum."""
    recipe = toy_recipe(seed=seed, optimiser=kind)
    task, _ = build_task(recipe, 3, CPU)
    optimiser = build_optimiser(task, recipe)
    step(task, optimiser)
    return task, optimiser, Checkpoint(progress=PROGRESS, recipe=recipe, data="abc")


def momenta(task, optimiser) -> dict[str, torch.Tensor]:
    parameters = task.named_parameters()
    return {f"{name} {kind}": value for name, p in parameters for kind, value in optimiser.state[p].items()}


@pytest.mark.usefixtures("windows_files")
@pytest.mark.parametrize("kind", ["sgd", "adamw"])
def test_both_ways_bit_for_bit(tmp_path: Path, kind: str) -> None:
    task, optimiser, checkpoint = stepped(kind=kind)
    save_checkpoint(tmp_path, task, optimiser, checkpoint)
    other, other_optimiser, _ = stepped(seed=5, kind=kind)
    load_checkpoint(tmp_path, other, other_optimiser)
    for each in ((task, optimiser), (other, other_optimiser)):
        step(*each)  # the step after loading tells whether anything was forgotten
    assert read_checkpoint(tmp_path) == checkpoint
    state = other.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in task.state_dict().items())
    loaded = momenta(other, other_optimiser)
    assert len(loaded) == {"sgd": 1, "adamw": 3}[kind] * len(list(task.parameters()))
    assert all(torch.equal(value, loaded[name]) for name, value in momenta(task, optimiser).items())
    save_checkpoint(tmp_path, other, other_optimiser, checkpoint)  # as a resumed run goes on to do


def test_file_holds_plain_tensors_and_json(tmp_path: Path) -> None:
    task, optimiser, checkpoint = stepped()
    path = save_checkpoint(tmp_path, task, optimiser, checkpoint)
    with safe_open(path, framework="pt") as file:
        assert json.loads(file.metadata()["state"])["progress"]["step"] == 7
        kinds = {name.split(".")[0] for name in file.keys()}  # noqa: SIM118  (safe_open is no mapping)
    assert kinds == {"task", "optimiser"}
    assert [entry.name for entry in tmp_path.iterdir()] == ["checkpoint.safetensors"]


def test_full_disk_leaves_the_previous_checkpoint_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task, optimiser, checkpoint = stepped()
    path = save_checkpoint(tmp_path, task, optimiser, checkpoint)
    before = path.read_bytes()

    class FullDisk:
        """A file that takes half of what it is given."""

        def __init__(self, file) -> None:
            self.file = file

        def __enter__(self):
            return self

        def __exit__(self, *error) -> None:
            self.file.close()

        def write(self, data: bytes) -> None:
            self.file.write(data[: len(data) // 2])
            raise OSError(errno.ENOSPC, "No space left on device")

    real = Path.open
    monkeypatch.setattr(Path, "open", lambda self, *args, **kwargs: FullDisk(real(self, *args, **kwargs)))
    newer = checkpoint.model_copy(update={"progress": PROGRESS.model_copy(update={"step": 8})})
    with pytest.raises(RunError, match="No space left"):
        save_checkpoint(tmp_path, task, optimiser, newer)
    monkeypatch.undo()
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_nothing_to_resume(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"no checkpoint\.safetensors to resume from"):
        read_checkpoint(tmp_path)


@pytest.mark.parametrize("content", [b"", b"\x80\x04K\x01.", b"x" * 100])
def test_damaged_checkpoint(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "checkpoint.safetensors").write_bytes(content)
    with pytest.raises(RunError, match="not a checkpoint"):
        read_checkpoint(tmp_path)


def test_a_checkpoint_of_another_version_is_refused(tmp_path: Path) -> None:
    task, optimiser, checkpoint = stepped()
    save_checkpoint(tmp_path, task, optimiser, checkpoint.model_copy(update={"version": 2}))
    with pytest.raises(RunError, match=r"(?s)not a checkpoint that this version can resume .*version"):
        read_checkpoint(tmp_path)


def test_another_network(tmp_path: Path) -> None:
    task, optimiser, checkpoint = stepped()
    save_checkpoint(tmp_path, task, optimiser, checkpoint)
    recipe = toy_recipe(model="tsm_resnet18")
    other, _ = build_task(recipe, 3, CPU)
    with pytest.raises(RunError, match="other tensors"):
        load_checkpoint(tmp_path, other, build_optimiser(other, recipe))


@pytest.mark.parametrize("change", ["shape", "momentum"])
def test_tensors_of_another_version(change: str, tmp_path: Path) -> None:
    task, optimiser, checkpoint = stepped()
    path = save_checkpoint(tmp_path, task, optimiser, checkpoint)
    with safe_open(path, framework="pt") as file:
        metadata, tensors = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    momentum, weight = (next(name for name in tensors if name.startswith(part)) for part in ("optimiser.", "task."))
    tensors[weight if change == "shape" else f"{momentum}_of_old"] = torch.zeros(3, 1, 4, 1, 5)
    path.write_bytes(to_safetensors(tensors, metadata))
    before = {name: value.clone() for name, value in task.state_dict().items()}
    with pytest.raises(RunError, match="other tensors"):
        load_checkpoint(tmp_path, task, optimiser)
    assert all(torch.equal(before[name], value) for name, value in task.state_dict().items())


def test_resuming_needs_the_same_recipe_and_data(tmp_path: Path) -> None:
    _, _, checkpoint = stepped()
    check_resumable(checkpoint, toy_recipe(workers=3), "abc", tmp_path)
    with pytest.raises(RunError, match=r"lr: 0\.01, 0\.5"):
        check_resumable(checkpoint, toy_recipe(lr=0.5), "abc", tmp_path)
    with pytest.raises(RunError, match="data's fingerprint: abc, xyz"):
        check_resumable(checkpoint, toy_recipe(), "xyz", tmp_path)
