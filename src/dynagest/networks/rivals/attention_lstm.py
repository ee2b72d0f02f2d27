"""attentionLSTM (Zhang et al., NeurIPS 2018) and "Redundancy + AttentionLSTM" (Zhu et al., TNNLS 2019).

Res3D takes the short-term motion, two convolutional LSTMs the long-term motion, and a MobileNet each frame of their
output. Both rows of the paper's tables are this network.
"""

from typing import cast

from torch import Tensor, nn

from dynagest.networks.clipnet import ClipNet
from dynagest.networks.resnet import convolution
from dynagest.networks.rivals.convlstm import ConvLSTM, GatedAttentionLSTM
from dynagest.networks.rivals.convolution import volume
from dynagest.networks.rivals.residual import Res3D
from dynagest.networks.spec import NetworkSpec
from dynagest.networks.temporal import global_average

# Separable convolutions of the tail: (channels as a multiple of the stem's, stride).
TAIL = ((4, 1), (4, 2), (8, 1), (8, 1), (8, 1), (8, 1), (8, 1), (16, 2), (16, 2))


class SeparableConv(nn.Sequential):
    """MobileNet's unit: depthwise 3x3 with the stride, then 1x1, each with BatchNorm and ReLU6."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__(
            convolution(in_channels, in_channels, 3, stride, groups=in_channels),
            nn.BatchNorm2d(in_channels),
            nn.ReLU6(inplace=True),
            convolution(in_channels, out_channels, 1),
            nn.BatchNorm2d(out_channels),
            nn.ReLU6(inplace=True),
        )


class AttentionLSTM(ClipNet):
    """Res3D to 256 channels, two recurrent layers of 256, MobileNet tail, mean over frames and positions, classifier.

    Option ``gated``: false (default) for two plain ConvLSTMs, which give the paper's 20.7 M parameters; true for the
    released variant with attention on the input and pooled gates. Takes any T and size.
    """

    def __init__(self, spec: NetworkSpec) -> None:
        super().__init__(spec)
        self.features = Res3D(self.channels, self.width, strides=(1, 2, 1))
        recurrent = GatedAttentionLSTM if self.options.get("gated", False) else ConvLSTM
        channels = self.features.out_channels
        self.lstm = nn.Sequential(recurrent(channels, channels), recurrent(channels, channels))
        self.tail = nn.Sequential()
        for multiple, stride in TAIL:
            self.tail.append(SeparableConv(channels, multiple * self.width, stride))
            channels = multiple * self.width
        self.dropout = nn.Dropout(spec.dropout)
        self.classifier = nn.Linear(channels, self.num_classes)
        self.reset_classifier()

    def forward(self, clip_NTCHW: Tensor) -> Tensor:
        """Normalised clips (N, T, 3, H, W) -> logits (N, num_classes). Raises ``ModelError`` on another shape."""
        self.check_clip(clip_NTCHW)
        x_NTCHW = self.lstm(self.features(volume(clip_NTCHW)).transpose(1, 2))
        frames_BC11 = global_average(self.tail(x_NTCHW.flatten(0, 1)))
        pooled_NC = frames_BC11.flatten(1).unflatten(0, x_NTCHW.shape[:2]).mean(dim=1)
        return cast(Tensor, self.classifier(self.dropout(pooled_NC)))
