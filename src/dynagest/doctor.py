"""Checks what dynagest can use on this machine, and what will not work here."""

import importlib.metadata
import importlib.util
import platform
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dynagest.machine import SHARED_MEMORY, available_cores, fast_bf16, shared_memory_suffices

LOW_DISK_GIB = 5.0


@dataclass(frozen=True)
class Finding:
    """The result of one check: ``ok``, ``warning`` (it works, but worse) or ``error`` (something will fail)."""

    subject: str
    status: Literal["ok", "warning", "error"]
    detail: str


def examine(folder: Path) -> list[Finding]:
    """Check Python, torch, accelerator, torchvision, runtimes, video library, shared memory, the disk of ``folder``."""
    return [_python(), *_torch(), _torchvision(), _runtimes(), _video(), _shared_memory(), _disk(folder)]


def _python() -> Finding:
    return Finding("Python", "ok", f"{platform.python_version()} on {platform.platform()}")


def _torch() -> list[Finding]:
    if importlib.util.find_spec("torch") is None:
        advice = 'not installed: predicting from exported files works, training needs pip install "dynagest[train]"'
        return [Finding("torch", "warning", advice)]
    import torch

    findings = [Finding("torch", "ok", f"{torch.__version__}, {torch.get_num_threads()} threads")]
    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(k) for k in range(torch.cuda.device_count())]
        findings.append(Finding("accelerator", "ok", ", ".join(names)))
    elif torch.backends.mps.is_available():
        findings.append(Finding("accelerator", "ok", "Apple GPU (mps)"))
    else:
        bf16 = "with" if fast_bf16() else "without"
        cores = f"{available_cores()} CPU cores {bf16} fast bf16"
        detail = f"none; {cores}. Small networks train here, ResNet-50 at 224 wants a GPU"
        findings.append(Finding("accelerator", "warning", detail))
    return findings


def _torchvision() -> Finding:
    if importlib.util.find_spec("torchvision") is None:
        return Finding("torchvision", "ok", "absent, as it should be: nothing here needs it")
    try:
        import torchvision  # type: ignore[import-not-found,import-untyped,unused-ignore]
    except Exception as error:  # a CUDA build beside a CPU torch raises RuntimeError, not ImportError
        advice = f"installed but broken ({error}); pip uninstall torchvision, since other packages pick it up and fail"
        return Finding("torchvision", "error", advice)
    return Finding("torchvision", "ok", f"{torchvision.__version__}, not needed")


def _runtimes() -> Finding:
    found = [
        f"{title} {importlib.metadata.version(name)}"
        for name, title in (("onnxruntime", "ONNX Runtime"), ("openvino", "OpenVINO"))
        if importlib.util.find_spec(name) is not None
    ]
    absent = 'none: exported files need pip install "dynagest[run]" (.onnx) or "dynagest[openvino]" (.xml)'
    return Finding("runtimes", "ok", ", ".join(found) or absent)


def _video() -> Finding:
    import av

    wanted = ["h264", "mpeg4", "mjpeg", "vp9", "ffv1"]
    missing = [name for name in wanted if name not in av.codecs_available]
    detail = f"PyAV {importlib.metadata.version('av')}"
    if missing:
        return Finding("video", "error", f"{detail} lacks {', '.join(missing)}; install PyAV's own wheel from PyPI")
    return Finding("video", "ok", f"{detail} reads {', '.join(wanted)}")


def _shared_memory() -> Finding:
    if not SHARED_MEMORY.is_dir():
        return Finding("shared memory", "ok", "no /dev/shm on this system, no limit known")
    free = f"{shutil.disk_usage(SHARED_MEMORY).free / 2**20:.0f} MiB free in {SHARED_MEMORY}"
    if shared_memory_suffices():
        return Finding("shared memory", "ok", free)
    return Finding("shared memory", "warning", f"{free}: no data workers; in Docker, --shm-size=2g gives them room")


def _disk(folder: Path) -> Finding:
    free = shutil.disk_usage(folder).free / 2**30
    status: Literal["ok", "warning"] = "ok" if free >= LOW_DISK_GIB else "warning"
    return Finding("disk", status, f"{free:.1f} GiB free in {folder.resolve()}")
