"""Clips through an exported network, which takes one shape of them, and maybe a fixed number at once."""

from collections.abc import Callable

import numpy as np

from dynagest.card import NetworkCard
from dynagest.errors import ModelError


def run_in_batches(
    run: Callable[[np.ndarray], np.ndarray], clips: np.ndarray, batch: int | None, card: NetworkCard
) -> np.ndarray:
    """``run`` on all clips (N, T, 3, s, s), ``batch`` at once, a divisor of N; ``None``: all at once.

    Raises ``ModelError`` for clips of another T or size than the card's.
    """
    if clips.shape[1:] != (card.num_segments, 3, card.size, card.size):
        raise ModelError(
            f"{card.model}: a clip of shape {clips.shape[1:]}, but when exported it takes {card.num_segments} frames "
            f"of {card.size} x {card.size} only; use the protocol center or clips10, or the network that was exported"
        )
    if batch is None or len(clips) == batch:
        return run(clips)
    return np.concatenate([run(clips[start : start + batch]) for start in range(0, len(clips), batch)])
