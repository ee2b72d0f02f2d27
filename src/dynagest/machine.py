"""The cores and the shared memory that data workers have to live on, and fast bf16. Needs torch for the latter only."""

import os
import shutil
from pathlib import Path

SHARED_MEMORY = Path("/dev/shm")
LOW_SHARED_MIB = 256.0  # batches wait there; containers often have 64 MiB


def available_cores() -> int:
    """The cores that this process may use, which in a container are fewer than there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def shared_memory_suffices() -> bool:
    """Whether data workers can hand over their batches; where they cannot, they wait for ever without a word."""
    return not SHARED_MEMORY.is_dir() or shutil.disk_usage(SHARED_MEMORY).free / 2**20 >= LOW_SHARED_MIB


def fast_bf16() -> bool:
    """Whether the CPU computes bf16 in hardware."""
    import torch

    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))
