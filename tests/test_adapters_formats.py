"""Adapters on small trees made here: layouts, options, bad rows."""

import re
from pathlib import Path

import pytest
from clip_files import write_file

from dynagest.clips.adapters import Index, IndexOptions, index_dataset, parse_lists
from dynagest.clips.depth import PRESETS
from dynagest.errors import ManifestError


def _index(name: str, root: Path, **options: object) -> Index:
    return index_dataset(name, root, IndexOptions(**options))  # type: ignore[arg-type]


def test_egogesture_other_layout(tmp_path: Path) -> None:
    write_file(tmp_path / "labels" / "Subject03" / "Scene1" / "Group1.csv", "1,1,10\n83,11,20")
    write_file(tmp_path / "labels" / "Subject03" / "Scene1" / ".DS_Store")
    write_file(tmp_path / "frames" / "subject03" / "Scene1" / "Color" / "rgb1" / "000001.jpg")
    write_file(tmp_path / "frames" / "subject03" / "Scene1" / "Depth" / "depth1" / "000001.jpg")
    manifest = _index("egogesture", tmp_path).manifest
    assert manifest.clips[0].video == tmp_path / "frames" / "subject03" / "Scene1" / "Color" / "rgb1"
    assert [(clip.label, clip.start, clip.end) for clip in manifest.clips] == [
        ("class_01", 0, 10),
        ("class_83", 10, 20),
    ]


def test_every_bad_row_is_listed_with_file_and_line(tmp_path: Path) -> None:
    one = write_file(tmp_path / "labels" / "Subject03" / "Scene1" / "Group1.csv", "1,1,10\n84,11,20\n1,30,29\n ,,\n")
    two = write_file(tmp_path / "labels" / "Subject51" / "Scene1" / "Group1.csv", "1,1,10\n")
    three = write_file(tmp_path / "labels" / "Subject04" / "Scene1" / "Group1.csv", "1,one,10\n")
    with pytest.raises(ManifestError) as caught:
        _index("egogesture", tmp_path, require_files=False)
    message = str(caught.value)
    assert message.startswith("4 bad rows")
    assert f"{one}:2: class 84" in message
    assert f"{one}:3: frames 30 to 29" in message
    assert f"{two}:1: subject 51" in message
    assert f"{three}:1: expected class,start,end" in message


def test_end_trim_that_leaves_no_frame_is_refused(tmp_path: Path) -> None:
    write_file(tmp_path / "labels" / "Subject03" / "Scene1" / "Group1.csv", "1,5,7\n")
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
    path = write_file(tmp_path / "train.lst", f"\n{row} \n")
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
    path = write_file(tmp_path / file, f"{row}\n")
    with pytest.raises(ManifestError, match=f"{re.escape(str(path))}:1: .*{reason}"):
        _index(name, tmp_path, require_files=False)


@pytest.mark.parametrize("version", ["v2", "V2"])
def test_nvgesture_prefers_version_2_and_says_so(version: str, tmp_path: Path) -> None:
    row = "path:./Video_data/class_01/subject3_r0 depth:d:0:9 color:c:0:9 label:{}"
    write_file(tmp_path / "nvgesture_train_correct_cvpr2016.lst", row.format(1))
    write_file(tmp_path / f"nvgesture_train_correct_cvpr2016_{version}.lst", row.format(2))
    index = _index("nvgesture", tmp_path, require_files=False)
    assert [clip.label for clip in index.manifest.clips] == ["class_02"]
    assert f"_{version}.lst" in index.notes[0]


def test_list_option_overrides_what_is_found(tmp_path: Path) -> None:
    row = "path:./Video_data/class_01/subject3_r0 depth:d:0:9 color:c:0:9 label:1"
    write_file(tmp_path / "train_a.lst", row)
    write_file(tmp_path / "train_b.lst", row)
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
    write_file(phase_1 / "train_list.txt", "train/001/M_00001.avi train/001/K_00001.avi 26\n")
    write_file(phase_1 / "valid_list.txt", "valid/001/M_00001.avi valid/001/K_00001.avi\n")
    write_file(phase_2 / "test_list.txt", "test/001/M_00001.avi test/001/K_00001.avi 1\n")
    for path in (phase_1 / "train", phase_2 / "test"):
        write_file(path / "001" / "M_00001.avi")
        write_file(path / "001" / "K_00001.avi")
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
    write_file(tmp_path / "train_list.txt", "a.avi b.avi 1\nc.avi d.avi\n")
    with pytest.raises(ManifestError, match=r"train_list\.txt:2: expected 'RGB DEPTH LABEL'"):
        _index("isogd", tmp_path, require_files=False)


@pytest.mark.parametrize(
    ("name", "file", "row"), [("isogd", "train_list.txt", "a.avi b.avi 1"), ("congd", "train.txt", "001/00001 1,9:1")]
)
def test_the_measured_map_of_depth_is_declared_on_demand(name: str, file: str, row: str, tmp_path: Path) -> None:
    write_file(tmp_path / file, row)
    specs = [_index(name, tmp_path, require_files=False, aligned=aligned).manifest.depth for aligned in (False, True)]
    assert specs == [PRESETS["isogd"], PRESETS["isogd-aligned"]]


def test_jester(tmp_path: Path) -> None:
    write_file(tmp_path / "jester-v1-labels.csv", "Swiping Left\nDrumming Fingers\n")
    write_file(tmp_path / "jester-v1-train.csv", "34870;Drumming Fingers\n")
    write_file(tmp_path / "jester-v1-validation.csv", "2;Swiping Left\n")
    write_file(tmp_path / "jester-v1-test.csv", "3\n")
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
    write_file(tmp_path / "jester-v1-train.csv", "34870;Drumming Fingrs\n")
    with pytest.raises(ManifestError, match=r"train\.csv:1: label 'Drumming Fingrs'"):
        _index("jester", tmp_path, require_files=False)


def test_ipn_hand_prefers_the_13_gestures(tmp_path: Path) -> None:
    write_file(tmp_path / "annotation_ipnGesture" / "trainlistall_but_None.txt", "./frames/1CM1_4_R_#229 13 18 55\n")
    write_file(tmp_path / "annotation_ipnGesture" / "trainlistall.txt", "./frames/1CM1_4_R_#229 1 1 17\n")
    index = _index("ipn-hand", tmp_path, require_files=False)
    (clip,) = index.manifest.clips
    assert clip.video == tmp_path / "frames" / "1CM1_4_R_#229"
    assert (clip.label, clip.start, clip.end, clip.subject) == ("G11", 17, 55, "1CM1_4")
    assert len(index.manifest.classes) == 13
    with_none = ((Path("annotation_ipnGesture/trainlistall.txt"), "train"),)
    other = _index("ipn-hand", tmp_path, require_files=False, lists=with_none).manifest
    assert (len(other.classes), other.clips[0].label) == (14, "D0X")
    names = write_file(
        tmp_path / "annotation_ipnGesture" / "classIndAllbutNone.txt", "\n".join(f"{k} g{k}" for k in range(1, 14))
    )
    assert _index("ipn-hand", tmp_path, require_files=False).manifest.clips[0].label == "g13"
    write_file(names, "1 point\n2 click\n4 open\n")
    with pytest.raises(ManifestError, match="expected the class numbers 1 to 3, but it is without 3 and with 4"):
        _index("ipn-hand", tmp_path, require_files=False)


def test_tsm_lists(tmp_path: Path) -> None:
    write_file(tmp_path / "train_videofolder.txt", "some folder/7 37 2\nb 8 0")
    write_file(tmp_path / "val_videofolder.txt", "c 9 1\n")
    index = _index("tsm", tmp_path, require_files=False)
    assert index.manifest.classes == ("class_00", "class_01", "class_02")
    first = index.manifest.clips[0]
    assert (first.video, first.label, first.start, first.end) == (tmp_path / "some folder/7", "class_02", 0, 37)
    assert [clip.split for clip in index.manifest.clips] == ["train", "train", "val"]
    write_file(tmp_path / "category.txt", "zoom\ngrab\npinch\n")
    named = _index("tsm", tmp_path, require_files=False).manifest
    assert (named.classes, named.clips[0].label) == (("zoom", "grab", "pinch"), "pinch")
    write_file(tmp_path / "category.txt", "zoom\ngrab\n")
    with pytest.raises(ManifestError, match="label 2 is not among 0 to 1"):
        _index("tsm", tmp_path, require_files=False)
    (tmp_path / "category.txt").unlink()
    listed = write_file(tmp_path / "val_videofolder.txt", "c 9 1\nd 9 1698765432123\n")
    with pytest.raises(ManifestError, match=re.escape(f"{listed}:2: label 1698765432123 is above 99,999")):
        _index("tsm", tmp_path, require_files=False)  # not as many classes, which no memory holds
    listed.write_bytes("c 9 1\n".encode("utf-16-le"))
    with pytest.raises(ManifestError, match=re.escape(f"{listed}: holds NUL bytes")):
        _index("tsm", tmp_path, require_files=False)


def test_depth_that_is_nowhere_is_left_out_and_said(tmp_path: Path) -> None:
    write_file(tmp_path / "train_list.txt", "train/M_1.avi train/K_1.avi 1\n")
    write_file(tmp_path / "train" / "M_1.avi")
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
    write_file(tmp_path / "train_list.txt", "train/M_1.avi train/K_1.avi 1\n")
    with pytest.raises(ManifestError, match="none of the 1 listed videos is there"):
        _index("isogd", tmp_path)


def test_wrong_names_and_options(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="did you mean egogesture"):
        _index("egogestures", tmp_path)
    with pytest.raises(ManifestError, match="--end-trim means nothing to isogd"):
        _index("isogd", tmp_path, end_trim=2)
    with pytest.raises(ManifestError, match="--list means nothing to folders"):
        _index("folders", tmp_path, lists=((Path("a"), "train"),))


@pytest.mark.parametrize("name", ["isogd", "nvgesture", "tsm", "jester", "ipn-hand", "egogesture", "folders"])
def test_a_folder_that_may_not_be_read_is_named(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "iterdir", refuse)
    (tmp_path / "images").mkdir()
    (tmp_path / "labels-final-revised1").mkdir()
    with pytest.raises(ManifestError, match=rf"{tmp_path}.*: cannot be read \(Permission denied\)"):
        _index(name, tmp_path)
