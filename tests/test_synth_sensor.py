"""What the cameras add and lose."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import dynagest.synth.film as film_module
from dynagest.clips.depth import DepthSpec
from dynagest.synth.motion import COLUMNS, TURN, Motion
from dynagest.synth.recording import plan, record
from dynagest.synth.sensor import Noise, blur, expose, misaligned, sense
from dynagest.synth.spec import MISALIGNMENT, SynthSpec

SIZE = 64


def noise(frames: int = 2, seed: int = 0) -> Noise:
    return Noise.draw(np.random.default_rng(seed), frames)


def step(frames: int = 2) -> torch.Tensor:
    """A hand at 400 mm in front of a wall at 1400 mm."""
    depth = torch.full((frames, SIZE, SIZE), 1400.0)
    depth[:, 20:50, 20:50] = 400.0
    return depth


BRIGHT = torch.full((2, SIZE, SIZE), 0.6)


def test_a_perfect_sensor_gives_the_true_millimetres():
    depth = step() + 0.3
    assert torch.equal(sense(depth, BRIGHT, noise(), grain=0.0, holes=0.0), (depth.round()).int())


def test_holes_are_zero_and_grow_with_their_strength():
    shares = []
    for holes in (0.0, 0.3, 0.6, 1.0):
        measured = sense(step(), BRIGHT, noise(), grain=0.0, holes=holes)
        assert set(measured.unique().tolist()) <= {0, 400, 1400}
        shares.append(float((measured == 0).float().mean()))
    assert shares[0] == 0
    assert shares == sorted(shares)
    assert 0.01 < shares[-1] < 0.3


def test_the_shadow_lies_on_one_side_of_the_near_object():
    measured = sense(step(), BRIGHT, noise(), grain=0.0, holes=1.0)[0]
    # 22 mm * 60.8 pixels * (1 / 400 - 1 / 1400 mm) = 2.4 pixels
    left, right = (measured[22:48, columns] == 0 for columns in (slice(18, 20), slice(50, 52)))
    assert left.float().mean() > 0.9
    assert right.float().mean() < 0.2
    assert (measured[22:48, 20:50] == 400).float().mean() > 0.85


def test_dark_surfaces_lose_depth():
    dark = torch.full_like(BRIGHT, 0.01)
    lost = [float((sense(step(), luma, noise(), grain=0.0, holes=0.6) == 0).float().mean()) for luma in (BRIGHT, dark)]
    assert lost[1] > lost[0] + 0.4


def test_noise_grows_with_distance_and_changes_from_frame_to_frame():
    flat = torch.full((2, SIZE, SIZE), 400.0)
    flat[:, :, 32:] = 1400.0
    measured = sense(flat, BRIGHT, noise(), grain=1.0, holes=0.0).float()
    near, far = measured[:, :, :28], measured[:, :, 36:]
    assert 0.2 < near.std() < 3
    assert far.std() > 4 * near.std()
    assert not torch.equal(measured[0], measured[1])
    assert (near.mean() - 400).abs() < 1


def test_depth_beyond_the_sensors_range_is_a_hole():
    for mm, seen in ((1499.0, 1499), (1500.0, 0), (2500.0, 0)):
        measured = sense(torch.full((2, SIZE, SIZE), mm), BRIGHT, noise(), grain=0.0, holes=0.0)
        assert set(measured.unique().tolist()) == {seen}


@pytest.mark.parametrize("kind", ["nvgesture", "isogd"])
def test_misalignment_is_the_measured_map_and_the_depth_spec_undoes_it(kind):
    affine = MISALIGNMENT[kind]
    assert affine is not None
    assert (affine.width, affine.height) == (320, 240)
    height, width = 240, 320
    depth = torch.zeros(1, height, width)
    depth[0, 100:140, 150:190] = 400.0  # in the colour frame
    seen = misaligned(depth, affine)[0]
    rows, columns = seen.nonzero().unbind(1)
    for found, first, last, shift in (
        (columns, 150, 190, affine.shift_x),
        (rows, 100, 140, affine.shift_y),
    ):
        # x_rgb = scale * x_depth + shift
        assert float(found.min()) == pytest.approx((first - shift) / affine.scale, abs=1)
        assert float(found.max()) + 1 == pytest.approx((last - shift) / affine.scale, abs=1)
    spec = DepthSpec(near="dark", scale_mm=1.0, min_mm=200, max_mm=1000, affine=affine)
    aligned = spec.align(spec.canonical(seen[None].numpy().astype(np.uint16)), height, width)[0]
    true = depth[0].numpy() > 0
    assert ((aligned > 0) & true).sum() / ((aligned > 0) | true).sum() > 0.9


def test_the_same_offsets_give_the_same_noise_for_any_selection_of_frames():
    all_frames = noise(4)
    some = all_frames.select(np.array([1, 3]))
    read = all_frames.read(0, (5, 5), torch.device("cpu"))
    assert torch.equal(read[[1, 3]], some.read(0, (5, 5), torch.device("cpu")))
    assert abs(float(all_frames.read(0, (200, 200), torch.device("cpu")).mean())) < 0.02


def test_blur_smears_along_the_movement_and_keeps_the_light():
    dot = torch.zeros(2, 1, 33, 33)
    dot[:, 0, 16, 16] = 1.0
    smeared = blur(dot, torch.tensor(((4.0, 0.0), (0.0, 4.0))), 0.4)
    torch.testing.assert_close(smeared.sum((1, 2, 3)), torch.ones(2))
    assert smeared[0, 0, 16].sum() > 0.9
    assert smeared[1, 0, :, 16].sum() > 0.9
    assert smeared[0, 0, 16, 14] > 0.1


def test_exposure_is_a_factor_and_noise_keeps_the_mean():
    grey = torch.full((2, 3, 64, 64), 0.4)
    assert set(expose(grey, (1.0, 0.5, 1.5), noise(), 0.0).unique().tolist()) == {51, 102, 153}
    noisy = expose(grey, (1.0, 1.0, 1.0), noise(), 1.0).float()
    assert (noisy.mean() - 102).abs() < 0.5
    assert 8 < noisy.std() < 16


def test_the_hand_is_smeared_as_its_middle_moves(monkeypatch: pytest.MonkeyPatch):
    """A hand that turns clockwise about a wrist at rest moves to the right, because its fingers point up."""
    smears: list[torch.Tensor] = []

    def watch(image: torch.Tensor, velocity: torch.Tensor, sigma: float) -> torch.Tensor:
        if image.shape[1] == 4:  # the hand, with its alpha
            smears.append(velocity)
        return blur(image, velocity, sigma)

    spec = SynthSpec(classes=("grab",), views=("egocentric",), size=64, num_frames=4, blur=1.0)
    take = plan(spec, "train", 0)
    keys = np.zeros((2, COLUMNS))
    keys[:, TURN] = (-60.0, 60.0)
    monkeypatch.setattr(film_module, "blur", watch)
    events = replace(take.events, shutter=1.0)
    record(spec, replace(take, events=events, motion=Motion(np.array([0.0, 1.0]), keys, np.zeros((3, COLUMNS, 3)))))
    (smear,) = smears
    assert (smear[:, 0] > 0.3).all()
    assert smear[0, 1] < 0 < smear[-1, 1], "up on the left, down on the right"
