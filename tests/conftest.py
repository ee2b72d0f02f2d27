"""Fixtures that every test file may use."""

import os
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, settings

# A busy machine is slow, and nothing is wrong then.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder with real clips and annotation lists that lies beside the repository."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no real clips here: {folder} does not exist")
    return folder


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training run of two epochs of three steps on twelve clips. Tests leave it as it is."""
    from training_toys import toy_data, toy_recipe  # most tests need none of what these import

    from dynagest.training.trainer import train

    torch.set_num_threads(1)
    run_dir = tmp_path_factory.mktemp("runs") / "finished"
    train(toy_recipe(), toy_data(), run_dir)
    return run_dir


@pytest.fixture
def windows_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on Windows, a file that this process has open or mapped is neither moved nor replaced."""
    maps, replace = Path("/proc/self/maps"), os.replace
    if not maps.exists():
        pytest.skip("which files are mapped is known from Linux's /proc")

    def replace_unused(source: Path, target: Path) -> None:
        used = {os.path.realpath(link) for link in Path("/proc/self/fd").iterdir()}
        used |= {line.split(None, 5)[-1] for line in maps.read_text(encoding="utf-8").splitlines()}
        for path in map(os.path.realpath, (source, target)):
            if path in used:
                raise PermissionError(13, "in use", path)
        replace(source, target)

    monkeypatch.setattr(os, "replace", replace_unused)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)
