"""Renders many things on all cores, in processes that end with this one and leave off when it is interrupted."""

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
_MOST = 61  # processes of a pool that Windows can wait for

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
    """Call ``write`` with each key, in ``workers`` processes (default: a core each) that take ``chunk`` keys at a time.

    ``progress`` is called with (keys done, ``total``) once a key and all before it are done; of ``total``, the rest was
    done before.
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
            stop.set()  # each worker ends with the clip that it is at, not with all those it has taken
            # Waiting for the workers: without, the pool drops the queues that one still at its imports has to open.
            pool.shutdown(cancel_futures=True)
            raise


def stopping() -> bool:
    """Whether this process is a worker that is to end: what takes long leaves off."""
    return _stop is not None and _stop.is_set()


@contextmanager
def _interrupts_wait() -> Iterator[None]:
    """Hold Ctrl-C back until the end of the block, and for ever in the processes that are started in it.

    It goes to the whole process group, and would find the workers amid their imports. Windows has no such thing: there
    they end all the same, but show where they were.
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
    start_worker()  # a fork server of old may not have held Ctrl-C back


def _unless_stopped(write: Callable[[Key], None], key: Key) -> None:
    if not stopping():
        write(key)
