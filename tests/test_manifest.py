"""The manifest: what is written is read back, and every bad row is named with its line."""

import os
import re
from dataclasses import replace
from pathlib import Path

import pytest

from dynagest.clips.depth import PRESETS
from dynagest.clips.manifest import Clip, Manifest, natural_order
from dynagest.errors import DepthError, ManifestError


def write(folder: Path, text: str, classes: str | None = None, depth: bool = False) -> Path:
    path = folder / "manifest.csv"
    path.write_text(text, encoding="utf-8", newline="")
    if classes is not None:
        (folder / "classes.txt").write_text(classes, encoding="utf-8")
    if depth:
        (folder / "depth.yaml").write_text("near: bright\n", encoding="utf-8")
    return path


def test_smallest_manifest(tmp_path: Path) -> None:
    manifest = Manifest.read(write(tmp_path, "video,label\na.mp4,wave\nsub/b,grab\n"))
    assert manifest.clips == (
        Clip(tmp_path / "a.mp4", "wave", row=2),
        Clip(tmp_path / "sub" / "b", "grab", row=3),
    )
    assert manifest.classes == ("grab", "wave")
    assert manifest.depth is None
    assert manifest.index("wave") == 1
    assert len(manifest) == 2


def test_all_columns_in_any_order(tmp_path: Path) -> None:
    text = "label,video,depth,start,end,depth_start,depth_end,split,subject\nwave,a.avi,d.avi,3,9,4,10,val,s 7\n"
    manifest = Manifest.read(write(tmp_path, text, depth=True))
    assert manifest.clips == (Clip(tmp_path / "a.avi", "wave", tmp_path / "d.avi", 3, 9, 4, 10, "val", "s 7", 2),)
    assert manifest.depth is not None
    assert manifest.depth.near == "bright"


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        ("3,9,,", (3, 9, 3, 9)),  # blank depth range: the same as RGB's
        ("3,,,", (3, None, 3, None)),
        (",,,", (0, None, 0, None)),
        ("3,9,0,6", (3, 9, 0, 6)),
        ("3,9,2,", (3, 9, 2, 9)),
    ],
)
def test_blank_ranges(cells: str, expected: tuple[int | None, ...], tmp_path: Path) -> None:
    text = f"video,label,depth,start,end,depth_start,depth_end\na,x,d,{cells}\n"
    (clip,) = Manifest.read(write(tmp_path, text, depth=True)).clips
    assert (clip.start, clip.end, clip.depth_start, clip.depth_end) == expected


def test_a_folder_stands_for_its_manifest(tmp_path: Path) -> None:
    path = write(tmp_path, "video,label\na,x\n")
    assert Manifest.read(tmp_path) == Manifest.read(path)
    assert Manifest.read(str(path)).path == path


def test_spreadsheet_habits(tmp_path: Path) -> None:
    """A byte order mark, CR LF, blank lines, spaces, quotes and no final newline."""
    text = '\ufeffvideo, label\r\n"a, b.mp4",wave\r\n\r\n,\r\n c.mp4 , grab '
    clips = Manifest.read(write(tmp_path, text)).clips
    assert [(clip.video.name, clip.label, clip.row) for clip in clips] == [
        ("a, b.mp4", "wave", 2),
        ("c.mp4", "grab", 5),
    ]


def test_classes_file_orders_the_logits(tmp_path: Path) -> None:
    manifest = Manifest.read(write(tmp_path, "video,label\na,x\nb,y\n", classes="y\nnever used\nx\n"))
    assert manifest.classes == ("y", "never used", "x")
    assert manifest.index("x") == 2
    with pytest.raises(ManifestError, match="'z' is not one of its classes"):
        manifest.index("z")


def test_natural_order() -> None:
    labels = ["10", "9", "swipe 2", "swipe 10", "Zoom", "swipe 2", "a1b2", "a1b10", "1"]
    assert natural_order(labels) == ("1", "9", "10", "a1b2", "a1b10", "swipe 2", "swipe 10", "Zoom")


def test_written_and_read_back(tmp_path: Path) -> None:
    clips = (
        Clip(tmp_path / "data" / "a.avi", "wave, high", tmp_path / "data" / "d.avi", 3, 9, 4, 10, "val", "s7"),
        Clip(tmp_path / "data" / "b.avi", "grab", tmp_path / "elsewhere" / "d.avi", 3, 9, 0, 6),
        Clip(tmp_path / "data" / "c.avi", "grab", tmp_path / "d.avi"),
        Clip(tmp_path / "data" / "d.avi", "grab", None, 0, 5, split="test"),
        Clip(tmp_path / "data" / "e.avi", "grab", tmp_path / "d.avi", 5, None, 0, None),
        Clip(tmp_path / "data" / "f.avi", "grab", tmp_path / "d.avi", 0, 5, 0, 5),
    )
    written = Manifest(clips, ("wave, high", "grab", "unused"), PRESETS["isogd-aligned"])
    back = written.write(tmp_path / "out" / "manifest.csv")
    assert [replace(clip, row=0) for clip in back.clips] == list(clips)
    assert [clip.row for clip in back.clips] == [2, 3, 4, 5, 6, 7]
    assert back.classes == written.classes
    assert back.depth == PRESETS["isogd-aligned"]
    assert back.path == tmp_path / "out" / "manifest.csv"
    assert str(tmp_path) not in back.path.read_text(encoding="utf-8")
    # What reading added changes nothing that is written.
    assert back.write(tmp_path / "out" / "again.csv").clips == back.clips


def test_a_frame_rate_has_a_column_where_a_clip_states_one(tmp_path: Path) -> None:
    stated = (Clip(tmp_path / "a", "x", fps=12.0), Clip(tmp_path / "b.mp4", "x"), Clip(tmp_path / "c", "x", fps=29.97))
    back = Manifest.of(stated).write(tmp_path / "stated.csv")
    assert [replace(clip, row=0) for clip in back.clips] == list(stated)
    assert "fps" not in Manifest.of(stated[1:2]).write(tmp_path / "not.csv").path.read_text(encoding="utf-8")
    for rate in ("0", "-5", "nan", "inf", "fast", "29970"):
        with pytest.raises(ManifestError, match=f"line 2: fps '{rate}' is not a frame rate"):
            Manifest.read(write(tmp_path, f"video,label,fps\na,x,{rate}\n"))


def test_moved_with_its_clips(tmp_path: Path) -> None:
    old = tmp_path / "old"
    Manifest.of([Clip(old / "a.avi", "x")]).write(old / "manifest.csv")
    old.rename(tmp_path / "new")
    assert Manifest.read(tmp_path / "new").clips[0].video == tmp_path / "new" / "a.avi"


def test_open_depth_end_is_written_as_long_as_rgb(tmp_path: Path) -> None:
    clip = Clip(tmp_path / "a", "x", tmp_path / "d", 10, 50, 12, None)
    assert Manifest.of([clip], PRESETS["isogd"]).write(tmp_path / "manifest.csv").clips[0].depth_end == 52


def test_split(tmp_path: Path) -> None:
    manifest = Manifest.read(write(tmp_path, "video,label,split\na,x,\nb,y,val\nc,x,train\n"))
    assert [clip.video.name for clip in manifest.split("train").clips] == ["a", "c"]
    assert manifest.split("val").classes == ("x", "y")
    assert len(manifest.split("test")) == 0
    with pytest.raises(ManifestError, match=r"'dev'.*train, val, test"):
        manifest.split("dev")


def test_a_clip_of_no_split_is_refused() -> None:
    with pytest.raises(ManifestError, match=r"b\.mp4: split 'valid' is none of train, val, test"):
        Manifest.of([Clip(Path("a.mp4"), "x"), Clip(Path("b.mp4"), "x", split="valid")])


def test_every_bad_row_is_listed_with_its_line(tmp_path: Path) -> None:
    rows = [
        "video,label,depth,start,end,depth_start,depth_end,split",
        "a,x,,,,,,",
        "a,unknown,,,,,,",
        "a,x,,9,9,,,",
        "a,x,,1.5,,,,",
        "a,x,,-1,,,,",
        "a,x,,,,,,dev",
        "a,,,,,,,",
        ",x,,,,,,",
        "a,x,d,0,9,9,3,",
        "a,x,,0,9,1,10,",
        "a,x",
        "a,,,5,2,,,nope",
    ]
    path = write(tmp_path, "\n".join(rows) + "\n", classes="x\n", depth=True)
    with pytest.raises(ManifestError) as caught:
        Manifest.read(path)
    message = str(caught.value)
    for part in [
        f"{path}: 13 faults",
        "line 3: label 'unknown' is not in classes.txt",
        "line 4: the range from start 9 to end 9 holds no frame",
        "line 5: start '1.5' is not a frame number",
        "line 6: start '-1' is not a frame number",
        "line 7: split 'dev' is none of train, val, test",
        "line 8: the label is empty",
        "line 9: the video is empty",
        "line 10: the range from depth_start 9 to depth_end 3 holds no frame",
        "line 11: has depth_start or depth_end but no depth",
        "line 12: 2 cells, the header has 8",
        "line 13: the label is empty",
        "line 13: split 'nope'",
        "line 13: the range from start 5 to end 2",
    ]:
        assert part in message
    assert "line 2:" not in message


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"clip,class\na,x\n", "missing column video and label; it has clip, class; it needs video, label"),
        (b"video\na\n", "missing column label; it has video"),
        (b"video;label\na;x\n", "its columns are separated by semicolons; save it as CSV with commas"),
        (b"video\tlabel\na\tx\n", "its columns are separated by tabs; save it as CSV with commas"),
        (b"a.avi,wave,\nb.avi,grab,\n", "missing column video and label; it has a.avi, wave, ; it needs video, label"),
        (b",video,label\n0,a,x\n", "column 1 has no name; remove it, or name it"),
        (b"video,label,label\na,x,x\n", "repeated column label"),
        (b"video,label,dept\na,x,d\n", "unknown column 'dept'; it may have video, label, depth"),
        (b"video,label\n", "has no rows"),
        (b"", "missing column video and label; it has none"),
        (b"video,label\na,\xe4\n", "not UTF-8"),
        (b'video,label\n"a,x\n', "line 2: not CSV"),
        (b"video,label\na\0.avi,x\n", "holds NUL bytes"),
        ("video,label\na.avi,x\n".encode("utf-16-le"), "holds NUL bytes, as text in UTF-16 does"),
        (
            b"video,label,end\na.avi,x,12345678901234567890\n",
            "line 2: end '12345678901234567890' is not a frame number",
        ),
    ],
)
def test_bad_files(data: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "manifest.csv"
    path.write_bytes(data)
    with pytest.raises(ManifestError) as caught:
        Manifest.read(path)
    assert str(path) in str(caught.value)
    assert message in str(caught.value)


def test_a_name_that_is_not_utf8_is_told(tmp_path: Path) -> None:
    name = os.fsdecode(b"w\xe9ve")
    for clip in (Clip(tmp_path / name / "a.avi", "wave"), Clip(tmp_path / "a.avi", name)):
        with pytest.raises(ManifestError, match=r"w\\xe9ve.*not UTF-8; rename"):
            Manifest((clip,), (clip.label,)).write(tmp_path / "manifest.csv")
        assert not list(tmp_path.iterdir())


def test_a_manifest_in_a_folder_that_is_not_utf8_is_told_before_it_is_trained_on(tmp_path: Path) -> None:
    """The card that is written after an epoch could not hold the path, and the epoch would be lost."""
    folder = tmp_path / os.fsdecode(b"w\xe9ve")
    folder.mkdir()
    (folder / "manifest.csv").write_text("video,label\na.avi,wave\n")
    with pytest.raises(ManifestError, match=r"w\\xe9ve/manifest\.csv: the path is not UTF-8.*; rename its folder"):
        Manifest.read(folder)


@pytest.mark.parametrize("name", [" wave", "wa\rve"])
def test_a_path_that_would_come_back_as_another_is_told(name: str, tmp_path: Path) -> None:
    """A blank that nobody sees would make every clip of the folder missing."""
    for clip in (Clip(tmp_path / name / "a.avi", "x"), Clip(tmp_path / "a.avi", "x", tmp_path / name / "a.npz")):
        with pytest.raises(
            ManifestError, match=rf"cannot hold {re.escape(repr(name)[:-1])}/a.*, for a blank .*; rename"
        ):
            Manifest((clip,), ("x",)).write(tmp_path / "manifest.csv")
    with pytest.raises(
        ManifestError, match=re.escape(r"cannot hold 'wa\nve', for a blank at its ends or a line break")
    ):
        Manifest((Clip(tmp_path / "a.avi", "wa\nve"),), ("wa\nve",)).write(tmp_path / "manifest.csv")
    assert not list(tmp_path.iterdir())
    kept = Manifest((Clip(tmp_path / "b" / "wave " / "a.avi", "wave"),), ("wave",)).write(tmp_path / "manifest.csv")
    assert kept.clips[0].video == tmp_path / "b" / "wave " / "a.avi"


def test_missing_file(tmp_path: Path) -> None:
    for place, named, clips, home in (
        (tmp_path / "nowhere.csv", "nowhere.csv", tmp_path, tmp_path),
        (tmp_path, "manifest.csv", tmp_path, tmp_path),
        (tmp_path / "nowhere", "nowhere", "CLIPS", tmp_path / "nowhere"),
    ):
        command = f"dynagest data index folders {clips} --out {home}`"
        told = f"{named}: is not there; `dynagest data index` writes one, as in `{command}"
        with pytest.raises(ManifestError, match=re.escape(told)):
            Manifest.read(place)


@pytest.mark.parametrize(("classes", "message"), [("x\nx\n", "repeated: x"), ("\n", "is empty")])
def test_bad_classes(classes: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=message):
        Manifest.read(write(tmp_path, "video,label\na,x\n", classes=classes))


def test_depth_must_be_declared(tmp_path: Path) -> None:
    path = write(tmp_path, "video,label,depth\na,x,d\n")
    with pytest.raises(
        DepthError, match=r"depth\.yaml: missing, but manifest\.csv lists depth; write[\s\S]*near: bright"
    ):
        Manifest.read(path)
