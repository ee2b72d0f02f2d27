"""Class folders: which files are clips, which depth belongs to which, whose they are."""

import re
from pathlib import Path

import pytest
from clip_files import write_file

from dynagest.clips.adapters import Index, IndexOptions, index_dataset
from dynagest.clips.adapters.holdout import hold_out
from dynagest.clips.depth import PRESETS
from dynagest.clips.frames import VIDEO_SUFFIXES
from dynagest.clips.image_folder import IMAGE_SUFFIXES
from dynagest.errors import DepthError, ManifestError


def _index(root: Path, **options: object) -> Index:
    return index_dataset("folders", root, IndexOptions(**options))  # type: ignore[arg-type]


def test_the_command_that_declares_depth_can_be_pasted(tmp_path: Path) -> None:
    root = tmp_path / "my clips"
    for name in ("a.mp4", "a.depth.mkv"):
        write_file(root / "wave" / name)
    with pytest.raises(DepthError, match=f"`dynagest data index folders '{root}' --depth NAME`"):
        _index(root)


def test_class_folders_with_depth_beside(tmp_path: Path) -> None:
    write_file(tmp_path / "train" / "swipe 10" / "a.MP4")
    write_file(tmp_path / "train" / "swipe 10" / "a.depth.mkv")
    write_file(tmp_path / "train" / "swipe 2" / "b" / "color" / "000001.jpg")
    write_file(tmp_path / "train" / "swipe 2" / "b" / "depth" / "000001.png")
    write_file(tmp_path / "valid" / "swipe 2" / "c" / "000001.jpg")
    write_file(tmp_path / "test" / "swipe 2" / "d.webm")
    write_file(tmp_path / "test" / "swipe 2" / ".DS_Store")
    write_file(tmp_path / "test" / "swipe 2" / "d.txt")
    with pytest.raises(DepthError, match="2 clips have depth, but nothing says what it means"):
        _index(tmp_path)
    write_file(tmp_path / "depth.yaml", "near: bright\n")
    index = _index(tmp_path)
    clips = {clip.video.relative_to(tmp_path).as_posix(): clip for clip in index.manifest.clips}
    assert index.manifest.classes == ("swipe 2", "swipe 10")
    assert {name: clip.split for name, clip in clips.items()} == {
        "train/swipe 10/a.MP4": "train",
        "train/swipe 2/b/color": "train",
        "valid/swipe 2/c": "val",
        "test/swipe 2/d.webm": "test",
    }
    assert clips["train/swipe 10/a.MP4"].depth == tmp_path / "train" / "swipe 10" / "a.depth.mkv"
    assert clips["train/swipe 2/b/color"].depth == tmp_path / "train" / "swipe 2" / "b" / "depth"
    assert clips["test/swipe 2/d.webm"].depth is None
    assert index.manifest.depth.near == "bright"
    assert "1 file is no clip" in index.notes[0]
    assert ".txt (1)" in index.notes[0]


def test_class_folders_without_splits_and_with_a_preset(tmp_path: Path) -> None:
    write_file(tmp_path / "wave" / "a.mp4")
    write_file(tmp_path / "wave" / "a.depth.npz")
    index = _index(tmp_path, depth="realsense")
    assert [(clip.label, clip.split) for clip in index.manifest.clips] == [("wave", "train")]
    assert index.manifest.depth == PRESETS["realsense"]
    with pytest.raises(DepthError, match="neither a file nor one of the presets"):
        _index(tmp_path, depth="realsens")


def test_class_folders_hold_all_that_can_be_read(tmp_path: Path) -> None:
    for suffix in VIDEO_SUFFIXES:
        write_file(tmp_path / "wave" / f"video{suffix}")
        write_file(tmp_path / "wave" / f"deep{suffix[1:]}.mp4")
        write_file(tmp_path / "wave" / f"deep{suffix[1:]}.depth{suffix}")
    for suffix in IMAGE_SUFFIXES:
        write_file(tmp_path / "wave" / f"images{suffix[1:]}" / f"000001{suffix}")
    index = _index(tmp_path, depth="egogesture")
    found = {clip.video.name: clip.depth and clip.depth.name for clip in index.manifest.clips}
    assert found == {
        **{f"video{suffix}": None for suffix in VIDEO_SUFFIXES},
        **{f"deep{suffix[1:]}.mp4": f"deep{suffix[1:]}.depth{suffix}" for suffix in VIDEO_SUFFIXES},
        **{f"images{suffix[1:]}": None for suffix in IMAGE_SUFFIXES},
    }
    assert not any("no clips" in note for note in index.notes)


def test_depth_beside_a_clip_may_be_in_capitals(tmp_path: Path) -> None:
    write_file(tmp_path / "wave" / "A.MP4")
    write_file(tmp_path / "wave" / "a.Depth.MKV")
    clip = _index(tmp_path, depth="egogesture").manifest.clips[0]
    assert (clip.video.name, clip.depth and clip.depth.name) == ("A.MP4", "a.Depth.MKV")


def test_class_folders_without_clips_are_told(tmp_path: Path) -> None:
    for name in ("train/wave", "train/push", "test/wave"):
        write_file(tmp_path / name / "a.mp4")
    assert not any("no clip" in note for note in _index(tmp_path).notes)
    for name in ("train/pull", "test/push"):
        (tmp_path / name).mkdir()
    index = _index(tmp_path)
    assert "2 class folders have no clip in them: test/push, train/pull" in index.notes
    assert index.manifest.classes == ("push", "wave")


def test_class_folders_without_a_clip_say_what_they_hold(tmp_path: Path) -> None:
    write_file(tmp_path / "wave" / "a.flv")
    with pytest.raises(ManifestError, match=r"found no clip with a label; 1 file is no clip .*a\.flv"):
        _index(tmp_path)


def test_one_class_folder_in_place_of_all_of_them_is_told(tmp_path: Path) -> None:
    write_file(tmp_path / "wave" / "a.mp4")
    with pytest.raises(ManifestError, match=r"wave: has videos, but in no class folder.* name the folder above"):
        _index(tmp_path / "wave")


def test_class_folders_name_all_that_is_no_clip(tmp_path: Path) -> None:
    write_file(tmp_path / "train" / "wave" / "a.depth.mkv")
    (tmp_path / "train" / "wave" / "empty").mkdir()
    with pytest.raises(ManifestError) as caught:
        _index(tmp_path)
    assert "a.depth.mkv: depth without a clip" in str(caught.value)
    assert "empty: neither a folder of frames" in str(caught.value)
    (tmp_path / "more").mkdir()
    with pytest.raises(ManifestError, match="has split folders"):
        _index(tmp_path)


@pytest.mark.parametrize(
    ("image", "depth", "video"),
    [("color/1.jpg", "depth/1.png", "color"), ("RGB/1.jpg", "Depth/1.png", "RGB"), ("1.jpg", "depth/1.png", "")],
)
def test_depth_in_the_folder_of_a_clip(image: str, depth: str, video: str, tmp_path: Path) -> None:
    clip = tmp_path / "wave" / "01"
    write_file(clip / image)
    write_file(clip / depth)
    found = _index(tmp_path, depth="egogesture").manifest.clips
    assert [(each.video, each.depth, each.subject) for each in found] == [(clip / video, (clip / depth).parent, "")]


@pytest.mark.parametrize("depth", ["01_depth.mp4", "01-Depth.avi", "01/depth.mp4", "01/depth/000001.png"])
def test_depth_is_never_taken_for_a_clip_of_its_own(depth: str, tmp_path: Path) -> None:
    write_file(tmp_path / "wave" / "01.mp4")
    write_file(tmp_path / "depth" / "01_in_depth_view.mp4")
    assert len(_index(tmp_path).manifest.clips) == 2
    write_file(tmp_path / "wave" / depth)
    with pytest.raises(ManifestError, match=re.escape(f"{depth.removesuffix('/000001.png')}: depth by its name")):
        _index(tmp_path)


def test_subjects_of_class_folders(tmp_path: Path) -> None:
    """By a folder between class and clip, or by a person's number before the clip's name; else nobody."""
    for name in (
        "S01_a.mp4",
        "subject3-02.avi",
        "p12.take.mp4",
        "anna_01.mp4",
        "S4.mp4",
        "swipe_01.mp4",
        "step2_x.mp4",
    ):
        write_file(tmp_path / "wave" / name)
    write_file(tmp_path / "wave" / "ben" / "01.mp4")
    write_file(tmp_path / "wave" / "ben" / "01.depth.mkv")
    write_file(tmp_path / "wave" / "ben" / "S09_02" / "color" / "000001.jpg")
    write_file(tmp_path / "wave" / "Person 7_b" / "000001.jpg")
    index = _index(tmp_path, depth="egogesture")
    root = tmp_path / "wave"
    assert {clip.video.relative_to(root).as_posix(): clip.subject for clip in index.manifest.clips} == {
        "S01_a.mp4": "S01",
        "subject3-02.avi": "subject3",
        "p12.take.mp4": "p12",
        "anna_01.mp4": "",
        "S4.mp4": "",  # the clip's number, not the person's
        "swipe_01.mp4": "",
        "step2_x.mp4": "",
        "ben/01.mp4": "ben",
        "ben/S09_02/color": "ben",
        "Person 7_b": "Person 7",
    }
    assert {clip.label for clip in index.manifest.clips} == {"wave"}
    assert next(c.depth for c in index.manifest.clips if c.video.name == "01.mp4") == root / "ben" / "01.depth.mkv"
    assert any("5 subjects" in note and "ben, p12" in note and "4 clips name none" in note for note in index.notes)


def test_class_folders_hold_out_whole_subjects(tmp_path: Path) -> None:
    for label in ("wave", "grab"):
        for subject in range(1, 9):
            for take in range(3):
                write_file(tmp_path / label / f"S{subject:02d}_{take}.mp4")
    index = _index(tmp_path, holdout=0.25, seed=3)
    assert list(index.manifest.clips) == hold_out(_index(tmp_path).manifest.clips, 0.25, seed=3)[0]
    assert index.manifest != _index(tmp_path, holdout=0.25, seed=4).manifest
    held = {clip.subject for clip in index.manifest.split("val").clips}
    assert len(held) == 2
    assert not held & {clip.subject for clip in index.manifest.split("train").clips}
    assert any("by subject" in note for note in index.notes)


def test_a_folder_that_holds_no_clips_is_no_subject(tmp_path: Path) -> None:
    write_file(tmp_path / "wave" / "a.mp4")
    write_file(tmp_path / "wave" / "ben" / "notes.txt")
    write_file(tmp_path / "wave" / "anna" / "monday" / "a.mp4")
    with pytest.raises(ManifestError) as caught:
        _index(tmp_path)
    assert f"{tmp_path / 'wave' / 'ben'}: neither a folder of frames" in str(caught.value)
    anna = tmp_path / "wave" / "anna"
    assert f"{anna / 'monday'}: its clips lie one folder too deep; move them up, into {anna}\n" in str(caught.value)
    assert f"{anna}: " not in str(caught.value)  # it has nothing wrong of its own
