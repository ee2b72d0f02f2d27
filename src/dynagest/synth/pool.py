"""Renders many clips or streams on all cores, in processes that stop when this one ends or is interrupted."""

from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import repeat
from multiprocessing.synchronize import Event
from typing import TypeVar

from dynagest.clips.workers import SCRIPT_ADVICE, start_worker, worker_context
from dynagest.errors import RunError
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
    once a key and all before it are done. An error of ``write`` stops the workers and is raised here. Raises
    ``RunError`` when a worker is killed.
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
            for _ in pool.map(_unless_stopped, repeat(write), keys, chunksize=chunk):
                done += 1
                if progress:
                    progress(done, total)
        except BrokenProcessPool as error:  # the pool has ended the other workers, too
            raise RunError(
                f"workers: one of the {workers} that render was killed, as when memory runs out; use fewer workers and "
                f"run it again, which goes on from what is there. {SCRIPT_ADVICE}"
            ) from error
        except BaseException:
            stop.set()  # each worker stops after the clip that it is rendering, not after all that it has taken
            # This waits for the workers. Otherwise a worker that is still importing would find its queues closed.
            pool.shutdown(cancel_futures=True)
            raise


def stopping() -> bool:
    """Whether this process is a worker that has been told to stop. Tasks that take long ask this to stop early."""
    return _stop is not None and _stop.is_set()


_stop: Event | None = None  # in a worker: set when it is to take no further clip


def _start_worker(stop: Event) -> None:
    global _stop
    _stop = stop
    start_worker()


def _unless_stopped(write: Callable[[Key], None], key: Key) -> None:
    if not stopping():
        write(key)
