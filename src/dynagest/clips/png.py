"""Encodes and writes pictures as PNG."""

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from dynagest.atomic import write_atomically


def encode_png(image: npt.NDArray[np.uint8]) -> bytes:
    """Encode uint8 RGB (H, W, 3) or RGBA (H, W, 4) as PNG."""
    blue_first = image[..., (2, 1, 0, 3)[: image.shape[2]]]
    done, data = cv2.imencode(".png", blue_first)
    assert done
    return data.tobytes()


def write_png(path: Path, rgb: npt.NDArray[np.uint8]) -> Path:
    """Write uint8 RGB (H, W, 3) as a PNG, whatever the suffix of ``path``; returns ``path``.

    Raises ``RunError`` when it cannot be written.
    """
    write_atomically(path, encode_png(rgb))
    return path
