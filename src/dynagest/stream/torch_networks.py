"""Networks of streams run by torch, which is imported only when one is made."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dynagest.card import NetworkCard
from dynagest.predictor import TorchNetwork
from dynagest.stream.scores import Scorer
from dynagest.stream.state import State, StateScorer
from dynagest.stream.window import Unsplit, WindowScorer

if TYPE_CHECKING:
    from dynagest.networks.clipnet import ClipNet
    from dynagest.networks.video import VideoNet


def load_scorer(path: Path | str, device: str = "cpu", hop: int = 1, fps: float | None = None) -> Scorer:
    """The scorer for a saved network (a run folder, or a ``.safetensors`` file with its card beside it).

    Its streaming form if it is online, else sliding windows every ``hop`` frames. ``fps`` replaces the card's. Raises
    ``WeightsError`` or ``ModelError`` when it cannot be read or cannot run on a stream.
    """
    from dynagest.networks.weights import load_network

    return make_scorer(*load_network(path), device, hop, fps)


def make_scorer(
    net: "ClipNet", card: NetworkCard, device: str = "cpu", hop: int = 1, fps: float | None = None
) -> Scorer:
    """As ``load_scorer``, for a network in memory."""
    from dynagest.networks.video import VideoNet

    if card.options.get("online"):
        return StateScorer(TorchStream(net, card, device), fps)
    if isinstance(net, VideoNet):
        return WindowScorer(TorchSplit(net, card, device), hop, fps)
    return WindowScorer(Unsplit(TorchNetwork(net, card, device)), hop, fps)


class TorchStream:
    """A ``StreamNetwork``; its state stays on ``device`` as tensors. Raises ``ModelError`` if ``net`` is not online."""

    def __init__(self, net: "ClipNet", card: NetworkCard, device: str = "cpu") -> None:
        from dynagest.networks.streaming import StreamNet

        self._net = StreamNet(net.to(device).eval())
        self._card, self._device = card, device

    @property
    def card(self) -> NetworkCard:
        return self._card

    def initial_state(self) -> State:
        """Zeros for one stream."""
        return self._net.initial_state(1, self._card.size)

    def step(self, frame: np.ndarray, state: State) -> tuple[np.ndarray, State]:
        """See ``StreamNetwork.step``."""
        import torch

        with torch.inference_mode():
            logits, state = self._net(torch.from_numpy(frame).to(self._device), state)
            return logits.float().cpu().numpy(), state


class TorchSplit:
    """A ``SplitNetwork``: the stem (convolution, BatchNorm, ReLU, max-pooling) and the stages behind it."""

    def __init__(self, net: "VideoNet", card: NetworkCard, device: str = "cpu") -> None:
        self._net = net.to(device).eval()
        self._card, self._device = card, device

    @property
    def card(self) -> NetworkCard:
        return self._card

    def stem(self, frames: np.ndarray) -> np.ndarray:
        """See ``SplitNetwork.stem``."""
        import torch

        with torch.inference_mode():
            return self._net.stem(torch.from_numpy(frames).to(self._device)[None])[0].float().cpu().numpy()

    def rest(self, features: np.ndarray) -> np.ndarray:
        """See ``SplitNetwork.rest``."""
        import torch

        with torch.inference_mode():
            return self._net.rest(torch.from_numpy(features).to(self._device)).float().cpu().numpy()
