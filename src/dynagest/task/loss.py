"""The paper's loss (eqs. 4 to 7): the cross-entropy of the class plus the squared error of the masks at two scales.

N clips of T frames are B = N*T images. The squared error is the mean over all pixels of the clips that have depth. A
clip without depth trains the class only.
"""

from dataclasses import dataclass
from typing import NamedTuple, Self

import torch
import torch.nn.functional as F
from torch import nn

from dynagest.errors import ModelError, RecipeError
from dynagest.task.decoder import GLOBAL, LOCAL, Masks


@dataclass(frozen=True, slots=True)
class LossWeights:
    """The factors of the three terms; the paper's are 1 : 1 : 0.01 (Table VI tries others)."""

    cross_entropy: float = 1.0
    local: float = 1.0
    global_: float = 0.01


class Counts(NamedTuple):
    """The numbers that the loss's sums are divided by: the clips of a step, and how many of them have depth.

    When a step is spread over several processes or micro-batches, these are the counts of the whole step. So the parts
    add up to the mean over the step, however it was cut.
    """

    clips: float
    with_depth: float

    @classmethod
    def of(cls, label: torch.Tensor, has_depth: torch.Tensor | None) -> Self:
        """The counts of a step of one batch: ``label`` (N,), ``has_depth`` (N,) bool, or ``None`` for no depth."""
        return cls(float(len(label)), 0.0 if has_depth is None else float(has_depth.sum()))


def mean_over(per_clip: torch.Tensor, count: float) -> torch.Tensor:
    """The sum of (N,) values divided by the step's ``count`` of such clips; 0 when there are none."""
    return per_clip.sum() / max(count, 1)


class DepthLoss(nn.Module):
    """``weights.cross_entropy * CE + weights.local * MSE_local + weights.global_ * MSE_global``.

    ``threshold`` in [0, 1] binarises the targets (Table VIII: 10 / 255); ``None`` keeps the depth frame itself. Raises
    ``RecipeError`` for another one.
    """

    def __init__(self, weights: LossWeights | None = None, threshold: float | None = None) -> None:
        super().__init__()
        if threshold is not None and not 0 <= threshold <= 1:
            raise RecipeError(
                f"threshold: {threshold:g} is beyond depth, which lies in [0, 1]; give {threshold:g} / 255"
            )
        self.weights = weights or LossWeights()
        self.threshold = threshold

    def forward(
        self,
        logits: torch.Tensor,
        label: torch.Tensor,
        masks: Masks | None = None,
        depth: torch.Tensor | None = None,
        has_depth: torch.Tensor | None = None,
        counts: Counts | None = None,
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """The loss of (N, K) logits and (N*T, 1, h, w) masks, with gradient, and its terms, unweighted and detached.

        ``label`` (N,) int64, ``depth`` (N, T, 1, H, W) in [0, 1], ``has_depth`` (N,) bool; ``counts`` defaults to those
        of this batch. Whoever passes masks must also pass ``depth`` and ``has_depth``. Raises ``ModelError`` for other
        shapes.
        """
        counts = counts or Counts.of(label, has_depth)
        cross_entropy = mean_over(F.cross_entropy(logits.float(), label, reduction="none"), counts.clips)
        loss = self.weights.cross_entropy * cross_entropy
        terms = {"cross_entropy": cross_entropy}
        terms |= {name: torch.zeros_like(cross_entropy) for name in (LOCAL, GLOBAL)}
        if masks is not None:
            depth, has_depth = _supervision(masks, label, depth, has_depth)
            scales = ((LOCAL, masks.local, self.weights.local), (GLOBAL, masks.global_, self.weights.global_))
            for name, mask, weight in scales:
                if mask is not None:
                    terms[name] = self._squared_error(mask, depth, has_depth, counts.with_depth)
                    loss = loss + weight * terms[name]
        return loss, {name: term.detach() for name, term in terms.items()}

    def _squared_error(
        self, mask: torch.Tensor, depth: torch.Tensor, has_depth: torch.Tensor, with_depth: float
    ) -> torch.Tensor:
        target = self.target(depth, mask.shape[-2:])
        per_pixel = F.mse_loss(mask.float(), target, reduction="none").unflatten(0, depth.shape[:2])
        # A product, not a selection: so the decoders are in the graph of every process even where no clip has depth, as
        # DistributedDataParallel requires.
        return mean_over(per_pixel.mean(dim=(1, 2, 3, 4)) * has_depth, with_depth)

    @torch.no_grad()
    def target(self, depth: torch.Tensor, size: torch.Size) -> torch.Tensor:
        """Depth (N, T, 1, H, W) as target masks (N*T, 1, h, w): resized bilinearly, then binarised if there is a
        ``threshold``.
        """
        frames = depth.flatten(0, 1).float()
        if frames.shape[-2:] != size:
            frames = F.interpolate(frames, size=tuple(size), mode="bilinear", align_corners=False)
        return frames if self.threshold is None else (frames > self.threshold).float()


def _supervision(
    masks: Masks, label: torch.Tensor, depth: torch.Tensor | None, has_depth: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """``depth`` and ``has_depth``. Raises ``ModelError`` for other shapes, some of which would broadcast unnoticed."""
    clips = len(label)
    if depth is None or has_depth is None:
        lacking = "depth (N, T, 1, H, W)" if depth is None else "has_depth (N,), which clips have depth"
        raise ModelError(f"the decoders need {lacking}; give it, or make the task without decoders")
    if depth.shape[:1] + depth.shape[2:-2] != (clips, 1) or not depth.is_floating_point():
        raise ModelError(
            f"depth of {clips} clips is {depth.dtype} {tuple(depth.shape)}; give floats in [0, 1], (N, T, 1, H, W)"
        )
    if has_depth.shape != (clips,):
        raise ModelError(f"has_depth of {clips} clips is of shape {tuple(has_depth.shape)}; give one bool a clip, (N,)")
    frames = clips * depth.shape[1]
    for name, mask in ((LOCAL, masks.local), (GLOBAL, masks.global_)):
        if mask is not None and len(mask) != frames:
            raise ModelError(
                f"the {name} decoder read maps of {len(mask)} frames, but depth has {frames} ({clips} clips of "
                f"{depth.shape[1]}): let it read a module that sees all frames of all clips in one call, or give the "
                "depth of the frames that it reads"
            )
    return depth, has_depth
