"""Parts that the 3D networks share: clips as volumes, 3D convolutions, and their unit with BatchNorm and ReLU.

Volumes are (N, C, T, H, W). A kernel or stride of three numbers is (time, height, width).
"""

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Sizes = int | tuple[int, int, int]


def volume(clip_NTCHW: Tensor) -> Tensor:
    """A clip (N, T, C, H, W) as the volume (N, C, T, H, W) that 3D convolutions read.

    Channels are innermost in memory, which is faster. Clips from ``dynagest.clips`` already lie so and are not copied.
    """
    return clip_NTCHW.transpose(1, 2).contiguous(memory_format=torch.channels_last_3d)


def scaled(channels: int, width: int) -> int:
    """A published number of channels, for a stem of 64, scaled to a stem of ``width``; at least 1."""
    return max(1, channels * width // 64)


class Conv3d(nn.Conv3d):
    """``nn.Conv3d`` that pads beforehand when, on some axis, the volume is too small for any window to fit inside it.

    In that case, as in the last stages at 16 or 32 frames, torch 2.13 on the CPU (oneDNN) writes beyond the weight's
    gradient: garbage in bf16, sometimes a crash in fp32. Padding with zeros first gives the same result without that.
    """

    def _conv_forward(self, x_NCTHW: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        padding = cast(tuple[int, int, int], self.padding)
        axes = zip(x_NCTHW.shape[2:], self.kernel_size, self.stride, padding, strict=True)
        if all(_some_window_is_whole(*axis) for axis in axes):
            return super()._conv_forward(x_NCTHW, weight, bias)
        time, height, width = padding
        padded = F.pad(x_NCTHW, (width, width, height, height, time, time))
        return F.conv3d(padded, weight, bias, self.stride, groups=self.groups)


def _some_window_is_whole(size: int, kernel: int, stride: int, padding: int) -> bool:
    first = -(-padding // stride) * stride - padding  # where the first window begins that begins inside
    return first + kernel <= size


def convolution(
    in_channels: int, out_channels: int, kernel: Sizes, stride: Sizes = 1, *, groups: int = 1, bias: bool = False
) -> Conv3d:
    """A 3D convolution with an odd kernel, same padding, Kaiming-normal initialisation (fan-out), and bias 0 if any."""
    time, height, side = (kernel,) * 3 if isinstance(kernel, int) else kernel
    padding = (time // 2, height // 2, side // 2)
    layer = Conv3d(in_channels, out_channels, kernel, stride, padding, groups=groups, bias=bias)
    nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


class ConvUnit(nn.Sequential):
    """Convolution, BatchNorm, ReLU: (N, C, T, H, W) -> (N, out_channels, T / stride, H / stride, W / stride)."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel: Sizes, stride: Sizes = 1, *, bias: bool = False
    ) -> None:
        super().__init__(
            convolution(in_channels, out_channels, kernel, stride, bias=bias),
            nn.BatchNorm3d(out_channels),
            nn.ReLU(inplace=True),
        )
