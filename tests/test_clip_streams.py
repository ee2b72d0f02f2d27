"""The list of streams: read, written, and what is wrong with it; frames with their times."""

import os
from collections.abc import Iterator
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from video_files import write_timed_video

from dynagest.clips.streams import Span, Stream, StreamSet
from dynagest.errors import ClipError, ManifestError
from dynagest.synth.write import write_mjpeg


def _read(folder: Path, text: str) -> StreamSet:
    (folder / "streams.csv").write_text(text)
    return StreamSet.read(folder)


def test_reads_what_it_writes(tmp_path: Path):
    streams = (
        Stream(tmp_path / "a.avi", (Span("wave", 0.5, 1.25), Span("grab", 2.0, 3.0)), 24.0, "val", "S001"),
        Stream(tmp_path / "deep" / "b.avi", (), None, "test"),
        Stream(tmp_path / "ntsc.avi", (), 29.97002997, "test"),
    )
    again = StreamSet(streams, ("wave", "grab", "none")).write(tmp_path / "streams.csv")
    assert again.classes == ("wave", "grab", "none")
    assert [(s.video, s.spans, s.fps, s.split, s.subject) for s in again.streams] == [
        (s.video, s.spans, s.fps, s.split, s.subject) for s in streams
    ]
    assert len(again.split("val")) == 1
    with pytest.raises(ManifestError, match="there is no split 'dev'; the splits are train, val, test"):
        again.split("dev")
    assert (tmp_path / "streams.csv").read_text().splitlines()[1] == "a.avi,wave,0.5000,1.2500,24,val,S001"


def test_columns_in_any_order_and_only_the_needed_ones(tmp_path: Path):
    found = _read(tmp_path, "label,begin,end,stream\nb,3,4,x.mp4\na 2,1,2,x.mp4\n")
    (stream,) = found.streams
    assert stream.spans == (Span("a 2", 1, 2), Span("b", 3, 4))
    assert (stream.split, stream.fps, found.classes) == ("test", None, ("a 2", "b"))


def test_a_recording_is_one_stream_however_its_rows_spell_its_path(tmp_path: Path):
    """Apart, each of the two would count the other's gestures as false alarms."""
    found = _read(tmp_path, "stream,label,begin,end\nx.mp4,a,1,2\n./x.mp4,b,3,4\ndeep/../x.mp4,a,5,6\n")
    (stream,) = found.streams
    assert stream.video == tmp_path / "x.mp4"
    assert [span.begin for span in stream.spans] == [1, 3, 5]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("x.mp4,a,2,1,,,", "line 2: 2 to 1 is no range"),
        ("x.mp4,a,,1,,,", "nothing to 1 is no range"),
        ("x.mp4,,1,2,,,", "without a label"),
        ("x.mp4,a,one,2,,,", "line 2: one to 2: begin and end are numbers of seconds"),
        ("x.mp4,a,1_5,20,,,", "1_5 to 20: begin and end are numbers"),
        ("x.mp4,a,nan,nan,,,", "nan to nan: begin and end are numbers"),
        ("x.mp4,a,1,1e999,,,", "1 to 1e999 is no range"),
        ("x.mp4,a,1,2,1_0,,", "fps '1_0' is not a frame rate"),
        ("x.mp4,a,1,2,0,,", "fps '0' is not a frame rate"),
        ("x.mp4,a,1,2,,dev,", "split 'dev' is none of"),
        (",a,1,2,,,", "the stream is empty"),
        ("x.mp4,a,1", "line 2: 3 cells, the header has 7"),
        ("x.mp4,a,1,2,10,,\nx.mp4,a,3,4,12,,", "line 3: fps, split or subject differ from those in line 2"),
        ("", "has no rows"),
    ],
)
def test_bad_rows_are_named(tmp_path: Path, row: str, message: str):
    with pytest.raises(ManifestError, match=message):
        _read(tmp_path, f"stream,label,begin,end,fps,split,subject\n{row}\n")


def test_bad_files_are_named(tmp_path: Path):
    with pytest.raises(ManifestError, match=r"is not there; .dynagest data streams FOLDER"):
        StreamSet.read(tmp_path)
    with pytest.raises(ManifestError, match="missing column begin and end; it has stream, label"):
        _read(tmp_path, "stream,label\n")
    (tmp_path / "classes.txt").write_text("wave\n")
    with pytest.raises(ManifestError, match=r"not in classes\.txt: grab"):
        _read(tmp_path, "stream,label,begin,end\nx.mp4,grab,1,2\n")


def test_a_name_that_is_not_utf8_is_told(tmp_path: Path):
    stream = Stream(tmp_path / os.fsdecode(b"w\xe9ve.avi"))
    with pytest.raises(ManifestError, match=r"w\\xe9ve\.avi.*not UTF-8; rename"):
        StreamSet((stream,), ("wave",)).write(tmp_path / "streams.csv")
    assert not list(tmp_path.iterdir())


def test_classes_are_read_as_a_manifest_s(tmp_path: Path):
    row = "stream,label,begin,end\nx.mp4,wave,1,2\n"
    (tmp_path / "classes.txt").write_bytes("\ufeffwave\ngrüßen\n".encode())
    assert _read(tmp_path, row).classes == ("wave", "grüßen")
    (tmp_path / "classes.txt").write_bytes("wave\ngrüßen\n".encode("latin-1"))
    with pytest.raises(ManifestError, match=r"classes\.txt: not UTF-8 text"):
        _read(tmp_path, row)
    (tmp_path / "classes.txt").write_text("wave\nwave\n")
    with pytest.raises(ManifestError, match="repeated: wave"):
        _read(tmp_path, row)


def test_a_video_keeps_its_own_times_unless_a_rate_is_given(tmp_path: Path):
    path = tmp_path / "uneven.mkv"
    write_timed_video(path, [500, 540, 700, 720])
    frames = list(Stream(path).frames())
    assert [round(time, 3) for _, time in frames] == [0.0, 0.04, 0.2, 0.22]
    assert [int(frame[0, 0, 0]) for frame, _ in frames] == [0, 10, 20, 30]
    assert frames[0][0].shape == (16, 16, 3)
    assert [time for _, time in Stream(path, fps=10.0).frames()] == [0.0, 0.1, 0.2, 0.3]


def test_a_video_without_times_needs_a_rate(tmp_path: Path):
    path = tmp_path / "raw.h264"
    with av.open(str(path), "w", format="h264") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for _ in range(4):
            container.mux(stream.encode(av.VideoFrame(64, 48, "yuv420p")))
        container.mux(stream.encode())
    with pytest.raises(ClipError, match="frame 0 has no time"):
        next(Stream(path).frames())
    assert [time for _, time in Stream(path, fps=4.0).frames()] == [0.0, 0.25, 0.5, 0.75]


def test_a_folder_of_images_needs_a_rate(tmp_path: Path):
    for number in range(1, 4):
        cv2.imwrite(str(tmp_path / f"{number:06d}.png"), np.full((8, 8, 3), number, np.uint8))
    frames = list(Stream(tmp_path, fps=4.0).frames())
    assert [(int(frame[0, 0, 0]), time) for frame, time in frames] == [(1, 0.0), (2, 0.25), (3, 0.5)]
    with pytest.raises(ClipError, match="give the stream an fps"):
        next(Stream(tmp_path).frames())


def test_a_folder_of_images_is_listed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for number in range(1, 8):
        cv2.imwrite(str(tmp_path / f"{number:06d}.png"), np.full((8, 8, 3), number, np.uint8))
    listed, listing = [], Path.iterdir

    def iterdir(path: Path) -> Iterator[Path]:
        listed.append(path)
        return listing(path)

    monkeypatch.setattr(Path, "iterdir", iterdir)
    assert [int(frame[0, 0, 0]) for frame, _ in Stream(tmp_path, fps=4.0).frames()] == [1, 2, 3, 4, 5, 6, 7]
    assert listed == [tmp_path]


def test_a_broken_video_is_named(tmp_path: Path):
    (tmp_path / "x.avi").write_bytes(b"RIFF")
    with pytest.raises(ClipError, match=r"x\.avi"):
        next(Stream(tmp_path / "x.avi").frames())


def test_a_broken_frame_within_is_named_and_not_left_out(tmp_path: Path):
    path = tmp_path / "y.avi"
    write_mjpeg(str(path), np.random.default_rng(0).integers(0, 255, (20, 32, 32, 3), np.uint8), 32, 24.0)
    assert len(list(Stream(path).frames())) == 20
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 40] = bytes(40)
    path.write_bytes(data)
    with pytest.raises(ClipError, match=r"y\.avi"):
        list(Stream(path).frames())


def test_a_real_clip_has_all_its_frames(shared_data: Path):
    path = shared_data / "isogd" / "train" / "001" / "M_00001.avi"
    frames = list(Stream(path, fps=10.0).frames())
    assert len(frames) > 8
    assert frames[-1][1] == pytest.approx((len(frames) - 1) / 10)
    assert frames[0][0].shape == (240, 320, 3)
