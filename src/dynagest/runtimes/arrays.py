"""Array operations before and after a network: normalising frames, softmax. Needs no torch."""

from collections.abc import Sequence

import numpy as np

from dynagest.card import NetworkCard
from dynagest.errors import ModelError


def normalise_frames(frames: np.ndarray, card: NetworkCard) -> np.ndarray:
    """Frames (T, s, s, 3) uint8 RGB -> the network's input (T, 3, s, s) float32, normalised as ``card`` says."""
    mean, std = np.array(card.mean, dtype=np.float32), np.array(card.std, dtype=np.float32)
    scaled = (frames.astype(np.float32) / 255 - mean) / std
    return np.ascontiguousarray(scaled.transpose(0, 3, 1, 2))


def check_logits(shape: Sequence[int], views: int, card: NetworkCard) -> None:
    """Raise ``ModelError`` unless logits of ``shape`` are those of ``views`` clips for each class of ``card``."""
    classes = len(card.classes)
    if tuple(shape) != (views, classes):
        raise ModelError(
            f"{card.model}: gives {tuple(shape)} for {views} clips, and its card has {classes} classes; let the "
            f"network give logits (N, {classes}), or the card name the classes that it knows"
        )


def softmax(logits: np.ndarray) -> np.ndarray:
    """Logits (N, K) -> scores (N, K) float64; each row sums to 1."""
    powers = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def fill_up(frames: np.ndarray, count: int) -> np.ndarray:
    """Frames (n, 3, s, s), 1 <= n <= count -> (count, 3, s, s): repeats the last one to fill up a network's input."""
    return np.concatenate((frames, np.repeat(frames[-1:], count - len(frames), axis=0)))
