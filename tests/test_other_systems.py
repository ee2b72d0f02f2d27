"""What macOS, Windows and containers lack or do otherwise, pretended here."""

import ntpath
import os
import platform
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path, PureWindowsPath
from types import SimpleNamespace

import pytest
import torch
from training_toys import FRAMES, SIZE, ToyClips

from dynagest import doctor, machine, processes
from dynagest.clips import table, workers
from dynagest.clips.table import relative
from dynagest.live import sources
from dynagest.synth.pool import render_all
from dynagest.training.batches import in_order
from dynagest.training.data import build_loader

WINDOWS = SimpleNamespace(platform="win32")


@pytest.fixture
def spawning(monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows starts processes in one way only."""
    monkeypatch.setattr(workers, "get_all_start_methods", lambda: ["spawn"])


def mark(folder: Path, key: int) -> None:
    (folder / str(key)).touch()


def test_clips_are_read_where_there_is_no_fork_server(spawning: None) -> None:
    assert workers.worker_context("dynagest").get_start_method() == "spawn"
    loader = build_loader(ToyClips(4), in_order(4, 2), workers=1, prefetch=1, pin=False, frames=FRAMES, size=SIZE)
    assert [batch["index"].tolist() for batch, _ in loader if batch] == [[0, 1], [2, 3]]  # type: ignore[misc]


def test_clips_are_rendered_where_signals_cannot_be_held_back(
    spawning: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(signal, "pthread_sigmask")
    done: list[int] = []
    render_all(partial(mark, tmp_path), range(3), 3, lambda count, _: done.append(count), workers=2, chunk=1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0", "1", "2"]
    assert done == [1, 2, 3]


@pytest.mark.parametrize("end", [processes.interrupt, processes.kill])
def test_programs_are_ended_where_there_are_no_process_groups(
    end: Callable[[object], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    commands: list[list[str]] = []
    monkeypatch.setattr(processes, "sys", WINDOWS)
    monkeypatch.delattr(os, "killpg")
    monkeypatch.delattr(signal, "SIGKILL")
    monkeypatch.setattr(subprocess, "run", lambda command, **_: commands.append(command))
    end(SimpleNamespace(pid=12))
    assert commands == [["taskkill", "/F", "/T", "/PID", "12"]]


@pytest.mark.parametrize(
    ("path", "listed"),
    [("D:\\set\\a b\\1.mp4", "a b/1.mp4"), ("D:\\x\\1.mp4", "../x/1.mp4"), ("E:\\x\\1.mp4", "E:/x/1.mp4")],
    ids=["below", "beside", "on another drive"],
)
def test_a_list_written_on_windows_can_be_read_elsewhere(
    path: str, listed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table, "os", SimpleNamespace(path=ntpath))
    monkeypatch.setattr(table, "Path", PureWindowsPath)
    assert relative(PureWindowsPath(path), PureWindowsPath("D:\\set")) == listed  # type: ignore[arg-type]


def test_a_name_that_the_terminal_cannot_show_ends_no_command(tmp_path: Path) -> None:
    for name in ("wave", "\u0939\u093e\u0925"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "001.mp4").touch()
    command = [sys.executable, "-m", "dynagest", "data", "index", "folders", str(tmp_path), "--out", str(tmp_path)]
    environment = os.environ | {"PYTHONIOENCODING": "cp1252"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "2 classes: wave, \\u0939\\u093e\\u0925\n" in done.stdout


@pytest.mark.parametrize(
    ("quota", "cores"), [("max 100000", 8), ("200000 100000", 2), ("150000 100000", 2), ("1000 100000", 1)]
)
def test_a_containers_quota_counts_as_cores(
    quota: str, cores: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda process: set(range(8)), raising=False)
    monkeypatch.setattr(machine, "CPU_QUOTA", tmp_path / "cpu.max")
    assert machine.available_cores() == 8, "no container of this kind"
    (tmp_path / "cpu.max").write_text(quota + "\n")
    assert machine.available_cores() == cores


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
def test_freed_memory_stays_with_the_process() -> None:
    lines = (
        "from dynagest.machine import keep_freed_memory",
        "{}",
        "block = b'x' * (1 << 28)",
        "del block",
        "print(int(open('/proc/self/statm').read().split()[1]) * os.sysconf('SC_PAGE_SIZE') >= 1 << 28)",
    )
    program = "import os\n" + "\n".join(lines)
    for call, kept in (("", "False"), ("keep_freed_memory()", "True")):
        command = [sys.executable, "-c", program.format(call)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert done.stdout.strip() == kept, call


@pytest.mark.parametrize(
    ("libc", "largest", "options"),
    [
        ("glibc", 2**31, [(-3, 2**31 - 1), (-1, 2**31 - 1)]),
        ("glibc", 2**25, [(-3, 2**31 - 1), (-3, 2**25), (-1, 2**31 - 1)]),  # an older one
        ("glibc", 0, [(-3, 2**31 - 1), (-3, 2**25)]),  # the second option alone would make it worse
        ("", 2**31, []),
    ],
)
def test_memory_is_kept_as_the_c_library_allows(
    libc: str, largest: int, options: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[int, int]] = []

    def mallopt(option: int, value: int) -> int:
        asked.append((option, value))
        return int(option == -1 or value <= largest)

    monkeypatch.setattr("platform.libc_ver", lambda: (libc, ""))
    monkeypatch.setattr("ctypes.CDLL", lambda name: SimpleNamespace(mallopt=mallopt))
    machine.keep_freed_memory()
    assert asked == options


@pytest.mark.parametrize("fast", [True, False])
def test_the_doctor_tells_of_bf16_what_training_goes_by(fast: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not what oneDNN says: torch for macOS is built without it."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"bf16": fast})
    accelerator = next(each for each in doctor.examine(Path()) if each.subject == "accelerator")
    assert f"CPU cores {'with' if fast else 'without'} fast bf16" in accelerator.detail


def test_no_camera_is_denied_where_none_can_be_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "sys", SimpleNamespace(platform="darwin"))
    assert "privacy settings" in sources._cameras_told()
    monkeypatch.setattr(sources, "sys", SimpleNamespace(platform="linux"))
    assert "privacy settings" not in sources._cameras_told()


def test_the_doctor_tells_which_runtimes_are_here(monkeypatch: pytest.MonkeyPatch) -> None:
    def told() -> str:
        return next(each.detail for each in doctor.examine(Path()) if each.subject == "runtimes")

    assert re.fullmatch(r"ONNX Runtime [\d.]+, OpenVINO [\d.]+", told())
    monkeypatch.setattr(doctor.importlib.util, "find_spec", lambda name: None)
    assert told().startswith("none: exported files need")
