"""The form for ONNX Runtime, native and in browsers: every frame is an image, and every convolution is 2D.

It equals the network up to rounding. Only ACTION is rewritten: operations without an int8 kernel in ONNX Runtime (means
over channels, gates on tensors of one pixel) become convolutions and small matrix products. The temporal convolution
still works on the view (T, H*W) of channels_last memory. ONNX Runtime computes int8 convolutions in that order, so the
transposes around it cancel.
"""

import copy
from typing import TypeVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dynagest.export.gates import ChannelGates, SqueezeFirst, after, before, three_taps
from dynagest.networks.action import Action
from dynagest.networks.clipnet import ClipNet
from dynagest.networks.temporal import convolve_in_time

Net = TypeVar("Net", bound=ClipNet)


def frame_form(net: Net) -> Net:
    """A copy of ``net`` in evaluation mode with its ACTION modules rewritten; other modules stay as they are."""
    net = copy.deepcopy(net).eval()
    for module in list(net.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, Action):
                setattr(module, name, FrameAction(child))
    return net


class FrameAction(nn.Module):
    """``Action``, published or online, on frames (N*T, C, H, W). Its BatchNorm must be folded."""

    taps: Tensor
    ste: Tensor

    def __init__(self, action: Action) -> None:
        super().__init__()
        self.net = action.net
        self.register_buffer("taps", three_taps(action, action.action_shift.weight.detach(), dim=2))
        self.register_buffer("ste", three_taps(action, action.action_p1_conv1.weight.detach(), dim=1))
        self.squeeze, self.gates = SqueezeFirst(action), ChannelGates(action)

    def forward(self, x_BCHW: Tensor, num_frames: int) -> Tensor:
        """(B, C, H, W) -> the output of ``net`` on the excited frames."""
        x = convolve_in_time(x_BCHW, self.taps, num_frames)
        *pooled, mean_B1HW = self.squeeze(x)
        pooled_NTR = (each.reshape(-1, num_frames, each.shape[1]) for each in pooled)
        gate_BC11 = self.gates(*pooled_NTR).reshape(-1, x.shape[1], 1, 1)
        return cast(Tensor, self.net(x * (gate_BC11 + self._pixel_gate(mean_B1HW, num_frames))))

    def _pixel_gate(self, mean_B1HW: Tensor, num_frames: int) -> Tensor:
        height, width = mean_B1HW.shape[2:]
        mean_NTHW = mean_B1HW.reshape(-1, num_frames, height, width)
        neighbours = torch.stack((before(mean_NTHW), mean_NTHW, after(mean_NTHW)), dim=2)
        neighbours = neighbours.reshape(-1, 3, height, width)
        return torch.sigmoid(F.conv2d(neighbours, self.ste, padding=1))
