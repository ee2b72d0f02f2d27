"""Data workers that cannot hand over what they read, or die: a named error instead of waiting for ever."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from training_toys import ToyClips, start, toy_recipe

from dynagest.clips.workers import in_shared_memory, read_ahead
from dynagest.errors import TrainingError
from dynagest.training.checkpoint import read_checkpoint
from dynagest.training.data import TrainingData
from dynagest.training.folder import has_run
from dynagest.training.trainer import train

resource = pytest.importorskip("resource", reason="of POSIX, as SIGKILL is")


@dataclass
class DyingClips(ToyClips):
    """The worker that reads clip 5 in the second epoch is killed."""

    def __getitem__(self, key: tuple[int, int]):
        if key == (1, 5):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__getitem__(key)


@dataclass
class CrampedClips(ToyClips):
    """From the second epoch on, the worker can put no more than a few bytes anywhere, as with a full /dev/shm."""

    def __getitem__(self, key: tuple[int, int]):
        if key[0] == 1:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (64, resource.RLIM_INFINITY))
        return super().__getitem__(key)


@pytest.mark.parametrize(
    ("kind", "message"),
    [(DyingClips, "a data worker ended in mid-run.*--resume"), (CrampedClips, "/dev/shm is full.*--shm-size")],
)
def test_training_ends_with_a_named_error_and_can_be_resumed(tmp_path: Path, kind: type, message: str) -> None:
    recipe = toy_recipe(workers=1)
    with pytest.raises(TrainingError, match=message):
        train(recipe, TrainingData.of_sources(kind(12), None, "toy clips"), tmp_path)
    data = TrainingData.of_sources(ToyClips(12), None, "toy clips")
    assert train(recipe, data, tmp_path, resume=True).steps == 6


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for processes in Linux's /proc")
def test_workers_end_with_a_training_that_is_killed_alone(tmp_path: Path) -> None:
    """As by the kernel, for its memory: nobody tells its workers, whose parent is the fork server."""
    process = start(tmp_path, "--slow=0.1", "--clips=24", "--set", "workers=2", "checkpoint_steps=1")
    wait_until(lambda: has_run(tmp_path) and read_checkpoint(tmp_path).progress.step > 0)
    assert len(session(process.pid)) >= 4  # itself, the fork server, two workers
    process.kill()
    process.wait()
    try:
        wait_until(lambda: not session(process.pid))
    finally:
        for left in session(process.pid):
            os.kill(left, signal.SIGKILL)


def session(leader: int) -> list[int]:
    """The processes of a session that have not ended."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # ended meanwhile
            state, _, _, own = path.read_text().rpartition(")")[2].split()[:4]
            found += [int(path.parent.name)] if int(own) == leader and state != "Z" else []
    return found


def wait_until(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not what():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


@pytest.mark.parametrize(
    "error",
    [
        ConnectionResetError(104, "Connection reset by peer"),
        EOFError(),
        RuntimeError("DataLoader worker (pid(s) 11) exited unexpectedly"),
        RuntimeError("Pin memory thread exited unexpectedly"),  # of a GPU: the same, in a thread of its own
    ],
)
def test_a_worker_that_dies_while_it_hands_over_is_told_as_one(error: Exception) -> None:
    """It is a matter of luck at which moment a worker dies."""

    def loader() -> Iterator[int]:
        yield 1
        raise error

    first, last = read_ahead(loader())
    assert first == 1
    assert isinstance(last, TrainingError)
    assert "a data worker ended in mid-run" in str(last)
    assert "a script needs `if __name__ == '__main__':`" in str(last)


@pytest.mark.parametrize("kind", [EOFError, RuntimeError])
def test_what_a_living_worker_raises_is_not_hidden(kind: type[Exception]) -> None:
    def loader() -> Iterator[int]:
        yield 1
        raise kind(f"Caught {kind.__name__} in DataLoader worker process 0.")

    with pytest.raises(kind, match="Caught"):
        list(read_ahead(loader()))


def test_outside_a_worker_nothing_is_moved() -> None:
    tensor = torch.zeros(3)
    assert in_shared_memory(({"rgb": tensor}, [])) == ({"rgb": tensor}, [])
    assert not tensor.is_shared()


def test_ctrl_c_while_workers_start_reaches_only_the_main_process(tmp_path: Path) -> None:
    (tmp_path / "slow_start.py").write_text(
        "import pathlib, time\npathlib.Path(__file__).with_name('begun').touch()\ntime.sleep(2)\n"
    )
    script = (
        "import signal\nfrom dynagest.clips.workers import worker_context\n"
        "if __name__ == '__main__':\n"
        "    signal.signal(signal.SIGINT, lambda *_: print('told', flush=True))\n"
        "    process = worker_context('slow_start').Process(target=print, args=('worked',))\n"
        "    process.start()\n    process.join()\n"
    )
    (tmp_path / "main.py").write_text(script)
    paths = os.pathsep.join([str(tmp_path), *sys.path])
    with subprocess.Popen(
        [sys.executable, str(tmp_path / "main.py")],
        env={**os.environ, "PYTHONPATH": paths},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        wait_until((tmp_path / "begun").exists)
        os.killpg(process.pid, signal.SIGINT)
        told, errors = process.communicate()
    assert errors == ""
    assert told.split() == ["told", "worked"]
