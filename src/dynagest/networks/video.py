"""The shell that makes a network of frames a network of clips."""

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from dynagest.networks.clipnet import ClipNet
from dynagest.networks.resnet import ResNet


class VideoNet(ClipNet):
    """Every frame through one 2D network with temporal modules, one classifier, the mean over T of the logits.

    It takes T from the clip and runs at any, whatever ``num_segments`` says. ``taps``: the stem after max-pooling and
    the last stage, whose outputs are (N*T, C, h, w).

    State-dict names are the published ones below ``base_model.``; the classifier is ``classifier.*`` with and without
    dropout.

        >>> net = create_model("action_resnet50", num_classes=83)
        >>> net(torch.randn(1, 8, 3, 224, 224)).shape
        torch.Size([1, 83])
    """

    taps: tuple[str, str] = ("base_model.maxpool", "base_model.layer4")

    def __init__(
        self,
        base_model: ResNet,
        name: str,
        num_classes: int,
        num_segments: int,
        width: int,
        dropout: float = 0.0,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(name, num_classes, num_segments, width, options)
        self.base_model = base_model
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(base_model.out_channels, num_classes)
        self.reset_classifier()

    def forward(self, clip_NTCHW: Tensor) -> Tensor:
        """Normalised clips (N, T, 3, H, W) -> logits (N, num_classes). Raises ``ModelError`` on another shape."""
        return self.frame_logits(clip_NTCHW).mean(dim=1)

    def frame_logits(self, clip_NTCHW: Tensor) -> Tensor:
        """Normalised clips (N, T, 3, H, W) -> logits of every frame (N, T, num_classes)."""
        self.check_clip(clip_NTCHW)
        num_frames = clip_NTCHW.shape[1]
        # The temporal modules work along the memory order of channels_last, where convolutions are faster as well.
        frames_BCHW = clip_NTCHW.flatten(0, 1).contiguous(memory_format=torch.channels_last)
        features_BC = self.base_model(frames_BCHW, num_frames)
        logits_BK = self.classifier(self.dropout(features_BC))
        return cast(Tensor, logits_BK.unflatten(0, (-1, num_frames)))
