import errno
import os
from pathlib import Path

import pytest

from dynagest.atomic import write_atomically, write_together
from dynagest.errors import RunError


def test_writes_and_replaces(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file.bin"
    write_atomically(path, b"first")
    write_atomically(path, b"second")
    assert path.read_bytes() == b"second"
    assert [entry.name for entry in path.parent.iterdir()] == ["file.bin"]


def test_full_disk_leaves_all_old_files_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    write_together({first: b"old a", second: b"old b"})
    calls = []

    def second_fails(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", second_fails)
    with pytest.raises(RunError, match=r"b: cannot be written \(No space left on device\)"):
        write_together({first: b"new a", second: b"new b"})
    assert (first.read_bytes(), second.read_bytes()) == (b"old a", b"old b")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["a", "b"]


def test_a_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(RunError, match="cannot be written"):
        write_atomically(tmp_path / "file" / "inside", b"y")
