"""Videos: index i gives frame i, in every container and codec, and every broken file says what is wrong with it."""

import os
import struct
from collections.abc import Callable
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from video_files import COUNT, HEIGHT, WIDTH, number_of, numbered, write_video

from dynagest.clips.demux import KeyFrames, Video
from dynagest.clips.frames import FrameReader
from dynagest.clips.video import iterate_video, key_frames, read_video, video_rate
from dynagest.errors import ClipError
from dynagest.live.sources import VideoFile

B_FRAMES = {"bf": "3", "b_strategy": "0", "preset": "ultrafast", "x264-params": "bframes=3:b-adapt=0"}


INTERLACED = {"bf": "2", "x264-params": "interlaced=1:tff=1"}
TRANSPORT = ("h264 with B-frames in ts", "interlaced h264 in mts", "mpeg2 with B-frames in ts")

VIDEOS = {
    "h264 with B-frames in avi": ("a.avi", "libx264", "yuv420p", B_FRAMES),
    "h264 with B-frames in mp4": ("a.mp4", "libx264", "yuv420p", B_FRAMES),
    "h264 with B-frames in mkv": ("a.mkv", "libx264", "yuv420p", B_FRAMES),
    "h264 with open groups in avi": ("b.avi", "libx264", "yuv420p", {"x264-params": "open-gop=1:keyint=10:bframes=3"}),
    "mpeg4 in avi": ("c.avi", "mpeg4", "yuv420p", {}),
    "mpeg4 with B-frames in avi": ("d.avi", "mpeg4", "yuv420p", {"bf": "2"}),
    "mjpeg in avi": ("e.avi", "mjpeg", "yuvj420p", {}),
    "ffv1 with rare key frames in mkv": ("f.mkv", "ffv1", "bgr0", {}),
    "ffv1 with rare key frames in avi": ("f.avi", "ffv1", "bgr0", {}),
    "ffv1 of key frames in mkv": ("g.mkv", "ffv1", "bgr0", {"g": "1"}),
    "png in mov": ("h.mov", "png", "rgb24", {}),
    "vp9 with hidden frames in webm": ("i.webm", "libvpx-vp9", "yuv420p", {"lag-in-frames": "16", "cpu-used": "8"}),
    "vp8 in webm": ("j.webm", "libvpx", "yuv420p", {"cpu-used": "8"}),
    "gif": ("k.gif", "gif", "rgb8", {}),
    "h264 with B-frames in 3gp": ("l.3gp", "libx264", "yuv420p", B_FRAMES),
    "h264 with B-frames in ts": ("m.ts", "libx264", "yuv420p", B_FRAMES),
    "interlaced h264 in mts": ("n.mts", "libx264", "yuv420p", INTERLACED),
    "mpeg2 with B-frames in ts": ("o.ts", "mpeg2video", "yuv420p", {"bf": "2"}),
}


@pytest.mark.parametrize("name", VIDEOS)
def test_index_means_frame_in_order_of_presentation(name: str, tmp_path: Path) -> None:
    file, codec, pixels, options = VIDEOS[name]
    path = write_video(tmp_path / file, codec, pixels, options)
    assert FrameReader().count(path) == COUNT
    assert [number_of(frame) for frame in FrameReader().frames(path, range(COUNT))] == list(range(COUNT))
    wanted = [30, 3, 44, 3, 17, 17, 0]
    frames = FrameReader().frames(path, wanted)
    assert frames.dtype == np.uint8
    assert frames.shape == (7, HEIGHT, WIDTH, 3)
    assert [number_of(frame) for frame in frames] == wanted
    # Leaving out unwanted frames changes nothing in the wanted ones.
    np.testing.assert_array_equal(frames[0], FrameReader().frames(path, range(COUNT))[30])


KEYED = {
    "h264 with B-frames in mp4": VIDEOS["h264 with B-frames in mp4"],
    "h264 with open groups in mp4": ("b.mp4", *VIDEOS["h264 with open groups in avi"][1:]),
    "h264 with open groups in mkv": ("b.mkv", *VIDEOS["h264 with open groups in avi"][1:]),
    "interlaced h264 in mkv": ("n.mkv", "libx264", "yuv420p", INTERLACED),
    "hevc with open groups in mp4": ("p.mp4", "libx265", "yuv420p", {"x265-params": "open-gop=1:log-level=none"}),
    "vp9 with hidden frames in webm": VIDEOS["vp9 with hidden frames in webm"],
    "vp8 with hidden frames in webm": ("j.webm", "libvpx", "yuv420p", {"auto-alt-ref": "1", "lag-in-frames": "16"}),
    "av1 with hidden frames in mkv": ("q.mkv", "libsvtav1", "yuv420p", {"preset": "8"}),
}


@pytest.mark.parametrize("name", KEYED)
def test_decoding_begins_at_the_key_frame_and_gives_the_same_pictures(name: str, tmp_path: Path) -> None:
    file, codec, pixels, options = KEYED[name]
    path = write_video(tmp_path / file, codec, pixels, options)
    keys = key_frames(path)
    assert keys is not None
    assert len(keys.stamps) == COUNT
    begins = [index for index, _ in keys.starts]
    assert len(begins) > 3
    whole = read_video(path, list(range(COUNT)), "rgb")
    for wanted in range(COUNT):
        np.testing.assert_array_equal(read_video(path, [wanted], "rgb", keys)[wanted], whole[wanted])
        with Video(path) as video:
            decoded = [index for index, _ in video.decode([wanted], keys)]
        assert decoded == list(range(max(begin for begin in begins if begin <= wanted), COUNT))


@pytest.mark.parametrize("name", [name for name in VIDEOS if name.endswith(("avi", "ts", "gif"))])
def test_videos_whose_times_or_key_frames_tell_nothing_are_read_from_their_start(name: str, tmp_path: Path) -> None:
    file, codec, pixels, options = VIDEOS[name]
    assert key_frames(write_video(tmp_path / file, codec, pixels, options)) is None


def test_a_recording_cut_before_pictures_that_cannot_be_shown_is_read_from_its_start(tmp_path: Path) -> None:
    """The first pictures after the cut depend on what is gone, so a picture's rank by time is not its number."""
    file, codec, pixels, options = KEYED["h264 with open groups in mkv"]
    whole, cut = write_video(tmp_path / file, codec, pixels, options), tmp_path / "cut.mkv"
    with av.open(str(whole)) as source, av.open(str(cut), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        packets = [packet for packet in source.demux(video=0) if packet.size]
        begin = [place for place, packet in enumerate(packets) if packet.is_keyframe][1]
        for packet in packets[begin:]:
            packet.stream = stream
            target.mux(packet)
    assert min(packet.pts for packet in packets[begin:]) < packets[begin].pts
    assert key_frames(cut) is None


def test_frames_far_into_a_recording(tmp_path: Path) -> None:
    """A damaged picture before the last key frame is not decoded, so frames after it can be read."""
    path = write_video(tmp_path / "a.mp4", "libx264", "yuv420p", B_FRAMES, count=150, draw=lambda i: numbered(i % 64))
    with av.open(str(path)) as file:
        packets = [(packet.pos, packet.size) for packet in file.demux(video=0) if packet.size]
    data = bytearray(path.read_bytes())
    data[packets[50][0] + 5 : packets[50][0] + packets[50][1]] = bytes(packets[50][1] - 5)
    path.write_bytes(data)
    reader = FrameReader()
    for wanted in ([120, 149, 131], [102]):
        assert [number_of(frame) for frame in reader.frames(path, wanted)] == [i % 64 for i in wanted]
    with pytest.raises(ClipError, match="corrupt"):
        reader.frames(path, [20, 120])
    with pytest.raises(ClipError, match=r"a\.mp4: has 150 frames, but frame 150 \(counted from 0\) is asked for"):
        reader.frames(path, [140, 150])


def test_a_picture_that_does_not_come_is_named(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", "libx264", "yuv420p", B_FRAMES)
    keys = key_frames(path)
    assert keys is not None
    stamps = np.delete(keys.stamps, 31)
    with pytest.raises(ClipError, match=r"a\.mp4: frame 31 is corrupt"):
        read_video(path, [32], "rgb", KeyFrames(stamps, keys.starts))


@pytest.mark.parametrize("name", TRANSPORT)
def test_a_transport_stream_begins_with_the_first_picture_that_can_be_shown(name: str, tmp_path: Path) -> None:
    """As a recorder that was switched on amid a broadcast leaves it: cut between two key frames."""
    file, codec, pixels, options = VIDEOS[name]
    camera = file.endswith(".mts")  # stores a time before each packet of 188 bytes
    path = write_video(tmp_path / file, codec, pixels, options, container={"mpegts_m2ts_mode": str(int(camera))})
    data, packet = path.read_bytes(), 192 if camera else 188
    path.write_bytes(data[len(data) // packet // 4 * packet :])
    shown = list(range(12, COUNT))
    assert FrameReader().count(path) == len(shown)
    assert [number_of(frame) for frame in FrameReader().frames(path, range(len(shown)))] == shown
    assert [number_of(frame) for frame, _ in iterate_video(path)] == shown
    assert video_rate(path) == pytest.approx(30)


def test_hidden_frames_do_not_count(tmp_path: Path) -> None:
    """Two-pass VP8 stores reference frames that are never shown; here frame 10 is made one."""
    path = write_video(tmp_path / "a.webm", "libvpx", "yuv420p", {"cpu-used": "8"})
    with av.open(str(path)) as container:
        packet = bytes(next(p for i, p in enumerate(container.demux(video=0)) if i == 10))
    data = path.read_bytes()
    assert data.count(packet) == 1
    path.write_bytes(data.replace(packet, bytes([packet[0] & ~0x10]) + packet[1:]))
    shown = [number for number in range(COUNT) if number != 10]
    assert FrameReader().count(path) == len(shown)
    assert [number_of(frame) for frame in FrameReader().frames(path, range(len(shown)))] == shown


def test_colours_are_rgb(tmp_path: Path) -> None:
    red = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    red[..., 0] = 250
    write_video(tmp_path / "a.mkv", "ffv1", "bgr0", count=1, draw=lambda _: red)
    np.testing.assert_array_equal(FrameReader().frames(tmp_path / "a.mkv", [0])[0], red)
    (tmp_path / "images").mkdir()
    cv2.imwrite(str(tmp_path / "images" / "1.png"), red[..., ::-1])
    np.testing.assert_array_equal(FrameReader().frames(tmp_path / "images", [0])[0], red)


@pytest.mark.parametrize(
    ("turn", "shown"),
    [
        ((0, 1, -1, 0), lambda image: np.rot90(image, -1)),
        ((-1, 0, 0, -1), lambda image: np.rot90(image, 2)),
        ((0, -1, 1, 0), lambda image: np.rot90(image, 1)),
        ((-1, 0, 0, 1), np.fliplr),
        ((1, 0, 0, -1), np.flipud),
        ((0, 1, 1, 0), lambda image: image.swapaxes(0, 1)),
        ((0, -1, -1, 0), lambda image: np.rot90(image, 2).swapaxes(0, 1)),
    ],
    ids=["clockwise", "upside down", "counterclockwise", "mirrored", "flipped", "transposed", "other diagonal"],
)
def test_a_phone_held_upright_or_its_front_camera(
    turn: tuple[int, ...], shown: Callable[[np.ndarray], np.ndarray], tmp_path: Path
) -> None:
    """Portrait video is stored on its side, a selfie maybe mirrored, with a matrix (a b; c d) in the track's header."""
    path = write_video(tmp_path / "a.mp4", "libx264", "yuv420p", B_FRAMES, count=3)
    lying = FrameReader().frames(path, [1])[0]
    data = bytearray(path.read_bytes())
    matrix = data.index(b"tkhd") + 4 + 40
    a, b, c, d = (value << 16 for value in turn)
    data[matrix : matrix + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    np.testing.assert_array_equal(FrameReader().frames(path, [1])[0], shown(lying))
    np.testing.assert_array_equal([image for image, _ in iterate_video(path)][1], shown(lying))


BROKEN = {
    "mpeg4 in avi": ("a.avi", "mpeg4", "yuv420p", {}, {}),
    "mjpeg in avi": ("b.avi", "mjpeg", "yuvj420p", {}, {}),
    "h264 in mp4": ("c.mp4", "libx264", "yuv420p", B_FRAMES, {}),
    "h264 in mp4 for the web": ("d.mp4", "libx264", "yuv420p", B_FRAMES, {"movflags": "faststart"}),
    "ffv1 in mkv": ("e.mkv", "ffv1", "bgr0", {}, {}),
    "vp9 in webm": ("f.webm", "libvpx-vp9", "yuv420p", {"cpu-used": "8"}, {}),
    "gif": ("g.gif", "gif", "rgb8", {}, {}),
}


def test_a_file_that_was_not_copied_whole_says_what_to_do(tmp_path: Path) -> None:
    path = write_video(tmp_path / "clip.avi", "mjpeg", "yuvj420p")
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(ClipError, match=r"clip\.avi: truncated: 3000 of \d+ bytes; copy or record it again"):
        FrameReader().count(path)
    path.write_bytes(b"")
    with pytest.raises(ClipError, match=r"clip\.avi: empty file; copy or record it again"):
        FrameReader().count(path)


@pytest.mark.parametrize("part", [0.1, 0.5, 0.97])
@pytest.mark.parametrize("name", BROKEN)
def test_truncated_video(name: str, part: float, tmp_path: Path) -> None:
    file, codec, pixels, options, container = BROKEN[name]
    path = write_video(tmp_path / file, codec, pixels, options, container=container)
    data = path.read_bytes()
    path.write_bytes(data[: int(part * len(data))])
    with pytest.raises(ClipError, match="truncated") as caught:
        FrameReader().count(path)
    assert str(path) in str(caught.value)
    with pytest.raises(ClipError, match="truncated"):
        FrameReader().frames(path, [COUNT - 1])


@pytest.mark.parametrize(
    ("data", "message"),
    [(b"", "empty file"), (b"this is no video\n" * 99, "not a video"), (b"RIFF\x10", "not a video|truncated")],
)
def test_not_a_video(data: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "a.avi"
    path.write_bytes(data)
    for read in (FrameReader().count, lambda p: FrameReader().frames(p, [0]), lambda p: FrameReader().depth(p, [0])):
        with pytest.raises(ClipError, match=rf"a\.avi: ({message})"):
            read(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes on Windows")
def test_a_pipe_is_refused_instead_of_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.mp4")
    with pytest.raises(ClipError, match="empty file"):
        FrameReader().count(tmp_path / "a.mp4")


def test_missing_file(tmp_path: Path) -> None:
    for name in ("nowhere.mp4", "nowhere.npz", "nowhere"):
        with pytest.raises(ClipError, match=rf"{name}: cannot be read \(No such file"):
            FrameReader().depth(tmp_path / name, [0])


@pytest.mark.parametrize("name", ["mpeg4 in avi", "mjpeg in avi", "ffv1 with rare key frames in mkv"])
def test_fewer_frames_than_asked_for(name: str, tmp_path: Path) -> None:
    file, codec, pixels, options = VIDEOS[name]
    path = write_video(tmp_path / file, codec, pixels, options, count=5)
    with pytest.raises(ClipError, match=r"has 5 frames, but frame 5 \(counted from 0\)"):
        FrameReader().frames(path, [0, 5])


def test_sound_without_pictures(tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as file:
        stream = file.add_stream("pcm_s16le", rate=8000)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        sound.sample_rate = 8000
        file.mux(stream.encode(sound))
    with pytest.raises(ClipError, match="no pictures"):
        FrameReader().frames(path, [0])


def test_pictures_that_ffmpeg_cannot_decode(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.avi", "mpeg4", "yuv420p", count=3)
    path.write_bytes(path.read_bytes().replace(b"FMP4", b"ZZZZ"))  # a codec that nobody knows
    for read in (
        FrameReader().count,
        lambda file: FrameReader().frames(file, [0]),
        lambda file: list(iterate_video(file)),
    ):
        with pytest.raises(ClipError, match=r"a\.avi: FFmpeg has no decoder for its pictures; convert it"):
            read(path)


def test_a_name_with_the_time_of_day_and_a_title_that_is_not_utf8(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    plain = write_video(tmp_path / "a.avi", "mpeg4", "yuv420p", count=3)
    with av.open(str(plain)) as source, av.open(str(tmp_path / "b.avi"), "w") as file:
        file.metadata["title"] = "Gru?"
        out = file.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = out
                file.mux(packet)
    path = Path("12:30.avi")  # before a colon FFmpeg expects a protocol
    path.write_bytes((tmp_path / "b.avi").read_bytes().replace(b"Gru?", "Gruß".encode("latin-1")))
    assert b"Gru\xdf" in path.read_bytes()
    assert FrameReader().count(path) == 3
    assert [number_of(frame) for frame in FrameReader().frames(path, [0, 2])] == [0, 2]
    assert [number_of(frame) for frame, _ in iterate_video(path)] == [0, 1, 2]
    source = VideoFile(path)
    source.open()
    found = source.read()
    source.close()
    assert found is not None
    assert number_of(found[0]) == 0


def test_reader_remembers_counts(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.avi", "mpeg4", "yuv420p", count=4)
    reader = FrameReader()
    assert reader.count(path) == 4
    path.unlink()
    assert reader.count(path) == 4
    with pytest.raises(ClipError):
        reader.frames(path, [0])


@pytest.mark.parametrize("codec", ["mjpeg", "mpeg4"])
def test_a_packet_whose_head_is_lost_does_not_shift_the_others(codec: str, tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.avi", codec, "yuvj420p" if codec == "mjpeg" else "yuv420p")
    content = bytearray(path.read_bytes())
    heads = [at for at in range(len(content)) if content[at : at + 4] == b"00dc"]
    # Within the pictures, not in the index at the end, which names every packet as well.
    head = heads[20]
    content[head : head + 8] = bytes(8)
    path.write_bytes(content)
    for read in (
        FrameReader().count,
        lambda file: FrameReader().frames(file, [0, 40]),
        lambda file: list(iterate_video(file)),
    ):
        with pytest.raises(ClipError, match=r"a\.avi: (truncated or )?corrupt"):
            read(path)
