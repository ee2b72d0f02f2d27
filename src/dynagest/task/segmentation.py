"""Segmentation + LSTM: a frame encoder that learns to segment the hand while it learns to recognise gestures.

The published training has three stages, each of which is a recipe of this one task: the mask alone on single frames
(``class_weight`` 0), the class alone with the encoder frozen (``mask_weight`` 0), then both together.
"""

import torch
import torch.nn.functional as F
from torch import nn

from dynagest.errors import ModelError
from dynagest.task.base import Task, TaskOutput, Term
from dynagest.task.inputs import network_input
from dynagest.task.loss import Counts, mean_over
from dynagest.task.segmentation_decoder import SegmentationDecoder
from dynagest.task.taps import Taps

ENCODER = "encoder"


class SegmentationTask(Task):
    """A network with a module ``encoder``, the ``decoder`` of its masks, and the loss of class and mask.

    The loss is ``class_weight * CE(class) + mask_weight * CE(mask)``; the latter is the mean over the pixels of the
    clips with depth. The target mask is depth above ``threshold`` (in (0, 1); published: 10 / 255). With a
    ``mask_weight`` of 0 no mask is computed, and the decoder keeps its weights.
    """

    def __init__(
        self,
        network: nn.Module,
        decoder: SegmentationDecoder,
        class_weight: float,
        mask_weight: float,
        threshold: float,
    ) -> None:
        terms = {"cross_entropy": Term(class_weight), "mask": Term(mask_weight or None, "with_depth")}
        super().__init__(network, terms, uses_depth=mask_weight > 0)
        self.decoder = decoder
        self.class_weight, self.mask_weight, self.threshold = class_weight, mask_weight, threshold
        if not mask_weight:
            decoder.requires_grad_(False)

    @classmethod
    def for_network(
        cls, network: nn.Module, class_weight: float, mask_weight: float, threshold: float
    ) -> "SegmentationTask":
        """The task with a decoder that fits ``network``. Raises ``ModelError`` for a network without ``encoder``."""
        encoder = dict(network.named_children()).get(ENCODER)
        if encoder is None:
            raise ModelError(
                f"{type(network).__name__} has no module {ENCODER!r} that a mask could be made of; the task "
                "segmentation is for segmentation_lstm"
            )
        decoder = SegmentationDecoder(int(encoder.out_channels))  # type: ignore[arg-type]
        return cls(network, decoder, class_weight, mask_weight, threshold)

    def forward(
        self,
        rgb: torch.Tensor,
        label: torch.Tensor,
        depth: torch.Tensor | None = None,
        has_depth: torch.Tensor | None = None,
        counts: Counts | None = None,
    ) -> TaskOutput:
        """See ``Task.forward``. ``depth`` and ``has_depth`` are required unless ``mask_weight`` is 0."""
        clip, counts = network_input(rgb, depth, self.inputs), counts or Counts.of(label, has_depth)
        if not self.mask_weight:
            logits, mask = self.network(clip), torch.zeros((), device=rgb.device)
        else:
            assert depth is not None, "masks need depth to be compared with"
            assert has_depth is not None, "masks need to know which clips have depth"
            with Taps(self.network, [ENCODER]) as taps:
                logits = self.network(clip)
            height, width = rgb.shape[-2:]
            found = self.decoder(taps[ENCODER], (height, width))
            mask = mean_over(self.mask_error(found, depth) * has_depth, counts.with_depth)
        per_clip = F.cross_entropy(logits.float(), label, reduction="none")
        entropy = mean_over(per_clip, counts.clips)
        loss = self.class_weight * entropy + self.mask_weight * mask
        return TaskOutput(loss, logits, {"cross_entropy": entropy.detach(), "mask": mask.detach()})

    def mask_error(self, found_B2HW: torch.Tensor, depth_NT1HW: torch.Tensor) -> torch.Tensor:
        """Each clip's cross-entropy (N,) of the logits for background and hand (N*T, 2, H, W) against depth's mask."""
        hand = (depth_NT1HW.flatten(0, 2) > self.threshold).long()
        per_pixel = F.cross_entropy(found_B2HW.float(), hand, reduction="none")
        return per_pixel.unflatten(0, depth_NT1HW.shape[:2]).mean(dim=(1, 2, 3))
