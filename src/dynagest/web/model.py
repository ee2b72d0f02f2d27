"""The network that the page runs: an ONNX file with its card inside, kept in memory for browsers. Needs no torch."""

import hashlib
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

LARGEST = 400_000_000  # bytes: the most that a browser is asked to load


@dataclass(frozen=True, slots=True)
class ServedModel:
    """The bytes of an ONNX file; ``key``, a digest of them; its description; and the settings of the event detector."""

    data: bytes
    key: str
    info: ModelInfo
    events: EventSettings

    def describe(self) -> dict[str, Any]:
        """What the page must know about the network, as plain JSON values."""
        return {
            "url": f"/model/{self.key}.onnx",
            "mode": self.info.mode,
            "state": {name: tensor.model_dump() for name, tensor in self.info.state.items()},
            "card": self.info.card.model_dump(mode="json"),
            "events": self.events.model_dump(mode="json"),
        }


def load_model(path: Path, fps: float | None = None, events: EventSettings | None = None) -> ServedModel:
    """Read an exported network. ``fps`` overrides its card's frame rate, ``events`` the settings inside or beside it.

    Raises ``WeightsError`` when the file was not written by this version's ``dynagest export --to onnx``, is damaged or
    larger than ``LARGEST``, takes depth or several frames at once, has no frame rate and ``fps`` gives none, or has
    event settings of another version.
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
    info = load_exported(path, threads=1).info  # finds damage here, before any browser does
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
    """Holds the current network, and the one before it for pages that are still loading that."""

    def __init__(self, model: ServedModel) -> None:
        self._models: tuple[ServedModel, ...] = (model,)

    @property
    def current(self) -> ServedModel:
        """The network that was put last."""
        return self._models[0]

    def put(self, model: ServedModel) -> None:
        """Make this network the current one; only it and the one before it are kept. For one thread at a time."""
        self._models = (model, *(each for each in self._models if each.key != model.key))[:2]

    def get(self, key: str) -> ServedModel | None:
        """The network with this key, or ``None`` if it is no longer kept."""
        return next((each for each in self._models if each.key == key), None)


def export_command(run: Path, card: NetworkCard) -> tuple[list[str], Path]:
    """Return the command that exports a run's network for the page, a stream if it is online, and the file's path."""
    mode: Mode = "stream" if card.options.get("online") else "clip"
    path = run / file_name("fp32", mode, ".onnx")
    command = [*PYTHON, "-m", "dynagest", "export", str(run), "--to", "onnx", "--mode", mode, "--out", str(path)]
    return [*command, "--clips", "16"], path
