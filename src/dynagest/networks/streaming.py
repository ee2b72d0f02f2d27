"""The streaming forms of 2D networks: they map the next frame (or several) and a state to logits and a new state.

An online network has one that costs a frame (``StreamNet``); any other slides a window over its features
(``WindowNet``).
"""

from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor, nn

from dynagest.errors import ModelError
from dynagest.networks.clipnet import ClipNet
from dynagest.networks.forward import shapes_only
from dynagest.networks.temporal import Memory, Previous
from dynagest.networks.video import VideoNet

LOGITS, SEEN, STEM = "logits", "seen", "stem"


def streaming_form(net: ClipNet) -> "StreamNet | WindowNet":
    """The streaming form of ``net``, which should be in evaluation mode: of its own if it is online, else a window.

    Raises ``ModelError`` for a network that is not 2D.
    """
    if not isinstance(net, VideoNet):
        raise ModelError(
            f"{net.name}: no 2D network, so no part of it sees a frame alone, and it has no streaming form; run it on "
            "clips (export it with --mode clip): sliding windows take these, too"
        )
    return StreamNet(net) if net.options.get("online") else WindowNet(net)


class StreamNet(nn.Module):
    """An online network that takes the frames of a stream one at a time, at the cost of one frame.

    After t frames the answer is the mean of the logits of the last min(t, T) frames, T = ``num_segments``. T frames
    after ``initial_state`` it equals the clip network's logits, which training optimised; before that, the logits of
    the shorter clip.

    The state is a flat dict of tensors with fixed shapes, all zero at first; N is the number of streams:

    * ``layer1.0.shift`` and the like: what a temporal module needs of the previous frame, named by block and module;
    * ``logits`` (N, T - 1, K): the logits of the last frames, newest last;
    * ``seen`` (N, 1): the number of frames in the mean, at most T.

    A step may take several frames at once. The logits are the same as one frame at a time, and the hardware is used
    better: more frames per second, but the first of them are answered later.

    A step modifies none of its input tensors and has no branch that depends on data. Pass ``net`` in evaluation mode;
    its weights are shared, not copied. Raises ``ModelError`` for a network that is not online.

        >>> stream = StreamNet(create_model("action_resnet18", 25, options={"online": True}).eval())
        >>> state = stream.initial_state(batch=1, size=224)
        >>> logits, state = stream(frame, state)
    """

    def __init__(self, net: ClipNet) -> None:
        super().__init__()
        if not isinstance(net, VideoNet) or not net.options.get("online"):
            raise ModelError(
                f"{net.name}: looks at frames that are still to come, so it has no streaming form; train a tsm_ or "
                "action_ network with options online=true, or run this one on sliding windows"
            )
        self.net = net
        self._names = {module: _short(name) for name, module in net.named_modules() if isinstance(module, Previous)}

    def forward(self, frames: Tensor, state: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """The next normalised frame of each stream (N, C, H, W) -> logits (N, K) and the new state.

        Or the next F frames of each (F, N, C, H, W) -> logits (F, N, K) and the state after the last. Raises
        ``ModelError`` if frames and state are of other numbers of streams.
        """
        _check_streams(frames, state)
        memory = Memory(self._names, state)
        frames_BCHW = frames.flatten(0, -4).contiguous(memory_format=torch.channels_last)
        logits_BK = self.net.classifier(self.net.dropout(self.net.base_model(frames_BCHW, memory)))
        recent, seen_N1, means = state[LOGITS], state[SEEN], []
        for logits_NK in logits_BK.split(len(seen_N1)):
            last_NTK = torch.cat((recent, logits_NK[:, None]), dim=1)
            seen_N1 = torch.clamp(seen_N1 + 1, max=self.net.num_segments)
            means.append(last_NTK.sum(dim=1) / seen_N1)
            recent = last_NTK[:, 1:]
        answer = torch.stack(means) if frames.ndim == 5 else means[0]
        return answer, {**memory.left, LOGITS: recent, SEEN: seen_N1}

    def initial_state(self, batch: int = 1, size: int | tuple[int, int] = 224) -> dict[str, Tensor]:
        """The state of ``batch`` new streams, all zero. ``size`` is the side of a square frame, or (height, width)."""
        backbone, memory = self.net.base_model, Memory(self._names, None)
        height, width = (size, size) if isinstance(size, int) else size
        channels, weight = backbone.conv1.in_channels, backbone.conv1.weight
        frame = torch.empty(batch, channels, height, width, dtype=weight.dtype, device="meta")
        shapes_only(backbone, frame, memory)
        shapes = {name: tuple(tensor.shape) for name, tensor in memory.left.items()}
        shapes |= {LOGITS: (batch, self.net.num_segments - 1, self.net.num_classes), SEEN: (batch, 1)}
        return {name: torch.zeros(shape, dtype=weight.dtype, device=weight.device) for name, shape in shapes.items()}


class SplitNet(Protocol):
    """A network of clips in two parts: a stem that sees each frame alone, and the rest."""

    num_segments: int

    @property
    def channels(self) -> int:
        """Channels of an input frame."""

    def stem(self, clip_NTCHW: Tensor) -> Tensor:
        """Normalised clips -> features, with frames along the axis that ``WindowNet`` is told."""

    def rest(self, features: Tensor) -> Tensor:
        """The stem's features -> logits (N, K)."""


class WindowNet(nn.Module):
    """A network that looks both ways in time, on the window of a stream's last T frames; the stem sees each frame once.

    The answer after each frame is the clip network's for the window. Until there are T frames, the first one stands in
    for those that are missing. A step costs a frame's stem and a whole window's rest.

    The state is like ``StreamNet``'s, all zero at first: ``stem`` are the stem's features of the last T - 1 frames,
    newest last, for a ``VideoNet`` (N, T - 1, C, h, w); ``seen`` (N, 1) is 1 once there are any. Steps of several
    frames, and what is not modified, as there. ``axis``: the axis of the frames in the stem's features.

        >>> window = WindowNet(create_model("action_resnet18", 25).eval())
        >>> logits, state = window(frame, window.initial_state(batch=1, size=224))
    """

    def __init__(self, net: SplitNet, axis: int = 1) -> None:
        super().__init__()
        self.net, self.axis = net, axis

    def forward(self, frames: Tensor, state: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Frames and states in, logits and states out, in the shapes of ``StreamNet.forward``."""
        _check_streams(frames, state)
        frames_FNCHW = frames if frames.ndim == 5 else frames[None]
        count, length = len(frames_FNCHW), self.net.num_segments
        new = self.net.stem(frames_FNCHW.transpose(0, 1))
        missing_N1 = 1 - state[SEEN]
        kept = state[STEM] + missing_N1[..., None, None, None] * new.narrow(self.axis, 0, 1)
        features = torch.cat((kept, new), dim=self.axis)
        windows = [features.narrow(self.axis, begin, length) for begin in range(count)]
        logits_BK = self.net.rest(torch.cat(windows) if count > 1 else windows[0])
        answer = logits_BK.unflatten(0, (count, -1)) if frames.ndim == 5 else logits_BK
        left = {STEM: features.narrow(self.axis, count, length - 1), SEEN: torch.clamp(state[SEEN] + 1, max=1)}
        return answer, left

    def initial_state(self, batch: int = 1, size: int | tuple[int, int] = 224) -> dict[str, Tensor]:
        """See ``StreamNet.initial_state``."""
        height, width = (size, size) if isinstance(size, int) else size
        weight = next(self.parameters())
        with torch.no_grad():
            shape = list(self.net.stem(weight.new_zeros(1, 1, self.net.channels, height, width)).shape)
        shape[0], shape[self.axis] = batch, self.net.num_segments - 1
        return {STEM: weight.new_zeros(shape), SEEN: weight.new_zeros(batch, 1)}


def _check_streams(frames: Tensor, state: Mapping[str, Tensor]) -> None:
    """Raise ``ModelError`` unless ``frames`` are (N, C, H, W) or (F, N, C, H, W) for the N streams of ``state``.

    Otherwise some shapes would give answers: too many frames count as later ones, and too few are broadcast.
    """
    streams = len(state[SEEN])
    if frames.ndim not in (4, 5) or frames.shape[-4] != streams:
        raise ModelError(
            f"frames of shape {tuple(frames.shape)} for a state of {streams} streams; give the next frame of each, "
            f"({streams}, C, H, W), or the next F frames, (F, {streams}, C, H, W)"
        )


def _short(name: str) -> str:
    # base_model.layer1.0.conv1.action_p1_conv1.ste -> layer1.0.ste
    _, stage, block, *_, last = name.split(".")
    return f"{stage}.{block}.{last}"
