"""What every training task is: a network, what trains along with it, and a loss of named terms.

The network is what is saved for use. Everything else in a task is there for training only: the depth decoders, a second
network that sees depth, the decoder of a hand mask.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

import torch
from torch import nn

from dynagest.errors import RecipeError, hint
from dynagest.networks.clipnet import ClipNet
from dynagest.task.loss import Counts


@dataclass(frozen=True, slots=True)
class Term:
    """A term of the loss: its factor, ``None`` in a run that does not have it, and the clips that it is a mean of."""

    weight: float | None
    of: Literal["clips", "with_depth"] = "clips"


@dataclass(frozen=True, slots=True)
class TaskOutput:
    """``loss`` (scalar with gradient), ``logits`` (N, K), and each term of the loss, unweighted and detached.

    A term is the sum over this batch's clips, divided by the ``Counts`` of the whole step; 0 for one that is not there.
    """

    loss: torch.Tensor
    logits: torch.Tensor
    terms: Mapping[str, torch.Tensor]


class Task(nn.Module):
    """Base of the tasks.

    Attributes: ``network``, saved for use; ``inputs``, what it is fed ("rgb", "rgbd" or "depth"); ``uses_depth``,
    whether ``forward`` looks at depth; ``terms``, those of the loss by name, the first of which decides between epochs
    of equal accuracy.
    """

    def __init__(self, network: nn.Module, terms: Mapping[str, Term], uses_depth: bool) -> None:
        super().__init__()
        self.network = network
        self.inputs = network.inputs if isinstance(network, ClipNet) else "rgb"
        self.terms = dict(terms)
        self.uses_depth = uses_depth or self.inputs != "rgb"
        self._frozen: tuple[str, ...] = ()

    def forward(
        self,
        rgb: torch.Tensor,
        label: torch.Tensor,
        depth: torch.Tensor | None = None,
        has_depth: torch.Tensor | None = None,
        counts: Counts | None = None,
    ) -> TaskOutput:
        """One step's share of the loss.

        ``rgb`` (N, T, 3, H, W) float32, normalised; ``label`` (N,) int64; ``depth`` (N, T, 1, H, W) float32, canonical
        (0 to 1, near = 1), and ``has_depth`` (N,) bool, where the task uses depth; ``counts`` of the whole step, by
        default those of this batch.
        """
        raise NotImplementedError

    def freeze(self, names: tuple[str, ...]) -> None:
        """Train these modules (as in ``named_modules``) no more: neither their weights nor BatchNorm's statistics.

        Raises ``RecipeError`` for a name that no module has.
        """
        modules = dict(self.named_modules())
        for name in names:
            if name not in modules or name == "":
                known = hint(name, modules, "there are network and what is below it")
                raise RecipeError(f"frozen: there is no module {name!r} in this task; {known}")
            modules[name].requires_grad_(False)
        self._frozen = names
        self.train(self.training)

    def train(self, mode: bool = True) -> Self:
        """As of any module; frozen ones stay in evaluation mode."""
        super().train(mode)
        for name in self._frozen:
            self.get_submodule(name).eval()
        return self

    def save_companions(self, run_dir: Path) -> None:
        """Write what a report shows of the training-only parts, beside the network; by default nothing."""
