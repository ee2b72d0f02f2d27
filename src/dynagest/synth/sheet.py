"""Makes a contact sheet of generated gestures: a strip of frames for each class, RGB above depth."""

from pathlib import Path

import cv2
import numpy as np

from dynagest.clips.png import write_png
from dynagest.synth.recording import plan, record
from dynagest.synth.spec import SynthSpec

_BAR = 14  # height of the caption in pixels
_COLUMNS = 2


def sheet(spec: SynthSpec, frames: int = 8) -> np.ndarray:
    """Make the contact sheet, uint8 (height, width, 3) RGB, with ``frames`` frames of each clip.

    It shows the first training clip of every gesture, and the first ``spec.background`` clips of "none".
    """
    indices = np.linspace(0, spec.num_frames - 1, frames).round().astype(int)
    strips = [_strip(spec, number, indices) for number in range(spec.cycle)]
    strips += [np.full_like(strips[0], 255)] * (-len(strips) % _COLUMNS)
    rows = len(strips) // _COLUMNS
    return np.concatenate(
        [np.concatenate(strips[column * rows : (column + 1) * rows]) for column in range(_COLUMNS)], axis=1
    )


def write_sheet(spec: SynthSpec, path: Path) -> Path:
    """Write the contact sheet as a PNG and return its path. Raises ``RunError`` when it cannot be written."""
    return write_png(path, sheet(spec))


def _strip(spec: SynthSpec, number: int, indices: np.ndarray) -> np.ndarray:
    """The strip of one clip: caption, RGB frames, depth frames."""
    planned = plan(spec, "train", number)
    footage = record(spec, planned, indices)
    caption = np.full((_BAR, len(indices) * spec.size, 3), 255, np.uint8)
    text = f"{planned.label}   {planned.subject.name} {planned.scene.view}"
    cv2.putText(caption, text, (3, _BAR - 4), cv2.FONT_HERSHEY_SIMPLEX, 0.36, (0, 0, 0), 1, cv2.LINE_AA)
    rgb = np.concatenate(list(footage.pictures()), axis=1)
    near = spec.depth_spec().canonical(footage.millimetres())
    grey = np.concatenate(list((near * 255).astype(np.uint8)), axis=1)
    return np.concatenate([caption, rgb, np.repeat(grey[..., None], 3, axis=2)])
