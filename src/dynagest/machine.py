"""The cores and the shared memory that data workers have to live on. Needs no torch."""

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
