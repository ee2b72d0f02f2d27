"""The online forms of TSM and ACTION, which look at no future frame.

One rule turns the two-directional forms into these: **frame t stands in for frame t+1**; frame t-1 is used as before.
So the weights of one form fit the other, with the same names and shapes, and mean the same as far as they look back.
A kernel over T (w[-1], w[0], w[+1]) computes w[-1] x[t-1] + (w[0] + w[+1]) x[t]. Of the two eighths of the channels
that TSM shifts, only the one from t-1 is shifted. ACTION's motion excitation alone has a new definition, because the
rule would make it compare a frame with itself: it takes the motion that led to a frame, ``conv(x[t]) - x[t-1]``,
instead of the published motion that leads on from it.

For TSM this is the online TSM of Lin et al. (ICCV 2019, section 4.3: one eighth of the channels from the previous
frame, the rest stay) with one difference: their published MobileNet shifts the first eighth, these networks the second,
which is the one that holds the past in the two-directional network. No weights of an online ResNet are published, so
the difference breaks none.
"""

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dynagest.networks.action import Action, SpatioTemporalConv
from dynagest.networks.temporal import Previous, TemporalConv, Time, convolve_in_time
from dynagest.networks.tsm import TemporalShift


class OnlineShift(TemporalShift):
    """TSM from the past only, in front of a convolution: of C channels the second C // 8 take frame t-1, the rest stay.

    The shift has no weights.
    """

    def __init__(self, net: nn.Conv2d) -> None:
        super().__init__(net)
        self.shift = Previous()

    def forward(self, x_BCHW: Tensor, time: Time) -> Tensor:
        """(B, C, H, W) -> the output of ``net`` on the shifted frames."""
        start, end = self.fold, 2 * self.fold
        past = self.shift(x_BCHW[:, start:end], time)
        return cast(Tensor, self.net(torch.cat((x_BCHW[:, :start], past, x_BCHW[:, end:]), dim=1)))


class OnlineAction(Action):
    """ACTION from the past only. Its parameters have the names and shapes of those of ``Action``."""

    def __init__(self, net: nn.Conv2d) -> None:
        super().__init__(net)
        self.action_shift = OnlineConv(self.action_shift.weight.detach())
        self.action_p1_conv1 = OnlineSpatioTemporalConv()
        self.ce, self.me = Previous(), Previous()

    def channel_excitation(self, mean_BC11: Tensor, time: Time) -> Tensor:
        """CE from the squeezed means of the previous frame and this one. (B, C, 1, 1) -> gate (B, C, 1, 1)."""
        squeezed_BR11 = self.action_p2_squeeze(mean_BC11)
        past_BR11 = self.ce(squeezed_BR11, time)
        weight = two_taps(self.action_p2_conv1.weight, dim=2).flatten(1)  # (R, R * 2), the two taps innermost
        both = torch.stack((past_BR11, squeezed_BR11), dim=2).flatten(1)
        mixed = self.relu(F.linear(both, weight))
        return torch.sigmoid(self.action_p2_expand(mixed[..., None, None]))

    def motion_excitation(self, squeezed_BR11: Tensor, convolved_BR11: Tensor, time: Time) -> Tensor:
        """ME from the motion since the previous frame. Two (B, R, 1, 1) -> (B, C, 1, 1), 0.5 for the first frame."""
        # A channel of ones is remembered too: it tells a frame with a predecessor (1) from the first frame (0).
        kept = torch.cat((squeezed_BR11, torch.ones_like(squeezed_BR11[:, :1])), dim=1)
        past, exists = self.me(kept, time).split((squeezed_BR11.shape[1], 1), dim=1)
        return torch.sigmoid(self.action_p3_expand((convolved_BR11 - past) * exists))


class OnlineConv(TemporalConv):
    """ACTION's trainable shift: a depthwise convolution over the previous frame and this one. Weight (C, 1, 3)."""

    def __init__(self, taps: Tensor) -> None:
        super().__init__(taps)
        self.shift = Previous()

    def forward(self, x_BCHW: Tensor, time: Time) -> Tensor:  # type: ignore[override]
        """(B, C, H, W) -> (B, C, H, W)."""
        taps = two_taps(self.weight, dim=2)
        if isinstance(time, int):  # several times faster than ``Previous``, with the same result
            return convolve_in_time(x_BCHW, F.pad(taps, (0, 1)), time)
        past, now = taps.reshape(1, -1, 1, 1, 2).unbind(-1)
        return x_BCHW * now + self.shift(x_BCHW, time) * past


class OnlineSpatioTemporalConv(SpatioTemporalConv):
    """STE's 3x3x3 convolution over the previous frame and this one. Weight (1, 3, 3, 3)."""

    def __init__(self) -> None:
        super().__init__()
        self.ste = Previous()

    def forward(self, x_B1HW: Tensor, time: Time) -> Tensor:  # type: ignore[override]
        """(B, 1, H, W) -> (B, 1, H, W), zeros before the first frame and beyond the frame's borders."""
        both_B2HW = torch.cat((self.ste(x_B1HW, time), x_B1HW), dim=1)
        return F.conv2d(both_B2HW, two_taps(self.weight, dim=1), padding=1)


def two_taps(weight: Tensor, dim: int) -> Tensor:
    """The taps of an online network for t-1 and t, from a kernel's taps for t-1, t and t+1 along ``dim``."""
    before, now, after = weight.unbind(dim)
    return torch.stack((before, now + after), dim)
