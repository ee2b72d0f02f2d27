"""The cameras: what they lose and add between the scene and the recorded numbers.

Shapes: F frames of S x S pixels. Noise comes from a table of random numbers, read at offsets that the clip draws for
each frame. Here this is as good as fresh noise, takes almost no time, and is the same on every device.
"""

import functools
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from dynagest.clips.depth import DepthAffine

_TABLE = 1 << 19
_RANGE_MM = 1500.0
_SHADOW_MM = 22.0  # distance between the projector and the camera of a structured-light sensor
_READS = 6  # offsets into the table for each frame
_BLOB = 7  # size of a dropout in pixels


@dataclass(frozen=True)
class Noise:
    """Offsets into the noise table, (F, 6) int64. The same offsets give the same noise."""

    offsets: np.ndarray

    @classmethod
    def draw(cls, rng: np.random.Generator, frames: int) -> "Noise":
        """Draw the noise of ``frames`` frames."""
        return cls(rng.integers(0, 1 << 30, (frames, _READS)))

    def select(self, frames: np.ndarray) -> "Noise":
        """The noise of the frames with these indices."""
        return Noise(self.offsets[frames])

    def read(self, place: int, shape: tuple[int, ...], device: torch.device) -> Tensor:
        """Standard normal numbers (F, *shape), read from offset number ``place`` of each frame."""
        count = int(np.prod(shape))
        table = _table(max(_TABLE, 2 * count), device)
        starts = self.offsets[:, place] % (len(table) - count)
        return torch.stack([table[start : start + count] for start in starts.tolist()]).view(-1, *shape)


@functools.lru_cache(maxsize=4)
def _table(length: int, device: torch.device) -> Tensor:
    return torch.randn(length, generator=torch.Generator().manual_seed(20211015)).to(device)


def blur(image: Tensor, velocity: Tensor, sigma: float) -> Tensor:
    """Smear each frame of ``image`` (F, C, S, S) along ``velocity`` (F, 2), and blur it with a Gaussian of ``sigma``.

    Both are in pixels. ``sigma`` is at least 0.35. The kernel reaches 2 % of S, at least 2 pixels, in each direction,
    and a smear that would reach further is shortened.
    """
    frames, channels, size = image.shape[:3]
    reach = 2 if size <= 128 else max(2, round(0.02 * size))
    at = torch.arange(-reach, reach + 1, device=image.device, dtype=torch.float32)
    length = velocity.norm(dim=1, keepdim=True)
    half = velocity / length.clamp_min(1e-6) * length.clamp_max(2.0 * reach) / 2
    hx, hy = half[:, 0, None, None], half[:, 1, None, None]
    x, y = at[None, None, :], at[None, :, None]
    share = ((x * hx + y * hy) / (hx * hx + hy * hy).clamp_min(1e-6)).clamp(-1, 1)
    distance2 = (x - share * hx).square() + (y - share * hy).square()
    kernel = (-distance2 / (2 * max(sigma, 0.35) ** 2)).exp()
    kernel = kernel / kernel.sum((1, 2), keepdim=True)
    weight = kernel[:, None, None].expand(-1, channels, 1, -1, -1).reshape(frames * channels, 1, *kernel.shape[1:])
    flat = F.pad(image.reshape(1, frames * channels, size, size), (reach,) * 4, mode="replicate")
    return F.conv2d(flat, weight, groups=frames * channels).view_as(image)


def expose(rgb: Tensor, exposure: tuple[float, float, float], noise: Noise, strength: float) -> Tensor:
    """Turn light (F, 3, S, S) in [0, 1] into the colour camera's uint8.

    ``exposure``: factors of R, G and B. ``strength`` in [0, 1]: of normal noise, which has the same size at all
    brightnesses, a standard deviation of 0.05 * ``strength``.
    """
    gain = torch.tensor(exposure, device=rgb.device)[:, None, None]
    rgb = rgb * gain
    if strength > 0:
        rgb = rgb + noise.read(0, tuple(rgb.shape[1:]), rgb.device) * (0.05 * strength)
    return (rgb.clamp(0, 1) * 255).round().to(torch.uint8)


def misaligned(depth: Tensor, affine: DepthAffine) -> Tensor:
    """An image (F, S, S) as a depth camera beside the colour camera sees it.

    Its pixel x shows what the colour camera shows at ``scale * x + shift``, and 0 beyond the colour camera's view.
    """
    height, width = depth.shape[1:]

    def source(count: int, reference: int, shift: float) -> tuple[Tensor, Tensor]:
        centre = (torch.arange(count, device=depth.device, dtype=torch.float64) + 0.5) * reference / count
        place = ((affine.scale * centre + shift) * count / reference).floor().long()
        return place.clamp(0, count - 1), (place >= 0) & (place < count)

    rows, row_seen = source(height, affine.height, affine.shift_y)
    columns, column_seen = source(width, affine.width, affine.shift_x)
    return depth[:, rows][:, :, columns] * (row_seen[:, None] & column_seen)


def sense(depth: Tensor, luma: Tensor, noise: Noise, *, grain: float, holes: float) -> Tensor:
    """Turn true depth (F, S, S) in mm (0 = not seen) into the depth camera's whole mm, int32, where 0 is a hole.

    ``luma`` (F, S, S) in [0, 1] makes holes on dark surfaces, which reflect too little. ``grain`` in [0, 1]: strength
    of noise, quantisation and flying pixels; ``holes`` in [0, 1]: strength of shadows, dropouts and dark surfaces. With
    both 0 the true depth is only rounded. From 1500 mm on there are always holes.
    """
    shape = tuple(depth.shape[1:])
    size = shape[1]
    seen = depth > 0
    measured = depth
    if grain > 0:
        pick = noise.read(1, shape, depth.device)
        beside = torch.cat((measured[:, :, :1], measured[:, :, :-1]), 2)
        above = torch.cat((measured[:, :1], measured[:, :-1]), 1)
        far = 1.4 - 0.8 * grain
        measured = torch.where(pick > far, beside, torch.where(pick < -far, above, measured))
        jitter = noise.read(2, shape, depth.device)
        relative = measured * 1e-3
        measured = measured + jitter * relative * relative * (6.0 * grain)
        step = 1.0 + relative * relative * (10.0 * grain)
        measured = (measured / step).round() * step
    if holes > 0:
        disparity = (_SHADOW_MM * size / 112 * 106.4) / depth.clamp_min(1.0)
        disparity = torch.where(seen, disparity, torch.zeros_like(disparity))
        for shift in range(1, max(2, round(6 * size / 112)) + 1):
            shadowed = disparity[:, :, shift:] - disparity[:, :, :-shift] >= shift / max(holes, 0.25)
            seen[:, :, :-shift] &= ~shadowed
        speck = noise.read(3, shape, depth.device)
        seen &= speck < 3.2 - 1.2 * holes
        coarse = noise.read(4, (size // _BLOB + 2, size // _BLOB + 2), depth.device)
        blobs = F.interpolate(coarse[:, None], size=shape, mode="bilinear", align_corners=True)[:, 0]
        seen &= blobs < 2.9 - 1.2 * holes
        seen &= (luma > 0.11 * holes) | (speck < -0.4)
    seen &= measured < _RANGE_MM
    return torch.where(seen, measured.round(), torch.zeros_like(measured)).to(torch.int32)
