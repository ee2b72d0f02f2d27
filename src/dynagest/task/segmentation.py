"""Segmentation + LSTM: a frame encoder that learns to segment the hand while it learns to recognise gestures.

The published training has three stages, each of which is a recipe of this one task: the mask alone on single frames
(``class_weight`` 0), the class alone with the encoder frozen (``mask_weight`` 0), then both together.
"""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import nn

from dynagest.errors import ModelError
from dynagest.task.base import Task, TaskOutput, Term
from dynagest.task.inputs import network_input
from dynagest.task.loss import Counts, mean_over
from dynagest.task.taps import Taps

ENCODER = "encoder"
DIVISORS = (4, 8, 16, 32)  # of the encoder's channels: 256 become 64, 32, 16 and 8 before the two classes


class SegmentationTask(Task):
    """A network with a module ``encoder``, a ``decoder`` of its masks, and the loss of class and mask.

    The loss is ``class_weight * CE(class) + mask_weight * CE(mask)``; the latter is the mean over the pixels of the
    clips with depth. The target mask is depth above ``threshold`` (in (0, 1); published: 10 / 255). With a
    ``mask_weight`` of 0 no mask is computed, and the decoder keeps its weights. Raises ``ModelError`` for a network
    without ``encoder``.
    """

    def __init__(self, network: nn.Module, class_weight: float, mask_weight: float, threshold: float) -> None:
        encoder = dict(network.named_children()).get(ENCODER)
        if encoder is None:
            raise ModelError(
                f"{type(network).__name__} has no module {ENCODER!r} that a mask could be made of; the task "
                "segmentation is for segmentation_lstm"
            )
        terms = {"cross_entropy": Term(class_weight), "mask": Term(mask_weight or None, "with_depth")}
        super().__init__(network, terms, uses_depth=mask_weight > 0)
        self.decoder = SegmentationDecoder(int(encoder.out_channels))  # type: ignore[arg-type]
        self.class_weight, self.mask_weight, self.threshold = class_weight, mask_weight, threshold
        if not mask_weight:
            self.decoder.requires_grad_(False)

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


class SegmentationDecoder(nn.Sequential):
    """Five 4x4 transposed convolutions with stride 2, bias and ReLU between them: 256 -> 64 -> 32 -> 16 -> 8 -> 2.

    It reads the output of the module ``encoder`` of a ``SegmentationLSTM``.

        >>> decoder = SegmentationDecoder(net.encoder.out_channels)
        >>> decoder(net.encoder(frames), frames.shape[2:])     # logits of background and hand, (B, 2, H, W)
    """

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        widths = (in_channels, *(max(2, in_channels // part) for part in DIVISORS), 2)
        for inputs, outputs in pairwise(widths):
            up = nn.ConvTranspose2d(inputs, outputs, 4, stride=2, padding=1)
            # He's initialisation with the true fan-in: along each axis two of the four taps reach an output pixel.
            nn.init.normal_(up.weight, std=(2 / (4 * inputs)) ** 0.5)
            self.extend((up, nn.ReLU(inplace=True)))
        del self[-1]

    def forward(self, map_BCHW: torch.Tensor, frame_size: tuple[int, int]) -> torch.Tensor:  # type: ignore[override]
        """The encoder's map (B, 256, h, w) -> logits (B, 2, height, width), cropped evenly to ``frame_size``."""
        mask = super().forward(map_BCHW)
        height, width = frame_size
        top, left = (mask.shape[2] - height) // 2, (mask.shape[3] - width) // 2
        assert min(top, left) >= 0, f"a mask of {tuple(mask.shape[2:])} is smaller than the frames, {frame_size}"
        return mask[:, :, top : top + height, left : left + width]
