"""Sums over clips, from which the log's means are computed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from math import isfinite
from typing import Any, Self

import torch

from dynagest.task.base import TaskOutput, Term
from dynagest.task.loss import Counts


@dataclass(frozen=True, slots=True)
class Sums:
    """Sums over some clips: the number of clips, of those with depth, of those recognised, and each loss term's sum."""

    clips: float = 0.0
    with_depth: float = 0.0
    correct: float = 0.0
    terms: tuple[float, ...] = ()

    @classmethod
    def of(cls, values: Sequence[float]) -> Self:
        """The sums from a row of numbers as in ``values``; an empty row means no clips."""
        if not values:
            return cls()
        clips, with_depth, correct, *terms = values
        return cls(clips, with_depth, correct, tuple(terms))

    @property
    def values(self) -> tuple[float, ...]:
        """The numbers in a row: clips, clips with depth, recognised ones, then the terms."""
        return (self.clips, self.with_depth, self.correct, *self.terms)

    def __add__(self, other: "Sums") -> "Sums":
        pairs = zip_longest(self.values, other.values, fillvalue=0.0)
        return Sums.of([ours + theirs for ours, theirs in pairs])

    @property
    def finite(self) -> bool:
        return all(map(isfinite, self.values))

    @property
    def top1(self) -> float:
        """The share of recognised clips, 0 to 1."""
        return self.correct / max(self.clips, 1)

    def means(self, terms: Mapping[str, Term]) -> dict[str, Any]:
        """The numbers of these clips in a line of the log (see ``log.py``): the weighted loss, its terms, ``top1``."""
        sums = self.terms or (0.0,) * len(terms)
        found = {
            name: value / max(getattr(self, term.of), 1)
            for (name, term), value in zip(terms.items(), sums, strict=True)
        }
        loss = sum(term.weight * found[name] for name, term in terms.items() if term.weight is not None)
        shown = {name: None if term.weight is None else found[name] for name, term in terms.items()}
        return {"loss": loss, **shown, "top1": self.top1}


def measure(
    output: TaskOutput, terms: Mapping[str, Term], label: torch.Tensor, has_depth: torch.Tensor, counts: Counts
) -> torch.Tensor:
    """The ``Sums.values`` of one batch, whose loss was divided by ``counts``: a tensor (3 + terms,).

    Such tensors can be added over batches and processes.
    """
    clips = torch.full((), float(len(label)), device=label.device)  # not ``tensor``, whose copy would wait for a GPU
    correct = (output.logits.argmax(dim=1) == label).sum().float()
    sums = [output.terms[name] * getattr(counts, term.of) for name, term in terms.items()]
    return torch.stack([clips, has_depth.sum().float(), correct, *sums])
