"""Residual 3D stages: Tran et al., "ConvNet Architecture Search for Spatiotemporal Feature Learning" (2017), Res3D.

3D ResNeXt uses the same shortcut.
"""

from typing import cast

from torch import Tensor, nn

from dynagest.networks.rivals.convolution import ConvUnit, convolution


def shortcut(
    in_channels: int, out_channels: int, stride: int, *, bias: bool = False, projected: bool = False
) -> nn.Sequential | None:
    """A block's shortcut: 1x1x1 with the stride, and BatchNorm; None for the identity.

    The identity serves wherever the shape stays the same, unless ``projected`` asks for a projection there, too.
    """
    if stride == 1 and in_channels == out_channels and not projected:
        return None
    return nn.Sequential(convolution(in_channels, out_channels, 1, stride, bias=bias), nn.BatchNorm3d(out_channels))


class BasicBlock(nn.Module):
    """Two 3x3x3 convolutions with bias and BatchNorm, added to the shortcut (``projected``: always a projection)."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, *, projected: bool = False) -> None:
        super().__init__()
        self.conv1 = convolution(in_channels, out_channels, 3, stride, bias=True)
        self.bn1 = nn.BatchNorm3d(out_channels)
        self.conv2 = convolution(out_channels, out_channels, 3, bias=True)
        self.bn2 = nn.BatchNorm3d(out_channels)
        self.relu = nn.ReLU(inplace=True)
        self.shortcut = shortcut(in_channels, out_channels, stride, bias=True, projected=projected)

    def forward(self, x_NCTHW: Tensor) -> Tensor:
        """(N, C, T, H, W) -> (N, out_channels, T / stride, H / stride, W / stride)."""
        identity = x_NCTHW if self.shortcut is None else self.shortcut(x_NCTHW)
        out = self.relu(self.bn1(self.conv1(x_NCTHW)))
        out = self.bn2(self.conv2(out))
        return cast(Tensor, self.relu(out.add_(identity)))


class Res3D(nn.Sequential):
    """A 3x7x7 stem with stride (1, 2, 2), then a stage of two blocks for each of ``strides``, doubling the channels.

    ``projected``: the first stage has a projection too, although its shape stays the same.
    (N, channels, T, H, W) -> (N, ``out_channels``, T / s, H / 2s, W / 2s), s the product of the strides.
    """

    def __init__(self, channels: int, width: int, strides: tuple[int, ...], *, projected: bool = False) -> None:
        super().__init__()
        self.add_module("stem", ConvUnit(channels, width, (3, 7, 7), (1, 2, 2), bias=True))
        self.out_channels = width
        for stage, stride in enumerate(strides):
            planes = width * 2**stage
            first = BasicBlock(self.out_channels, planes, stride, projected=projected)
            self.add_module(f"layer{stage + 1}", nn.Sequential(first, BasicBlock(planes, planes, 1)))
            self.out_channels = planes
