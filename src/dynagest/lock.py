"""Locks between processes, which the kernel drops when their holder ends, however it ends."""

import errno
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from dynagest.errors import RunError

_WRITER = ".writer.lock"
# What a disk answers that knows no locks, as those of clusters often do. One must be able to write there all the same.
_NO_LOCKS = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock of this file inside the block; wait if another process has it.

    Raises ``RunError`` where the folder takes no files or no locks.
    """
    with ExitStack() as held:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            held.enter_context(FileLock(path, fallback_to_soft=False))
        except OSError as error:
            raise RunError(
                f"{path.parent}: takes no files or no locks ({error.strerror}); choose a folder that can be written"
            ) from error
        yield


@contextmanager
def sole_writer(folder: Path) -> Iterator[None]:
    """Be the only process that writes into ``folder``, which is made if it is missing, inside the block.

    Two would each undo or repeat what the other writes. On a disk without locks nothing is held. Raises ``RunError``
    if another process holds the folder, or if it is a file or takes no files.
    """
    lock = FileLock(folder / _WRITER, fallback_to_soft=False)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(blocking=False)
    except Timeout as error:
        raise RunError(
            f"{folder}: another process is writing there; wait until it has ended, or name another folder"
        ) from error
    except FileExistsError as error:
        raise RunError(f"{folder}: is a file; name a folder") from error
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise RunError(
                f"{folder}: takes no files ({error.strerror}); choose a folder that can be written"
            ) from error
    try:
        yield
    finally:
        with suppress(OSError):  # Windows removes no file that is open; who finds it there locks it as well
            (folder / _WRITER).unlink(missing_ok=True)
        lock.release()
