"""The still background: walls, tables, furniture and clutter with texture, colour and depth."""

import colorsys
import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from dynagest.synth.motion import Viewpoint
from dynagest.synth.subject import Colour, skin_tone

MARGIN = 0.12  # of the image's size: the canvas is that much larger on every side, so that the camera can move
_MOST_ITEMS = 26


@dataclass(frozen=True)
class Item:
    """A flat object that faces the camera. ``kind``: ellipse or box. ``centre``, ``half`` (half its width and height):
    (x, y) in widths of the image, 0 in the image's middle. ``angle`` in radians; ``depth`` in mm. ``texture``: plain,
    stripes, checks or speckle, in ``colour`` and ``second``; ``period`` of stripes and checks in widths of the image.
    """

    kind: str
    centre: tuple[float, float]
    half: tuple[float, float]
    angle: float
    depth: float
    colour: Colour
    second: Colour
    texture: str
    period: float


@dataclass(frozen=True)
class Canvas:
    """A background. ``wall``: the wall's colours at the top and the bottom. ``horizon``: y (in widths of the image, 0
    in its middle) below which a table or floor comes nearer. ``wall_mm``: the wall's depth in the middle; ``slant``:
    what part of that the depth gains along x, per width of the image. ``table_mm``: the table's nearest depth.
    ``noise``: (3, n, n) grids of rising n; ``roughness``: strength of the texture that they make.
    """

    wall: tuple[Colour, Colour]
    table: Colour
    horizon: float
    wall_mm: float
    table_mm: float
    slant: float
    noise: tuple[np.ndarray, ...]
    roughness: float
    items: tuple[Item, ...]


def _random_colour(rng: np.random.Generator, clutter: float) -> Colour:
    """Draw a colour. With more clutter, saturated and skin-like colours are more frequent."""
    if rng.uniform() < 0.22 * clutter:
        return skin_tone(rng.uniform())[0]
    return colorsys.hsv_to_rgb(rng.uniform(), rng.uniform(0.0, 0.25 + 0.55 * clutter), rng.uniform(0.12, 0.95))


def draw_canvas(rng: np.random.Generator, view: Viewpoint, clutter: float) -> Canvas:
    """Draw a background for ``view``. ``clutter`` goes from 0, a plain wall and at most a table, to 1, many objects."""
    most = clutter * _MOST_ITEMS
    count = int(rng.uniform(0.5, 1.0) * most)
    near = 650.0 if view == "egocentric" else 1100.0
    items = sorted((_draw_item(rng, clutter, near) for _ in range(count)), key=lambda item: -item.depth)
    base = _random_colour(rng, 0.6 * clutter)
    other = _random_colour(rng, 0.6 * clutter)
    share = 0.3 + 0.7 * clutter
    lower = tuple(share * o + (1 - share) * b for o, b in zip(other, base, strict=True))
    horizon = rng.uniform(-0.35, 0.35) if view == "egocentric" else rng.uniform(0.1, 0.6)
    return Canvas(
        wall=(base, (lower[0], lower[1], lower[2])),
        table=_random_colour(rng, clutter),
        horizon=horizon if rng.uniform() < 0.4 + 0.5 * clutter else 2.0,
        wall_mm=float(rng.uniform(1500, 3200)),
        table_mm=float(rng.uniform(560, 800)) if view == "egocentric" else float(rng.uniform(1000, 1500)),
        slant=float(rng.uniform(-0.3, 0.3)),
        noise=tuple(rng.normal(0, 1, (3, 2**k + 1, 2**k + 1)).astype(np.float32) for k in range(1, 7)),
        roughness=clutter * float(rng.uniform(0.2, 1.0)),
        items=tuple(items),
    )


def _draw_item(rng: np.random.Generator, clutter: float, near: float) -> Item:
    upright = rng.uniform() < 0.5
    return Item(
        kind="ellipse" if rng.uniform() < 0.3 else "box",
        centre=(float(rng.uniform(-0.65, 0.65)), float(rng.uniform(-0.65, 0.65))),
        half=(float(rng.uniform(0.03, 0.28)), float(rng.uniform(0.03, 0.28))),
        angle=0.0 if upright else float(rng.uniform(-math.pi, math.pi)),
        depth=float(rng.uniform(near, 2600)),
        colour=_random_colour(rng, clutter),
        second=_random_colour(rng, clutter),
        texture=("plain", "plain", "stripes", "checks", "speckle")[int(rng.integers(5))],
        period=float(rng.uniform(0.03, 0.14)),
    )


def paint(canvas: Canvas, size: int, device: torch.device | str = "cpu") -> Tensor:
    """Paint the background, (4, S, S): RGB in [0, 1] and depth in mm. S is ``size`` plus a margin on every side."""
    full = size + 2 * math.ceil(MARGIN * size)
    at = (torch.arange(full, device=device, dtype=torch.float32) - (full - 1) / 2) / size
    x, y = at[None, :].expand(full, full), at[:, None].expand(full, full)
    clouds = torch.zeros(3, full, full, device=device)
    for octave, grid in enumerate(canvas.noise):
        values = torch.from_numpy(grid).to(device)[None]
        smooth = F.interpolate(values, size=(full, full), mode="bilinear", align_corners=True)[0]
        clouds += smooth * 0.62**octave

    top, bottom = (torch.tensor(colour, device=device)[:, None, None] for colour in canvas.wall)
    rgb = torch.lerp(top.expand(3, full, full), bottom.expand(3, full, full), (y + 0.5).clamp(0, 1))
    depth = canvas.wall_mm * (1 + canvas.slant * x)
    below = y > canvas.horizon
    table = torch.tensor(canvas.table, device=device)[:, None, None]
    rgb = torch.where(below, table.expand_as(rgb), rgb)
    run = ((y - canvas.horizon) / max(0.62 - canvas.horizon, 0.2)).clamp(0, 1)
    inverse = (1 - run) / canvas.wall_mm + run / canvas.table_mm  # a plane's inverse depth is linear in the image
    depth = torch.where(below, 1.0 / inverse, depth)
    rgb = rgb * (1 + 0.22 * canvas.roughness * clouds)
    rgb = rgb + 0.05 * canvas.roughness * clouds[[1, 2, 0]]

    out = torch.cat((rgb, depth[None]))
    for item in canvas.items:
        _paint_item(out, item, x, y, clouds, size)
    out[:3] = out[:3].clamp(0.02, 1.0)
    return out


def _paint_item(out: Tensor, item: Item, x: Tensor, y: Tensor, clouds: Tensor, size: int) -> None:
    """Paint the item onto ``out`` (4, S, S)."""
    full = out.shape[-1]
    cos, sin = math.cos(item.angle), math.sin(item.angle)
    reach_x = abs(item.half[0] * cos) + abs(item.half[1] * sin)
    reach_y = abs(item.half[0] * sin) + abs(item.half[1] * cos)

    def window(centre: float, reach: float) -> slice:
        first = (centre - reach) * size + (full - 1) / 2
        last = (centre + reach) * size + (full - 1) / 2
        return slice(max(math.floor(first), 0), max(min(math.ceil(last) + 1, full), 0))

    rows, columns = window(item.centre[1], reach_y), window(item.centre[0], reach_x)
    if rows.start >= rows.stop or columns.start >= columns.stop:
        return
    dx, dy = x[rows, columns] - item.centre[0], y[rows, columns] - item.centre[1]
    across, along = dx * cos + dy * sin, dy * cos - dx * sin
    if item.kind == "ellipse":
        inside = (across / item.half[0]).square() + (along / item.half[1]).square() < 1
    else:
        inside = (across.abs() < item.half[0]) & (along.abs() < item.half[1])
    patch = out[:, rows, columns]
    first = torch.tensor(item.colour, device=out.device)[:, None, None]
    second = torch.tensor(item.second, device=out.device)[:, None, None]
    turn = 2 * math.pi / item.period
    if item.texture == "stripes":
        mix = ((across * turn).sin() > 0.2).float()
    elif item.texture == "checks":
        mix = ((across * turn).sin() * (along * turn).sin() > 0).float()
    elif item.texture == "speckle":
        mix = (clouds[0, rows, columns] * 0.5 + 0.5).clamp(0, 1)
    else:
        mix = torch.zeros_like(across)
    colour = torch.lerp(first.expand(3, *mix.shape), second.expand(3, *mix.shape), mix)
    shading = 1 + along * ((0.25 * sin - 0.2 * cos) / item.half[1]) + 0.06 * clouds[1, rows, columns]
    surface = torch.cat((colour * shading, torch.full_like(mix, item.depth)[None]))
    patch.copy_(torch.where(inside, surface, patch))
