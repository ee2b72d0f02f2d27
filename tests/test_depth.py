"""Canonical depth: near = 1, invalid and background = 0, whatever the sensor; and its declaration in depth.yaml."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from pydantic import ValidationError

from dynagest.clips.depth import PRESETS, DepthAffine, DepthSpec, shape_fault
from dynagest.clips.frames import FrameReader
from dynagest.errors import DepthError

RAW8 = np.array([[0, 7, 8, 100, 255]], np.uint8)


@pytest.mark.parametrize(
    ("preset", "expected"),
    [
        ("egogesture", [0, 7, 8, 100, 255]),
        ("nvgesture", [0, 7, 8, 100, 255]),
        # datasets.md: 0 where d < 8, else 255 - d; a plain 255 - d would make the holes the brightest.
        # 8 is beside a hole of 7 and goes with it.
        ("isogd", [0, 0, 0, 155, 0]),
        ("isogd-aligned", [0, 0, 0, 155, 0]),
    ],
)
def test_canonical_of_8_bits(preset: str, expected: list[int]) -> None:
    canonical = PRESETS[preset].canonical(RAW8)
    assert canonical.dtype == np.float32
    assert canonical.shape == RAW8.shape
    np.testing.assert_allclose(canonical[0] * 255, expected, atol=1e-4)


def test_canonical_of_millimetres() -> None:
    spec = DepthSpec(near="dark", scale_mm=1.0, min_mm=200, max_mm=1200)
    raw = np.array([0, 100, 200, 700, 1200, 5000], np.uint16)
    np.testing.assert_allclose(spec.canonical(raw), [0, 1, 1, 0.5, 0, 0], atol=1e-6)
    # The same distances in the SR300's unit of 0.125 mm.
    sr300 = PRESETS["sr300"].canonical(raw * 8)
    np.testing.assert_allclose(sr300, [0, 1, 1, 0.5, 0, 0], atol=1e-6)
    assert sr300.dtype == np.float32


def test_canonical_of_any_shape_and_of_slices() -> None:
    raw = np.random.default_rng(0).integers(0, 256, (3, 20, 30), dtype=np.uint8)
    spec = PRESETS["isogd"].model_copy(update={"erode": 0})
    whole = spec.canonical(raw)
    np.testing.assert_array_equal(spec.canonical(raw[:, 2:9, 3:11]), whole[:, 2:9, 3:11])
    np.testing.assert_allclose(whole, np.where(raw < 8, 0, 255 - raw.astype(float)) / 255, atol=1e-6)


@pytest.mark.parametrize("erode", [0, 1, 3])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_rims_of_holes_are_dropped_and_no_more(erode: int, dtype: type) -> None:
    raw = np.full((2, 20, 30), 100, dtype)
    raw[0, 9, 12] = 0
    raw[1, 0, 29] = 7  # in a corner; what lies beyond the image is no hole
    metric = {"scale_mm": 1.0, "min_mm": 0.0, "max_mm": 200.0} if dtype is np.uint16 else {}
    canonical = DepthSpec(near="dark", invalid=7, erode=erode, **metric).canonical(raw)
    expected = np.zeros((2, 20, 30), bool)
    expected[0, 9 - erode : 10 + erode, 12 - erode : 13 + erode] = True
    expected[1, : 1 + erode, 29 - erode :] = True
    np.testing.assert_array_equal(canonical == 0, expected)
    assert len(np.unique(canonical)) == 2


def test_real_isogd_depth_has_few_bright_rims(shared_data: Path) -> None:
    """Beside holes nothing may look nearer, by 30 of 255, than the nearest of what is around, 5 to 9 pixels off."""
    spec, bright, pixels = PRESETS["isogd"], {0: 0, 1: 0}, 0
    for number in range(1, 201, 20):
        raw = FrameReader().depth(shared_data / "isogd" / "train" / "001" / f"K_{number:05d}.avi", [3])[0]
        distance = cv2.distanceTransform((raw > 7).astype(np.uint8), cv2.DIST_C, 3).round()
        around = cv2.erode(np.where(distance >= 5, raw, 255).astype(np.uint8), np.ones((19, 19), np.uint8))
        judged = (distance >= 1) & (distance <= 3) & (around < 255)
        pixels += judged.sum()
        for erode in bright:
            nearness = spec.model_copy(update={"erode": erode}).canonical(raw)
            bright[erode] += (nearness[judged] * 255 > 255 - around[judged] + 30.0).sum()
    assert bright[0] > 0.15 * pixels
    assert bright[1] < 0.15 * bright[0]


def test_8_bits_of_millimetres_are_refused() -> None:
    with pytest.raises(DepthError, match="8-bit but declared in millimetres"):
        PRESETS["realsense"].canonical(RAW8)


def test_16_bits_without_unit_are_refused() -> None:
    with pytest.raises(DepthError, match=r"16-bit but no unit.*scale_mm"):
        PRESETS["isogd"].canonical(RAW8.astype(np.uint16))


def test_floats_are_refused() -> None:
    with pytest.raises(DepthError, match="float32"):
        PRESETS["isogd"].canonical(RAW8.astype(np.float32))


def test_published_affines() -> None:
    nvgesture, isogd = PRESETS["nvgesture-aligned"].affine, PRESETS["isogd-aligned"].affine
    assert nvgesture == DepthAffine(scale=1.3, shift_x=-35, shift_y=-35, width=320, height=240)
    assert isogd == DepthAffine(scale=0.87, shift_x=20, shift_y=30, width=320, height=240)
    assert PRESETS["nvgesture"].affine is None
    assert PRESETS["isogd"].affine is None


@pytest.mark.parametrize("shift", [-278.4, 320, 20_000])
def test_a_map_that_leaves_no_depth_in_the_picture_is_refused(shift: float) -> None:
    with pytest.raises(ValidationError, match=r"shift_x = .* moves all depth out of the picture of 320 pixels"):
        DepthAffine(scale=0.87, shift_x=shift, shift_y=30, width=320, height=240)
    DepthAffine(scale=0.87, shift_x=max(min(shift, 319), -278), shift_y=30, width=320, height=240)


@pytest.mark.parametrize(("depth_size", "rgb_size"), [((240, 320), (240, 320)), ((480, 640), (240, 320))])
def test_align_moves_a_hand_where_the_map_says(depth_size: tuple[int, int], rgb_size: tuple[int, int]) -> None:
    """x_rgb = 0.87 x + 20, y_rgb = 0.87 y + 30 at 320 x 240: the box 100-200 x 40-80 goes to 107-194 x 64.8-99.6."""
    k = depth_size[0] // 240
    depth = np.zeros((2, *depth_size), np.float32)
    depth[1, 40 * k : 80 * k, 100 * k : 200 * k] = 0.7
    aligned = PRESETS["isogd-aligned"].align(depth, *rgb_size)
    assert aligned.shape == (2, *rgb_size)
    assert not aligned[0].any()
    rows, columns = np.nonzero(aligned[1])
    assert (columns.min(), columns.max() + 1) == (107, 194)
    assert abs(rows.min() - 64.8) <= 0.5
    assert abs(rows.max() + 1 - 99.6) <= 0.5
    assert set(np.unique(aligned[1]).tolist()) == {0.0, np.float32(0.7)}


def test_align_without_affine_fits_the_frame() -> None:
    depth = np.random.default_rng(0).random((1, 24, 32), dtype=np.float32)
    np.testing.assert_array_equal(PRESETS["isogd"].align(depth, 24, 32), depth)
    np.testing.assert_array_equal(PRESETS["isogd"].align(depth, 48, 64)[:, ::2, ::2], depth)


@pytest.mark.parametrize(
    ("depth_size", "rgb_size", "fits"),
    [
        ((240, 320), (480, 640), True),
        ((239, 320), (480, 640), True),  # a row was cut off
        ((424, 512), (480, 640), False),  # Kinect 2 beside a webcam
        ((320, 240), (240, 320), False),
        ((480, 640), (720, 1280), False),
    ],
)
def test_another_aspect_ratio_needs_an_affine(
    depth_size: tuple[int, int], rgb_size: tuple[int, int], fits: bool
) -> None:
    fault = shape_fault(depth_size, rgb_size, PRESETS["isogd"])
    assert bool(fault) != fits
    assert shape_fault(depth_size, rgb_size, None) == fault
    assert not shape_fault(depth_size, rgb_size, PRESETS["isogd-aligned"])


@pytest.mark.parametrize("name", PRESETS)
def test_yaml_round_trip(name: str, tmp_path: Path) -> None:
    path = tmp_path / "depth.yaml"
    path.write_text(PRESETS[name].to_yaml(), encoding="utf-8")
    assert DepthSpec.read(path) == DepthSpec.read(str(path)) == PRESETS[name]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("near: up", "near: is 'up', but must be 'bright' or 'dark'"),
        ("scale_mm: 1", "near: is missing"),
        ("near: dark\nscale: 3", "scale: there is no such field; there are near, scale_mm"),
        ("near: dark\ninvalid: 3.5", "invalid: is 3.5, but must be a whole number"),
        ("near: dark\nerode: 99", "erode: is 99, but must be at most 32"),
        ("near: dark\nscale_mm: one", "scale_mm: is 'one', but must be a number"),
        ("near: dark\naffine: 3", "affine: is 3, but must be a map"),
        ("near: bright\nscale_mm: 1\nmin_mm: 1\nmax_mm: 2", "near is dark"),
        ("near: dark\nscale_mm: 1", "needs min_mm and max_mm"),
        ("near: dark\nscale_mm: 1\nmin_mm: 500\nmax_mm: 200", "must be less"),
        ("near: dark\nmax_mm: 200", "need scale_mm"),
        (
            "near: dark\naffine: {scale: 0, shift_x: 1, shift_y: 2, width: 320, height: 240}",
            "affine.scale: is 0, but must be more than 0",
        ),
        ("near: dark\naffine: {scale: 1, shift_x: 1, width: 320, height: 240}", "affine.shift_y: is missing"),
        (
            "near: dark\ninvalid: [",
            "not YAML (line 2, column 11: expected the node content, but found '<stream end>'); write one",
        ),
        ("near: \x00", "not YAML (unacceptable character #x0000: special characters are not allowed); write one"),
        ("near: 2026-02-30", "not YAML (day is out of range for month; put quotes around text that looks like a date"),
        ("near: " + "[" * 4000, "not YAML (its lists or maps lie too deep in each other)"),
        ("near: dark\ninvalid: 0x_", "not YAML (invalid literal for int()"),
        ("", "holds no fields"),
        ("just words", "holds no fields"),
    ],
)
def test_bad_yaml_names_file_and_field(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "depth.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DepthError) as caught:
        DepthSpec.read(path)
    assert str(path) in str(caught.value)
    assert message in str(caught.value)
    assert "pydantic" not in str(caught.value)
    assert "Input should" not in str(caught.value)


def test_missing_yaml_says_what_to_write(tmp_path: Path) -> None:
    with pytest.raises(DepthError, match=r"missing; write[\s\S]*near: bright"):
        DepthSpec.read(tmp_path / "depth.yaml")


def test_real_16_bit_depth(shared_data: Path) -> None:
    """Hands 0.5 to 1 m before an SR305: a third to two thirds of the range, holes 0."""
    path = sorted((shared_data / "depth16").glob("20210326-231615_*.png"))[0]
    raw = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    canonical = PRESETS["sr300"].canonical(raw)
    assert raw.dtype == np.uint16
    assert (canonical[raw == 0] == 0).all()
    seen = canonical[raw > 0]
    millimetres = raw[raw > 0] * 0.125
    np.testing.assert_allclose(seen, np.clip((1200 - millimetres) / 1000, 0, 1), atol=1e-6)
    assert 0.3 < np.median(seen) < 0.7
