"""Writes scalars to TensorBoard's event files without TensorBoard's writer.

That writer works in its own thread, so that an error there is printed as a traceback and raised by some later call.
"""

import io
import socket
import time
from collections.abc import Sequence
from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event, SessionLog  # type: ignore[import-untyped]
from tensorboard.compat.proto.summary_pb2 import Summary  # type: ignore[import-untyped]
from tensorboard.summary.writer.record_writer import RecordWriter  # type: ignore[import-untyped]

from dynagest.run_folder import TENSORBOARD_FOLDER


class Board:
    """Appends to one event file, which is closed between writes. Raises ``OSError`` when it cannot be written."""

    def __init__(self, run_dir: Path, step: int) -> None:
        """Start a new file. TensorBoard then ignores whatever the run's older files have after ``step``."""
        self.path = run_dir / TENSORBOARD_FOLDER / f"events.out.tfevents.{time.time_ns()}.{socket.gethostname()}"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        start = Event(step=step + 1, session_log=SessionLog(status=SessionLog.START))
        self._append([Event(file_version="brain.Event:2"), start])

    def write(self, scalars: Sequence[tuple[str, float]], step: int) -> None:
        """Append (name, value) pairs of optimiser step ``step``."""
        values = [Summary.Value(tag=name, simple_value=value) for name, value in scalars]
        self._append([Event(step=step, summary=Summary(value=values))])

    def _append(self, events: Sequence[Event]) -> None:
        buffer = io.BytesIO()
        records = RecordWriter(buffer)
        for event in events:
            event.wall_time = time.time()
            records.write(event.SerializeToString())
        with self.path.open("ab") as file:
            file.write(buffer.getvalue())
