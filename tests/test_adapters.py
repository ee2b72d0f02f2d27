"""Adapters on the real annotation lists: every number is one of spec/datasets.md."""

import gzip
import re
import shlex
import tarfile
from collections import Counter
from pathlib import Path
from statistics import fmean

import pytest

from dynagest.clips.adapters import ADAPTERS, Index, IndexOptions, flip_labels, index_dataset
from dynagest.clips.depth import PRESETS
from dynagest.clips.manifest import Manifest
from dynagest.clips.view import View
from dynagest.errors import ManifestError
from dynagest.settings import override, parse_settings
from dynagest.training.recipes import get_recipe

LISTS_ONLY = IndexOptions(require_files=False)


def _splits(manifest: Manifest) -> Counter[str]:
    return Counter(clip.split for clip in manifest.clips)


@pytest.fixture(scope="module")
def egogesture_root(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("egogesture")
    with tarfile.open(shared_data / "annotations" / "egogesture-labels.tar.gz") as archive:
        archive.extractall(root, filter="data")
    names = shared_data / "annotations" / "egogesture-classes.txt"
    (root / names.name).write_bytes(names.read_bytes())
    return root


@pytest.fixture(scope="module")
def egogesture(egogesture_root: Path) -> Manifest:
    return index_dataset("egogesture", egogesture_root, LISTS_ONLY).manifest


def test_egogesture_has_the_published_rows_and_splits(egogesture: Manifest) -> None:
    assert len(egogesture) == 24_161
    assert _splits(egogesture) == ADAPTERS["egogesture"].published == {"train": 14_416, "val": 4_768, "test": 4_977}
    assert len(egogesture.classes) == 83
    assert {clip.label for clip in egogesture.clips} == set(egogesture.classes)
    assert len({clip.subject for clip in egogesture.clips}) == 50
    assert egogesture.depth == PRESETS["egogesture"]


def test_egogesture_lengths(egogesture: Manifest) -> None:
    lengths = {split: [c.end - c.start for c in egogesture.split(split).clips] for split in ("train", "val", "test")}
    assert (min(lengths["train"]), round(fmean(lengths["train"]), 1), max(lengths["train"])) == (3, 37.4, 162)
    assert [sum(n < 8 for n in lengths[split]) for split in ("train", "val", "test")] == [28, 4, 6]


def test_egogesture_row_becomes_half_open_and_names_its_folders(egogesture: Manifest, egogesture_root: Path) -> None:
    first = egogesture.clips[0]  # subject01/Scene1/Group1.csv:1 reads 2,178,218
    assert first.video == egogesture_root / "images" / "Subject01" / "Scene1" / "Color" / "rgb1"
    assert first.depth == egogesture_root / "images" / "Subject01" / "Scene1" / "Depth" / "depth1"
    assert (first.label, first.start, first.end) == ("Scroll_hand_towards_left", 177, 218)
    assert (first.depth_start, first.depth_end) == (177, 218)
    assert (first.subject, first.split) == ("01", "val")


@pytest.mark.parametrize(
    ("recording", "clips"),
    [
        ("Subject03/Scene2/Color/rgb6", 10),  # a blank row " ,," ends the file
        ("Subject33/Scene5/Color/rgb1", 12),  # group1.csv in lower case
        ("Subject01/Scene4/Color/rgb9", None),  # the one scene with a Group9
        ("Subject07/Scene5/Color/rgb1", 0),  # subject 7 has Scene1-4 only
        ("Subject23/Scene3/Color/rgb1", 0),  # subject 23 only 1, 2, 4
    ],
)
def test_egogesture_quirks(egogesture: Manifest, recording: str, clips: int | None) -> None:
    found = sum(clip.video.as_posix().endswith(recording) for clip in egogesture.clips)
    assert found > 0 if clips is None else found == clips


def test_egogesture_end_trim_shortens_every_range(egogesture_root: Path, egogesture: Manifest) -> None:
    trimmed = index_dataset("egogesture", egogesture_root, IndexOptions(require_files=False, end_trim=2)).manifest
    assert [clip.end + 2 for clip in trimmed.clips] == [clip.end for clip in egogesture.clips]
    assert [clip.depth_end for clip in trimmed.clips] == [clip.end for clip in trimmed.clips]


@pytest.fixture(scope="module")
def nvgesture(shared_data: Path) -> Index:
    return index_dataset("nvgesture", shared_data / "annotations" / "nvgesture", LISTS_ONLY)


def test_nvgesture_has_the_published_rows(nvgesture: Index) -> None:
    manifest = nvgesture.manifest
    assert _splits(manifest) == ADAPTERS["nvgesture"].published == {"train": 1_050, "test": 482}
    assert not any("as published" in note for note in nvgesture.notes)
    assert manifest.classes == tuple(f"class_{k:02d}" for k in range(1, 26))
    assert {clip.end - clip.start for clip in manifest.clips} == {80}
    subjects = {split: {int(c.subject) for c in manifest.split(split).clips} for split in ("train", "test")}
    assert subjects["train"] == {1, 2, 3, 4, 6, 7, 11, 12, 15, 16, 17, 18}
    assert subjects["test"] == {5, 8, 9, 13, 14, 20}


def test_nvgesture_label_is_the_lists_not_the_folders(nvgesture: Index) -> None:
    def relabelled(split: str) -> int:
        return sum(clip.label != clip.video.parent.parent.name for clip in nvgesture.manifest.split(split).clips)

    assert (relabelled("train"), relabelled("test")) == (15, 8)


def test_nvgesture_reads_depth_and_colour_ranges(nvgesture: Index) -> None:
    apart = [c for c in nvgesture.manifest.clips if (c.start, c.end) != (c.depth_start, c.depth_end)]
    assert [clip.split for clip in apart] == ["train"] * 4
    first = nvgesture.manifest.clips[0]
    assert (first.video.name, first.depth.name, first.start, first.end) == ("sk_color.avi", "sk_depth.avi", 146, 226)


def test_nvgesture_clip_as_shared(shared_data: Path) -> None:
    index = index_dataset("nvgesture", shared_data / "nvgesture-clip", IndexOptions(aligned=True))
    (clip,) = index.manifest.clips
    assert clip.video == shared_data / "nvgesture-clip" / "sk_color.avi"
    assert (clip.label, clip.split, clip.start, clip.end) == ("class_05", "test", 1, 18)
    assert (clip.depth_start, clip.depth_end) == (2, 19)
    assert index.manifest.depth == PRESETS["nvgesture-aligned"]


def test_isogd_full_list(shared_data: Path, tmp_path: Path) -> None:
    text = gzip.decompress((shared_data / "annotations" / "isogd" / "train_list.txt.gz").read_bytes())
    (tmp_path / "train_list.txt").write_bytes(text)
    manifest = index_dataset("isogd", tmp_path, LISTS_ONLY).manifest
    assert _splits(manifest) == {"train": 35_878}
    assert ADAPTERS["isogd"].published == {"train": 35_878, "val": 5_784, "test": 6_271}
    assert len(manifest.classes) == 249
    assert {clip.label for clip in manifest.clips} == set(manifest.classes)
    first = manifest.clips[0]
    assert first.video == tmp_path / "train" / "001" / "M_00001.avi"
    assert first.depth == tmp_path / "train" / "001" / "K_00001.avi"
    assert (first.label, first.start, first.end) == ("class_026", 0, None)


def test_isogd_as_shared_survives_writing(shared_data: Path, tmp_path: Path) -> None:
    index = index_dataset("isogd", shared_data / "isogd", IndexOptions(holdout=0.25, seed=1))
    written = index.manifest.write(tmp_path / "manifest.csv")
    assert len(written) == 200
    assert len({clip.label for clip in written.clips}) == 129
    assert len(written.classes) == 249
    assert written.depth == PRESETS["isogd"]
    assert all(clip.video.is_file() and clip.depth.is_file() for clip in written.clips)
    held = Counter(clip.label for clip in written.split("val").clips)
    trained = Counter(clip.label for clip in written.split("train").clips)
    assert set(held) <= set(trained)
    assert held.total() == 50  # although 79 classes have a single clip, which stays in train
    assert re.search(r"held out 50 of 200 train clips as val, by clip", index.notes[-1])
    most = index_dataset("isogd", shared_data / "isogd", IndexOptions(holdout=0.5)).notes[-1]
    assert "fewer than 0.5 of all, as 79 classes have a single train clip, which stays in train" in most


def test_flip_pairs_of_the_sets() -> None:
    # spec/datasets.md counts EgoGesture's classes from 1 and NVGesture's from 0.
    one_based = {(1, 2), (10, 11), (14, 15), (59, 60), (65, 66), (71, 72), (77, 78), (81, 82)}
    assert {(a + 1, b + 1) for a, b in ADAPTERS["egogesture"].flip_pairs} == one_based
    assert ADAPTERS["nvgesture"].flip_pairs == ((0, 1), (4, 5), (19, 20))
    names = tuple(f"class_{k:02d}" for k in range(1, 26))
    assert flip_labels("nvgesture", names)["class_02"] == "class_01"
    assert len(flip_labels("nvgesture", names)) == 6
    with pytest.raises(ManifestError, match="no left and right classes known for 'isogd'"):
        flip_labels("isogd", names)


def test_flip_pairs_of_egogesture_are_lefts_and_rights(egogesture: Manifest) -> None:
    mirror = {"left": "right", "right": "left", "clockwise": "counterclockwise", "counterclockwise": "clockwise"}
    for pair in ADAPTERS["egogesture"].flip_pairs:
        a, b = (egogesture.classes[k].replace("towards", "toward").split("_") for k in pair)
        assert [mirror.get(word, word) for word in a] == b


def test_indexing_tells_how_to_mirror_where_that_is_known(shared_data: Path) -> None:
    """The note is a piece of a command line; given to a recipe, it swaps the lefts and rights of the set."""
    index = index_dataset("nvgesture", shared_data / "annotations" / "nvgesture", LISTS_ONLY)
    words = shlex.split(index.notes[-1][index.notes[-1].index("--set") :])
    recipe = override(get_recipe("nvgesture"), parse_settings([words[1]]))
    table = View(flip_labels=recipe.flip_labels).flip_table(index.manifest.classes)
    assert [k for k in range(25) if table[k] != k] == [0, 1, 4, 5, 19, 20]
    assert (table[0], table[4], table[20]) == (1, 5, 19)
    isogd = index_dataset("isogd", shared_data / "isogd")
    assert not any("flip_labels" in note for note in isogd.notes)
