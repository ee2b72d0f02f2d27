"""The trainings that come before a recipe's own: their folders, and how one hands its weights to the next.

Each is an ordinary run in ``RUN/stages/1-NAME`` and so on; the last training is the run itself. A stage hands over its
whole task as it is after the last epoch: the network and the parts trained along with it. Tensors are matched by name,
so the next network may be another one (PreRNN takes C3D's layers); whatever only the next task has keeps its
initialisation.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open

from dynagest.errors import RecipeError, some
from dynagest.run_folder import CHECKPOINT_FILE, STAGES_FOLDER
from dynagest.task.base import Task
from dynagest.training.assemble import build_task
from dynagest.training.checkpoint import WEIGHTS
from dynagest.training.optimiser import build_optimiser
from dynagest.training.recipe import Recipe


@dataclass(frozen=True)
class HandOver:
    """Which of a stage's tensors were handed over, by their names in the task.

    ``matched``: loaded. ``unused``: only in the stage. ``left``: only in the next task, left as initialised.
    """

    folder: Path
    matched: tuple[str, ...]
    unused: tuple[str, ...]
    left: tuple[str, ...]

    def __str__(self) -> str:
        lines = [f"{self.folder}: {len(self.matched)} tensors of the stage before"]
        if self.left:
            lines.append(f"  not trained there, left as initialised: {some(self.left)}")
        if self.unused:
            lines.append(f"  trained there, not used: {some(self.unused)}")
        return "\n".join(lines)


def stage_folders(run_dir: Path, recipe: Recipe) -> list[Path]:
    """The folder of each stage of a run."""
    return [run_dir / STAGES_FOLDER / f"{place}-{stage.name}" for place, stage in enumerate(recipe.stages, start=1)]


def check_stages(recipes: Sequence[Recipe], folders: Sequence[Path], num_classes: int) -> None:
    """Build every stage once, so that a mistake in a later one shows before the first has trained for days.

    Raises what building the stages raises, and ``RecipeError`` where one does not fit the next.
    """
    before: dict[str, torch.Tensor] | None = None
    for recipe, folder in zip(recipes, folders, strict=True):
        task, _ = build_task(recipe, num_classes, torch.device("cpu"), load_init=before is None)
        build_optimiser(task, recipe)
        state = task.state_dict()
        if before is not None:
            _match(folder, before, state)
        before = state


@torch.no_grad()
def hand_over(folder: Path, task: Task) -> HandOver:
    """Put the weights of the finished stage in ``folder`` into ``task``. Raises ``RecipeError`` if they do not fit."""
    with safe_open(folder / CHECKPOINT_FILE, framework="pt") as file:
        names = [name for name in file.keys() if name.startswith(WEIGHTS)]  # noqa: SIM118  (safe_open is no mapping)
        stored = {name.removeprefix(WEIGHTS): file.get_tensor(name) for name in names}
    state = task.state_dict()
    report = _match(folder, stored, state)
    for name in report.matched:
        state[name].copy_(stored[name])
    return report


def _match(folder: Path, stored: dict[str, torch.Tensor], state: dict[str, torch.Tensor]) -> HandOver:
    matched = tuple(name for name in state if name in stored)
    other = [
        f"{name} {tuple(stored[name].shape)} for {tuple(state[name].shape)}"
        for name in matched
        if stored[name].shape != state[name].shape
    ]
    if other:
        raise RecipeError(f"{folder}: the stages do not fit together, other shapes: {some(other)}")
    if not any(name.startswith("network.") for name in matched):
        raise RecipeError(f"{folder}: the stages do not fit together, their networks share no layer")
    unused = tuple(name for name in stored if name not in state)
    return HandOver(folder, matched, unused, tuple(name for name in state if name not in stored))
