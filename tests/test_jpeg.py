"""Damage inside a JPEG is noticed; sound ones are sound."""

from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from video_files import write_video

from dynagest.clips.frames import FrameReader
from dynagest.clips.jpeg import is_damaged
from dynagest.errors import ClipError


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
        (FrameReader().depth if grey else FrameReader().frames)(tmp_path, [0])


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
    assert FrameReader().frames(path, [0, 3, 4]).shape == (3, 240, 320, 3)
    with pytest.raises(ClipError, match=r"a\.avi: truncated or corrupt"):
        FrameReader().frames(path, [1, 2])
