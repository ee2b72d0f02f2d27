"""``data check`` finds every defect of the files, on files made here, and is silent about sound ones."""

import json
import os
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from clip_files import (
    BRIGHT,
    depth_frames,
    kinds,
    make_clip,
    make_manifest,
    of_files,
    rgb_frames,
    save_images,
    save_video,
)

from dynagest.clips.checks.check import check
from dynagest.clips.checks.files import image_faults
from dynagest.clips.checks.polarity import Polarity
from dynagest.clips.checks.report import Problem
from dynagest.clips.depth import PRESETS, DepthAffine, DepthSpec
from dynagest.clips.gesture_folder import write_clip
from dynagest.clips.image_folder import ImageFolder
from dynagest.clips.manifest import Clip


def test_sound_clips_have_no_problem(tmp_path: Path) -> None:
    clips = [
        make_clip(tmp_path, f"{split}{label}", label, split=split) for split in ("train", "test") for label in "ab"
    ]
    seen: list[tuple[int, int]] = []
    report = check(make_manifest(*clips), progress=lambda done, total: seen.append((done, total)))
    assert of_files(report) == []
    assert not report.errors
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


def test_a_whole_recording_as_one_clip_is_told(tmp_path: Path) -> None:
    """901 frames are a warning, 900 none; a range within a longer recording is a gesture like any other."""
    clips = [Clip(save_video(tmp_path / f"{n}.avi", rgb_frames(n, n)), "a") for n in (900, 901)]
    report = check(make_manifest(*clips, replace(clips[1], end=40, label="b"), depth=None))
    assert [(p.severity, p.row, p.message) for p in of_files(report) if p.kind == "long"] == [
        (
            "warning",
            3,
            "901 frames, of which a network takes 8: hardly one gesture; name its range (start, end) in the manifest, "
            "or cut it out",
        )
    ]


@pytest.mark.parametrize(
    ("steps", "off"),
    [
        ([33] * 40, ""),
        ([33, 34, 66] * 13, ""),  # a dropped picture now and then
        ([33] * 20 + [100] * 20, "0.7 s"),  # 0.66 s and 2 s: picture 20 comes at 0.66 s, in an even video at 1.33
    ],
    ids=["even", "jitter", "slower"],
)
def test_a_rate_that_changes_within_a_clip_is_told(steps: list[int], off: str, tmp_path: Path) -> None:
    pictures = rgb_frames(len(steps) + 1)
    paths = [write_clip(tmp_path, name, pictures, np.cumsum([0, *steps]) / 1000) for name in ("a", "b")]
    # The same pictures in even times, as a folder, and by a rate that the manifest states in place of the file's.
    images = Clip(save_images(tmp_path / "images", pictures), "a")
    report = check(make_manifest(Clip(paths[0], "a"), images, Clip(paths[1], "b", fps=30), depth=None))
    pace = [problem for problem in report.problems if problem.kind == "pace"]
    assert [(problem.row, problem.severity) for problem in pace] == ([(2, "warning")] if off else [])
    assert all(f"are off by {off}; store it, and depth beside it, at one rate" in problem.message for problem in pace)


def test_pixels_that_are_not_square_are_told(tmp_path: Path) -> None:
    """FFmpeg writes such videos where a wide one is scaled to 320x240, and players show them wide again."""
    clips = []
    for label, pixels in (("a", Fraction(4, 3)), ("b", Fraction(1)), ("b", None)):
        clips.append(Clip(tmp_path / f"{len(clips)}.mkv", label))
        with av.open(str(clips[-1].video), "w") as container:
            stream = container.add_stream("mjpeg", rate=30)
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuvj420p"
            if pixels:
                stream.codec_context.sample_aspect_ratio = pixels
            for picture in rgb_frames(12, len(clips)):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            container.mux(stream.encode())
    told = [(p.severity, p.kind, p.row, p.message) for p in of_files(check(make_manifest(*clips, depth=None)))]
    assert [each[:3] for each in told] == [("warning", "pixels", 2)]
    assert told[0][3].startswith(
        "its pixels are meant 1.33 times as wide as high, but taken as square, unlike a camera"
    )


def test_every_bad_file_is_found_in_one_go(tmp_path: Path) -> None:
    sound = make_clip(tmp_path, "sound", "b")
    truncated = make_clip(tmp_path, "truncated", frames=40)
    data = truncated.video.read_bytes()
    truncated.video.write_bytes(data[: len(data) // 2])
    empty = make_clip(tmp_path, "empty")
    empty.video.write_bytes(b"")
    text = make_clip(tmp_path, "text")
    text.video.write_text("not a video")
    missing = make_clip(tmp_path, "missing")
    missing.video.unlink()
    no_depth = make_clip(tmp_path, "nodepth")
    no_depth.depth.unlink()
    report = check(make_manifest(sound, truncated, empty, text, missing, no_depth))
    assert kinds(report) == [
        ("error", "unreadable", 3),
        ("error", "unreadable", 4),
        ("error", "unreadable", 5),
        ("error", "missing", 6),
        ("error", "missing", 7),
    ]
    files = [problem.file for problem in report.problems]
    assert files == [truncated.video, empty.video, text.video, missing.video, no_depth.depth]
    assert "truncated" in report.problems[0].message
    assert "empty file" in report.problems[1].message
    for problem in report.problems:
        assert str(problem.file) in report.to_text()
        assert f"line {problem.row}" in report.to_text()


@pytest.mark.parametrize("thorough", [False, True])
def test_truncated_depth_video_is_found(tmp_path: Path, thorough: bool) -> None:
    clip = make_clip(tmp_path, "a", frames=40)
    data = clip.depth.read_bytes()
    clip.depth.write_bytes(data[: len(data) * 2 // 3])
    report = check(make_manifest(clip), thorough=thorough)
    assert ("error", "unreadable", 2) in kinds(report)


def test_folder_with_one_corrupt_image(tmp_path: Path) -> None:
    frames = rgb_frames(20)
    folders = [save_images(tmp_path / name, frames) for name in ("cut", "zero", "gap", "junk")]
    image = folders[0] / "000004.jpg"  # between the sampled ones
    image.write_bytes(image.read_bytes()[:-200])
    (folders[1] / "000004.jpg").write_bytes(b"")
    (folders[2] / "000004.jpg").unlink()
    (folders[3] / "000001.jpg").write_bytes(b"\xff\xd8 junk \xff\xd9")
    report = check(
        make_manifest(*(Clip(folder, "a") for folder in folders), Clip(save_images(tmp_path / "ok", frames), "b"))
    )
    assert [(p.row, p.file, p.kind) for p in report.errors] == [
        (row, folder, "unreadable") for row, folder in enumerate(folders, 2)
    ]
    messages = [problem.message for problem in report.errors]
    assert messages[0] == "000004.jpg: truncated image"
    assert messages[1] == "000004.jpg: empty file"
    assert messages[2] == "the image with number 4 is missing"
    assert "000001.jpg" in messages[3]


def test_a_fault_outside_of_the_range_is_none_of_the_clips(tmp_path: Path) -> None:
    folder = save_images(tmp_path / "long", rgb_frames(20))
    (folder / "000015.jpg").write_bytes(b"")
    clips = [Clip(folder, "a", start=0, end=10), Clip(folder, "b", start=10, end=20)]
    assert kinds(check(make_manifest(*clips))) == [("error", "unreadable", 3)]


def test_thorough_decodes_what_lies_between_the_samples(tmp_path: Path) -> None:
    folder = save_images(tmp_path / "a", rgb_frames(20), ".png")
    middle = folder / "000005.png"
    data = bytearray(middle.read_bytes())
    data[60:-60] = bytes(len(data) - 120)
    middle.write_bytes(data)
    manifest = make_manifest(Clip(folder, "a"))
    assert kinds(check(manifest, num_segments=4)) == []
    assert kinds(check(manifest, num_segments=4, thorough=True)) == [("error", "unreadable", 2)]


@pytest.mark.parametrize(
    ("frames", "severity"), [(12, None), (10, "warning"), (15, "warning"), (8, "error"), (24, "error")]
)
def test_depth_of_another_length(tmp_path: Path, frames: int, severity: str | None) -> None:
    clip = make_clip(tmp_path, "a")
    save_video(clip.depth, depth_frames(frames))
    report = check(make_manifest(clip))
    assert kinds(report) == ([] if severity is None else [(severity, "length", 2)])
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
    clip = make_clip(tmp_path, "a")
    save_video(clip.depth, depth_frames(12, size=size))
    report = check(make_manifest(clip, depth=BRIGHT.model_copy(update={"affine": affine})))
    assert kinds(report) == ([] if severity is None else [(severity, "size", 2)])


@pytest.mark.parametrize(
    ("rgb", "depth", "start", "told"),
    [
        (1, 1, 0, None),
        (1, 3, 0, "start 2 and depth_start 0"),
        (3, 1, 0, "start 0 and depth_start 2"),
        (1, 3, 5, "start 5 and depth_start 3"),
    ],
)
def test_depth_that_begins_with_another_number(
    rgb: int, depth: int, start: int, told: str | None, tmp_path: Path
) -> None:
    """With what is told the frames of equal numbers are paired."""
    folders = []
    for name, first, frames in (("rgb", rgb, rgb_frames(20)), ("depth", depth, depth_frames(20))):
        folders.append(save_images(tmp_path / name, frames, ".png"))
        for number in range(1, first):
            (folders[-1] / f"{number:06d}.png").unlink()
    clip = Clip(folders[0], "a", folders[1], start=start, depth_start=start)
    found = [(p.severity, p.file, p.message) for p in check(make_manifest(clip)).problems if p.kind == "numbers"]
    if told is None:
        assert found == []
        return
    ((severity, file, message),) = found
    assert (severity, file) == ("warning", folders[1])
    assert f"numbered from {depth}, those of RGB from {rgb}, " in message
    assert f"write {told} in the manifest" in message
    starts = [int(word) for word in told.split() if word.isdecimal()]
    assert rgb + starts[0] == depth + starts[1]
    mended = replace(clip, start=starts[0], depth_start=starts[1])
    assert kinds(check(make_manifest(mended))) == []


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
    video = save_video(tmp_path / "a.avi", rgb_frames(12))
    assert kinds(check(make_manifest(Clip(video, "a", start=start, end=end)))) == found


def test_depth_range_may_end_a_few_frames_late(tmp_path: Path) -> None:
    clip = make_clip(tmp_path, "a", frames=20, end=20, depth_end=20)
    save_video(clip.depth, depth_frames(18))
    report = check(make_manifest(clip))
    assert kinds(report) == [("warning", "range", 2), ("warning", "length", 2)]


def test_bit_depth_against_the_declaration(tmp_path: Path) -> None:
    millimetres = DepthSpec(near="dark", scale_mm=1, min_mm=200, max_mm=1200)
    eight = make_clip(tmp_path, "eight")
    sixteen = replace(
        make_clip(tmp_path, "sixteen"),
        depth=save_images(tmp_path / "depth16", depth_frames(12, 400, 900, dtype=np.uint16), ".png"),
    )
    far = replace(
        make_clip(tmp_path, "far"),
        depth=save_images(tmp_path / "far16", depth_frames(12, 4000, 5000, dtype=np.uint16), ".png"),
    )
    report = check(make_manifest(eight, sixteen, far, depth=millimetres))
    assert kinds(report) == [("error", "depth", 2), ("warning", "depth", 4)]
    assert "8-bit but declared in millimetres" in report.problems[0].message
    assert "outside of the declared range" in report.problems[1].message
    assert report.polarity == Polarity("dark", dark=2)
    undeclared = check(make_manifest(sixteen))
    assert [(p.severity, p.kind) for p in of_files(undeclared)] == [("error", "depth")]
    assert "no unit is declared" in of_files(undeclared)[0].message


def test_depth_without_declaration(tmp_path: Path) -> None:
    report = check(make_manifest(make_clip(tmp_path, "a"), depth=None))
    assert [(p.severity, p.kind) for p in of_files(report)] == [("error", "depth")]


def test_smeared_holes_are_told_from_near(tmp_path: Path) -> None:
    clip = make_clip(tmp_path, "a")
    depth = depth_frames(12, hand=60, wall=200)
    depth[:, :6, :10] = 3
    save_video(clip.depth, depth)
    report = check(make_manifest(clip, depth=DepthSpec(near="dark")))
    (problem,) = of_files(report)
    assert "write invalid: 7" in problem.message
    assert kinds(check(make_manifest(clip, depth=PRESETS["isogd"]))) == []


def test_report_as_text_and_json(tmp_path: Path) -> None:
    short = [make_clip(tmp_path, f"{k}", frames=5) for k in range(4)]
    report = check(make_manifest(*short))
    text = report.to_text(warnings_shown=1)
    assert "train: 4 clips of 1 class (4 each), 4 with depth; frames 5 / 5 / 5" in text
    assert text.count("fewer than 8") == 1
    assert "... and 3 more of the kind 'short'" in text
    assert text.endswith("errors: 0, warnings: 5")  # and that b has no clip
    data = json.loads(json.dumps(report.to_dict()))
    assert data["splits"]["train"]["lengths"]["short"] == 4
    assert data["warnings"] == 5
    assert data["problems"][0]["row"] == 2


def test_the_text_has_the_clips_of_each_class_and_split(tmp_path: Path) -> None:
    counts = {"train": {"a": 2, "b": 1, "c": 2}, "val": {"a": 0, "b": 1, "c": 0}, "test": {"a": 1, "b": 1, "c": 1}}
    clips = [
        Clip(tmp_path / f"{split}{label}{n}.avi", label, split=split)  # not there, which does not matter here
        for split, classes in counts.items()
        for label, count in classes.items()
        for n in range(count)
    ]
    report = check(make_manifest(*clips, depth=None, classes="abc"))
    assert report.counts == counts
    lines = [line.partition("; always")[0] for line in report.to_text().splitlines()]
    assert lines[1 : lines.index("test: 3 clips of 3 classes (1 each), 0 with depth") + 2] == [
        "train: 5 clips of 3 classes (1 to 2 each), 0 with depth",
        "  2 clips: a, c",
        "  1 clip: b",
        "val: 1 clip of 1 class (1 each), 0 with depth",
        "  1 clip: b",
        "test: 3 clips of 3 classes (1 each), 0 with depth",
        f"error: line 2: {clips[0].video}: no such file or folder",
    ]


def test_many_classes_are_listed_in_lines_that_can_be_read(tmp_path: Path) -> None:
    names = [f"{number:03d}" for number in range(1, 250)]
    clips = [Clip(tmp_path / f"{name}.avi", name, split="train") for name in [*names, "001"]]
    lines = check(make_manifest(*clips, depth=None, classes=tuple(names))).to_text().splitlines()
    listed = [line for line in lines if line.startswith("  ")]
    assert max(map(len, listed)) <= 100
    assert listed[:2] == ["  2 clips: 001", f"  1 clip: {', '.join(names[1:19])},"]
    assert " ".join(line.strip() for line in listed[1:]) == f"1 clip: {', '.join(names[1:])}"


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
    assert image_faults(ImageFolder.scan(tmp_path)) == {
        1: "img_00006.png: empty file",
        2: "the image with number 7 is missing",
        3: "the image with number 8 is missing",
    }


def test_every_file_that_the_system_refuses_is_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frames = rgb_frames(20)
    dangling, closed, sound = (save_images(tmp_path / name, frames) for name in ("dangling", "closed", "sound"))
    (dangling / "000004.jpg").unlink()
    (dangling / "000004.jpg").symlink_to(tmp_path / "nowhere.jpg")
    (dangling / "000005.jpg").unlink()
    (dangling / "000005.jpg").mkdir()
    real = os.listdir

    def listdir(path: Path) -> list[str]:
        if path == closed:
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(os, "listdir", listdir)
    report = check(make_manifest(Clip(dangling, "a"), Clip(closed, "a"), Clip(sound, "b")))
    assert [(p.row, p.file, p.message) for p in report.errors] == [
        (2, dangling, "000004.jpg: cannot be read (No such file or directory)"),
        (2, dangling, "000005.jpg: cannot be read (Is a directory)"),
        (3, closed, f"{closed}: cannot be read (Permission denied)"),
    ]


def test_a_jpeg_damaged_inside_is_found(tmp_path: Path) -> None:
    folders = [save_images(tmp_path / name, rgb_frames(20)) for name in ("first", "between")]
    for folder, name in zip(folders, ("000001.jpg", "000002.jpg"), strict=True):
        data = (folder / name).read_bytes()
        half = (len(data) + data.index(b"\xff\xda")) // 2
        (folder / name).write_bytes(data[:half] + bytes(len(data) - half - 2) + data[-2:])
    manifest = make_manifest(*(Clip(folder, "a") for folder in folders))
    assert [problem.row for problem in check(manifest, num_segments=4).errors] == [2]
    assert [problem.row for problem in check(manifest, num_segments=4, thorough=True).errors] == [2, 3]


def test_majority_is_named_as_what_it_is(tmp_path: Path) -> None:
    clips = [make_clip(tmp_path, "x"), make_clip(tmp_path, "y"), make_clip(tmp_path, "z", "b")]
    report = check(make_manifest(*clips))
    assert report.majority("train") == 2 / 3
    assert report.to_dict()["splits"]["train"]["majority"] == 2 / 3
    assert "always naming its most frequent class: 66.7%" in report.to_text()
    assert "chance" not in report.to_text()
