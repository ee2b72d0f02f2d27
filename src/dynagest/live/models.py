"""From whatever a user calls a model to a recogniser of streams. Torch only for networks that torch runs."""

from pathlib import Path

from pydantic import ValidationError

from dynagest.errors import RecipeError, WeightsError
from dynagest.fields import field_faults
from dynagest.runtimes.load import is_exported, load_clip_network, load_stream_network
from dynagest.runtimes.model_file import ModeError, ModelInfo
from dynagest.runtimes.torch_network import TorchNetwork
from dynagest.stream.events import EventDetector, EventSettings, settings_of
from dynagest.stream.recogniser import Recogniser
from dynagest.stream.scores import Scorer
from dynagest.stream.state import StateScorer
from dynagest.stream.window import Unsplit, WindowScorer


def load_recogniser(
    path: Path | str,
    device: str | None = None,
    fps: float | None = None,
    hop: int | None = None,
    threads: int | None = None,
) -> Recogniser:
    """The recogniser for a run folder, a ``.safetensors`` file, or an exported ``.onnx`` or ``.xml`` of either mode.

    ``device`` is a torch device (default: the CPU), ``fps`` replaces the rate of the card, ``hop`` is that of sliding
    windows (default: 1), ``threads`` those of an exported file (default: one for each core). Its events are
    those that were tuned: inside an exported file, or in ``events.json`` beside the network; else the defaults. Raises
    ``WeightsError`` for what is no network, is of another version or knows no rate, ``ModelError`` for one that cannot
    see a stream, ``RecipeError`` for an option that does not go with it.
    """
    path = Path(path)
    if not is_exported(path):
        if threads is not None:
            raise RecipeError(f"--threads: {path} is run by torch; export it, or set OMP_NUM_THREADS")
        from dynagest.stream.load import load_scorer

        scorer, events = load_scorer(path, device or "cpu", hop or 1, fps), settings_of(path)
    elif device is not None:
        raise RecipeError(f"--device {device}: {path} is exported and runs on the CPU; leave the option out")
    else:
        scorer, events = _exported(path, fps, hop or 1, threads)
    if hop is not None and not isinstance(scorer, WindowScorer):
        raise RecipeError(f"--hop: {path} answers at every frame at the cost of one; leave the option out")
    return Recogniser(scorer, EventDetector(scorer.card.classes, events))


def _exported(path: Path, fps: float | None, hop: int, threads: int | None) -> tuple[Scorer, EventSettings]:
    try:
        stream = load_stream_network(path, threads)
    except ModeError:
        network = load_clip_network(path, threads=threads)
        assert not isinstance(network, TorchNetwork)
        return WindowScorer(Unsplit(network), hop, fps), exported_settings(path, network.info)
    return StateScorer(stream, fps), exported_settings(path, stream.info)


def exported_settings(path: Path, info: ModelInfo) -> EventSettings:
    """The event settings of an exported file: inside it, or beside it. Raises ``WeightsError`` for other fields."""
    if info.events is None:
        return settings_of(path)
    try:
        return EventSettings.model_validate(info.events)
    except ValidationError as error:
        raise WeightsError(
            f"{path}: its event settings are not of this version ({field_faults(EventSettings, error)}); run "
            "`dynagest tune` and export the network again"
        ) from error
