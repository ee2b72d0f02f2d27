"""The form for OpenVINO: a clip is one volume (N, C, T, H, W), and every convolution is 3D.

It equals the network up to rounding. A frame's convolution has the kernel (1, k, k), the temporal one (3, 1, 1), so
that no axis ever moves; with frames in the batch, OpenVINO spends more time on transposes than on the temporal modules
themselves. ``VideoNet``'s blocks stay as they are; only their layers are replaced.
"""

import copy
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dynagest.export.gates import ChannelGates, MeansFirst, after, before, three_taps
from dynagest.networks.action import Action
from dynagest.networks.online import OnlineShift
from dynagest.networks.tea import MotionExcitation, TemporalAggregation
from dynagest.networks.tsm import TemporalShift
from dynagest.networks.video import VideoNet


class VolumeNet(nn.Module):
    """A ``VideoNet`` on volumes: normalised clips (N, T, 3, H, W) -> logits (N, K)."""

    def __init__(self, net: VideoNet) -> None:
        super().__init__()
        self.num_segments, self.channels = net.num_segments, net.channels
        self.base_model = copy.deepcopy(net.base_model).eval()
        _replace(self.base_model)
        self.classifier = copy.deepcopy(net.classifier)

    def forward(self, clip_NTCHW: Tensor) -> Tensor:
        return self.rest(self.stem(clip_NTCHW))

    def stem(self, clip_NTCHW: Tensor) -> Tensor:
        """Like ``VideoNet.stem``, but the features are volumes (N, C, T, h, w)."""
        return self.base_model.stem(clip_NTCHW.transpose(1, 2))

    def rest(self, x_NCTHW: Tensor) -> Tensor:
        """Like ``VideoNet.rest``, of such volumes."""
        num_frames, base = x_NCTHW.shape[2], self.base_model
        for stage in (base.layer1, base.layer2, base.layer3, base.layer4):
            x_NCTHW = stage(x_NCTHW, num_frames)
        # The mean over T of the logits is the logits of the mean.
        return cast(Tensor, self.classifier(x_NCTHW.mean((3, 4)).mean(2)))


def fits_volumes(net: VideoNet) -> bool:
    """Whether the network's temporal modules have a form on volumes, as all but a user's own have."""
    base = net.base_model
    stages = (base.layer1, base.layer2, base.layer3, base.layer4)
    return all(_volume(cast(nn.Module, block.conv1)) is not None for stage in stages for block in stage)


class VolumeConv(nn.Conv3d):
    """A 2D convolution of each frame by itself. It may stand in a temporal module's place, so it takes the same
    arguments.
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__(
            conv.in_channels,
            conv.out_channels,
            kernel_size=(1, *cast(tuple[int, int], conv.kernel_size)),
            stride=(1, *cast(tuple[int, int], conv.stride)),
            padding=(0, *cast(tuple[int, int], conv.padding)),
            groups=conv.groups,
            bias=conv.bias is not None,
        )
        self.weight = nn.Parameter(conv.weight.detach().unsqueeze(2))
        if conv.bias is not None:
            self.bias = nn.Parameter(conv.bias.detach())

    def forward(self, x_NCTHW: Tensor, num_frames: int | None = None) -> Tensor:
        return super().forward(x_NCTHW)


class VolumeTemporal(nn.Module):
    """A depthwise convolution over T of volumes."""

    taps: Tensor

    def __init__(self, taps: Tensor) -> None:
        super().__init__()
        self.register_buffer("taps", taps.detach()[..., None, None])

    def forward(self, x_NCTHW: Tensor, num_frames: int) -> Tensor:
        return F.conv3d(x_NCTHW, self.taps, padding=(1, 0, 0), groups=x_NCTHW.shape[1])


class VolumeShift(nn.Module):
    """``TemporalShift`` or ``OnlineShift`` on volumes."""

    def __init__(self, shift: TemporalShift) -> None:
        super().__init__()
        self.net = VolumeConv(shift.net)
        self.fold = shift.fold
        self.online = isinstance(shift, OnlineShift)

    def forward(self, x_NCTHW: Tensor, num_frames: int) -> Tensor:
        from_next, from_previous, rest = x_NCTHW.split((self.fold, self.fold, x_NCTHW.shape[1] - 2 * self.fold), dim=1)
        if not self.online:
            from_next = after(from_next.transpose(1, 2)).transpose(1, 2)
        from_previous = before(from_previous.transpose(1, 2)).transpose(1, 2)
        return cast(Tensor, self.net(torch.cat((from_next, from_previous, rest), dim=1)))


class VolumeAction(nn.Module):
    """``Action``, published or online, on volumes."""

    ste: Tensor

    def __init__(self, action: Action) -> None:
        super().__init__()
        self.net = VolumeConv(action.net)
        self.shift = VolumeTemporal(three_taps(action, action.action_shift.weight.detach(), dim=2))
        self.register_buffer("ste", three_taps(action, action.action_p1_conv1.weight.detach(), dim=1).unsqueeze(1))
        self.squeeze, self.gates = MeansFirst(action), ChannelGates(action)
        _replace(self.squeeze)

    def forward(self, x_NCTHW: Tensor, num_frames: int) -> Tensor:
        x = self.shift(x_NCTHW, num_frames)
        *pooled, mean_N1THW = self.squeeze(x)
        gate_NCT11 = self.gates(*pooled).transpose(1, 2)[..., None, None]
        pixel_gate = torch.sigmoid(F.conv3d(mean_N1THW, self.ste, padding=1))
        return cast(Tensor, self.net(x * (gate_NCT11 + pixel_gate)))


class VolumeMotionExcitation(nn.Module):
    """TEA's ``MotionExcitation`` on volumes."""

    def __init__(self, excitation: MotionExcitation) -> None:
        super().__init__()
        self.squeeze = VolumeConv(excitation.conv1)
        self.motion = VolumeConv(excitation.conv2)
        self.expand = excitation.conv3

    def forward(self, x_NCTHW: Tensor, num_frames: int) -> Tensor:
        squeezed = self.squeeze(x_NCTHW)
        following, current = _pooled(self.motion(squeezed)), _pooled(squeezed)
        motion = F.pad(following[:, 1:] - current[:, :-1], (0, 0, 0, 1))
        gate_NTC = torch.sigmoid(F.linear(motion, self.expand.weight.flatten(1), self.expand.bias)) + 0.5
        return x_NCTHW * gate_NTC.transpose(1, 2)[..., None, None]


def _pooled(x_NCTHW: Tensor) -> Tensor:
    return x_NCTHW.mean((3, 4)).transpose(1, 2)


def _replace(module: nn.Module) -> None:
    for name, child in list(module.named_children()):
        volume = _volume(child)
        if volume is None:
            _replace(child)
        else:
            setattr(module, name, volume)


def _volume(layer: nn.Module) -> nn.Module | None:
    """The layer's counterpart on volumes; ``None`` for a container, and for a layer that works on any dimensions."""
    match layer:
        case Action():
            return VolumeAction(layer)
        case TemporalShift():
            return VolumeShift(layer)
        case TemporalAggregation():
            return VolumeTemporal(layer.conv.weight)
        case MotionExcitation():
            return VolumeMotionExcitation(layer)
        case nn.Conv2d():
            return VolumeConv(layer)
        case nn.BatchNorm2d():
            norm = nn.BatchNorm3d(layer.num_features, eps=layer.eps)
            norm.load_state_dict(layer.state_dict())
            return norm.eval()
        case nn.MaxPool2d():
            return nn.MaxPool3d(_each_frame(layer.kernel_size), _each_frame(layer.stride), (0, 1, 1))
        case nn.AvgPool2d():
            # Padded beforehand: torch refuses a volume smaller than the window, whatever its padding.
            pad = nn.ConstantPad3d((1, 1, 1, 1, 0, 0), 0.0)
            return nn.Sequential(pad, nn.AvgPool3d(_each_frame(layer.kernel_size), _each_frame(layer.stride)))
    return None


def _each_frame(size: int | tuple[int, ...]) -> tuple[int, int, int]:
    assert isinstance(size, int)
    return (1, size, size)
