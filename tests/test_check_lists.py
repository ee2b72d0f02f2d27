"""What ``data check`` finds in the rows of a manifest."""

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest
from clip_files import make_clip, make_manifest, of_files, rgb_frames, save_video

from dynagest.clips.adapters import IndexOptions, index_dataset
from dynagest.clips.checks.check import check
from dynagest.clips.checks.files import equal_files
from dynagest.clips.manifest import Clip, Manifest


def test_labels_classes_and_subjects(tmp_path: Path) -> None:
    clips = [
        make_clip(tmp_path, "one", "a", subject="Ann"),
        make_clip(tmp_path, "two", "wave", subject="Bob"),
        make_clip(tmp_path, "three", "c", split="test", subject="Ann"),
    ]
    report = check(make_manifest(*clips, classes=("a", "b", "c")))
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
    assert messages[3] == "test: 1 class has no train clip and cannot be learnt: c"
    assert "'Ann' is in more than one split (1 clip in train, 1 clip in test)" in messages[4]


def test_one_class_has_no_clip(tmp_path: Path) -> None:
    report = check(make_manifest(make_clip(tmp_path, "one", "a"), classes=("a", "b")))
    assert [problem.message for problem in report.problems] == ["train: 1 of 2 classes has no clip: b"]


def test_names_of_one_class_that_look_alike_are_told(tmp_path: Path) -> None:
    labels = ("Wave", "wave", "cafe\u0301", "caf\u00e9", "cafe", "wave 2")
    clips = [make_clip(tmp_path, f"clip{i}", label) for i, label in enumerate(labels)]
    report = check(make_manifest(*clips, classes=labels))
    assert [(p.severity, p.message.split(" are ")[0]) for p in report.problems] == [
        ("warning", "'Wave' and 'wave'"),
        ("warning", "'cafe\u0301' and 'caf\u00e9'"),
    ]


def test_clips_that_came_after_the_manifest_are_told(tmp_path: Path) -> None:
    for name in ("a/one", "b/two"):
        make_clip(tmp_path, name)
    index = index_dataset("folders", tmp_path, IndexOptions(depth="egogesture")).manifest
    manifest = index.write(tmp_path / "manifest.csv")
    assert not of_files(check(manifest))
    late = make_clip(tmp_path, "c/three").video
    assert [(p.severity, p.kind, p.message.split(":")[0]) for p in of_files(check(manifest))] == [
        ("warning", "unlisted", f"1 clip in its folder not listed, the first {late}")
    ]
    # Where labels are not those of the folders, these do not tell what is a clip.
    relabelled = Manifest(tuple(replace(clip, label="x") for clip in index.clips), ("x", "y"), index.depth)
    assert not of_files(check(relabelled.write(tmp_path / "manifest.csv")))


def test_a_listed_path_that_the_system_refuses_is_an_unreadable_clip(tmp_path: Path) -> None:
    for name in ("a/one", "b/two"):
        make_clip(tmp_path, name)
    index = index_dataset("folders", tmp_path, IndexOptions(depth="egogesture")).manifest
    long = tmp_path / "a" / f"{'x' * 300}.avi"
    manifest = replace(index, clips=(*index.clips, Clip(long, "a"))).write(tmp_path / "manifest.csv")
    found = [(problem.kind, problem.message) for problem in of_files(check(manifest)) if problem.file == long]
    assert ("unreadable", f"{long}: cannot be read (File name too long)") in found


def test_repeated_and_copied_clips(tmp_path: Path) -> None:
    one, other = make_clip(tmp_path, "one", frames=24), make_clip(tmp_path, "other", "b")
    whole = replace(one, depth=None)
    copy = tmp_path / "copy.avi"
    copy.write_bytes(other.video.read_bytes())
    report = check(
        make_manifest(
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
    clip = make_clip(tmp_path, "one")
    report = check(make_manifest(clip, replace(clip, label="b")))
    (problem,) = of_files(report)
    assert (problem.severity, problem.row) == ("error", 3)
    assert problem.message == "the same frames as line 2, labelled 'a' there and 'b' here"


def test_equal_files(tmp_path: Path) -> None:
    for name, data in (("a", b"one"), ("b", b"two"), ("c", b"one"), ("d", b"longer"), ("e", b""), ("f", b"")):
        (tmp_path / name).write_bytes(data)
    assert equal_files([*tmp_path.iterdir(), tmp_path / "missing"]) == ([[tmp_path / "a", tmp_path / "c"]], {})


def test_a_video_that_cannot_be_compared_is_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = save_video(tmp_path / "one.avi", rgb_frames(12)), tmp_path / "other.avi"
    other.write_bytes(one.read_bytes())

    def fail(*_: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(hashlib, "file_digest", fail)
    report = check(make_manifest(Clip(one, "a"), Clip(other, "b")))
    assert [(p.row, p.file, p.message) for p in report.errors] == [
        (2, one, "cannot be read (Input/output error)"),
        (3, other, "cannot be read (Input/output error)"),
    ]


@pytest.mark.parametrize(
    ("classes", "splits", "severities"),
    [
        (("a",), ("train", "val"), ["error"]),
        (("a", "b"), ("train", "train"), ["warning"]),
        (("a",), ("test",), ["warning"]),
    ],
)
def test_one_class_alone_cannot_be_learnt(
    tmp_path: Path, classes: tuple[str, ...], splits: tuple[str, ...], severities: list[str]
) -> None:
    clips = [make_clip(tmp_path, f"{k}", split=split) for k, split in enumerate(splits)]
    report = check(make_manifest(*clips, classes=classes))
    assert [(p.severity, p.kind) for p in report.problems] == [(severity, "class") for severity in severities]
    if severities == ["error"]:
        assert "'a' is the only class, so training has nothing to learn" in report.problems[0].message
