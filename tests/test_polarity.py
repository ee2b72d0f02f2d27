"""Whether near looks bright or dark: right, or silent; never wrong with confidence."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from clip_files import depth_frames, make_clip, make_manifest, of_files, save_video

from dynagest.clips.adapters import index_dataset
from dynagest.clips.checks.check import check
from dynagest.clips.checks.cues import outlines, passing
from dynagest.clips.checks.polarity import Polarity, vote
from dynagest.clips.depth import PRESETS, DepthSpec
from dynagest.clips.frames import FrameReader
from dynagest.synth.recording import plan, record
from dynagest.synth.spec import get_preset


@pytest.mark.parametrize(("clips", "severity"), [(6, "error"), (2, "warning")])
def test_wrong_polarity(tmp_path: Path, clips: int, severity: str) -> None:
    manifest = make_manifest(*(make_clip(tmp_path, f"{k}") for k in range(clips)), depth=DepthSpec(near="dark"))
    report = check(manifest)
    (problem,) = of_files(report)
    assert (problem.severity, problem.kind) == (severity, "polarity")
    assert f"declared near = dark; {clips} clips look near = bright" in problem.message
    assert report.polarity.looks == "bright"


@pytest.mark.parametrize(
    ("hand", "wall", "dtype", "says"),
    [
        (200, 60, np.uint8, "bright"),
        (60, 200, np.uint8, "dark"),
        (400, 900, np.uint16, "dark"),
        (100, 100, np.uint8, None),
    ],
)
def test_vote_on_generated_depth(hand: int, wall: int, dtype: type, says: str | None) -> None:
    assert vote(depth_frames(10, hand, wall, dtype=dtype)) == says


@pytest.mark.parametrize(("hand", "rim", "says"), [(200, 190, "bright"), (60, 70, "dark"), (90, 90, None)])
def test_a_round_hand_before_nothing_tells(hand: int, rim: int, says: str | None) -> None:
    wall = hand + 12 * (rim - hand) if rim != hand else 0
    depth = depth_frames(10, hand, wall)
    depth[depth == wall] = 0
    if hand == rim:
        depth[depth > 0] = hand
    assert passing(depth) == 0
    assert vote(depth) == says


def test_cues_that_contradict_each_other_are_no_vote() -> None:
    """A dish, hollow towards the camera, that passes in front of a wall."""
    dish = depth_frames(10, hand=180, wall=240)
    dish[dish == 240] = 60
    assert passing(dish) > 0.9
    assert outlines(dish) < -0.25
    assert vote(dish) is None


def test_vote_leaves_holes_out() -> None:
    depth = depth_frames(10, hand=200, wall=100)
    rng = np.random.default_rng(0)
    for frame in depth:  # holes that come and go look like something dark in front
        for y, x in rng.integers(0, 40, (3, 2)):
            frame[y : y + 4, x : x + 4] = rng.integers(0, 8)
    assert vote(depth) == "bright"


@pytest.mark.parametrize(
    ("polarity", "looks", "contradicts", "certain"),
    [
        (Polarity("dark", 0, 193, 7), "dark", False, True),
        (Polarity("bright", 0, 193, 7), "dark", True, True),
        (Polarity("bright", 1, 4, 0), "dark", True, True),
        (Polarity("bright", 2, 4, 0), "unclear", False, True),
        (Polarity("bright", 0, 4, 0), "dark", True, False),
        (Polarity("bright", 0, 0, 9), "unclear", False, False),
        (Polarity("bright", 0, 9, 91), "dark", True, False),
    ],
)
def test_polarity_of_many_clips(polarity: Polarity, looks: str, contradicts: bool, certain: bool) -> None:
    assert (polarity.looks, polarity.contradicts, polarity.certain) == (looks, contradicts, certain)


def test_polarity_says_what_it_knows() -> None:
    assert "3 clips look near = bright, 0 near = dark, 1 do not tell" in str(Polarity("dark", 3, 0, 1))
    assert "the 9 clips looked at do not show it either way" in str(Polarity("bright", silent=9))
    assert "the clip looked at does not show it either way" in str(Polarity("bright", silent=1))


def test_one_odd_clip_does_not_speak_for_all() -> None:
    assert not Polarity("bright", dark=1, silent=95).reportable
    assert Polarity("bright", dark=2).reportable
    assert Polarity("bright", dark=9, silent=91).reportable
    words = str(Polarity("bright", dark=1, silent=95))
    assert words.startswith("near = bright is taken as declared; the 96 clips looked at do not show it either way")


def test_an_odd_vote_is_no_warning(tmp_path: Path) -> None:
    odd = make_clip(tmp_path, "odd")
    silent = [make_clip(tmp_path, f"{k}") for k in range(6)]
    for clip in silent:
        save_video(clip.depth, depth_frames(12, hand=90, wall=90))
    report = check(make_manifest(odd, *silent, depth=DepthSpec(near="dark")))
    assert report.polarity == Polarity("dark", bright=1, silent=6)
    assert [problem for problem in report.problems if problem.kind == "polarity"] == []


def test_real_isogd_clips(shared_data: Path) -> None:
    manifest = index_dataset("isogd", shared_data / "isogd").manifest
    some = replace(manifest, clips=manifest.clips[::10])
    report = check(some)
    assert report.errors == ()
    assert report.polarity.looks == "dark"
    assert report.polarity.bright == 0
    wrong = check(replace(some, depth=PRESETS["nvgesture"]))
    assert [problem.kind for problem in wrong.errors] == ["polarity"]


def inverted(raw: np.ndarray) -> np.ndarray:
    """8-bit depth with near and far exchanged; holes stay holes."""
    return np.where(raw <= 7, 0, 255 - raw).astype(np.uint8)


def test_the_real_nvgesture_clip_is_told_from_one_of_the_other_polarity(shared_data: Path) -> None:
    manifest = index_dataset("nvgesture", shared_data / "nvgesture-clip").manifest
    assert check(manifest).polarity.looks == "bright"
    wrong = check(replace(manifest, depth=DepthSpec(near="dark")))
    assert "polarity" in [problem.kind for problem in wrong.problems]


def test_real_depth_in_both_polarities(shared_data: Path) -> None:
    """NVGesture's clip and the 16-bit recordings show the hand alone, IsoGD's a person before a wall."""
    nvgesture = FrameReader().depth(shared_data / "nvgesture-clip" / "sk_depth.avi", range(20))
    assert (vote(nvgesture), vote(inverted(nvgesture))) == ("bright", "dark")
    for recording in ("20210326-230536", "20210326-231615"):
        paths = sorted((shared_data / "depth16").glob(f"{recording}_*.png"), key=lambda p: int(p.stem.split("_")[1]))
        raw = np.stack([cv2.imread(str(path), cv2.IMREAD_UNCHANGED) for path in paths])
        assert raw.dtype == np.uint16
        assert vote(raw) == "dark"
    folder = shared_data / "isogd" / "train" / "001"
    for number in range(5, 200, 20):
        raw = FrameReader().depth(folder / f"K_{number:05d}.avi", range(0, 9))
        assert vote(raw) in ("dark", None)
        assert vote(inverted(raw)) in ("bright", None)


@pytest.mark.parametrize("preset", ["default", "demo", "hard"])
def test_generated_depth_in_both_polarities(preset: str) -> None:
    """Millimetres, 8 bits in which near is bright, and the hand alone, as EgoGesture and NVGesture have it."""
    spec = get_preset(preset)
    votes: dict[str, list[str | None]] = {"mm": [], "8": [], "alone": []}
    for index in range(3, 200, 23):
        footage = record(spec, plan(spec, "train", index), np.arange(0, spec.num_frames, 2))
        raw, hand = footage.depth.numpy().astype(np.uint16), footage.hand.numpy()
        near = np.where(raw > 0, np.clip((1500.0 - raw) / 1350, 0, 1) * 255, 0).astype(np.uint8)
        for kind, depth in (("mm", raw), ("8", near), ("alone", np.where(hand, near, 0).astype(np.uint8))):
            votes[kind].append(vote(depth))
    for kind, true, least in (("mm", "dark", 5), ("8", "bright", 5), ("alone", "bright", 2)):
        bright, dark = votes[kind].count("bright"), votes[kind].count("dark")
        right, wrong = (bright, dark) if true == "bright" else (dark, bright)
        assert right >= least, kind
        assert wrong <= right / 4, kind  # one clip may err; a set may not
        assert not Polarity(true, bright, dark).contradicts
