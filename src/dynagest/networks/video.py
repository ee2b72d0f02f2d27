"""Turns a network of frames into a network of clips."""

from typing import cast

import torch
from torch import Tensor, nn

from dynagest.networks.clipnet import ClipNet
from dynagest.networks.resnet import ResNet
from dynagest.networks.spec import NetworkSpec


class VideoNet(ClipNet):
    """A 2D network with temporal modules, which sees every frame, then a classifier; the logits are averaged over T.

    It takes T from the clip and runs at any T, whatever ``num_segments`` says. ``taps`` are the stem after max-pooling
    and the last stage, whose outputs are (N*T, C, h, w).

    Below ``base_model.`` the state dict has the published names. The classifier is ``classifier.*``, with or without
    dropout.

        >>> net = create_model("action_resnet50", num_classes=83)
        >>> net(torch.randn(1, 8, 3, 224, 224)).shape
        torch.Size([1, 83])
    """

    taps: tuple[str, str] = ("base_model.maxpool", "base_model.layer4")

    def __init__(self, base_model: ResNet, spec: NetworkSpec) -> None:
        super().__init__(spec)
        self.base_model = base_model
        self.dropout = nn.Dropout(spec.dropout)
        self.classifier = nn.Linear(base_model.out_channels, self.num_classes)
        self.reset_classifier()

    def forward(self, clip_NTCHW: Tensor) -> Tensor:
        """Normalised clips (N, T, 3, H, W) -> logits (N, num_classes). Raises ``ModelError`` on another shape."""
        return self.frame_logits(clip_NTCHW).mean(dim=1)

    def frame_logits(self, clip_NTCHW: Tensor) -> Tensor:
        """Normalised clips (N, T, 3, H, W) -> logits of every frame (N, T, num_classes)."""
        self.check_clip(clip_NTCHW)
        return self._classify(self.base_model(_frames(clip_NTCHW), clip_NTCHW.shape[1]), clip_NTCHW.shape[1])

    def stem(self, clip_NTCHW: Tensor) -> Tensor:
        """The part that sees each frame alone: clips (N, T, 3, H, W) -> features (N, T, width, H / 4, W / 4)."""
        return self.base_model.stem(_frames(clip_NTCHW)).unflatten(0, clip_NTCHW.shape[:2])

    def rest(self, features_NTCHW: Tensor) -> Tensor:
        """The part after the stem: the stem's features (N, T, width, h, w) -> logits (N, num_classes)."""
        num_frames = features_NTCHW.shape[1]
        return self._classify(self.base_model.stages(_frames(features_NTCHW), num_frames), num_frames).mean(dim=1)

    def _classify(self, features_BC: Tensor, num_frames: int) -> Tensor:
        return cast(Tensor, self.classifier(self.dropout(features_BC)).unflatten(0, (-1, num_frames)))


def _frames(x_NTCHW: Tensor) -> Tensor:
    # The temporal modules are written for the memory order of channels_last, in which convolutions are faster, too.
    return x_NTCHW.flatten(0, 1).contiguous(memory_format=torch.channels_last)
