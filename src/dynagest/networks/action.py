"""ACTION: Wang, She, Smolic, "ACTION-Net: Multipath Excitation for Action Recognition" (CVPR 2021).

The three excitations are summed as x*(1 + STE) + x*(1 + CE) + x*(1 + ME) = x * (3 + STE + CE + ME). STE has one gate
per pixel, CE and ME one per channel, so the sum takes two multiplications over the features, not three full branches.

CE and ME look at means over pixels alone, and in evaluation all that stands before these means is linear. So the means
are taken first there, and nothing is squeezed at full size. In training BatchNorm needs every pixel.
"""

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dynagest.networks.temporal import (
    TemporalConv,
    edge_means,
    following_difference,
    global_average,
    mean_taps,
    shift_taps,
)
from dynagest.networks.tsm import SHIFT_DIV

REDUCTION = 16  # of the channels, within CE and ME


class Action(nn.Module):
    """The ACTION module in front of a convolution, with the published parameter names ``action_*`` and ``net``.

    C = input channels of ``net``, r = C // 16 (at least 1). The shift starts as TSM's; all other layers keep PyTorch's
    default initialisation. ``means_first`` tells whether ME's means are taken first in evaluation; the answer is the
    same, and ``count`` turns it off to count what is published.
    """

    means_first = True

    def __init__(self, net: nn.Conv2d) -> None:
        super().__init__()
        channels = net.in_channels
        reduced = max(1, channels // REDUCTION)
        self.net = net
        self.action_shift = TemporalConv(shift_taps(channels, channels // SHIFT_DIV))
        self.action_p1_conv1 = SpatioTemporalConv()
        self.action_p2_squeeze = nn.Conv2d(channels, reduced, 1, bias=False)
        self.action_p2_conv1 = nn.Conv1d(reduced, reduced, 3, padding=1, bias=False)
        self.action_p2_expand = nn.Conv2d(reduced, channels, 1, bias=False)
        self.action_p3_squeeze = nn.Conv2d(channels, reduced, 1, bias=False)
        self.action_p3_bn1 = nn.BatchNorm2d(reduced)
        self.action_p3_conv1 = nn.Conv2d(reduced, reduced, 3, padding=1, groups=reduced, bias=False)
        self.action_p3_expand = nn.Conv2d(reduced, channels, 1, bias=False)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x_BCHW: Tensor, num_frames: int) -> Tensor:
        """(B, C, H, W) -> the output of ``net`` on the excited frames."""
        x = self.action_shift(x_BCHW, num_frames)
        mean, squeezed, convolved = self.means(x)
        channel_gate = (
            3 + self.channel_excitation(mean, num_frames) + self.motion_excitation(squeezed, convolved, num_frames)
        )
        pixel_gate = self.spatio_temporal_excitation(x, num_frames)
        return cast(Tensor, self.net((x * channel_gate).addcmul_(x, pixel_gate)))

    def spatio_temporal_excitation(self, x_BCHW: Tensor, num_frames: int) -> Tensor:
        """STE: a gate over space and time, from the mean over channels. (B, C, H, W) -> (B, 1, H, W) in (0, 1)."""
        # Not ``mean``: in bf16 it copies the whole tensor to float32 first.
        mean_B1HW = x_BCHW.sum(1, keepdim=True) / x_BCHW.shape[1]
        return torch.sigmoid(self.action_p1_conv1(mean_B1HW, num_frames))

    def means(self, x_BCHW: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What CE and ME look at: the means over pixels of the features (B, C, 1, 1), of these squeezed by ME
        (B, R, 1, 1), and of the latter after ME's 3x3 (B, R, 1, 1).
        """
        if self.action_p3_bn1.training or not self.means_first:
            mean = global_average(x_BCHW)
            squeezed = self.action_p3_bn1(self.action_p3_squeeze(x_BCHW))
            return mean, global_average(squeezed), global_average(self.action_p3_conv1(squeezed))
        means_BC33 = edge_means(x_BCHW)
        means_BR33 = self.action_p3_bn1(self.action_p3_squeeze(means_BC33))
        taps_R33 = mean_taps(self.action_p3_conv1.weight[:, 0], *x_BCHW.shape[2:])
        convolved = (means_BR33 * taps_R33).sum((2, 3), keepdim=True)
        return means_BC33[..., 1:2, 1:2], means_BR33[..., 1:2, 1:2], convolved

    def channel_excitation(self, mean_BC11: Tensor, num_frames: int) -> Tensor:
        """CE: a gate over channels, from how their means change over T. (B, C, 1, 1) -> (B, C, 1, 1) in (0, 1)."""
        squeezed_BR11 = self.action_p2_squeeze(mean_BC11)
        squeezed_NRT = squeezed_BR11.flatten(1).unflatten(0, (-1, num_frames)).transpose(1, 2)
        mixed_NRT = self.relu(self.action_p2_conv1(squeezed_NRT))
        mixed_BR11 = mixed_NRT.transpose(1, 2).flatten(0, 1)[..., None, None]
        return torch.sigmoid(self.action_p2_expand(mixed_BR11))

    def motion_excitation(self, squeezed_BR11: Tensor, convolved_BR11: Tensor, num_frames: int) -> Tensor:
        """ME: a gate over channels, from motion. Two (B, R, 1, 1) -> (B, C, 1, 1) in (0, 1), 0.5 for the last frame."""
        motion = following_difference(squeezed_BR11, convolved_BR11, num_frames)
        return torch.sigmoid(self.action_p3_expand(motion))


class SpatioTemporalConv(nn.Conv2d):
    """STE's 3x3x3 convolution of one channel, as a 3x3 convolution over the previous, this and the next frame; no bias.

    A 3D convolution of one channel is slow on the CPU and missing in some browsers. The weight (1, 3, 3, 3) is the
    published (1, 1, 3, 3, 3) without its channel axis.
    """

    def __init__(self) -> None:
        super().__init__(3, 1, kernel_size=3, padding=1, bias=False)

    def forward(self, x_B1HW: Tensor, num_frames: int) -> Tensor:  # type: ignore[override]
        """(B, 1, H, W) -> (B, 1, H, W), zeros beyond the clip's ends and the frame's borders."""
        x_NTHW = F.pad(x_B1HW.squeeze(1).unflatten(0, (-1, num_frames)), (0, 0, 0, 0, 1, 1))
        neighbours_B3HW = torch.stack((x_NTHW[:, :-2], x_NTHW[:, 1:-1], x_NTHW[:, 2:]), dim=2).flatten(0, 1)
        return super().forward(neighbours_B3HW)
