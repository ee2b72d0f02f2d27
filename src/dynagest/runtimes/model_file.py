"""What an exported file says about itself: one JSON text inside it, under the key ``dynagest``. Needs no torch."""

from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from dynagest.card import NetworkCard
from dynagest.errors import WeightsError
from dynagest.fields import field_faults

KEY = "dynagest"
FORMAT = 1
CLIPS, FRAME, LOGITS = "clips", "frame", "logits"  # names of the inputs and the output
STATE_IN, STATE_OUT = "state.", "next."  # what the names of a stream's state begin with
SUFFIXES = {".onnx": "ONNX Runtime", ".xml": "OpenVINO"}

Precision = Literal["fp32", "bf16", "int8"]
Mode = Literal["clip", "stream"]
Kind = Literal["float32", "uint8"]


class ModeError(WeightsError):
    """A sound file of the other mode."""


class StateTensor(BaseModel):
    """One tensor of a stream's state, all zero before the first frame."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    shape: tuple[int, ...]
    dtype: Kind = "float32"


class ModelInfo(BaseModel):
    """All that is to be known to use an exported file.

    A ``clip`` file takes ``clips`` (N, T, 3, s, s) and gives ``logits`` (N, K). A ``stream`` file takes ``frame``
    (1, 3, s, s) and every tensor of ``state`` as ``state.NAME``, and gives ``logits`` and ``next.NAME``. All are
    float32 but for state that says otherwise; RGB scaled to [0, 1] and normalised as ``card`` says. ``batch`` is the
    number of clips that it takes at once, ``None`` for any. ``events`` are the settings of the event detector, if they
    were tuned.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int = FORMAT
    mode: Mode
    precision: Precision
    batch: int | None = None
    card: NetworkCard
    state: dict[str, StateTensor] = {}
    events: dict[str, Any] | None = None

    def initial_state(self) -> dict[str, np.ndarray]:
        """The state before the first frame of a stream."""
        return {name: np.zeros(each.shape, each.dtype) for name, each in self.state.items()}

    @classmethod
    def parse(cls, text: str | None, path: Path) -> "ModelInfo":
        """What the file at ``path`` says of itself. Raises ``WeightsError`` for foreign files and other versions."""
        if text is None:
            raise WeightsError(
                f"{path}: was not exported by dynagest: it does not say which classes it knows and what frames it "
                "wants; make it with `dynagest export RUN`"
            )
        try:
            version = _Version.model_validate_json(text).format
            if version != FORMAT:
                raise WeightsError(
                    f"{path}: is of format {version}, this dynagest reads format {FORMAT}; export the network again "
                    f"with this version, or install {'a newer' if version > FORMAT else 'the older'} dynagest"
                )
            return cls.model_validate_json(text)
        except ValidationError as error:
            raise WeightsError(
                f"{path}: what it says of itself cannot be used: {field_faults(cls, error)}; export the network again"
            ) from error


class _Version(BaseModel):
    format: int


def check_file(path: Path) -> None:
    """Raise ``WeightsError`` unless ``path`` is a file, and an IR has its weights beside it."""
    if not path.is_file():
        raise WeightsError(f"{path}: there is no such file; `dynagest export RUN` makes one")
    for part in (path, path.with_suffix(".bin")) if path.suffix == ".xml" else (path,):
        if not part.is_file():
            raise WeightsError(f"{part}: is missing; an OpenVINO network is two files, keep them together")
        if part.stat().st_size == 0:
            raise WeightsError(f"{part}: the file is empty; copy it again, or export the network again")


def check_use(info: ModelInfo, path: Path, mode: Mode) -> None:
    """Raise ``ModeError`` for a file of the other mode, ``WeightsError`` for a network that needs more than RGB."""
    if info.mode != mode:
        other = "`dynagest live` and scorers of streams" if info.mode == "stream" else "predictions of whole clips"
        raise ModeError(
            f"{path}: was exported for {other} (--mode {info.mode}); export the network again with --mode {mode}"
        )
    check_rgb(info.card, str(path))


def check_rgb(card: NetworkCard, where: str) -> None:
    """Raise ``WeightsError`` for a network that sees depth: it shows how much depth has to give, and is not for use."""
    if card.inputs != "rgb":
        raise WeightsError(
            f"{where}: this network wants {card.inputs!r} frames; only networks of RGB can be used or exported. "
            "Train one with inputs=rgb"
        )
