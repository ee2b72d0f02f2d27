"""Writes the log of a run, as ``log.jsonl`` and for TensorBoard.

A line of ``log.jsonl`` is one JSON object with ``event``, ``time`` (seconds since 1970) and ``step`` (optimiser steps
done). The events are:

* ``train``, every ``log_steps`` steps and at the end of an epoch. Over the clips since the last such line: the mean
  ``loss``, its terms (unweighted, null where the run does not have one), ``top1`` (0 to 1), ``clips_per_second``. Of
  the last step: ``epoch`` (epochs done, as a fraction), ``lr``, ``grad_norm`` (before clipping)
* ``epoch``, at the end of epoch ``epoch`` (1-based): ``train`` and ``validation`` (null if there is none), each an
  object with ``loss``, its terms, ``top1`` and ``clips``; and ``best`` (whether the network was kept)
* ``note``, for anything else that happened: ``text``

The terms are ``cross_entropy``, ``local`` and ``global`` (squared errors of the depth masks); with other tasks
``cross_entropy``, ``depth_cross_entropy`` and ``alignment``, or ``cross_entropy`` and ``mask``.
"""

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dynagest.atomic import write_atomically
from dynagest.errors import RunError
from dynagest.fields import parse_json
from dynagest.run_folder import LOG_FILE

# What every line has, and what a line of an event has besides.
_NAMES = frozenset({"event", "time", "step"})
_NAMES_OF = {"train": {"epoch", "lr"}, "epoch": {"epoch", "train", "validation", "best"}, "note": {"text"}}


class RunLog:
    """Appends to a run's logs. Nothing is buffered, so there is nothing to close.

    Lines after ``step`` are dropped first, because those steps are about to be repeated. Raises ``RunError`` when the
    logs cannot be written.
    """

    def __init__(self, run_dir: Path, step: int) -> None:
        # TensorBoard is slow to import, and reading a log does not need it.
        from dynagest.training.tensorboard import Board

        self.path = run_dir / LOG_FILE
        if self.path.exists():
            kept = [line for line in read_log(run_dir) if line["step"] <= step]
            write_atomically(self.path, "".join(json.dumps(line) + "\n" for line in kept).encode())
        try:
            self._board = Board(run_dir, step)
        except OSError as error:
            raise RunError(f"{error.filename or run_dir}: cannot be written ({error.strerror})") from error

    def write(self, event: str, step: int, **values: Any) -> None:
        """Append one line. Raises ``RunError`` when it cannot be written."""
        line = json.dumps({"event": event, "time": round(time.time(), 3), "step": step, **values})
        path = self.path
        try:
            with path.open("a", encoding="utf-8") as file:
                file.write(line + "\n")
            path = self._board.path
            scalars = [(f"{event}/{name}", value) for name, value in _scalars(values)]
            if scalars:
                self._board.write(scalars, step)
        except OSError as error:
            raise RunError(f"{path}: cannot be written ({error.strerror}); make room there") from error


def read_log(run_dir: Path) -> list[dict[str, Any]]:
    """The lines of a run's log, without a line that a killed run left unfinished, or that is damaged."""
    lines = []
    for text in (run_dir / LOG_FILE).read_bytes().splitlines():
        try:
            line = parse_json(text)
        except ValueError:
            continue
        if isinstance(line, dict) and line.keys() >= _NAMES | _NAMES_OF.get(str(line.get("event")), set()):
            lines.append(line)
    return lines


def _scalars(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, float]]:
    found: list[tuple[str, float]] = []
    for name, value in values.items():
        if isinstance(value, Mapping):
            found += _scalars(value, f"{prefix}{name}/")
        elif isinstance(value, int | float):
            found.append((f"{prefix}{name}", float(value)))
    return found
