"""Tuning the event detector, and the commands that generate, tune and test on streams."""

import json
import re
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from event_vectors import bumps
from export_helpers import export_colours
from typer.testing import CliRunner

from dynagest.card import NetworkCard
from dynagest.cli import app
from dynagest.clips.streams import Span, Stream, StreamSet
from dynagest.errors import ClipError, ManifestError, RecipeError, RunError
from dynagest.stream.events import Event, EventSettings, EventsFile
from dynagest.stream.load import load_recogniser
from dynagest.stream.metrics import Recording, match, summarise
from dynagest.stream.scored import ScoredStream, detect, score_streams
from dynagest.stream.scores import Scores
from dynagest.stream.tune import OBJECTIVES, RANGES, draw, middle, objective_value, tune
from dynagest.synth.spec import PRESETS
from dynagest.synth.stream import read_stream_spec
from dynagest.testing.report import write_report
from dynagest.testing.stream_evaluation import StreamEvaluation
from dynagest.testing.timeline import LEFT, RIGHT, WIDTH, timeline

CLASSES = ("left", "right", "none")


def scored(seed: int, lag: float = 0.8, height: float = 0.5) -> ScoredStream:
    """A stream of ten gestures whose scores are low, late and noisy: not what the defaults are made for."""
    rng = np.random.default_rng(seed)
    begins = np.arange(10) * 3.0 + rng.uniform(0.5, 1.0, 10)
    truth = tuple(
        Span(CLASSES[int(k)], b, b + 1.0) for b, k in zip(begins.tolist(), rng.integers(0, 2, 10), strict=True)
    )
    plan = [(span.label, span.begin + lag, span.end + lag, height) for span in truth]
    rows = bumps(CLASSES, plan, np.arange(0, 32, 0.1), noise=0.05, rng=rng)
    times, values = zip(*rows, strict=True)
    return ScoredStream(f"s{seed}", 32.0, truth, np.array(times), np.array(values))


def test_tuning_finds_what_the_scores_need_and_holds_on_other_streams():
    found = tune([scored(1), scored(2)], CLASSES, candidates=60)
    assert found.value_after > found.value_before + 0.3
    assert found.after.levenshtein > 0.9
    assert found.settings.threshold < 0.55
    assert 0.5 < found.settings.lag < 1.1
    fresh = [detect(scored(7), CLASSES, settings) for settings in (EventSettings(), found.settings)]
    before, after = (summarise([one]) for one in fresh)
    assert after.levenshtein > max(before.levenshtein, 0.8)
    assert after.mean_jaccard > before.mean_jaccard


def test_the_same_seed_gives_the_same_settings_and_none_worse_than_at_the_start():
    streams = [scored(1)]
    one, same = (tune(streams, CLASSES, candidates=10, seed=3) for _ in range(2))
    assert one == same
    good = tune(streams, CLASSES, candidates=40).settings
    again = tune(streams, CLASSES, start=good, candidates=0)
    assert again.value_after >= again.value_before
    for name, (low, high) in RANGES.items():
        value = getattr(one.settings, name) / (one.settings.threshold if name == "dip" else 1)
        assert low - 1e-3 <= value <= high + 1e-2


def test_the_middle_is_that_of_each_parameter_and_no_setting_that_came_first_by_chance():
    """Medians of three; those of dip / threshold are 0.5, 1 and 0.25."""
    lows, highs = EventSettings(smoothing=0, threshold=0.4, dip=0.2, lag=0.1), EventSettings(threshold=0.8, dip=0.8)
    found = middle([lows, highs, EventSettings(smoothing=0.3, threshold=0.6, dip=0.15, cooldown=1, lag=0.9)])
    assert found == EventSettings(smoothing=0.15, threshold=0.6, dip=0.3, cooldown=0.6, longest=4, lag=0.4)


def test_of_a_hundred_settings_the_middle_of_the_best_five_is_taken_unless_the_start_is_better():
    streams = [scored(1)]

    def value(settings: EventSettings) -> float:
        return objective_value(summarise([detect(one, CLASSES, settings) for one in streams]), "balanced")

    rng = np.random.default_rng(0)
    drawn = [draw(rng) for _ in range(99)]
    ranked = sorted([EventSettings(), *drawn], key=value, reverse=True)
    found = tune(streams, CLASSES, candidates=99)
    assert found.settings == middle(ranked[:5])
    assert (found.tried, found.value_after) == (100, pytest.approx(value(found.settings)))
    best = max((draw(rng) for _ in range(200)), key=value)
    ranked = sorted([best, *drawn], key=value, reverse=True)
    assert value(best) > value(middle(ranked[:5]))
    assert tune(streams, CLASSES, candidates=99, start=best).settings == best


def test_the_objective_by_hand():
    """Half of 0.5 and of 0.3, less 0.05 for each of the 0.8 s of delay."""
    summary = summarise([detect(scored(1), CLASSES, EventSettings())])
    summary = replace(summary, levenshtein=0.5, mean_jaccard=0.3, delay_from_begin=0.8)
    assert objective_value(summary, "balanced") == pytest.approx(0.4 - 0.04)
    assert objective_value(summary, "levenshtein") == pytest.approx(0.5 - 0.04)
    assert objective_value(replace(summary, delay_from_begin=None), "jaccard") == pytest.approx(0.3)


def test_what_cannot_be_tuned_is_refused():
    with pytest.raises(RecipeError, match="balanced, levenshtein, jaccard"):
        tune([scored(1)], CLASSES, objective="accuracy")
    empty = ScoredStream("s", 10.0, (), np.array([0.0]), np.array([[0.0, 0.0, 1.0]]))
    with pytest.raises(ManifestError, match="hold no gesture"):
        tune([empty], CLASSES)


class Brightness:
    """A scorer whose scores are the mean brightness of a frame."""

    card = NetworkCard(model="stand-in", classes=CLASSES)
    resets = 0

    def push(self, frame: np.ndarray, time: float) -> list[Scores]:
        value = float(frame.mean()) / 255
        return [Scores(time, np.array((value, 0.0, 1 - value)))]

    def finish(self) -> list[Scores]:
        self.reset()
        return []

    def reset(self) -> None:
        self.resets += 1


def images(folder: Path, values: list[int]) -> Path:
    folder.mkdir()
    for index, value in enumerate(values):
        cv2.imwrite(str(folder / f"{index:04d}.png"), np.full((8, 8, 3), value, np.uint8))
    return folder


def test_streams_are_scored_from_end_to_end(tmp_path: Path):
    video = images(tmp_path / "a", [0, 0, 255, 255, 0])
    streams = StreamSet((Stream(video, (Span("left", 0.2, 0.4),), 10.0, "val"),), ("left",), tmp_path / "streams.csv")
    scorer = Brightness()
    (one,) = score_streams(scorer, streams, "val")
    assert (one.name, one.seconds) == ("a", pytest.approx(0.5))
    assert one.times.tolist() == pytest.approx([0, 0.1, 0.2, 0.3, 0.4])
    assert one.scores[:, 0].tolist() == [0, 0, 1, 1, 0]
    assert scorer.resets == 2
    sharp = EventSettings(smoothing=0, cooldown=0, lag=0)
    (event,) = detect(one, CLASSES, sharp).found
    assert (event.label, event.fired) == ("left", pytest.approx(0.2))


def test_streams_that_do_not_fit_the_network_are_refused(tmp_path: Path):
    video = images(tmp_path / "a", [0])
    streams = StreamSet((Stream(video, (Span("wave", 0, 1),), 10.0, "val"),), ("wave",), tmp_path / "streams.csv")
    with pytest.raises(ManifestError, match="no streams in split 'test'"):
        score_streams(Brightness(), streams, "test")
    with pytest.raises(ManifestError, match="does not know wave"):
        score_streams(Brightness(), streams, "val")
    video = images(tmp_path / "b", [0, 0, 0])
    in_frames = StreamSet((Stream(video, (Span("left", 1, 2),), 10.0, "val"),), ("left",), tmp_path / "streams.csv")
    with pytest.raises(ManifestError, match=r"left begins at 1 s of .*b, which lasts 0\.3 s.* not frames"):
        score_streams(Brightness(), in_frames, "val")
    single = StreamSet((Stream(tmp_path / "a", (), 10.0, "val"),), ())
    with pytest.raises(ClipError, match="single frame"):
        score_streams(Brightness(), single, "val")


def evaluation() -> StreamEvaluation:
    recordings = tuple(detect(scored(seed, height=0.95), CLASSES, EventSettings()) for seed in (1, 2))
    return StreamEvaluation.of(
        recordings, CLASSES, model="m", data="d", split="test", settings=EventSettings(), tuned=False, fps=8.0
    )


def test_an_evaluation_reads_back_and_counts_by_class(tmp_path: Path):
    result = evaluation()
    metrics, drawing = result.write(tmp_path)
    assert StreamEvaluation.read(metrics) == result
    metrics.write_text(metrics.read_text().replace('"format": 1', '"format": 2'))
    with pytest.raises(RunError, match=r"not stream metrics of this version \(format: is 2, but must be 1\)"):
        StreamEvaluation.read(metrics)
    assert sum(one.gestures for one in result.per_class) == result.summary.gestures == 20
    assert sum(one.recognised for one in result.per_class) == result.summary.recognised
    assert sum(one.false for one in result.per_class) == result.summary.activations - result.summary.recognised
    wrong = [Recording(name, 9.0, (), (Event("left", 1.0, 2.0, 0.9, 1.5),)) for name in "ab"]
    counted = StreamEvaluation.of(
        *((*wrong, *result.recordings), CLASSES),
        **{"model": "m", "data": "d", "split": "test", "settings": EventSettings(), "tuned": False, "fps": 8.0},
    )
    assert [new.false - old.false for new, old in zip(counted.per_class, result.per_class, strict=True)] == [2, 0, 0]
    assert drawing.read_text().startswith("<svg xmlns=")


def test_a_timeline_shows_every_gesture_and_escapes_names():
    recording = evaluation().recordings[0]
    drawn = str(timeline(recording))
    both = [(one.begin, one.end) for one in (*recording.truth, *recording.found)]
    assert drawn.count("<title>") == sum(int(end // 20) - int(begin // 20) + 1 for begin, end in both)
    assert drawn.count('class="fired"') == len(recording.found)
    hostile = replace(recording, name="<script>", truth=(Span("<b>", 1.0, 2.0),))
    assert "<script>" not in str(timeline(hostile))
    assert "<b>" not in str(timeline(hostile))


def test_no_second_below_a_timeline_is_cut_off():
    """A letter of 10 pixels is about 6 wide; the recording is of 17 minutes."""
    drawn = str(timeline(Recording("a.avi", 1020.0, (), ())))
    ticks = re.findall(r'<text x="([\d.]+)" y="[\d.]+" text-anchor="middle">(\d+ s)</text>', drawn)
    assert ticks[-1][1] == "1020 s"
    assert max(float(x) + 3 * len(text) for x, text in ticks) <= WIDTH


def test_a_timeline_tells_hits_from_false_ones_and_what_was_missed():
    """Of three gestures the first is found; an event that is none is false."""
    truth = (Span("left", 1.0, 3.0), Span("right", 5.0, 6.0), Span("left", 11.0, 12.0))
    found = (Event("left", 1.0, 2.0, 0.9, 1.5), Event("right", 9.0, 10.0, 0.8, 9.5))
    drawn = str(timeline(Recording("a.avi", 20.0, truth, found)))
    assert ">a.avi: 1 of 3 gestures, 1 false</text>" in drawn
    bars = re.findall(
        r'<title>(\w+)[^<]*</title><rect class="([a-z ]+)" x="([\d.]+)" y="[\d.]+" width="([\d.]+)"', drawn
    )
    second = (WIDTH - LEFT - RIGHT) / 20  # pixels
    assert [(name, kind) for name, kind, *_ in bars] == [
        *(("left", "true"), ("right", "true missed"), ("left", "true missed")),
        *(("left", "hit"), ("right", "false")),
    ]
    for bar, (begin, end) in zip(bars, [(1, 3), (5, 6), (11, 12), (1, 2), (9, 10)], strict=True):
        assert float(bar[2]) == pytest.approx(LEFT + second * begin, abs=0.1)
        assert float(bar[3]) == pytest.approx(second * (end - begin), abs=0.1)
    fired = re.findall(r'<line class="fired" x1="([\d.]+)"', drawn)
    assert [float(x) for x in fired] == pytest.approx([LEFT + second * 1.5, LEFT + second * 9.5], abs=0.1)


def test_a_long_recording_goes_on_in_the_next_row():
    recording = evaluation().recordings[0]
    long = replace(recording, seconds=50.0, truth=(Span("left", 19.0, 21.0),), found=())
    drawn = str(timeline(long))
    assert drawn.count('class="rail"') == 6
    assert ">45 s</text>" in drawn
    assert drawn.count("<title>") == 2  # the gesture lies in two rows


def test_a_recording_is_matched_once_however_many_rows_it_has(monkeypatch: pytest.MonkeyPatch):
    """Matched anew for every row, an hour with a thousand gestures would take a minute."""
    matched: list[int] = []

    def counted(truth, found):
        matched.append(len(truth))
        return match(truth, found)

    monkeypatch.setattr("dynagest.testing.timeline.match", counted)
    recording = replace(evaluation().recordings[0], seconds=200.0)
    assert timeline(recording).count('class="rail"') == 20
    assert matched == [len(recording.truth)]


def test_the_commands_end_to_end(tmp_path: Path):
    """Generated streams, a network that was never trained: everything runs, writes and says what it did."""
    from dynagest.networks.build import create_model
    from dynagest.networks.weights import save_network

    classes = ("swipe_left", "grab", "none")
    card = NetworkCard(model="tsm_resnet18", classes=classes, num_segments=4, size=32, width=8)
    save_network(tmp_path / "run", create_model("tsm_resnet18", 3, 4, width=8), card)
    runner = CliRunner()

    def call(*arguments: str) -> str:
        done = runner.invoke(app, list(arguments), catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.output

    streams = str(tmp_path / "streams")
    told = call(
        *("data", "streams", streams, "--preset", "demo", "--val", "1", "--test", "1", "--minutes", "0.3"),
        *("--workers", "1", "--set", "fps=6", "--set", "pause=0.5"),
        *("--set", "classes=swipe_left,grab", "--set", "size=32", "--set", "num_frames=6"),
    )
    assert "1 val, 1 test recordings of 0.3 minutes" in told
    clips = read_stream_spec(streams).clips
    assert (clips.size, clips.classes, clips.style) == (32, ("swipe_left", "grab"), PRESETS["demo"].style)
    both = runner.invoke(app, ["data", "streams", streams, "--preset", "demo", "--like", streams])
    assert "give one of them" in str(both.exception)
    test = ("evaluate", str(tmp_path / "run"), "--stream", streams)
    unknown = runner.invoke(app, list(test))
    assert "does not say how many frames a second" in str(unknown.exception)
    assert "Levenshtein accuracy" in call(*test, "--fps", "6")
    told = call("tune", str(tmp_path / "run"), "--data", streams, "--candidates", "5", "--fps", "6")
    assert "few to tune on" in told
    stored = EventsFile.read(tmp_path / "run")
    assert stored.tuned["value_after"] >= stored.tuned["value_before"]
    assert (stored.tuned["split"], stored.tuned["data"], stored.tuned["fps"]) == ("val", streams, 6.0)
    # The weights file names the same run.
    told = call("evaluate", str(tmp_path / "run" / "network.safetensors"), "--stream", streams, "--fps", "6")
    assert "note:" not in told
    record = json.loads((tmp_path / "run" / "stream_metrics.json").read_text())
    assert record["settings"] == stored.settings.model_dump()
    assert record["fps"] == 6.0
    assert record["recordings"][0]["name"].startswith("test/")
    for option, message in (("--data", "give one of them"), ("--protocol", "leave it out with --stream")):
        wrong = runner.invoke(app, [*test, option, "paper"])
        assert message in str(wrong.exception)
    wrong = runner.invoke(app, ["evaluate", str(tmp_path / "run"), "--fps", "6"])
    assert "or give --stream" in str(wrong.exception)
    html = write_report(tmp_path / "run").read_text()
    assert "Gestures in streams" in html
    assert 'class="timeline"' in html


def test_a_wrong_objective_is_refused_before_anything_is_read():
    done = CliRunner().invoke(app, ["tune", "nowhere", "--data", "nothing", "--objective", "accuracy"])
    assert done.exit_code == 2
    assert isinstance(done.exception, SystemExit)
    assert all(repr(name) in " ".join(done.output.split()) for name in OBJECTIVES)


def test_what_a_network_cannot_do_on_streams_is_said(tmp_path: Path):
    """No class "none"; and a window of 4 frames at 2 a second that a stream of one second never fills."""
    from dynagest.networks.build import create_model
    from dynagest.networks.weights import save_network

    card = NetworkCard(model="tsm_resnet18", classes=("left", "right"), num_segments=4, size=32, width=8, fps=2.0)
    save_network(tmp_path / "run", create_model("tsm_resnet18", 2, 4, width=8), card)
    video = images(tmp_path / "a", [0] * 10)
    StreamSet((Stream(video, (Span("left", 0.2, 0.9),), 10.0),), ("left",)).write(tmp_path / "streams.csv")
    done = CliRunner().invoke(app, ["evaluate", str(tmp_path / "run"), "--stream", str(tmp_path)])
    assert done.exit_code == 0, done.output
    assert 'no class "none"' in done.output
    assert "1 of 1 streams are shorter than the 4 frames at 2 frames/s" in done.output
    assert "0 of 1 gestures recognised" in done.output
    (tmp_path / "run" / "stream_metrics.json").unlink()
    (tmp_path / "run" / "stream_metrics.json").mkdir()
    done = CliRunner().invoke(app, ["evaluate", str(tmp_path / "run"), "--stream", str(tmp_path)])
    assert "so no file can be written there" in str(done.exception)
    assert "0 of 1 gestures recognised" in done.output, "what was found is told before it is written"


@pytest.mark.parametrize("name", ["network.onnx", "network.xml"])
def test_an_exported_file_is_measured_and_keeps_what_was_tuned(name: str, tmp_path: Path):
    """Gestures in red are shown so faintly that no setting but a low threshold finds them."""
    old = EventSettings(threshold=0.97, dip=0.5)
    path = export_colours(tmp_path / name, "left", "right", old)
    grown = [0] * 10 + [139] * 10 + [0] * 10
    folder = tmp_path / "a"
    folder.mkdir()
    for index, value in enumerate(grown * 2):
        cv2.imwrite(str(folder / f"{index:04d}.png"), np.full((32, 32, 3), (0, 0, value), np.uint8))  # BGR
    spans = (Span("left", 1.0, 2.0), Span("left", 4.0, 5.0))
    StreamSet((Stream(folder, spans, 10.0, "val"),), ("left",)).write(tmp_path / "streams.csv")

    def call(*arguments: str) -> str:
        done = CliRunner().invoke(app, [*arguments, "--split", "val"], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.output

    test = ("evaluate", str(path), "--stream", str(tmp_path))
    assert "0 of 2 gestures recognised" in call(*test)
    told = call("tune", str(path), "--data", str(tmp_path), "--candidates", "40")
    assert f"{path}: tuned on 2 gestures" in told
    assert "2 of 2 gestures recognised" in call(*test)
    found = load_recogniser(path).detector.settings
    assert found.threshold < 0.9
    record = StreamEvaluation.read(tmp_path / f"{name}.stream_metrics.json")
    assert (record.settings, record.tuned) == (found, True)
    # Nothing of the run in whose folder the file lies is changed.
    assert not {"events.json", "stream_metrics.json", "report.html"} & {one.name for one in tmp_path.iterdir()}


def test_a_file_that_cannot_keep_settings_is_told_before_the_streams_are_run(tmp_path: Path, monkeypatch):
    path = export_colours(tmp_path / "network.onnx", "left", "right")
    monkeypatch.setitem(sys.modules, "onnx", None)
    done = CliRunner().invoke(app, ["tune", str(path), "--data", str(tmp_path / "no such recordings")])
    assert "pip install onnx" in str(done.exception)


def test_an_exported_file_has_no_device(tmp_path: Path):
    path = export_colours(tmp_path / "network.onnx", "left", "right")
    for arguments in (["tune", str(path), "--data", "x"], ["evaluate", str(path), "--stream", "x"]):
        done = CliRunner().invoke(app, [*arguments, "--device", "cpu"])
        assert "exported and runs on the CPU" in str(done.exception)
