"""Writes files so that each is the old or the new one in full, never a part of either. Needs no torch."""

import os
import secrets
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from dynagest.errors import RunError


def write_atomically(path: Path, data: bytes) -> None:
    """Write ``data`` to ``path`` so that a crash or a full disk leaves the old file whole.

    The bytes go to a temporary file in the same folder (created with its parents if missing). Once they have reached
    the disk, that file replaces the old one in one step. Raises ``RunError`` when they cannot be written.
    """
    write_together({path: data})


def write_together(files: Mapping[Path, bytes]) -> None:
    """Write several files that belong together: none is replaced before all have reached the disk.

    A full disk therefore leaves every old file whole. Raises ``RunError`` naming the file that could not be written.
    """
    staged: dict[Path, Path] = {}
    try:
        for path, data in files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.is_dir():
                raise RunError(f"{path}: is a folder, so no file can be written there; name a file")
            # A name that only this call uses, because another thread may be writing the same file.
            staged[path] = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
            _write_through(staged[path], data)
        for path, temporary in staged.items():
            temporary.replace(path)
        for folder in {path.parent for path in files}:
            _sync_folder(folder)
    except OSError as error:
        raise RunError(
            f"{path}: cannot be written ({error.strerror}); what was there before is unchanged. "
            "Make room there, or choose a folder that can be written"
        ) from error
    finally:
        for temporary in staged.values():
            # A file that cannot be removed could not be written either. The error above says so and must not be hidden.
            with suppress(OSError):
                temporary.unlink(missing_ok=True)


def _write_through(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    # Without this, the old file may be back after a power cut that follows the rename.
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
