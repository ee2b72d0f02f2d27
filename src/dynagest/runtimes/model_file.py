"""The description inside an exported file: one JSON text under the key ``dynagest``. Needs no torch."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from dynagest.card import NetworkCard
from dynagest.errors import WeightsError
from dynagest.fields import field_faults

KEY = "dynagest"
FORMAT = 1
CLIPS, FRAME, LOGITS = "clips", "frame", "logits"  # names of the inputs and the output
STATE_IN, STATE_OUT = "state.", "next."  # prefixes of the names of a stream's state, as input and as output
SUFFIXES = {".onnx": "ONNX Runtime", ".xml": "OpenVINO"}

Precision = Literal["fp32", "bf16", "int8"]
Mode = Literal["clip", "stream"]
Kind = Literal["float32", "uint8"]
Length = Annotated[int, Field(ge=1)]

Tensor = tuple[str, tuple[int | None, ...]]
"""The type of an input or output of a graph: its kind, and its shape with ``None`` for any length."""

LARGEST_STATE = 2**26  # numbers in a tensor of the state; the largest of ACTION-R50 at 224 has 0.8 million


def file_name(precision: Precision, mode: Mode, suffix: str, frames: int = 1) -> str:
    """The name of an exported file in its run folder."""
    stream = "-stream" if mode == "stream" else ""
    return f"network-{precision}{stream}{f'-x{frames}' if frames > 1 else ''}{suffix}"


class StateTensor(BaseModel):
    """One tensor of a stream's state, all zero before the first frame."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    shape: tuple[Length, ...]
    dtype: Kind = "float32"

    @field_validator("shape")
    @classmethod
    def _fits(cls, shape: tuple[int, ...]) -> tuple[int, ...]:
        if math.prod(shape) > LARGEST_STATE:
            raise ValueError(f"{'x'.join(map(str, shape))} are more than {LARGEST_STATE:,} numbers")
        return shape


class ModelInfo(BaseModel):
    """Everything that is needed to use an exported file.

    A ``clip`` file takes ``clips`` (N, T, 3, s, s) and gives ``logits`` (N, K). A ``stream`` file takes ``frame``
    (F, 3, s, s), the next F = ``frames`` frames of a stream, and every tensor of ``state`` as ``state.NAME``; it gives
    ``logits`` (F, K) and the new state as ``next.NAME``. All are float32 except state that says otherwise; RGB is
    scaled to [0, 1] and normalised as ``card`` says. ``batch`` is the number of clips that a ``clip`` file takes at
    once, ``None`` for any. ``events`` are the settings of the event detector, if they were tuned.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int = FORMAT
    mode: Mode
    precision: Precision
    batch: Length | None = None
    frames: Length = 1
    card: NetworkCard
    state: dict[str, StateTensor] = {}
    events: dict[str, Any] | None = None

    def takes(self) -> dict[str, Tensor]:
        """The graph's inputs by name."""
        side = self.card.size
        if self.mode == "clip":
            return {CLIPS: ("float32", (self.batch, self.card.num_segments, 3, side, side))}
        return {FRAME: ("float32", (self.frames, 3, side, side)), **self._remembered(STATE_IN)}

    def gives(self) -> dict[str, Tensor]:
        """The graph's outputs by name."""
        count = self.batch if self.mode == "clip" else self.frames
        return {LOGITS: ("float32", (count, len(self.card.classes))), **self._remembered(STATE_OUT)}

    def _remembered(self, prefix: str) -> dict[str, Tensor]:
        return {prefix + name: (each.dtype, each.shape) for name, each in self.state.items()}

    @classmethod
    def parse(cls, text: str | None, path: Path) -> "ModelInfo":
        """The description in the file at ``path``, from its ``text``.

        Raises ``WeightsError`` for a file that dynagest did not export, one of another version, or a faulty one.
        """
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
    """Raise ``WeightsError`` unless ``path`` is a file with content, and an ``.xml`` has its ``.bin`` beside it."""
    if not path.is_file():
        raise WeightsError(f"{path}: there is no such file; `dynagest export RUN` makes one")
    for part in (path, path.with_suffix(".bin")) if path.suffix == ".xml" else (path,):
        if not part.is_file():
            raise WeightsError(f"{part}: is missing; an OpenVINO network is two files, keep them together")
        if part.stat().st_size == 0:
            raise WeightsError(f"{part}: the file is empty; copy it again, or export the network again")


def check_graph(info: ModelInfo, path: Path, takes: Mapping[str, Tensor], gives: Mapping[str, Tensor]) -> None:
    """Raise ``WeightsError`` unless the graph's inputs and outputs are exactly those that ``info`` says."""
    for verb, said, found in (("takes", info.takes(), takes), ("gives", info.gives(), gives)):
        for name in {**said, **found}:
            if said.get(name) != found.get(name):
                raise WeightsError(
                    f"{path}: what it says of itself is not of this network, which {verb} {name} as "
                    f"{_told(found.get(name))}, and not as {_told(said.get(name))}; export the network again"
                )


def _told(tensor: Tensor | None) -> str:
    """The type as text, such as ``float32 [any, 8, 3, 224, 224]``."""
    if tensor is None:
        return "nothing"
    kind, shape = tensor
    return f"{kind} [{', '.join('any' if length is None else str(length) for length in shape)}]"


def check_rgb(card: NetworkCard, where: str) -> None:
    """Raise ``WeightsError`` for a network that is fed depth, which only measures what depth can add at most."""
    if card.inputs != "rgb":
        raise WeightsError(
            f"{where}: this network wants {card.inputs!r} frames; only networks of RGB can be used or exported. "
            "Train one with inputs=rgb"
        )
