"""The training task: a network, the decoders that hang on it while it trains, and their loss."""

from dataclasses import dataclass

import torch
from torch import nn

from dynagest.task.decoder import Masks, MultiScaleDecoder
from dynagest.task.loss import Counts, DepthLoss, LossParts


@dataclass(frozen=True, slots=True)
class TaskOutput:
    """``loss`` (scalar with gradient), its ``parts``, ``logits`` (N, K), ``masks`` (N*T, 1, h, w) or ``None``."""

    loss: torch.Tensor
    parts: LossParts
    logits: torch.Tensor
    masks: Masks | None


class DepthTask(nn.Module):
    """Everything that training needs around a network which itself knows nothing of depth.

    The network is hooked during ``forward`` only; what is saved for use is ``task.network``. Without a ``decoder`` it
    is plain classification.
    """

    def __init__(
        self, network: nn.Module, decoder: MultiScaleDecoder | None = None, loss: DepthLoss | None = None
    ) -> None:
        super().__init__()
        self.network = network
        self.decoder = decoder
        self.loss = loss or DepthLoss()

    def forward(
        self,
        rgb: torch.Tensor,
        label: torch.Tensor,
        depth: torch.Tensor | None = None,
        has_depth: torch.Tensor | None = None,
        counts: Counts | None = None,
    ) -> TaskOutput:
        """``rgb`` (N, T, 3, H, W) normalised, ``label`` (N,), ``depth`` (N, T, 1, H, W), ``has_depth`` (N,)"""
        if self.decoder is None:
            logits, masks = self.network(rgb), None
        else:
            with self.decoder.attached(self.network) as taps:
                logits = self.network(rgb)
            masks = self.decoder(self.decoder.features(taps))
        parts = self.loss(logits, label, masks, depth, has_depth, counts)
        return TaskOutput(parts.total, parts, logits, masks)
