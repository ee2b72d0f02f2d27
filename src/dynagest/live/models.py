"""From whatever a user calls a model to a recogniser of streams. Torch only for networks that torch runs."""

from pathlib import Path

from dynagest.stream.events import EventDetector
from dynagest.stream.exported import exported_settings as exported_settings
from dynagest.stream.load import load_stream_model
from dynagest.stream.recogniser import Recogniser


def load_recogniser(path: Path | str, device: str | None = None, fps: float | None = None) -> Recogniser:
    """The recogniser of a network and its event settings; arguments and errors as of ``load_stream_model``."""
    model = load_stream_model(path, device, fps=fps)
    return Recogniser(model.scorer, EventDetector(model.scorer.card.classes, model.settings))
