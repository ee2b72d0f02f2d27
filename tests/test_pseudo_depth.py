"""Pseudo-depth: its scale, and the files beside the clips."""

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from teacher_files import luminance, plain
from typer.testing import CliRunner

from dynagest.cli import app
from dynagest.clips.checks.check import check
from dynagest.clips.frames import FrameReader
from dynagest.clips.gesture_folder import refresh_manifest, write_clip
from dynagest.clips.manifest import Clip, Manifest
from dynagest.clips.pseudo_depth import PSEUDO, RECORD_FILE, canonical, write_pseudo_depth
from dynagest.clips.teacher import Teacher
from dynagest.errors import DepthError, RunError

onnx = pytest.importorskip("onnx")


def moving(count: int = 6, size: tuple[int, int] = (48, 64)) -> list[np.ndarray]:
    """A bright square that comes over a dark ramp and grows brighter."""
    frames = []
    for index in range(count):
        frame = np.repeat(np.linspace(10, 90, size[1]).astype(np.uint8)[None, :, None], size[0], 0).repeat(3, 2)
        cv2.rectangle(frame, (4 * index, 10), (4 * index + 20, 34), (120 + 20 * index,) * 3, -1)
        frames.append(frame)
    return frames


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    for label in ("push", "wave"):
        for _ in range(2):
            write_clip(tmp_path / "mine", label, moving(), [index / 10 for index in range(6)])
    return tmp_path / "mine"


def test_one_robust_scale_for_a_clip() -> None:
    rng = np.random.default_rng(0)
    nearness = rng.uniform(3.0, 5.0, (4, 40, 50)).astype(np.float32)
    nearness[1, 0, 0], nearness[2, 0, 0] = 1e6, -1e6
    depth = canonical(nearness)
    assert depth.dtype == np.uint8
    assert (depth[1, 0, 0], depth[2, 0, 0]) == (255, 0)
    middle = np.abs(nearness - 4.0) < 0.01
    assert np.abs(depth[middle].astype(int) - 127).max() <= 4
    assert (canonical(nearness * 7 + 3) == depth).mean() > 0.99, "the scale of the model does not matter"
    with pytest.raises(DepthError, match="same depth everywhere"):
        canonical(np.full((2, 8, 8), 3.0, np.float32))


def test_depth_is_written_beside_the_clips_and_declared(recorded: Path, tmp_path: Path) -> None:
    teacher = plain(luminance(tmp_path / "t.onnx"))
    done = write_pseudo_depth(Manifest.read(recorded), teacher)
    assert (done.written, done.kept, done.failed) == (4, 0, ())
    manifest = Manifest.read(recorded)
    assert manifest.depth == PSEUDO
    text = (recorded / "depth.yaml").read_text()
    assert "Pseudo-depth: relative, not measured" in text
    assert "t.onnx" in text
    clip = manifest.clips[0]
    assert clip.depth == recorded / "push" / "001.depth.npz"
    depth = PSEUDO.canonical(FrameReader().depth(clip.depth, range(6)))
    assert depth.shape == (6, 48, 64)
    assert depth[5, 22, 30] > 0.95, "the square is near"
    assert depth[5, 2, 2] < 0.1
    assert depth[0, 22, 10] < depth[5, 22, 30] - 0.2, "it comes nearer in the course of the clip"
    report = check(manifest)
    assert not report.errors


def test_it_is_gone_on_with_and_other_teachers_are_refused(recorded: Path, tmp_path: Path) -> None:
    teacher = plain(luminance(tmp_path / "t.onnx"))
    write_pseudo_depth(Manifest.read(recorded), teacher)
    (recorded / "wave" / "002.depth.npz").unlink()
    again = write_pseudo_depth(Manifest.read(recorded), teacher)
    assert (again.written, again.kept) == (1, 3)
    other = plain(luminance(tmp_path / "other.onnx", weights=(1, 0, 0)))
    before = (recorded / "wave" / "001.depth.npz").read_bytes()
    with pytest.raises(DepthError, match=r"manifest.csv --teacher \S+other.onnx --overwrite` makes it again"):
        write_pseudo_depth(Manifest.read(recorded), other)
    assert (recorded / "wave" / "001.depth.npz").read_bytes() == before
    assert write_pseudo_depth(Manifest.read(recorded), other, overwrite=True).written == 4
    assert "other.onnx" in (recorded / RECORD_FILE).read_text()


def test_recording_and_indexing_go_on_beside_it(recorded: Path, tmp_path: Path) -> None:
    teacher = plain(luminance(tmp_path / "t.onnx"))
    write_pseudo_depth(Manifest.read(recorded), teacher)
    write_clip(recorded, "tap", moving(), [index / 10 for index in range(6)])
    manifest = refresh_manifest(recorded)
    assert [clip.depth is None for clip in manifest.clips] == [False] * 4 + [True]
    assert write_pseudo_depth(manifest, teacher).written == 1


def test_recording_goes_on_beside_a_pass_that_was_interrupted(recorded: Path, tmp_path: Path) -> None:
    def stop(*_: int) -> None:
        raise KeyboardInterrupt

    teacher = plain(luminance(tmp_path / "t.onnx"))
    with pytest.raises(KeyboardInterrupt):
        write_pseudo_depth(Manifest.read(recorded), teacher, progress=stop)
    assert (recorded / "push" / "001.depth.npz").exists()
    write_clip(recorded, "tap", moving(), [index / 10 for index in range(6)])
    manifest = Manifest.read(recorded)
    assert (len(manifest), manifest.depth) == (5, PSEUDO)
    done = write_pseudo_depth(manifest, teacher)
    assert (done.written, done.kept) == (4, 1)
    assert all(clip.depth for clip in Manifest.read(recorded).clips)


def test_clips_recorded_and_deleted_during_the_pass(recorded: Path, tmp_path: Path) -> None:
    class Busy(Teacher):
        """While it looks at its first clip, that one is deleted, another takes its name, and one is recorded."""

        def nearness(self, frames: np.ndarray) -> np.ndarray:
            if not (recorded / "tap").exists():
                (recorded / "push" / "001.mkv").unlink()
                for label in ("tap", "push"):
                    write_clip(recorded, label, moving(), [index / 10 for index in range(6)])
                (recorded / "push" / "003.mkv").rename(recorded / "push" / "001.mkv")
            return super().nearness(frames)

    done = write_pseudo_depth(Manifest.read(recorded), Busy(luminance(tmp_path / "t.onnx")))
    assert done.written == 3
    assert len(done.failed) == 1
    assert "001.mkv: was changed or deleted while the teacher looked at it" in done.failed[0]
    assert not (recorded / "push" / "001.depth.npz").exists()
    found = {f"{clip.label}/{clip.video.name}": clip.depth is not None for clip in refresh_manifest(recorded).clips}
    assert found == {
        "push/001.mkv": False, "push/002.mkv": True, "wave/001.mkv": True, "wave/002.mkv": True, "tap/001.mkv": False,
    }  # fmt: skip


def test_a_gesture_deleted_during_the_pass_stays_so(recorded: Path, tmp_path: Path) -> None:
    class Busy(Teacher):
        def nearness(self, frames: np.ndarray) -> np.ndarray:
            shutil.rmtree(recorded / "push", ignore_errors=True)
            return super().nearness(frames)

    done = write_pseudo_depth(Manifest.read(recorded), Busy(luminance(tmp_path / "t.onnx")))
    assert (done.written, len(done.failed)) == (2, 2)
    assert not (recorded / "push").exists()
    assert len(refresh_manifest(recorded)) == 2


def test_nothing_is_written_where_all_is_there(recorded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    teacher = plain(luminance(tmp_path / "t.onnx"))
    write_pseudo_depth(Manifest.read(recorded), teacher)

    def refuse(path: Path, *_: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("dynagest.atomic._write_through", refuse)  # as in a folder that cannot be written
    assert write_pseudo_depth(Manifest.read(recorded), teacher).kept == 4
    (recorded / "wave" / "002.depth.npz").unlink()
    with pytest.raises(RunError, match=r"002\.depth\.npz: cannot be written"):
        write_pseudo_depth(Manifest.read(recorded), teacher)


def test_depth_that_cannot_be_replaced_is_a_named_error(
    recorded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_pseudo_depth(Manifest.read(recorded), plain(luminance(tmp_path / "t.onnx")))
    other = plain(luminance(tmp_path / "other.onnx", weights=(1, 0, 0)))

    def refuse(path: Path, *, missing_ok: bool = False) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "unlink", refuse)  # as in a folder that cannot be written
    with pytest.raises(RunError, match=r"\.depth\.npz: cannot be replaced \(Permission denied\)"):
        write_pseudo_depth(Manifest.read(recorded), other, overwrite=True)


def test_two_teachers_at_once(recorded: Path, tmp_path: Path) -> None:
    """The second finds the first one at work on the first clip: no depth is there yet."""
    other = plain(luminance(tmp_path / "other.onnx", weights=(1, 0, 0)))

    class Busy(Teacher):
        def nearness(self, frames: np.ndarray) -> np.ndarray:
            with pytest.raises(DepthError, match=r"the depth here is of t\.onnx"):
                write_pseudo_depth(Manifest.read(recorded), other)
            return super().nearness(frames)

    assert write_pseudo_depth(Manifest.read(recorded), Busy(luminance(tmp_path / "t.onnx"))).written == 4


def test_depth_of_a_sensor_is_left_alone(recorded: Path, tmp_path: Path) -> None:
    np.savez_compressed(recorded / "wave" / "001.depth.npz", depth=np.full((6, 48, 64), 500, np.uint16))
    (recorded / "depth.yaml").write_text("near: dark\nscale_mm: 1\nmin_mm: 200\nmax_mm: 1200\n")
    (recorded / "manifest.csv").unlink()
    manifest = refresh_manifest(recorded)
    with pytest.raises(DepthError, match="1 clips have depth already"):
        write_pseudo_depth(manifest, plain(luminance(tmp_path / "t.onnx")))
    assert manifest.depth is not None
    assert manifest.depth.scale_mm == 1


def test_a_clip_that_cannot_be_read_is_named_and_the_others_get_depth(recorded: Path, tmp_path: Path) -> None:
    broken = recorded / "push" / "002.mkv"
    broken.write_bytes(broken.read_bytes()[:500])
    done = write_pseudo_depth(Manifest.read(recorded), plain(luminance(tmp_path / "t.onnx")))
    assert (done.written, len(done.failed)) == (3, 1)
    assert str(broken) in done.failed[0]
    assert [clip.depth is None for clip in done.manifest.clips] == [False, True, False, False]


def test_folders_of_images_and_ranges_of_a_video(tmp_path: Path) -> None:
    folder = tmp_path / "set" / "images"
    folder.mkdir(parents=True)
    for index, frame in enumerate(moving()):
        cv2.imwrite(str(folder / f"{index:06d}.png"), frame[..., ::-1])
    video = write_clip(tmp_path / "set", "film", moving(), [index / 10 for index in range(6)])
    clips = [Clip(folder, "a"), Clip(video, "b", start=0, end=3), Clip(video, "c", start=3, end=6)]
    manifest = Manifest.of(clips).write(tmp_path / "set" / "list.csv")
    done = write_pseudo_depth(manifest, plain(luminance(tmp_path / "t.onnx")))
    assert done.written == 2
    ranges = [(clip.depth and clip.depth.name, clip.depth_start, clip.depth_end) for clip in done.manifest.clips]
    assert ranges == [("depth.npz", 0, None), ("001.depth.npz", 0, 3), ("001.depth.npz", 3, 6)]
    assert len(FrameReader().depth(folder / "depth.npz", range(6))) == 6


def test_the_command(recorded: Path, tmp_path: Path) -> None:
    teacher = luminance(tmp_path / "t.onnx")
    result = CliRunner().invoke(app, ["data", "depth", str(recorded), "--teacher", str(teacher)])
    assert result.exit_code == 0, result.output
    assert "depth of 4 videos written" in result.stdout
    assert "--set msd=both" in result.stdout


@pytest.mark.slow
def test_decoders_learn_from_it(recorded: Path, tmp_path: Path) -> None:
    CliRunner().invoke(app, ["data", "depth", str(recorded), "--teacher", str(luminance(tmp_path / "t.onnx"))])
    settings = ["msd=both", "epochs=2", "size=32", "width=8", "num_segments=2", "workers=0"]
    flags = [flag for setting in settings for flag in ("--set", setting)]
    result = CliRunner().invoke(
        app, ["train", "webcam", "--data", str(recorded), "--out", str(tmp_path / "run"), *flags]
    )
    assert result.exit_code == 0, result.output
    assert (tmp_path / "run" / "decoders.safetensors").exists()
