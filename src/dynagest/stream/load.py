"""Loads a saved or exported network as a scorer of streams. Needs torch only for networks that torch runs."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dynagest.card import NetworkCard
from dynagest.errors import RecipeError
from dynagest.runtimes.exported import ExportedStream
from dynagest.runtimes.load import check_options, is_exported, load_exported
from dynagest.runtimes.model_file import ModelInfo
from dynagest.runtimes.torch_network import TorchNetwork, TorchSplit, TorchStream, load_saved
from dynagest.stream.events import EventDetector, EventSettings, tuned_settings
from dynagest.stream.exported import exported_settings
from dynagest.stream.recogniser import Recogniser
from dynagest.stream.scores import Scorer
from dynagest.stream.state import StateScorer
from dynagest.stream.window import Unsplit, WindowScorer

if TYPE_CHECKING:
    from dynagest.networks.clipnet import ClipNet


@dataclass(frozen=True, slots=True)
class StreamModel:
    """A scorer and its event settings. ``tuned``: whether these come from ``dynagest tune``, or are the defaults."""

    scorer: Scorer
    settings: EventSettings
    tuned: bool


def load_stream_model(
    path: Path | str,
    device: str | None = None,
    fps: float | None = None,
    hop: int | None = None,
    threads: int | None = None,
) -> StreamModel:
    """Load a network as ``load_scorer`` does, with its event settings.

    The settings are those inside an exported file, else those of ``events.json`` beside the network, else the defaults.
    Raises the errors of ``load_scorer``; for settings of another version also ``WeightsError`` (inside an exported
    file) or ``RunError`` (``events.json``).
    """
    path = Path(path)
    scorer, info = _open(path, device, fps, hop, threads)
    tuned = tuned_settings(path) if info is None else exported_settings(path, info)
    return StreamModel(scorer, tuned or EventSettings(), tuned is not None)


def load_recogniser(
    path: Path | str,
    device: str | None = None,
    fps: float | None = None,
    hop: int | None = None,
    threads: int | None = None,
) -> Recogniser:
    """Load a network and its event settings (``dynagest tune``'s, else the defaults) to recognise gestures in a stream.

    ``path`` is a run folder, a ``.safetensors`` file, or an exported ``.onnx`` or ``.xml``, of clips or of streams.
    ``device`` is a torch device (default: the CPU); ``fps`` replaces the rate, in frames a second, at which the
    network's card samples a stream; ``hop`` (of a network of clips) is the number of such frames from one answer to the
    next; ``threads`` is for exported files. Errors as in ``load_scorer`` and ``load_stream_model``: ``WeightsError``,
    ``ModelError``, ``RecipeError`` and ``RunError``.

    Example: ``dg.load_recogniser("runs/live")``; see ``Recogniser``
    """
    model = load_stream_model(path, device, fps, hop, threads)
    return Recogniser(model.scorer, EventDetector(model.scorer.card.classes, model.settings))


def load_scorer(
    path: Path | str,
    device: str | None = None,
    fps: float | None = None,
    hop: int | None = None,
    threads: int | None = None,
) -> Scorer:
    """Load a scorer from a run folder, a ``.safetensors`` file, or an exported ``.onnx`` or ``.xml`` of either mode.

    It runs the streaming form of an online network and of a file of streams, else sliding windows every ``hop`` ticks
    (default: 1). ``device`` is a torch device (default: the CPU), for networks that torch runs; ``threads`` is for
    exported files (default: one for each core). ``fps`` replaces the card's rate. Raises ``WeightsError`` for a file
    that is no network, is damaged, is of another version or has no rate; ``ModelError`` or ``WeightsError`` for a
    network that is fed depth; ``RecipeError`` for an option that this network does not have, a ``hop`` or ``fps`` that
    is not possible, a device that cannot be used, or a runtime (torch included) that is not installed.
    """
    return _open(Path(path), device, fps, hop, threads)[0]


def _open(
    path: Path, device: str | None, fps: float | None, hop: int | None, threads: int | None
) -> tuple[Scorer, ModelInfo | None]:
    """The scorer, and the description inside an exported file (None for other networks)."""
    scorer: Scorer
    info = None
    if hop is not None and hop < 1:
        raise RecipeError(f"hop={hop}: the frames from one answer to the next are at least 1")
    check_options(path, device, threads)
    if not is_exported(path):
        scorer = make_scorer(*load_saved(path), device or "cpu", hop or 1, fps)
    else:
        network = load_exported(path, threads)
        info = network.info
        if isinstance(network, ExportedStream):
            scorer = StateScorer(network, fps)
        else:
            scorer = WindowScorer(Unsplit(network), hop or 1, fps)
    if hop is not None and not isinstance(scorer, WindowScorer):
        raise RecipeError(f"--hop: {path} answers at every frame; leave the option out, or use a network of clips")
    return scorer, info


def make_scorer(
    net: "ClipNet", card: NetworkCard, device: str = "cpu", hop: int = 1, fps: float | None = None
) -> Scorer:
    """A scorer for a torch network in memory and its card; ``hop`` counts only for sliding windows.

    Raises ``RecipeError`` for a device that cannot be used, and the errors of ``load_scorer`` for depth and rate.
    """
    from dynagest.networks.video import VideoNet

    if card.options.get("online"):
        return StateScorer(TorchStream(net, card, device), fps)
    if isinstance(net, VideoNet):
        return WindowScorer(TorchSplit(net, card, device), hop, fps)
    return WindowScorer(Unsplit(TorchNetwork(net, card, device)), hop, fps)
