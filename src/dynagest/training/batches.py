"""Decides which clips each step takes, from (seed, step) alone, so that a step number is enough to resume. No torch."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil

import numpy as np

Key = tuple[int, int]  # (epoch, index): with the seed, all that a clip's augmentation depends on


@dataclass(frozen=True, slots=True)
class BatchPlan:
    """``clips`` clips, shuffled in each epoch and cut into batches of almost equal size, at most ``batch``.

    The batches are even, instead of full ones and a remainder, so that no clip is dropped and no step computes
    BatchNorm's statistics over a handful of clips.
    """

    clips: int
    batch: int
    seed: int

    @property
    def steps_per_epoch(self) -> int:
        return ceil(self.clips / self.batch)

    @property
    def smallest(self) -> int:
        """The number of clips in the smallest batch."""
        return self.clips // self.steps_per_epoch

    def keys(self, step: int) -> list[Key]:
        """The keys of the clips of one optimiser step, over all processes."""
        epoch, within = divmod(step, self.steps_per_epoch)
        order = np.random.default_rng((self.seed, epoch)).permutation(self.clips)
        return [(epoch, int(index)) for index in np.array_split(order, self.steps_per_epoch)[within]]


def planned(plan: BatchPlan, first: int, last: int, process: int = 0, processes: int = 1) -> Iterator[list[Key]]:
    """One process's share of the steps from ``first`` to ``last`` (excluded).

    One sequence serves all epochs of the run, so that the workers prefetch the next epoch while this one ends.
    """
    for step in range(first, last):
        yield plan.keys(step)[process::processes]


def in_order(clips: int, batch: int, process: int = 0, processes: int = 1) -> list[list[Key]]:
    """One process's share of all clips, each once and in order, in batches; for validation."""
    keys = [(0, index) for index in range(process, clips, processes)]
    return [keys[start : start + batch] for start in range(0, len(keys), batch)]
