"""The streaming form of an online network as one graph: a frame and named states in, logits and the new states out."""

from collections.abc import Iterator, Mapping

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
    """``StreamNet`` with its state as a list of tensors."""

    def __init__(self, net: ClipNet, names: list[str]) -> None:
        super().__init__()
        self.stream = StreamNet(net)
        self.names = names

    def forward(self, frame_NCHW: Tensor, state: list[Tensor]) -> list[Tensor]:
        """(N, 3, H, W) and the state -> logits (N, K) and the new state, in the order of ``names``."""
        logits, left = self.stream(frame_NCHW, dict(zip(self.names, state, strict=True)))
        return [logits, *(left[name] for name in self.names)]


def convert_stream(net: ClipNet, card: NetworkCard) -> tuple[onnx.ModelProto, dict[str, StateTensor]]:
    """The network as an ONNX model that takes one frame of one stream, and the shapes of its state.

    Raises ``ModelError`` for a network that is not online.
    """
    state = StreamNet(net).initial_state(1, card.size)
    folded = fold_batchnorm(net, torch.zeros(1, 2, 3, card.size, card.size))
    names = list(state)
    model = to_onnx(
        StreamForm(folded, names),
        (torch.zeros(1, 3, card.size, card.size), list(state.values())),
        [FRAME, *(STATE_IN + name for name in names)],
        [LOGITS, *(STATE_OUT + name for name in names)],
        dynamic=False,
    )
    return model, {name: StateTensor(shape=tuple(tensor.shape)) for name, tensor in state.items()}


def stream_inputs(net: ClipNet, card: NetworkCard, clips: np.ndarray) -> Iterator[dict[str, np.ndarray]]:
    """What the exported graph is given while clips (n, T, 3, s, s) run through the network frame by frame."""
    stream = StreamNet(net)
    with torch.inference_mode():
        for clip in clips:
            state: Mapping[str, Tensor] = stream.initial_state(1, card.size)
            for frame in clip:
                yield {FRAME: frame[None], **{STATE_IN + name: each.numpy() for name, each in state.items()}}
                _, state = stream(torch.from_numpy(frame[None]), state)
