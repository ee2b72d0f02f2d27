"""ResNet: He et al., "Deep Residual Learning for Image Recognition" (CVPR 2016), with torchvision's parameter names.

Bottlenecks have their stride in the 3x3 convolution. The blocks are injected. A block may wrap its first convolution in
a temporal module, which is where the published TSM and ACTION have theirs.
"""

from collections.abc import Callable, Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dynagest.networks.temporal import Time, apply_in_time

Wrap = Callable[[nn.Conv2d], nn.Module]
"""A block's first convolution -> the same convolution, or a temporal module around it."""

MakeBlock = Callable[[int, int, int, int], nn.Module]
"""(input channels, planes, stride, index within the stage) -> a block with the attribute ``out_channels``."""


def plain(conv: nn.Conv2d) -> nn.Module:
    """The ``Wrap`` of a block without a temporal module."""
    return conv


def convolution(in_channels: int, out_channels: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    """A convolution of a residual network: same padding, no bias, Kaiming-normal initialisation (fan-out)."""
    conv = nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, groups=groups, bias=False)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    return conv


def projection(in_channels: int, out_channels: int, stride: int) -> nn.Sequential | None:
    """The shortcut of a block that changes its shape; None where the input can be added as it is."""
    if stride == 1 and in_channels == out_channels:
        return None
    return nn.Sequential(convolution(in_channels, out_channels, 1, stride), nn.BatchNorm2d(out_channels))


def before_projection(x_BCHW: Tensor) -> Tensor:
    """The same features, in contiguous memory if they have 8 channels.

    In fp32 and channels_last, torch 2.13.0 on a CPU writes beyond its memory in the backward pass of a strided 1x1
    convolution of 8 channels, which ends the process with a segmentation fault.
    """
    return x_BCHW.contiguous() if x_BCHW.shape[1] == 8 else x_BCHW


class BasicBlock(nn.Module):
    """Two 3x3 convolutions (ResNet-18 and 34)."""

    def __init__(self, in_channels: int, planes: int, stride: int, wrap: Wrap) -> None:
        super().__init__()
        self.out_channels = planes
        self.conv1 = wrap(convolution(in_channels, planes, 3, stride))
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = convolution(planes, planes, 3)
        self.bn2 = nn.BatchNorm2d(planes)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = projection(in_channels, planes, stride)

    def forward(self, x_BCHW: Tensor, time: Time) -> Tensor:
        """(B, C, H, W) -> (B, planes, H / stride, W / stride)."""
        identity = x_BCHW if self.downsample is None else self.downsample(before_projection(x_BCHW))
        out = self.relu(self.bn1(apply_in_time(self.conv1, x_BCHW, time)))
        out = self.bn2(self.conv2(out))
        return cast(Tensor, self.relu(out.add_(identity)))


class Bottleneck(nn.Module):
    """1x1, 3x3 with the stride, 1x1 to four times the planes (ResNet-50 and 101)."""

    def __init__(self, in_channels: int, planes: int, stride: int, wrap: Wrap) -> None:
        super().__init__()
        self.out_channels = 4 * planes
        self.conv1 = wrap(convolution(in_channels, planes, 1))
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = convolution(planes, planes, 3, stride)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv3 = convolution(planes, 4 * planes, 1)
        self.bn3 = nn.BatchNorm2d(4 * planes)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = projection(in_channels, 4 * planes, stride)

    def forward(self, x_BCHW: Tensor, time: Time) -> Tensor:
        """(B, C, H, W) -> (B, 4 * planes, H / stride, W / stride)."""
        identity = x_BCHW if self.downsample is None else self.downsample(x_BCHW)
        out = self.relu(self.bn1(apply_in_time(self.conv1, x_BCHW, time)))
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        return cast(Tensor, self.relu(out.add_(identity)))


class Stage(nn.Sequential):
    """Blocks of one resolution, called with the number of frames per clip (or a stream's memory)."""

    def forward(self, x_BCHW: Tensor, time: Time) -> Tensor:  # type: ignore[override]
        """(B, C, H, W) -> (B, C', H', W')."""
        for block in self:
            x_BCHW = block(x_BCHW, time)
        return x_BCHW


class ResNet(nn.Module):
    """Stem, four stages of ``depths`` blocks with ``width`` * (1, 2, 4, 8) planes, global average pooling.

    ``channels`` is the number of input channels, 3 for RGB. The output is the pooled features, ``out_channels`` of
    them; the classifier belongs to the video network.
    """

    def __init__(self, make_block: MakeBlock, depths: Sequence[int], width: int = 64, channels: int = 3) -> None:
        super().__init__()
        self.conv1 = convolution(channels, width, 7, stride=2)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.out_channels = width
        self.layer1 = self._stage(make_block, depths[0], width, stride=1)
        self.layer2 = self._stage(make_block, depths[1], 2 * width, stride=2)
        self.layer3 = self._stage(make_block, depths[2], 4 * width, stride=2)
        self.layer4 = self._stage(make_block, depths[3], 8 * width, stride=2)

    def _stage(self, make_block: MakeBlock, depth: int, planes: int, stride: int) -> Stage:
        blocks: list[nn.Module] = []
        for index in range(depth):
            blocks.append(make_block(self.out_channels, planes, stride if index == 0 else 1, index))
            self.out_channels = cast(int, blocks[-1].out_channels)
        return Stage(*blocks)

    def forward(self, x_BCHW: Tensor, time: Time) -> Tensor:
        """Frames (B, C, H, W) -> features (B, out_channels)."""
        return self.stages(self.stem(x_BCHW), time)

    def stem(self, x_BCHW: Tensor) -> Tensor:
        """The part that sees each frame alone: (B, C, H, W) -> (B, width, H / 4, W / 4)."""
        return cast(Tensor, self.maxpool(self.relu(self.bn1(self.conv1(x_BCHW)))))

    def stages(self, x_BCHW: Tensor, time: Time) -> Tensor:
        """The stages after the stem: (B, width, H / 4, W / 4) -> features (B, out_channels)."""
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            x_BCHW = stage(x_BCHW, time)
        return torch.flatten(F.adaptive_avg_pool2d(x_BCHW, 1), 1)
