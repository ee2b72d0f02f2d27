"""Runs the jobs that have no result yet, several at once, each in a process of its own.

The outcome of a job is one line of ``ledger.jsonl``. A job with a line is run again only if its network is gone and
still needed. Its line stays then: others that started from the first network, and differences that were taken from its
outcome, may be in a table already.

Each process locks its run folder, and the kernel drops the lock however the process ends, so that a killed
``reproduce`` leaves nothing behind but runs that the next one resumes.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from dynagest.atomic import write_atomically
from dynagest.errors import DivergedError, DynagestError, RunError
from dynagest.fields import field_faults
from dynagest.lock import locked
from dynagest.machine import available_cores, keep_freed_memory, torch_threads
from dynagest.processes import KILLED, PYTHON
from dynagest.reproduce.jobs import Job
from dynagest.run_folder import METRICS_FILE
from dynagest.training.interrupt import Interrupts, TrainingInterrupted

LEDGER_FILE, JOB_FILE, OUTPUT_FILE = "ledger.jsonl", "job.json", "output.txt"
_GOES_ON = "stopped; the same command goes on from where the runs stand"
# Exit codes of a job that was asked to stop: the first in training, the others while importing, rendering or testing.
STOPPED = (130, -signal.SIGINT, -signal.SIGTERM)


class Outcome(BaseModel):
    """The outcome of a job: ``top1`` in [0, 1] of ``clips`` test clips, or why it ``failed`` (a loss that diverged).

    ``unreadable`` counts the test clips beyond these, which could not be read, or lack depth that the network is fed;
    they do not count. ``seconds`` is the training time of all sittings. ``machine`` and ``revision`` (git; empty:
    unknown) say where and by which code.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: str
    name: str
    top1: float | None = Field(ge=0, le=1)  # which NaN is not either
    clips: int = 0
    unreadable: int = 0
    seconds: float = 0.0
    machine: str = ""
    revision: str = ""
    failed: str | None = None

    def __str__(self) -> str:
        if self.top1 is None:
            return f"{self.failed}"
        text = f"{100 * self.top1:.1f} % of {self.clips} clips, {self.seconds / 60:.1f} min"
        more = f"; {self.unreadable} more could not be read, or lack depth that is fed: see `dynagest data check`"
        return text + more if self.unreadable else text


class Ledger:
    """The file of the outcomes so far, one per line. It is replaced as a whole, so that a kill leaves no half of it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> dict[str, Outcome]:
        """All outcomes by key. Raises ``RunError`` for a file that is not a ledger."""
        if not self.path.exists():
            return {}
        try:
            lines = self.path.read_bytes().splitlines()
        except OSError as error:
            raise RunError(f"{self.path}: cannot be read ({error.strerror}); name another --ledger") from error
        outcomes = {}
        for number, line in enumerate(lines, start=1):
            if line.strip():
                outcome = self._outcome(number, line)
                outcomes[outcome.key] = outcome
        return outcomes

    def _outcome(self, number: int, line: bytes) -> Outcome:
        try:
            return Outcome.model_validate_json(line)
        except ValidationError as error:
            raise RunError(
                f"{self.path}: line {number} is no outcome ({field_faults(Outcome, error)}); remove that line, and its "
                "run is done again, or name another --ledger"
            ) from error

    def add(self, outcome: Outcome) -> None:
        """Add an outcome, unless the job has one; several processes may do so at once."""
        with self.held():
            outcomes = self.read()
            outcomes.setdefault(outcome.key, outcome)
            text = "".join(f"{each.model_dump_json()}\n" for each in outcomes.values())
            write_atomically(self.path, text.encode())

    def held(self) -> AbstractContextManager[None]:
        """A context that keeps other processes from writing. Raises ``RunError`` where the folder takes no files."""
        return locked(self.path.with_name(f".{self.path.name}.lock"))


def run_missing(
    jobs: Sequence[Job],
    root: Path,
    ledger: Ledger,
    *,
    parallel: int = 1,
    seconds: float | None = None,
    told: Callable[[str], None] = print,
    pictured: Sequence[Job] = (),
) -> list[str]:
    """Run every job without an outcome, in order, ``parallel`` at once. Returns what went wrong, a line each.

    A job waits for the job that it starts from (``after``). That one is run again if its network is gone, and so are
    the jobs in ``pictured``. After ``seconds`` no further job is started, and the running ones save their state and
    stop, to be resumed by the next call. SIGTERM does the same and then raises ``TrainingInterrupted``. ``told`` is
    called with each line of progress.
    """
    waiting, errors = missing(jobs, root, ledger, pictured), []
    known = ledger.read()
    working: dict[str, tuple[Job, subprocess.Popen[bytes]]] = {}
    began = time.monotonic()
    if waiting:
        with ledger.held():
            pass  # so that a ledger that cannot be written shows now, not when the first run has ended
    try:
        with Interrupts(signal.SIGTERM) as interrupts:
            while waiting or working:
                late = interrupts.requested or (seconds is not None and time.monotonic() - began >= seconds)
                while waiting and not late and len(working) < parallel and (job := _next(waiting, root)):
                    waiting.remove(job)
                    again = ", again for its network, which is gone: its outcome stays" if job.key in known else ""
                    told(f"start   {job.name}  ({len(waiting)} to go{again})")
                    working[job.key] = (job, _start(job, root, ledger, max(available_cores() // parallel, 1)))
                if late and not working:
                    break
                if not late and waiting and not working:
                    errors += [f"{job.name}: what it starts from, {job.after}, has left no network" for job in waiting]
                    break
                time.sleep(0.2)
                if late:
                    _end_all(working)
                for job, process in [pair for pair in working.values() if pair[1].poll() is not None]:
                    del working[job.key]
                    if process.returncode not in (0, *STOPPED):
                        errors.append(f"{job.name}: {_last_words(root, job, process.returncode)}")
                    told(_line(job, ledger.read().get(job.key), process.returncode))
    except KeyboardInterrupt:
        _wait_for_all(working)  # Ctrl-C has reached the whole process group, so the runs are saving their state
        told(_GOES_ON)
        raise
    except BaseException:
        _end_all(working)
        raise
    if interrupts.requested:
        told(_GOES_ON)
        raise TrainingInterrupted(_GOES_ON)
    return errors


def missing(jobs: Sequence[Job], root: Path, ledger: Ledger, pictured: Sequence[Job]) -> list[Job]:
    """The jobs to be run: those without an outcome, and those whose network is gone although another job or a picture
    needs it.

    A job that diverged never has a network, so it is not run again.
    """
    known, by_key = ledger.read(), {job.key: job for job in jobs}
    diverged = {key for key, outcome in known.items() if outcome.top1 is None}
    gone = {key for key in by_key.keys() - diverged if kept_network(root, key) is None}
    wanted = (by_key.keys() - known.keys()) | (gone & {job.key for job in pictured})
    wanted |= gone & {by_key[key].after for key in wanted}
    return [job for key, job in by_key.items() if key in wanted]


def kept_network(root: Path, key: str) -> Path | None:
    """The run folder of the job with this key, if the job is done and its folder is on this machine."""
    return next((path.parent for path in root.glob(f"runs/*-{key}/{METRICS_FILE}")), None)


def _next(waiting: Sequence[Job], root: Path) -> Job | None:
    """The first job that can start, because it needs no other network or that network exists; None if there is none."""
    return next((job for job in waiting if job.after is None or kept_network(root, job.after)), None)


def _start(job: Job, root: Path, ledger: Ledger, threads: int) -> "subprocess.Popen[bytes]":
    folder = root / "runs" / job.name
    write_atomically(folder / JOB_FILE, job.model_dump_json(indent=1).encode())
    # Each run gets a share of the cores: otherwise they would wait for one another's threads. OpenMP reads this once.
    threads_each = {"OMP_NUM_THREADS": str(threads), "OPENBLAS_NUM_THREADS": str(threads)}
    command = [*PYTHON, "-m", "dynagest.reproduce.runner", str(root), job.name, str(ledger.path)]
    with (folder / OUTPUT_FILE).open("ab") as output:
        return subprocess.Popen(command, env=os.environ | threads_each, stdout=output, stderr=subprocess.STDOUT)


def _end_all(working: Mapping[str, "tuple[Job, subprocess.Popen[bytes]]"]) -> None:
    """Ask the runs to save their state and stop, and wait for them."""
    for _, process in working.values():
        process.terminate()  # not SIGINT, which processes ignore that a shell started in the background
    _wait_for_all(working)


def _wait_for_all(working: Mapping[str, "tuple[Job, subprocess.Popen[bytes]]"]) -> None:
    for _, process in working.values():
        process.wait()


def _last_words(root: Path, job: Job, code: int) -> str:
    path = root / "runs" / job.name / OUTPUT_FILE
    if code < 0:  # a signal ended it, so its last line is older and does not say why
        memory = ", as when memory runs out" if code == KILLED else ""
        return f"{signal.strsignal(-code)} from outside{memory}; the same command goes on with it (see {path})"
    lines = path.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return f"{lines[-1] if lines else 'ended without a word'} (see {path})"


def _line(job: Job, outcome: Outcome | None, code: int) -> str:
    if code or outcome is None:
        return f"stopped {job.name}" if code in STOPPED else f"failed  {job.name}"
    return f"{'failed' if outcome.top1 is None else 'done'}".ljust(8) + f"{job.name}: {outcome}"


def run_job(job: Job, root: Path, ledger: Ledger) -> None:
    """Train (or resume training), test, and add the outcome to the ledger. Waits for another process with this job.

    Raises ``RunError`` when the run that it starts from is missing, and what training and testing raise.
    """
    # Slow to import, and not needed by the process that only starts the runs.
    from dynagest.networks.weights import load_network
    from dynagest.testing.evaluate import evaluate
    from dynagest.training.data import choose_workers
    from dynagest.training.environment import code_revision
    from dynagest.training.folder import has_run, read_recipe
    from dynagest.training.trainer import train

    folder = root / "runs" / job.name
    with locked(folder / ".lock"), torch_threads(job.recipe.threads):  # those of the test, too
        known = ledger.read().get(job.key)
        if known is not None and (known.top1 is None or (folder / METRICS_FILE).exists()):
            return
        footage = root / "footage"
        init: Path | str | None = kept_network(root, job.after) if job.after else None
        if job.after and init is None:
            raise RunError(f"{folder}: starts from run {job.after}, which is not there")
        if resume := has_run(folder):  # with the path that it began with; the key vouches for the same weights
            init = read_recipe(folder).init
        outcome = Outcome(key=job.key, name=job.name, top1=None, machine=_machine(), revision=code_revision() or "")
        try:
            # A function, because each stage may have its own view of the clips.
            summary = train(
                job.recipe,
                lambda recipe: job.data.training(recipe, footage),
                folder,
                init=init,
                resume=resume,
            )
        except DivergedError as error:
            ledger.add(outcome.model_copy(update={"failed": str(error)}))
            return
        net, card = load_network(folder)
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        tested = evaluate(
            net,
            card,
            job.data.testing(job.recipe, footage),
            protocol=job.protocol,
            split=job.data.split,
            batch=32,
            workers=choose_workers(job.recipe, device, 1)[0],
            device=device,
        )
        tested.write(folder / METRICS_FILE)
        found = {"top1": tested.summary.top1, "clips": tested.summary.clips, "unreadable": len(tested.unreadable)}
        ledger.add(outcome.model_copy(update={**found, "seconds": round(summary.seconds, 1)}))


def _machine() -> str:
    from dynagest.training.environment import processor

    if torch.cuda.is_available():
        return str(torch.cuda.get_device_name())
    cores = f"{torch.get_num_threads()} of {available_cores()} CPU cores"
    return f"{cores} ({name})" if (name := processor()) else cores


def main(arguments: Sequence[str]) -> int:
    """The entry point of a job's own process. Returns the exit code."""
    root, name, ledger = Path(arguments[0]), arguments[1], Ledger(Path(arguments[2]))
    keep_freed_memory()
    try:
        run_job(Job.model_validate_json((root / "runs" / name / JOB_FILE).read_bytes()), root, ledger)
    except KeyboardInterrupt:
        return 130
    except DynagestError as error:
        print(error, flush=True)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
