"""What the forms of ACTION for export share: one convolution that takes all that the gates need from the features, and
channel gates as products of small matrices.

A mean over pixels and a 1x1 convolution may change places, so nothing is ever pooled at full width. What comes after
global average pooling is tiny, yet as 1x1 convolutions over (N*T, C, 1, 1) it costs runtimes transposes and, in int8,
precision. Here pooled features are (N, T, r), and a look at another frame is a concatenation.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dynagest.networks.action import Action
from dynagest.networks.online import OnlineAction, two_taps


def reduction(action: Action) -> nn.Conv2d:
    """C -> 2r + 1 channels: ME's squeezed ones, CE's squeezed ones, and the mean over channels, which is STE's.

    ``action``'s BatchNorm is folded. As a convolution, even the mean is what runtimes have in int8.
    """
    me, ce = action.action_p3_squeeze, action.action_p2_squeeze
    assert me.bias is not None, "BatchNorm is not folded"
    mean = torch.full_like(me.weight[:1], 1 / me.in_channels)
    conv = nn.Conv2d(me.in_channels, me.out_channels + ce.out_channels + 1, 1)
    weight, bias = torch.cat((me.weight, ce.weight, mean)), F.pad(me.bias, (0, ce.out_channels + 1))
    conv.load_state_dict({"weight": weight, "bias": bias})
    return conv


class ChannelGates(nn.Module):
    """3 + CE + ME of an ACTION module, published or online: (N, T, C) from features pooled over H and W."""

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
        """Means over H and W of CE's squeezed features, of ME's, and of those behind its 3x3."""
        frames = (before(channel_NTR), channel_NTR, after(channel_NTR))[: 2 if self.online else 3]
        # The motion between two frames belongs to the earlier one; online, to the later one.
        motion = F.pad(convolved_NTR[:, 1:] - squeezed_NTR[:, :-1], (0, 0, 1, 0) if self.online else (0, 0, 0, 1))
        return self.expand(torch.cat(frames, dim=2), motion)

    def expand(self, neighbours: Tensor, motion: Tensor) -> Tensor:
        """CE's frame before, this one, the next (..., 3r), or (..., 2r) online; ME's motion (..., r) -> (..., C)."""
        channel = torch.sigmoid(F.linear(F.relu(F.linear(neighbours, self.mix)), self.expand_ce))
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
