"""The network that the page runs: an ONNX file with its card inside, kept in memory for browsers to fetch. No torch."""

import hashlib
import threading
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dynagest.card import NetworkCard
from dynagest.errors import WeightsError
from dynagest.processes import PYTHON
from dynagest.runtimes.load import load_exported
from dynagest.runtimes.model_file import Mode, ModelInfo, file_name
from dynagest.stream.events import EventSettings
from dynagest.stream.exported import exported_settings

LARGEST = 400_000_000  # bytes: what a browser can be asked to load


@dataclass(frozen=True, slots=True)
class ServedModel:
    """``info``: what the file says of itself; ``key`` names these bytes and no others."""

    data: bytes
    key: str
    info: ModelInfo
    events: EventSettings

    def describe(self) -> dict[str, Any]:
        """What the page must know, as plain JSON values."""
        return {
            "url": f"/model/{self.key}.onnx",
            "mode": self.info.mode,
            "state": {name: tensor.model_dump() for name, tensor in self.info.state.items()},
            "card": self.info.card.model_dump(mode="json"),
            "events": self.events.model_dump(mode="json"),
        }


def load_model(path: Path, fps: float | None = None, events: EventSettings | None = None) -> ServedModel:
    """Read an exported network. ``fps`` overrides the rate of its card, ``events`` the settings that travel with it.

    Raises ``WeightsError`` when it is no file of this version's ``dynagest export --to onnx``, is damaged or too large,
    wants more than RGB or several frames at once, knows no frame rate, or has event settings of another version.
    """
    try:
        if path.stat().st_size > LARGEST:
            raise WeightsError(f"{path}: is larger than {LARGEST:,} bytes; a browser cannot be asked to load that")
        data = path.read_bytes()
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror}); name a run folder, or an ONNX file") from error
    if path.suffix != ".onnx":
        raise WeightsError(
            f"{path}: the page runs ONNX files alone; name a run folder, or what `dynagest export RUN --to onnx` writes"
        )
    info = load_exported(path, threads=1).info  # loaded as the page will: damage is told here, not in every browser
    if info.frames != 1:
        raise WeightsError(
            f"{path}: takes {info.frames} frames at once, the page has them one by one; export it without --frames"
        )
    card = info.card.model_copy(update={"fps": fps}) if fps else info.card
    if card.fps is None:
        raise WeightsError(
            f"{path}: its card does not say how many frames a second it is to see; give --fps, as in --fps 5: "
            f"{card.num_segments} frames over the length of a typical gesture"
        )
    events = events or exported_settings(path, info) or EventSettings()
    key = hashlib.sha256(data).hexdigest()[:32]
    return ServedModel(data, key, info.model_copy(update={"card": card}), events)


class ModelShelf:
    """The network of the moment, and the one before it, for a page that is just loading it."""

    def __init__(self, model: ServedModel) -> None:
        self._models: OrderedDict[str, ServedModel] = OrderedDict()
        self._lock = threading.Lock()
        self.put(model)

    @property
    def current(self) -> ServedModel:
        """The newest."""
        with self._lock:
            return next(reversed(self._models.values()))

    def put(self, model: ServedModel) -> None:
        """From now on this one."""
        with self._lock:
            self._models.pop(model.key, None)
            self._models[model.key] = model
            while len(self._models) > 2:
                self._models.popitem(last=False)

    def get(self, key: str) -> ServedModel | None:
        """The one of this key, if it is still here."""
        with self._lock:
            return self._models.get(key)


def export_command(run: Path, card: NetworkCard) -> tuple[list[str], Path]:
    """The command that exports a run's network for the page, as a stream where it can be one, and what it writes."""
    mode: Mode = "stream" if card.options.get("online") else "clip"
    path = run / file_name("fp32", mode, ".onnx")
    command = [*PYTHON, "-m", "dynagest", "export", str(run), "--to", "onnx", "--mode", mode, "--out", str(path)]
    return [*command, "--clips", "16"], path
