"""The adapter of streams.csv: gestures in seconds of a long recording become clips, by the times of its pictures."""

from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from cli_helpers import run
from video_files import number_of, write_timed_video, write_video

from dynagest.clips.adapters import Index, IndexOptions, index_dataset
from dynagest.clips.frames import FrameReader
from dynagest.clips.manifest import Manifest
from dynagest.clips.streams import Span, Stream, StreamSet
from dynagest.errors import ManifestError
from dynagest.synth.spec import get_preset
from dynagest.synth.stream import StreamSpec, write_streams

HEADER = "stream,label,begin,end,fps,split,subject"
# Ten pictures a second for a second, then 25, then 10 again; the first is at half a second.
UNEVEN = [*range(500, 1500, 100), *range(1500, 2500, 40), *range(2500, 3500, 100)]


def _list(folder: Path, *rows: str, header: str = HEADER) -> Path:
    (folder / "streams.csv").write_text("\n".join((header, *rows)) + "\n")
    return folder


def _index(root: Path, **options: object) -> Index:
    return index_dataset("streams", root, IndexOptions(**options))  # type: ignore[arg-type]


def _ranges(index: Index) -> list[tuple[str, int, int | None]]:
    return [(clip.label, clip.start, clip.end) for clip in index.manifest.clips]


def test_seconds_become_the_frames_of_a_video_of_even_rate(tmp_path: Path):
    video = write_video(tmp_path / "a.mp4", "libx264", "yuv420p", rate=30)  # 45 frames, with B-frames
    rows = ("a.mp4,wave,0.5,1,,val,anna", "a.mp4,grab,1,1.5,,val,anna", "a.mp4,wave,0.2,0.3333,,val,anna")
    index = _index(_list(tmp_path, *rows))
    assert _ranges(index) == [("wave", 6, 10), ("wave", 15, 30), ("grab", 30, 45)]
    clip = index.manifest.clips[1]
    assert (clip.video, clip.split, clip.subject, clip.fps, clip.depth) == (video, "val", "anna", None, None)
    frames = FrameReader().frames(clip.video, range(clip.start, clip.end))
    assert [number_of(frame) for frame in frames] == list(range(15, 30))
    assert index.manifest.classes == ("grab", "wave")


def test_seconds_become_frames_by_the_times_of_an_uneven_video(tmp_path: Path):
    """The mean rate, 15 a second, would give 7 to 18 and 18 to 33 where 5 to 15 and 15 to 36 are shown."""
    video = write_timed_video(tmp_path / "a.mkv", UNEVEN)
    rows = ("a.mkv,wave,0.5,1.2", "a.mkv,grab,1.2,2.1", "a.mkv,wave,2.1,3")
    index = _index(_list(tmp_path, *rows, header="stream,label,begin,end"))
    assert _ranges(index) == [("wave", 5, 15), ("grab", 15, 36), ("wave", 36, 45)]
    for clip, (begin, end) in zip(index.manifest.clips, ((0.5, 1.2), (1.2, 2.1), (2.1, 3)), strict=True):
        shown = [i for i, (_, time) in enumerate(Stream(video).frames()) if begin - 1e-6 <= time < end - 1e-6]
        assert list(range(clip.start, clip.end)) == shown


def test_a_frame_belongs_where_it_is_shown_for_the_most_part(tmp_path: Path):
    write_timed_video(tmp_path / "a.mkv", [0, 100, 200, 300, 700, 800])
    index = _index(_list(tmp_path, "a.mkv,wave,0.16,0.49,,,", "a.mkv,wave,0.14,0.51,,,", "a.mkv,wave,0.7,0.949,,,"))
    assert _ranges(index) == [("wave", 1, 4), ("wave", 2, 3), ("wave", 4, 6)]


def test_a_rate_in_the_list_goes_before_the_video_s_own_times(tmp_path: Path):
    write_timed_video(tmp_path / "a.mkv", UNEVEN)
    index = _index(_list(tmp_path, "a.mkv,wave,0.5,1.2,10,,"))
    assert [(clip.start, clip.end, clip.fps) for clip in index.manifest.clips] == [(5, 12, 10.0)]


def test_a_folder_of_images_needs_a_rate(tmp_path: Path):
    (tmp_path / "shots").mkdir()
    for number in range(1, 9):
        cv2.imwrite(str(tmp_path / "shots" / f"{number:03d}.png"), np.zeros((8, 8, 3), np.uint8))
    assert _ranges(_index(_list(tmp_path, "shots,wave,0.5,2,4,,"))) == [("wave", 2, 8)]
    with pytest.raises(ManifestError, match=r"streams\.csv:2: .*shots: images have no times .* give the stream an fps"):
        _index(_list(tmp_path, "shots,wave,0.5,2,,,"))


def test_every_fault_is_named_with_its_line(tmp_path: Path):
    write_timed_video(tmp_path / "a.mkv", UNEVEN)
    with av.open(str(tmp_path / "raw.h264"), "w", format="h264") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for _ in range(4):
            container.mux(stream.encode(av.VideoFrame(64, 48, "yuv420p")))
        container.mux(stream.encode())
    (tmp_path / "cut.avi").write_bytes(b"RIFF")
    rows = ("a.mkv,wave,0.5,1,,,", "a.mkv,wave,2.5,3.1,,,", "a.mkv,grab,1.45,1.455,,,")
    more = ("gone.mp4,wave,0,1,,,", "raw.h264,wave,0,0.2,,,", "cut.avi,wave,0,1,,,")
    with pytest.raises(ManifestError) as caught:
        _index(_list(tmp_path, *rows, *more))
    found, named = str(caught.value), tmp_path / "streams.csv"
    assert found.startswith("5 bad rows")
    told = f"{named}:3: {tmp_path / 'a.mkv'}: 'wave' from 2.5 to 3.1 s ends beyond the recording, which has 3.00 s"
    assert told in found
    assert f"{named}:4: {tmp_path / 'a.mkv'}: 'grab' from 1.45 to 1.455 s holds no frame" in found
    assert f"{named}:5: {tmp_path / 'gone.mp4'}: cannot be read (No such file" in found
    assert f"{named}:6: {tmp_path / 'raw.h264'}: its pictures have no times; give the stream an fps" in found
    assert f"{named}:7: {tmp_path / 'cut.avi'}: " in found
    assert _ranges(_index(_list(tmp_path, "raw.h264,wave,0,0.2,10,,"))) == [("wave", 0, 2)]


def test_a_missing_list_is_named_with_what_it_holds(tmp_path: Path):
    named = r"streams\.csv: is not there; .* a list of your own begins stream,label,begin,end"
    with pytest.raises(ManifestError, match=named):
        _index(tmp_path)
    _list(tmp_path, "a.mkv,wave,0,1,,,").joinpath("streams.csv").rename(tmp_path / "mine.csv")
    write_timed_video(tmp_path / "a.mkv", UNEVEN)
    assert _ranges(_index(tmp_path, labels=tmp_path / "mine.csv")) == [("wave", 0, 10)]


def test_a_list_without_splits_is_for_training_and_says_so(tmp_path: Path):
    for name in "abc":
        write_timed_video(tmp_path / f"{name}.mkv", UNEVEN)
    index = _index(_list(tmp_path, "a.mkv,wave,0,1,,,", "b.mkv,wave,1,2,,,", "c.mkv,,,,,,"))
    assert [clip.split for clip in index.manifest.clips] == ["train", "train"]
    assert [note for note in index.notes if note.startswith("streams.csv names no split: all are train here")]
    assert "1 recordings without gestures give no clip: c.mkv" in index.notes
    index = _index(_list(tmp_path, "a.mkv,wave,0,1,,train,", "b.mkv,wave,1,2,,,", "c.mkv,wave,1,2,,val,"))
    assert [clip.split for clip in index.manifest.clips] == ["train", "test", "val"]  # blank is test, as the list says
    assert not index.notes


def test_a_hold_out_keeps_recordings_whole(tmp_path: Path):
    for number in range(4):
        write_timed_video(tmp_path / f"{number}.mkv", UNEVEN)
    rows = [f"{n}.mkv,{label},{at},{at + 0.5}" for n in range(4) for at, label in enumerate(("wave", "grab", "wave"))]
    index = _index(_list(tmp_path, *rows, header="stream,label,begin,end"), holdout=0.25)
    held = {clip.video.name for clip in index.manifest.split("val").clips}
    assert (len(held), len(index.manifest.split("val")), len(index.manifest.split("train"))) == (1, 3, 9)
    assert f"by recording ({tmp_path / min(held)})" in index.notes[-1]
    alone = _index(_list(tmp_path, *rows[:3], header="stream,label,begin,end"), holdout=0.4)
    assert [clip.split for clip in alone.manifest.clips].count("val") == 1
    assert "by clip" in alone.notes[-1]


def test_frames_that_became_seconds_are_the_same_frames_again(tmp_path: Path):
    """ConGD's lists count frames; its adapter writes them as seconds at 10 frames a second."""
    congd = tmp_path / "congd"
    (congd / "train" / "001").mkdir(parents=True)
    (congd / "train.txt").write_text("001/00001 1,41:33 42,96:57\n001/00002 5,30:249\n")
    for number in (1, 2):
        write_video(congd / "train" / "001" / f"{number:05d}.M.avi", "mpeg4", "yuv420p", count=96)
    first = index_dataset("congd", congd)
    assert first.streams is not None
    first.streams.write(tmp_path / "streams.csv")
    again = _index(tmp_path)
    assert _ranges(again) == [("class_033", 0, 41), ("class_057", 41, 96), ("class_249", 4, 30)]
    assert _ranges(again) == _ranges(first)
    assert again.manifest.classes == first.manifest.classes


def test_generated_streams_become_clips_by_the_command(tmp_path: Path):
    clips = get_preset("demo").model_copy(update={"classes": ("push", "wave"), "size": 32})
    streams = StreamSpec(clips=clips, streams={"train": 1, "val": 1, "test": 0}, minutes=0.1, fps=10)
    truth = write_streams(tmp_path / "s", streams, workers=1)
    listed = (tmp_path / "s" / "streams.csv").read_bytes()
    code, output = run("data", "index", "streams", str(tmp_path / "s"), "--out", str(tmp_path / "s"))
    assert code == 0, output
    assert (tmp_path / "s" / "streams.csv").read_bytes() == listed
    manifest = Manifest.read(tmp_path / "s")
    assert manifest.classes == StreamSet.read(tmp_path / "s").classes == ("push", "wave")
    spans: list[tuple[Stream, Span]] = [(stream, span) for stream in truth.streams for span in stream.spans]
    assert len(spans) >= 2
    assert [(c.video, c.label, c.start, c.end, c.split, c.subject, c.fps) for c in manifest.clips] == [
        (s.video, span.label, round(span.begin * 10), round(span.end * 10), s.split, s.subject, 10.0)
        for s, span in spans
    ]
    code, output = run("data", "check", str(tmp_path / "s"))
    assert code == 0, output
