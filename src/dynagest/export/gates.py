"""Parts that the exported forms of ACTION share: the inputs of its gates, computed in two ways, and the channel gates.

CE and ME use means over pixels only, and everything before the means is linear: 1x1 convolutions, BatchNorm (already
folded), a depthwise 3x3. So the means may be taken first (``MeansFirst``, which saves half as many multiply-adds as a
block's first convolution has) or last (``SqueezeFirst``, for ONNX Runtime, whose means over bytes are slow).

The computation after global average pooling is tiny. Yet as 1x1 convolutions over (N*T, C, 1, 1) it would cost runtimes
transposes and, in int8, precision. So here pooled features are (N, T, r), and neighbouring frames are concatenated.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dynagest.networks.action import Action
from dynagest.networks.online import OnlineAction, two_taps
from dynagest.networks.temporal import mean_taps


class SqueezeFirst(nn.Module):
    """Computes all inputs of the gates by one 1x1 convolution, so that nothing is pooled at full width."""

    def __init__(self, action: Action) -> None:
        super().__init__()
        ce, me = action.action_p2_squeeze, action.action_p3_squeeze
        assert me.bias is not None, "BatchNorm is not folded"
        self.reduce = nn.Conv2d(ce.in_channels, ce.out_channels + me.out_channels + 1, 1)
        weight, bias = torch.cat((ce.weight, me.weight, _mean(ce))), F.pad(me.bias, (ce.out_channels, 1))
        self.reduce.load_state_dict({"weight": weight, "bias": bias})
        self.motion = action.action_p3_conv1

    def forward(self, x_BCHW: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(B, C, H, W) -> three means over H and W (B, r) and the mean over channels (B, 1, H, W).

        The means are those of CE's squeezed features, of ME's squeezed features, and of the latter after ME's 3x3.
        """
        r = self.motion.in_channels
        channel, squeezed, mean_B1HW = self.reduce(x_BCHW).split((r, r, 1), dim=1)
        pooled = [each.mean((2, 3), keepdim=True).flatten(1) for each in (channel, squeezed, self.motion(squeezed))]
        return pooled[0], pooled[1], pooled[2], mean_B1HW


class MeansFirst(nn.Module):
    """Computes the inputs of the gates from the features' means over pixels, so that nothing is squeezed at full size.

    The mean after ME's 3x3 follows from the means over edges (see ``mean_taps``).
    """

    weight: Tensor
    bias: Tensor
    motion: Tensor

    def __init__(self, action: Action) -> None:
        super().__init__()
        ce, me = action.action_p2_squeeze, action.action_p3_squeeze
        assert me.bias is not None, "BatchNorm is not folded"
        # The mean over channels is a convolution, too, because runtimes have that in int8.
        self.mean = nn.Conv2d(ce.in_channels, 1, 1, bias=False)
        self.mean.load_state_dict({"weight": _mean(ce)})
        self.register_buffer("weight", torch.cat((ce.weight, me.weight)).detach().flatten(1))
        self.register_buffer("bias", F.pad(me.bias.detach(), (ce.out_channels, 0)))
        self.register_buffer("motion", action.action_p3_conv1.weight.detach()[:, 0])

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Like ``SqueezeFirst.forward``. Volumes (N, C, T, H, W) give three means (N, T, r) and one (N, 1, T, H, W)."""
        r, (height, width) = len(self.motion), x.shape[-2:]
        # The ``edge_means`` of frames or volumes, of operators that are fast in OpenVINO: there a mean over one axis of
        # whole frames takes ten times as long as a pooling window.
        pool = F.avg_pool2d(x, (height, 1)) if x.ndim == 4 else F.avg_pool3d(x, (1, height, 1))
        rows = torch.cat((x[..., :1, :], pool, x[..., -1:, :]), dim=-2)
        means = torch.cat((rows[..., :1], rows.mean(-1, keepdim=True), rows[..., -1:]), dim=-1)
        z_9R = F.linear(means.flatten(-2).movedim(1, -1), self.weight, self.bias)
        # CE has no use for a convolution, so its r channels are weighted by 0.
        taps_9R = F.pad(mean_taps(self.motion, height, width).flatten(1).T, (r, 0))
        convolved = (z_9R * taps_9R).sum(-2)
        return z_9R[..., 4, :r], z_9R[..., 4, r:], convolved[..., r:], self.mean(x)


def _mean(conv: nn.Conv2d) -> Tensor:
    return torch.full_like(conv.weight[:1], 1 / conv.in_channels)


class ChannelGates(nn.Module):
    """Computes 3 + CE + ME of an ACTION module, published or online, from features pooled over H and W."""

    mix: Tensor
    expand_ce: Tensor
    expand_me: Tensor

    def __init__(self, action: Action) -> None:
        super().__init__()
        self.online = isinstance(action, OnlineAction)
        weight = action.action_p2_conv1.weight.detach()
        taps = two_taps(weight, dim=2) if self.online else weight
        self.register_buffer("mix", taps.transpose(1, 2).flatten(1))
        self.register_buffer("expand_ce", action.action_p2_expand.weight.detach().flatten(1))
        self.register_buffer("expand_me", action.action_p3_expand.weight.detach().flatten(1))

    def forward(self, channel_NTR: Tensor, squeezed_NTR: Tensor, convolved_NTR: Tensor) -> Tensor:
        """The three means that ``SqueezeFirst`` gives, each (N, T, r) -> the gate (N, T, C)."""
        frames = (before(channel_NTR), channel_NTR, after(channel_NTR))[: 2 if self.online else 3]
        # The motion between two frames belongs to the earlier one; online, to the later one.
        motion = F.pad(convolved_NTR[:, 1:] - squeezed_NTR[:, :-1], (0, 0, 1, 0) if self.online else (0, 0, 0, 1))
        return self.expand(torch.cat(frames, dim=2), motion)

    def expand(self, neighbours: Tensor, motion: Tensor) -> Tensor:
        """The gate (..., C) from CE's neighbours and ME's ``motion`` (..., r).

        ``neighbours`` are the previous, this and the next frame (..., 3r); online, without the next (..., 2r).
        """
        channel = torch.sigmoid(F.linear(F.relu(F.linear(neighbours, self.mix)), self.expand_ce))
        return 3 + channel + torch.sigmoid(F.linear(motion, self.expand_me))


def three_taps(action: Action, weight: Tensor, dim: int) -> Tensor:
    """The taps for frames t-1, t and t+1 along ``dim``: those of ``weight``, or its online form with zeros for t+1."""
    if not isinstance(action, OnlineAction):
        return weight
    past, now = two_taps(weight, dim).unbind(dim)
    return torch.stack((past, now, torch.zeros_like(now)), dim)


def before(x_NT: Tensor) -> Tensor:
    """Each frame's predecessor along dimension 1, zeros for the first."""
    return F.pad(x_NT[:, :-1], (0, 0) * (x_NT.ndim - 2) + (1, 0))


def after(x_NT: Tensor) -> Tensor:
    """Each frame's successor along dimension 1, zeros for the last."""
    return F.pad(x_NT[:, 1:], (0, 0) * (x_NT.ndim - 2) + (0, 1))
