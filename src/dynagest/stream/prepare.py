"""Prepares a frame of a stream for a network, as ``Predictor`` prepares the frames of a clip. Needs no torch."""

import numpy as np

from dynagest.card import NetworkCard
from dynagest.clips.protocols import PROTOCOLS, cut_squares
from dynagest.runtimes.arrays import normalise_frames


def prepare_frame(frame: np.ndarray, card: NetworkCard) -> np.ndarray:
    """uint8 RGB (H, W, 3) -> the centre square at the network's size, normalised: float32 (1, 3, s, s)."""
    return normalise_frames(cut_squares(frame[None], PROTOCOLS["center"], card.size)[0], card)
