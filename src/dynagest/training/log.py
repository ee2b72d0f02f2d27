"""What a run writes down as it goes: ``log.jsonl`` and TensorBoard.

A line of ``log.jsonl`` is one JSON object with ``event``, ``time`` (seconds since 1970) and ``step`` (optimiser steps
done):

* ``train``: the mean over the last ``log_steps`` steps: ``epoch`` (1-based, fraction), ``loss``, ``cross_entropy``,
  ``local``, ``global`` (unweighted squared errors, null without that decoder), ``top1`` (0 to 1), ``lr``, ``grad_norm``
  (before clipping), ``clips_per_second``
* ``epoch``: at the end of epoch ``epoch`` (1-based): ``train`` and ``validation`` (null if there is none), each an
  object with ``loss``, ``cross_entropy``, ``local``, ``global``, ``top1``, ``clips``; and ``best`` (whether the network
  was kept)
* ``note``: ``text``, anything else that happened
"""

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dynagest.atomic import write_atomically
from dynagest.errors import RunError

LOG_FILE = "log.jsonl"
TENSORBOARD_FOLDER = "tensorboard"


class RunLog:
    """Appends to a run's logs.

    Lines after ``step`` are dropped first: those steps are about to be repeated.
    """

    def __init__(self, run_dir: Path, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.path = run_dir / LOG_FILE
        if self.path.exists():
            kept = [line for line in read_log(run_dir) if line["step"] <= step]
            write_atomically(self.path, "".join(json.dumps(line) + "\n" for line in kept).encode())
        self._board = SummaryWriter(str(run_dir / TENSORBOARD_FOLDER), purge_step=step)

    def write(self, event: str, step: int, **values: Any) -> None:
        """Append one line. Raises ``RunError`` when it cannot be written."""
        line = json.dumps({"event": event, "time": round(time.time(), 3), "step": step, **values})
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(line + "\n")
        except OSError as error:
            raise RunError(
                f"{self.path}: cannot be written ({error.strerror}); the last checkpoint is whole"
            ) from error
        for name, value in _scalars(values):
            self._board.add_scalar(f"{event}/{name}", value, step)

    def close(self) -> None:
        """Flush what TensorBoard's writer still holds."""
        self._board.close()


def read_log(run_dir: Path) -> list[dict[str, Any]]:
    """The lines of a run's log; a last line that a killed run left unfinished is not one of them."""
    lines = []
    for text in (run_dir / LOG_FILE).read_text(encoding="utf-8").splitlines():
        try:
            lines.append(json.loads(text))
        except json.JSONDecodeError:
            continue
    return lines


def _scalars(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, float]]:
    found: list[tuple[str, float]] = []
    for name, value in values.items():
        if isinstance(value, Mapping):
            found += _scalars(value, f"{prefix}{name}/")
        elif isinstance(value, int | float):
            found.append((f"{prefix}{name}", float(value)))
    return found
