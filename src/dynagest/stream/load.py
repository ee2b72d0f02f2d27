"""From whatever a user calls a model to a scorer of streams. Torch only for networks that torch runs."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dynagest.card import NetworkCard
from dynagest.errors import RecipeError
from dynagest.run_folder import EVENTS_FILE
from dynagest.runtimes.load import is_exported, load_clip_network, load_stream_network
from dynagest.runtimes.model_file import ModeError, ModelInfo
from dynagest.runtimes.torch_network import TorchNetwork, TorchSplit, TorchStream
from dynagest.stream.events import EventSettings, settings_of
from dynagest.stream.exported import exported_settings
from dynagest.stream.scores import Scorer
from dynagest.stream.state import StateScorer
from dynagest.stream.window import Unsplit, WindowScorer

if TYPE_CHECKING:
    from dynagest.networks.clipnet import ClipNet


@dataclass(frozen=True, slots=True)
class StreamModel:
    """A scorer and the event settings for it: those that were ``tuned``, or the defaults."""

    scorer: Scorer
    settings: EventSettings
    tuned: bool


def load_stream_model(
    path: Path | str, device: str | None = None, hop: int = 1, fps: float | None = None
) -> StreamModel:
    """``load_scorer``, and the settings that lie inside an exported file, or in ``events.json`` beside the network.

    Raises ``RunError`` or ``WeightsError`` also for settings of another version.
    """
    path = Path(path)
    scorer, info = _open(path, device, hop, fps)
    beside = ((path if path.is_dir() else path.parent) / EVENTS_FILE).exists()
    if info is None:
        return StreamModel(scorer, settings_of(path), beside)
    return StreamModel(scorer, exported_settings(path, info), beside or info.events is not None)


def load_scorer(path: Path | str, device: str | None = None, hop: int = 1, fps: float | None = None) -> Scorer:
    """A run folder, a ``.safetensors`` file, or an exported ``.onnx`` or ``.xml`` of either mode, for streams.

    Its streaming form if it has one, else sliding windows every ``hop`` frames. ``device`` is a torch device (default:
    the CPU), ``fps`` replaces the rate of the card. Raises ``WeightsError`` for what is no network, is of another
    version or knows no rate, ``ModelError`` for one that cannot see a stream, ``RecipeError`` for an option that does
    not go with it.
    """
    return _open(Path(path), device, hop, fps)[0]


def _open(path: Path, device: str | None, hop: int, fps: float | None) -> tuple[Scorer, ModelInfo | None]:
    """The scorer, and what an exported file says of itself."""
    if not is_exported(path):
        from dynagest.networks.weights import load_network

        return make_scorer(*load_network(path), device or "cpu", hop, fps), None
    if device is not None:
        raise RecipeError(f"--device {device}: {path} is exported and runs on the CPU; leave the option out")
    try:
        stream = load_stream_network(path)
    except ModeError:
        network = load_clip_network(path)
        assert not isinstance(network, TorchNetwork)
        return WindowScorer(Unsplit(network), hop, fps), network.info
    return StateScorer(stream, fps), stream.info


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
