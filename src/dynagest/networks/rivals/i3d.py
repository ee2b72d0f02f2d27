"""I3D: Carreira, Zisserman, "Quo Vadis, Action Recognition?" (CVPR 2017): Inception-V1 inflated to 3D.

MTUT has one for each modality: Abavisani, Joze, Patel, "Improving the Performance of Unimodal Dynamic Hand-Gesture
Recognition with Multimodal Training" (CVPR 2019). Their alignment loss is in ``dynagest.task.alignment``.
"""

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dynagest.networks.clipnet import ClipNet
from dynagest.networks.rivals.convolution import Sizes, scaled, volume
from dynagest.networks.spec import NetworkSpec

# Channels of the four branches at width 64: (1x1x1, (1x1x1, 3x3x3), (1x1x1, 3x3x3), 1x1x1 after pooling).
Branches = tuple[int, tuple[int, int], tuple[int, int], int]
MIXED: dict[str, Branches] = {
    "mixed_3b": (64, (96, 128), (16, 32), 32),
    "mixed_3c": (128, (128, 192), (32, 96), 64),
    "mixed_4b": (192, (96, 208), (16, 48), 64),
    "mixed_4c": (160, (112, 224), (24, 64), 64),
    "mixed_4d": (128, (128, 256), (24, 64), 64),
    "mixed_4e": (112, (144, 288), (32, 64), 64),
    "mixed_4f": (256, (160, 320), (32, 128), 128),
    "mixed_5b": (256, (160, 320), (32, 128), 128),
    "mixed_5c": (384, (192, 384), (48, 128), 128),
}


def pad_same(x_NCTHW: Tensor, kernel: tuple[int, ...], stride: tuple[int, ...]) -> Tensor:
    """Pad with zeros like TensorFlow's SAME: outputs have ceil(size / stride), an odd zero goes to the axis's end."""
    padding: list[int] = []
    for size, side, step in zip(x_NCTHW.shape[2:], kernel, stride, strict=True):
        total = max((-(-size // step) - 1) * step + side - size, 0)
        padding = [total // 2, total - total // 2, *padding]
    return F.pad(x_NCTHW, padding) if any(padding) else x_NCTHW


class Unit(nn.Module):
    """Convolution with SAME padding, BatchNorm, ReLU."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv3d(in_channels, out_channels, kernel, stride, bias=False)
        nn.init.kaiming_normal_(self.conv.weight, mode="fan_out", nonlinearity="relu")
        self.bn = nn.BatchNorm3d(out_channels, eps=1e-3)

    def forward(self, x_NCTHW: Tensor) -> Tensor:
        """(N, C, T, H, W) -> (N, out_channels, ceil(T / stride), ceil(H / stride), ceil(W / stride))."""
        padded = pad_same(x_NCTHW, self.conv.kernel_size, self.conv.stride)
        return F.relu(self.bn(self.conv(padded)), inplace=True)


class MaxPool(nn.Module):
    """Max pooling with SAME padding. Its zeros change nothing, because the input comes from a ReLU."""

    def __init__(self, kernel: Sizes, stride: Sizes) -> None:
        super().__init__()
        self.kernel = (kernel,) * 3 if isinstance(kernel, int) else kernel
        self.stride = (stride,) * 3 if isinstance(stride, int) else stride

    def forward(self, x_NCTHW: Tensor) -> Tensor:
        """(N, C, T, H, W), values >= 0 -> (N, C, T', H', W'), each the length divided by its stride, rounded up."""
        return F.max_pool3d(pad_same(x_NCTHW, self.kernel, self.stride), self.kernel, self.stride)


class Mixed(nn.Module):
    """An Inception block: four parallel branches, concatenated."""

    def __init__(self, in_channels: int, branches: Branches) -> None:
        super().__init__()
        single, double, other, pooled = branches
        self.branch0 = Unit(in_channels, single, 1)
        self.branch1 = nn.Sequential(Unit(in_channels, double[0], 1), Unit(double[0], double[1], 3))
        self.branch2 = nn.Sequential(Unit(in_channels, other[0], 1), Unit(other[0], other[1], 3))
        self.branch3 = nn.Sequential(MaxPool(3, 1), Unit(in_channels, pooled, 1))
        self.out_channels = single + double[1] + other[1] + pooled

    def forward(self, x_NCTHW: Tensor) -> Tensor:
        """(N, C, T, H, W) -> (N, out_channels, T, H, W)."""
        return torch.cat([branch(x_NCTHW) for branch in self.children()], dim=1)


class I3D(ClipNet):
    """Inflated Inception-V1: logits for each of T / 8 steps, averaged. Takes any T and size.

    MTUT aligns the output of the module ``features.mixed_5c``: (N, 1024, T/8, H/32, W/32).
    Option ``inputs``: "depth" gives MTUT's second network, with a stem of 1 channel.
    """

    def __init__(self, spec: NetworkSpec) -> None:
        super().__init__(spec)
        self.features = nn.Sequential()
        add = self.features.add_module
        add("conv1", Unit(self.channels, self.width, 7, 2))
        add("pool1", MaxPool((1, 3, 3), (1, 2, 2)))
        add("conv2", Unit(self.width, self.width, 1))
        channels = scaled(192, self.width)
        add("conv3", Unit(self.width, channels, 3))
        add("pool2", MaxPool((1, 3, 3), (1, 2, 2)))
        for stage, branches in MIXED.items():
            if stage == "mixed_4b":
                add("pool3", MaxPool(3, 2))
            if stage == "mixed_5b":
                add("pool4", MaxPool(2, 2))
            mixed = Mixed(channels, _scaled(branches, self.width))
            add(stage, mixed)
            channels = mixed.out_channels
        self.dropout = nn.Dropout(spec.dropout)
        self.classifier = nn.Conv3d(channels, self.num_classes, 1)
        self.reset_classifier()

    def forward(self, clip_NTCHW: Tensor) -> Tensor:
        """Normalised clips (N, T, 3, H, W) -> logits (N, num_classes). Raises ``ModelError`` on another shape."""
        self.check_clip(clip_NTCHW)
        x = self.features(volume(clip_NTCHW))
        # As adaptive_avg_pool3d over H and W, which has no ONNX form.
        pooled_NCT11 = x.mean(dim=(3, 4), keepdim=True)
        return cast(Tensor, self.classifier(self.dropout(pooled_NCT11)).mean(dim=(2, 3, 4)))


def _scaled(branches: Branches, width: int) -> Branches:
    single, double, other, pooled = branches
    return (
        scaled(single, width),
        (scaled(double[0], width), scaled(double[1], width)),
        (scaled(other[0], width), scaled(other[1], width)),
        scaled(pooled, width),
    )
