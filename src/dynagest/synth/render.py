"""A z-buffer renderer for round cones: the same tensor code on the CPU and on a GPU.

Every solid is intersected, exactly and in perspective, with the rays of the pixels that it may cover. One scatter-min
over integer keys keeps the nearest hit of each pixel (a key has the depth in its high bits and the solid in its low
ones, so that ties are decided the same way everywhere). Only these visible hits are shaded.

Shapes: F frames, P solids, H x W pixels, N fragments, M visible pixels.
"""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from dynagest.synth.solids import Solids

_STEPS_PER_MM = 64  # resolution of the z-buffer
_SOLID_BITS = 7
MAX_SOLIDS = 1 << _SOLID_BITS
_FAR_MM = 30_000.0
_EMPTY = 2**31 - 1
_MIN_HIT_MM = 1.0


@dataclass(frozen=True)
class Camera:
    """A pinhole camera: focal length and image size in pixels; the principal point is the middle of the image."""

    focal: float
    height: int
    width: int

    def scaled(self, factor: int) -> "Camera":
        """The same view with ``factor`` times as many pixels along each side."""
        return Camera(self.focal * factor, self.height * factor, self.width * factor)

    def project(self, points: Tensor) -> Tensor:
        """Pixel coordinates (..., 2), x and y, of points (..., 3) in mm; pixel centres lie at integers."""
        centre = torch.tensor(((self.width - 1) / 2, (self.height - 1) / 2), device=points.device, dtype=points.dtype)
        return points[..., :2] / points[..., 2:] * self.focal + centre


@dataclass(frozen=True)
class Light:
    """A light. ``direction``: unit vector towards it; ``colour``, ``ambient``: RGB factors; ``gloss`` in [0, 1]."""

    direction: tuple[float, float, float]
    colour: tuple[float, float, float]
    ambient: tuple[float, float, float]
    gloss: float = 0.15


@dataclass(frozen=True)
class Hits:
    """The visible surface: ``pixel`` (M,), flat index into (F, H, W); ``depth`` (M,) mm; ``solid`` (M,), flat index
    into (F, P)."""

    pixel: Tensor
    depth: Tensor
    solid: Tensor


@dataclass(frozen=True)
class Layer:
    """The rendered solids. ``alpha`` (F, 1, H, W) in [0, 1]: the share of a pixel that they cover; ``rgb``
    (F, 3, H, W) in [0, 1], multiplied by ``alpha``; ``depth`` (F, H, W) mm, inf where there is no solid.
    """

    rgb: Tensor
    alpha: Tensor
    depth: Tensor


def render(solids: Solids, camera: Camera, light: Light, *, supersample: int = 2) -> Layer:
    """Render the solids with ``supersample ** 2`` rays a pixel. A pixel's depth is that of its nearest hit."""
    fine = camera.scaled(supersample)
    hits = cast(solids, fine)
    frames, height, width = solids.frames, fine.height, fine.width
    colour = shade(solids, hits, fine, light)
    pixels = height * width
    image = torch.zeros(frames * 4 * pixels, device=colour.device)
    red = hits.pixel + torch.div(hits.pixel, pixels, rounding_mode="floor") * (3 * pixels)
    for plane, values in enumerate((*colour, torch.ones_like(colour[0]))):
        image.index_copy_(0, red + plane * pixels, values)
    depth = torch.full((frames * pixels,), torch.inf, device=colour.device).index_copy_(0, hits.pixel, hits.depth)
    image = image.view(frames, 4, height, width)
    depth = depth.view(frames, height, width)
    if supersample > 1:
        image = _pool(image, supersample, torch.add) * supersample**-2
        depth = _pool(depth, supersample, torch.minimum)
    return Layer(image[:, :3], image[:, 3:], depth)


def _pool(image: Tensor, factor: int, merge: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Merge each square of ``factor`` x ``factor`` pixels into one.

    On a CPU, merging strided views is several times faster than ``avg_pool2d``.
    """
    rows = functools.reduce(merge, (image[..., i::factor, :] for i in range(factor)))
    return functools.reduce(merge, (rows[..., i::factor] for i in range(factor)))


def cast(solids: Solids, camera: Camera) -> Hits:
    """Find the nearest hit of each ray, one for every pixel of ``camera``; at most ``MAX_SOLIDS`` solids a frame."""
    assert solids.count <= MAX_SOLIDS
    count, height, width = solids.count, camera.height, camera.width
    rows = _rows(solids, camera)
    constants = _row_constants(solids, rows, camera)  # (10, R)
    fragment_row = torch.repeat_interleave(rows.columns)
    skipped = rows.first - (rows.columns.cumsum(0) - rows.columns)
    x = torch.arange(fragment_row.shape[0], device=skipped.device) + skipped.index_select(0, fragment_row)
    u = (x.to(torch.float32) - (width - 1) / 2) * (1.0 / camera.focal)
    z = _intersect(constants.index_select(1, fragment_row), u)

    hit = ((z > _MIN_HIT_MM) & (z < _FAR_MM)).nonzero().squeeze(1)
    row = fragment_row.index_select(0, hit)
    frame = torch.div(rows.solid, count, rounding_mode="floor")
    line = (frame * height + rows.y) * width
    pixel = line.index_select(0, row) + x.index_select(0, hit)
    number = (rows.solid - frame * count).to(torch.int32).index_select(0, row)
    key = (z.index_select(0, hit) * _STEPS_PER_MM).to(torch.int32) * MAX_SOLIDS + number
    nearest = torch.full((solids.frames * height * width,), _EMPTY, dtype=torch.int32, device=key.device)
    nearest.scatter_reduce_(0, pixel, key, "amin")

    pixel = (nearest != _EMPTY).nonzero().squeeze(1)
    key = nearest.index_select(0, pixel)
    depth = (key >> _SOLID_BITS).to(torch.float32) / _STEPS_PER_MM
    solid = torch.div(pixel, height * width, rounding_mode="floor") * count + (key & (MAX_SOLIDS - 1))
    return Hits(pixel, depth, solid)


@dataclass(frozen=True)
class Rows:
    """R runs of pixels in image rows, each of which a solid may cover.

    All (R,): ``solid``, the flat index into (F, P); ``y``, the image row; ``first``, the first column; ``columns``, the
    number of columns, which may be 0.
    """

    solid: Tensor
    y: Tensor
    first: Tensor
    columns: Tensor


def _rows(solids: Solids, camera: Camera) -> Rows:
    """The rows of the convex hull of each solid's two projected spheres, slightly enlarged, within the image."""
    ends = torch.stack((solids.a, solids.b))  # (2, F, P, 3)
    radius = torch.stack((solids.ra, solids.rb))[:, None, :, None]
    near = (ends[..., 2:] - radius).clamp_min(_MIN_HIT_MM)
    far = (ends[..., 2:] + radius).clamp_min(2 * _MIN_HIT_MM)
    low, high = ends[..., :2] - radius, ends[..., :2] + radius
    low, high = torch.minimum(low / near, low / far), torch.maximum(high / near, high / far)
    image = torch.tensor((camera.width, camera.height), device=low.device, dtype=low.dtype)
    bound = 16 * image  # limits the numbers of solids close to the camera
    centre = ((low + high) / 2 * camera.focal + (image - 1) / 2).clamp(-bound, bound)
    # A sphere's outline is an ellipse in its box. With this field of view it is at most 1.1 times as long as the box.
    reach = ((high - low).amax(-1) * (0.55 * camera.focal) + 1).clamp_max(2 * bound.amax())

    top = (centre[..., 1] - reach).amin(0).floor().clamp_min(0)
    bottom = (centre[..., 1] + reach).amax(0).ceil().clamp_max(camera.height - 1)
    behind = (ends[..., 2] + radius[..., 0]).amax(0) <= _MIN_HIT_MM
    tall = (bottom - top + 1).clamp_min(0).masked_fill(behind, 0).long().reshape(-1)
    solid = torch.repeat_interleave(tall)
    skipped = top.long().reshape(-1) - (tall.cumsum(0) - tall)
    y = torch.arange(solid.shape[0], device=solid.device) + skipped[solid]

    circle = torch.cat((centre, reach[..., None]), -1).reshape(2, -1, 3)  # x, y, r
    left, right = _hull_row(circle[0][solid], circle[1][solid], y.to(circle.dtype))
    first = left.floor().clamp(0, camera.width).long()
    columns = (right.ceil().clamp(-1, camera.width - 1).long() - first + 1).clamp_min(0)
    return Rows(solid, y, first, columns)


def _hull_row(a: Tensor, b: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """The least and the greatest x, at height y (R,), of the convex hull of circles a and b (R, 3), given as x, y and
    radius. At a height that the hull does not reach, least > greatest.
    """
    left, right = torch.full_like(y, torch.inf), torch.full_like(y, -torch.inf)
    for circle in (a, b):
        square = circle[:, 2].square() - (y - circle[:, 1]).square()
        half = torch.where(square >= 0, square, -torch.inf).abs().sqrt() * square.sign()  # -inf outside
        left, right = torch.minimum(left, circle[:, 0] - half), torch.maximum(right, circle[:, 0] + half)
    step = b[:, :2] - a[:, :2]
    length = step.norm(dim=1).clamp_min(1e-3)
    along = step / length[:, None]
    lean = (a[:, 2] - b[:, 2]) / length  # beyond +-1 one circle contains the other and there are no tangents
    rise = (1 - lean.square()).clamp_min(0).sqrt()
    for sign in (-1.0, 1.0):
        nx = along[:, 0] * lean - sign * along[:, 1] * rise
        ny = along[:, 1] * lean + sign * along[:, 0] * rise
        y0, y1 = a[:, 1] + a[:, 2] * ny, b[:, 1] + b[:, 2] * ny
        x0, x1 = a[:, 0] + a[:, 2] * nx, b[:, 0] + b[:, 2] * nx
        share = (y - y0) / (y1 - y0)
        x = x0 + share * (x1 - x0)
        crossed = (share >= 0) & (share <= 1) & (lean.abs() < 1)
        left = torch.where(crossed, torch.minimum(left, x), left)
        right = torch.where(crossed, torch.maximum(right, x), right)
    return left, right


def _row_constants(solids: Solids, rows: Rows, camera: Camera) -> Tensor:
    """The constants of ``_intersect`` that all rays of a row share, (10, R). Rays start in the camera's centre."""
    a, b = solids.a.reshape(-1, 3), solids.b.reshape(-1, 3)
    ra, rb = solids.ra.repeat(solids.frames), solids.rb.repeat(solids.frames)
    axis, origin = b - a, -a
    slope = ra - rb
    length2 = (axis * axis).sum(-1)
    along = (axis * origin).sum(-1)
    to_a, to_b = (a * a).sum(-1), (b * b).sum(-1)
    cone = length2 - slope * slope
    shift = ra * slope - along
    constant = cone * to_a - along * along + 2 * along * slope * ra - length2 * ra * ra
    table = torch.stack(
        (*axis.unbind(1), *origin.unbind(1), cone, shift, constant, to_a - ra * ra, to_b - rb * rb)
    ).index_select(1, rows.solid)
    v = (rows.y - (camera.height - 1) / 2) / camera.focal
    return torch.stack((table[0], table[1] * v + table[2], table[3], table[4] * v + table[5], v * v + 1.0, *table[6:]))


def _intersect(constants: Tensor, u: Tensor) -> Tensor:
    """Depth z, (N,), of the first hit of rays (u, v, 1), inf where there is none. ``constants`` (10, N), ``u`` (N,)."""
    axis_u, axis_v, origin_u, origin_v, length_v, cone, shift, constant, cap_a, cap_b = constants.unbind(0)
    along_axis = axis_u * u + axis_v
    along_origin = origin_u * u + origin_v
    length2 = u * u + length_v

    k2 = cone * length2 - along_axis * along_axis
    k1 = cone * along_origin + along_axis * shift
    inside = k1 * k1 - constant * k2
    on_cone = (-k1 - inside.clamp_min(0.0).sqrt()) / k2
    place = on_cone * along_axis - shift
    # Off the cone's flank only one of the two spheres can be the first hit.
    at_b = torch.where(k2 > 0, place >= cone, along_axis < 0)
    along = torch.where(at_b, along_origin - along_axis, along_origin)
    square = along * along - length2 * torch.where(at_b, cap_b, cap_a)
    on_ball = (-along - square.clamp_min(0.0).sqrt()) / length2
    flank = (place > 0) & (place < cone)
    return torch.where((inside > 0) & (flank | (square > 0)), torch.where(flank, on_cone, on_ball), torch.inf)


def shade(solids: Solids, hits: Hits, camera: Camera, light: Light) -> Tensor:
    """Compute the colour (3, M), in [0, 1], of the visible surface: Lambert shading, a soft highlight, darker rims,
    fingernails, creases at the joints and stripes on cloth.
    """
    per_pixel = camera.height * camera.width
    place = hits.pixel % per_pixel
    row = torch.div(place, camera.width, rounding_mode="floor")
    u = (place - row * camera.width - (camera.width - 1) / 2) / camera.focal
    v = (row - (camera.height - 1) / 2) / camera.focal
    a = solids.a.reshape(-1, 3).t().contiguous().index_select(1, hits.solid)
    axis = (solids.b - solids.a).reshape(-1, 3).t().contiguous().index_select(1, hits.solid)
    dorsal = solids.dorsal.reshape(-1, 3).t().contiguous().index_select(1, hits.solid)
    index = hits.solid % solids.count
    table = torch.stack((solids.ra, solids.ra - solids.rb, solids.flat, solids.nail, solids.crease, solids.stripe))
    ra, slope, flat, nail, crease, stripe = table.index_select(1, index).unbind(0)

    x, y, z = u * hits.depth - a[0], v * hits.depth - a[1], hits.depth - a[2]
    length2 = axis[0] * axis[0] + axis[1] * axis[1] + axis[2] * axis[2]
    along = x * axis[0] + y * axis[1] + z * axis[2]
    t = ((along - ra * slope) / (length2 - slope * slope)).clamp(0.0, 1.0)
    nx, ny, nz = x - t * axis[0], y - t * axis[1], z - t * axis[2]
    norm = (nx * nx + ny * ny + nz * nz).rsqrt()
    nx, ny, nz = nx * norm, ny * norm, nz * norm
    side = nx * dorsal[0] + ny * dorsal[1] + nz * dorsal[2]  # 1 on the back, -1 on the palm side

    toward = side.sign()
    nx, ny, nz = (n + flat * (toward * d - n) for n, d in zip((nx, ny, nz), dorsal, strict=True))
    norm = (nx * nx + ny * ny + nz * nz).rsqrt()
    nx, ny, nz = nx * norm, ny * norm, nz * norm

    back_share = (side * 1.6 + 0.5).clamp(0.0, 1.0)
    albedo = torch.lerp(solids.under.t().index_select(1, index), solids.albedo.t().index_select(1, index), back_share)
    nail_here = nail * ((side - 0.72) * 9.0).clamp(0.0, 1.0) * ((t - 0.3) * 8.0).clamp(0.0, 1.0)
    albedo = albedo + nail_here * 0.55 * (0.93 - 0.12 * (1 - t) - albedo)
    joint = (1.0 - 7.0 * torch.minimum(t, 1.0 - t)).clamp_min(0.0) * crease
    albedo = albedo * (1.0 - joint * (0.05 + 0.12 * side.abs()))
    woven = ((along * length2.rsqrt()) * 0.35).sin()
    albedo = albedo * (1.0 - stripe * (woven > 0.2))

    lx, ly, lz = light.direction
    lambert = (nx * lx + ny * ly + nz * lz).clamp_min(0.0)
    inverse = (u * u + v * v + 1.0).rsqrt()
    facing = (-(nx * u + ny * v + nz) * inverse).clamp(0.0, 1.0)
    rim = 0.5 + 0.5 * facing.sqrt()
    hx, hy, hz = _half_vector(light.direction)
    highlight = (nx * hx + ny * hy + nz * hz).clamp_min(0.0)
    shine = light.gloss * highlight.square().square().square()
    device = albedo.device
    colour = torch.tensor(light.colour, device=device)[:, None]
    ambient = torch.tensor(light.ambient, device=device)[:, None]
    return (albedo * (ambient + colour * lambert) * rim + shine).clamp(0.0, 1.0)


def _half_vector(light: tuple[float, float, float]) -> tuple[float, float, float]:
    """The unit vector halfway between the light and the eye, whose direction is about -z from all that is in view."""
    x, y, z = light[0], light[1], light[2] - 1.0
    norm = max(math.sqrt(x * x + y * y + z * z), 1e-6)
    return x / norm, y / norm, z / norm
