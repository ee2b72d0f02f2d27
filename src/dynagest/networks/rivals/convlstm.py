"""Convolutional LSTMs: Shi et al. (NeurIPS 2015), and a variant of Zhang et al., "Attention in Convolutional LSTM for
Gesture Recognition" (NeurIPS 2018).

Both map (N, T, C, H, W) to the hidden state of every step (N, T, hidden, H, W). Whatever depends on the input alone is
computed for all steps at once. Neither has biases, except for the constant 1 that is added in the forget gate.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dynagest.networks.temporal import global_average

FORGET = 1.0


class State(NamedTuple):
    """Hidden state and cell, (N, hidden, H, W) each."""

    hidden: Tensor
    cell: Tensor


def next_state(gates: Sequence[Tensor], candidate: Tensor, cell: Tensor) -> State:
    """One step of an LSTM from pre-activations.

    ``gates`` are input, forget and output, (N, hidden, H, W) or (N, hidden, 1, 1); ``candidate`` and ``cell`` are
    (N, hidden, H, W).
    """
    input_gate, forget_gate, output_gate = gates
    cell = torch.sigmoid(forget_gate + FORGET) * cell + torch.sigmoid(input_gate) * torch.tanh(candidate)
    return State(torch.sigmoid(output_gate) * torch.tanh(cell), cell)


class ConvLSTM(nn.Module):
    """Computes gates and candidate by 3x3 convolutions of the input and of the hidden state."""

    def __init__(self, in_channels: int, hidden: int) -> None:
        super().__init__()
        self.hidden = hidden
        self.from_input = _recurrent_conv(in_channels, 4 * hidden)
        self.from_hidden = _recurrent_conv(hidden, 4 * hidden)

    def forward(self, x_NTCHW: Tensor) -> Tensor:
        """(N, T, C, H, W) -> (N, T, hidden, H, W)."""
        from_input = self.from_input(x_NTCHW.flatten(0, 1)).unflatten(0, x_NTCHW.shape[:2])
        zero = torch.zeros_like(from_input[:, 0, : self.hidden])
        state = State(zero, zero)
        outputs = []
        for step in from_input.unbind(1):
            *gates, candidate = (step + self.from_hidden(state.hidden)).chunk(4, dim=1)
            state = next_state(gates, candidate, state.cell)
            outputs.append(state.hidden)
        return torch.stack(outputs, dim=1)


class GatedAttentionLSTM(nn.Module):
    """Computes gates by 1x1 from the pooled input and hidden state, and the candidate by 3x3 from the attended input.

    The attention is one map per step: a 3x3 convolution of tanh(conv(input) + conv(hidden)), softmax over positions.
    The input is multiplied by it and by the number of positions, so that uniform attention changes nothing: without
    that factor, two such layers shrink 28 x 28 maps by 784 each, more than the BatchNorm after them can restore.
    All 3x3 convolutions except that of the attention map are depthwise separable. The hidden state acts only through
    the gates and the attention.
    """

    def __init__(self, in_channels: int, hidden: int) -> None:
        super().__init__()
        self.hidden = hidden
        self.gates_from_input = _recurrent_conv(in_channels, 3 * hidden, kernel=1)
        self.gates_from_hidden = _recurrent_conv(hidden, 3 * hidden, kernel=1)
        self.attention_from_input = _separable(in_channels, hidden)
        self.attention_from_hidden = _separable(hidden, hidden)
        self.attention_map = _recurrent_conv(hidden, 1)
        self.candidate = _separable(in_channels, hidden)

    def forward(self, x_NTCHW: Tensor) -> Tensor:
        """(N, T, C, H, W) -> (N, T, hidden, H, W)."""
        clip, frames = x_NTCHW.shape[:2], x_NTCHW.flatten(0, 1)
        gates_NTG11 = self.gates_from_input(global_average(frames)).unflatten(0, clip)
        attention_NTCHW = self.attention_from_input(frames).unflatten(0, clip)
        zero = torch.zeros_like(attention_NTCHW[:, 0])
        state = State(zero, zero)
        outputs = []
        for step, gates, attention in zip(
            x_NTCHW.unbind(1), gates_NTG11.unbind(1), attention_NTCHW.unbind(1), strict=True
        ):
            gates = gates + self.gates_from_hidden(global_average(state.hidden))
            score = self.attention_map(torch.tanh(attention + self.attention_from_hidden(state.hidden)))
            positions = score.shape[2] * score.shape[3]
            candidate = self.candidate(step * (positions * spatial_softmax(score)))
            state = next_state(gates.chunk(3, dim=1), candidate, state.cell)
            outputs.append(state.hidden)
        return torch.stack(outputs, dim=1)


def spatial_softmax(score_N1HW: Tensor) -> Tensor:
    """Softmax over the positions of a map: (N, 1, H, W) -> (N, 1, H, W), each map summing to 1."""
    return F.softmax(score_N1HW.flatten(2), dim=2).view_as(score_N1HW)


def _recurrent_conv(in_channels: int, out_channels: int, *, kernel: int = 3, groups: int = 1) -> nn.Conv2d:
    conv = nn.Conv2d(in_channels, out_channels, kernel, padding=kernel // 2, groups=groups, bias=False)
    nn.init.xavier_uniform_(conv.weight)  # tanh and sigmoid follow, not ReLU
    return conv


def _separable(in_channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(
        _recurrent_conv(in_channels, in_channels, groups=in_channels),
        _recurrent_conv(in_channels, out_channels, kernel=1),
    )
