"""The scorer for a network that torch runs, which is imported only when one is made."""

from pathlib import Path
from typing import TYPE_CHECKING

from dynagest.card import NetworkCard
from dynagest.runtimes.torch_network import TorchNetwork, TorchSplit, TorchStream
from dynagest.stream.scores import Scorer
from dynagest.stream.state import StateScorer
from dynagest.stream.window import Unsplit, WindowScorer

if TYPE_CHECKING:
    from dynagest.networks.clipnet import ClipNet


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
