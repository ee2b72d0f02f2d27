"""Colour jitter, drawn once for a whole clip. Needs no torch.

It does what torchvision's ``ColorJitter`` does: for each strength ``s`` a factor is drawn from [1 - s, 1 + s], not
below 0 (for the hue a shift from [-s, s] turns of the colour circle), and the changes are applied to 8-bit values in
random order. It uses OpenCV's 8-bit routines so that training does not wait for augmentation: 4 ms for 8 x 224 x 224 on
one core, where kornia's float operations take 72 ms (50 of them for the hue) and its import another half second.
"""

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

_GREY = np.array([0.299, 0.587, 0.114])


@dataclass(frozen=True)
class ColourJitter:
    """Jitters the colours of a share ``probability`` of the clips. ``View`` has the paper's strengths."""

    probability: float
    brightness: float
    contrast: float
    saturation: float
    hue: float

    def __call__(self, frames: npt.NDArray[np.uint8], rng: np.random.Generator) -> npt.NDArray[np.uint8]:
        """Jitter the RGB frames of a clip, uint8 (T, H, W, 3), all in the same way."""
        if rng.random() >= self.probability:
            return frames
        strengths = (self.brightness, self.contrast, self.saturation)
        factors = [rng.uniform(max(0.0, 1 - strength), 1 + strength) for strength in strengths]
        changes = (
            *zip((brightness, contrast, saturation), factors, strict=True),
            (hue, rng.uniform(-self.hue, self.hue)),
        )
        for step in rng.permutation(len(changes)):
            change, amount = changes[step]
            frames = change(frames, amount)
        return frames


def brightness(frames: npt.NDArray[np.uint8], factor: float) -> npt.NDArray[np.uint8]:
    """``factor * x``, rounded and clipped to 0..255."""
    return _look_up(frames, factor * np.arange(256))


def contrast(frames: npt.NDArray[np.uint8], factor: float) -> npt.NDArray[np.uint8]:
    """``factor * x + (1 - factor) * m`` with m the mean grey of each frame, rounded and clipped to 0..255."""
    values = factor * np.arange(256)
    return np.stack([_look_up(frame, values + (1 - factor) * (cv2.mean(frame)[:3] @ _GREY)) for frame in frames])


def saturation(frames: npt.NDArray[np.uint8], factor: float) -> npt.NDArray[np.uint8]:
    """``factor * x + (1 - factor) * grey(x)``, rounded and clipped to 0..255."""
    matrix = factor * np.eye(3) + (1 - factor) * np.tile(_GREY, (3, 1))
    return cv2.transform(_one_image(frames), matrix.astype(np.float32)).reshape(frames.shape)


def hue(frames: npt.NDArray[np.uint8], turns: float) -> npt.NDArray[np.uint8]:
    """Shift the hue by ``turns`` of the colour circle."""
    hsv = cv2.cvtColor(_one_image(frames), cv2.COLOR_RGB2HSV_FULL)
    # The colour circle has 256 steps, so that uint8 wraps around as the hue does.
    hsv[..., 0] += np.uint8(round(turns * 256) % 256)
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB_FULL).reshape(frames.shape)


def _one_image(frames: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Stack the frames below each other, (T * H, W, 3), so that one OpenCV call works on all of them."""
    return frames.reshape(-1, frames.shape[-2], 3)


def _look_up(frames: npt.NDArray[np.uint8], values: npt.NDArray[np.floating]) -> npt.NDArray[np.uint8]:
    table = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    return cv2.LUT(_one_image(frames), table).reshape(frames.shape)
