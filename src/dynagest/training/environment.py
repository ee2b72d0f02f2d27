"""Records where a run took place: the machine, the versions of packages and the revision of the code."""

import importlib.metadata
import os
import platform
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch

import dynagest

PACKAGES = ("torch", "accelerate", "safetensors", "numpy", "av", "opencv-python-headless", "pydantic")


@dataclass(frozen=True, slots=True)
class Environment:
    """Where a run took place, in enough detail to explain why another run gives other numbers."""

    started: str
    command: list[str]
    directory: str
    data: str
    seed: int
    device: str
    processes: int
    threads: int
    cores: int | None
    machine: str
    python: str
    packages: dict[str, str]
    dynagest: str
    revision: str | None


def describe_environment(data: str, seed: int, device: str, processes: int) -> Environment:
    """The environment of this process."""
    return Environment(
        started=time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        command=list(sys.argv),
        directory=str(Path.cwd()),
        data=data,
        seed=seed,
        device=torch.cuda.get_device_name() if device.startswith("cuda") else device,
        processes=processes,
        threads=torch.get_num_threads(),
        cores=os.cpu_count(),
        machine=f"{processor()}, {platform.platform()}",
        python=platform.python_version(),
        packages={name: importlib.metadata.version(name) for name in PACKAGES},
        dynagest=dynagest.__version__,
        revision=code_revision(),
    )


@cache
def code_revision() -> str | None:
    """The git revision of this code, with ``+changes`` if edited since; ``None`` if it is not in a git checkout."""
    here = Path(__file__)

    def git(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = ["git", "-C", str(here.parent), *arguments]
        return subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", check=False)

    # An installed copy may lie inside another project's repository: only if this file is tracked is it this code's.
    if shutil.which("git") is None or git("ls-files", "--error-unmatch", here.name).returncode != 0:
        return None
    revision = git("rev-parse", "HEAD")
    if revision.returncode != 0:
        return None
    return revision.stdout.strip() + ("+changes" if git("status", "--porcelain", "--", "..").stdout else "")


def processor() -> str:
    """The name of the CPU, such as "AMD EPYC"; empty if the system does not tell."""
    path = Path("/proc/cpuinfo")
    names = [line for line in path.read_text().splitlines() if line.startswith("model name")] if path.exists() else []
    return names[0].partition(":")[2].strip() if names else platform.processor()
