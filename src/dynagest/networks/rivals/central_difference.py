"""Temporal central-difference convolutions: Yu et al., "Searching Multi-Rate and Multi-Modal Temporal Enhanced Networks
for Gesture Recognition" (TIP 2021)."""

from typing import Literal

import torch
from torch import Tensor, nn

from dynagest.networks.rivals.convolution import Conv3d

Centre = Literal["frame", "average"]


class CentralDifferenceConv(Conv3d):
    """A 3x3x3 convolution that mixes the neighbouring frames with their difference from this frame.

    y = conv(x) - theta * conv1x1x1(c, S). S is the sum of the taps of frames t-1 and t+1 over time and space; c is x
    (``centre`` "frame") or its mean over frames t-1 to t+1, zeros beyond the ends ("average", the robust variant).
    Both terms are linear in x, so together they are one convolution with theta * S subtracted from its central taps, at
    the cost of a plain convolution. No bias, zeros beyond the borders.
    """

    def __init__(self, channels: int, theta: float, centre: Centre) -> None:
        super().__init__(channels, channels, 3, padding=1, bias=False)
        nn.init.kaiming_normal_(self.weight, mode="fan_out", nonlinearity="relu")
        self.theta, self.centre = theta, centre

    def folded_weight(self) -> Tensor:
        """The weight (C, C, 3, 3, 3) of the single convolution that both terms make together."""
        neighbours = self.weight[:, :, ::2].sum(dim=(2, 3, 4))
        difference = torch.zeros_like(self.weight)
        if self.centre == "frame":
            difference[:, :, 1, 1, 1] = neighbours
        else:
            difference[:, :, :, 1, 1] = neighbours.unsqueeze(2) / 3
        return self.weight - self.theta * difference

    def forward(self, x_NCTHW: Tensor) -> Tensor:
        """(N, C, T, H, W) -> (N, C, T, H, W)."""
        return self._conv_forward(x_NCTHW, self.folded_weight(), None)
