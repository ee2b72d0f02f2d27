"""Pictures as PNG files."""

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from dynagest.atomic import write_atomically


def write_png(path: Path, rgb: npt.NDArray[np.uint8]) -> Path:
    """Write uint8 RGB (H, W, 3) as a PNG, whatever the suffix of ``path``; returns ``path``.

    Raises ``RunError`` when it cannot be written.
    """
    write_atomically(path, cv2.imencode(".png", rgb[..., ::-1])[1].tobytes())
    return path
