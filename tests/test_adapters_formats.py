"""Adapters on small trees made here: layouts, options, bad rows, subjects."""

import re
from pathlib import Path

import pytest

from dynagest.clips.adapters import Index, IndexOptions, index_dataset, parse_lists
from dynagest.clips.adapters.holdout import hold_out
from dynagest.clips.depth import PRESETS
from dynagest.clips.frames import IMAGE_SUFFIXES, VIDEO_SUFFIXES
from dynagest.errors import DepthError, ManifestError


def _write(path: Path, text: str = "x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def _index(name: str, root: Path, **options: object) -> Index:
    return index_dataset(name, root, IndexOptions(**options))  # type: ignore[arg-type]


def test_egogesture_other_layout(tmp_path: Path) -> None:
    _write(tmp_path / "labels" / "Subject03" / "Scene1" / "Group1.csv", "1,1,10\n83,11,20")
    _write(tmp_path / "labels" / "Subject03" / "Scene1" / ".DS_Store")
    _write(tmp_path / "frames" / "subject03" / "Scene1" / "Color" / "rgb1" / "000001.jpg")
    _write(tmp_path / "frames" / "subject03" / "Scene1" / "Depth" / "depth1" / "000001.jpg")
    manifest = _index("egogesture", tmp_path).manifest
    assert manifest.clips[0].video == tmp_path / "frames" / "subject03" / "Scene1" / "Color" / "rgb1"
    assert [(clip.label, clip.start, clip.end) for clip in manifest.clips] == [
        ("class_01", 0, 10),
        ("class_83", 10, 20),
    ]


def test_every_bad_row_is_listed_with_file_and_line(tmp_path: Path) -> None:
    one = _write(tmp_path / "labels" / "Subject03" / "Scene1" / "Group1.csv", "1,1,10\n84,11,20\n1,30,29\n ,,\n")
    two = _write(tmp_path / "labels" / "Subject51" / "Scene1" / "Group1.csv", "1,1,10\n")
    three = _write(tmp_path / "labels" / "Subject04" / "Scene1" / "Group1.csv", "1,one,10\n")
    with pytest.raises(ManifestError) as caught:
        _index("egogesture", tmp_path, require_files=False)
    message = str(caught.value)
    assert message.startswith("4 bad rows")
    assert f"{one}:2: class 84" in message
    assert f"{one}:3: frames 30 to 29" in message
    assert f"{two}:1: subject 51" in message
    assert f"{three}:1: expected class,start,end" in message


def test_end_trim_that_leaves_no_frame_is_refused(tmp_path: Path) -> None:
    _write(tmp_path / "labels" / "Subject03" / "Scene1" / "Group1.csv", "1,5,7\n")
    assert _index("egogesture", tmp_path, require_files=False, end_trim=2).manifest.clips[0].end == 5
    with pytest.raises(ManifestError, match="less 3 at the end are an empty range"):
        _index("egogesture", tmp_path, require_files=False, end_trim=3)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("path:./a color:c:0:9 label:1", "no depth:"),
        ("path:./a depth:d:0:9 color:c:0 label:1", "expected color:NAME:START:END"),
        ("path:./a depth:d:9:9 color:c:0:9 label:1", "empty frame range"),
        ("path:./a depth:d:0:9 color:c:9:9 label:1", "empty frame range"),
        ("path:./a depth:d:0:9 color:c:0:9 label:26", "label '26' is not among 1 to 25"),
        ("path:./a depth:d:0:9 color:c:0:9 label:0", "label '0' is not among 1 to 25"),
    ],
)
def test_nvgesture_bad_rows(tmp_path: Path, row: str, reason: str) -> None:
    path = _write(tmp_path / "train.lst", f"\n{row} \n")
    with pytest.raises(ManifestError, match=reason) as caught:
        _index("nvgesture", tmp_path, require_files=False)
    assert f"{path}:2:" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "file", "row", "reason"),
    [
        ("egogesture", "labels/Subject03/Scene1/Group1.csv", "0,1,10", "class 0 is not among 1 to 83"),
        ("egogesture", "labels/Subject03/Scene1/Group1.csv", "1,0,10", "frames 0 to 10 .*frames count from 1"),
        ("isogd", "train_list.txt", "a.avi b.avi 0", "a label 1 to 249"),
        ("isogd", "train_list.txt", "a.avi b.avi 250", "a label 1 to 249"),
        ("ipn-hand", "trainlistall_but_None.txt", "./frames/a 0 18 55", "label 0 is not among 1 to 13"),
        ("ipn-hand", "trainlistall_but_None.txt", "./frames/a 14 18 55", "label 14 is not among 1 to 13"),
        ("ipn-hand", "trainlistall_but_None.txt", "./frames/a 1 0 55", "frames 0 to 55 .*frames count from 1"),
        ("ipn-hand", "trainlistall_but_None.txt", "./frames/a 1 56 55", "frames 56 to 55 are an empty range"),
        ("ipn-hand", "trainlistall_but_None.txt", "./frames/a 1 55", "expected 'FOLDER LABEL FIRST LAST'"),
        ("tsm", "train.txt", "a 0 1", "with at least one frame"),
    ],
)
def test_what_counts_from_1_is_never_taken_for_the_last(
    name: str, file: str, row: str, reason: str, tmp_path: Path
) -> None:
    """A label of 0 would be the last class, a first frame of 0 one before the recording."""
    path = _write(tmp_path / file, f"{row}\n")
    with pytest.raises(ManifestError, match=f"{re.escape(str(path))}:1: .*{reason}"):
        _index(name, tmp_path, require_files=False)


@pytest.mark.parametrize("version", ["v2", "V2"])
def test_nvgesture_prefers_version_2_and_says_so(version: str, tmp_path: Path) -> None:
    row = "path:./Video_data/class_01/subject3_r0 depth:d:0:9 color:c:0:9 label:{}"
    _write(tmp_path / "nvgesture_train_correct_cvpr2016.lst", row.format(1))
    _write(tmp_path / f"nvgesture_train_correct_cvpr2016_{version}.lst", row.format(2))
    index = _index("nvgesture", tmp_path, require_files=False)
    assert [clip.label for clip in index.manifest.clips] == ["class_02"]
    assert f"_{version}.lst" in index.notes[0]


def test_list_option_overrides_what_is_found(tmp_path: Path) -> None:
    row = "path:./Video_data/class_01/subject3_r0 depth:d:0:9 color:c:0:9 label:1"
    _write(tmp_path / "train_a.lst", row)
    _write(tmp_path / "train_b.lst", row)
    with pytest.raises(ManifestError, match="several lists for the train split"):
        _index("nvgesture", tmp_path, require_files=False)
    index = _index("nvgesture", tmp_path, require_files=False, lists=((Path("train_b.lst"), "test"),))
    assert [clip.split for clip in index.manifest.clips] == ["test"]
    with pytest.raises(ManifestError, match="no such file"):
        _index("nvgesture", tmp_path, require_files=False, lists=((Path("train_c.lst"), "test"),))


def test_list_option_as_typed() -> None:
    assert parse_lists(["C:/lists/a.txt:valid", "b.lst:train"]) == (
        (Path("C:/lists/a.txt"), "val"),
        (Path("b.lst"), "train"),
    )
    for wrong in ("a.txt", "a.txt:dev", ":train"):
        with pytest.raises(ManifestError, match="expected FILE:SPLIT"):
            parse_lists([wrong])


def test_isogd_phases_and_lists_without_labels(tmp_path: Path) -> None:
    phase_1, phase_2 = tmp_path / "IsoGD_phase_1", tmp_path / "IsoGD_phase_2"
    _write(phase_1 / "train_list.txt", "train/001/M_00001.avi train/001/K_00001.avi 26\n")
    _write(phase_1 / "valid_list.txt", "valid/001/M_00001.avi valid/001/K_00001.avi\n")
    _write(phase_2 / "test_list.txt", "test/001/M_00001.avi test/001/K_00001.avi 1\n")
    for path in (phase_1 / "train", phase_2 / "test"):
        _write(path / "001" / "M_00001.avi")
        _write(path / "001" / "K_00001.avi")
    index = _index("isogd", tmp_path)
    assert [(clip.split, clip.video) for clip in index.manifest.clips] == [
        ("train", phase_1 / "train" / "001" / "M_00001.avi"),
        ("test", phase_2 / "test" / "001" / "M_00001.avi"),
    ]
    assert index.notes == (
        "valid_list.txt: no labels in it, so the val split is left out; the later release has them",
        "as published the set has 35,878 train, 5,784 val, 6,271 test clips, unlike these lists",
    )


def test_isogd_row_without_label_among_others_is_bad(tmp_path: Path) -> None:
    _write(tmp_path / "train_list.txt", "a.avi b.avi 1\nc.avi d.avi\n")
    with pytest.raises(ManifestError, match=r"train_list\.txt:2: expected 'RGB DEPTH LABEL'"):
        _index("isogd", tmp_path, require_files=False)


@pytest.mark.parametrize(
    ("name", "file", "row"), [("isogd", "train_list.txt", "a.avi b.avi 1"), ("congd", "train.txt", "001/00001 1,9:1")]
)
def test_the_measured_map_of_depth_is_declared_on_demand(name: str, file: str, row: str, tmp_path: Path) -> None:
    _write(tmp_path / file, row)
    specs = [_index(name, tmp_path, require_files=False, aligned=aligned).manifest.depth for aligned in (False, True)]
    assert specs == [PRESETS["isogd"], PRESETS["isogd-aligned"]]


def test_jester(tmp_path: Path) -> None:
    _write(tmp_path / "jester-v1-labels.csv", "Swiping Left\nDrumming Fingers\n")
    _write(tmp_path / "jester-v1-train.csv", "34870;Drumming Fingers\n")
    _write(tmp_path / "jester-v1-validation.csv", "2;Swiping Left\n")
    _write(tmp_path / "jester-v1-test.csv", "3\n")
    index = _index("jester", tmp_path, require_files=False)
    assert index.manifest.classes == ("Swiping Left", "Drumming Fingers")
    assert [(clip.video, clip.label, clip.split) for clip in index.manifest.clips] == [
        (tmp_path / "20bn-jester-v1" / "34870", "Drumming Fingers", "train"),
        (tmp_path / "20bn-jester-v1" / "2", "Swiping Left", "val"),
    ]
    assert index.manifest.depth is None
    assert {clip.fps for clip in index.manifest.clips} == {12.0}
    assert "jester-v1-test.csv: no labels" in index.notes[0]
    (tmp_path / "jester-v1-labels.csv").rename(tmp_path / "elsewhere.csv")
    assert _index("jester", tmp_path, require_files=False).manifest.classes == ("Drumming Fingers", "Swiping Left")
    (tmp_path / "elsewhere.csv").rename(tmp_path / "jester-v1-labels.csv")
    _write(tmp_path / "jester-v1-train.csv", "34870;Drumming Fingrs\n")
    with pytest.raises(ManifestError, match=r"train\.csv:1: label 'Drumming Fingrs'"):
        _index("jester", tmp_path, require_files=False)


def test_ipn_hand_prefers_the_13_gestures(tmp_path: Path) -> None:
    _write(tmp_path / "annotation_ipnGesture" / "trainlistall_but_None.txt", "./frames/1CM1_4_R_#229 13 18 55\n")
    _write(tmp_path / "annotation_ipnGesture" / "trainlistall.txt", "./frames/1CM1_4_R_#229 1 1 17\n")
    index = _index("ipn-hand", tmp_path, require_files=False)
    (clip,) = index.manifest.clips
    assert clip.video == tmp_path / "frames" / "1CM1_4_R_#229"
    assert (clip.label, clip.start, clip.end, clip.subject) == ("G11", 17, 55, "1CM1_4")
    assert len(index.manifest.classes) == 13
    with_none = ((Path("annotation_ipnGesture/trainlistall.txt"), "train"),)
    other = _index("ipn-hand", tmp_path, require_files=False, lists=with_none).manifest
    assert (len(other.classes), other.clips[0].label) == (14, "D0X")
    names = _write(
        tmp_path / "annotation_ipnGesture" / "classIndAllbutNone.txt", "\n".join(f"{k} g{k}" for k in range(1, 14))
    )
    assert _index("ipn-hand", tmp_path, require_files=False).manifest.clips[0].label == "g13"
    _write(names, "1 point\n2 click\n4 open\n")
    with pytest.raises(ManifestError, match="expected the class numbers 1 to 3, but it is without 3 and with 4"):
        _index("ipn-hand", tmp_path, require_files=False)


def test_tsm_lists(tmp_path: Path) -> None:
    _write(tmp_path / "train_videofolder.txt", "some folder/7 37 2\nb 8 0")
    _write(tmp_path / "val_videofolder.txt", "c 9 1\n")
    index = _index("tsm", tmp_path, require_files=False)
    assert index.manifest.classes == ("class_00", "class_01", "class_02")
    first = index.manifest.clips[0]
    assert (first.video, first.label, first.start, first.end) == (tmp_path / "some folder/7", "class_02", 0, 37)
    assert [clip.split for clip in index.manifest.clips] == ["train", "train", "val"]
    _write(tmp_path / "category.txt", "zoom\ngrab\npinch\n")
    named = _index("tsm", tmp_path, require_files=False).manifest
    assert (named.classes, named.clips[0].label) == (("zoom", "grab", "pinch"), "pinch")
    _write(tmp_path / "category.txt", "zoom\ngrab\n")
    with pytest.raises(ManifestError, match="label 2 is not among 0 to 1"):
        _index("tsm", tmp_path, require_files=False)
    (tmp_path / "category.txt").unlink()
    listed = _write(tmp_path / "val_videofolder.txt", "c 9 1\nd 9 1698765432123\n")
    with pytest.raises(ManifestError, match=re.escape(f"{listed}:2: label 1698765432123 is above 99,999")):
        _index("tsm", tmp_path, require_files=False)  # not as many classes, which no memory holds
    listed.write_bytes("c 9 1\n".encode("utf-16-le"))
    with pytest.raises(ManifestError, match=re.escape(f"{listed}: holds NUL bytes")):
        _index("tsm", tmp_path, require_files=False)


def test_class_folders_with_depth_beside(tmp_path: Path) -> None:
    _write(tmp_path / "train" / "swipe 10" / "a.MP4")
    _write(tmp_path / "train" / "swipe 10" / "a.depth.mkv")
    _write(tmp_path / "train" / "swipe 2" / "b" / "color" / "000001.jpg")
    _write(tmp_path / "train" / "swipe 2" / "b" / "depth" / "000001.png")
    _write(tmp_path / "valid" / "swipe 2" / "c" / "000001.jpg")
    _write(tmp_path / "test" / "swipe 2" / "d.webm")
    _write(tmp_path / "test" / "swipe 2" / ".DS_Store")
    _write(tmp_path / "test" / "swipe 2" / "d.txt")
    with pytest.raises(DepthError, match="2 clips have depth, but nothing says what it means"):
        _index("folders", tmp_path)
    _write(tmp_path / "depth.yaml", "near: bright\n")
    index = _index("folders", tmp_path)
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
    assert "1 files are no clips" in index.notes[0]
    assert ".txt (1)" in index.notes[0]


def test_class_folders_without_splits_and_with_a_preset(tmp_path: Path) -> None:
    _write(tmp_path / "wave" / "a.mp4")
    _write(tmp_path / "wave" / "a.depth.npz")
    index = _index("folders", tmp_path, depth="realsense")
    assert [(clip.label, clip.split) for clip in index.manifest.clips] == [("wave", "train")]
    assert index.manifest.depth == PRESETS["realsense"]
    with pytest.raises(DepthError, match="neither a file nor one of the presets"):
        _index("folders", tmp_path, depth="realsens")


def test_class_folders_hold_all_that_can_be_read(tmp_path: Path) -> None:
    for suffix in VIDEO_SUFFIXES:
        _write(tmp_path / "wave" / f"video{suffix}")
        _write(tmp_path / "wave" / f"deep{suffix[1:]}.mp4")
        _write(tmp_path / "wave" / f"deep{suffix[1:]}.depth{suffix}")
    for suffix in IMAGE_SUFFIXES:
        _write(tmp_path / "wave" / f"images{suffix[1:]}" / f"000001{suffix}")
    index = _index("folders", tmp_path, depth="egogesture")
    found = {clip.video.name: clip.depth and clip.depth.name for clip in index.manifest.clips}
    assert found == {
        **{f"video{suffix}": None for suffix in VIDEO_SUFFIXES},
        **{f"deep{suffix[1:]}.mp4": f"deep{suffix[1:]}.depth{suffix}" for suffix in VIDEO_SUFFIXES},
        **{f"images{suffix[1:]}": None for suffix in IMAGE_SUFFIXES},
    }
    assert not any("no clips" in note for note in index.notes)


def test_depth_beside_a_clip_may_be_in_capitals(tmp_path: Path) -> None:
    _write(tmp_path / "wave" / "A.MP4")
    _write(tmp_path / "wave" / "a.Depth.MKV")
    clip = _index("folders", tmp_path, depth="egogesture").manifest.clips[0]
    assert (clip.video.name, clip.depth and clip.depth.name) == ("A.MP4", "a.Depth.MKV")


def test_class_folders_without_clips_are_told(tmp_path: Path) -> None:
    for name in ("train/wave", "train/push", "test/wave"):
        _write(tmp_path / name / "a.mp4")
    assert not any("no clip" in note for note in _index("folders", tmp_path).notes)
    for name in ("train/pull", "test/push"):
        (tmp_path / name).mkdir()
    index = _index("folders", tmp_path)
    assert "2 class folders have no clip in them: test/push, train/pull" in index.notes
    assert index.manifest.classes == ("push", "wave")


def test_class_folders_without_a_clip_say_what_they_hold(tmp_path: Path) -> None:
    _write(tmp_path / "wave" / "a.flv")
    with pytest.raises(ManifestError, match=r"found no clip with a label; 1 files are no clips .*a\.flv"):
        _index("folders", tmp_path)


def test_one_class_folder_in_place_of_all_of_them_is_told(tmp_path: Path) -> None:
    _write(tmp_path / "wave" / "a.mp4")
    with pytest.raises(ManifestError, match=r"wave: has videos, but in no class folder.* name the folder above"):
        _index("folders", tmp_path / "wave")


def test_class_folders_name_all_that_is_no_clip(tmp_path: Path) -> None:
    _write(tmp_path / "train" / "wave" / "a.depth.mkv")
    (tmp_path / "train" / "wave" / "empty").mkdir()
    with pytest.raises(ManifestError) as caught:
        _index("folders", tmp_path)
    assert "a.depth.mkv: depth without a clip" in str(caught.value)
    assert "empty: neither a folder of frames" in str(caught.value)
    (tmp_path / "more").mkdir()
    with pytest.raises(ManifestError, match="has split folders"):
        _index("folders", tmp_path)


@pytest.mark.parametrize(
    ("image", "depth", "video"),
    [("color/1.jpg", "depth/1.png", "color"), ("RGB/1.jpg", "Depth/1.png", "RGB"), ("1.jpg", "depth/1.png", "")],
)
def test_depth_in_the_folder_of_a_clip(image: str, depth: str, video: str, tmp_path: Path) -> None:
    clip = tmp_path / "wave" / "01"
    _write(clip / image)
    _write(clip / depth)
    found = _index("folders", tmp_path, depth="egogesture").manifest.clips
    assert [(each.video, each.depth, each.subject) for each in found] == [(clip / video, (clip / depth).parent, "")]


@pytest.mark.parametrize("depth", ["01_depth.mp4", "01-Depth.avi", "01/depth.mp4", "01/depth/000001.png"])
def test_depth_is_never_taken_for_a_clip_of_its_own(depth: str, tmp_path: Path) -> None:
    _write(tmp_path / "wave" / "01.mp4")
    _write(tmp_path / "depth" / "01_in_depth_view.mp4")
    assert len(_index("folders", tmp_path).manifest.clips) == 2
    _write(tmp_path / "wave" / depth)
    with pytest.raises(ManifestError, match=re.escape(f"{depth.removesuffix('/000001.png')}: depth by its name")):
        _index("folders", tmp_path)


def test_depth_that_is_nowhere_is_left_out_and_said(tmp_path: Path) -> None:
    _write(tmp_path / "train_list.txt", "train/M_1.avi train/K_1.avi 1\n")
    _write(tmp_path / "train" / "M_1.avi")
    index = _index("isogd", tmp_path)
    assert index.manifest.clips[0].depth is None
    assert index.manifest.depth is None
    assert "none of the 1 depth files is there" in index.notes[0]


@pytest.mark.parametrize("name", ["egogesture", "nvgesture", "isogd", "jester", "ipn-hand", "tsm", "folders"])
def test_a_root_without_anything_says_what_is_looked_for(tmp_path: Path, name: str) -> None:
    with pytest.raises(ManifestError, match="<root>/"):
        _index(name, tmp_path)
    with pytest.raises(ManifestError, match="no such folder"):
        _index(name, tmp_path / "nowhere")


def test_lists_without_any_file_are_refused(tmp_path: Path) -> None:
    _write(tmp_path / "train_list.txt", "train/M_1.avi train/K_1.avi 1\n")
    with pytest.raises(ManifestError, match="none of the 1 listed videos is there"):
        _index("isogd", tmp_path)


def test_wrong_names_and_options(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="did you mean egogesture"):
        _index("egogestures", tmp_path)
    with pytest.raises(ManifestError, match="--end-trim means nothing to isogd"):
        _index("isogd", tmp_path, end_trim=2)
    with pytest.raises(ManifestError, match="--list means nothing to folders"):
        _index("folders", tmp_path, lists=((Path("a"), "train"),))


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
        _write(tmp_path / "wave" / name)
    _write(tmp_path / "wave" / "ben" / "01.mp4")
    _write(tmp_path / "wave" / "ben" / "01.depth.mkv")
    _write(tmp_path / "wave" / "ben" / "S09_02" / "color" / "000001.jpg")
    _write(tmp_path / "wave" / "Person 7_b" / "000001.jpg")
    index = _index("folders", tmp_path, depth="egogesture")
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
                _write(tmp_path / label / f"S{subject:02d}_{take}.mp4")
    index = _index("folders", tmp_path, holdout=0.25, seed=3)
    assert list(index.manifest.clips) == hold_out(_index("folders", tmp_path).manifest.clips, 0.25, seed=3)[0]
    assert index.manifest != _index("folders", tmp_path, holdout=0.25, seed=4).manifest
    held = {clip.subject for clip in index.manifest.split("val").clips}
    assert len(held) == 2
    assert not held & {clip.subject for clip in index.manifest.split("train").clips}
    assert any("by subject" in note for note in index.notes)


def test_a_folder_that_holds_no_clips_is_no_subject(tmp_path: Path) -> None:
    _write(tmp_path / "wave" / "a.mp4")
    _write(tmp_path / "wave" / "ben" / "notes.txt")
    _write(tmp_path / "wave" / "anna" / "monday" / "a.mp4")
    with pytest.raises(ManifestError) as caught:
        _index("folders", tmp_path)
    assert f"{tmp_path / 'wave' / 'ben'}: neither a folder of frames" in str(caught.value)
    anna = tmp_path / "wave" / "anna"
    assert f"{anna / 'monday'}: its clips lie one folder too deep; move them up, into {anna}\n" in str(caught.value)
    assert f"{anna}: " not in str(caught.value)  # it has nothing wrong of its own


@pytest.mark.parametrize("name", ["isogd", "nvgesture", "tsm", "jester", "ipn-hand", "egogesture", "folders"])
def test_a_folder_that_may_not_be_read_is_named(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "iterdir", refuse)
    (tmp_path / "images").mkdir()
    (tmp_path / "labels-final-revised1").mkdir()
    with pytest.raises(ManifestError, match=rf"{tmp_path}.*: cannot be read \(Permission denied\)"):
        _index(name, tmp_path)
