"""Worker processes that read and render clips: how they start, hand over clips, and fail."""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from multiprocessing import get_all_start_methods, get_context, parent_process
from multiprocessing.context import BaseContext
from typing import Generic, TypeVar

import cv2
import torch
from torch.utils.data import DataLoader, Dataset, get_worker_info

from dynagest.errors import DynagestError, TrainingError, first_line

K = TypeVar("K")
T = TypeVar("T")

_SHM_ADVICE = (
    "give it more room (in Docker --shm-size=2g), read with fewer workers or a smaller batch, or set workers to 0"
)
SCRIPT_ADVICE = (
    "If it ended at once: a script needs `if __name__ == '__main__':` around what it does, for workers import it anew"
)


def worker_context(preload: str) -> BaseContext:
    """The multiprocessing context that starts workers: a fork server, or "spawn" on Windows, which has none.

    The fork server imports the module ``preload`` once for all workers. Workers are not forked from this process,
    because a child that is forked while torch's, OpenMP's or TensorBoard's threads hold a lock waits for ever; the fork
    server has no such threads. It ends with the last of its workers, which ``start_worker`` ends with this process.

    Ctrl-C reaches the whole process group, but not the fork server and its workers, not even while they import: the
    server is started here with SIGINT blocked, which they inherit. On Windows a worker that is still importing ends
    with a traceback.
    """
    if sys.platform == "win32" or "forkserver" not in get_all_start_methods():
        return get_context("spawn")
    from multiprocessing import forkserver, resource_tracker  # not to be had on Windows

    context = get_context("forkserver")
    context.set_forkserver_preload([preload])
    resource_tracker.ensure_running()  # first, because its start ends with SIGINT unblocked
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return context


def start_worker(_: int = 0) -> None:
    """Set up this worker process: signals, threads, and that it ends with the main process.

    Also fits ``DataLoader(worker_init_fn=)``.
    """
    # Ctrl-C reaches all processes of the group; the main process finishes its step and then ends the workers itself.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # One process per core is enough; OpenCV's and torch's own threads would only compete for the cores.
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End this worker when the main process ends.

    A worker would not notice by itself that the main process was killed, because its parent is the fork server.
    """
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def open_loader(
    read: Callable[[K], T], keys: Iterable[K], workers: int, *, prefetch: int = 2, pin: bool = False
) -> DataLoader[T | DynagestError]:
    """A loader of ``read(key)`` for each key, or the named error that it raised; ``read_ahead`` iterates over it.

    The workers live as long as the loader. ``prefetch``: how many items each of them reads ahead.
    """
    return DataLoader(
        _Caught(read),
        batch_size=None,
        sampler=keys,
        collate_fn=in_shared_memory,
        num_workers=workers,
        multiprocessing_context=worker_context("dynagest.clips.dataset") if workers else None,
        persistent_workers=workers > 0,
        prefetch_factor=prefetch if workers else None,
        pin_memory=pin,
        worker_init_fn=start_worker,
        generator=torch.Generator(),  # its own, because the default would draw from torch's global generator
    )


class _Caught(Dataset[T | DynagestError], Generic[K, T]):
    """What ``read`` returns, or its named error as a value: raised in a worker, it would show the user a traceback."""

    def __init__(self, read: Callable[[K], T]) -> None:
        self.read = read

    def __getitem__(self, key: K) -> T | DynagestError:
        try:
            return self.read(key)
        except DynagestError as error:
            return error


def in_shared_memory(item: T) -> T | TrainingError:
    """Move the tensors in ``item`` to shared memory if this is a data worker, and return ``item``.

    torch does the same by itself, but in a thread whose errors are only printed: if shared memory is full, the main
    process would wait for this item for ever. Returns a ``TrainingError`` if it is full.
    """
    if get_worker_info() is None:
        return item
    for tensor in _tensors(item):
        try:
            tensor.share_memory_()
        except RuntimeError as error:
            return TrainingError(
                f"/dev/shm is full, so a data worker cannot hand over its clips; {_SHM_ADVICE} ({first_line(error)})"
            )
    return item


def read_ahead(loader: Iterable[T]) -> Iterator[T | TrainingError]:
    """Yield the items of a ``DataLoader``. If a worker dies, the last item is a ``TrainingError`` that says so."""
    items = iter(loader)
    while True:
        try:
            item = next(items)
        except StopIteration:
            return
        except (RuntimeError, ConnectionError, EOFError, FileNotFoundError) as error:
            if not _died(error):
                raise
            yield TrainingError(
                f"a data worker ended in mid-run ({first_line(error)}): killed for its memory, or for want of room in "
                f"/dev/shm. Were it the latter, {_SHM_ADVICE}; then go on with --resume. {SCRIPT_ADVICE}"
            )
            return
        yield item


def _died(error: Exception) -> bool:
    """Whether ``error`` means that a worker died: torch says so, or the worker's connection broke."""
    if "in DataLoader worker process" in str(error):  # torch adds this to an error that a living worker raised
        return False
    # For a GPU, torch's pin-memory thread receives the workers' items, and dies if a connection breaks.
    words = ("DataLoader worker", "Pin memory thread exited")
    return not isinstance(error, RuntimeError) or any(word in str(error) for word in words)


def _tensors(item: object) -> Iterator[torch.Tensor]:
    if isinstance(item, torch.Tensor):
        yield item
    elif isinstance(item, dict):
        for value in item.values():
            yield from _tensors(value)
    elif isinstance(item, list | tuple):
        for value in item:
            yield from _tensors(value)
