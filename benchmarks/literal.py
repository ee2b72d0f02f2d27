"""TSM, ACTION-Net and TEA written step by step as their papers describe them, with the published state-dict names.

Not for use: they are slow on purpose. The tests compare dynagest's networks with these, and the benchmarks measure how
much the three-branch ACTION costs. Nothing here imports dynagest. Sources are the papers named in
``dynagest.networks`` and the published layer tables. T is fixed at construction.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Wrap = Callable[[nn.Conv2d], nn.Module]


class LiteralShift(nn.Module):
    """The TSM shift by assigning slices to a tensor of zeros."""

    def __init__(self, net: nn.Conv2d, num_frames: int) -> None:
        super().__init__()
        self.net = net
        self.num_frames = num_frames
        self.fold = net.in_channels // 8

    def forward(self, x: Tensor) -> Tensor:
        fold = self.fold
        clips = x.view(-1, self.num_frames, *x.shape[1:])
        shifted = torch.zeros_like(clips)
        shifted[:, :-1, :fold] = clips[:, 1:, :fold]
        shifted[:, 1:, fold : 2 * fold] = clips[:, :-1, fold : 2 * fold]
        shifted[:, :, 2 * fold :] = clips[:, :, 2 * fold :]
        return self.net(shifted.view_as(x))


def convolve_over_time(x: Tensor, conv: nn.Conv1d, num_frames: int) -> Tensor:
    """Apply a Conv1d over T to (N*T, C, H, W) by moving T to the last axis and back."""
    frames, channels, height, width = x.shape
    series = x.view(-1, num_frames, channels, height, width).permute(0, 3, 4, 2, 1).contiguous()
    series = conv(series.view(-1, channels, num_frames))
    series = series.view(-1, height, width, channels, num_frames).permute(0, 4, 3, 1, 2).contiguous()
    return series.view(frames, channels, height, width)


class ThreeBranchAction(nn.Module):
    """ACTION as three full residual branches that are added."""

    def __init__(self, net: nn.Conv2d, num_frames: int) -> None:
        super().__init__()
        channels = net.in_channels
        reduced = max(1, channels // 16)
        fold = channels // 8
        self.net = net
        self.num_frames = num_frames
        self.action_shift = nn.Conv1d(channels, channels, 3, padding=1, groups=channels, bias=False)
        with torch.no_grad():
            self.action_shift.weight.zero_()
            self.action_shift.weight[:fold, 0, 2] = 1
            self.action_shift.weight[fold : 2 * fold, 0, 0] = 1
            self.action_shift.weight[2 * fold :, 0, 1] = 1
        self.action_p1_conv1 = nn.Conv3d(1, 1, 3, padding=1, bias=False)
        self.action_p2_squeeze = nn.Conv2d(channels, reduced, 1, bias=False)
        self.action_p2_conv1 = nn.Conv1d(reduced, reduced, 3, padding=1, bias=False)
        self.action_p2_expand = nn.Conv2d(reduced, channels, 1, bias=False)
        self.action_p3_squeeze = nn.Conv2d(channels, reduced, 1, bias=False)
        self.action_p3_bn1 = nn.BatchNorm2d(reduced)
        self.action_p3_conv1 = nn.Conv2d(reduced, reduced, 3, padding=1, groups=reduced, bias=False)
        self.action_p3_expand = nn.Conv2d(reduced, channels, 1, bias=False)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        x = convolve_over_time(x, self.action_shift, self.num_frames)
        return self.net(self.spatio_temporal(x) + self.channel(x) + self.motion(x))

    def spatio_temporal(self, x: Tensor) -> Tensor:
        volume = x.view(-1, self.num_frames, *x.shape[1:]).transpose(1, 2).contiguous().mean(1, keepdim=True)
        gate = torch.sigmoid(self.action_p1_conv1(volume))
        return x + x * gate.transpose(1, 2).reshape(x.shape[0], 1, *x.shape[2:])

    def channel(self, x: Tensor) -> Tensor:
        squeezed = self.action_p2_squeeze(F.adaptive_avg_pool2d(x, 1))
        series = squeezed.view(-1, self.num_frames, squeezed.shape[1]).transpose(1, 2).contiguous()
        series = self.relu(self.action_p2_conv1(series)).transpose(1, 2).contiguous()
        gate = torch.sigmoid(self.action_p2_expand(series.view(x.shape[0], -1, 1, 1)))
        return x + x * gate

    def motion(self, x: Tensor) -> Tensor:
        squeezed = self.action_p3_bn1(self.action_p3_squeeze(x))
        difference = frame_difference(squeezed, self.action_p3_conv1, self.num_frames)
        gate = torch.sigmoid(self.action_p3_expand(F.adaptive_avg_pool2d(difference, 1)))
        return x + x * gate


def frame_difference(squeezed: Tensor, conv: nn.Conv2d, num_frames: int) -> Tensor:
    """conv(x[t+1]) - x[t] for all frames but the last, which gets zeros."""
    now = squeezed.view(-1, num_frames, *squeezed.shape[1:])
    then = conv(squeezed).view_as(now)
    differences = [then[:, t + 1] - now[:, t] for t in range(num_frames - 1)]
    return torch.stack([*differences, torch.zeros_like(now[:, 0])], dim=1).view_as(squeezed)


class LiteralBasicBlock(nn.Module):
    def __init__(self, inplanes: int, planes: int, stride: int, wrap: Wrap) -> None:
        super().__init__()
        self.conv1 = wrap(nn.Conv2d(inplanes, planes, 3, stride, 1, bias=False))
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.relu = nn.ReLU()
        self.downsample = _downsample(inplanes, planes, stride)

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return self.relu(out + (x if self.downsample is None else self.downsample(x)))


class LiteralBottleneck(nn.Module):
    def __init__(self, inplanes: int, planes: int, stride: int, wrap: Wrap) -> None:
        super().__init__()
        self.conv1 = wrap(nn.Conv2d(inplanes, planes, 1, bias=False))
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv3 = nn.Conv2d(planes, 4 * planes, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * planes)
        self.relu = nn.ReLU()
        self.downsample = _downsample(inplanes, 4 * planes, stride)

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        return self.relu(out + (x if self.downsample is None else self.downsample(x)))


class LiteralME(nn.Module):
    """TEA's motion excitation."""

    def __init__(self, channels: int, num_frames: int) -> None:
        super().__init__()
        reduced = max(1, channels // 16)
        self.num_frames = num_frames
        self.conv1 = nn.Conv2d(channels, reduced, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(reduced)
        self.conv2 = nn.Conv2d(reduced, reduced, 3, padding=1, groups=reduced, bias=False)
        self.conv3 = nn.Conv2d(reduced, channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        difference = frame_difference(self.bn1(self.conv1(x)), self.conv2, self.num_frames)
        pooled = F.adaptive_avg_pool2d(difference, 1)
        gate = torch.sigmoid(self.bn3(self.conv3(pooled))) - 0.5
        return x + x * gate


class LiteralTemporal(nn.Module):
    """TEA's depthwise temporal convolution of one split."""

    def __init__(self, channels: int, num_frames: int, shift: bool) -> None:
        super().__init__()
        self.num_frames = num_frames
        self.conv = nn.Conv1d(channels, channels, 3, padding=1, groups=channels, bias=False)
        half = channels // 2
        with torch.no_grad():
            self.conv.weight.zero_()
            if shift:
                self.conv.weight[:half, 0, 2] = 1
                self.conv.weight[half : 2 * half, 0, 0] = 1
                self.conv.weight[2 * half :, 0, 1] = 1
            else:
                self.conv.weight[:, 0, 1] = 1

    def forward(self, x: Tensor) -> Tensor:
        return convolve_over_time(x.contiguous(), self.conv, self.num_frames)


class LiteralTEABlock(nn.Module):
    def __init__(self, inplanes: int, planes: int, stride: int, first: bool, num_frames: int) -> None:
        super().__init__()
        width = planes * 26 // 64
        self.width, self.first = width, first
        self.conv1 = nn.Conv2d(inplanes, 4 * width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(4 * width)
        self.me = LiteralME(4 * width, num_frames)
        self.convs = nn.ModuleList([nn.Conv2d(width, width, 3, stride, 1, bias=False) for _ in range(3)])
        self.bns = nn.ModuleList([nn.BatchNorm2d(width) for _ in range(3)])
        self.shifts = nn.ModuleList([LiteralTemporal(width, num_frames, shift=i == 3) for i in range(4)])
        self.conv3 = nn.Conv2d(4 * width, 4 * planes, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * planes)
        self.relu = nn.ReLU()
        self.pool = nn.AvgPool2d(3, stride, 1)
        self.downsample = _downsample(inplanes, 4 * planes, stride)

    def forward(self, x: Tensor) -> Tensor:
        out = self.me(self.relu(self.bn1(self.conv1(x))))
        width = self.width
        x0, x1, x2, x3 = (out[:, i * width : (i + 1) * width] for i in range(4))
        y0 = self.split(0, x0)
        y1 = self.split(1, x1 if self.first else x1 + y0)
        y2 = self.split(2, x2 if self.first else x2 + y1)
        y3 = self.shifts[3](x3)
        if self.first:
            y3 = self.pool(y3)
        out = self.bn3(self.conv3(torch.cat((y0, y1, y2, y3), 1)))
        return self.relu(out + (x if self.downsample is None else self.downsample(x)))

    def split(self, i: int, x: Tensor) -> Tensor:
        return self.relu(self.bns[i](self.convs[i](self.shifts[i](x))))


class LiteralBackbone(nn.Module):
    """Stem, stages, pooling and ``fc``. ``make_block(inplanes, planes, stride, index)`` builds a block."""

    def __init__(
        self,
        make_block: Callable[[int, int, int, int], nn.Module],
        depths: tuple[int, ...],
        expansion: int,
        width: int,
        num_classes: int,
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU()
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        inplanes = width
        for stage, depth in enumerate(depths):
            planes = width * 2**stage
            blocks = []
            for index in range(depth):
                blocks.append(make_block(inplanes, planes, 2 if stage and not index else 1, index))
                inplanes = expansion * planes
            self.add_module(f"layer{stage + 1}", nn.Sequential(*blocks))
        self.fc: nn.Module = nn.Linear(inplanes, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        for stage in range(1, 5):
            x = self.get_submodule(f"layer{stage}")(x)
        return self.fc(F.adaptive_avg_pool2d(x, 1).flatten(1))


class LiteralVideoNet(nn.Module):
    """(N, T, 3, H, W) -> (N, classes). With dropout the classifier is ``new_fc``, without it ``base_model.fc``."""

    def __init__(self, base_model: LiteralBackbone, num_frames: int, dropout: float) -> None:
        super().__init__()
        self.num_frames = num_frames
        self.base_model = base_model
        self.new_fc: nn.Module | None = None
        if dropout:
            self.new_fc = base_model.fc
            base_model.fc = nn.Dropout(dropout)

    def forward(self, clips: Tensor) -> Tensor:
        logits = self.base_model(clips.reshape(-1, *clips.shape[2:]))
        if self.new_fc is not None:
            logits = self.new_fc(logits)
        return logits.view(-1, self.num_frames, logits.shape[-1]).mean(1)


def literal_model(
    name: str, num_classes: int, num_frames: int = 8, *, width: int = 64, dropout: float = 0.0
) -> LiteralVideoNet:
    """The literal counterpart of ``dynagest.create_model(name, ...)``."""
    temporal, backbone = name.split("_")
    if backbone == "res2net50":
        net = LiteralBackbone(
            lambda i, p, s, index: LiteralTEABlock(i, p, s, index == 0, num_frames), (3, 4, 6, 3), 4, width, num_classes
        )
        return LiteralVideoNet(net, num_frames, dropout)
    depths = {"18": (2, 2, 2, 2), "34": (3, 4, 6, 3), "50": (3, 4, 6, 3), "101": (3, 4, 23, 3)}[backbone[6:]]
    basic = backbone in ("resnet18", "resnet34")

    def wrap(conv: nn.Conv2d, index: int) -> nn.Module:
        if temporal == "action":
            return ThreeBranchAction(conv, num_frames)
        if temporal == "tsm" and (backbone != "resnet101" or index % 2 == 0):
            return LiteralShift(conv, num_frames)
        return conv

    def make_block(inplanes: int, planes: int, stride: int, index: int) -> nn.Module:
        block = LiteralBasicBlock if basic else LiteralBottleneck
        return block(inplanes, planes, stride, lambda conv: wrap(conv, index))

    return LiteralVideoNet(
        LiteralBackbone(make_block, depths, 1 if basic else 4, width, num_classes), num_frames, dropout
    )


def _downsample(inplanes: int, planes: int, stride: int) -> nn.Sequential | None:
    if stride == 1 and inplanes == planes:
        return None
    return nn.Sequential(nn.Conv2d(inplanes, planes, 1, stride, bias=False), nn.BatchNorm2d(planes))
