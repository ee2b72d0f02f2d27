"""The base of the training tasks: a network, the parts that are trained along with it, and a loss of named terms.

Only the network is saved for use. Everything else in a task serves training only: the depth decoders, a second network
that sees depth, the decoder of a hand mask.
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
    """A term of the loss.

    ``weight`` is its factor, or ``None`` in a run without the term; ``of`` says which clips it is averaged over.
    """

    weight: float | None
    of: Literal["clips", "with_depth"] = "clips"


@dataclass(frozen=True, slots=True)
class TaskOutput:
    """``loss`` (scalar with gradient), ``logits`` (N, K), and each term of the loss, unweighted and detached.

    A term is the sum over this batch's clips divided by the ``Counts`` of the whole step; 0 where a run lacks the term.
    """

    loss: torch.Tensor
    logits: torch.Tensor
    terms: Mapping[str, torch.Tensor]


class Task(nn.Module):
    """Base class of the training tasks.

    Attributes: ``network``, which is saved for use; ``inputs``, what it is fed ("rgb", "rgbd" or "depth");
    ``uses_depth``, whether ``forward`` reads depth; ``terms``, the loss terms by name, the first of which decides
    between epochs of equal accuracy.
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
        """The loss of one batch, as its share of the whole step's loss.

        ``rgb`` (N, T, 3, H, W) float32, normalised; ``label`` (N,) int64. Where the task uses depth: ``depth``
        (N, T, 1, H, W) float32, canonical (0 to 1, near = 1), and ``has_depth`` (N,) bool. ``counts`` are those of the
        whole step, by default those of this batch.
        """
        raise NotImplementedError

    def freeze(self, names: tuple[str, ...]) -> None:
        """Stop training these modules (names as in ``named_modules``), including their BatchNorm statistics.

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
        """Like ``nn.Module.train``, but frozen modules stay in evaluation mode."""
        super().train(mode)
        for name in self._frozen:
            self.get_submodule(name).eval()
        return self

    def save_companions(self, run_dir: Path) -> None:
        """Write the training-only parts that a report or a later run needs, beside the network; by default nothing."""
