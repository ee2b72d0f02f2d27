"""TEA: Li et al., "TEA: Temporal Excitation and Aggregation for Action Recognition" (CVPR 2020).

The two modules that it adds to the blocks of a Res2Net: motion excitation (ME), and the temporal half of multiple
temporal aggregation (MTA).
"""

import torch
from torch import Tensor, nn

from dynagest.networks.resnet import convolution
from dynagest.networks.temporal import TemporalConv, following_difference, global_average, shift_taps

REDUCTION = 16  # of the channels, within ME


class MotionExcitation(nn.Module):
    """ME: strengthens the channels in which something moves (section 3.1).

    x + x * (sigmoid - 0.5), squeezed to r = C // 16 channels (at least 1).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        reduced = max(1, channels // REDUCTION)
        self.conv1 = convolution(channels, reduced, 1)
        self.bn1 = nn.BatchNorm2d(reduced)
        self.conv2 = convolution(reduced, reduced, 3, groups=reduced)
        self.conv3 = convolution(reduced, channels, 1)
        self.bn3 = nn.BatchNorm2d(channels)

    def forward(self, x_BCHW: Tensor, num_frames: int) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        squeezed = self.bn1(self.conv1(x_BCHW))
        # The mean is linear, so each term is pooled on its own and the difference is never formed at full resolution.
        motion = following_difference(global_average(squeezed), global_average(self.conv2(squeezed)), num_frames)
        return x_BCHW * (torch.sigmoid(self.bn3(self.conv3(motion))) + 0.5)


class TemporalAggregation(nn.Module):
    """MTA's temporal convolution of one split (section 3.2): depthwise over T, trainable.

    It starts as the identity. With ``starts_as_shift``, for the split without a 3x3, it starts as a shift: half of the
    channels from t+1, half from t-1.
    """

    def __init__(self, channels: int, starts_as_shift: bool) -> None:
        super().__init__()
        self.conv = TemporalConv(shift_taps(channels, channels // 2 if starts_as_shift else 0))

    def forward(self, x_BCHW: Tensor, num_frames: int) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        return self.conv(x_BCHW, num_frames)
