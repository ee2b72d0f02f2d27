"""The ConGD adapter: streams with their gestures, and each gesture as a clip."""

from pathlib import Path

import numpy as np
import pytest
from clip_files import write_file
from export_helpers import export_colours
from typer.testing import CliRunner
from video_files import HEIGHT, WIDTH, write_video

from dynagest.cli import app
from dynagest.clips.adapters import Index, IndexOptions, index_dataset
from dynagest.clips.depth import PRESETS
from dynagest.clips.manifest import Manifest
from dynagest.clips.streams import Span, StreamSet
from dynagest.errors import ManifestError
from dynagest.stream.events import EventSettings
from dynagest.testing.stream_evaluation import StreamEvaluation

LISTS_ONLY = IndexOptions(require_files=False)
TRAIN = "001/00001 1,41:33 42,96:57\n001/00002 5,30:249\n"


def _index(root: Path, options: IndexOptions = LISTS_ONLY) -> Index:
    return index_dataset("congd", root, options)


def test_a_row_becomes_a_stream_and_its_gestures_clips(tmp_path: Path):
    write_file(tmp_path / "train.txt", TRAIN)
    index = _index(tmp_path)
    assert index.streams is not None
    first, second = index.streams.streams
    assert first.spans == (Span("class_033", 0.0, 4.1), Span("class_057", 4.1, 9.6))  # 41 frames at 10 fps: 4.1 s
    assert (first.fps, first.split, first.video) == (10.0, "train", tmp_path / "train" / "001" / "00001.M.avi")
    assert second.spans == (Span("class_249", 0.4, 3.0),)
    clip = index.manifest.clips[1]
    assert (clip.video, clip.label, clip.start, clip.end) == (first.video, "class_057", 41, 96)
    assert clip.depth == tmp_path / "train" / "001" / "00001.K.avi"
    assert (clip.depth_start, clip.depth_end) == (41, 96)
    assert len(index.manifest.classes) == 249
    assert index.manifest.depth == PRESETS["isogd"]


def test_phases_labels_and_both_ways_of_naming_are_found(tmp_path: Path):
    """As released: phases, labels in a folder of their own, and a valid.txt without labels beside the videos."""
    write_file(tmp_path / "ConGD_labels" / "train.txt", TRAIN)
    write_file(tmp_path / "ConGD_labels" / "valid.txt", "001/00003 1,20:1")
    write_file(tmp_path / "ConGD_phase_1" / "valid.txt", "001/00003")
    write_file(tmp_path / "ConGD_phase_1" / "train" / "001" / "00001.M.avi")
    write_file(tmp_path / "ConGD_phase_1" / "train" / "001" / "00001.K.avi")
    write_file(tmp_path / "ConGD_phase_1" / "valid" / "001" / "M_00003.avi")
    index = _index(tmp_path, IndexOptions())
    assert index.streams is not None
    assert [(stream.video.relative_to(tmp_path).as_posix(), stream.split) for stream in index.streams.streams] == [
        ("ConGD_phase_1/train/001/00001.M.avi", "train"),
        ("ConGD_phase_1/train/001/00002.M.avi", "train"),
        ("ConGD_phase_1/valid/001/M_00003.avi", "val"),
    ]
    assert index.manifest.clips[-1].depth == tmp_path / "ConGD_phase_1" / "valid" / "001" / "K_00003.avi"


def test_quirks_are_kept_and_said(tmp_path: Path):
    write_file(tmp_path / "train.txt", "\ufeff001/00001 42,96:57 1,45:33\r\n\r\n001/00002\n")
    write_file(tmp_path / "valid.txt", "001/00001\n001/00002\n")
    index = _index(tmp_path)
    assert index.streams is not None
    assert [span.label for span in index.streams.streams[0].spans] == ["class_033", "class_057"]
    assert index.streams.streams[1].spans == ()
    assert [note for note in index.notes if "valid.txt: no labels" in note]
    assert [note for note in index.notes if note.startswith("1 gestures begin before")]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("001/00001 1,41:250", r"train\.txt:1: label 250 is not among 1 to 249"),
        ("001/00001 1,41:0", r"train\.txt:1: label 0 is not among 1 to 249"),
        ("001/00001 9,8:3", r"train\.txt:1: frames 9 to 8 are an empty range"),
        ("001/00001 0,8:3", "frames count from 1"),
        ("001/00001 1-41:3", r"train\.txt:1: expected FIRST,LAST:LABEL, got '1-41:3'"),
        ("M_00001.avi 1,41:3", "expected 'FOLDER/NUMBER"),
        ("001/00001 1,4:3\n001/00001 1,4:3", r"train\.txt:2: 001/00001 is in line 1 already"),
    ],
)
def test_bad_rows_are_named(tmp_path: Path, row: str, message: str):
    write_file(tmp_path / "train.txt", row)
    with pytest.raises(ManifestError, match=message):
        _index(tmp_path)


def test_streams_are_not_cut_apart_by_a_hold_out(tmp_path: Path):
    write_file(tmp_path / "train.txt", TRAIN)
    with pytest.raises(ManifestError, match="cut apart"):
        _index(tmp_path, IndexOptions(require_files=False, holdout=0.2))


def test_the_command_writes_manifest_and_streams(tmp_path: Path):
    write_file(tmp_path / "congd" / "train.txt", TRAIN)
    write_file(tmp_path / "congd" / "train" / "001" / "00001.M.avi")
    done = CliRunner().invoke(app, ["data", "index", "congd", str(tmp_path / "congd"), "--out", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    assert "2 streams" in done.output
    streams, manifest = StreamSet.read(tmp_path / "out"), Manifest.read(tmp_path / "out")
    assert streams.classes == manifest.classes
    assert streams.streams[0].spans[1] == Span("class_057", 4.1, 9.6)
    assert len(manifest) == 3
    assert manifest.clips[0].depth is None


RED, GREEN = (230, 0, 0), (0, 230, 0)


def _paint(path: Path, count: int, *shown: tuple[int, int, tuple[int, int, int]]) -> None:
    """A video of black frames, but for those from FIRST to LAST, counted from 1 as in the lists."""
    path.parent.mkdir(parents=True, exist_ok=True)

    def draw(number: int) -> np.ndarray:
        colours = [colour for first, last, colour in shown if first <= number + 1 <= last]
        return np.full((HEIGHT, WIDTH, 3), colours[0] if colours else 0, np.uint8)

    write_video(path, "mpeg4", "yuv420p", count=count, draw=draw)


def test_what_the_adapter_finds_is_measured(tmp_path: Path):
    """Two streams of three gestures, of which the second stream's is shown as one of the other class."""
    root, out = tmp_path / "congd", tmp_path / "out"
    write_file(root / "valid.txt", "001/00001 1,15:33 16,40:57\n001/00002 11,30:33\n")
    _paint(root / "valid" / "001" / "00001.M.avi", 45, (1, 15, RED), (16, 40, GREEN))
    _paint(root / "valid" / "001" / "00002.M.avi", 45, (11, 30, GREEN))
    sharp = EventSettings(smoothing=0, cooldown=0, lag=0)
    network = export_colours(tmp_path / "colours.onnx", "class_033", "class_057", sharp)
    for arguments in (
        ("data", "index", "congd", str(root), "--out", str(out)),
        ("evaluate", str(network), "--stream", str(out), "--split", "val"),
    ):
        done = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
        assert done.exit_code == 0, done.output
    assert "Levenshtein accuracy 66.7%" in done.output
    assert "2 of 3 gestures recognised" in done.output
    found = StreamEvaluation.read(tmp_path / "colours.onnx.stream_metrics.json")
    first, second = found.recordings
    assert first.name == str(root / "valid" / "001" / "00001.M.avi")
    assert (first.seconds, second.seconds) == pytest.approx((4.5, 4.5))  # 45 frames at the 10 a second of ConGD
    assert [(one.label, one.begin, one.end) for one in first.truth] == [("class_033", 0, 1.5), ("class_057", 1.5, 4.0)]
    assert [(one.label, one.begin, one.end) for one in first.found] == [
        ("class_033", pytest.approx(0, abs=0.11), pytest.approx(1.5, abs=0.11)),
        ("class_057", pytest.approx(1.5, abs=0.11), pytest.approx(4.0, abs=0.11)),
    ]
    assert [one.label for one in second.found] == ["class_057"]
    assert found.summary.false_per_minute == pytest.approx(60 / 9)
    # The first stream is found but for a frame at either end of a gesture; the second not at all.
    assert found.summary.mean_jaccard == pytest.approx(0.5, abs=0.06)
