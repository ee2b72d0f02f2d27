"""The streaming form of a 2D network as one graph, from frames and named states to logits and the new states.

It equals ``StreamNet`` or ``WindowNet`` up to rounding. Of online networks only ACTION is rewritten, into fewer
operators: for one frame each has little to compute, and a runtime spends a tenth of its time on the way from one small
operator to the next. Several frames at once share that time. Windows are computed by the forms of clips.
"""

from collections.abc import Iterator
from typing import cast

import numpy as np
import onnx
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dynagest.export.convert import to_onnx
from dynagest.export.fold import fold_batchnorm
from dynagest.export.frames import frame_form
from dynagest.export.gates import ChannelGates, MeansFirst, SqueezeFirst
from dynagest.export.volumes import VolumeNet, fits_volumes
from dynagest.networks.clipnet import ClipNet
from dynagest.networks.online import OnlineAction, OnlineSpatioTemporalConv, two_taps
from dynagest.networks.streaming import STEM, StreamNet, WindowNet, streaming_form
from dynagest.networks.temporal import Previous, Time
from dynagest.networks.video import VideoNet
from dynagest.runtimes.model_file import FRAME, LOGITS, STATE_IN, STATE_OUT, StateTensor


class StreamForm(nn.Module):
    """A network's streaming form with its state as a list of tensors, in the order of ``first``, the state before the
    first frame.

    ``channels_last`` is for OpenVINO in int8. Then full-size features in the state have their channels last, the order
    in which OpenVINO computes, so that it need not rearrange them twice per frame; and online ACTION takes its means
    first. ``volumes``: windows are computed as volumes, for OpenVINO. Raises ``ModelError`` for a network that is not
    2D.
    """

    def __init__(self, net: ClipNet, size: int, *, channels_last: bool = False, volumes: bool = False) -> None:
        super().__init__()
        online = isinstance(streaming_form(net), StreamNet)  # refuses a network that has none before it is folded
        folded = cast(VideoNet, fold_batchnorm(net, torch.zeros(1, 2, 3, size, size)))
        self.size, self.stream = size, _stream(folded, channels_last) if online else _window(folded, volumes)
        state = self.stream.initial_state(1, size)
        self.turned = {name for name in state if channels_last and name.endswith((".shift", STEM))}
        self.first = {name: self._outside(name, each).contiguous() for name, each in state.items()}

    def forward(self, frames_FCHW: Tensor, state: list[Tensor]) -> list[Tensor]:
        """The next F frames of one stream (F, 3, H, W) and the state -> logits (F, K) and the new state."""
        named = zip(self.first, state, strict=True)
        before = {name: each.movedim(-1, 1) if name in self.turned else each for name, each in named}
        logits_F1K, left = self.stream(frames_FCHW[:, None], before)
        return [logits_F1K[:, 0], *(self._outside(name, left[name]) for name in self.first)]

    def _outside(self, name: str, each: Tensor) -> Tensor:
        return each.movedim(1, -1) if name in self.turned else each


def _stream(net: VideoNet, channels_last: bool) -> StreamNet:
    for module in list(net.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, OnlineAction):
                setattr(module, name, StreamAction(child, MeansFirst(child) if channels_last else SqueezeFirst(child)))
    return StreamNet(net)


def _window(net: VideoNet, volumes: bool) -> WindowNet:
    if volumes and fits_volumes(net):
        return WindowNet(VolumeNet(net), axis=2)
    return WindowNet(frame_form(net))


class StreamAction(nn.Module):
    """``OnlineAction`` with BatchNorm folded, on the next frames of streams (see ``Memory``).

    For the gates it remembers only one row of numbers per stream and the mean over channels.
    """

    taps: Tensor

    def __init__(self, action: OnlineAction, squeeze: MeansFirst | SqueezeFirst) -> None:
        super().__init__()
        ste = cast(OnlineSpatioTemporalConv, action.action_p1_conv1)
        self.net, self.action_shift, self.ste, self.pooled = action.net, action.action_shift, ste.ste, Previous()
        self.squeeze, self.gates = squeeze, ChannelGates(action)
        self.register_buffer("taps", two_taps(ste.weight.detach(), dim=1))

    def forward(self, x_NCHW: Tensor, time: Time) -> Tensor:
        """(N, C, H, W) -> the output of ``net`` on the excited frames."""
        x = self.action_shift(x_NCHW, time)
        channel, squeezed, convolved, mean_N1HW = self.squeeze(x)
        # A channel of ones is remembered too: it tells a frame with a predecessor (1) from the first frame (0).
        now = torch.cat((channel, squeezed, torch.ones_like(channel[:, :1])), dim=1)
        r, past = channel.shape[1], self.pooled(now, time)
        moved = (convolved - past[:, r:-1]) * past[:, -1:]
        gate_NC = self.gates.expand(torch.cat((past[:, :r], channel), dim=1), moved)
        both_N2HW = torch.cat((self.ste(mean_N1HW, time), mean_N1HW), dim=1)
        pixel_gate = torch.sigmoid(F.conv2d(both_N2HW, self.taps, padding=1))
        return cast(Tensor, self.net(x * (gate_NC[..., None, None] + pixel_gate)))


def convert_stream(form: StreamForm, frames: int = 1) -> tuple[onnx.ModelProto, dict[str, StateTensor]]:
    """The ONNX model that takes the next ``frames`` frames of one stream, and the shapes of its state."""
    model = to_onnx(
        form,
        (torch.zeros(frames, 3, form.size, form.size), list(form.first.values())),
        [FRAME, *(STATE_IN + name for name in form.first)],
        [LOGITS, *(STATE_OUT + name for name in form.first)],
        dynamic=False,
    )
    return model, {name: StateTensor(shape=tuple(tensor.shape)) for name, tensor in form.first.items()}


def stream_inputs(form: StreamForm, clips: np.ndarray, frames: int) -> Iterator[dict[str, np.ndarray]]:
    """Inputs of the exported graph, one of each clip (n, T, 3, s, s), which passes through it ``frames`` at a time.

    Each clip starts a stream, and each stops one step later than the one before, or at the first step again after the
    last. So all clips are seen, and all steps, but no more states are kept than there are clips. A remainder of fewer
    than ``frames`` frames is left out.
    """
    with torch.inference_mode():
        for number, clip in enumerate(clips):
            steps = np.split(clip[: len(clip) // frames * frames], len(clip) // frames)
            last, state = number % len(steps), list(form.first.values())
            for taken in steps[:last]:
                _, *state = form(torch.from_numpy(taken), state)
            named = zip(form.first, state, strict=True)
            yield {FRAME: steps[last], **{STATE_IN + name: each.contiguous().numpy() for name, each in named}}
