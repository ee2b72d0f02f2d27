"""Index i gives frame i, in every container and codec; and every broken file says what is wrong with it."""

from collections.abc import Callable
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from dynagest.clips.frames import FrameReader, count_frames, read_depth, read_frames
from dynagest.clips.jpeg import is_damaged
from dynagest.errors import ClipError

COUNT = 45
HEIGHT, WIDTH = 64, 96
BARS = 6


def numbered(number: int) -> np.ndarray:
    """A picture (H, W, 3) that carries its number as bright and dark bars, under a texture that moves."""
    picture = np.full((HEIGHT, WIDTH, 3), 40, np.uint8)
    for bar in range(BARS):
        if number >> bar & 1:
            picture[:, bar * 16 : bar * 16 + 16] = 210
    picture[HEIGHT // 2 :] = np.roll(np.arange(WIDTH), 5 * number)[None, :, None] * 2
    return picture


def number_of(picture: np.ndarray) -> int:
    """The number that ``numbered`` drew, read from (H, W, 3) or (H, W)."""
    bars = [picture[4 : HEIGHT // 2 - 4, bar * 16 + 4 : bar * 16 + 12].mean() > 125 for bar in range(BARS)]
    return sum(1 << bar for bar, bright in enumerate(bars) if bright)


def write_video(
    path: Path,
    codec: str,
    pixels: str,
    options: dict[str, str] | None = None,
    count: int = COUNT,
    draw: Callable[[int], np.ndarray] = numbered,
    layout: str = "rgb24",
    container: dict[str, str] | None = None,
) -> Path:
    with av.open(str(path), "w", options=container or {}) as file:
        first = draw(0)
        stream = file.add_stream(codec, rate=30, options=options or {})
        stream.height, stream.width, stream.pix_fmt = *first.shape[:2], pixels
        stream.codec_context.gop_size = 12
        stream.codec_context.thread_count = 1
        for number in range(count):
            for packet in stream.encode(av.VideoFrame.from_ndarray(draw(number), format=layout)):
                file.mux(packet)
        for packet in stream.encode():
            file.mux(packet)
    return path


B_FRAMES = {"bf": "3", "b_strategy": "0", "preset": "ultrafast", "x264-params": "bframes=3:b-adapt=0"}
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
}


@pytest.mark.parametrize("name", VIDEOS)
def test_index_means_frame_in_order_of_presentation(name: str, tmp_path: Path) -> None:
    file, codec, pixels, options = VIDEOS[name]
    path = write_video(tmp_path / file, codec, pixels, options)
    assert count_frames(path) == COUNT
    assert [number_of(frame) for frame in read_frames(path, range(COUNT))] == list(range(COUNT))
    wanted = [30, 3, 44, 3, 17, 17, 0]
    frames = read_frames(path, wanted)
    assert frames.dtype == np.uint8
    assert frames.shape == (7, HEIGHT, WIDTH, 3)
    assert [number_of(frame) for frame in frames] == wanted
    # Leaving out unwanted frames changes nothing in the wanted ones.
    np.testing.assert_array_equal(frames[0], read_frames(path, range(COUNT))[30])


def test_hidden_frames_do_not_count(tmp_path: Path) -> None:
    """Two-pass VP8 stores reference frames that are never shown; here frame 10 is made one."""
    path = write_video(tmp_path / "a.webm", "libvpx", "yuv420p", {"cpu-used": "8"})
    with av.open(str(path)) as container:
        packet = bytes(next(p for i, p in enumerate(container.demux(video=0)) if i == 10))
    data = path.read_bytes()
    assert data.count(packet) == 1
    path.write_bytes(data.replace(packet, bytes([packet[0] & ~0x10]) + packet[1:]))
    shown = [number for number in range(COUNT) if number != 10]
    assert count_frames(path) == len(shown)
    assert [number_of(frame) for frame in read_frames(path, range(len(shown)))] == shown


def test_colours_are_rgb(tmp_path: Path) -> None:
    red = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    red[..., 0] = 250
    write_video(tmp_path / "a.mkv", "ffv1", "bgr0", count=1, draw=lambda _: red)
    np.testing.assert_array_equal(read_frames(tmp_path / "a.mkv", [0])[0], red)
    (tmp_path / "images").mkdir()
    cv2.imwrite(str(tmp_path / "images" / "1.png"), red[..., ::-1])
    np.testing.assert_array_equal(read_frames(tmp_path / "images", [0])[0], red)


def test_a_phone_held_upright(tmp_path: Path) -> None:
    """Portrait video is stored on its side, with a turn in the header of its track."""
    path = write_video(tmp_path / "a.mp4", "libx264", "yuv420p", B_FRAMES, count=3)
    lying = read_frames(path, [1])
    data = bytearray(path.read_bytes())
    matrix = data.index(b"tkhd") + 4 + 40
    one = 0x00010000
    for place, value in enumerate([0, one, 0, -one, 0, 0, 0, 0, 0x40000000]):  # a quarter turn clockwise
        data[matrix + 4 * place : matrix + 4 * place + 4] = value.to_bytes(4, "big", signed=True)
    path.write_bytes(data)
    np.testing.assert_array_equal(read_frames(path, [1]), np.rot90(lying, -1, axes=(1, 2)))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Ten frames numbered from 1, as in EgoGesture, among files that are no frames."""
    path = tmp_path / "color"
    path.mkdir()
    for number in range(10):
        cv2.imwrite(str(path / f"{number + 1:06d}.jpg"), numbered(number))
    for name in (".DS_Store", "._000001.jpg", "Thumbs.db", "notes.txt"):
        (path / name).write_bytes(b"not an image")
    return path


def test_folder_counts_from_its_lowest_number(folder: Path) -> None:
    assert count_frames(folder) == 10
    frames = read_frames(folder, [9, 0, 4, 4])
    assert [number_of(frame) for frame in frames] == [9, 0, 4, 4]


@pytest.mark.parametrize(
    "names", ["{:d}.png", "img_{:05d}.png", "1CM1_4_R_#229_{:06d}.png", "take2_{:03d}_color.png", "{:02d}.PNG"]
)
def test_naming_of_images(names: str, tmp_path: Path) -> None:
    for number in range(3, 15):
        _, data = cv2.imencode(".png", numbered(number))
        (tmp_path / names.format(number)).write_bytes(data.tobytes())
    assert count_frames(tmp_path) == 12
    assert [number_of(frame) for frame in read_frames(tmp_path, range(12))] == list(range(3, 15))


def test_missing_number_is_named_and_shifts_nothing(folder: Path) -> None:
    (folder / "000004.jpg").unlink()
    assert count_frames(folder) == 10
    assert [number_of(frame) for frame in read_frames(folder, [2, 4])] == [2, 4]
    with pytest.raises(ClipError, match=r"000004\.jpg: missing"):
        read_frames(folder, [2, 3, 4])


def test_corrupt_image_is_named_and_spoils_no_other(folder: Path) -> None:
    path = folder / "000006.jpg"
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(ClipError, match=r"000006\.jpg: truncated or corrupt"):
        read_frames(folder, range(10))
    assert [number_of(frame) for frame in read_frames(folder, [4, 6])] == [4, 6]
    path.write_bytes(b"")
    with pytest.raises(ClipError, match=r"000006\.jpg: empty file"):
        read_frames(folder, [5])


def test_folder_faults(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ClipError, match=r"has 10 frames, but frame 10 .* 000011\.jpg"):
        read_frames(folder, [10])
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(ClipError, match=r"empty: holds no numbered images"):
        count_frames(empty)
    cv2.imwrite(str(empty / "cover.png"), numbered(0))
    with pytest.raises(ClipError, match=r"cover\.png has no frame number"):
        count_frames(empty)
    cv2.imwrite(str(folder / "000011.png"), numbered(0))
    with pytest.raises(ClipError, match=r"000001\.jpg and 000011\.png are named differently"):
        count_frames(folder)


def test_images_of_different_sizes(folder: Path) -> None:
    cv2.imwrite(str(folder / "000002.jpg"), numbered(1)[::2])
    with pytest.raises(ClipError, match=r"color: its frames differ in size: 96x32, 96x64"):
        read_frames(folder, [0, 1])


BROKEN = {
    "mpeg4 in avi": ("a.avi", "mpeg4", "yuv420p", {}, {}),
    "mjpeg in avi": ("b.avi", "mjpeg", "yuvj420p", {}, {}),
    "h264 in mp4": ("c.mp4", "libx264", "yuv420p", B_FRAMES, {}),
    "h264 in mp4 for the web": ("d.mp4", "libx264", "yuv420p", B_FRAMES, {"movflags": "faststart"}),
    "ffv1 in mkv": ("e.mkv", "ffv1", "bgr0", {}, {}),
    "vp9 in webm": ("f.webm", "libvpx-vp9", "yuv420p", {"cpu-used": "8"}, {}),
    "gif": ("g.gif", "gif", "rgb8", {}, {}),
}


@pytest.mark.parametrize("part", [0.1, 0.5, 0.97])
@pytest.mark.parametrize("name", BROKEN)
def test_truncated_video(name: str, part: float, tmp_path: Path) -> None:
    file, codec, pixels, options, container = BROKEN[name]
    path = write_video(tmp_path / file, codec, pixels, options, container=container)
    data = path.read_bytes()
    path.write_bytes(data[: int(part * len(data))])
    with pytest.raises(ClipError, match="truncated") as caught:
        count_frames(path)
    assert str(path) in str(caught.value)
    with pytest.raises(ClipError, match="truncated"):
        read_frames(path, [COUNT - 1])


@pytest.mark.parametrize(
    ("data", "message"),
    [(b"", "empty file"), (b"this is no video\n" * 99, "not a video"), (b"RIFF\x10", "not a video|truncated")],
)
def test_not_a_video(data: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "a.avi"
    path.write_bytes(data)
    for read in (count_frames, lambda p: read_frames(p, [0]), lambda p: read_depth(p, [0])):
        with pytest.raises(ClipError, match=rf"a\.avi: ({message})"):
            read(path)


def test_missing_file(tmp_path: Path) -> None:
    for name in ("nowhere.mp4", "nowhere.npz", "nowhere"):
        with pytest.raises(ClipError, match=rf"{name}: cannot be read \(No such file"):
            read_depth(tmp_path / name, [0])


@pytest.mark.parametrize("name", ["mpeg4 in avi", "mjpeg in avi", "ffv1 with rare key frames in mkv"])
def test_fewer_frames_than_asked_for(name: str, tmp_path: Path) -> None:
    file, codec, pixels, options = VIDEOS[name]
    path = write_video(tmp_path / file, codec, pixels, options, count=5)
    with pytest.raises(ClipError, match=r"has 5 frames, but frame 5 \(counted from 0\)"):
        read_frames(path, [0, 5])


def test_sound_without_pictures(tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as file:
        stream = file.add_stream("pcm_s16le", rate=8000)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        sound.sample_rate = 8000
        file.mux(stream.encode(sound))
    with pytest.raises(ClipError, match="no pictures"):
        read_frames(path, [0])


def every_value(number: int) -> np.ndarray:
    """All 256 grey values, in an order that depends on ``number``: (16, 256)."""
    return np.tile(np.roll(np.arange(256, dtype=np.uint8), number), (16, 1))


def test_lossless_8_bit_depth_keeps_every_value(tmp_path: Path) -> None:
    grey = write_video(tmp_path / "a.mkv", "ffv1", "gray", draw=every_value, layout="gray", count=14)
    colour = write_video(tmp_path / "b.mkv", "ffv1", "bgr0", draw=lambda i: np.dstack([every_value(i)] * 3), count=14)
    for path in (grey, colour):
        depth = read_depth(path, [13, 2])
        assert depth.dtype == np.uint8
        np.testing.assert_array_equal(depth, [every_value(13), every_value(2)])


def test_16_bit_depth_keeps_every_value(tmp_path: Path) -> None:
    def metric(number: int) -> np.ndarray:
        return (np.arange(16 * 256, dtype=np.uint16).reshape(16, 256) * 16 + number).astype(np.uint16)

    video = write_video(tmp_path / "a.mkv", "ffv1", "gray16le", draw=metric, layout="gray16le", count=14)
    images = tmp_path / "images"
    images.mkdir()
    for number in range(14):
        cv2.imwrite(str(images / f"{number:04d}.png"), metric(number))
    arrays = tmp_path / "a.npz"
    np.savez_compressed(arrays, depth=np.stack([metric(number) for number in range(14)]))
    for path in (video, images, arrays):
        assert count_frames(path) == 14
        depth = read_depth(path, [13, 2, 13])
        assert depth.dtype == np.uint16
        np.testing.assert_array_equal(depth, [metric(13), metric(2), metric(13)])


@pytest.mark.parametrize(("codec", "pixels"), [("mpeg4", "yuv420p"), ("mjpeg", "yuvj420p")])
def test_grey_in_lossy_video_keeps_its_range(codec: str, pixels: str, tmp_path: Path) -> None:
    """Limited range (MPEG-4: black is 16) and full range (Motion JPEG) both give 0 for holes and 255 for white."""

    def steps(_: int) -> np.ndarray:
        return np.repeat(np.array([0, 64, 128, 192, 255], np.uint8), 16 * 16 * 3).reshape(5 * 16, 16, 3)

    path = write_video(tmp_path / "a.avi", codec, pixels, {"qscale": "1", "b": "9M"}, draw=steps, count=2)
    (depth,) = read_depth(path, [1])
    values = [np.median(depth[i * 16 + 4 : i * 16 + 12]) for i in range(5)]
    np.testing.assert_allclose(values, [0, 64, 128, 192, 255], atol=2)


def test_depth_in_colour_is_refused(tmp_path: Path) -> None:
    ramp = cv2.applyColorMap(np.tile(np.arange(96, dtype=np.uint8) * 2, (64, 1)), cv2.COLORMAP_JET)
    for name, codec, pixels in (("a.mkv", "ffv1", "bgr0"), ("b.avi", "mpeg4", "yuv420p")):
        write_video(tmp_path / name, codec, pixels, draw=lambda _: ramp, count=1)
        with pytest.raises(ClipError, match="is in colour"):
            read_depth(tmp_path / name, [0])
    (tmp_path / "c").mkdir()
    cv2.imwrite(str(tmp_path / "c" / "1.png"), ramp)
    with pytest.raises(ClipError, match=r"1\.png: is in colour"):
        read_depth(tmp_path / "c", [0])


def test_npz_faults(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"

    def message() -> str:
        with pytest.raises(ClipError) as caught:
            read_depth(path, [0, 3])
        assert str(path) in str(caught.value)
        return str(caught.value)

    np.savez(path, a=np.zeros((4, 2, 2), np.uint8), b=np.zeros(3))
    assert "holds a, b; name the one with depth 'depth'" in message()
    np.savez(path, np.zeros((4, 2, 2), np.float32))
    assert "float32 (4, 2, 2); depth must be uint8 or uint16" in message()
    np.savez(path, np.zeros((2, 2), np.uint8))
    assert "must be uint8 or uint16 of shape (frames, H, W)" in message()
    np.savez(path, np.zeros((3, 2, 2), np.uint8))
    assert "has 3 frames, but frame 3" in message()
    np.savez(path, np.array([{"code": "runs"}], dtype=object))
    assert "not an npz file of plain arrays" in message()
    path.write_bytes(b"PK\x03\x04 cut off")
    assert "not an npz file" in message()


def test_real_isogd_counts_and_depth(shared_data: Path) -> None:
    """M and K are equally long; depth has holes of 0 and is not the luma as stored, which starts at 16."""
    folder = shared_data / "isogd" / "train" / "001"
    holes = 0
    for number in range(1, 11):
        rgb, depth = folder / f"M_{number:05d}.avi", folder / f"K_{number:05d}.avi"
        n = count_frames(rgb)
        assert count_frames(depth) == n
        assert read_frames(rgb, [0, n - 1]).shape == (2, 240, 320, 3)
        raw = read_depth(depth, range(n))
        assert raw.shape == (n, 240, 320)
        holes += np.count_nonzero(raw == 0)
    assert holes > 1000


def test_real_nvgesture(shared_data: Path) -> None:
    folder = shared_data / "nvgesture-clip"
    assert count_frames(folder / "sk_color.avi") == count_frames(folder / "sk_depth.avi") == 20
    raw = read_depth(folder / "sk_depth.avi", range(20))
    assert raw.max() < 230
    assert 0.3 < np.mean(raw == 0) < 0.99


def test_reader_remembers_counts(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.avi", "mpeg4", "yuv420p", count=4)
    reader = FrameReader()
    assert reader.count(path) == 4
    path.unlink()
    assert reader.count(path) == 4
    with pytest.raises(ClipError):
        reader.frames(path, [0])


def photo() -> np.ndarray:
    """A picture (240, 320, 3) with as much in it as a camera's."""
    rng = np.random.default_rng(0)
    coarse = cv2.resize(rng.integers(0, 256, (24, 32, 3), dtype=np.uint8), (320, 240))
    return np.clip(coarse + rng.normal(0, 6, coarse.shape), 0, 255).astype(np.uint8)


def entropy(data: bytes) -> int:
    """Where the header of a JPEG ends."""
    scan = data.index(b"\xff\xda") + 2
    return scan + int.from_bytes(data[scan : scan + 2], "big")


def zeros_in_the_second_half(data: bytes, middle: int) -> bytes:
    return data[:middle] + bytes(len(data) - 2 - middle) + data[-2:]


DAMAGES = {
    "second half zero": zeros_in_the_second_half,
    "hole": lambda data, middle: data[:middle] + bytes(100) + data[middle + 100 :],
    "garbage": lambda data, middle: (
        data[:middle] + np.random.default_rng(1).bytes(512).replace(b"\xff", b"\xfe") + data[middle + 512 :]
    ),
    "cut and ended": lambda data, middle: data[:middle] + b"\xff\xd9",
    "part lost": lambda data, middle: data[:middle] + data[middle + 300 :],
}


@pytest.mark.parametrize("grey", [False, True], ids=["colour", "grey"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_jpeg_damaged_inside_with_its_end_marker(damage: str, grey: bool, tmp_path: Path) -> None:
    path = tmp_path / "1.jpg"
    cv2.imwrite(str(path), photo()[..., 0] if grey else photo())
    whole = path.read_bytes()
    path.write_bytes(DAMAGES[damage](whole, (entropy(whole) + len(whole)) // 2))
    assert path.read_bytes().endswith(b"\xff\xd9")
    with pytest.raises(ClipError, match=r"1\.jpg: truncated or corrupt"):
        (read_depth if grey else read_frames)(tmp_path, [0])


@pytest.mark.parametrize(
    "options",
    [
        [],
        [cv2.IMWRITE_JPEG_QUALITY, 10],
        [cv2.IMWRITE_JPEG_OPTIMIZE, 1],
        [cv2.IMWRITE_JPEG_PROGRESSIVE, 1],
        [cv2.IMWRITE_JPEG_RST_INTERVAL, 7],
        [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444],
    ],
    ids=["plain", "poor", "optimised", "progressive", "restarts", "444"],
)
@pytest.mark.parametrize("shape", [(240, 320, 3), (240, 320), (7, 9, 3), (1, 1)])
@pytest.mark.parametrize("content", ["photo", "black"])
def test_sound_jpegs_are_sound(options: list[int], shape: tuple[int, ...], content: str) -> None:
    picture = np.zeros(shape, np.uint8)
    if content == "photo":
        part = photo()[: shape[0], : shape[1]]
        picture = part if len(shape) == 3 else part[..., 0].copy()
    data = cv2.imencode(".jpg", picture, options)[1].tobytes()
    assert not is_damaged(data)
    assert not is_damaged(data + bytes(200))  # what some card readers leave behind
    # A thumbnail in the header brings tables of its own, and a header may hold zeros.
    thumbnail = cv2.imencode(".jpg", photo()[:16, :16])[1].tobytes()
    block = b"\xff\xe1" + (2 + len(thumbnail) + 300).to_bytes(2, "big") + thumbnail + bytes(300)
    assert not is_damaged(data[:2] + block + data[2:])


def test_damage_in_motion_jpeg(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.avi", "mjpeg", "yuvj420p", count=5, draw=lambda _: photo())
    with av.open(str(path)) as container:
        frames = [bytes(packet) for packet in container.demux(video=0) if packet.size]
    data = path.read_bytes()
    at = data.index(frames[0], data.index(b"movi")) + 2 * len(frames[0])  # amid the second of five equal frames
    path.write_bytes(data[:at] + bytes(200) + data[at + 200 :])
    assert read_frames(path, [0, 3, 4]).shape == (3, 240, 320, 3)
    with pytest.raises(ClipError, match=r"a\.avi: truncated or corrupt"):
        read_frames(path, [1, 2])


def test_a_folder_that_may_not_be_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "iterdir", refuse)
        with pytest.raises(ClipError, match=r"color: cannot be read \(Permission denied\)"):
            count_frames(folder)
    monkeypatch.setattr(Path, "is_dir", refuse)
    with pytest.raises(ClipError, match=r"color: cannot be read \(Permission denied\)"):
        count_frames(folder)


def test_an_image_that_is_a_link_to_nowhere(folder: Path) -> None:
    (folder / "000003.jpg").unlink()
    (folder / "000003.jpg").symlink_to("nowhere.jpg")
    with pytest.raises(ClipError, match=r"000003\.jpg: missing"):
        read_frames(folder, [2])
