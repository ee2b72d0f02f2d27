"""Res2Net: Gao et al., "Res2Net: A New Multi-scale Backbone Architecture" (TPAMI 2021), with its parameter names.

The block takes temporal modules in two places, where TEA puts ME and MTA: after the first 1x1, and on every split.
"""

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn

from dynagest.networks.resnet import convolution, projection

Excite = Callable[[int], nn.Module]
"""Number of channels -> a module that acts on all channels after the first 1x1 convolution."""

Aggregate = Callable[[int, bool], nn.Module]
"""(channels of a split, whether it is the last split) -> a temporal module for one split."""

BASE_WIDTH, SCALE = 26, 4  # the published "26w x 4s": channels of a split at 64 planes, and splits


class Res2NetBlock(nn.Module):
    """1x1, four splits of which three pass a 3x3 each, one after the other, then 1x1 to four times the planes.

    The width of a split is floor(planes * 26 / 64). In the first block of a stage the splits are not chained, and the
    last split is average-pooled with the stride. The last BatchNorm's weight starts at zero, so that a new block passes
    on its shortcut alone: from random weights, TEA with 50 layers would otherwise stay at chance for a long time.
    """

    def __init__(
        self,
        in_channels: int,
        planes: int,
        stride: int,
        first: bool,
        excite: Excite,
        aggregate: Aggregate,
    ) -> None:
        super().__init__()
        self.first = first
        self.out_channels = 4 * planes
        self.split_width = planes * BASE_WIDTH // 64
        inner = SCALE * self.split_width
        self.conv1 = convolution(in_channels, inner, 1)
        self.bn1 = nn.BatchNorm2d(inner)
        self.me = excite(inner)
        self.convs = nn.ModuleList(convolution(self.split_width, self.split_width, 3, stride) for _ in range(SCALE - 1))
        self.bns = nn.ModuleList(nn.BatchNorm2d(self.split_width) for _ in range(SCALE - 1))
        self.shifts = nn.ModuleList(aggregate(self.split_width, index == SCALE - 1) for index in range(SCALE))
        self.pool = nn.AvgPool2d(3, stride, padding=1) if first else nn.Identity()
        self.conv3 = convolution(inner, 4 * planes, 1)
        self.bn3 = nn.BatchNorm2d(4 * planes)
        nn.init.zeros_(self.bn3.weight)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = projection(in_channels, 4 * planes, stride)

    def forward(self, x_BCHW: Tensor, num_frames: int) -> Tensor:
        """(B, C, H, W) -> (B, 4 * planes, H / stride, W / stride)."""
        identity = x_BCHW if self.downsample is None else self.downsample(x_BCHW)
        out = self.me(self.relu(self.bn1(self.conv1(x_BCHW))), num_frames)
        *splits, last = out.split(self.split_width, dim=1)
        outputs: list[Tensor] = []
        for split, shift, conv, bn in zip(splits, self.shifts, self.convs, self.bns, strict=False):
            chained = split if self.first or not outputs else split + outputs[-1]
            outputs.append(self.relu(bn(conv(shift(chained, num_frames)))))
        outputs.append(self.pool(self.shifts[-1](last, num_frames)))
        out = self.bn3(self.conv3(torch.cat(outputs, dim=1)))
        return cast(Tensor, self.relu(out.add_(identity)))
