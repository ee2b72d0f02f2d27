"""Folders of numbered images: index i gives the i-th number, and every fault is told with its file."""

import struct
from pathlib import Path

import cv2
import pytest
from video_files import number_of, numbered

from dynagest.clips.frames import FrameReader
from dynagest.errors import ClipError


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
    assert FrameReader().count(folder) == 10
    frames = FrameReader().frames(folder, [9, 0, 4, 4])
    assert [number_of(frame) for frame in frames] == [9, 0, 4, 4]


@pytest.mark.parametrize(
    "names", ["{:d}.png", "img_{:05d}.png", "1CM1_4_R_#229_{:06d}.png", "take2_{:03d}_color.png", "{:02d}.PNG"]
)
def test_naming_of_images(names: str, tmp_path: Path) -> None:
    for number in range(3, 15):
        _, data = cv2.imencode(".png", numbered(number))
        (tmp_path / names.format(number)).write_bytes(data.tobytes())
    assert FrameReader().count(tmp_path) == 12
    assert [number_of(frame) for frame in FrameReader().frames(tmp_path, range(12))] == list(range(3, 15))


def test_missing_number_is_named_and_shifts_nothing(folder: Path) -> None:
    (folder / "000004.jpg").unlink()
    assert FrameReader().count(folder) == 10
    assert [number_of(frame) for frame in FrameReader().frames(folder, [2, 4])] == [2, 4]
    with pytest.raises(ClipError, match=r"000004\.jpg: missing"):
        FrameReader().frames(folder, [2, 3, 4])


def test_images_named_by_the_clock_are_refused_instead_of_counting_every_tick(folder: Path) -> None:
    (folder / "2000000.jpg").write_bytes((folder / "000004.jpg").read_bytes())
    with pytest.raises(ClipError, match=r"its images are numbered from 1 to 2000000, .*: number them 1, 2, 3, \.\.\."):
        FrameReader().count(folder)


def test_corrupt_image_is_named_and_spoils_no_other(folder: Path) -> None:
    path = folder / "000006.jpg"
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(ClipError, match=r"000006\.jpg: truncated or corrupt"):
        FrameReader().frames(folder, range(10))
    assert [number_of(frame) for frame in FrameReader().frames(folder, [4, 6])] == [4, 6]
    path.write_bytes(b"")
    with pytest.raises(ClipError, match=r"000006\.jpg: empty file"):
        FrameReader().frames(folder, [5])


def test_an_image_that_claims_to_be_enormous(tmp_path: Path) -> None:
    """A few flipped bits are enough in a BMP, which has no check sum."""
    cv2.imwrite(str(tmp_path / "1.bmp"), numbered(0))
    data = bytearray((tmp_path / "1.bmp").read_bytes())
    data[18:26] = struct.pack("<ii", 1 << 20, 1 << 20)  # width and height
    (tmp_path / "1.bmp").write_bytes(data)
    with pytest.raises(ClipError, match=r"1\.bmp: truncated or corrupt"):
        FrameReader().frames(tmp_path, [0])


def test_folder_faults(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ClipError, match=r"has 10 frames, but frame 10 .* 000011\.jpg"):
        FrameReader().frames(folder, [10])
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(ClipError, match=r"empty: holds no numbered images"):
        FrameReader().count(empty)
    cv2.imwrite(str(empty / "cover.png"), numbered(0))
    with pytest.raises(ClipError, match=r"cover\.png has no frame number"):
        FrameReader().count(empty)
    cv2.imwrite(str(folder / "000011.png"), numbered(0))
    with pytest.raises(ClipError, match=r"000001\.jpg and 000011\.png are named differently"):
        FrameReader().count(folder)


def test_images_of_different_sizes(folder: Path) -> None:
    cv2.imwrite(str(folder / "000002.jpg"), numbered(1)[::2])
    with pytest.raises(ClipError, match=r"color: its frames differ in size: 96x32, 96x64"):
        FrameReader().frames(folder, [0, 1])


def test_a_folder_that_may_not_be_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "iterdir", refuse)
        with pytest.raises(ClipError, match=r"color: cannot be read \(Permission denied\)"):
            FrameReader().count(folder)
    monkeypatch.setattr(Path, "is_dir", refuse)
    with pytest.raises(ClipError, match=r"color: cannot be read \(Permission denied\)"):
        FrameReader().count(folder)


def test_an_image_that_is_a_link_to_nowhere(folder: Path) -> None:
    (folder / "000003.jpg").unlink()
    (folder / "000003.jpg").symlink_to("nowhere.jpg")
    with pytest.raises(ClipError, match=r"000003\.jpg: missing"):
        FrameReader().frames(folder, [2])
