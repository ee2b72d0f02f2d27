"""Generated streams and background clips: reproducible, disjoint splits, truth where the hand is."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError

import dynagest.synth.stream as stream_module
from dynagest.card import BACKGROUND
from dynagest.clips.manifest import Manifest
from dynagest.clips.streams import StreamSet
from dynagest.clips.view import View
from dynagest.errors import RunError
from dynagest.lock import sole_writer
from dynagest.synth.dataset import SynthDataset
from dynagest.synth.film import camera_of
from dynagest.synth.gestures import SHAPES
from dynagest.synth.idle import MOVEMENTS, Phrase, Track, draw_background, draw_loose, draw_movement, draw_pause
from dynagest.synth.motion import COLUMNS, X, Y, pose_at
from dynagest.synth.recording import label_of, plan, record, subject_of
from dynagest.synth.sheet import sheet
from dynagest.synth.spec import PRESETS, PerSplit, SynthSpec
from dynagest.synth.stream import (
    StreamCounts,
    StreamSpec,
    draw_performance,
    film_stream,
    plan_stream,
    read_stream_spec,
    write_streams,
)
from dynagest.synth.write import write_synth

CLIPS = SynthSpec(
    size=32,
    num_frames=6,
    classes=("swipe_left", "grab", "show_two"),
    clips_per_class=PerSplit(train=2, val=1, test=1),
    subjects=PerSplit(train=3, val=2, test=2),
    scenes=PerSplit(train=3, val=2, test=2),
)
STREAMS = StreamSpec(clips=CLIPS, streams=StreamCounts(train=0, val=1, test=2), minutes=0.2, fps=10)
LONG = STREAMS.model_copy(update={"minutes": 5.0, "repeats": 0.25})


def test_gestures_follow_each_other_with_pauses_and_fill_the_stream():
    rng = np.random.default_rng(0)
    _, spans = draw_performance(LONG, subject_of(CLIPS, 1), rng)
    assert spans[0].begin > 0.8
    assert 0 < 300 - spans[-1].end < 20
    gaps = [b.begin - a.end for a, b in pairwise(spans)]
    assert min(gaps) >= 0.12
    lengths = [span.end - span.begin for span in spans]
    assert min(lengths) >= 0.8 * CLIPS.seconds - 1e-9
    assert max(lengths) <= 1.2 * CLIPS.seconds + 1e-9
    assert max(lengths) - min(lengths) > 0.2 * CLIPS.seconds


def test_some_gestures_are_made_twice_in_a_row_and_all_classes_come_up():
    _, spans = draw_performance(LONG, subject_of(CLIPS, 1), np.random.default_rng(1))
    labels = [span.label for span in spans]
    assert set(labels) == set(CLIPS.classes)
    at_once = [a.label == b.label and b.begin - a.end < 0.8 for a, b in pairwise(spans)]
    assert 0.12 < np.mean(at_once) < 0.45
    none = LONG.model_copy(update={"repeats": 0.0})
    _, spans = draw_performance(none, subject_of(CLIPS, 1), np.random.default_rng(1))
    counts = np.unique([span.label for span in spans], return_counts=True)[1]
    assert counts.max() - counts.min() <= 1


def test_within_its_span_the_hand_makes_the_gesture():
    """The stroke of a swipe to the left goes to the image's left, by about as far as the keyframes say."""
    spec = LONG.model_copy(update={"clips": CLIPS.model_copy(update={"classes": ("swipe_left",)}), "minutes": 1.0})
    motion, spans = draw_performance(spec, subject_of(CLIPS, 1), np.random.default_rng(2))
    for span in spans:
        times = np.linspace(span.begin, span.end, 50) / CLIPS.seconds
        x = motion.sample(times)[:, X]
        assert -300 < x[40] - x[10] < -80


def test_a_stream_is_the_same_bit_for_bit_and_another_index_another():
    take, spans = plan_stream(STREAMS, "test", 0)
    again, same = plan_stream(STREAMS, "test", 0)
    assert spans == same
    frames = np.array([0, 50, 119])
    assert torch.equal(record(CLIPS, take, frames).rgb, record(CLIPS, again, frames).rgb)
    other, _ = plan_stream(STREAMS, "test", 1)
    assert not torch.equal(record(CLIPS, take, frames).rgb, record(CLIPS, other, frames).rgb)
    assert take.subject.name != other.subject.name


def test_frames_are_taken_when_the_list_of_gestures_says():
    """The unit of a take is the length of a clip, so that everything moves as fast as in clips."""
    spec = STREAMS.model_copy(update={"fps": 20.0})
    take, _ = plan_stream(spec, "val", 0)
    assert (take.times[:2] * CLIPS.seconds).tolist() == pytest.approx([0.025, 0.075])
    assert take.times[-1] * CLIPS.seconds == pytest.approx(12 - 0.025)
    assert take.rate * np.diff(take.times) == pytest.approx(1.0)


def test_movements_that_are_no_gestures_come_in_the_pauses(monkeypatch: pytest.MonkeyPatch):
    """One in each pause, or none at all."""
    drawn: list[Phrase] = []

    def draw(rng: np.random.Generator) -> Phrase:
        drawn.append(draw_movement(rng))
        return drawn[-1]

    monkeypatch.setattr(stream_module, "draw_movement", draw)
    for share in (0.0, 1.0):
        spec = LONG.model_copy(update={"movements": share, "repeats": 0.0})
        motion, spans = draw_performance(spec, subject_of(CLIPS, 1), np.random.default_rng(0))
        assert len(drawn) == share * (len(spans) + 1), "the last gesture is taken back where the stream ends"
    assert all((motion.keys == phrase.keys[0]).all(1).any() for phrase in drawn)


def test_chunks_are_the_frames_of_the_whole():
    take, _ = plan_stream(STREAMS, "val", 0)
    whole = record(CLIPS, take).rgb.permute(0, 2, 3, 1).numpy()
    frames = list(film_stream(STREAMS, take))
    assert len(frames) == STREAMS.num_frames == 120
    assert np.abs(np.stack(frames).astype(int) - whole.astype(int)).max() <= 1


def test_subjects_of_streams_are_those_of_their_split():
    for split, known in (("train", {1, 2, 3}), ("val", {4, 5}), ("test", {6, 7})):
        found = {int(plan_stream(STREAMS, split, index)[0].subject.name[1:]) for index in range(6)}
        assert found == known


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("streams") / "one"
    write_streams(folder, STREAMS, workers=1)
    return folder


def test_files_are_the_same_for_any_number_of_workers(written: Path, tmp_path: Path):
    write_streams(tmp_path / "two", STREAMS, workers=2)
    assert files(written) == files(tmp_path / "two")


def test_what_is_written_reads_back(written: Path):
    found = StreamSet.read(written)
    assert found.classes == CLIPS.classes
    assert [len(found.split(split)) for split in ("train", "val", "test")] == [0, 1, 2]
    stream = found.split("val").streams[0]
    take, spans = plan_stream(STREAMS, "val", 0)
    assert stream.subject == take.subject.name
    assert [(s.label, round(s.begin, 4), round(s.end, 4)) for s in spans] == [
        (s.label, s.begin, s.end) for s in stream.spans
    ]
    frames = list(stream.frames())
    assert [round(time, 4) for _, time in frames] == [round(i / 10, 4) for i in range(120)]
    expected = record(CLIPS, take, np.array([60])).rgb[0].permute(1, 2, 0).numpy()
    assert np.abs(frames[60][0].astype(int) - expected.astype(int)).mean() < 6  # JPEG
    assert read_stream_spec(written) == STREAMS


def test_an_interrupted_set_is_completed_and_another_refused(written: Path, tmp_path: Path):
    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_streams(tmp_path / "s", STREAMS, workers=1, progress=interrupt)
    assert not (tmp_path / "s" / "streams.csv").exists()
    assert len(list((tmp_path / "s").rglob("*.avi"))) == 1
    write_streams(tmp_path / "s", STREAMS, workers=1)
    assert files(tmp_path / "s") == files(written)
    with pytest.raises(RunError, match="another spec"):
        write_streams(tmp_path / "s", STREAMS.model_copy(update={"fps": 12.0}), workers=1)


def test_a_folder_that_another_process_renders_into_is_left_alone(tmp_path: Path):
    folder = tmp_path / "set"
    with sole_writer(folder):
        (folder / "streams.json").write_text(STREAMS.model_dump_json())
        with pytest.raises(RunError, match=f"{folder}: another process is writing there"):
            write_streams(folder, STREAMS, workers=1)
    assert not list(folder.rglob("*.avi"))


def test_a_worker_that_is_to_end_leaves_its_stream_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    answers = iter([False] * 30 + [True] * 1000)
    monkeypatch.setattr(stream_module, "stopping", lambda: next(answers))
    (tmp_path / "val").mkdir()
    stream_module._write_stream(tmp_path, STREAMS, ("val", 0))
    assert list((tmp_path / "val").iterdir()) == []


def test_a_set_without_streams_is_no_set():
    with pytest.raises(ValidationError, match="at least one split"):
        StreamSpec(streams=StreamCounts(train=0, val=0, test=0))


@pytest.mark.parametrize("movement", MOVEMENTS, ids=lambda one: one.__name__.strip("_"))
def test_movements_are_short_and_within_reach(movement):
    for seed in range(30):
        phrase = movement(np.random.default_rng(seed))
        assert phrase.keys.shape == (len(phrase.times), COLUMNS)
        assert phrase.times[0] == 0
        assert (np.diff(phrase.times) > 0).all()
        assert 0.5 < phrase.times[-1] < 4
        assert np.abs(phrase.keys[:, X]).max() < 260
        assert np.ptp(phrase.keys, axis=0).max() > 5  # something moves


def test_no_movement_shows_the_hand_shape_of_a_gesture():
    for name in ("two", "three", "thumb", "fist"):
        angles = np.asarray(SHAPES[name]).reshape(-1)
        for seed in range(200):
            phrase = draw_movement(np.random.default_rng(seed))
            assert np.abs(phrase.keys[:, :20] - angles).max(axis=1).min() > 8


def test_a_hand_that_is_away_is_out_of_the_image():
    rng = np.random.default_rng(0)
    spec = SynthSpec(size=64)
    seen = 0
    for index in range(12):
        take = plan(spec, "train", index)
        while (phrase := draw_pause(rng, 2.0)).keys[0, Y] < 300:
            pass
        track = Track()
        track.add(phrase)
        motion = track.motion(take.subject, rng, style=0.0, start=0.0, unit=1.0)
        pose = pose_at(motion, np.array([0.5]), take.subject, take.events.stage)
        tips = pose.wrist - 200.0 * take.subject.scale * pose.rotation[:, :, 1]
        seen += int(camera_of(spec).project(tips)[0, 1] < spec.size)
    assert seen == 0


def test_a_track_leaves_time_for_the_way():
    near, far = np.zeros((2, COLUMNS)), np.zeros((2, COLUMNS))
    far[:, Y] = 300.0
    track = Track()
    assert track.add(Phrase(np.array((0.0, 1.0)), near)) == 0.0
    assert track.add(Phrase(np.array((0.0, 1.0)), far)) == pytest.approx(1.0 + 300 / 750)
    assert track.add(Phrase(np.array((0.0, 1.0)), far), pause=2.0) == pytest.approx(4.4)
    assert track.end == pytest.approx(5.4)


def test_the_demo_set_is_described_and_drawn_as_before_there_were_streams():
    """The README's figure rests on these clips; folders and runs are recognised by these words."""
    demo = PRESETS["demo"]
    assert "background" not in demo.model_dump_json()
    assert "slack" not in repr(demo)
    assert demo.labels == demo.classes
    assert demo.length("train") == 18 * 72
    take = plan(demo, "train", 777)
    assert take.label == demo.classes[777 % 18]
    # Drawn by NumPy alone, so the same on every machine.
    assert take.motion.keys.sum() == pytest.approx(732.7163113900829, abs=1e-6)
    assert int(take.noise.offsets.sum()) == 36_243_631_919


WITH_NONE = CLIPS.model_copy(update={"background": 2, "slack": 0.3})


def test_background_clips_are_a_class_of_their_own_behind_the_gestures():
    assert WITH_NONE.labels == ("swipe_left", "grab", "show_two", BACKGROUND)
    assert WITH_NONE.length("train") == 2 * 5
    labels = [label_of(WITH_NONE, index) for index in range(10)]
    assert labels == [0, 1, 2, 3, 3, 0, 1, 2, 3, 3]
    assert plan(WITH_NONE, "train", 3).label == BACKGROUND
    assert SynthSpec.model_validate_json(WITH_NONE.model_dump_json()) == WITH_NONE
    dataset = SynthDataset(WITH_NONE, "train", View(num_segments=3, size=24))
    assert dataset.classes == WITH_NONE.labels
    sample = dataset[(0, 4)]
    assert sample["label"] == 3
    assert not torch.equal(sample["rgb"], dataset[(0, 3)]["rgb"])


def test_background_clips_on_disk(tmp_path: Path):
    manifest = Manifest.read(write_synth(tmp_path / "s", WITH_NONE, workers=1))
    assert manifest.classes == WITH_NONE.labels
    assert sum(clip.label == BACKGROUND for clip in manifest.split("train").clips) == 4
    assert len(list((tmp_path / "s" / "train" / BACKGROUND).glob("*.avi"))) == 4
    assert sheet(WITH_NONE, frames=2).shape[0] == 3 * (14 + 32 + 32)  # 5 strips in two columns


def test_no_background_clip_holds_a_stroke():
    """The wrist of a swipe goes from +100 to -100 mm at one height; nothing in pauses between swipes does."""
    spec = CLIPS.model_copy(update={"classes": ("swipe_left",), "background": 1})
    subject = subject_of(spec, 1)
    for seed in range(100):
        motion = draw_background(spec, subject, np.random.default_rng(seed))
        inside = motion.sample(np.linspace(0, 1, 40))
        strokes = (inside[:-8, X] - inside[8:, X] > 150) & (np.abs(inside[:-8, Y] - inside[8:, Y]) < 20)
        assert not strokes.any()


def test_slack_moves_the_gesture_in_its_clip():
    """Of a swipe the middle of the stroke, x = 0, lies at about 0.5 +- the slack."""
    subject = subject_of(WITH_NONE, 1)
    middles = []
    for seed in range(60):
        motion = draw_loose(WITH_NONE, "swipe_left", subject, np.random.default_rng(seed))
        times = np.linspace(-0.5, 1.5, 400)
        x = motion.sample(times)[:, X]
        steepest = int(np.argmin(x[40:] - x[:-40]))
        middles.append(times[steepest + 20])
    assert 0.12 < np.std(middles) < 0.25
    assert abs(np.mean(middles) - 0.5) < 0.12
