"""3D ResNeXt-101: Hara, Kataoka, Satoh, "Can Spatiotemporal 3D CNNs Retrace the History of 2D CNNs and ImageNet?"
(CVPR 2018). Köpüklü et al. use it in "Real-time Hand Gesture Detection and Classification" (FG 2019)."""

from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn

from dynagest.networks.clipnet import ClipNet
from dynagest.networks.rivals.convolution import ConvUnit, convolution, volume
from dynagest.networks.rivals.residual import shortcut
from dynagest.networks.spec import NetworkSpec

DEPTHS = (3, 4, 23, 3)
EXPANSION = 2


class Bottleneck(nn.Module):
    """1x1x1, a grouped 3x3x3 with the stride, then 1x1x1 to twice the planes.

    The last BatchNorm's weight starts at zero, as a ``Res2NetBlock``'s does, and for the same reason: from random
    weights 101 layers would otherwise stay at chance on some seeds.
    """

    def __init__(self, in_channels: int, planes: int, stride: int, groups: int) -> None:
        super().__init__()
        inner = groups * (planes // groups)
        self.conv1 = convolution(in_channels, inner, 1)
        self.bn1 = nn.BatchNorm3d(inner)
        self.conv2 = convolution(inner, inner, 3, stride, groups=groups)
        self.bn2 = nn.BatchNorm3d(inner)
        self.conv3 = convolution(inner, EXPANSION * planes, 1)
        self.bn3 = nn.BatchNorm3d(EXPANSION * planes)
        nn.init.zeros_(self.bn3.weight)
        self.relu = nn.ReLU(inplace=True)
        self.shortcut = shortcut(in_channels, EXPANSION * planes, stride)

    def forward(self, x_NCTHW: Tensor) -> Tensor:
        """(N, C, T, H, W) -> (N, 2 * planes, T / stride, H / stride, W / stride)."""
        identity = x_NCTHW if self.shortcut is None else self.shortcut(x_NCTHW)
        out = self.relu(self.bn1(self.conv1(x_NCTHW)))
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        return cast(Tensor, self.relu(out.add_(identity)))


class ResNeXt3D(ClipNet):
    """Stem, stages of 3, 4, 23 and 3 bottlenecks, global average pooling, the classifier. Takes any T and size.

    The number of groups (cardinality) is half of ``width``: 32 at the published 64, and groups as thin at other widths.
    """

    def __init__(self, spec: NetworkSpec) -> None:
        super().__init__(spec)
        self.stem = ConvUnit(self.channels, self.width, 7, (1, 2, 2))
        self.maxpool = nn.MaxPool3d(3, stride=2, padding=1)
        self.stages = nn.Sequential()
        channels = self.width
        for stage, depth in enumerate(DEPTHS):
            planes = 2 * self.width * 2**stage
            blocks: list[nn.Module] = []
            for index in range(depth):
                stride = 2 if stage > 0 and index == 0 else 1
                blocks.append(Bottleneck(channels, planes, stride, groups=self.width // 2))
                channels = EXPANSION * planes
            self.stages.append(nn.Sequential(*blocks))
        self.dropout = nn.Dropout(spec.dropout)
        self.classifier = nn.Linear(channels, self.num_classes)
        self.reset_classifier()

    def forward(self, clip_NTCHW: Tensor) -> Tensor:
        """Normalised clips (N, T, 3, H, W) -> logits (N, num_classes). Raises ``ModelError`` on another shape."""
        self.check_clip(clip_NTCHW)
        x = self.stages(self.maxpool(self.stem(volume(clip_NTCHW))))
        return cast(Tensor, self.classifier(self.dropout(F.adaptive_avg_pool3d(x, 1).flatten(1))))
