"""C3D: Tran et al., "Learning Spatiotemporal Features with 3D Convolutional Networks" (ICCV 2015).

This is the variant in the paper's tables: BatchNorm after every convolution, and fully connected layers of 2048
instead of 4096.
"""

from typing import cast

from torch import Tensor, nn

from dynagest.errors import ModelError
from dynagest.networks.clipnet import ClipNet
from dynagest.networks.rivals.convolution import ConvUnit, volume
from dynagest.networks.spec import NetworkSpec

GROUPS = ((1,), (2,), (4, 4), (8, 8), (8, 8))  # each group's convolutions: channels as multiples of the stem's
MIN_FRAMES, MIN_SIDE = 9, 16


class C3D(ClipNet):
    """Eight 3x3x3 convolutions in five groups, ``fc6`` and ``fc7`` of 2048 (``width`` 64), the classifier.

    The feature volume is flattened, so the network only takes clips of the T and size that it was built for. Dropout
    (published: 0.5) follows both fully connected layers. Raises ``ModelError`` when T or the size is too small for the
    five poolings.
    """

    def __init__(self, spec: NetworkSpec, clip_frames: int | None = None) -> None:
        """``clip_frames``: the number of frames that the convolutions see at once, by default all T."""
        super().__init__(spec)
        self.clip_frames, self.size = clip_frames or self.num_segments, spec.size
        if self.clip_frames < MIN_FRAMES or self.size < MIN_SIDE:
            raise ModelError(
                f"{self.name}: {self.clip_frames} frames of {self.size} x {self.size}; its poolings need at least "
                f"{MIN_FRAMES} frames and {MIN_SIDE} pixels a side"
            )
        self.features = nn.Sequential()
        channels = self.channels
        for group, multiples in enumerate(GROUPS, start=1):
            for layer, multiple in enumerate(multiples, start=1):
                self.features.add_module(
                    f"conv{group}_{layer}", ConvUnit(channels, multiple * self.width, 3, bias=True)
                )
                channels = multiple * self.width
            self.features.add_module(f"pool{group}", _pool(group))
        hidden = 32 * self.width
        self.fc6 = nn.Linear(channels * _positions(self.clip_frames, self.size), hidden)
        self.fc7 = nn.Linear(hidden, hidden)
        self.relu = nn.ReLU()
        self.dropout = nn.Dropout(spec.dropout)
        self.classifier = nn.Linear(hidden, self.num_classes)
        self.reset_classifier()

    def forward(self, clip_NTCHW: Tensor) -> Tensor:
        """Normalised clips (N, T, 3, H, W) -> logits (N, num_classes). Raises ``ModelError`` on another shape."""
        self.check_clip(clip_NTCHW)
        x = self.flat_features(clip_NTCHW)
        for layer in (self.fc6, self.fc7):
            x = self.dropout(self.relu(layer(x)))
        return cast(Tensor, self.classifier(x))

    def flat_features(self, clip_NTCHW: Tensor) -> Tensor:
        """Clips of ``clip_frames`` frames -> the input of ``fc6`` (N, 8 * width * t * h * w)."""
        return cast(Tensor, self.features(volume(clip_NTCHW)).flatten(1))

    def check_clip(self, clip_NTCHW: Tensor) -> None:
        """Raise ``ModelError`` unless the tensor has the shape (N, num_segments, 3, size, size)."""
        super().check_clip(clip_NTCHW)
        expected = (self.num_segments, self.channels, self.size, self.size)
        if clip_NTCHW.shape[1:] != expected:
            raise ModelError(
                f"{self.name}: a clip of shape {tuple(clip_NTCHW.shape)}; it flattens its features and was built for "
                f"(N, {', '.join(map(str, expected))}): build it for these clips, or cut them to that"
            )


def _pool(group: int) -> nn.MaxPool3d:
    if group == 1:
        return nn.MaxPool3d(2, stride=(1, 2, 2))
    if group < 5:
        return nn.MaxPool3d(2)
    return nn.MaxPool3d((1, 2, 2), stride=2, padding=(0, 1, 1))


def _positions(frames: int, size: int) -> int:
    """The number of positions of the last feature map, time x height x width: 2 x 4 x 4 for 32 frames of 112 x 112."""
    frames, side = (frames - 1) // 8, size // 16
    return ((frames + 1) // 2) * (side // 2 + 1) ** 2
