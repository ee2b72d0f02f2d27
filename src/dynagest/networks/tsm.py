"""TSM: Lin, Gan, Han, "TSM: Temporal Shift Module for Efficient Video Understanding" (ICCV 2019)."""

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SHIFT_DIV = 8  # an eighth of the channels takes the next frame, an eighth the previous one


class TemporalShift(nn.Module):
    """The TSM shift in front of a convolution, which has the published name ``net``.

    Of C channels the first C // 8 take frame t+1, the next C // 8 frame t-1, and the rest stay; zeros beyond the
    clip's ends. The shift has no weights.
    """

    def __init__(self, net: nn.Conv2d) -> None:
        super().__init__()
        self.net = net
        self.fold = net.in_channels // SHIFT_DIV

    def forward(self, x_BCHW: Tensor, num_frames: int) -> Tensor:
        """(B, C, H, W) -> the output of ``net`` on the shifted frames."""
        return cast(Tensor, self.net(shift(x_BCHW, num_frames, self.fold)))


def shift(x_BCHW: Tensor, num_frames: int, fold: int) -> Tensor:
    """Shift ``fold`` channels from the next frame and ``fold`` from the previous one. (B, C, H, W) -> the same shape.

    It uses pad and cat, because slices that are assigned in place do not export.
    """
    x_NTHWC = x_BCHW.permute(0, 2, 3, 1).unflatten(0, (-1, num_frames))
    from_next = F.pad(x_NTHWC[:, 1:, ..., :fold], (0, 0, 0, 0, 0, 0, 0, 1))
    from_previous = F.pad(x_NTHWC[:, :-1, ..., fold : 2 * fold], (0, 0, 0, 0, 0, 0, 1, 0))
    shifted = torch.cat((from_next, from_previous, x_NTHWC[..., 2 * fold :]), dim=-1)
    return shifted.flatten(0, 1).permute(0, 3, 1, 2)
