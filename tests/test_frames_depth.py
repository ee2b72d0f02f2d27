"""Raw depth as it was stored: 8 and 16 bit, lossless and lossy video, images, npz; and the real sets."""

import ast
import re
import struct
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
from clip_files import save_images
from video_files import write_video

from dynagest.clips.frames import FrameReader
from dynagest.clips.video import iterate_video
from dynagest.errors import CameraError, ClipError
from dynagest.live.sources import open_source


def every_value(number: int) -> np.ndarray:
    """All 256 grey values, in an order that depends on ``number``: (16, 256)."""
    return np.tile(np.roll(np.arange(256, dtype=np.uint8), number), (16, 1))


def test_lossless_8_bit_depth_keeps_every_value(tmp_path: Path) -> None:
    grey = write_video(tmp_path / "a.mkv", "ffv1", "gray", draw=every_value, layout="gray", count=14)
    colour = write_video(tmp_path / "b.mkv", "ffv1", "bgr0", draw=lambda i: np.dstack([every_value(i)] * 3), count=14)
    for path in (grey, colour):
        depth = FrameReader().depth(path, [13, 2])
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
        assert FrameReader().count(path) == 14
        depth = FrameReader().depth(path, [13, 2, 13])
        assert depth.dtype == np.uint16
        np.testing.assert_array_equal(depth, [metric(13), metric(2), metric(13)])


def test_16_bit_grey_is_no_rgb(tmp_path: Path) -> None:
    """OpenCV and FFmpeg would make black pictures of millimetres."""

    def metric(number: int) -> np.ndarray:
        return np.full((16, 16), 400 + number, np.uint16)

    video = write_video(tmp_path / "a.mkv", "ffv1", "gray16le", draw=metric, layout="gray16le", count=2)
    png, tiff = save_images(tmp_path / "png", [metric(0)], ".png"), save_images(tmp_path / "tiff", [metric(0)], ".tiff")
    for path, named in ((video, video), (png, png / "000001.png"), (tiff, tiff / "000001.tiff")):
        with pytest.raises(ClipError, match=re.escape(f"{named}: is 16-bit grey")):
            FrameReader().frames(path, [0])
    with pytest.raises(ClipError, match="is 16-bit grey"):
        next(iterate_video(video))
    source = open_source(str(video))
    source.open()
    with pytest.raises(CameraError, match="is 16-bit grey"):
        source.read()
    source.close()


def test_16_bit_colour_and_8_bit_grey_are_rgb(tmp_path: Path) -> None:
    deep, grey = np.full((8, 8, 3), (0, 0, 65535), np.uint16), np.full((8, 8), 90, np.uint8)
    for suffix in (".png", ".tiff"):
        path = save_images(tmp_path / f"deep{suffix}", [deep], suffix)
        np.testing.assert_array_equal(FrameReader().frames(path, [0])[0, 0, 0], (255, 0, 0))
        path = save_images(tmp_path / f"grey{suffix}", [grey], suffix)
        np.testing.assert_array_equal(FrameReader().frames(path, [0])[0, 0, 0], (90, 90, 90))


@pytest.mark.parametrize(("codec", "pixels"), [("mpeg4", "yuv420p"), ("mjpeg", "yuvj420p")])
def test_grey_in_lossy_video_keeps_its_range(codec: str, pixels: str, tmp_path: Path) -> None:
    """Limited range (MPEG-4: black is 16) and full range (Motion JPEG) both give 0 for holes and 255 for white."""

    def steps(_: int) -> np.ndarray:
        return np.repeat(np.array([0, 64, 128, 192, 255], np.uint8), 16 * 16 * 3).reshape(5 * 16, 16, 3)

    path = write_video(tmp_path / "a.avi", codec, pixels, {"qscale": "1", "b": "9M"}, draw=steps, count=2)
    (depth,) = FrameReader().depth(path, [1])
    values = [np.median(depth[i * 16 + 4 : i * 16 + 12]) for i in range(5)]
    np.testing.assert_allclose(values, [0, 64, 128, 192, 255], atol=2)


def test_depth_in_colour_is_refused(tmp_path: Path) -> None:
    ramp = cv2.applyColorMap(np.tile(np.arange(96, dtype=np.uint8) * 2, (64, 1)), cv2.COLORMAP_JET)
    for name, codec, pixels in (("a.mkv", "ffv1", "bgr0"), ("b.avi", "mpeg4", "yuv420p")):
        write_video(tmp_path / name, codec, pixels, draw=lambda _: ramp, count=1)
        with pytest.raises(ClipError, match="is in colour"):
            FrameReader().depth(tmp_path / name, [0])
    (tmp_path / "c").mkdir()
    cv2.imwrite(str(tmp_path / "c" / "1.png"), ramp)
    with pytest.raises(ClipError, match=r"1\.png: is in colour"):
        FrameReader().depth(tmp_path / "c", [0])


def test_threads_read_the_headers_of_npz_one_after_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two at once made `data check` and the start of a training fail now and then: ast is not safe in threads."""
    path = tmp_path / "a.npz"
    np.savez_compressed(path, depth=np.ones((4, 2, 2), np.uint8))
    inside, most, plain = 0, 0, ast.literal_eval

    def slow(text: str) -> object:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        time.sleep(0.05)
        inside -= 1
        return plain(text)

    monkeypatch.setattr(ast, "literal_eval", slow)
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(FrameReader().count, [path] * 4)) == [4] * 4
    assert most == 1


def test_npz_faults(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"

    def message() -> str:
        with pytest.raises(ClipError) as caught:
            FrameReader().depth(path, [0, 3])
        assert str(path) in str(caught.value)
        return str(caught.value)

    np.savez(path, a=np.zeros((4, 2, 2), np.uint8), b=np.zeros(3))
    assert "holds a, b; name the one with depth 'depth'" in message()
    np.savez(path, np.zeros((4, 2, 2), np.float32))
    assert "float32 (4, 2, 2); depth must be uint8 or uint16" in message()
    np.savez(path, np.zeros((2, 2), np.uint8))
    assert "must be uint8 or uint16 of shape (frames, H, W)" in message()
    np.savez(path, np.zeros((4, 2, 0), np.uint8))
    assert "uint8 (4, 2, 0); depth must be uint8 or uint16 of shape (frames, H, W)" in message()
    np.savez(path, np.zeros((3, 2, 2), np.uint8))
    assert "has 3 frames, but frame 3" in message()
    np.savez(path, np.array([{"code": "runs"}], dtype=object))
    assert "something else than plain arrays" in message()
    path.write_bytes(b"PK\x03\x04 cut off")
    assert "not an npz file, or a truncated one" in message()
    for text in (b"these are words", b"\x80\x04 what a pickle begins with"):
        path.write_bytes(text)
        assert "not an npz file" in message()
        assert "numpy.savez_compressed(path, depth=array)" in message()
        assert "pickle" not in message()
    path.write_bytes(b"")
    assert "empty file" in message()
    with path.open("wb") as file:
        np.save(file, np.zeros((4, 2, 2), np.uint8))  # a single array, as of numpy.save
    assert "not an npz file" in message()
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme", "not an array")
    assert "something else than plain arrays" in message()
    header = b"{'descr': '|u1', 'fortran_order': False, 'shape': (4000000, 4000000, 4), }"
    for text, told in ((header, "does not fit into memory"), (header[:-1], "corrupt npz file")):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("depth.npy", b"\x93NUMPY\1\0" + struct.pack("<H", 117) + text.ljust(117) + bytes(64))
        assert told in message()
    np.savez_compressed(path, np.zeros((4, 50, 50), np.uint8))
    data = bytearray(path.read_bytes())
    data[45:70] = b"\xab" * 25
    path.write_bytes(data)
    assert "corrupt npz file" in message()
    data[6] = 1  # encrypted, it says
    data[data.index(b"PK\x01\x02") + 8] = 1
    path.write_bytes(data)
    assert "corrupt npz file" in message()


def test_real_isogd_counts_and_depth(shared_data: Path) -> None:
    """M and K are equally long; depth has holes of 0 and is not the luma as stored, which starts at 16."""
    folder = shared_data / "isogd" / "train" / "001"
    holes = 0
    for number in range(1, 11):
        rgb, depth = folder / f"M_{number:05d}.avi", folder / f"K_{number:05d}.avi"
        n = FrameReader().count(rgb)
        assert FrameReader().count(depth) == n
        assert FrameReader().frames(rgb, [0, n - 1]).shape == (2, 240, 320, 3)
        raw = FrameReader().depth(depth, range(n))
        assert raw.shape == (n, 240, 320)
        holes += np.count_nonzero(raw == 0)
    assert holes > 1000


def test_real_nvgesture(shared_data: Path) -> None:
    folder = shared_data / "nvgesture-clip"
    assert FrameReader().count(folder / "sk_color.avi") == FrameReader().count(folder / "sk_depth.avi") == 20
    raw = FrameReader().depth(folder / "sk_depth.avi", range(20))
    assert raw.max() < 230
    assert 0.3 < np.mean(raw == 0) < 0.99
