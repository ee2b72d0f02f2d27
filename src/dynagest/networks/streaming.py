"""The streaming form of an online network: a frame, or a few, and a state in, logits and the new state out."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from dynagest.errors import ModelError
from dynagest.networks.clipnet import ClipNet
from dynagest.networks.forward import shapes_only
from dynagest.networks.temporal import Memory, Previous
from dynagest.networks.video import VideoNet

LOGITS, SEEN = "logits", "seen"


class StreamNet(nn.Module):
    """An online network that takes the frames of a stream one at a time, at the cost of one frame.

    Frame by frame it gives what the clip network gives for the clip of all frames so far: after t frames the mean of
    the logits of the last min(t, T) frames, T = ``num_segments``. After T frames from ``initial_state`` these are the
    clip network's logits, which is what training optimised; before, those of the shorter clip.

    The state is a flat dict of tensors with fixed shapes, N the number of streams, all zero at first:

    * ``layer1.0.shift`` and the like: what a temporal module needs of the frame before, named by block and module;
    * ``logits`` (N, T - 1, K): the logits of the last frames, the newest last;
    * ``seen`` (N, 1): the number of frames behind the mean, at most T.

    Several frames at once give what they give one after the other, and fill a machine better: more frames a second, the
    first of which are answered later.

    A step changes no tensor that it was given and takes no branch on data. Hand ``net`` over in evaluation mode; its
    weights are shared, not copied. Raises ``ModelError`` for a network that is not online.

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
        """Normalised frames, the next of each stream, (N, 3, H, W) -> logits (N, K) and the new state.

        Or the next F of each, (F, N, 3, H, W) -> logits (F, N, K) and the state after the last.
        """
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
        """Zeros for ``batch`` streams of frames ``size`` pixels square, or (height, width)."""
        backbone, memory = self.net.base_model, Memory(self._names, None)
        height, width = (size, size) if isinstance(size, int) else size
        channels, weight = backbone.conv1.in_channels, backbone.conv1.weight
        frame = torch.empty(batch, channels, height, width, dtype=weight.dtype, device="meta")
        shapes_only(backbone, frame, memory)
        shapes = {name: tuple(tensor.shape) for name, tensor in memory.left.items()}
        shapes |= {LOGITS: (batch, self.net.num_segments - 1, self.net.num_classes), SEEN: (batch, 1)}
        return {name: torch.zeros(shape, dtype=weight.dtype, device=weight.device) for name, shape in shapes.items()}


def _short(name: str) -> str:
    # base_model.layer1.0.conv1.action_p1_conv1.ste -> layer1.0.ste
    _, stage, block, *_, last = name.split(".")
    return f"{stage}.{block}.{last}"
