"""The cores and the memory that a process can use; PyTorch's threads and fast bf16, which need torch."""

import ctypes
import math
import os
import platform
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")  # of a container, such as of `docker run --cpus 2`; cgroup v2
SHARED_MEMORY = Path("/dev/shm")
LOW_SHARED_MIB = 256.0  # less does not hold the batches that wait there; containers often have 64 MiB
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h


def available_cores() -> int:
    """The number of cores that this process may use: a container or ``taskset`` can allow fewer than there are.

    A container's quota of time counts as so many cores, rounded up.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota, period = CPU_QUOTA.read_text().split() if CPU_QUOTA.is_file() else ("max", "")
    return cores if quota == "max" else min(cores, math.ceil(int(quota) / int(period)))


def shared_memory_suffices() -> bool:
    """Whether /dev/shm has room for the batches that data workers hand over; true on systems without it.

    Without that room, training with data workers fails or hangs.
    """
    return not SHARED_MEMORY.is_dir() or shutil.disk_usage(SHARED_MEMORY).free / 2**20 >= LOW_SHARED_MIB


def keep_freed_memory() -> None:
    """Have glibc keep large blocks when they are freed, for the rest of the process; other C libraries are left alone.

    It would hand them to the kernel and pay for fresh pages at every step of training (docs/speed.md).
    """
    if platform.libc_ver()[0] != "glibc":
        return
    set_option = ctypes.CDLL(None).mallopt
    # Older versions allow no more than 32 MiB.
    if set_option(_MMAP_THRESHOLD, 2**31 - 1) or set_option(_MMAP_THRESHOLD, 32 * 2**20):
        set_option(_TRIM_THRESHOLD, 2**31 - 1)


def fast_bf16() -> bool:
    """Whether the CPU computes bf16 in hardware."""
    import torch

    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))


@contextmanager
def torch_threads(count: int | None) -> Iterator[int]:
    """Set PyTorch's number of threads inside the block, or leave it for None; gives the number."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield torch.get_num_threads()
    finally:
        torch.set_num_threads(before)
