"""The result of a test: one frozen record, kept as ``metrics.json`` beside the network."""

import json
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, PlainValidator, TypeAdapter

from dynagest.atomic import write_atomically
from dynagest.clips.labelled import UnreadableClip
from dynagest.errors import RunError
from dynagest.fields import read_record
from dynagest.testing.metrics import (
    ClassResult,
    Confusion,
    Summary,
    confusion_matrix,
    per_class,
    ranks,
    summarise,
    top_confusions,
)

_UPPER_BOUND = "an upper bound, not for use"  # said of every network that is fed depth when it is tested
SEEN = {"rgb": "RGB alone", "rgbd": f"RGB and depth ({_UPPER_BOUND})", "depth": f"depth alone ({_UPPER_BOUND})"}


@dataclass(frozen=True, slots=True)
class ClipResult:
    """One scored clip. ``index`` is its place in the tested split, ``rank`` that of the true class (0 = recognised)."""

    index: int
    file: str
    label: str
    predicted: str
    score: float
    rank: int

    @property
    def correct(self) -> bool:
        return self.rank == 0


@dataclass(frozen=True, slots=True)
class Conditions:
    """What was tested and how, in enough detail to run the test again and get the same numbers.

    ``size`` is the side of a view in pixels, ``views`` the number of views per clip, ``seconds`` the wall time,
    ``inputs`` what the network is fed: "rgb", "rgbd" or "depth".
    """

    model: str
    data: str
    split: str
    protocol: str
    seed: int
    segments: int
    size: int
    views: int
    device: str
    dtype: str
    seconds: float
    inputs: str = "rgb"

    @property
    def seen(self) -> str:
        """What the network was fed, in words."""
        return SEEN[self.inputs]


_ROWS = TypeAdapter(tuple[tuple[int, ...], ...])


def _matrix(rows: Any) -> np.ndarray:
    return rows if isinstance(rows, np.ndarray) else np.array(_ROWS.validate_python(rows), dtype=np.int64)


class Evaluation(BaseModel):
    """The result of ``evaluate``, and the shape of ``metrics.json``.

    ``complete``: whether every clip of the split was scored; a command that prints an incomplete test exits non-zero.
    ``confusion`` is (K, K) int64, rows true, columns predicted, in the order of ``classes``. ``scores`` is (N, K)
    float64, a row for each of ``clips``; it is None in a record that was read from JSON.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    format: Literal[1] = 1
    complete: bool
    conditions: Conditions
    summary: Summary
    classes: tuple[str, ...]
    per_class: tuple[ClassResult, ...]
    unreadable: tuple[UnreadableClip, ...]
    confusion: Annotated[np.ndarray, PlainValidator(_matrix), PlainSerializer(np.ndarray.tolist)]
    clips: tuple[ClipResult, ...]
    scores: np.ndarray | None = Field(default=None, exclude=True)

    def top_confusions(self, limit: int = 20) -> tuple[Confusion, ...]:
        """The ``limit`` most frequent mistakes."""
        return top_confusions(self.confusion, self.classes, limit)

    @classmethod
    def from_scores(
        cls,
        conditions: Conditions,
        classes: tuple[str, ...],
        scores: np.ndarray,
        labels: np.ndarray,
        files: list[tuple[int, str]],
        unreadable: tuple[UnreadableClip, ...],
    ) -> "Evaluation":
        """The result from (N, K) scores, (N,) labels, and the N clips' indices and names. N >= 1."""
        predicted = scores.argmax(axis=1)
        place = ranks(scores, labels)
        confusion = confusion_matrix(predicted, labels, len(classes))
        clips = tuple(
            ClipResult(
                index=index,
                file=file,
                label=classes[labels[row]],
                predicted=classes[predicted[row]],
                score=float(scores[row, predicted[row]]),
                rank=int(place[row]),
            )
            for row, (index, file) in enumerate(files)
        )
        return cls(
            complete=not unreadable,
            conditions=conditions,
            summary=summarise(scores, labels),
            classes=classes,
            per_class=per_class(confusion, classes),
            unreadable=unreadable,
            confusion=confusion,
            clips=clips,
            scores=scores,
        )

    def write(self, path: Path | str) -> Path:
        """Write ``metrics.json`` atomically, without the scores themselves, and return ``path``.

        Raises ``RunError`` when it cannot be written; an older file then stays as it was.
        """
        path = Path(path)
        write_atomically(path, json_text(self.model_dump(mode="json")).encode())
        return path

    def write_scores(self, path: Path | str) -> Path:
        """Write every clip's scores atomically as NumPy's ``.npz``, and return ``path``.

        Arrays: ``scores`` (N, K) float64, each row of sum 1; ``labels`` (N,) int64; ``classes`` (K,), ``files`` (N,)
        and ``indices`` (N,), a clip's place in the tested split. Raises ``RunError`` when it cannot be written, and
        when the scores are not here (a record that was read).
        """
        path = Path(path)
        if self.scores is None:
            raise RunError(f"{path}: metrics.json does not keep the clips' scores; evaluate again")
        place = {name: index for index, name in enumerate(self.classes)}
        content = BytesIO()
        np.savez_compressed(
            content,
            scores=self.scores,
            labels=np.array([place[clip.label] for clip in self.clips]),
            classes=np.array(self.classes),
            files=np.array([clip.file for clip in self.clips]),
            indices=np.array([clip.index for clip in self.clips]),
        )
        write_atomically(path, content.getvalue())
        return path

    @classmethod
    def read(cls, path: Path | str) -> "Evaluation":
        """Read ``metrics.json``. Raises ``RunError`` when it is missing or is not a metrics file."""
        return read_record(cls, Path(path), "a metrics file of this version", "`dynagest evaluate` writes it")


def json_text(record: dict[str, Any]) -> str:
    """JSON with one clip, class or matrix row per line: readable, and a fifth of the size of indented text."""

    def text(value: Any) -> str:
        if isinstance(value, list) and value and isinstance(value[0], list | dict):
            return "[\n  " + ",\n  ".join(json.dumps(item, ensure_ascii=False) for item in value) + "\n ]"
        return json.dumps(value, ensure_ascii=False)

    return "{\n" + ",\n".join(f' "{name}": {text(value)}' for name, value in record.items()) + "\n}\n"
