"""From a manifest to batches: the right frames, labels and depth; reproducible; nothing substituted."""

import pickle
from dataclasses import replace
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from dynagest.clips.dataset import Batch, ClipDataset, Sample, collate, normalise, read_clip
from dynagest.clips.depth import PRESETS, DepthAffine, DepthSpec
from dynagest.clips.labelled import UnreadableClip
from dynagest.clips.manifest import Clip, Manifest
from dynagest.clips.view import View
from dynagest.errors import DepthError, ManifestError, RecipeError

COUNT, HEIGHT, WIDTH = 30, 48, 64
BRIGHT = PRESETS["egogesture"]
PLAIN = View(num_segments=4, size=48)


def write_clip(folder: Path, count: int = COUNT, depth_count: int | None = None, depth_type: type = np.uint8) -> None:
    """RGB and depth that show the frame's number (times 7) left of the middle, and 0 right of it."""
    for kind, frames in (("color", count), ("depth", count if depth_count is None else depth_count)):
        (folder / kind).mkdir(parents=True)
        for number in range(frames):
            image = np.zeros((HEIGHT, WIDTH), depth_type if kind == "depth" else np.uint8)
            image[:, : WIDTH // 2] = 7 * number + 4
            # Red is what depth shows; green and blue are not.
            picture = image if kind == "depth" else np.dstack([image // 4, image // 2, image])
            cv2.imwrite(str(folder / kind / f"{number + 1:06d}.png"), picture)


def clip_in(folder: Path, label: str = "left", **fields: object) -> Clip:
    return replace(Clip(folder / "color", label, folder / "depth"), **fields)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_clip(tmp_path / "a")
    return tmp_path / "a"


def only(dataset: ClipDataset, epoch: int = 0, index: int = 0) -> Sample:
    sample = dataset[epoch, index]
    assert not isinstance(sample, UnreadableClip), sample.reason
    return sample


def numbers(sample: Sample) -> list[int]:
    """The frames that RGB shows, after making sure that depth shows the same ones."""
    shown = [int(frame[0].max()) // 7 for frame in sample["rgb"]]
    if sample["has_depth"]:
        assert [int(frame.max() * 255 + 0.5) // 7 for frame in sample["depth"]] == shown
    return shown


def test_sample(folder: Path) -> None:
    manifest = Manifest.of([clip_in(folder)], BRIGHT, classes=("grab", "left"))
    sample = only(ClipDataset(manifest, PLAIN, seed=0))
    assert sample["rgb"].shape == (4, 3, 48, 48)
    assert sample["rgb"].dtype == torch.uint8
    assert sample["depth"].shape == (4, 1, 48, 48)
    assert sample["depth"].dtype == torch.float32
    assert sample["has_depth"] is True
    assert (sample["label"], sample["index"]) == (1, 0)
    assert numbers(sample) == [3, 10, 18, 25]
    # Channels in order: red is the number, green half of it, blue a quarter.
    assert sample["rgb"][1, :, 0, 0].tolist() == [74, 37, 18]


def test_paths_may_be_strings(folder: Path) -> None:
    clip = Clip(str(folder / "color"), "left", str(folder / "depth"))
    assert clip == clip_in(folder)
    assert only(ClipDataset(Manifest.of([clip], BRIGHT), PLAIN, seed=0))["has_depth"]


def test_a_plain_index_is_told_what_a_key_is(folder: Path) -> None:
    dataset = ClipDataset(Manifest.of([clip_in(folder)], BRIGHT), PLAIN, seed=0)
    with pytest.raises(TypeError, match=r"by \(epoch, index\), not 0; give a DataLoader sampler="):
        next(iter(DataLoader(dataset)))


def test_ranges_of_rgb_and_depth_are_their_own(folder: Path) -> None:
    for number in range(3):  # depth starts three frames later than colour
        (folder / "depth" / f"{number + 1:06d}.png").unlink()
    clip = clip_in(folder, start=8, end=16, depth_start=5, depth_end=13)
    assert numbers(only(ClipDataset(Manifest.of([clip], BRIGHT), PLAIN, 0))) == [8, 10, 12, 14]


def test_draws_depend_on_seed_epoch_and_index_alone(folder: Path) -> None:
    manifest = Manifest.of([clip_in(folder)] * 3, BRIGHT)
    view = replace(PLAIN, augment=True, scales=(1.0,), jitter=0.0)

    def draw(seed: int, epoch: int, index: int) -> list[int]:
        return numbers(only(ClipDataset(manifest, view, seed), epoch, index))

    first = draw(0, 0, 0)
    assert draw(0, 0, 0) == first
    dataset = ClipDataset(manifest, view, 0)
    only(dataset, 3, 1)
    assert numbers(only(dataset)) == first
    assert len({tuple(draw(*key)) for key in [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)]}) == 4


@pytest.mark.parametrize("workers", [0, 1])
def test_workers_change_nothing(folder: Path, workers: int) -> None:
    manifest = Manifest.of([clip_in(folder)] * 6, BRIGHT)
    dataset = ClipDataset(manifest, replace(PLAIN, augment=True), seed=3)
    keys = [[(1, 4), (1, 0)], [(1, 5), (1, 2)], [(2, 4), (2, 1)]]
    context = "forkserver" if workers else None
    loader: DataLoader = DataLoader(
        dataset,  # type: ignore[arg-type]
        batch_sampler=keys,  # type: ignore[arg-type]
        collate_fn=collate,
        num_workers=workers,
        multiprocessing_context=context,
    )
    for batch_keys, (batch, unreadable) in zip(keys, loader, strict=True):
        assert not unreadable
        for row, (epoch, index) in enumerate(batch_keys):
            expected = only(dataset, epoch, index)
            assert torch.equal(batch["rgb"][row], expected["rgb"])
            assert torch.equal(batch["depth"][row], expected["depth"])
            assert batch["index"][row] == index


def test_rgb_and_depth_stay_together_under_augmentation(tmp_path: Path) -> None:
    """Red is the depth image itself: crops and flips drawn apart would differ somewhere by far more than rounding."""
    rng = np.random.default_rng(0)
    for kind in ("color", "depth"):
        (tmp_path / kind).mkdir()
    for number in range(12):
        depth = cv2.resize(rng.integers(0, 256, (6, 8), dtype=np.uint8), (WIDTH, HEIGHT))
        cv2.imwrite(str(tmp_path / "depth" / f"{number}.png"), depth)
        cv2.imwrite(str(tmp_path / "color" / f"{number}.png"), np.dstack([255 - depth, depth // 2, depth]))
    clips = [clip_in(tmp_path, "left"), clip_in(tmp_path, "right"), clip_in(tmp_path, "grab")]
    swap = {"left": "right", "right": "left"}
    flipped = set()
    for crop in ("paper", "action"):
        view = View(num_segments=4, size=40, augment=True, crop=crop, jitter=0.0, flip_labels=swap)
        dataset = ClipDataset(Manifest.of(clips, BRIGHT), view, seed=0)
        for epoch in range(40):
            for index, clip in enumerate(clips):
                sample = only(dataset, epoch, index)
                assert (sample["depth"][:, 0] * 255 - sample["rgb"][:, 0]).abs().max() <= 1.01
                name = dataset.classes[sample["label"]]
                assert name in (clip.label, swap.get(clip.label, clip.label))
                flipped.add((clip.label, name))
    assert flipped == {("left", "left"), ("left", "right"), ("right", "right"), ("right", "left"), ("grab", "grab")}


def test_mirrored_pictures_carry_the_mirrored_label(folder: Path) -> None:
    """The bright half lies left; it lies right exactly when the label was swapped."""
    manifest = Manifest.of([clip_in(folder, "left"), clip_in(folder, "right")], BRIGHT)
    swap = {"left": "right", "right": "left"}
    view = View(num_segments=1, size=48, augment=True, scales=(1.0,), jitter=0.0, flip_labels=swap)
    dataset = ClipDataset(manifest, view, seed=0)
    seen = set()
    for epoch in range(20):
        sample = only(dataset, epoch, 0)
        row = sample["depth"][0, 0, 24]
        mirrored = bool(row[-1] > row[0])
        assert dataset.classes[sample["label"]] == ("right" if mirrored else "left")
        seen.add(mirrored)
    assert seen == {True, False}
    assert [dataset.label(0), dataset.label(1)] == [0, 1]


def test_flip_labels_must_fit_the_classes(folder: Path) -> None:
    with pytest.raises(RecipeError, match="'up'"):
        ClipDataset(Manifest.of([clip_in(folder)], BRIGHT), View(flip_labels={"up": "left", "left": "up"}), 0)


def test_a_label_that_is_no_class_is_named(folder: Path) -> None:
    with pytest.raises(ManifestError, match="'left' is not one of its classes"):
        ClipDataset(Manifest.of([clip_in(folder)], BRIGHT, classes=("grab", "wave")), PLAIN, 0)


def test_clip_without_depth_has_zeros(folder: Path) -> None:
    manifest = Manifest.of([clip_in(folder, depth=None), clip_in(folder)], BRIGHT)
    dataset = ClipDataset(manifest, PLAIN, 0)
    batch, unreadable = collate([dataset[0, 0], dataset[0, 1]])
    assert batch is not None
    assert not unreadable
    assert batch["has_depth"].tolist() == [False, True]
    assert not batch["depth"][0].any()
    assert batch["depth"][1].any()


def test_clip_without_depth_is_unreadable_to_a_network_that_is_fed_depth(folder: Path) -> None:
    clips = [clip_in(folder), clip_in(folder, depth=None, start=2, end=9)]
    dataset = ClipDataset(Manifest.of(clips, BRIGHT), PLAIN, 0)
    read = partial(read_clip, dataset, frames=4, size=48)
    assert read((0, 0), needs_depth=True)["has_depth"]
    assert not read((0, 1), needs_depth=False)["has_depth"]
    name = f"{folder / 'color'}[2:9]"
    lost = UnreadableClip(1, name, f"{name}: has no depth, which this network is fed")
    assert read((0, 1), needs_depth=True) == lost


def test_depth_is_not_opened_where_the_view_wants_none(folder: Path) -> None:
    clip = clip_in(folder, depth=folder / "nowhere")
    sample = only(ClipDataset(Manifest.of([clip], BRIGHT), replace(PLAIN, depth=False), 0))
    assert sample["has_depth"] is False


@pytest.mark.parametrize("depth_count", [27, 30, 31, 33])
def test_depth_a_little_longer_or_shorter(tmp_path: Path, depth_count: int) -> None:
    write_clip(tmp_path, depth_count=depth_count)
    assert numbers(only(ClipDataset(Manifest.of([clip_in(tmp_path)], BRIGHT), PLAIN, 0)))[-1] == 25


def test_the_last_depth_frame_stands_for_up_to_three_missing_ones(tmp_path: Path) -> None:
    write_clip(tmp_path, count=8, depth_count=6)
    sample = only(ClipDataset(Manifest.of([clip_in(tmp_path)], BRIGHT), replace(PLAIN, num_segments=8), 0))
    shown = [int(frame.max() * 255 + 0.5) // 7 for frame in sample["depth"]]
    assert shown == [0, 1, 2, 3, 4, 5, 5, 5]


def test_a_range_of_depth_may_end_behind_its_file(tmp_path: Path) -> None:
    """A list may state the same range for both videos though depth ends a little earlier."""
    write_clip(tmp_path, count=8, depth_count=6)
    clip = clip_in(tmp_path, start=1, end=8, depth_start=1, depth_end=8)
    sample = only(ClipDataset(Manifest.of([clip], BRIGHT), replace(PLAIN, num_segments=7), 0))
    assert [int(frame.max() * 255 + 0.5) // 7 for frame in sample["depth"]] == [1, 2, 3, 4, 5, 5, 5]


@pytest.mark.parametrize("depth_count", [26, 34])
def test_depth_of_quite_another_length_is_unreadable(tmp_path: Path, depth_count: int) -> None:
    write_clip(tmp_path, depth_count=depth_count)
    item = ClipDataset(Manifest.of([clip_in(tmp_path)], BRIGHT), PLAIN, 0)[0, 0]
    assert isinstance(item, UnreadableClip)
    assert item.file == str(tmp_path / "depth")
    assert f"{depth_count} frames of depth for 30 of RGB" in item.reason


def test_short_clips_repeat_frames_evenly(tmp_path: Path) -> None:
    write_clip(tmp_path, count=3)
    view = View(num_segments=8, size=48, augment=True, scales=(1.0,), jitter=0.0)
    assert numbers(only(ClipDataset(Manifest.of([clip_in(tmp_path)], BRIGHT), view, 0))) == [0, 0, 0, 1, 1, 1, 2, 2]


def test_unreadable_clips_are_left_out_and_reported(folder: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    write_clip(broken)
    (broken / "color" / "000004.png").write_bytes(b"")
    empty = tmp_path / "empty.avi"
    empty.write_bytes(b"")
    clips = [
        clip_in(folder),
        clip_in(broken),
        clip_in(folder, video=empty),
        clip_in(folder, depth=tmp_path / "gone"),
        clip_in(folder, start=40),
        clip_in(folder, start=20, end=40),
        clip_in(folder),
    ]
    dataset = ClipDataset(Manifest.of(clips, BRIGHT), PLAIN, 0)
    batch, unreadable = collate([dataset[0, index] for index in range(len(clips))])
    assert batch is not None
    assert batch["index"].tolist() == [0, 6]
    assert len(batch["rgb"]) == len(batch["depth"]) == len(batch["label"]) == len(batch["has_depth"]) == 2
    assert [(item.index, Path(item.file)) for item in unreadable] == [
        (1, broken / "color"),
        (2, empty),
        (3, tmp_path / "gone"),
        (4, folder / "color"),
        (5, folder / "color"),
    ]
    reasons = [item.reason for item in unreadable]
    assert "000004.png: empty file" in reasons[0]
    assert "empty file" in reasons[1]
    assert "No such file" in reasons[2]
    assert "begins at frame 40 and ends at frame 30" in reasons[3]
    assert "has 30 frames, but frame 3" in reasons[4]
    assert collate(unreadable) == (None, unreadable)
    assert collate([]) == (None, [])
    assert pickle.loads(pickle.dumps(unreadable)) == unreadable


@pytest.mark.parametrize(
    ("depth_type", "spec", "message"),
    [
        (np.uint8, PRESETS["realsense"], "8-bit but declared in millimetres"),
        (np.uint16, BRIGHT, "16-bit but no unit"),
        (np.uint8, None, "not declared"),
    ],
)
def test_depth_against_its_declaration_stops_before_the_run(
    tmp_path: Path, depth_type: type, spec: DepthSpec | None, message: str
) -> None:
    write_clip(tmp_path, depth_type=depth_type)
    with pytest.raises(DepthError, match=message) as caught:
        ClipDataset(Manifest.of([clip_in(tmp_path)], spec), PLAIN, 0)
    assert str(tmp_path / "depth") in str(caught.value)


@pytest.mark.parametrize("odd", [0, 1])
def test_one_clip_against_the_declaration_is_left_out(folder: Path, tmp_path: Path, odd: int) -> None:
    write_clip(tmp_path / "b", depth_type=np.uint16)
    clips = [clip_in(folder)]
    clips.insert(odd, clip_in(tmp_path / "b"))
    dataset = ClipDataset(Manifest.of(clips, BRIGHT), PLAIN, 0)
    item = dataset[0, odd]
    assert isinstance(item, UnreadableClip)
    assert (item.index, item.file) == (odd, str(tmp_path / "b" / "depth"))
    assert "b/depth: depth is 16-bit but no unit is declared" in item.reason
    only(dataset, 0, 1 - odd)


def test_a_first_clip_that_cannot_be_read_stops_no_run(folder: Path, tmp_path: Path) -> None:
    clips = [clip_in(folder, depth=tmp_path / "gone"), clip_in(folder)]
    dataset = ClipDataset(Manifest.of(clips, BRIGHT), PLAIN, 0)
    assert isinstance(dataset[0, 0], UnreadableClip)
    assert only(dataset, 0, 1)["has_depth"]
    with pytest.raises(DepthError, match="8-bit but declared in millimetres"):
        ClipDataset(Manifest.of(clips, PRESETS["realsense"]), PLAIN, 0)


def reshape_depth(folder: Path, width: int, height: int) -> None:
    for path in (folder / "depth").iterdir():
        image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        cv2.imwrite(str(path), cv2.resize(image, (width, height), interpolation=cv2.INTER_NEAREST))


def test_depth_of_another_shape_needs_an_affine(folder: Path, tmp_path: Path) -> None:
    write_clip(tmp_path / "b")
    reshape_depth(tmp_path / "b", 80, 48)
    wide = clip_in(tmp_path / "b")
    item = ClipDataset(Manifest.of([clip_in(folder), wide], BRIGHT), PLAIN, 0)[0, 1]
    assert isinstance(item, UnreadableClip)
    assert item.file == str(wide.depth)
    assert "depth is 80x48, RGB 64x48: another shape" in item.reason
    with pytest.raises(DepthError, match=r"b/depth: depth is 80x48, RGB 64x48: another shape"):
        ClipDataset(Manifest.of([wide], BRIGHT), PLAIN, 0)
    declared = BRIGHT.model_copy(update={"affine": DepthAffine(scale=1, shift_x=0, shift_y=0, width=64, height=48)})
    only(ClipDataset(Manifest.of([wide], declared), PLAIN, 0))


def test_depth_of_another_size(folder: Path) -> None:
    reshape_depth(folder, 160, 120)
    sample = only(ClipDataset(Manifest.of([clip_in(folder)], BRIGHT), replace(PLAIN, augment=True, jitter=0.0), 0))
    difference = (sample["depth"][:, 0] * 255 - sample["rgb"][:, 0]).abs()
    assert (difference > 8).float().mean() < 0.03  # but for the interpolated edge between the halves


def test_batch(folder: Path) -> None:
    dataset = ClipDataset(Manifest.of([clip_in(folder)] * 3, BRIGHT), PLAIN, 0)
    batch, _ = collate([dataset[0, index] for index in range(3)])
    assert batch is not None
    assert {name: (tuple(value.shape), value.dtype) for name, value in batch.items()} == {
        "rgb": ((3, 4, 3, 48, 48), torch.uint8),
        "depth": ((3, 4, 1, 48, 48), torch.float32),
        "has_depth": ((3,), torch.bool),
        "label": ((3,), torch.int64),
        "index": ((3,), torch.int64),
    }
    assert set(Batch.__annotations__) == set(batch)
    assert batch["rgb"].flatten(0, 1).is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(batch["rgb"][2], only(dataset, 0, 2)["rgb"])


def test_normalise() -> None:
    rgb = torch.randint(0, 256, (2, 3, 3, 5, 4), dtype=torch.uint8)
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    before = rgb.clone()
    out = normalise(rgb, mean, std)
    expected = (rgb / 255 - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    torch.testing.assert_close(out, expected, atol=1e-5, rtol=0)
    assert out.dtype == torch.float32
    assert torch.equal(rgb, before)
    innermost = rgb.permute(0, 1, 3, 4, 2).contiguous().permute(0, 1, 4, 2, 3)
    assert normalise(innermost, mean, std).stride() == innermost.stride()


def test_real_clips(shared_data: Path) -> None:
    """IsoGD as shipped, at the paper's view: depth in range, with the hand's side bright, and holes at 0."""
    root = shared_data / "isogd"
    rows = [line.split() for line in (root / "train_list.txt").read_text(encoding="utf-8").splitlines()[:6]]
    clips = [Clip(root / rgb, label, root / depth) for rgb, depth, label in rows]
    dataset = ClipDataset(Manifest.of(clips, PRESETS["isogd-aligned"]), View(augment=True), seed=0)
    batch, unreadable = collate([dataset[0, index] for index in range(len(clips))])
    assert batch is not None
    assert not unreadable
    assert batch["rgb"].shape == (6, 8, 3, 224, 224)
    assert batch["has_depth"].all()
    assert batch["depth"].min() >= 0
    assert batch["depth"].max() <= 1
    for depth in batch["depth"]:
        assert 0.05 < depth.mean() < 0.7


def test_real_nvgesture_clip_through_its_ranges(shared_data: Path) -> None:
    """Its list says depth 2:19 and colour 1:18."""
    root = shared_data / "nvgesture-clip"
    clip = Clip(root / "sk_color.avi", "5", root / "sk_depth.avi", 1, 18, 2, 19)
    sample = only(ClipDataset(Manifest.of([clip], PRESETS["nvgesture"]), View(size=112), seed=0))
    assert sample["rgb"].shape == (8, 3, 112, 112)
    assert 0.4 < sample["depth"].max() <= 0.9
    assert (sample["depth"] == 0).float().mean() > 0.3


def test_a_missing_image_makes_the_clip_unreadable_in_every_epoch(tmp_path: Path) -> None:
    """Not only in those that happen to draw it; and not for clips of the same folder that do not hold it."""
    folder, depth = tmp_path / "color", tmp_path / "depth"
    for place in (folder, depth):
        place.mkdir()
        for number in range(1, 41):
            cv2.imwrite(str(place / f"{number:06d}.png"), np.full((24, 32), number, np.uint8))
    (folder / "000018.png").unlink()
    (depth / "000035.png").unlink()
    clips = [
        Clip(folder, "a", start=0, end=20),
        Clip(folder, "a", start=20, end=30),
        Clip(folder, "a", depth, start=20, end=38, depth_start=20, depth_end=38),
        Clip(folder, "b"),
        Clip(folder, "b", start=20, end=41),
    ]
    dataset = ClipDataset(Manifest.of(clips, DepthSpec(near="bright")), View(2, 16, augment=True), seed=0)
    for epoch in range(12):
        samples = [dataset[(epoch, index)] for index in range(5)]
        assert [isinstance(sample, UnreadableClip) for sample in samples] == [True, False, True, True, True]
        assert "has 40 frames, but frame 40 (counted from 0) is asked for" in samples[4].reason
        assert "000018.png: missing; the images of a clip must be numbered without gaps" in samples[0].reason
        assert "depth/000035.png: missing" in samples[2].reason
