"""The renderer against analytic geometry."""

import math

import pytest
import torch

from dynagest.synth.render import Camera, Light, _hull_row, cast, render
from dynagest.synth.solids import Solids, join, plain_solids

LIGHT = Light((0.0, 0.0, -1.0), (0.6, 0.6, 0.6), (0.4, 0.4, 0.4), gloss=0.0)
CAMERA = Camera(100.0, 101, 101)  # odd: pixel 50 looks straight ahead


def cone(a, b, ra, rb, colour=(1.0, 0.0, 0.0)) -> Solids:
    return plain_solids(
        torch.tensor(a).float().view(1, 1, 3),
        torch.tensor(b).float().view(1, 1, 3),
        torch.tensor([float(ra)]),
        torch.tensor([float(rb)]),
        torch.tensor(colour).view(1, 3),
    )


def brute_force(solids: Solids, camera: Camera, samples: int = 1500) -> torch.Tensor:
    """First hits of spheres strung along each axis: (H, W) depth, inf where none."""
    y, x = torch.meshgrid(torch.arange(camera.height), torch.arange(camera.width), indexing="ij")
    u = ((x - (camera.width - 1) / 2) / camera.focal).double()
    v = ((y - (camera.height - 1) / 2) / camera.focal).double()
    q = u * u + v * v + 1
    best = torch.full_like(u, math.inf)
    for p in range(solids.count):
        for s in torch.linspace(0, 1, samples).double():
            c = solids.a[0, p].double() + s * (solids.b[0, p] - solids.a[0, p]).double()
            r = solids.ra[p].double() + s * (solids.rb[p] - solids.ra[p]).double()
            dot = c[0] * u + c[1] * v + c[2]
            inside = dot * dot - q * (c.dot(c) - r * r)
            z = torch.where(inside > 0, (dot - inside.clamp_min(0).sqrt()) / q, math.inf)
            best = torch.minimum(best, z)
    return best


def drawn(solids: Solids, camera: Camera = CAMERA) -> torch.Tensor:
    return render(solids, camera, LIGHT, supersample=1).depth[0].double()


def test_the_middle_of_a_sphere_is_its_distance_minus_its_radius():
    depth = drawn(cone((0, 0, 400), (0, 0.01, 400), 60, 60))
    assert depth[50, 50].item() == pytest.approx(340.0, abs=0.05)
    # tangent of the outline: r / sqrt(z^2 - r^2) = 0.1517, that is 15.17 pixels
    assert torch.isfinite(depth[50]).nonzero().squeeze(1).tolist() == list(range(35, 66))


def test_a_capsule_across_the_view_is_as_near_as_its_axis_minus_its_radius():
    depth = drawn(cone((-100, 0, 500), (100, 0, 500), 30, 30))
    torch.testing.assert_close(depth[50, 35:66], torch.full((31,), 470.0).double(), atol=0.05, rtol=0)
    assert torch.isinf(depth[43, 50])
    assert torch.isfinite(depth[45, 50])


@pytest.mark.parametrize(
    ("a", "b", "ra", "rb"),
    [
        ((-60, -40, 380), (70, 50, 420), 30, 14),
        ((5, 5, 300), (10, 8, 430), 25, 10),
        ((5, 5, 430), (10, 8, 300), 25, 10),
        ((40, -80, 420), (42, -78, 360), 20, 20),
        ((-150, 0, 300), (-30, 200, 500), 40, 60),
        ((0, 0, 300), (0, 0, 380), 20, 20),
    ],
)
def test_round_cones_agree_with_strings_of_spheres(a, b, ra, rb):
    # A little off the axis, where no pixel looks along it exactly.
    solids = cone(a, b, ra, rb)
    expected, got = brute_force(solids, CAMERA), drawn(solids)
    both = torch.isfinite(expected) & torch.isfinite(got)
    outline = torch.isfinite(expected) ^ torch.isfinite(got)
    assert both.sum() > 100
    assert outline.sum() <= 0.02 * both.sum()
    steep = (expected - got).abs()[both]
    assert steep.quantile(0.98) < 0.1
    assert steep.max() < 3.0  # the polygon of spheres grazes the outline differently


def test_the_nearer_solid_hides_the_farther_in_either_order():
    near, far = cone((0, 0, 300), (0, 1, 300), 30, 30), cone((0, 0, 500), (0, 1, 500), 90, 90, (0.0, 0.0, 1.0))
    for solids in (join(near, far), join(far, near)):
        layer = render(solids, CAMERA, LIGHT, supersample=1)
        assert layer.rgb[0, 0, 50, 50] > 0.5
        assert layer.rgb[0, 2, 50, 50] < 0.1
        assert layer.rgb[0, 2, 50, 64] > 0.3  # beside the near one
        assert layer.depth[0, 50, 50].item() == pytest.approx(270.0, abs=1.0)


def test_supersampling_gives_fractional_coverage_at_the_outline_alone():
    layer = render(cone((0, 0, 400), (0, 1, 400), 60, 60), CAMERA, LIGHT, supersample=2)
    alpha = layer.alpha[0, 0]
    assert alpha[50, 50] == 1.0
    assert alpha[0, 0] == 0.0
    partial = ((alpha > 0) & (alpha < 1)).sum()
    assert 20 < partial < 150


def test_frames_do_not_mix():
    one, two = cone((0, 0, 400), (0, 1, 400), 40, 40), cone((80, 30, 500), (90, 40, 450), 30, 20)
    together = Solids(
        a=torch.cat((one.a, two.a)),
        b=torch.cat((one.b, two.b)),
        ra=torch.tensor([40.0]),
        rb=torch.tensor([40.0]),
        dorsal=torch.cat((one.dorsal, two.dorsal)),
        albedo=one.albedo,
        under=one.under,
        flat=one.flat,
        nail=one.nail,
        crease=one.crease,
        stripe=one.stripe,
    )
    depth = render(together, CAMERA, LIGHT, supersample=1).depth
    torch.testing.assert_close(depth[0].double(), drawn(one))


def test_a_row_that_touches_a_circle_is_as_wide_as_its_neighbours():
    a, b = (torch.tensor([circle]).expand(3, 3) for circle in ((10.0, 20.0, 4.0), (12.0, 20.0, 6.0)))
    left, right = _hull_row(a, b, torch.tensor([16 - 1e-3, 16.0, 16 + 1e-3]))  # 16: the top of a, within b
    assert left[0] > left[1] > left[2]
    assert right[0] < right[1] < right[2]


def test_what_is_behind_the_eye_or_outside_is_not_drawn():
    for solid in (cone((0, 0, -400), (0, 10, -300), 60, 60), cone((900, 0, 300), (950, 0, 300), 20, 20)):
        assert len(cast(solid, CAMERA).pixel) == 0
        assert torch.isinf(drawn(solid)).all()


def test_light_falls_from_its_direction():
    above = Light((0.0, -1.0, 0.0), (0.8, 0.8, 0.8), (0.1, 0.1, 0.1), gloss=0.0)
    rgb = render(cone((0, 0, 400), (0, 1, 400), 100, 100), CAMERA, above, supersample=1).rgb[0, 0]
    assert rgb[35, 50] > 2 * rgb[65, 50]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_a_gpu_draws_the_same_picture():
    solids = cone((-60, -40, 380), (70, 50, 420), 30, 14)
    there = Solids(**{name: value.cuda() for name, value in vars(solids).items()})
    cpu, gpu = (render(s, CAMERA, LIGHT, supersample=2) for s in (solids, there))
    assert (cpu.rgb - gpu.rgb.cpu()).abs().mean() < 1e-3
    assert (cpu.alpha - gpu.alpha.cpu()).abs().mean() < 1e-3
