"""``data check`` finds every defect, on files made here, and is silent about sound ones."""

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from dynagest.clips.adapters import index_dataset
from dynagest.clips.check import check
from dynagest.clips.check_files import equal_files, image_faults
from dynagest.clips.check_report import CheckReport, Problem
from dynagest.clips.contact import contact_sheet
from dynagest.clips.depth import PRESETS, DepthAffine, DepthSpec
from dynagest.clips.frames import read_depth
from dynagest.clips.manifest import Clip, Manifest
from dynagest.clips.polarity import Polarity, vote
from dynagest.errors import ManifestError

SIZE = (48, 64)
BRIGHT = DepthSpec(near="bright")


def _rgb(frames: int, seed: int = 0, size: tuple[int, int] = SIZE) -> np.ndarray:
    coarse = np.random.default_rng(seed).integers(0, 255, (frames, 6, 8, 3), np.uint8)
    return np.stack([cv2.resize(frame, size[::-1]) for frame in coarse])


def _depth(
    frames: int, hand: int = 200, wall: int = 60, size: tuple[int, int] = SIZE, dtype: type = np.uint8
) -> np.ndarray:
    """A hand, a square, that crosses the frame before a wall."""
    depth = np.full((frames, *size), wall, dtype)
    for i in range(frames):
        left = int((size[1] - 16) * i / max(frames - 1, 1))
        depth[i, 14:34, left : left + 16] = hand
    return depth


def _video(path: Path, frames: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    grey = frames.ndim == 3
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1" if grey else "mpeg4", rate=Fraction(30))
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "gray" if grey else "yuv420p"
        for image in frames:
            for packet in stream.encode(av.VideoFrame.from_ndarray(image, format="gray" if grey else "rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return path


def _images(folder: Path, frames: np.ndarray, suffix: str = ".jpg") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number, image in enumerate(frames, 1):
        cv2.imwrite(str(folder / f"{number:06d}{suffix}"), image)
    return folder


def _clip(root: Path, name: str, label: str = "a", frames: int = 12, split: str = "train", **fields: object) -> Clip:
    """A sound clip with depth, whose pixels no other has."""
    seed = sum(map(ord, name))
    video = _video(root / f"{name}.avi", _rgb(frames, seed))
    depth = _video(root / f"{name}.depth.mkv", _depth(frames))
    return replace(Clip(video, label, depth, split=split), **fields)


def _manifest(*clips: Clip, depth: DepthSpec | None = BRIGHT, classes: Sequence[str] = ("a", "b")) -> Manifest:
    numbered = tuple(replace(clip, row=row) for row, clip in enumerate(clips, 2))
    return Manifest(numbered, tuple(classes), depth)


def _found(report: CheckReport) -> list[tuple[str, str, int | None]]:
    return [(problem.severity, problem.kind, problem.row) for problem in report.problems]


def test_sound_clips_have_no_problem(tmp_path: Path) -> None:
    clips = [_clip(tmp_path, f"{split}{label}", label, split=split) for split in ("train", "test") for label in "ab"]
    seen: list[tuple[int, int]] = []
    report = check(_manifest(*clips), progress=lambda done, total: seen.append((done, total)))
    assert report.problems == ()
    assert report.exit_code == 0
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert report.counts == {"train": {"a": 1, "b": 1}, "test": {"a": 1, "b": 1}}
    assert report.with_depth == {"train": 2, "test": 2}
    assert (report.lengths["train"].shortest, report.lengths["train"].mean, report.lengths["train"].clips) == (
        12,
        12,
        2,
    )
    assert report.polarity == Polarity("bright", bright=4)
    assert report.majority("test") == 0.5


def test_every_bad_file_is_found_in_one_go(tmp_path: Path) -> None:
    sound = _clip(tmp_path, "sound", "b")
    truncated = _clip(tmp_path, "truncated", frames=40)
    data = truncated.video.read_bytes()
    truncated.video.write_bytes(data[: len(data) // 2])
    empty = _clip(tmp_path, "empty")
    empty.video.write_bytes(b"")
    text = _clip(tmp_path, "text")
    text.video.write_text("not a video")
    missing = _clip(tmp_path, "missing")
    missing.video.unlink()
    no_depth = _clip(tmp_path, "nodepth")
    no_depth.depth.unlink()
    report = check(_manifest(sound, truncated, empty, text, missing, no_depth))
    assert _found(report) == [
        ("error", "unreadable", 3),
        ("error", "unreadable", 4),
        ("error", "unreadable", 5),
        ("error", "missing", 6),
        ("error", "missing", 7),
    ]
    assert report.exit_code == 1
    files = [problem.file for problem in report.problems]
    assert files == [truncated.video, empty.video, text.video, missing.video, no_depth.depth]
    assert "truncated" in report.problems[0].message
    assert "empty file" in report.problems[1].message
    for problem in report.problems:
        assert str(problem.file) in report.to_text()
        assert f"line {problem.row}" in report.to_text()


@pytest.mark.parametrize("thorough", [False, True])
def test_truncated_depth_video_is_found(tmp_path: Path, thorough: bool) -> None:
    clip = _clip(tmp_path, "a", frames=40)
    data = clip.depth.read_bytes()
    clip.depth.write_bytes(data[: len(data) * 2 // 3])
    report = check(_manifest(clip), thorough=thorough)
    assert ("error", "unreadable", 2) in _found(report)


def test_folder_with_one_corrupt_image(tmp_path: Path) -> None:
    frames = _rgb(20)
    folders = [_images(tmp_path / name, frames) for name in ("cut", "zero", "gap", "junk")]
    image = folders[0] / "000004.jpg"  # between the sampled ones
    image.write_bytes(image.read_bytes()[:-200])
    (folders[1] / "000004.jpg").write_bytes(b"")
    (folders[2] / "000004.jpg").unlink()
    (folders[3] / "000001.jpg").write_bytes(b"\xff\xd8 junk \xff\xd9")
    report = check(_manifest(*(Clip(folder, "a") for folder in folders), Clip(_images(tmp_path / "ok", frames), "b")))
    assert [(p.row, p.file, p.kind) for p in report.errors] == [
        (row, folder, "unreadable") for row, folder in enumerate(folders, 2)
    ]
    messages = [problem.message for problem in report.errors]
    assert messages[0] == "000004.jpg: truncated image"
    assert messages[1] == "000004.jpg: empty file"
    assert messages[2] == "the image with number 4 is missing"
    assert "000001.jpg" in messages[3]


def test_a_fault_outside_of_the_range_is_none_of_the_clips(tmp_path: Path) -> None:
    folder = _images(tmp_path / "long", _rgb(20))
    (folder / "000015.jpg").write_bytes(b"")
    clips = [Clip(folder, "a", start=0, end=10), Clip(folder, "b", start=10, end=20)]
    assert _found(check(_manifest(*clips))) == [("error", "unreadable", 3)]


def test_thorough_decodes_what_lies_between_the_samples(tmp_path: Path) -> None:
    folder = _images(tmp_path / "a", _rgb(20), ".png")
    middle = folder / "000005.png"
    data = bytearray(middle.read_bytes())
    data[60:-60] = bytes(len(data) - 120)
    middle.write_bytes(data)
    manifest = _manifest(Clip(folder, "a"), classes=["a"])
    assert check(manifest, num_segments=4).problems == ()
    assert _found(check(manifest, num_segments=4, thorough=True)) == [("error", "unreadable", 2)]


@pytest.mark.parametrize(
    ("frames", "severity"), [(12, None), (10, "warning"), (15, "warning"), (8, "error"), (24, "error")]
)
def test_depth_of_another_length(tmp_path: Path, frames: int, severity: str | None) -> None:
    clip = _clip(tmp_path, "a")
    _video(clip.depth, _depth(frames))
    report = check(_manifest(clip, classes=["a"]))
    assert _found(report) == ([] if severity is None else [(severity, "length", 2)])
    if severity:
        assert f"{frames} depth frames for 12 RGB frames" in report.problems[0].message


@pytest.mark.parametrize(
    ("size", "affine", "severity"),
    [
        ((48, 64), None, None),
        ((96, 128), None, "warning"),
        ((48, 80), None, "error"),
        ((48, 80), DepthAffine(scale=1, shift_x=0, shift_y=0, width=64, height=48), "warning"),
    ],
)
def test_depth_of_another_size(
    tmp_path: Path, size: tuple[int, int], affine: DepthAffine | None, severity: str | None
) -> None:
    clip = _clip(tmp_path, "a")
    _video(clip.depth, _depth(12, size=size))
    report = check(_manifest(clip, classes=["a"], depth=BRIGHT.model_copy(update={"affine": affine})))
    assert _found(report) == ([] if severity is None else [(severity, "size", 2)])


@pytest.mark.parametrize(
    ("start", "end", "found"),
    [
        (2, 12, []),
        (2, 6, [("warning", "short", 2)]),
        (0, 13, [("error", "range", 2)]),
        (5, 5, [("error", "range", 2)]),
        (12, None, [("error", "range", 2)]),
    ],
)
def test_ranges(tmp_path: Path, start: int, end: int | None, found: list[tuple[str, str, int]]) -> None:
    video = _video(tmp_path / "a.avi", _rgb(12))
    assert _found(check(_manifest(Clip(video, "a", start=start, end=end), classes=["a"]))) == found


def test_depth_range_may_end_a_few_frames_late(tmp_path: Path) -> None:
    clip = _clip(tmp_path, "a", frames=20, end=20, depth_end=20)
    _video(clip.depth, _depth(18))
    report = check(_manifest(clip, classes=["a"]))
    assert _found(report) == [("warning", "range", 2), ("warning", "length", 2)]


def test_bit_depth_against_the_declaration(tmp_path: Path) -> None:
    millimetres = DepthSpec(near="dark", scale_mm=1, min_mm=200, max_mm=1200)
    eight = _clip(tmp_path, "eight")
    sixteen = replace(
        _clip(tmp_path, "sixteen"),
        depth=_images(tmp_path / "depth16", _depth(12, 400, 900, dtype=np.uint16), ".png"),
    )
    far = replace(
        _clip(tmp_path, "far"),
        depth=_images(tmp_path / "far16", _depth(12, 4000, 5000, dtype=np.uint16), ".png"),
    )
    report = check(_manifest(eight, sixteen, far, classes=["a"], depth=millimetres))
    assert _found(report) == [("error", "depth", 2), ("warning", "depth", 4)]
    assert "8-bit but declared in millimetres" in report.problems[0].message
    assert "outside of the declared range" in report.problems[1].message
    assert report.polarity == Polarity("dark", dark=2)
    undeclared = check(_manifest(sixteen, classes=["a"]))
    assert [(p.severity, p.kind) for p in undeclared.problems] == [("error", "depth")]
    assert "no unit is declared" in undeclared.problems[0].message


def test_depth_without_declaration(tmp_path: Path) -> None:
    report = check(_manifest(_clip(tmp_path, "a"), classes=["a"], depth=None))
    assert [(p.severity, p.kind) for p in report.problems] == [("error", "depth")]


def test_labels_classes_and_subjects(tmp_path: Path) -> None:
    clips = [
        _clip(tmp_path, "one", "a", subject="Ann"),
        _clip(tmp_path, "two", "wave", subject="Bob"),
        _clip(tmp_path, "three", "c", split="test", subject="Ann"),
    ]
    report = check(_manifest(*clips, classes=("a", "b", "c")))
    assert [(p.severity, p.kind) for p in report.problems] == [
        ("error", "label"),
        ("warning", "class"),  # train has no b, c
        ("warning", "class"),  # test has no a, b
        ("warning", "class"),  # c cannot be learnt
        ("warning", "subject"),
    ]
    messages = [problem.message for problem in report.problems]
    assert messages[0] == "label 'wave' is not one of the 3 classes"
    assert messages[1] == "train: 2 of 3 classes have no clip: b, c"
    assert messages[3] == "test: 1 classes have no train clip and cannot be learnt: c"
    assert "'Ann' is in more than one split (1 clips in train, 1 clips in test)" in messages[4]


def test_repeated_and_copied_clips(tmp_path: Path) -> None:
    one, other = _clip(tmp_path, "one", frames=24), _clip(tmp_path, "other", "b")
    whole = replace(one, depth=None)
    copy = tmp_path / "copy.avi"
    copy.write_bytes(other.video.read_bytes())
    report = check(
        _manifest(
            replace(whole, end=12),
            replace(whole, start=8, end=20),  # overlaps, in the same split: fine in continuous recordings
            replace(whole, start=8, end=20),  # the same again
            replace(whole, start=20, end=24, split="test"),  # only touches
            replace(whole, start=18, end=24, split="test"),  # leaks
            replace(other, depth=None),
            Clip(copy, "b", split="test"),
        ),
        num_segments=4,
    )
    duplicates = [(p.severity, p.row, p.message) for p in report.problems if p.kind == "duplicate"]
    assert [(severity, row) for severity, row, _ in duplicates] == [
        ("warning", 3),
        ("warning", 4),
        ("error", 6),
        ("warning", 5),
        ("error", 8),
    ]
    assert duplicates[0][2] == "frames that line 2 has too"
    assert duplicates[1][2] == "the same frames as line 3"
    assert "which is train while this is test" in duplicates[2][2]
    assert duplicates[4][2] == f"a copy of {other.video} (train, 'b'), but this is test, 'b'"


def test_same_clip_with_two_labels_is_an_error(tmp_path: Path) -> None:
    clip = _clip(tmp_path, "one")
    report = check(_manifest(clip, replace(clip, label="b")))
    (problem,) = report.problems
    assert (problem.severity, problem.row) == ("error", 3)
    assert problem.message == "the same frames as line 2, labelled 'a' there and 'b' here"


@pytest.mark.parametrize(("clips", "severity"), [(6, "error"), (2, "warning")])
def test_wrong_polarity(tmp_path: Path, clips: int, severity: str) -> None:
    manifest = _manifest(*(_clip(tmp_path, f"{k}") for k in range(clips)), classes=["a"], depth=DepthSpec(near="dark"))
    report = check(manifest)
    (problem,) = report.problems
    assert (problem.severity, problem.kind) == (severity, "polarity")
    assert f"declared near = dark; {clips} clips look near = bright" in problem.message
    assert report.polarity.looks == "bright"


def test_smeared_holes_are_told_from_near(tmp_path: Path) -> None:
    clip = _clip(tmp_path, "a")
    depth = _depth(12, hand=60, wall=200)
    depth[:, :6, :10] = 3
    _video(clip.depth, depth)
    report = check(_manifest(clip, classes=["a"], depth=DepthSpec(near="dark")))
    (problem,) = report.problems
    assert "write invalid: 7" in problem.message
    assert check(_manifest(clip, classes=["a"], depth=PRESETS["isogd"])).problems == ()


@pytest.mark.parametrize(
    ("hand", "wall", "dtype", "says"),
    [
        (200, 60, np.uint8, "bright"),
        (60, 200, np.uint8, "dark"),
        (400, 900, np.uint16, "dark"),
        (200, 0, np.uint8, None),  # the hand alone: nothing behind it to compare with
        (100, 100, np.uint8, None),
    ],
)
def test_vote_on_generated_depth(hand: int, wall: int, dtype: type, says: str | None) -> None:
    assert vote(_depth(10, hand, wall, dtype=dtype)) == says


def test_vote_leaves_holes_out() -> None:
    depth = _depth(10, hand=200, wall=100)
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


def test_real_isogd_clips(shared_data: Path) -> None:
    manifest = index_dataset("isogd", shared_data / "isogd").manifest
    some = replace(manifest, clips=manifest.clips[::10])
    report = check(some)
    assert report.errors == ()
    assert report.polarity.looks == "dark"
    assert report.polarity.bright == 0
    wrong = check(replace(some, depth=PRESETS["nvgesture"]))
    assert [problem.kind for problem in wrong.errors] == ["polarity"]


def test_real_nvgesture_clip_and_16_bit_images_do_not_mislead(shared_data: Path) -> None:
    # Both show the hand almost alone; the honest answer is none.
    assert vote(read_depth(shared_data / "nvgesture-clip" / "sk_depth.avi", range(20))) in (None, "bright")
    for recording in ("20210326-230536", "20210326-231615"):
        paths = sorted((shared_data / "depth16").glob(f"{recording}_*.png"), key=lambda p: int(p.stem.split("_")[1]))
        raw = np.stack([cv2.imread(str(path), cv2.IMREAD_UNCHANGED) for path in paths])
        assert raw.dtype == np.uint16
        assert vote(raw) in (None, "dark")


def test_report_as_text_and_json(tmp_path: Path) -> None:
    short = [_clip(tmp_path, f"{k}", frames=5) for k in range(4)]
    report = check(_manifest(*short, classes=["a"]))
    text = report.to_text(warnings_shown=1)
    assert "train: 4 clips of 1 classes (4 to 4 each), 4 with depth; frames 5 / 5 / 5" in text
    assert text.count("fewer than 8") == 1
    assert "... and 3 more of the kind 'short'" in text
    assert report.to_text(warnings_shown=None).count("fewer than 8") == 4
    assert text.endswith("0 errors, 4 warnings")
    data = json.loads(json.dumps(report.to_dict()))
    assert data["splits"]["train"]["lengths"]["short"] == 4
    assert data["warnings"] == 4
    assert data["problems"][0]["row"] == 2


def test_problem_names_its_file_once() -> None:
    file = Path("/data/a.avi")
    assert str(Problem("error", "missing", "no such file", file, 3)) == "error: line 3: /data/a.avi: no such file"
    assert str(Problem("error", "unreadable", "/data/a.avi: empty", file)) == "error: /data/a.avi: empty"


def test_image_faults_counts_from_the_lowest_number(tmp_path: Path) -> None:
    for number in (5, 6, 9):
        cv2.imwrite(str(tmp_path / f"img_{number:05d}.png"), np.zeros((4, 4), np.uint8))
    (tmp_path / "img_00006.png").write_bytes(b"")
    (tmp_path / "._img_00007.png").write_bytes(b"")
    (tmp_path / "Thumbs.db").write_bytes(b"")
    assert image_faults(tmp_path) == {
        1: "img_00006.png: empty file",
        2: "the image with number 7 is missing",
        3: "the image with number 8 is missing",
    }


def test_equal_files(tmp_path: Path) -> None:
    for name, data in (("a", b"one"), ("b", b"two"), ("c", b"one"), ("d", b"longer"), ("e", b""), ("f", b"")):
        (tmp_path / name).write_bytes(data)
    assert equal_files([*tmp_path.iterdir(), tmp_path / "missing"]) == ([[tmp_path / "a", tmp_path / "c"]], {})


def test_contact_sheet_shows_every_kind_of_clip(tmp_path: Path) -> None:
    clips = [
        _clip(tmp_path, "depth", "a"),
        Clip(_video(tmp_path / "plain.avi", _rgb(12)), "b", split="test"),
        Clip(tmp_path / "missing.avi", "b"),
    ]
    path = contact_sheet(_manifest(*clips), tmp_path / "sheets" / "sheet.png", rows=8)
    sheet = cv2.imread(str(path))
    assert sheet.shape == (3 * (120 + 22), 9 * 160 + 2 * 6, 3)
    row = sheet[22:142]
    rgb, depth, overlay = row[:, :480], row[:, 486:966], row[:, 972:]
    grey = depth.astype(int)
    assert np.ptp(grey, axis=2).max() == 0
    # Canonical: the hand at 200 of 255 is lighter than the wall at 60.
    assert {60, 200} <= set(np.unique(grey))
    cyan = (overlay == (255, 255, 0)).all(axis=2)
    assert 50 < cyan.sum() < 0.2 * cyan.size
    assert not (rgb == (255, 255, 0)).all(axis=2).any()


def test_contact_sheet_takes_many_classes_and_splits(tmp_path: Path) -> None:
    video = _video(tmp_path / "a.avi", _rgb(30))
    clips = [
        Clip(video, label, start=k, end=k + 9, split=s) for k, label in enumerate("aaaab") for s in ("train", "val")
    ]
    manifest = _manifest(*clips, depth=None)
    one, same, other = (
        contact_sheet(manifest, tmp_path / f"{k}.png", rows=4, seed=seed).read_bytes()
        for k, seed in enumerate((0, 0, 1))
    )
    assert one == same
    assert one != other
    with pytest.raises(ManifestError, match="no clip to show"):
        contact_sheet(_manifest(), tmp_path / "none.png")


def test_every_file_that_the_system_refuses_is_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frames = _rgb(20)
    dangling, closed, sound = (_images(tmp_path / name, frames) for name in ("dangling", "closed", "sound"))
    (dangling / "000004.jpg").unlink()
    (dangling / "000004.jpg").symlink_to(tmp_path / "nowhere.jpg")
    (dangling / "000005.jpg").unlink()
    (dangling / "000005.jpg").mkdir()
    real = os.scandir

    def scandir(path: object) -> object:
        if path == closed:
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    report = check(_manifest(Clip(dangling, "a"), Clip(closed, "a"), Clip(sound, "b")))
    assert [(p.row, p.file, p.message) for p in report.errors] == [
        (2, dangling, "000004.jpg: cannot be read (No such file or directory)"),
        (2, dangling, "000005.jpg: cannot be read (Is a directory)"),
        (3, closed, f"{closed}: cannot be read (Permission denied)"),
    ]


def test_a_video_that_cannot_be_compared_is_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = _video(tmp_path / "one.avi", _rgb(12)), tmp_path / "other.avi"
    other.write_bytes(one.read_bytes())

    def fail(*_: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(hashlib, "file_digest", fail)
    report = check(_manifest(Clip(one, "a"), Clip(other, "b")))
    assert [(p.row, p.file, p.message) for p in report.errors] == [
        (2, one, "cannot be read (Input/output error)"),
        (3, other, "cannot be read (Input/output error)"),
    ]


def test_a_jpeg_damaged_inside_is_found(tmp_path: Path) -> None:
    folders = [_images(tmp_path / name, _rgb(20)) for name in ("first", "between")]
    for folder, name in zip(folders, ("000001.jpg", "000002.jpg"), strict=True):
        data = (folder / name).read_bytes()
        half = (len(data) + data.index(b"\xff\xda")) // 2
        (folder / name).write_bytes(data[:half] + bytes(len(data) - half - 2) + data[-2:])
    manifest = _manifest(*(Clip(folder, "a") for folder in folders), classes=["a"])
    assert [problem.row for problem in check(manifest, num_segments=4).errors] == [2]
    assert [problem.row for problem in check(manifest, num_segments=4, thorough=True).errors] == [2, 3]


def test_one_odd_clip_does_not_speak_for_all() -> None:
    assert not Polarity("bright", dark=1, silent=95).told
    assert Polarity("bright", dark=2).told
    assert Polarity("bright", dark=9, silent=91).told
    words = str(Polarity("bright", dark=1, silent=95))
    assert words.startswith("near = bright is taken as declared; the 96 clips looked at do not show it either way")


def test_an_odd_vote_is_no_warning(tmp_path: Path) -> None:
    odd = _clip(tmp_path, "odd")
    silent = [_clip(tmp_path, f"{k}") for k in range(6)]
    for clip in silent:
        _video(clip.depth, _depth(12, wall=0))
    report = check(_manifest(odd, *silent, classes=["a"], depth=DepthSpec(near="dark")))
    assert report.polarity == Polarity("dark", bright=1, silent=6)
    assert [problem for problem in report.problems if problem.kind == "polarity"] == []


def test_majority_is_named_as_what_it_is(tmp_path: Path) -> None:
    clips = [_clip(tmp_path, "x"), _clip(tmp_path, "y"), _clip(tmp_path, "z", "b")]
    report = check(_manifest(*clips))
    assert report.majority("train") == 2 / 3
    assert report.to_dict()["splits"]["train"]["majority"] == 2 / 3
    assert "always naming its most frequent class: 66.7%" in report.to_text()
    assert "chance" not in report.to_text()
