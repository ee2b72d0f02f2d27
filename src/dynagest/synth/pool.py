"""Renders many clips or streams on all cores, in processes that stop when this one ends or is interrupted."""

import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from itertools import repeat
from multiprocessing.synchronize import Event
from typing import TypeVar

from dynagest.clips.workers import start_worker, worker_context
from dynagest.machine import available_cores

_CHUNK = 8  # clips that a worker takes at a time
_MOST = 61  # Windows cannot wait for more processes of a pool

Progress = Callable[[int, int], None]
Key = TypeVar("Key")


def render_all(
    write: Callable[[Key], None],
    keys: Sequence[Key],
    total: int,
    progress: Progress | None = None,
    *,
    workers: int | None = None,
    chunk: int = _CHUNK,
) -> None:
    """Call ``write`` with each key, in ``workers`` processes (default: one a core) that take ``chunk`` keys at a time.

    ``total`` counts the keys that were done before this call, too. ``progress`` is called with (keys done, ``total``)
    once a key and all before it are done. An error of ``write`` stops the workers and is raised here.
    """
    done = total - len(keys)
    workers = min(workers or available_cores(), max(1, -(-len(keys) // chunk)), _MOST)
    if workers <= 1:
        for key in keys:
            write(key)
            done += 1
            if progress:
                progress(done, total)
        return
    context = worker_context(__name__)
    stop = context.Event()
    with ProcessPoolExecutor(workers, context, _start_worker, (stop,)) as pool:
        try:
            with _interrupts_wait():
                results = pool.map(_unless_stopped, repeat(write), keys, chunksize=chunk)
            for _ in results:
                done += 1
                if progress:
                    progress(done, total)
        except BaseException:
            stop.set()  # each worker stops after the clip that it is rendering, not after all that it has taken
            # This waits for the workers. Otherwise a worker that is still importing would find its queues closed.
            pool.shutdown(cancel_futures=True)
            raise


def stopping() -> bool:
    """Whether this process is a worker that has been told to stop. Tasks that take long ask this to stop early."""
    return _stop is not None and _stop.is_set()


@contextmanager
def _interrupts_wait() -> Iterator[None]:
    """Hold Ctrl-C back until the end of the block, and for ever in processes that are started in it.

    Ctrl-C reaches the whole process group, also workers that are still importing. On Windows it cannot be held back:
    these workers then end as well, but each prints a traceback.
    """
    if sys.platform == "win32":
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


_stop: Event | None = None  # in a worker: set when it is to take no further clip


def _start_worker(stop: Event) -> None:
    global _stop
    _stop = stop
    start_worker()  # holds Ctrl-C back, which an older fork server may not have done


def _unless_stopped(write: Callable[[Key], None], key: Key) -> None:
    if not stopping():
        write(key)
