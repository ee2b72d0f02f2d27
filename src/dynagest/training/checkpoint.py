"""The checkpoint: everything that resuming needs, in one safetensors file that is replaced atomically. No pickles.

It needs no state of loaders or random generators, because data order, augmentation and torch's generator follow from
(seed, step).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError, safe_open

from dynagest.atomic import write_atomically
from dynagest.errors import RunError
from dynagest.networks.weights import to_safetensors
from dynagest.run_folder import CHECKPOINT_FILE, ENVIRONMENT_FILE, RECIPE_FILE
from dynagest.task.base import Task
from dynagest.training.recipe import Recipe

STATE, WEIGHTS, OPTIMISER = "state", "task.", "optimiser."


class Best(BaseModel):
    """The best validation so far."""

    model_config = ConfigDict(frozen=True)

    epoch: int
    top1: float
    loss: float


class Progress(BaseModel):
    """How far a run has come.

    ``step`` optimiser steps are done. ``unreadable`` counts this epoch's unreadable clips so far; ``sums`` are the
    ``Sums.values`` of its clips so far, from which the epoch's line in the log is made. ``seconds`` is the training
    time of all sittings.
    """

    model_config = ConfigDict(frozen=True)

    step: int = 0
    best: Best | None = None
    unreadable: int = 0
    sums: tuple[float, ...] = ()
    seconds: float = 0.0
    finished: bool = False


class Checkpoint(BaseModel):
    """The metadata beside the tensors: progress, and the recipe and data that the run must be resumed with."""

    model_config = ConfigDict(frozen=True)

    progress: Progress
    recipe: Recipe
    data: str
    version: Literal[1] = 1


def save_checkpoint(run_dir: Path, task: Task, optimiser: torch.optim.Optimizer, checkpoint: Checkpoint) -> Path:
    """Write ``run_dir/checkpoint.safetensors`` and return its path.

    Raises ``RunError`` when it cannot be written; the previous checkpoint is then unchanged.
    """
    tensors = {f"{WEIGHTS}{name}": value for name, value in task.state_dict().items()}
    for name, parameter in task.named_parameters():
        for kind, value in optimiser.state.get(parameter, {}).items():
            if value is not None:  # SGD without momentum keeps None in its place
                tensors[f"{OPTIMISER}{kind}.{name}"] = value
    path = run_dir / CHECKPOINT_FILE
    write_atomically(path, to_safetensors(tensors, {STATE: checkpoint.model_dump_json()}))
    return path


def read_checkpoint(run_dir: Path) -> Checkpoint:
    """Read the metadata of a run's checkpoint, without its tensors. Raises ``RunError`` if there is none to read."""
    path = run_dir / CHECKPOINT_FILE
    if not path.exists():
        raise RunError(f"{run_dir}: has no {CHECKPOINT_FILE} to resume from; start the run without --resume")
    try:
        with safe_open(path, framework="pt") as file:
            return Checkpoint.model_validate_json(file.metadata()[STATE])
    except (SafetensorError, OSError, KeyError, TypeError, ValidationError) as error:
        raise RunError(
            f"{path}: not a checkpoint that this version can resume ({error}); start the run anew with --overwrite"
        ) from error


def load_checkpoint(run_dir: Path, task: Task, optimiser: torch.optim.Optimizer) -> None:
    """Load a checkpoint's weights and optimiser state into ``task`` and ``optimiser``, bit for bit.

    Raises ``RunError`` when the tensors are those of another network.
    """
    path = run_dir / CHECKPOINT_FILE
    with safe_open(path, framework="pt") as file:
        names = set(file.keys())
        state = task.state_dict()
        parameters = dict(task.named_parameters())
        found = {name.removeprefix(WEIGHTS): file.get_tensor(name) for name in names if name.startswith(WEIGHTS)}
        trained = {name.removeprefix(OPTIMISER).partition(".")[2] for name in names if name.startswith(OPTIMISER)}
        shapes = {name: value.shape for name, value in state.items()}
        if shapes != {name: value.shape for name, value in found.items()} or not trained <= parameters.keys():
            raise RunError(
                f"{path}: holds other tensors than this version's network; start the run anew with --overwrite"
            )
        with torch.no_grad():
            for name, value in state.items():
                value.copy_(found[name])
        for saved in (name for name in names if name.startswith(OPTIMISER)):
            kind, _, name = saved.removeprefix(OPTIMISER).partition(".")
            value, parameter = file.get_tensor(saved), parameters[name]
            # In the parameter's own memory format, so that later steps round as without the interruption.
            same = value.shape == parameter.shape and value.dim() > 0
            # Always a copy, because Windows cannot replace a file from which a tensor is mapped.
            optimiser.state[parameter][kind] = torch.empty_like(parameter).copy_(value) if same else value.clone()


def check_resumable(checkpoint: Checkpoint, recipe: Recipe, data: str, run_dir: Path) -> None:
    """Raise ``RunError``, which says what differs, unless recipe and data are the checkpoint's."""
    changed = checkpoint.recipe.differences(recipe)
    if checkpoint.data != data:
        changed.append(f"the data's fingerprint: {checkpoint.data[:12]}, {data[:12]} (other clips, labels or classes)")
    refuse_changes(changed, run_dir)


def refuse_changes(changed: Sequence[str], run_dir: Path) -> None:
    """Raise ``RunError`` if ``changed`` lists any difference between a run and the request to continue it."""
    if changed:
        raise RunError(
            f"{run_dir}: was started with another recipe or other data, so it cannot be continued with this one; "
            f"leave these as they were ({RECIPE_FILE} and {ENVIRONMENT_FILE} tell), or name another folder. "
            "It then, now:\n" + "\n".join(f"  {line}" for line in changed)
        )
