"""The curves of a run, read from its ``log.jsonl`` (format: ``dynagest.training.log``)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from dynagest.run_folder import LOG_FILE
from dynagest.testing.figures import Series, line_chart
from dynagest.training.log import read_log

MOST_POINTS = 400  # points of a line; more cannot be told apart on paper and make the file large


@dataclass(frozen=True, slots=True)
class Chart:
    """A figure with the names of its lines, in the order of their colours."""

    title: str
    keys: tuple[str, ...]
    svg: Markup


@dataclass(frozen=True)
class History:
    """The lines of a log by kind. ``seconds`` is the time from the first line to the last, breaks included."""

    steps: tuple[dict[str, Any], ...]
    epochs: tuple[dict[str, Any], ...]
    notes: tuple[str, ...]
    seconds: float

    @classmethod
    def read(cls, run: Path) -> "History | None":
        """Read the history of a run folder; None when it has no log."""
        if not (run / LOG_FILE).exists():
            return None
        lines = read_log(run)
        return cls(
            steps=tuple(line for line in lines if line["event"] == "train"),
            epochs=tuple(line for line in lines if line["event"] == "epoch"),
            notes=tuple(str(line["text"]) for line in lines if line["event"] == "note"),
            seconds=lines[-1]["time"] - lines[0]["time"] if lines else 0.0,
        )

    @property
    def best_epoch(self) -> int | None:
        """The last epoch whose network was kept."""
        kept = [int(line["epoch"]) for line in self.epochs if line["best"]]
        return kept[-1] if kept else None

    def charts(self, chance: float | None) -> tuple[Chart, ...]:
        """Charts of accuracy, losses, the other terms and the learning rate, as far as the run has them."""
        found = (
            _chart(
                "Accuracy", self._epoch_lines("top1"), percent=True, reference=("chance", chance) if chance else None
            ),
            _chart(
                "Loss",  # validation is the second line, so that it has the second colour as in the other charts
                [
                    self._step_line("loss", "total"),
                    self._epoch_line("validation", "cross_entropy", "class, validation"),
                    self._step_line("cross_entropy", "class"),
                ],
            ),
            _chart(
                "Depth masks, squared error",
                [*self._epoch_lines("local", "local"), *self._epoch_lines("global", "global")],
            ),
            _chart("Depth network, class", self._epoch_lines("depth_cross_entropy")),
            _chart("Alignment of RGB and depth network", self._epoch_lines("alignment")),
            _chart("Hand mask, cross-entropy", self._epoch_lines("mask")),
            _chart("Learning rate", [self._step_line("lr", "learning rate")], log=self._rate_falls_in_steps()),
        )
        return tuple(chart for chart in found if chart is not None)

    def _epoch_lines(self, key: str, name: str = "") -> list[Series]:
        parts = {"train": "training", "validation": "validation"}
        return [self._epoch_line(part, key, f"{name}, {label}" if name else label) for part, label in parts.items()]

    def _epoch_line(self, part: str, key: str, name: str) -> Series:
        return _series(name, [(line, line[part] or {}) for line in self.epochs], key)

    def _step_line(self, key: str, name: str) -> Series:
        return _series(name, [(line, line) for line in self.steps], key)

    def _rate_falls_in_steps(self) -> bool:
        """Whether the rate falls in a few large steps, as the paper's does. A cosine reads better on a linear axis."""
        rates = {line["lr"] for line in self.steps if line["lr"]}
        return 1 < len(rates) <= 12 and max(rates) > 8 * min(rates)


def _series(name: str, lines: Sequence[tuple[dict[str, Any], dict[str, Any]]], key: str) -> Series:
    """The series of ``values[key]`` over the epoch, from pairs (line, values). Unknown values are left out.

    Above ``MOST_POINTS`` points, neighbours are averaged.
    """
    values = [(float(line["epoch"]), part.get(key)) for line, part in lines]
    points = [(x, float(y)) for x, y in values if y is not None and math.isfinite(y)]
    size = math.ceil(len(points) / MOST_POINTS) or 1
    groups = [points[start : start + size] for start in range(0, len(points), size)]
    return Series(
        name,
        [sum(x for x, _ in group) / len(group) for group in groups],
        [sum(y for _, y in group) / len(group) for group in groups],
    )


def _chart(title: str, lines: Sequence[Series], **options: Any) -> Chart | None:
    shown = [line for line in lines if line.x]
    if not shown:
        return None
    return Chart(title, tuple(line.name for line in shown), line_chart(title, shown, "epoch", **options))
