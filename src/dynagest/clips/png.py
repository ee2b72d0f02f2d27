"""Encodes and writes pictures as PNG."""

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from dynagest.atomic import write_atomically
from dynagest.errors import RunError

SIGNATURE = b"\x89PNG\r\n\x1a\n"


def encode_png(image: npt.NDArray[np.uint8]) -> bytes:
    """Encode uint8 RGB (H, W, 3) or RGBA (H, W, 4) as PNG."""
    blue_first = image[..., (2, 1, 0, 3)[: image.shape[2]]]
    done, data = cv2.imencode(".png", blue_first)
    assert done
    return data.tobytes()


def write_png(path: Path, rgb: npt.NDArray[np.uint8]) -> Path:
    """Write uint8 RGB (H, W, 3) as a PNG, whatever the suffix of ``path``; returns ``path``.

    Raises ``RunError`` when it cannot be written, or would replace a file that is no PNG, such as the manifest.
    """
    if path.is_file():
        with path.open("rb") as file:
            if file.read(8) not in (b"", SIGNATURE):
                raise RunError(f"{path}: holds something else than a picture, which would be lost; name another file")
    write_atomically(path, encode_png(rgb))
    return path
