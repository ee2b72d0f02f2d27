"""One optimiser step and one validation, on any number of processes (Hugging Face Accelerate).

A run on several processes computes the same as a run on one. The gradient of a step is that of the mean over all its
clips, however they are spread over processes and accumulated parts, and BatchNorm sees the clips of all processes.
"""

import atexit
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object

from dynagest.card import IMAGENET_MEAN, IMAGENET_STD
from dynagest.clips.dataset import Batch, normalise
from dynagest.clips.labelled import UnreadableClip
from dynagest.clips.workers import read_ahead
from dynagest.errors import DynagestError
from dynagest.task.base import Task, TaskOutput
from dynagest.task.loss import Counts
from dynagest.training.batchnorm import synchronise
from dynagest.training.data import Loader, Read, cut
from dynagest.training.optimiser import build_optimiser, set_learning_rate
from dynagest.training.recipe import Recipe
from dynagest.training.sums import Sums, measure


def build_accelerator() -> Accelerator:
    """The accelerator as ``accelerate launch`` configured it, or for one process without that.

    Accelerate keeps its precision for the life of the process, so it is left at "no": the engine sets the precision by
    ``torch.autocast``, and a second run in the same process may use another one.
    """
    accelerator = Accelerator(mixed_precision="no")
    if accelerator.num_processes > 1:
        # A process group that outlives Python's shutdown may abort the process, so its threads are ended before.
        atexit.register(accelerator.end_training)
    return accelerator


def raise_together(error: DynagestError | None) -> None:
    """Raise the error of one process in every process, because the others would wait for it for ever.

    All processes call this together. Without an error it acts as a barrier.
    """
    found: list[DynagestError | None] = gather_object([error])
    for each in found:
        if each is not None:
            raise each


class Agreement(NamedTuple):
    """What all processes know about a step before it begins. ``counts`` and ``unreadable`` are totals over them."""

    counts: Counts
    fewest: int  # clips in the smallest share of a process
    unreadable: int
    stop: bool  # some process was asked to stop


class Engine:
    """Runs the steps and validations of a run, with its task, optimiser and accelerator."""

    def __init__(self, accelerator: Accelerator, task: Task, recipe: Recipe) -> None:
        self.accelerator, self.task, self.recipe = accelerator, task, recipe
        self.optimiser = build_optimiser(task, recipe)
        if accelerator.num_processes > 1:
            synchronise(task)
        self._model = accelerator.prepare_model(task)

    def agree(self, found: Read | DynagestError, stop: bool) -> Agreement:
        """Exchange every process's share of a step, and return the whole. Raises the error that any of them found."""
        error = found if isinstance(found, DynagestError) else None
        batch, unreadable = (None, []) if isinstance(found, DynagestError) else found
        clips = 0 if batch is None else len(batch["label"])
        with_depth = 0 if batch is None else int(batch["has_depth"].sum())
        share = [clips, with_depth, len(unreadable), int(stop), int(error is not None)]
        shares = [share]
        if self.accelerator.num_processes > 1:
            shares = self.accelerator.gather(torch.tensor(shares, device=self.accelerator.device)).tolist()
        total = [sum(column) for column in zip(*shares, strict=True)]
        if total[4] > 0:
            raise_together(error)
        return Agreement(Counts(total[0], total[1]), min(share[0] for share in shares), total[2], total[3] > 0)

    def step(self, batch: Batch, agreed: Agreement, step: int, lr: float) -> tuple[Sums, float]:
        """Forward and backward pass. Leaves the clipped gradients in place for ``update`` or ``discard``.

        Returns the sums over the step's clips and the gradient's norm before clipping.
        """
        self.task.train()
        set_learning_rate(self.optimiser, lr)
        seed = np.random.SeedSequence((self.recipe.seed, step, self.accelerator.process_index)).generate_state(1)[0]
        torch.manual_seed(int(seed))  # dropout; a function of the step, so that resuming needs no generator's state
        parts = cut(batch, min(self.recipe.accumulate, agreed.fewest))
        sums = []
        for place, part in enumerate(parts):
            with self._gradients_shared(last=place == len(parts) - 1):
                output, measured = self._forward(self._model, part, agreed.counts)
                # The loss is divided by the whole step's counts, so the processes' gradients must be summed, but
                # Accelerate averages them.
                self.accelerator.backward(output.loss * self.accelerator.num_processes)
            sums.append(measured)
        total = Sums.of(self._add_up(torch.stack(sums).sum(dim=0)).tolist())
        norm = self.accelerator.clip_grad_norm_(self.task.parameters(), self.recipe.clip_norm)
        return total, float(norm)

    def update(self) -> None:
        """Update the weights by the step's gradients."""
        self.optimiser.step()
        self.optimiser.zero_grad()

    def discard(self) -> None:
        """Drop the step's gradients."""
        self.optimiser.zero_grad()

    @torch.no_grad()
    def validate(self, loader: Loader) -> tuple[Sums, list[UnreadableClip]]:
        """The sums over all processes' clips, and this process's unreadable clips. Raises the error that any process
        found.
        """
        self.task.eval()
        total = torch.zeros(3 + len(self.task.terms), device=self.accelerator.device)
        failed: list[UnreadableClip] = []
        error = None
        for found in read_ahead(loader):
            if isinstance(found, DynagestError):
                error = found
                break
            batch, unreadable = found
            failed += unreadable
            if batch is not None:
                counts = Counts.of(batch["label"], batch["has_depth"])
                for part in cut(batch, min(self.recipe.accumulate, len(batch["label"]))):  # as large as in training
                    total += self._forward(self.task, part, counts)[1]
        raise_together(error)
        return Sums.of(self._add_up(total).tolist()), failed

    def _forward(self, model: torch.nn.Module, batch: Batch, counts: Counts) -> tuple[TaskOutput, torch.Tensor]:
        device = self.accelerator.device
        rgb = normalise(batch["rgb"].to(device, non_blocking=True), IMAGENET_MEAN, IMAGENET_STD)
        label = batch["label"].to(device, non_blocking=True)
        has_depth = batch["has_depth"].to(device, non_blocking=True)
        depth = batch["depth"].to(device, non_blocking=True) if self.task.uses_depth else None
        with torch.autocast(device.type, torch.bfloat16, enabled=self.recipe.precision == "bf16"):
            output: TaskOutput = model(rgb, label, depth, has_depth, counts)
        return output, measure(output, self.task.terms, label, has_depth, counts)

    def _gradients_shared(self, last: bool) -> AbstractContextManager[None]:
        """A context in which the processes exchange gradients only with the last part of a step."""
        context: AbstractContextManager[None] = nullcontext() if last else self.accelerator.no_sync(self._model)
        return context

    def _add_up(self, values: torch.Tensor) -> torch.Tensor:
        if self.accelerator.num_processes == 1:
            return values
        added: torch.Tensor = self.accelerator.reduce(values, reduction="sum")
        return added
