"""Clips through a network that takes a fixed number of them at once."""

from collections.abc import Callable

import numpy as np


def run_in_batches(run: Callable[[np.ndarray], np.ndarray], clips: np.ndarray, batch: int | None) -> np.ndarray:
    """``run`` on all clips (N, ...), ``batch`` at once, a divisor of N; ``None``: all at once."""
    if batch is None or len(clips) == batch:
        return run(clips)
    return np.concatenate([run(clips[start : start + batch]) for start in range(0, len(clips), batch)])
