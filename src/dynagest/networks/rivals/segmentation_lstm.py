"""Segmentation + LSTM (Table V): a frame encoder that first learns to find the hand, then LSTMs over its class scores.

The decoder of the hand mask exists in training only: ``dynagest.task.segmentation``.
"""

from typing import cast

from torch import Tensor, nn

from dynagest.errors import ModelError
from dynagest.networks.clipnet import ClipNet
from dynagest.networks.resnet import BasicBlock, Stage, convolution, plain
from dynagest.networks.spec import NetworkSpec

LAYERS = 4  # stacked LSTMs
SHRINK = 32  # the encoder's stride


class FrameEncoder(nn.Module):
    """ResNet-18 up to its second stage, then two 3x3 convolutions with stride 2."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.conv1 = convolution(channels, width, 7, stride=2)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.layer1 = _stage(width, width, stride=1)
        self.layer2 = _stage(width, 2 * width, stride=2)
        self.down1 = _down(2 * width, 2 * width)
        self.down2 = _down(2 * width, 4 * width)
        self.out_channels = 4 * width

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Frames (B, 3, H, W) -> (B, out_channels, H / 32, W / 32), rounded up."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x_BCHW))))
        x = self.layer2(self.layer1(x, 1), 1)
        return cast(Tensor, self.down2(self.down1(x)))


class SegmentationLSTM(ClipNet):
    """Class scores of every frame, four stacked LSTMs over them, and ``classifier`` on each step; the last step counts.

    Takes any T but one size, because the encoder's map is flattened. ``frame_size`` (height, width) is by default a
    square of the spec's size; the published input is 126 x 224. The segmentation decoder reads the output of the module
    ``encoder``, (N*T, 256, h, w).

    Attributes: ``encoder``; ``embedding`` (256 * h * w -> 2048, BatchNorm, ReLU; 7168 -> 2048 at the published size);
    ``frame_classifier`` (2048 -> K); ``lstm``; ``classifier`` (K -> K). The last three depend on K: they are ``head``.
    """

    head = ("frame_classifier", "lstm", "classifier")

    def __init__(self, spec: NetworkSpec, frame_size: tuple[int, int] | None = None) -> None:
        super().__init__(spec)
        self.frame_size = frame_size or (spec.size, spec.size)
        self.encoder = FrameEncoder(self.channels, self.width)
        height, side = (-(-pixels // SHRINK) for pixels in self.frame_size)
        self.embedding = nn.Sequential(
            nn.Linear(self.encoder.out_channels * height * side, 32 * self.width),
            nn.BatchNorm1d(32 * self.width),
            nn.ReLU(),
        )
        self.dropout = nn.Dropout(spec.dropout)
        self.frame_classifier = nn.Linear(32 * self.width, self.num_classes)
        self.lstm = nn.LSTM(self.num_classes, self.num_classes, LAYERS, batch_first=True)
        self.classifier: nn.Linear = nn.Linear(self.num_classes, self.num_classes)

    def forward(self, clip_NTCHW: Tensor) -> Tensor:
        """Normalised clips (N, T, 3, H, W) -> logits (N, num_classes). Raises ``ModelError`` on another shape."""
        return self.frame_logits(clip_NTCHW)[:, -1]

    def frame_logits(self, clip_NTCHW: Tensor) -> Tensor:
        """Normalised clips (N, T, 3, H, W) -> logits after each frame, from the frames so far, (N, T, num_classes)."""
        self.check_clip(clip_NTCHW)
        scores_BK = self.frame_scores(self.encoder(clip_NTCHW.flatten(0, 1)))
        hidden_NTK, _ = self.lstm(scores_BK.unflatten(0, clip_NTCHW.shape[:2]))
        return cast(Tensor, self.classifier(hidden_NTK))

    def frame_scores(self, map_BCHW: Tensor) -> Tensor:
        """The encoder's map (B, 256, h, w) -> logits of each frame by itself (B, num_classes)."""
        return cast(Tensor, self.frame_classifier(self.dropout(self.embedding(map_BCHW.flatten(1)))))

    def reset_classifier(self) -> None:
        """Initialise the whole head again, with PyTorch's defaults.

        The small values of the other networks' classifiers would leave the LSTMs almost without a gradient.
        """
        for layer in (self.frame_classifier, self.lstm, self.classifier):
            layer.reset_parameters()

    def check_clip(self, clip_NTCHW: Tensor) -> None:
        """Raise ``ModelError`` unless the tensor has the shape (N, T, 3, height, width) as built."""
        super().check_clip(clip_NTCHW)
        if tuple(clip_NTCHW.shape[3:]) != self.frame_size:
            raise ModelError(
                f"{self.name}: frames of {clip_NTCHW.shape[3]} x {clip_NTCHW.shape[4]}; it flattens its features and "
                f"was built for {self.frame_size[0]} x {self.frame_size[1]}: build it for these, or resize them"
            )


def _stage(in_channels: int, planes: int, stride: int) -> Stage:
    return Stage(BasicBlock(in_channels, planes, stride, plain), BasicBlock(planes, planes, 1, plain))


def _down(in_channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(
        convolution(in_channels, out_channels, 3, stride=2), nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True)
    )
