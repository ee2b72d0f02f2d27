"""ACTION's channel gates as products of small matrices, shared by the forms of a network for export.

What comes after global average pooling is tiny, yet as 1x1 convolutions over (N*T, C, 1, 1) it costs runtimes
transposes and, in int8, precision. Here pooled features are (N, T, C), and a look at another frame is a concatenation.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dynagest.networks.action import Action
from dynagest.networks.online import OnlineAction, two_taps


class ChannelGates(nn.Module):
    """3 + CE + ME of an ACTION module, published or online: (N, T, C) from features pooled over H and W."""

    squeeze: Tensor
    mix: Tensor
    expand_ce: Tensor
    expand_me: Tensor

    def __init__(self, action: Action) -> None:
        super().__init__()
        self.online = isinstance(action, OnlineAction)
        self.register_buffer("squeeze", action.action_p2_squeeze.weight.detach().flatten(1))
        # (r, 3r): the frame before, this one, the next one.
        mix = three_taps(action, action.action_p2_conv1.weight.detach(), dim=2)
        self.register_buffer("mix", mix.transpose(1, 2).flatten(1))
        self.register_buffer("expand_ce", action.action_p2_expand.weight.detach().flatten(1))
        self.register_buffer("expand_me", action.action_p3_expand.weight.detach().flatten(1))

    def forward(self, pooled_NTC: Tensor, squeezed_NTR: Tensor, convolved_NTR: Tensor) -> Tensor:
        """Means over H and W of the shifted features, of ME's squeezed ones, and of those behind its 3x3."""
        squeezed = F.linear(pooled_NTC, self.squeeze)
        neighbours = torch.cat((before(squeezed), squeezed, after(squeezed)), dim=2)
        channel = torch.sigmoid(F.linear(F.relu(F.linear(neighbours, self.mix)), self.expand_ce))
        # The motion between two frames belongs to the earlier one; online, to the later one.
        motion = F.pad(convolved_NTR[:, 1:] - squeezed_NTR[:, :-1], (0, 0, 1, 0) if self.online else (0, 0, 0, 1))
        return 3 + channel + torch.sigmoid(F.linear(motion, self.expand_me))


def three_taps(action: Action, weight: Tensor, dim: int) -> Tensor:
    """Taps for frames t-1, t and t+1 along ``dim``: those of ``weight``, with nothing from t+1 where it is online."""
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


def mean_over_channels(channels: int) -> Tensor:
    """The weight (1, C, 1, 1) of a convolution that takes the mean over channels: runtimes quantise convolutions."""
    return torch.full((1, channels, 1, 1), 1 / channels)
