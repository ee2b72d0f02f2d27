"""The parts that the temporal modules share. Tensors are (B, C, H, W) with B = N*T: N clips of T frames each.

T is an argument of every forward pass and is stored nowhere: a network runs at any T, and no weight depends on it.
For a stream, whose frames arrive one by one, the same argument is a ``Memory`` of the previous frame instead.
"""

from collections.abc import Mapping
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Memory:
    """The previous frame's features, for one forward pass over the next frame, or the next F, of each of N streams.

    Tensors are (F*N, C, H, W): the first frame of every stream, then the second of every stream, and so on.

    ``names`` maps every ``Previous`` of the network to its name in the state. ``state`` holds what the last frame left
    under each name (N, C, H, W); ``None`` means that there was no frame yet, and needs F = 1. During the pass ``left``
    collects the next state, from the newest frames.
    """

    def __init__(self, names: Mapping["Previous", str], state: Mapping[str, Tensor] | None) -> None:
        self._names, self._state = names, state
        self.left: dict[str, Tensor] = {}

    def exchange(self, place: "Previous", x: Tensor) -> Tensor:
        """Keep the newest frame of ``x`` for the next pass. Return each frame's predecessor, zeros for the first."""
        name = self._names[place]
        before = torch.zeros_like(x) if self._state is None else self._state[name]
        streams = len(before)
        if len(x) == streams:
            self.left[name] = x
            return before
        self.left[name] = x[-streams:]
        return torch.cat((before, x[:-streams]))


Time = int | Memory
"""How the batch axis splits into frames: T, where each run of T frames is a clip, or the memory of streams."""


class Previous(nn.Module):
    """Each frame's predecessor, zeros for the first. An online network sees other frames only through this module."""

    def forward(self, x_BCHW: Tensor, time: Time) -> Tensor:
        """(B, C, H, W) -> the same shape, one frame earlier."""
        if isinstance(time, Memory):
            return time.exchange(self, x_BCHW)
        # Padded in the memory order of channels_last, as in ``tsm.shift``.
        x_NTHWC = x_BCHW.permute(0, 2, 3, 1).unflatten(0, (-1, time))
        return F.pad(x_NTHWC[:, :-1], (0, 0, 0, 0, 0, 0, 1, 0)).flatten(0, 1).permute(0, 3, 1, 2)


def apply_in_time(layer: nn.Module, x_BCHW: Tensor, time: Time) -> Tensor:
    """Apply a layer that may need ``time`` to look at other frames; a plain convolution does not take it."""
    if isinstance(layer, nn.Conv2d):
        return cast(Tensor, layer(x_BCHW))
    return cast(Tensor, layer(x_BCHW, time))


def shift_taps(channels: int, fold: int) -> Tensor:
    """Temporal taps (C, 1, 3) that make a depthwise convolution the TSM shift.

    The first ``fold`` channels take frame t+1, the next ``fold`` frame t-1, the rest stay.
    """
    taps = torch.zeros(channels, 1, 3)
    taps[:fold, 0, 2] = 1
    taps[fold : 2 * fold, 0, 0] = 1
    taps[2 * fold :, 0, 1] = 1
    return taps


class TemporalConv(nn.Conv1d):
    """A depthwise convolution over T with kernel 3, zeros beyond the clip's ends, no bias. Weight (C, 1, 3)."""

    def __init__(self, taps: Tensor) -> None:
        channels = taps.shape[0]
        super().__init__(channels, channels, kernel_size=3, padding=1, groups=channels, bias=False)
        with torch.no_grad():
            self.weight.copy_(taps)

    def forward(self, x_BCHW: Tensor, num_frames: int) -> Tensor:  # type: ignore[override]
        """(B, C, H, W) -> (B, C, H, W) in channels_last memory."""
        return convolve_in_time(x_BCHW, self.weight, num_frames)


def convolve_in_time(x_BCHW: Tensor, taps: Tensor, num_frames: int) -> Tensor:
    """Depthwise convolution over T with ``taps`` (C, 1, 3): (B, C, H, W) -> (B, C, H, W) in channels_last memory.

    In channels_last memory, (N, T, H*W, C) is an image of height T and width H*W. A 3x1 depthwise Conv2d over that
    view reads and writes the features once and moves nothing. Conv1d would need (N*H*W, C, T) and so two transposes.
    """
    _, channels, height, width = x_BCHW.shape
    x_NTPC = x_BCHW.permute(0, 2, 3, 1).reshape(-1, num_frames, height * width, channels)
    y_NCTP = F.conv2d(x_NTPC.permute(0, 3, 1, 2), taps.unsqueeze(-1), padding=(1, 0), groups=channels)
    return y_NCTP.permute(0, 2, 3, 1).reshape(-1, height, width, channels).permute(0, 3, 1, 2)


def global_average(x_BCHW: Tensor) -> Tensor:
    """The mean over each frame: (B, C, H, W) -> (B, C, 1, 1).

    Computed with a pooling window of the frame's size: in bf16 and channels_last, ``mean`` takes up to ten times as
    long on a CPU.
    """
    return F.avg_pool2d(x_BCHW, (x_BCHW.shape[2], x_BCHW.shape[3]))


def edge_means(x_BCHW: Tensor) -> Tensor:
    """Each frame's means over its pixels, and over its edges: (B, C, H, W) -> (B, C, 3, 3).

    Along either axis: the first line, the mean of all lines, the last line. So [1, 1] is the mean over the frame,
    [0, 1] over its first row, and [0, 0] a corner. ``mean_taps`` tells what they are good for.
    """
    # Pooling windows: ``mean`` over one axis is slow on the CPU, even of so few numbers.
    height, width = x_BCHW.shape[2:]
    x_BCH3 = torch.cat((x_BCHW[..., :1], F.avg_pool2d(x_BCHW, (1, width)), x_BCHW[..., -1:]), dim=3)
    return torch.cat((x_BCH3[:, :, :1], F.avg_pool2d(x_BCH3, (height, 1)), x_BCH3[:, :, -1:]), dim=2)


def mean_taps(weight_R33: Tensor, height: int, width: int) -> Tensor:
    """The factors (R, 3, 3) of ``edge_means`` in the mean over pixels of a zero-padded 3x3 convolution.

    The mean of such a convolution depends on the frame's mean and its edges alone: along either axis, tap -1 sees all
    lines but the last, tap +1 all but the first.
    """
    w = weight_R33
    w = torch.stack((-w[:, 2] / height, w.sum(1), -w[:, 0] / height), dim=1)
    return torch.stack((-w[:, :, 2] / width, w.sum(2), -w[:, :, 0] / width), dim=2)


def following_difference(now_BC11: Tensor, convolved_BC11: Tensor, num_frames: int) -> Tensor:
    """``convolved[t+1] - now[t]`` of pooled features: (B, C, 1, 1) -> (B, C, 1, 1), zero for the last frame."""
    convolved, now = (each.unflatten(0, (-1, num_frames)) for each in (convolved_BC11, now_BC11))
    return F.pad(convolved[:, 1:] - now[:, :-1], (0, 0, 0, 0, 0, 0, 0, 1)).flatten(0, 1)
