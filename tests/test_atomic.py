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


def test_somebody_else_writes_the_same_file_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, real, amid = tmp_path / "file", os.fsync, [b"other"]

    def fsync(descriptor: int) -> None:
        real(descriptor)
        if amid:
            write_atomically(path, amid.pop())

    monkeypatch.setattr(os, "fsync", fsync)
    write_atomically(path, b"mine")
    assert path.read_bytes() == b"mine"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(RunError, match="cannot be written"):
        write_atomically(tmp_path / "file" / "inside", b"y")


def test_a_folder_in_the_files_place_is_refused_before_anything_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"old")
    (tmp_path / "b").mkdir()
    with pytest.raises(RunError, match="b: is a folder"):
        write_together({tmp_path / "a": b"new", tmp_path / "b": b"new"})
    assert (tmp_path / "a").read_bytes() == b"old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]
