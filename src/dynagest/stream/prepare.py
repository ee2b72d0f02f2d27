"""A frame of a stream as a network wants it: what ``Predictor`` does to the frames of a clip. Needs no torch."""

import numpy as np

from dynagest.card import NetworkCard
from dynagest.clips.protocols import PROTOCOLS, cut_squares
from dynagest.errors import ClipError
from dynagest.runtimes.arrays import normalise_frames


def prepare_frame(frame: np.ndarray, card: NetworkCard) -> np.ndarray:
    """uint8 RGB (H, W, 3) -> the centre square at the network's size, normalised: float32 (1, 3, s, s).

    Raises ``ClipError`` for anything that is no such frame.
    """
    if not isinstance(frame, np.ndarray) or frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
        what = f"{frame.dtype} {frame.shape}" if isinstance(frame, np.ndarray) else type(frame).__name__
        raise ClipError(f"a frame of the stream is {what}; give RGB frames as uint8 arrays (height, width, 3)")
    return normalise_frames(cut_squares(frame[None], PROTOCOLS["center"], card.size)[0], card)
