"""MTUT: Abavisani, Joze, Patel, "Improving the Performance of Unimodal Dynamic Hand-Gesture Recognition with Multimodal
Training" (CVPR 2019): an RGB network and a depth network train side by side, each learning from the better one.

"Spatiotemporal semantic alignment": on each clip, the network with the larger cross-entropy is pulled towards the other
one's correlations between positions. The pull grows with the difference ("focal regularisation"). After training only
the RGB network is used.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from dynagest.atomic import write_atomically
from dynagest.networks.weights import to_safetensors
from dynagest.run_folder import PARTNER_FILE
from dynagest.task.base import Task, TaskOutput, Term
from dynagest.task.inputs import network_input
from dynagest.task.loss import Counts, mean_over
from dynagest.task.taps import Taps

BETA = 2.0  # in the focal factor exp(BETA * difference) - 1
LIMIT = 10.0  # of a clip's weighted alignment; beyond it the clip has no gradient
MAX_DIFFERENCE = 20.0  # of two cross-entropies: exp(2 * 20) is far beyond the limit and still finite


class AlignmentTask(Task):
    """The RGB ``network``, its ``partner`` (the same network with ``inputs`` "depth") and the loss of both.

    ``class_weight * (CE(rgb) + CE(depth)) + weight * (alignment(rgb to depth) + alignment(depth to rgb))``. All terms
    but the first are means over the clips that have depth, and each weighted alignment is at most ``LIMIT`` per clip.
    Features are read at the module ``tap``. A weight of 0 leaves alignment out (MTUT's first stage). In a run's folder
    the partner lies beside the network, as ``partner.safetensors``. Raises ``ModelError`` if there is no such module.
    """

    def __init__(
        self, network: nn.Module, partner: nn.Module, tap: str, weight: float, class_weight: float = 1.0
    ) -> None:
        terms = {
            "cross_entropy": Term(class_weight),
            "depth_cross_entropy": Term(class_weight, "with_depth"),
            "alignment": Term(weight or None, "with_depth"),
        }
        super().__init__(network, terms, uses_depth=True)
        Taps(network, [tap])  # a wrong name is told now, not in the first step, when an older run is gone already
        self.partner = partner
        self.tap, self.weight, self.class_weight = tap, weight, class_weight

    def forward(
        self,
        rgb: torch.Tensor,
        label: torch.Tensor,
        depth: torch.Tensor | None = None,
        has_depth: torch.Tensor | None = None,
        counts: Counts | None = None,
    ) -> TaskOutput:
        """See ``Task.forward``. ``depth`` and ``has_depth`` are required; a clip without depth trains the RGB network
        alone.
        """
        assert depth is not None, "alignment needs depth"
        assert has_depth is not None, "alignment needs to know which clips have depth"
        counts = counts or Counts.of(label, has_depth)
        # Every clip goes through the partner, and its loss is multiplied by 0 where there is no depth. So the partner's
        # weights are in the graph of every process, as DistributedDataParallel requires.
        with Taps(self.network, [self.tap], dims=(4, 5)) as taps, Taps(self.partner, [self.tap], dims=(4, 5)) as others:
            logits, other_logits = self.network(rgb), self.partner(network_input(rgb, depth, "depth"))
        entropy = F.cross_entropy(logits.float(), label, reduction="none")
        other_entropy = F.cross_entropy(other_logits.float(), label, reduction="none")
        terms = {
            "cross_entropy": mean_over(entropy, counts.clips),
            "depth_cross_entropy": mean_over(other_entropy * has_depth, counts.with_depth),
            "alignment": torch.zeros_like(entropy[0]),
        }
        loss = self.class_weight * (terms["cross_entropy"] + terms["depth_cross_entropy"])
        if self.weight:
            clips, limit = len(label), LIMIT / self.weight
            ours, theirs = correlations(taps[self.tap], clips), correlations(others[self.tap], clips)
            pull = alignment(ours, theirs, entropy, other_entropy).clamp(max=limit)
            pull = pull + alignment(theirs, ours, other_entropy, entropy).clamp(max=limit)
            terms["alignment"] = mean_over(pull * has_depth, counts.with_depth)
            loss = loss + self.weight * terms["alignment"]
        return TaskOutput(loss, logits, {name: value.detach() for name, value in terms.items()})

    def save_companions(self, run_dir: Path) -> None:
        """Write the depth network, for a later run to start from. Raises ``RunError`` when it cannot be written."""
        write_atomically(run_dir / PARTNER_FILE, to_safetensors(self.partner.state_dict()))


def correlations(features: torch.Tensor, clips: int) -> torch.Tensor:
    """Correlations between the P positions of each clip's features, each channel scaled to length 1: (N, P, P) float32.

    ``features`` are (N, C, T, H, W) from a 3D network, P = T*H*W, or (N*T, C, H, W) from a 2D one, of any precision.
    """
    if features.dim() == 4:
        features = features.unflatten(0, (clips, -1)).transpose(1, 2)
    with torch.autocast(features.device.type, enabled=False):
        scaled_NCP = F.normalize(features.float().flatten(2), dim=2, eps=1e-8)
        return scaled_NCP.transpose(1, 2) @ scaled_NCP


def alignment(
    ours_NPP: torch.Tensor, theirs_NPP: torch.Tensor, our_entropy: torch.Tensor, their_entropy: torch.Tensor
) -> torch.Tensor:
    """The pull on our network towards the other one's correlations on each clip, (N,): 0 where ours is the better one.

    It is ``rho * ||ours - theirs||`` with ``rho = exp(2 (CE - CE')) - 1``. The norm is the root mean square, as in the
    method's public code: it does not grow with the number of positions. Neither ``theirs`` nor ``rho`` has a gradient.
    """
    with torch.no_grad():
        worse_by = (our_entropy - their_entropy).clamp(0, MAX_DIFFERENCE)
        rho = torch.exp(BETA * worse_by) - 1
    difference = (ours_NPP - theirs_NPP.detach()).flatten(1)
    # vector_norm's gradient at 0 is 0, where a square root's is infinite.
    return rho * torch.linalg.vector_norm(difference, dim=1) / difference.shape[1] ** 0.5
