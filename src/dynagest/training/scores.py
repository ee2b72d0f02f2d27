"""Sums over clips, from which the lines of the log are made."""

from dataclasses import astuple, dataclass, fields
from math import isfinite
from typing import Any, Self

import torch

from dynagest.task.loss import Counts, LossParts, LossWeights


@dataclass(frozen=True, slots=True)
class Sums:
    """Sums over some clips: cross-entropy and recognised ones over all, squared errors over those ``with_depth``."""

    clips: float = 0.0
    with_depth: float = 0.0
    correct: float = 0.0
    cross_entropy: float = 0.0
    local: float = 0.0
    global_: float = 0.0

    @classmethod
    def of(
        cls, parts: LossParts, logits: torch.Tensor, label: torch.Tensor, has_depth: torch.Tensor, counts: Counts
    ) -> torch.Tensor:
        """The sums of one batch whose loss was divided by ``counts``, as a (6,) tensor that processes can add up."""
        clips = torch.tensor(float(len(label)), device=logits.device)
        return torch.stack(
            [
                clips,
                has_depth.sum().float(),
                (logits.argmax(dim=1) == label).sum().float(),
                parts.cross_entropy * counts.clips,
                parts.local * counts.with_depth,
                parts.global_ * counts.with_depth,
            ]
        )

    @classmethod
    def from_tensor(cls, values: torch.Tensor) -> Self:
        return cls(*values.tolist())

    def __add__(self, other: "Sums") -> "Sums":
        return Sums(*(ours + theirs for ours, theirs in zip(astuple(self), astuple(other), strict=True)))

    @property
    def finite(self) -> bool:
        return all(isfinite(getattr(self, field.name)) for field in fields(self))

    @property
    def top1(self) -> float:
        """Share of recognised clips."""
        return self.correct / max(self.clips, 1)

    def loss(self, weights: LossWeights) -> float:
        """The weighted loss, as in training."""
        depth = weights.local * self.local + weights.global_ * self.global_
        return weights.cross_entropy * self.cross_entropy / max(self.clips, 1) + depth / max(self.with_depth, 1)

    def means(self, weights: LossWeights, has_local: bool, has_global: bool) -> dict[str, Any]:
        """What a line of the log says about these clips (see ``log.py``)."""
        return {
            "loss": self.loss(weights),
            "cross_entropy": self.cross_entropy / max(self.clips, 1),
            "local": self.local / max(self.with_depth, 1) if has_local else None,
            "global": self.global_ / max(self.with_depth, 1) if has_global else None,
            "top1": self.top1,
        }
