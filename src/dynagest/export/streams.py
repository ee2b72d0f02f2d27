"""The streaming form of an online network as one graph: a frame and named states in, logits and the new states out."""

from collections.abc import Iterator

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from dynagest.card import NetworkCard
from dynagest.export.convert import to_onnx
from dynagest.export.fold import fold_batchnorm
from dynagest.networks.clipnet import ClipNet
from dynagest.networks.streaming import StreamNet
from dynagest.runtimes.model_file import FRAME, LOGITS, STATE_IN, STATE_OUT, StateTensor


class StreamForm(nn.Module):
    """``StreamNet`` with its state as a list of tensors, in the order of ``first``: the state before the first frame.

    With ``channels_last``, features that are remembered at full size are (N, H, W, C): the order in which OpenVINO
    computes, which otherwise rearranges them twice a frame.
    """

    def __init__(self, net: ClipNet, size: int, channels_last: bool) -> None:
        super().__init__()
        self.stream = StreamNet(net)
        state = self.stream.initial_state(1, size)
        self.turned = {name for name in state if channels_last and name.endswith(".shift")}
        self.first = {name: self._outside(name, each).contiguous() for name, each in state.items()}

    def forward(self, frame_NCHW: Tensor, state: list[Tensor]) -> list[Tensor]:
        """(N, 3, H, W) and the state -> logits (N, K) and the new state."""
        named = zip(self.first, state, strict=True)
        before = {name: each.permute(0, 3, 1, 2) if name in self.turned else each for name, each in named}
        logits, left = self.stream(frame_NCHW, before)
        return [logits, *(self._outside(name, left[name]) for name in self.first)]

    def _outside(self, name: str, each: Tensor) -> Tensor:
        return each.permute(0, 2, 3, 1) if name in self.turned else each


def convert_stream(
    net: ClipNet, card: NetworkCard, *, channels_last: bool
) -> tuple[onnx.ModelProto, dict[str, StateTensor]]:
    """The network as an ONNX model that takes one frame of one stream, and the shapes of its state.

    ``channels_last``: see ``StreamForm``. Raises ``ModelError`` for a network that is not online.
    """
    online = StreamNet(net).net  # refuses others before they are folded
    form = StreamForm(fold_batchnorm(online, torch.zeros(1, 2, 3, card.size, card.size)), card.size, channels_last)
    model = to_onnx(
        form,
        (torch.zeros(1, 3, card.size, card.size), list(form.first.values())),
        [FRAME, *(STATE_IN + name for name in form.first)],
        [LOGITS, *(STATE_OUT + name for name in form.first)],
        dynamic=False,
    )
    return model, {name: StateTensor(shape=tuple(tensor.shape)) for name, tensor in form.first.items()}


def stream_inputs(
    net: ClipNet, card: NetworkCard, clips: np.ndarray, *, channels_last: bool
) -> Iterator[dict[str, np.ndarray]]:
    """What the exported graph is given while clips (n, T, 3, s, s) run through the network frame by frame."""
    form = StreamForm(net, card.size, channels_last)
    with torch.inference_mode():
        for clip in clips:
            state = list(form.first.values())
            for frame in clip:
                named = zip(form.first, state, strict=True)
                yield {FRAME: frame[None], **{STATE_IN + name: each.contiguous().numpy() for name, each in named}}
                _, *state = form(torch.from_numpy(frame[None]), state)
