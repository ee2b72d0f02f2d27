"""Locks between processes: one at a time writes into a folder."""

import errno
import subprocess
import sys
from pathlib import Path

import pytest

from dynagest import lock as module
from dynagest.errors import RunError
from dynagest.lock import sole_writer


def test_one_at_a_time_and_nothing_is_left(tmp_path: Path) -> None:
    folder = tmp_path / "a run" / "deep"
    with sole_writer(folder):
        with pytest.raises(RunError, match="deep: another process is writing there; wait"), sole_writer(folder):
            pass
        with sole_writer(tmp_path / "another"):
            pass
    with sole_writer(folder):
        pass
    assert not list(folder.iterdir())


def test_a_process_that_was_killed_holds_nothing(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys\nfrom pathlib import Path\nfrom dynagest.lock import sole_writer\n"
        "with sole_writer(Path(sys.argv[1])):\n    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    killed = subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False, timeout=120)
    assert killed.returncode != 0
    assert list(tmp_path.iterdir())  # its file is there, but nobody holds it
    with sole_writer(tmp_path):
        pass


def test_a_file_or_a_place_without_folders_is_named(tmp_path: Path) -> None:
    (tmp_path / "notes").write_text("keep")
    with pytest.raises(RunError, match="notes: is a file; name a folder"), sole_writer(tmp_path / "notes"):
        pass
    with pytest.raises(RunError, match=r"run: takes no files \("), sole_writer(tmp_path / "notes" / "run"):
        pass


def test_a_disk_without_locks_is_written_to_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def acquire(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(module.FileLock, "acquire", acquire)
    with sole_writer(tmp_path / "run"), sole_writer(tmp_path / "run"):
        (tmp_path / "run" / "log").write_text("written")
