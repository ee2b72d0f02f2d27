"""The result of a test on streams: one frozen record, kept as ``stream_metrics.json`` beside the network."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from dynagest.atomic import write_together
from dynagest.fields import read_record
from dynagest.run_folder import STREAM_METRICS_FILE, STREAM_TIMELINE_FILE
from dynagest.stream.events import EventSettings
from dynagest.stream.metrics import GRACE, Recording, StreamSummary, false_activations, match, summarise
from dynagest.testing.evaluation import json_text
from dynagest.testing.timeline import timeline_file


@dataclass(frozen=True)
class StreamClass:
    """The result of one class: its true gestures, those recognised, and its false activations."""

    name: str
    gestures: int
    recognised: int
    false: int


class StreamEvaluation(BaseModel):
    """The result of a test on streams.

    ``fps``: frames per second that the network saw. ``tuned``: whether the settings come from ``dynagest tune``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    model: str
    fps: float
    data: str
    split: str
    classes: tuple[str, ...]
    settings: EventSettings
    tuned: bool
    grace: float = GRACE
    summary: StreamSummary
    per_class: tuple[StreamClass, ...]
    recordings: tuple[Recording, ...]

    @classmethod
    def of(
        cls,
        recordings: tuple[Recording, ...],
        classes: tuple[str, ...],
        *,
        model: str,
        fps: float,
        data: str,
        split: str,
        settings: EventSettings,
        tuned: bool,
    ) -> "StreamEvaluation":
        """Compute the result from the true and the found gestures of each recording."""
        true, right, wrong = Counter[str](), Counter[str](), Counter[str]()
        for one in recordings:
            true.update(span.label for span in one.truth)
            right.update(event.label for _, event in match(one.truth, one.found))
            wrong.update(false_activations(one.truth, one.found))
        return cls(
            model=model,
            fps=fps,
            data=data,
            split=split,
            classes=classes,
            settings=settings,
            tuned=tuned,
            summary=summarise(recordings),
            per_class=tuple(StreamClass(name, true[name], right[name], wrong[name]) for name in classes),
            recordings=recordings,
        )

    def write(self, folder: Path, prefix: str = "") -> tuple[Path, Path]:
        """Write ``stream_metrics.json`` and ``stream_timeline.svg`` into a folder, both or none; return their paths.

        ``prefix`` is put in front of their names. Raises ``RunError`` when they cannot be written.
        """
        metrics, timeline = (folder / f"{prefix}{name}" for name in (STREAM_METRICS_FILE, STREAM_TIMELINE_FILE))
        text = json_text(self.model_dump(mode="json"))
        write_together({metrics: text.encode(), timeline: timeline_file(self.recordings).encode()})
        return metrics, timeline

    @classmethod
    def read(cls, path: Path) -> "StreamEvaluation":
        """Read ``stream_metrics.json``. Raises ``RunError`` when it is missing or holds no stream metrics."""
        return read_record(cls, path, "stream metrics of this version", "`dynagest evaluate --stream` writes it")
