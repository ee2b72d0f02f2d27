"""The generated data set: reproducible, disjoint splits, and on disk what it is in memory."""

import os
from multiprocessing import active_children
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError

import dynagest.synth.write as write_module
from dynagest.clips.dataset import ClipDataset
from dynagest.clips.frames import FrameReader
from dynagest.clips.manifest import Manifest
from dynagest.clips.splits import SPLITS
from dynagest.clips.video import video_rate
from dynagest.clips.view import View
from dynagest.errors import RecipeError, RunError
from dynagest.lock import sole_writer
from dynagest.synth.dataset import SynthDataset
from dynagest.synth.gestures import GESTURES
from dynagest.synth.recording import plan, record, scene_number, subject_number
from dynagest.synth.sheet import sheet
from dynagest.synth.spec import FRAME_RATE, PRESETS, SENSOR, PerSplit, SynthSpec
from dynagest.synth.write import read_spec, write_synth

SMALL = SynthSpec(
    size=32,
    num_frames=4,
    classes=("swipe_left", "grab", "show_two"),
    clips_per_class=PerSplit(train=2, val=1, test=1),
    subjects=PerSplit(train=3, val=2, test=2),
    scenes=PerSplit(train=3, val=2, test=2),
)
VIEW = View(num_segments=4, size=32, augment=True)


def test_a_split_that_there_is_not():
    with pytest.raises(RecipeError, match="no split 'valid'; the splits are train, val, test"):
        SynthDataset(SMALL, "valid", VIEW)  # type: ignore[arg-type]


def test_the_spec_says_what_is_wrong():
    with pytest.raises(ValidationError, match="swipe_left"):
        SynthSpec(classes=("swipe_lft",))
    with pytest.raises(ValidationError):
        SynthSpec(clutter=1.5)
    with pytest.raises(ValidationError):
        SynthSpec(cluter=0.5)  # type: ignore[call-arg]


def test_the_default_has_every_gesture_and_round_trips_through_json():
    spec = SynthSpec()
    assert spec.classes == tuple(GESTURES)
    assert SynthSpec.model_validate_json(spec.model_dump_json()) == spec


def test_a_camera_that_faces_its_user_sees_frontal_clips_unmirrored():
    unmirrored = SMALL.model_copy(update={"unmirrored": True})
    takes = [plan(SMALL, "train", index) for index in range(SMALL.length("train"))]
    assert {take.events.stage.view for take in takes} == {"egocentric", "frontal"}
    for take in takes:
        mirror, camera = record(SMALL, take), record(unmirrored, take)
        flips = take.events.stage.view == "frontal"
        assert not torch.equal(mirror.rgb, mirror.rgb.flip(-1))
        for name in ("rgb", "depth", "hand"):
            image = getattr(mirror, name)
            assert torch.equal(getattr(camera, name), image.flip(-1) if flips else image)
    desk = PRESETS["desk"]
    assert (desk.views, desk.unmirrored, desk.labels) == (("frontal",), True, PRESETS["live"].labels)
    assert "unmirrored" not in SMALL.model_dump_json()
    with pytest.raises(ValidationError, match="declare_misalignment"):
        SynthSpec(unmirrored=True, misalign="isogd", declare_misalignment=True)


def test_subjects_and_scenes_of_different_splits_never_meet():
    spec = SMALL.model_copy(update={"clips_per_class": PerSplit(train=40, val=20, test=20)})
    for number in (subject_number, scene_number):
        sets = [{number(spec, split, i) for i in range(spec.length(split))} for split in SPLITS]
        assert [len(s) for s in sets] == [3, 2, 2]
        assert sum(map(len, sets)) == len(set.union(*sets))


def test_every_subject_performs_every_class():
    spec = SMALL.model_copy(update={"clips_per_class": PerSplit(train=3, val=2, test=2)})
    pairs = {(subject_number(spec, "train", i), i % 3) for i in range(spec.length("train"))}
    assert len(pairs) == 9


def test_a_clip_is_the_same_bit_for_bit_however_it_is_asked_for():
    first = record(SMALL, plan(SMALL, "train", 4))
    record(SMALL, plan(SMALL, "test", 1))
    again = record(SMALL, plan(SMALL, "train", 4))
    threads = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        threaded = record(SMALL, plan(SMALL, "train", 4))
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(threads)
    for other in (again, threaded):
        assert torch.equal(first.rgb, other.rgb)
        assert torch.equal(first.depth, other.depth)


def test_selected_frames_are_those_of_the_whole_clip():
    take = plan(SMALL, "train", 1)
    whole, some = record(SMALL, take), record(SMALL, take, np.array([3, 1, 1]))
    assert (whole.rgb[[3, 1, 1]].int() - some.rgb.int()).abs().max() <= 1
    assert (whole.depth[[3, 1, 1]] - some.depth).abs().float().mean() < 0.1
    backwards = record(SMALL, take, np.array([2, 0])).rgb.int()
    assert (whole.rgb[[2, 0]].int() - backwards).abs().max() <= 1
    assert some.rgb.dtype == torch.uint8
    assert some.rgb.shape == (3, 3, 32, 32)


def test_another_seed_index_or_split_gives_another_clip():
    base = record(SMALL, plan(SMALL, "train", 0)).rgb
    for other in (
        record(SMALL.model_copy(update={"seed": 1}), plan(SMALL.model_copy(update={"seed": 1}), "train", 0)).rgb,
        record(SMALL, plan(SMALL, "train", 3)).rgb,
        record(SMALL, plan(SMALL, "test", 0)).rgb,
    ):
        assert (base != other).float().mean() > 0.3


@pytest.mark.parametrize(
    "sensor",
    [{"depth_noise": 0.0, "depth_holes": 0.0}, {"misalign": "isogd", "declare_misalignment": True}],
)
def test_the_depth_sensor_changes_no_pixel_of_rgb(sensor):
    assert set(sensor) <= SENSOR
    ours, theirs = (record(spec, plan(spec, "train", 0)) for spec in (SMALL, SMALL.model_copy(update=sensor)))
    assert torch.equal(ours.rgb, theirs.rgb)
    assert not torch.equal(ours.depth, theirs.depth)


def test_samples_do_not_depend_on_workers():
    dataset = SynthDataset(SMALL, "train", VIEW)
    keys = [(1, index) for index in range(len(dataset))]

    def samples(workers: int) -> list[dict]:
        loader = torch.utils.data.DataLoader(dataset, batch_size=None, sampler=keys, num_workers=workers)
        return list(loader)

    for alone, split in zip(samples(0), samples(2), strict=True):
        assert torch.equal(alone["rgb"], split["rgb"])
        assert torch.equal(alone["depth"], split["depth"])
        assert int(alone["label"]) == int(split["label"])


def test_samples_have_the_shapes_and_ranges_of_clip_dataset():
    sample = SynthDataset(SMALL, "val", View(num_segments=3, size=24))[(0, 2)]
    assert sample["rgb"].shape == (3, 3, 24, 24)
    assert sample["rgb"].dtype == torch.uint8
    assert sample["depth"].shape == (3, 1, 24, 24)
    assert sample["has_depth"] is True
    assert sample["label"] == 2
    # the hand is 300 to 550 mm away: (1000 - 425 +- 125) / 850
    assert 0.5 < float(sample["depth"].max()) < 1.0


def test_without_depth_there_is_none():
    sample = SynthDataset(SMALL, "val", View(num_segments=3, size=24, depth=False))[(0, 0)]
    assert sample["has_depth"] is False
    assert sample["depth"].abs().max() == 0


def test_an_epoch_changes_the_view_and_fresh_changes_the_clip():
    plain = View(num_segments=4, size=32)
    same = SynthDataset(SMALL, "train", plain)
    assert torch.equal(same[(0, 1)]["rgb"], same[(5, 1)]["rgb"])
    fresh = SMALL.model_copy(update={"fresh": True})
    clips = SynthDataset(fresh, "train", plain)
    assert not torch.equal(clips[(0, 1)]["rgb"], clips[(5, 1)]["rgb"])
    assert clips[(0, 1)]["label"] == clips[(5, 1)]["label"] == 1
    held_out = SynthDataset(fresh, "test", plain)
    assert torch.equal(held_out[(0, 1)]["rgb"], held_out[(5, 1)]["rgb"])


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("synth") / "one"
    seen: list[tuple[int, int]] = []
    manifest = write_synth(folder, SMALL, workers=1, progress=lambda done, total: seen.append((done, total)))
    assert manifest == folder / "manifest.csv"
    assert seen == [(i, 12) for i in range(1, 13)]
    return folder


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_files_are_the_same_for_any_number_of_workers(written: Path, tmp_path: Path):
    write_synth(tmp_path / "three", SMALL, workers=3)
    assert files(written) == files(tmp_path / "three")


def test_what_is_written_reads_back(written: Path):
    manifest = Manifest.read(written)
    assert manifest.classes == SMALL.classes
    assert [len(manifest.split(split)) for split in SPLITS] == [6, 3, 3]
    subjects = [{clip.subject for clip in manifest.split(split).clips} for split in SPLITS]
    assert not subjects[0] & subjects[1] | subjects[0] & subjects[2] | subjects[1] & subjects[2]
    clip = manifest.split("train").clips[4]
    footage = record(SMALL, plan(SMALL, "train", 4))
    assert clip.depth is not None
    assert FrameReader().count(clip.video) == FrameReader().count(clip.depth) == 4
    assert np.array_equal(FrameReader().depth(clip.depth, range(4)), footage.depth.numpy())
    difference = FrameReader().frames(clip.video, range(4)).astype(int) - footage.rgb.permute(
        0, 2, 3, 1
    ).numpy().astype(int)
    assert np.abs(difference).mean() < 6  # JPEG
    assert video_rate(clip.video) == pytest.approx(FRAME_RATE)
    assert read_spec(written) == SMALL


def test_on_disk_and_on_the_fly_give_the_same_samples(written: Path):
    view = View(num_segments=4, size=32, augment=True, jitter=0.0)
    stored = ClipDataset(Manifest.read(written).split("train"), view, seed=3)
    live = SynthDataset(SMALL, "train", view, seed=3)
    assert len(stored) == len(live)
    for index in (0, 4):
        a, b = stored[(2, index)], live[(2, index)]
        assert a["label"] == b["label"] == live.label(index)
        assert live.name(index) == f"clip {index}"
        assert (a["depth"] - b["depth"]).abs().mean() < 0.01
        assert (a["rgb"].float() - b["rgb"].float()).abs().mean() < 8


def test_an_interrupted_write_leaves_no_manifest_and_is_completed(
    written: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def interrupt(done: int, total: int) -> None:
        if done == 5:
            raise KeyboardInterrupt

    folder = tmp_path / "begun"
    with pytest.raises(KeyboardInterrupt):
        write_synth(folder, SMALL, workers=1, progress=interrupt)
    assert not (folder / "manifest.csv").exists()
    rendered: list[tuple[str, int]] = []
    real = write_module._write_clip
    monkeypatch.setattr(write_module, "_write_clip", lambda f, s, key: (rendered.append(key), real(f, s, key)))
    write_synth(folder, SMALL, workers=1)
    assert len(rendered) == 12 - 5
    assert files(folder) == files(written)


def test_a_folder_of_another_spec_or_with_other_things_is_left_alone(written: Path, tmp_path: Path):
    before = files(written)
    with pytest.raises(RunError, match="another spec"):
        write_synth(written, SMALL.model_copy(update={"seed": 9}), workers=1)
    assert files(written) == before
    (tmp_path / "thesis.txt").write_text("dear diary")
    with pytest.raises(RunError, match="something else"):
        write_synth(tmp_path, SMALL, workers=1)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_folder_that_another_process_renders_into_is_left_alone(tmp_path: Path):
    """Two would write the same temporary file, and one of them could publish what the other has half written."""
    folder = tmp_path / "set"
    with sole_writer(folder):
        (folder / "synth.json").write_text(SMALL.model_dump_json())
        with pytest.raises(RunError, match=f"{folder}: another process is writing there; wait until it has ended"):
            write_synth(folder, SMALL, workers=1)
    assert not list(folder.rglob("*.avi"))


def test_a_declared_misalignment_travels_in_depth_yaml(tmp_path: Path):
    spec = SMALL.model_copy(
        update={
            "misalign": "nvgesture",
            "declare_misalignment": True,
            "clips_per_class": PerSplit(train=1, val=1, test=1),
        }
    )
    depth = Manifest.read(write_synth(tmp_path / "m", spec, workers=1)).depth
    assert depth is not None
    assert depth.affine is not None
    assert (depth.affine.scale, depth.affine.shift_x) == (1.3, -35)
    assert SMALL.depth_spec().affine is None


def test_the_contact_sheet_has_a_strip_for_every_class():
    picture = sheet(SMALL, frames=4)
    assert picture.shape == (2 * (14 + 32 + 32), 2 * 4 * 32, 3)  # two columns for three classes
    assert picture.dtype == np.uint8


def test_presets_differ_in_difficulty_and_the_demo_keeps_twins_of_both_kinds():
    assert PRESETS["default"] == SynthSpec()
    assert PRESETS["demo"].clutter < PRESETS["default"].clutter < PRESETS["hard"].clutter
    demo = PRESETS["demo"].classes
    assert len(demo) >= 16
    assert {GESTURES[name].by for name in demo if GESTURES[name].twin in demo} >= {"motion", "shape"}


def test_ctrl_c_leaves_the_clips_that_workers_have_taken(tmp_path: Path):
    """Two workers take up to 24 clips each; after the first report they end, and the next run adds the rest."""
    many = SMALL.model_copy(update={"clips_per_class": PerSplit(train=12, val=2, test=2)})

    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    folder = tmp_path / "begun"
    with pytest.raises(KeyboardInterrupt):
        write_synth(folder, many, workers=2, progress=interrupt)
    made = len(list(folder.rglob("*.avi")))
    assert 1 <= made < 48
    assert not list(folder.rglob("*.tmp"))
    assert len(Manifest.read(write_synth(folder, many, workers=2))) == 48


def test_a_worker_that_is_killed_is_an_error_and_what_was_rendered_is_kept(tmp_path: Path):
    """As by the kernel, when memory runs out."""
    many = SMALL.model_copy(update={"clips_per_class": PerSplit(train=12, val=2, test=2)})

    def kill(done: int, total: int) -> None:
        for worker in active_children():
            worker.kill()

    folder = tmp_path / "begun"
    with pytest.raises(RunError, match=r"workers: one of the 2 .* killed.*fewer workers"):
        write_synth(folder, many, workers=2, progress=kill)
    assert 1 <= len(list(folder.rglob("*.avi"))) < 48
    assert len(Manifest.read(write_synth(folder, many, workers=2))) == 48
    assert not list(folder.rglob("*.tmp"))


def test_workers_are_not_forked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A child forked from a process whose torch threads hold a lock waits for ever."""

    def refuse() -> int:
        raise AssertionError("forked")

    monkeypatch.setattr(os, "fork", refuse)
    assert write_synth(tmp_path / "s", SMALL, workers=2).exists()
