"""Keeps two processes from writing into one folder at once, where each would undo or repeat what the other writes."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from dynagest.errors import RunError

_LOCK_FILE = ".writer.lock"
# What a disk answers that knows no locks, as those of clusters often do. One must be able to write there all the same.
_NO_LOCKS = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK)


@contextmanager
def sole_writer(folder: Path) -> Iterator[None]:
    """Hold ``folder``, which is made if it is missing, for this process inside the block.

    The kernel lets go of it when the process ends, however it ends. On a disk without locks nothing is held. Raises
    ``RunError`` if another process holds the folder, or if it is a file or takes no files.
    """
    lock = FileLock(folder / _LOCK_FILE, fallback_to_soft=False)
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
            (folder / _LOCK_FILE).unlink(missing_ok=True)
        lock.release()
