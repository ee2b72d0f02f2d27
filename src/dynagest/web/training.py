"""Trains a network on the recorded clips, one training at a time, and exports it for the page. Needs no torch itself.

The work is done by the commands that a user would type, in processes of their own: `dynagest data depth` if there is a
teacher, then `dynagest train webcam`, then `dynagest export`. So the server stays small, and cancelling cannot harm it.
"""

import json
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from http import HTTPStatus
from pathlib import Path
from typing import Any, Literal

from dynagest.card import NetworkCard
from dynagest.clips.gesture_folder import count_clips, gestures
from dynagest.errors import DynagestError, RunError
from dynagest.fields import parse_json
from dynagest.processes import KILLED, PYTHON, interrupt, kill, last_words
from dynagest.run_folder import CARD_FILE, RECIPE_FILE
from dynagest.training.log import read_log
from dynagest.training.recipes import get_recipe
from dynagest.web.clips import ClipFolder
from dynagest.web.guard import RequestError
from dynagest.web.model import export_command

FEWEST_CLIPS = 2  # per gesture
PATIENCE = 10.0  # seconds that a cancelled command gets to stop by itself
_COMMAND = (*PYTHON, "-m", "dynagest")
_LOOKING = "Looking for depth"
_WITHOUT = "without depth: "  # how `dynagest data depth` reports clips that got none
_LOOKED, _LEARNED = 0.3, 0.8  # the progress once there is depth, and once the network is trained (LEARNED in teach.js)
_TELLING = 0.1  # of the progress, after which the time left is estimated from its pace

State = Literal["idle", "running", "done", "failed", "cancelled"]


@dataclass(frozen=True, slots=True)
class Status:
    """The status of the training.

    ``stage`` says in words, for the page, what is being done. ``progress`` is in [0, 1]. ``epoch``, from 1 to
    ``epochs``, is 0 before the first. ``top1`` in [0, 1] is the accuracy on the training clips. ``left`` are the
    seconds to go, once they can be estimated. ``note`` tells what went wrong without ending the training, ``message``
    how it ended.
    """

    state: State = "idle"
    stage: str = ""
    progress: float = 0.0
    epoch: int = 0
    epochs: int = 0
    top1: float | None = None
    left: float | None = None
    note: str = ""
    message: str = ""


class Training:
    """Trains on ``clips``, from the weights in the run folder ``init``, in a new folder under ``runs`` each time.

    ``adopt`` is called with the exported file after a success. ``epochs`` overrides the recipe's. ``teacher`` is a
    depth model (ONNX): it first gives depth to the clips, which depth decoders then learn along with the network.
    """

    def __init__(
        self,
        clips: ClipFolder,
        init: Path | None,
        runs: Path,
        adopt: Callable[[Path], None],
        epochs: int | None = None,
        teacher: Path | None = None,
    ) -> None:
        self.clips, self.init, self.runs, self.adopt, self.epochs = clips, init, runs, adopt, epochs
        self.teacher = teacher
        self._lock = threading.Lock()
        self._status, self._learning = Status(), 0.0
        self._process: subprocess.Popen[str] | None = None
        self._thread: threading.Thread | None = None
        self._cancelled = threading.Event()
        self._run: Path | None = None

    def status(self) -> dict[str, Any]:
        """The status as plain JSON values."""
        with self._lock:
            status, run, learning = self._status, self._run, self._learning
        if status.state != "running":
            return asdict(status)
        if run is not None:
            begun, status = status.progress, _with_progress(status, run)
            if (gone := status.progress - begun) > _TELLING:
                taken = time.monotonic() - learning
                status = replace(status, left=round(taken * (1 - status.progress) / gone, 1))
        elif status.stage == _LOOKING:
            done, clips = self.clips.count_depth()
            stage = f"{_LOOKING}: {done} of {clips} clips"
            status = replace(status, stage=stage, progress=_LOOKED * done / max(clips, 1))
        return asdict(status)

    def start(self) -> None:
        """Start a training.

        Raises ``RequestError`` 409 when one is running, there are no weights to start from, there are fewer than two
        gestures, a gesture has fewer than ``FEWEST_CLIPS`` clips, or the card or the manifest cannot be read.
        """
        if self.init is None:
            raise RequestError(
                HTTPStatus.CONFLICT, "this server has no weights to start from; start it with --init RUN (a run folder)"
            )
        folder = self.clips.folder
        counts = {name: count for name in gestures(folder) if (count := count_clips(folder, name))}
        few = [name for name, count in counts.items() if count < FEWEST_CLIPS]
        if len(counts) < 2 or few:
            what = f"{', '.join(few)} {'has' if len(few) == 1 else 'have'} fewer" if few else f"there is {len(counts)}"
            raise RequestError(
                HTTPStatus.CONFLICT,
                f"two gestures or more are needed, each with {FEWEST_CLIPS} clips or more; {what}",
            )
        try:
            card = NetworkCard.read(self.init / CARD_FILE)
            self.clips.refresh()
        except DynagestError as error:
            raise RequestError(HTTPStatus.CONFLICT, str(error)) from None
        with self._lock:
            if self._status.state == "running":
                raise RequestError(HTTPStatus.CONFLICT, "a training is running already; wait for it, or cancel it")
            self._status, self._run = Status("running", "Getting ready"), None
            self._cancelled.clear()
        self._thread = threading.Thread(target=self._go, args=(self.init, card), name="training", daemon=True)
        self._thread.start()

    def cancel(self) -> None:
        """Cancel the running training. Raises ``RequestError`` 409 when none is running."""
        with self._lock:
            if self._status.state != "running":
                raise RequestError(HTTPStatus.CONFLICT, "no training is running")
            self._cancelled.set()
            process = self._process
        if process is not None:
            interrupt(process)

    def close(self) -> None:
        """Cancel a running training, and wait for its end, ``PATIENCE`` + 5 seconds at most; for the server's end."""
        with suppress(RequestError):  # nothing is running
            self.cancel()
        if self._thread is not None:
            self._thread.join(PATIENCE + 5)

    def _go(self, init: Path, card: NetworkCard) -> None:
        settings = _settings(card) | (_length(self.epochs) if self.epochs else {})
        if self.teacher is not None:
            settings["msd"] = "both"
        chosen = [part for name, value in settings.items() for part in ("--set", f"{name}={value}")]
        train = ["train", "webcam", "--data", str(self.clips.folder), "--init", str(init)]
        try:
            if self.teacher is not None:
                self._look_for_depth(self.teacher)
            run = _new_folder(self.runs)
            export, exported = export_command(run, card)
            with self._lock:
                self._run, self._learning = run, time.monotonic()
            self._do("Learning", [*_COMMAND, *train, "--out", str(run), *chosen])
            self._do("Making it run in the browser", export)
            self.adopt(exported)
            self._end("done", message=f"The new network lies in {run}", progress=1.0)
        except _Stopped:
            self._end("cancelled", message="Cancelled; the network is the one before")
        except DynagestError as error:
            self._end("failed", message=str(error))
        except Exception as error:
            self._end("failed", message=f"{type(error).__name__}: {error}")
            raise

    def _look_for_depth(self, teacher: Path) -> None:
        """Give depth to the clips that have none. Raises ``DynagestError`` when no clip has depth afterwards."""
        command = [*_COMMAND, "data", "depth", str(self.clips.folder), "--teacher", str(teacher)]
        words = self._do(_LOOKING, command, unless=_WITHOUT)
        manifest = self.clips.list_depth()
        without = sum(clip.depth is None for clip in manifest.clips)
        fault = words.partition(_WITHOUT)[2].partition("\n")[0]
        if without == len(manifest):
            raise DynagestError(f"no clip got depth from {teacher.name}: {fault}")
        note = f"{without} of {len(manifest)} clips taught without depth: {fault}" if fault else ""
        with self._lock:
            self._status = replace(self._status, progress=_LOOKED, note=note)

    def _do(self, stage: str, command: Sequence[str], unless: str = "") -> str:
        """Run a command to its end, and return the last 4000 characters of its output.

        Raises ``DynagestError`` with its error message when it fails, except when the output contains ``unless``, by
        which the command says that only a part of its work failed. Raises ``_Stopped`` when the training is cancelled.
        """
        with self._lock:
            if self._cancelled.is_set():
                raise _Stopped
            self._status = replace(self._status, stage=stage)
            # In a group of its own: Ctrl-C at the terminal reaches only the server, which then ends this process.
            self._process = process = subprocess.Popen(
                command,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                encoding="utf-8",
                errors="replace",
                start_new_session=True,
            )
        watch = threading.Thread(target=self._kill_when_cancelled, args=(process,), daemon=True)
        watch.start()
        assert process.stdout is not None
        tail = ""
        with process.stdout as output:
            for line in output:
                tail = (tail + line)[-4000:]
        code = process.wait()
        with self._lock:
            self._process = None
        if self._cancelled.is_set():
            raise _Stopped
        if code < 0:  # a signal ended it, so it printed no error
            memory = ", as when memory runs out; close other programs and try again" if code == KILLED else ""
            raise DynagestError(f"{stage}: {signal.strsignal(-code)} from outside{memory}")
        if code and not (unless and unless in tail):
            raise DynagestError(last_words(tail) or f"{stage}: ended with code {code}")
        return tail

    def _kill_when_cancelled(self, process: "subprocess.Popen[str]") -> None:
        while process.poll() is None:
            if self._cancelled.wait(0.5):
                try:
                    process.wait(PATIENCE)
                except subprocess.TimeoutExpired:
                    kill(process)
                return

    def _end(self, state: State, **values: Any) -> None:
        with self._lock:
            status = _with_progress(self._status, self._run) if self._run is not None else self._status
            self._status = replace(status, state=state, stage="", **values)


class _Stopped(Exception):
    pass


def _with_progress(status: Status, run: Path) -> Status:
    """Add what the run's log says. Training leads from ``status.progress`` to ``_LEARNED``; the rest is the export."""
    try:
        epochs = int(parse_json((run / RECIPE_FILE).read_text(encoding="utf-8"))["epochs"])
        lines = read_log(run)
    except (OSError, ValueError, KeyError):
        return status  # recipe or log is not there yet
    train = [line for line in lines if line["event"] == "train"]
    ended = [line for line in lines if line["event"] == "epoch"]
    if not train:
        return replace(status, epochs=epochs)
    at = float(train[-1]["epoch"])
    top1 = ended[-1]["train"]["top1"] if ended else train[-1]["top1"]
    progress = status.progress + (_LEARNED - status.progress) * at / epochs
    return replace(status, epochs=epochs, epoch=min(int(at) + 1, epochs), top1=top1, progress=progress)


def _settings(card: NetworkCard) -> dict[str, str]:
    """The fields of the recipe that must equal those of the network from which the training starts."""
    fields = ("model", "width", "size", "num_segments", "sampling", "stride")
    settings = {name: str(getattr(card, name)) for name in fields}
    if card.options:
        settings["options"] = json.dumps(card.options)
    if card.options.get("online"):
        settings["chained"] = "true"
    return settings


def _length(epochs: int) -> dict[str, str]:
    """The fields of the recipe that say how long it trains; the learning rate rises over half of it at most."""
    rise = min(get_recipe("webcam").warmup_epochs, epochs / 2)
    return {"epochs": str(epochs), "warmup_epochs": str(rise)}


def _new_folder(runs: Path) -> Path:
    """Make a folder for this training alone, even if another server starts one in the same second."""
    stamp = time.strftime("taught-%Y%m%d-%H%M%S")
    run, number = runs / stamp, 1
    while True:
        try:
            run.mkdir(parents=True)
            return run
        except FileExistsError:
            number += 1
            run = runs / f"{stamp}-{number}"
        except OSError as error:
            raise RunError(f"{runs}: cannot be written ({error.strerror}); start with another --runs") from error
