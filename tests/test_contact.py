"""The picture that ``data check --sheet`` draws."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from clip_files import depth_frames, make_clip, make_manifest, rgb_frames, save_video

from dynagest.clips import captions
from dynagest.clips.captions import caption, letters_without_font
from dynagest.clips.checks.contact import _name, contact_sheet
from dynagest.clips.manifest import Clip, Manifest
from dynagest.clips.splits import SPLITS
from dynagest.errors import ManifestError, RunError


def test_contact_sheet_shows_every_kind_of_clip(tmp_path: Path) -> None:
    clips = [
        make_clip(tmp_path, "depth", "a"),
        Clip(save_video(tmp_path / "plain.avi", rgb_frames(12)), "b", split="test"),
        Clip(tmp_path / "missing.avi", "b"),
    ]
    path = contact_sheet(make_manifest(*clips), tmp_path / "sheets" / "sheet.png", rows=8)
    sheet = cv2.imread(str(path))
    assert sheet.shape == (22 + 3 * (120 + 22), 9 * 160 + 2 * 6, 3)
    for left in (0, 486, 972):  # each block has its title
        assert (sheet[:22, left : left + 480] < 128).any()
    row = sheet[44:164]
    rgb, depth, overlay = row[:, :480], row[:, 486:966], row[:, 972:]
    grey = depth.astype(int)
    assert np.ptp(grey, axis=2).max() == 0
    # Canonical: the hand at 200 of 255 is lighter than the wall at 60.
    assert {60, 200} <= set(np.unique(grey))
    cyan = (overlay == (255, 255, 0)).all(axis=2)
    assert 50 < cyan.sum() < 0.2 * cyan.size
    assert not (rgb == (255, 255, 0)).all(axis=2).any()


@pytest.mark.parametrize("fault", ["damaged", "too short"])
def test_a_fault_of_the_depth_does_not_hide_the_rgb(fault: str, tmp_path: Path) -> None:
    clip = make_clip(tmp_path, "one", "a")
    blank = replace(clip, depth=None)
    if fault == "damaged":
        clip.depth.write_bytes(b"no video")
    else:  # by more frames than training takes for the same clip
        save_video(clip.depth, depth_frames(6))
    bad, without = (
        cv2.imread(str(contact_sheet(make_manifest(each), tmp_path / "sheet.png"))) for each in (clip, blank)
    )
    assert (bad[44:, :480] == without[44:, :480]).all()
    assert np.median(bad[44:, 486:966]) == 40  # the ground of a sign, not the wall
    red = (0, 0, 200)
    assert (bad[22:44] == red).all(axis=2).any()
    assert not (without[22:44] == red).all(axis=2).any()


def test_a_sheet_of_many_clips_sorts_them_into_splits_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clips = [Clip(tmp_path / f"{number}.avi", "a", split=SPLITS[number % 2]) for number in range(50)]
    split, asked = Manifest.split, Counter[str]()

    def counted(manifest: Manifest, name: str) -> Manifest:
        asked[name] += 1
        return split(manifest, name)

    monkeypatch.setattr(Manifest, "split", counted)
    contact_sheet(Manifest.of(clips), tmp_path / "sheet.png", rows=2)
    assert asked == dict.fromkeys(SPLITS, 1)


def test_contact_sheet_takes_many_classes_and_splits(tmp_path: Path) -> None:
    video = save_video(tmp_path / "a.avi", rgb_frames(30))
    clips = [
        Clip(video, label, start=k, end=k + 9, split=s) for k, label in enumerate("aaaab") for s in ("train", "val")
    ]
    manifest = make_manifest(*clips, depth=None)
    one, same, other = (
        contact_sheet(manifest, tmp_path / f"{k}.png", rows=4, seed=seed).read_bytes()
        for k, seed in enumerate((0, 0, 1))
    )
    assert one == same
    assert one != other
    with pytest.raises(ManifestError, match="no clip to show"):
        contact_sheet(make_manifest(), tmp_path / "none.png")


def test_the_sheet_is_a_png_whatever_it_is_called(tmp_path: Path) -> None:
    manifest = make_manifest(Clip(save_video(tmp_path / "a.avi", rgb_frames(12)), "a"), depth=None)
    path = contact_sheet(manifest, tmp_path / "new" / "s.foo")
    assert path.read_bytes() == contact_sheet(manifest, tmp_path / "s.png").read_bytes()
    assert cv2.imread(str(path)).shape == (22 + 120 + 22, 9 * 160 + 2 * 6, 3)
    with pytest.raises(RunError, match="is a folder"):
        contact_sheet(manifest, tmp_path)


def test_a_sheet_replaces_a_sheet_and_nothing_else(tmp_path: Path) -> None:
    manifest = make_manifest(make_clip(tmp_path, "one", "a")).write(tmp_path / "manifest.csv")
    listed = (tmp_path / "manifest.csv").read_bytes()
    with pytest.raises(RunError, match=r"manifest\.csv: holds something else than a picture, which would be lost"):
        contact_sheet(manifest, tmp_path / "manifest.csv")
    assert (tmp_path / "manifest.csv").read_bytes() == listed
    sheet = contact_sheet(manifest, tmp_path / "sheet.png").read_bytes()
    assert contact_sheet(manifest, tmp_path / "sheet.png", seed=1).read_bytes() == sheet


def test_captions_are_readable_in_other_scripts() -> None:
    """A question mark or a box for each letter would make both words the same picture."""
    for one, other in (("größer", "gräßer"), ("Взмах", "Нажат"), ("χέρι", "ώρας")):
        pictures = [caption(word, 200, 22) for word in (one, other, "?" * len(one))]
        assert [picture.shape for picture in pictures] == [(22, 200, 3)] * 3
        assert len({picture.tobytes() for picture in pictures}) == 3
    assert (caption("$x_1$ 100 %", 200, 22) < 128).any()
    red = caption("alarm", 200, 22, (200, 0, 0))
    assert (red.reshape(-1, 3).min(axis=0) == (200, 0, 0)).all()


@pytest.mark.filterwarnings("error")
def test_a_letter_that_no_font_has_is_a_box_and_no_warning() -> None:
    assert (caption("\U0001343d", 200, 22) < 128).any()


def test_letters_that_no_font_has_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(captions, "_families", lambda: ["DejaVu Sans"])
    assert letters_without_font(("größer", "Взмах 1", "χέρι")) == ""
    told = letters_without_font(("挥手", "wave", "手势"))
    assert told.startswith("no font of this machine has 挥, 手, 势: they are boxes")


def test_clips_are_called_by_what_tells_them_apart(tmp_path: Path) -> None:
    manifest = replace(make_manifest(), path=tmp_path / "manifest.csv")
    wave = tmp_path / "train" / "wave"
    assert _name(Clip(wave / "ben_01" / "color", "wave"), manifest) == "train/wave/ben_01"
    assert _name(Clip(wave / "anna.mp4", "wave"), manifest) == "train/wave/anna.mp4"
    elsewhere = Clip(Path("/data/images/Subject01/Scene1/Color/rgb1"), "wave")
    assert _name(elsewhere, manifest) == "Scene1/Color/rgb1"
    assert _name(elsewhere, replace(manifest, path=None)) == "Scene1/Color/rgb1"
