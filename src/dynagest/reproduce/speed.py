"""Measures how fast a system trains on this machine, so that a budget in time can be turned into epochs.

A speed is measured once and kept, because a resumed study must have the same epochs as when it began.
"""

import json
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from math import inf
from pathlib import Path
from statistics import median

import torch

from dynagest.atomic import write_atomically
from dynagest.errors import RunError
from dynagest.lock import locked
from dynagest.machine import torch_threads
from dynagest.task.loss import Counts
from dynagest.training.assemble import build_task, choose_precision
from dynagest.training.optimiser import build_optimiser
from dynagest.training.recipe import Recipe

SPEEDS_FILE = "speeds.json"
# The fields of a recipe that the time of a clip depends on.
_SPEED_FIELDS = frozenset(
    {"model", "width", "num_segments", "size", "options", "task", "msd", "batch", "precision", "stages"}
)
# These too, but seldom set: where they have their default values, speeds are known by the fields above alone.
_SELDOM_SET = frozenset({"local_scale", "global_scale", "accumulate", "threads"})
_STEPS = 5


class KnownSpeeds(ABC):
    """Seconds of training per clip for each kind of recipe, as far as ``speeds.json`` has them.

    ``told`` is called with each line for the user.
    """

    def __init__(self, root: Path, told: Callable[[str], None] = lambda line: None) -> None:
        self.path, self.told = root / SPEEDS_FILE, told
        self._why_told = False

    @abstractmethod
    def both(self, recipe: Recipe, reference: Recipe, num_classes: int) -> tuple[float, float]:
        """What a clip of a recipe takes, and a clip of another one that it is compared with, in the same unit."""

    def known(self) -> dict[str, float]:
        """The seconds for one clip by ``speed_key``. Raises ``RunError`` when ``speeds.json`` cannot be read."""
        if not self.path.exists():
            return {}
        try:
            speeds = {str(key): float(value) for key, value in json.loads(self.path.read_text()).items()}
            if not all(0 < each < inf for each in speeds.values()):
                raise ValueError("not all are above 0")
            return speeds
        except (ValueError, AttributeError, TypeError) as error:
            raise RunError(
                f"{self.path}: no measured speeds ({error}); remove it to have them measured anew"
            ) from error

    def _tell_once(self, why: str) -> None:
        if not self._why_told:
            self.told(why)
            self._why_told = True


class Speeds(KnownSpeeds):
    """Speeds that are measured when they are first asked for; each measurement is told."""

    def seconds_per_clip(self, recipe: Recipe, num_classes: int) -> float:
        """Seconds for one clip, summed over the recipe's trainings; measured if not known yet.

        Raises ``RunError`` when ``speeds.json`` cannot be read.
        """
        key = speed_key(recipe)
        with locked(self.path.with_name(f".{SPEEDS_FILE}.lock")):
            known = self.known()
            if key not in known:
                self._tell_once(
                    "some runs are to take as long as others: their epochs follow from speeds, measured now"
                )
                known[key] = sum(_measure(each, num_classes) for each in recipe.trainings)
                torch.cuda.empty_cache()  # the runs are separate processes, which need the GPU's memory
                self.told(f"measured {1000 * known[key]:.0f} ms a clip to train {recipe.model}: kept in {self.path}")
                write_atomically(self.path, json.dumps(known, indent=1).encode())
        return known[key]

    def both(self, recipe: Recipe, reference: Recipe, num_classes: int) -> tuple[float, float]:
        """See ``KnownSpeeds``: measured seconds."""
        theirs = self.seconds_per_clip(reference, num_classes)
        return self.seconds_per_clip(recipe, num_classes), theirs


def speed_key(recipe: Recipe) -> str:
    """What the time of a clip depends on, as the text by which ``speeds.json`` knows a recipe."""
    fields = recipe.model_dump(mode="json", include=set(_SPEED_FIELDS))
    seldom = recipe.model_dump(mode="json", include=set(_SELDOM_SET), exclude_defaults=True)
    return json.dumps(fields | seldom, sort_keys=True)


def epochs_for_seconds(recipe: Recipe, reference: Recipe, speeds: KnownSpeeds, num_classes: int) -> int:
    """The number of epochs in which ``recipe`` takes as long as ``reference`` does, at least one."""
    ours, theirs = speeds.both(recipe, reference, num_classes)
    return max(1, round(reference.epochs * theirs / ours))


def _measure(recipe: Recipe, num_classes: int) -> float:
    """Seconds per clip of the median step on random tensors, without reading clips.

    The clips of a step are one of the ``accumulate`` parts of a batch, because no more may fit into the memory.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    recipe, _ = choose_precision(recipe, device)
    task, _ = build_task(recipe, num_classes, device, load_init=False)
    optimiser = build_optimiser(task, recipe)
    clips = max(recipe.batch // recipe.accumulate, 1)
    shape = (clips, recipe.num_segments)
    generator = torch.Generator().manual_seed(0)
    rgb = torch.randn(*shape, 3, recipe.size, recipe.size, generator=generator).to(device)
    depth = torch.rand(*shape, 1, recipe.size, recipe.size, generator=generator).to(device)
    label = torch.randint(0, num_classes, (clips,), generator=generator).to(device)
    has_depth, counts = torch.ones(clips, dtype=torch.bool, device=device), Counts(clips, clips)
    seconds = []
    with torch_threads(recipe.threads):
        for _ in range(_STEPS):
            started = time.perf_counter()
            with torch.autocast(device.type, torch.bfloat16, enabled=recipe.precision == "bf16"):
                output = task(rgb, label, depth if task.uses_depth else None, has_depth, counts)
            output.loss.backward()
            optimiser.step()
            optimiser.zero_grad()
            if device.type == "cuda":
                torch.cuda.synchronize()
            seconds.append(time.perf_counter() - started)
    return median(seconds[1:]) / clips
