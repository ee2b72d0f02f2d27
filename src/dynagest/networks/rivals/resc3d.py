"""A stream of ResC3D: Miao et al., "Multimodal Gesture Recognition Based on the ResC3D Network" (ICCV Workshops 2017).

The published system picks 32 frames by their motion, fuses the features of three modalities by canonical correlation
and classifies with a linear SVM. The paper's row is for RGB alone, so this is one stream with a linear classifier.
"""

from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn

from dynagest.networks.clipnet import ClipNet
from dynagest.networks.rivals.convolution import volume
from dynagest.networks.rivals.residual import Res3D
from dynagest.networks.spec import NetworkSpec


class ResC3D(ClipNet):
    """Res3D-18, global average pooling, the classifier. Takes any T and size."""

    def __init__(self, spec: NetworkSpec) -> None:
        super().__init__(spec)
        self.features = Res3D(self.channels, self.width, strides=(1, 2, 2, 2), projected=True)
        self.dropout = nn.Dropout(spec.dropout)
        self.classifier = nn.Linear(self.features.out_channels, self.num_classes)
        self.reset_classifier()

    def forward(self, clip_NTCHW: Tensor) -> Tensor:
        """Normalised clips (N, T, 3, H, W) -> logits (N, num_classes). Raises ``ModelError`` on another shape."""
        self.check_clip(clip_NTCHW)
        pooled = F.adaptive_avg_pool3d(self.features(volume(clip_NTCHW)), 1).flatten(1)
        return cast(Tensor, self.classifier(self.dropout(pooled)))
