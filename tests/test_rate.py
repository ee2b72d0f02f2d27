"""How fast a stream is sampled for a network: by the durations of the clips that it was trained on."""

from dataclasses import dataclass
from pathlib import Path

import cv2
import pytest
from video_files import numbered, write_video

from dynagest.clips.dataset import ClipDataset
from dynagest.clips.frames import frame_rate
from dynagest.clips.manifest import Clip, Manifest
from dynagest.clips.rate import stream_rate
from dynagest.clips.view import View
from dynagest.errors import ClipError
from dynagest.synth.dataset import SynthDataset
from dynagest.synth.spec import get_preset


@dataclass
class Timings:
    """A source that knows nothing but how long its clips last; clips of 0 frames are unreadable."""

    clips: list[tuple[int, float | None]]
    labels: tuple[int, ...] = ()
    classes: tuple[str, ...] = ("wave", "none")

    def __len__(self) -> int:
        return len(self.clips)

    def label(self, index: int) -> int:
        return self.labels[index] if self.labels else 0

    def __getitem__(self, key: tuple[int, int]) -> object:
        raise AssertionError("no clip need be decoded")

    def timing(self, index: int) -> tuple[int, float | None]:
        if not self.clips[index][0]:
            raise ClipError("truncated")
        return self.clips[index]


def test_t_frames_span_the_median_gesture() -> None:
    rate = stream_rate(Timings([(30, 30.0), (60, 30.0), (20, 10.0), (200, 20.0)]), num_segments=8)
    assert rate is not None
    assert rate.fps == pytest.approx(4.0)
    assert rate.origin == "8 frames in 2 s, the median of 4 clips"


def test_dense_sampling_takes_the_frame_rate_over_the_stride() -> None:
    rate = stream_rate(Timings([(30, 30.0), (60, 30.0), (20, 10.0)]), 8, "dense", stride=3)
    assert rate is not None
    assert rate.fps == pytest.approx(10.0)


def test_what_does_not_say_its_rate_is_taken_as_30_with_a_note() -> None:
    rate = stream_rate(Timings([(60, None), (60, None), (20, 10.0)]), 8)
    assert rate is not None
    assert rate.fps == pytest.approx(4.0)
    assert rate.origin.endswith("3 clips; 2 do not state their frame rate, 30 assumed")


def test_background_and_unreadable_clips_do_not_count() -> None:
    rate = stream_rate(Timings([(300, 30.0), (0, None), (60, 30.0), (300, 30.0)], labels=(1, 0, 0, 1)), 8)
    assert rate is not None
    assert rate.fps == pytest.approx(4.0)
    assert stream_rate(Timings([(0, None)]), 8) is None


def test_at_most_64_clips_spread_over_the_source_are_looked_at() -> None:
    asked = []

    class Counting(Timings):
        def timing(self, index: int) -> tuple[int, float | None]:
            asked.append(index)
            return super().timing(index)

    stream_rate(Counting([(30, 30.0)] * 1000), 8)
    assert len(asked) == len(set(asked)) == 64
    assert (min(asked), max(asked)) == (0, 999)


def test_a_source_without_times_gives_no_rate() -> None:
    class Untimed:
        classes = ("a",)

    assert stream_rate(Untimed(), 8) is None  # type: ignore[arg-type]


def test_videos_state_their_rate_and_folders_do_not(tmp_path: Path) -> None:
    write_video(tmp_path / "a.avi", "mjpeg", "yuvj420p", count=12, rate=12)
    write_video(tmp_path / "b.mp4", "mpeg4", "yuv420p", count=20, rate=25)
    assert frame_rate(tmp_path / "a.avi") == pytest.approx(12)
    assert frame_rate(tmp_path / "b.mp4") == pytest.approx(25)
    assert frame_rate(tmp_path) is None
    with pytest.raises(ClipError, match=r"missing\.mp4"):
        frame_rate(tmp_path / "missing.mp4")


def test_of_a_manifest(tmp_path: Path) -> None:
    write_video(tmp_path / "a.avi", "mjpeg", "yuvj420p", count=24, rate=12)
    clips = [Clip(tmp_path / "a.avi", "wave"), Clip(tmp_path / "a.avi", "tap", start=6, end=18)]
    dataset = ClipDataset(Manifest.of(clips), View(depth=False), seed=0)
    assert [dataset.timing(index) for index in range(2)] == [(24, pytest.approx(12)), (12, pytest.approx(12))]
    rate = stream_rate(dataset, 6)
    assert rate is not None
    assert rate.fps == pytest.approx(4.0)


def test_images_are_as_fast_as_the_manifest_says(tmp_path: Path) -> None:
    folder = tmp_path / "34870"
    folder.mkdir()
    for number in range(1, 37):
        cv2.imwrite(str(folder / f"{number:05d}.jpg"), numbered(number))
    for fps, expected in ((12.0, 8 / 3), (None, 8 / (36 / 30))):
        rate = stream_rate(ClipDataset(Manifest.of([Clip(folder, "wave", fps=fps)]), View(depth=False), seed=0), 8)
        assert rate is not None
        assert rate.fps == pytest.approx(expected)


def test_times_that_no_camera_has_give_no_rate_that_a_card_would_refuse() -> None:
    assert stream_rate(Timings([(12, 1_400.0)]), 8) is not None
    assert stream_rate(Timings([(12, 1_600.0)]), 8) is None
    assert stream_rate(Timings([(12, 2_000.0)]), 8, "dense", stride=1) is None


def test_of_generated_clips() -> None:
    rate = stream_rate(SynthDataset(get_preset("demo"), "train", View(depth=False)), 8)
    assert rate is not None
    assert rate.fps == pytest.approx(8.0)


def test_real_clips(shared_data: Path) -> None:
    isogd = sorted((shared_data / "isogd" / "train" / "001").glob("M_*.avi"))[:20]
    assert all(5 < (frame_rate(path) or 0) < 11 for path in isogd)
    assert frame_rate(shared_data / "nvgesture-clip" / "sk_color.avi") == pytest.approx(30)
