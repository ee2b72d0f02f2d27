"""A lock between processes that the kernel drops when its holder ends, however it ends."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from filelock import FileLock

from dynagest.errors import RunError


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
