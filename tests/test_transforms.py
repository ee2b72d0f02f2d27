"""One draw of crop for RGB and depth, the published crops, and colour jitter on RGB only."""

import colorsys
from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from dynagest.clips import jitter
from dynagest.clips.depth import PRESETS, DepthAffine, DepthSpec
from dynagest.clips.jitter import ColourJitter
from dynagest.clips.transforms import (
    WHOLE_FRAME,
    Crop,
    action_crop,
    apply,
    apply_depth,
    center_crop,
    paper_crop,
    three_crops,
)
from dynagest.clips.view import View
from dynagest.errors import DepthError, RecipeError

BRIGHT = PRESETS["egogesture"]
sides = st.integers(40, 300)
seeds = st.integers(0, 2**32 - 1)


def pixels(crop: Crop, height: int, width: int) -> tuple[int, int, int, int]:
    """(x, y, width, height) in pixels; a crop drawn for a frame lies on whole ones."""
    exact = (crop.left * width, crop.top * height, crop.width * width, crop.height * height)
    np.testing.assert_allclose(exact, np.rint(exact), atol=1e-6)
    x, y, w, h = (round(value) for value in exact)
    return x, y, w, h


@given(sides, sides, seeds)
def test_paper_crop(height: int, width: int, seed: int) -> None:
    """A square in a corner or the centre, 1, 7/8, 3/4 or 2/3 of the shorter side."""
    x, y, w, h = pixels(paper_crop(height, width, np.random.default_rng(seed)), height, width)
    assert w == h
    assert w in {round(scale * min(height, width)) for scale in (1, 7 / 8, 3 / 4, 2 / 3)}
    corners = {(a, b) for a in (0, width - w) for b in (0, height - h)}
    assert (x, y) in corners | {((width - w) // 2, (height - h) // 2)}


def test_paper_crop_draws_all_places_and_scales() -> None:
    rng = np.random.default_rng(0)
    drawn = {pixels(paper_crop(240, 320, rng), 240, 320) for _ in range(1000)}
    assert {w for _, _, w, _ in drawn} == {240, 210, 180, 160}
    assert len(drawn) == 3 + 3 * 5  # the full height leaves only left, middle and right


@given(sides, sides, seeds)
def test_action_crop(height: int, width: int, seed: int) -> None:
    x, y, w, h = pixels(action_crop(height, width, np.random.default_rng(seed)), height, width)
    assert 0 <= x <= width - w
    assert 0 <= y <= height - h
    lengths = [round(scale * min(height, width)) for scale in (1, 0.875, 0.75, 0.66)]
    assert abs(lengths.index(w) - lengths.index(h)) <= 1


def test_action_crop_draws_ten_pairs_at_thirteen_places() -> None:
    rng = np.random.default_rng(0)
    drawn = {pixels(action_crop(240, 320, rng), 240, 320) for _ in range(2000)}
    assert len({(w, h) for _, _, w, h in drawn}) == 10
    places = {(x, y) for x, y, w, h in drawn if (w, h) == (210, 180)}
    assert places == {
        *((x, y) for x in (0, 55, 110) for y in (0, 30, 60)),
        *((x, y) for x in (27, 82) for y in (15, 45)),
    }


def test_fixed_crops() -> None:
    assert pixels(center_crop(240, 320), 240, 320) == (40, 0, 240, 240)
    assert [pixels(crop, 240, 320) for crop in three_crops(240, 320)] == [
        (0, 0, 240, 240),
        (40, 0, 240, 240),
        (80, 0, 240, 240),
    ]
    assert [pixels(crop, 320, 240)[:2] for crop in three_crops(320, 240)] == [(0, 0), (0, 40), (0, 80)]
    assert pixels(WHOLE_FRAME, 240, 320) == (0, 0, 320, 240)


def test_apply_cuts_and_resizes() -> None:
    frames = np.random.default_rng(0).integers(0, 256, (2, 60, 80, 3), dtype=np.uint8)
    cut = apply(Crop.at(13, 7, 32, 32, (60, 80)), frames, 32)
    np.testing.assert_array_equal(cut, frames[:, 7:39, 13:45])
    mirrored = apply(Crop.at(13, 7, 32, 32, (60, 80), flip=True), frames, 32)
    np.testing.assert_array_equal(mirrored, cut[:, :, ::-1])
    halved = apply(Crop.at(0, 0, 64, 60, (60, 80)), frames[:, :, :, :], 30)
    assert halved.shape == (2, 30, 30, 3)
    averaged = apply(Crop.at(0, 0, 48, 48, (60, 80)), frames, 12)
    expected = frames[:, :48, :48].reshape(2, 12, 4, 12, 4, 3).mean(axis=(2, 4))
    assert np.abs(averaged - expected).max() <= 1.5


def smooth(height: int, width: int, spec: DepthAffine | None = None) -> np.ndarray:
    """A scene (H, W) of values 40..200 as seen by RGB, or by a depth camera that lies as ``spec`` says."""
    y, x = np.mgrid[0:height, 0:width] + 0.5
    x, y = x * 320 / width, y * 240 / height  # reference pixels
    if spec is not None:
        x, y = spec.scale * x + spec.shift_x, spec.scale * y + spec.shift_y
    return (120 + 50 * np.sin(x / 37) + 30 * np.cos(y / 29 + x / 90)).astype(np.uint8)


AFFINES = {
    "as RGB": None,
    "isogd": PRESETS["isogd-aligned"].affine,
    "nvgesture": PRESETS["nvgesture-aligned"].affine,
}


@pytest.mark.parametrize("depth_size", [(240, 320), (480, 640), (120, 160), (424, 512)])
@pytest.mark.parametrize("affine", AFFINES)
@pytest.mark.parametrize("size", [56, 112, 224])
def test_depth_shows_what_rgb_shows(affine: str, depth_size: tuple[int, int], size: int) -> None:
    """The scene's red and its depth are the same; after the augmented crop they must still be, at every draw.

    A shift of a depth crop by 3 pixels of 240 would exceed the tolerance.
    """
    spec = DepthSpec(near="bright", affine=AFFINES[affine])
    frames = np.repeat(smooth(240, 320)[None, ..., None], 3, axis=3)
    depth = smooth(*depth_size, AFFINES[affine])[None]
    rng = np.random.default_rng(0)
    view = View(num_segments=1, size=size, augment=True, jitter=0.0, flip_labels={})
    action = View(num_segments=1, size=size, augment=True, jitter=0.0, crop="action")
    flips, covered = 0, 0
    for draw in range(40):
        rgb, canonical, flip = (view if draw % 2 else action).transform(frames, depth, spec, rng)
        assert canonical is not None
        assert canonical.shape == (1, size, size)
        flips += flip
        # The depth camera's field of view may end within the crop; at its edge depth fades to 0.
        seen = (canonical[0] > 0.1).astype(np.uint8)
        covered += seen.mean()
        inner = cv2.erode(seen, np.ones((9, 9), np.uint8), borderType=cv2.BORDER_CONSTANT, borderValue=0) > 0
        assert np.abs(canonical[0] * 255 - rgb[0, ..., 0])[inner].max() < 3.5
    assert 2 < flips < 18
    assert covered > 40 * (0.99 if affine != "isogd" else 0.6)


def test_a_parted_depth_would_be_noticed() -> None:
    """The tolerance above is tight: 3 pixels of difference between the two crops exceed it."""
    frames, depth = np.repeat(smooth(240, 320)[None, ..., None], 3, axis=3), smooth(240, 320)[None]
    rgb = apply(Crop.at(0, 0, 200, 200, (240, 320)), frames, 224)
    parted = apply_depth(Crop.at(3, 0, 200, 200, (240, 320)), depth, 224, BRIGHT, (240, 320))
    assert np.abs(parted * 255 - rgb[..., 0]).max() > 3.5


@settings(max_examples=30)
@given(seeds, st.booleans())
def test_depth_of_noise_is_the_same_pixels(seed: int, action: bool) -> None:
    """Not smooth: without an affine and at equal size both are cut and resized alike, to rounding."""
    rng = np.random.default_rng(seed)
    depth = rng.integers(0, 256, (2, 90, 120), dtype=np.uint8)
    view = View(size=48, augment=True, jitter=0.0, flip_labels={}, crop="action" if action else "paper")
    rgb, canonical, _ = view.transform(np.repeat(depth[..., None], 3, axis=3), depth, BRIGHT, rng)
    assert np.abs(canonical * 255 - rgb[..., 0]).max() <= 1.01


def test_no_depth_where_the_camera_did_not_look() -> None:
    spec = PRESETS["isogd-aligned"]  # covers x 20..298.4, y 30..238.8 of 320 x 240
    depth = np.full((1, 240, 320), 55, np.uint8)
    canonical = apply_depth(WHOLE_FRAME, depth, 240, spec, (240, 320))[0]
    assert not canonical[:, :14].any()
    assert not canonical[:29].any()
    np.testing.assert_allclose(canonical[31:237, 17:222], 200 / 255, atol=1e-6)
    outside = apply_depth(Crop.at(0, 0, 16, 16, (240, 320)), depth, 32, spec, (240, 320))
    assert not outside.any()


def test_holes_never_look_near() -> None:
    """Raw values between a hole (0) and a far wall (250) would pass through 'near' if resized before made canonical."""
    depth = np.full((1, 60, 80), 250, np.uint8)
    depth[:, ::3, ::3] = 0
    spec = PRESETS["isogd"].model_copy(update={"erode": 0})  # else nothing would be left of it
    canonical = apply_depth(Crop.at(3, 2, 47, 47, (60, 80)), depth, 112, spec, (60, 80))
    assert 0 < canonical.max() <= 5 / 255 + 1e-6


@pytest.mark.parametrize("erode", [1, 3])
def test_a_hole_beyond_the_crop_drops_its_rim_inside(erode: int) -> None:
    rng = np.random.default_rng(erode)
    depth = rng.integers(8, 256, (2, 60, 80)).astype(np.uint8)
    depth[:, rng.integers(0, 60, 40), rng.integers(0, 80, 40)] = 0
    spec = PRESETS["isogd"].model_copy(update={"erode": erode})
    whole = spec.canonical(depth)
    for x, y in ((13, 7), (0, 0), (48, 28), (31, 16)):
        cut = apply_depth(Crop.at(x, y, 32, 32, (60, 80)), depth, 32, spec, (60, 80))
        np.testing.assert_array_equal(cut, whole[:, y : y + 32, x : x + 32])


def test_canonical_depth_needs_no_spec() -> None:
    depth = np.random.default_rng(0).random((2, 60, 80), dtype=np.float32)
    cut = apply_depth(Crop.at(13, 7, 32, 32, (60, 80)), depth, 32, None, (60, 80))
    np.testing.assert_array_equal(cut, depth[:, 7:39, 13:45])


def test_depth_between_pixels_is_interpolated_as_in_the_whole_image() -> None:
    """Also at the crop's own borders; beyond those of the image the outermost pixels go on."""
    ramp = np.add.outer(np.arange(24), np.arange(40)).astype(np.float32)[None] / 64  # at 2/5 of RGB's resolution
    cut = apply_depth(Crop.at(33, 23, 30, 30, (60, 100)), ramp, 96, None, (60, 100))[0]
    at = (np.arange(96) + 0.5) * 12 / 96 - 0.5  # from the crop's corner, in pixels of depth, whose centres are whole
    np.testing.assert_allclose(cut * 64, np.add.outer(9.2 + at, 13.2 + at), atol=0.07)  # OpenCV: 1/32 of a pixel
    for x, y in ((0, 0), (69, 0), (0, 29), (69, 29)):
        plane = apply_depth(Crop.at(x, y, 31, 31, (60, 100)), np.full_like(ramp, 0.5), 48, None, (60, 100))
        np.testing.assert_allclose(plane, 0.5, atol=1e-6)


def test_a_wide_frame_is_squashed_without_skipping_pixels() -> None:
    stripes = np.random.default_rng(0).integers(0, 256, 512, dtype=np.uint8)
    frames = np.broadcast_to(stripes[None, None, :, None], (1, 64, 512, 3))
    squashed = apply(WHOLE_FRAME, np.ascontiguousarray(frames), 32)
    assert np.abs(squashed[0, :, :, 0] - stripes.reshape(32, 16).mean(axis=1)).max() <= 1.5


def test_16_bit_depth() -> None:
    raw = np.full((1, 60, 80), 700, np.uint16)
    cut = apply_depth(WHOLE_FRAME, raw, 32, PRESETS["realsense"], (60, 80))
    np.testing.assert_allclose(cut, 0.5, atol=1e-6)
    with pytest.raises(DepthError):
        apply_depth(WHOLE_FRAME, raw, 32, BRIGHT, (60, 80))


def test_view_without_augmentation_draws_nothing() -> None:
    frames = np.random.default_rng(0).integers(0, 256, (2, 60, 80, 3), dtype=np.uint8)
    view = View(num_segments=2, size=28)
    results = [view.transform(frames, None, None, np.random.default_rng(seed)) for seed in range(5)]
    for rgb, depth, flip in results:
        np.testing.assert_array_equal(rgb, apply(center_crop(60, 80), frames, 28))
        assert depth is None
        assert not flip
    assert view.indices(20, np.random.default_rng(0)).tolist() == [4, 14]


@pytest.mark.parametrize(
    "field",
    [
        *({"sampling": "dens"}, {"crop": "papr"}, {"num_segments": 0}, {"siz": 64}),
        *({"scales": (2.0,)}, {"scales": ()}, {"jitter": 7.0}, {"brightness": -1.0}, {"hue": 3.0}),
        {"contrast": float("nan")},
    ],
)
def test_a_view_is_never_another_than_was_asked_for(field: dict) -> None:
    with pytest.raises(ValidationError, match=next(iter(field))):
        View(**field)


def test_dense_views_take_a_random_window_only_in_training() -> None:
    view, rng = View(num_segments=4, sampling="dense", stride=3, augment=True), np.random.default_rng(0)
    drawn = [view.indices(16, rng).tolist() for _ in range(200)]
    assert {tuple(indices) for indices in drawn} == {(k, k + 3, k + 6, k + 9) for k in range(7)}
    assert replace(view, augment=False).indices(16, rng).tolist() == [3, 6, 9, 12]


def test_scales_are_those_of_the_view_or_the_published_ones() -> None:
    rng = np.random.default_rng(0)

    def drawn(crop: str, scales: tuple[float, ...] | None) -> set[int]:
        view = View(augment=True, crop=crop, scales=scales)
        return {round(view.draw_crop(300, 400, rng).width * 400) for _ in range(200)}

    assert drawn("paper", None) == {300, 262, 225, 200}
    assert drawn("action", None) == {300, 262, 225, 198}
    assert drawn("paper", (0.5, 0.25)) == drawn("action", (0.5, 0.25)) == {150, 75}


@pytest.mark.parametrize("crop", ["paper", "action"])
def test_flips_are_off_unless_a_map_is_given(crop: str) -> None:
    rng = np.random.default_rng(0)
    assert not any(View(augment=True, crop=crop).draw_crop(60, 80, rng).flip for _ in range(100))
    mirrored = View(augment=True, crop=crop, flip_labels={})
    assert 30 < sum(mirrored.draw_crop(60, 80, rng).flip for _ in range(100)) < 70


def test_flip_table() -> None:
    classes = ("left", "grab", "right")
    assert View(flip_labels={"left": "right", "right": "left"}).flip_table(classes) == (2, 1, 0)
    assert View().flip_table(classes) == (0, 1, 2)
    with pytest.raises(RecipeError, match="'up' is not among the classes; there are left, grab, right"):
        View(flip_labels={"left": "up", "up": "left"}).flip_table(classes)
    with pytest.raises(RecipeError, match="add the way back of 'left' -> 'right'"):
        View(flip_labels={"left": "right"}).flip_table(classes)


COLOURS = np.random.default_rng(1).integers(0, 256, (2, 16, 16, 3), dtype=np.uint8)


def grey(frames: np.ndarray) -> np.ndarray:
    return frames.astype(float) @ [0.299, 0.587, 0.114]


@pytest.mark.parametrize("factor", [0.2, 0.9, 1.8])
def test_brightness_contrast_saturation(factor: float) -> None:
    x = COLOURS.astype(float)
    means = grey(COLOURS).mean(axis=(1, 2))[:, None, None, None]
    expected = {
        jitter.brightness: factor * x,
        jitter.contrast: factor * x + (1 - factor) * means,
        jitter.saturation: factor * x + (1 - factor) * grey(COLOURS)[..., None],
    }
    for change, values in expected.items():
        assert np.abs(change(COLOURS, factor) - np.clip(values, 0, 255)).max() <= 0.75, change.__name__


@pytest.mark.parametrize("turns", [-0.2, -0.05, 0.0, 0.13, 0.2])
def test_hue(turns: float) -> None:
    def turned(rgb: np.ndarray) -> list[float]:
        h, s, v = colorsys.rgb_to_hsv(*(rgb / 255))
        return [255 * c for c in colorsys.hsv_to_rgb((h + turns) % 1, s, v)]

    expected = np.apply_along_axis(turned, -1, COLOURS)
    # 8 bits of hue, rounded twice: up to 2 of 256 steps around the circle, 12 of 255 values of a channel.
    assert np.abs(jitter.hue(COLOURS, turns) - expected).max() <= 12
    assert np.abs(jitter.hue(COLOURS, turns) - expected).mean() < 2


def test_jitter_is_one_draw_for_the_clip_on_the_given_share() -> None:
    frames = np.repeat(COLOURS[:1], 4, axis=0)
    rng = np.random.default_rng(0)
    changed = 0
    for _ in range(300):
        out = ColourJitter(0.4, 0.8, 0.8, 0.8, 0.2)(frames, rng)
        assert (out == out[:1]).all()
        changed += bool((out != frames).any())
    assert 95 < changed < 145  # 40 % of 300
    assert (ColourJitter(0.0, 0.8, 0.8, 0.8, 0.2)(frames, rng) == frames).all()


def test_jitter_draws_each_change_within_its_strength_in_any_order(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[tuple[str, float]] = []
    for name in ("brightness", "contrast", "saturation", "hue"):
        monkeypatch.setattr(jitter, name, lambda frames, amount, name=name: drawn.append((name, amount)) or frames)
    change, rng = ColourJitter(1.0, brightness=0.8, contrast=0.4, saturation=1.5, hue=0.2), np.random.default_rng(0)
    for _ in range(1000):
        change(COLOURS, rng)
    orders = {tuple(name for name, _ in drawn[start : start + 4]) for start in range(0, len(drawn), 4)}
    assert len(orders) == 24
    for name, low, high in (
        *(("brightness", 0.2, 1.8), ("contrast", 0.6, 1.4)),
        *(("saturation", 0.0, 2.5), ("hue", -0.2, 0.2)),
    ):
        amounts = [amount for kind, amount in drawn if kind == name]
        assert low <= min(amounts) < low + 0.02 * (high - low)
        assert high - 0.02 * (high - low) < max(amounts) <= high


def test_a_view_jitters_each_colour_by_its_own_strength() -> None:
    strengths = {"brightness": 0.1, "contrast": 0.2, "saturation": 0.3, "hue": 0.05}
    view = View(size=16, augment=True, jitter=1.0, **strengths)
    jittered, _, _ = view.transform(COLOURS, None, None, np.random.default_rng(5))
    rng = np.random.default_rng(5)
    plain = apply(view.draw_crop(16, 16, rng), COLOURS, 16)
    np.testing.assert_array_equal(jittered, ColourJitter(1.0, **strengths)(plain, rng))


def test_jitter_leaves_depth_and_geometry_alone() -> None:
    depth = np.random.default_rng(0).integers(0, 256, (2, 60, 80), dtype=np.uint8)
    frames = np.repeat(depth[..., None], 3, axis=3)
    with_jitter, without = (View(size=32, augment=True, jitter=share) for share in (1.0, 0.0))
    for seed in range(10):
        jittered, depth_a, _ = with_jitter.transform(frames, depth, BRIGHT, np.random.default_rng(seed))
        plain, depth_b, _ = without.transform(frames, depth, BRIGHT, np.random.default_rng(seed))
        np.testing.assert_array_equal(depth_a, depth_b)
        assert (jittered != plain).any()
