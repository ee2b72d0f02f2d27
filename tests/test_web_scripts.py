"""The page's scripts give what the Python parts give of which they are ports; run by Node.js."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from event_vectors import VECTORS
from node import needs_node, node
from web_helpers import CARD, picture

from dynagest.card import NetworkCard
from dynagest.runtimes.model_file import StateTensor
from dynagest.stream.clock import Clock
from dynagest.stream.events import EventSettings
from dynagest.stream.prepare import prepare_frame
from dynagest.stream.state import StateScorer
from dynagest.stream.window import Unsplit, WindowScorer
from dynagest.web.recording import Limits, Recording

pytestmark = needs_node


def uneven_times(seed: int, count: int = 120) -> list[float]:
    """Times of frames: two rates, jitter, short and long gaps, one frame repeated and one overtaken."""
    rng = np.random.default_rng(seed)
    steps = rng.choice((1 / 30, 1 / 15, 0.2, 0.9, 4.0), count, p=(0.5, 0.4, 0.06, 0.02, 0.02))
    times = 100 + np.cumsum(steps * rng.uniform(0.7, 1.3, count))
    times[20] = times[19]
    times[40], times[41] = times[41], times[40]
    return [float(time) for time in times]


def test_events_by_the_vectors(tmp_path: Path) -> None:
    cases = json.loads(VECTORS.read_text())
    script = """
    import { EventDetector } from "$static/events.js";
    const result = given.map(({ classes, settings, scores }) => {
      const detector = new EventDetector(classes, settings);
      const answers = scores.map(([time, each]) => detector.push({ time, scores: each }));
      return [...answers, detector.finish()];
    });"""
    answers = node(script, cases, tmp_path)
    assert sum(len(events) for case in cases for events in case["events"]) > 30
    for case, answer in zip(cases, answers, strict=True):
        assert len(answer) == len(case["events"])
        for row, (got, expected) in enumerate(zip(answer, case["events"], strict=True)):
            assert [event["label"] for event in got] == [event["label"] for event in expected], (case["name"], row)
            for event, wanted in zip(got, expected, strict=True):
                assert event.keys() == wanted.keys()
                for field in ("begin", "end", "confidence", "fired"):
                    both = (event[field], wanted[field])
                    assert both == (None, None) or both[0] == pytest.approx(both[1], abs=1e-9), (case["name"], row)


def test_events_refuse_what_python_refuses(tmp_path: Path) -> None:
    script = """
    import { EventDetector } from "$static/events.js";
    const settings = given;
    const attempt = (pushes) => {
      const detector = new EventDetector(["a", "none"], settings);
      try { for (const each of pushes) detector.push(each); return "no error"; } catch (error) { return error.message; }
    };
    const result = [
      attempt([{ time: 2, scores: [1, 0] }, { time: 1, scores: [1, 0] }]),
      attempt([{ time: 0, scores: [NaN, 0] }]),
    ];"""
    older, broken = node(script, EventSettings().model_dump(), tmp_path)
    assert "came after" in older
    assert "not finite" in broken


@pytest.mark.parametrize("seed", range(4))
def test_clock(tmp_path: Path, seed: int) -> None:
    times = uneven_times(seed)
    script = """
    import { Clock } from "$static/clock.js";
    const clock = new Clock(given.fps, given.gap);
    const result = given.times.map((time, index) =>
      clock.push(index, time).map(({ time, frame, first, repeated }) => [time, frame, first, repeated]));"""
    got = node(script, {"times": times, "fps": 7.3, "gap": 1.1}, tmp_path)
    clock = Clock(7.3, 1.1)
    frames = [np.full((1, 1, 3), index, np.uint8) for index in range(len(times))]
    expected = [
        [[tick.time, int(tick.frame[0, 0, 0]), tick.first, tick.repeated] for tick in clock.push(frame, time)]
        for frame, time in zip(frames, times, strict=True)
    ]
    assert got == expected
    assert sum(tick[2] for ticks in expected for tick in ticks) >= 1


def test_clock_refuses_times_that_go_back(tmp_path: Path) -> None:
    script = """
    import { Clock } from "$static/clock.js";
    const attempt = (times) => {
      const clock = new Clock(8, 1);
      try { for (const time of times) clock.push(0, time); } catch (error) { return error.constructor.name; }
      return "no error";
    };
    const result = [attempt([5, 3]), attempt([NaN]), attempt([5, 4.5])];"""
    assert node(script, None, tmp_path) == ["TimeError", "TimeError", "no error"]


@pytest.mark.parametrize(
    ("height", "width", "size"),
    [
        (480, 640, 64),
        (480, 640, 224),
        (240, 320, 112),
        (720, 1280, 64),
        (641, 361, 64),
        (64, 64, 64),
        (50, 70, 64),
        (101, 101, 50),
    ],
)
def test_preprocessing(tmp_path: Path, height: int, width: int, size: int) -> None:
    rng = np.random.default_rng(height + size)
    coarse = rng.integers(0, 256, (height // 10 + 1, width // 10 + 1, 3))
    image = np.kron(coarse, np.ones((10, 10, 1)))[:height, :width] + rng.normal(0, 12, (height, width, 3))
    image = np.clip(image, 0, 255).astype(np.uint8)
    rgba = np.dstack([image, np.full((height, width), 255, np.uint8)])
    (tmp_path / "image.bin").write_bytes(rgba.tobytes())
    card = CARD.model_copy(update={"size": size})
    script = """
    import { Shrinker, centreSquare, normalise } from "$static/preprocess.js";
    const all = readFileSync("image.bin");
    const { x, y, side } = centreSquare(given.width, given.height);
    const square = new Uint8ClampedArray(side * side * 4);
    for (let row = 0; row < side; row++) {
      const from = ((y + row) * given.width + x) * 4;
      square.set(all.subarray(from, from + side * 4), row * side * 4);
    }
    const result = Array.from(normalise(new Shrinker(side, given.card.size).shrink(square), given.card));"""
    given = {"width": width, "height": height, "card": card.model_dump(mode="json")}
    got = np.array(node(script, given, tmp_path)).reshape(3, size, size)
    apart = (got - prepare_frame(image, card)[0]) * 255 * np.array(card.std)[:, None, None]
    assert np.abs(apart).max() < 1.01, "a level of 255 at most"
    assert np.abs(apart).mean() < 0.15
    assert abs(apart.mean()) < 0.05


def test_noise_in_place_of_pixels_is_a_fault(tmp_path: Path) -> None:
    script = """
    import { checkPixels } from "$static/preprocess.js";
    const attempt = (change) => {
      globalThis.OffscreenCanvas = class {
        getContext() { return this; }
        fillRect() { this.colour = [...this.fillStyle.match(/\\d+/g).map(Number), 255]; }
        getImageData(x, y, width, height) {
          const length = 4 * width * height;
          return { data: Uint8ClampedArray.from({ length }, (_, i) => change(this.colour[i % 4], i)) };
        }
      };
      try { return checkPixels() ?? "no error"; } catch (error) { return error.message; }
    };
    const result = [
      attempt((value) => value), attempt((value, i) => value ^ (i % 2)),
      attempt((_, i) => (97 * i * i) % 256), attempt(() => 255),
    ];"""
    exact, last_bit, noise, white = node(script, None, tmp_path)
    assert (exact, last_bit) == ("no error", "no error")
    assert "resistFingerprinting" in noise
    assert "resistFingerprinting" in white


class Toy:
    """Logits from the values of the frames; the same formula stands in the script below."""

    def __init__(self, card: NetworkCard) -> None:
        self.card = card

    def logits(self, clips: np.ndarray) -> np.ndarray:
        values = clips[:, :, 0, 0, 0].astype(np.float64)
        places = np.arange(values.shape[1])
        return np.stack([values @ np.cos(places * (k + 1)) for k in range(3)], axis=1)

    frames = 1

    def initial_state(self) -> Mapping[str, Any]:
        return {"sum": np.zeros(1)}

    def step(self, frame: np.ndarray, state: Mapping[str, Any]) -> tuple[np.ndarray, Mapping[str, Any]]:
        total = 0.5 * state["sum"] + frame[0, 0, 0, 0].astype(np.float64)
        return np.stack([total * (k - 1) for k in range(3)], axis=1), {"sum": total}


@pytest.mark.parametrize("kind", ["WindowScorer", "StateScorer"])
def test_scorers(tmp_path: Path, kind: str) -> None:
    update = {
        "mean": (0.0, 0.0, 0.0),
        "std": (1.0, 1.0, 1.0),
        "classes": ("a", "b", "none"),
        "fps": 6.0,
        "num_segments": 5,
    }
    card = CARD.model_copy(update=update)
    times = uneven_times(7)
    script = """
    import * as scorers from "$static/scorer.js";
    const range = [0, 1, 2];
    const network = {
      card: given.card,
      clip: async (values) => range.map((k) => values.reduce((sum, x, t) => sum + x * Math.cos(t * (k + 1)), 0)),
      initialState: () => 0,
      step: async ([value], state) => {
        const total = 0.5 * state + value;
        return { logits: range.map((k) => total * (k - 1)), state: total };
      },
    };
    const scorer = new scorers[given.kind](network, (frame) => new Float32Array([frame / 255]));
    const result = [];
    for (const [frame, time] of given.times.entries()) result.push(await scorer.push(frame, time));"""
    got = node(script, {"card": card.model_dump(mode="json"), "times": times, "kind": kind}, tmp_path)
    toy = Toy(card)
    scorer = WindowScorer(Unsplit(toy)) if kind == "WindowScorer" else StateScorer(toy)
    expected = [scorer.push(np.full((48, 64, 3), index, np.uint8), time) for index, time in enumerate(times)]
    assert sum(len(each) for each in expected) >= 30
    assert [[each["time"] for each in scores] for scores in got] == [
        [each.time for each in scores] for scores in expected
    ]
    for scores, wanted in zip(got, expected, strict=True):
        for each, right in zip(scores, wanted, strict=True):
            assert each["scores"] == pytest.approx(right.scores.tolist(), abs=1e-6)


@pytest.mark.parametrize("kind", ["WindowScorer", "StateScorer"])
def test_late_frames_are_scored_once(kind: str, tmp_path: Path) -> None:
    """A network slower than its ticks must not fall behind ever further."""
    script = """
    import * as scorers from "$static/scorer.js";
    let runs = 0;
    const network = {
      card: given.card,
      clip: async () => ((runs += 1), [0, 1]),
      initialState: () => 0,
      step: async (frame, state) => ((runs += 1), { logits: [0, 1], state }),
    };
    const scorer = new scorers[given.kind](network, () => new Float32Array(1));
    for (let k = 0; k < 20; k++) await scorer.push(k, k / 8);
    const before = runs;
    const scores = await scorer.push(20, 19 / 8 + 0.6, true);
    const result = { ran: runs - before, times: scores.map((each) => each.time) };"""
    card = CARD.model_copy(update={"fps": 8.0}).model_dump(mode="json")
    assert node(script, {"card": card, "kind": kind}, tmp_path) == {"ran": 1, "times": [pytest.approx(23 / 8)]}


def test_times_of_frames_go_on_from_one_stream_to_the_next(tmp_path: Path) -> None:
    """Without captureTime, as in Firefox, a frame tells only how long ago its own stream began."""
    script = """
    globalThis.navigator ??= {};
    const { Camera } = await import("$static/camera.js");
    const camera = new Camera({ requestVideoFrameCallback() {} });
    const result = [];
    camera.addEventListener("frame", ({ detail }) => result.push([detail.time, detail.arrived]));
    for (const frames of given) {
      camera.stream = { getTracks: () => [] };
      for (const [now, frame] of frames) camera.take(camera.stream, now, frame);
      camera.stop();
    }"""
    streams = [
        [(1000, {"mediaTime": 0.25}), (1050, {"mediaTime": 0.28})],
        [(9000, {"mediaTime": 0.25}), (9030, {"mediaTime": 0.31})],
        [(9500, {"mediaTime": 0.25, "captureTime": 9480})],
    ]
    expected = [(1.0, 1000), (1.03, 1050), (9.0, 9000), (9.06, 9030), (9.48, 9480)]
    assert [tuple(each) for each in node(script, streams, tmp_path)] == [pytest.approx(each) for each in expected]


def test_clip_files_both_ways(tmp_path: Path) -> None:
    recording = Recording(tuple(picture(20 * k) for k in range(9)), tuple(0.1 * k for k in range(9)))
    (tmp_path / "clip.bin").write_bytes(recording.pack())
    script = """
    import { pack, unpack } from "$static/clipfile.js";
    import { writeFileSync } from "node:fs";
    const bytes = new Uint8Array(readFileSync("clip.bin"));
    const { pictures, times } = unpack(bytes.buffer);
    writeFileSync("again.bin", Buffer.from(await (await pack(pictures, times)).arrayBuffer()));
    const result = { times, sizes: pictures.map((each) => each.size) };"""
    assert node(script, None, tmp_path)["times"] == list(recording.times)
    assert Recording.unpack((tmp_path / "again.bin").read_bytes(), Limits()) == recording


def test_the_state_before_the_first_frame_is_zeros_as_in_python(tmp_path: Path) -> None:
    script = """
    import { Network } from "$static/network.js";
    const ort = { Tensor: class { constructor(...parts) { [this.dtype, this.values, this.shape] = parts; } } };
    const network = new Network(ort, null, { card: {}, mode: "stream", state: given });
    const result = Object.fromEntries(Object.entries(network.initialState()).map(
      ([name, { dtype, values, shape }]) => [name, { dtype, values: [...values], shape }]));"""
    state = {"seen": StateTensor(shape=(1, 1), dtype="float32"), "shift": StateTensor(shape=(1, 3), dtype="uint8")}
    answer = node(script, {name: each.model_dump() for name, each in state.items()}, tmp_path)
    assert answer == {
        "state.seen": {"dtype": "float32", "values": [0], "shape": [1, 1]},
        "state.shift": {"dtype": "uint8", "values": [0, 0, 0], "shape": [1, 3]},
    }


def test_a_step_is_given_the_state_that_the_one_before_left(tmp_path: Path) -> None:
    script = """
    import { Network } from "$static/network.js";
    const asked = [];
    const session = {
      run: async (inputs) => {
        asked.push(inputs);
        const after = (name) => `${name} after ${asked.length}`;
        return { logits: { data: [asked.length] }, "next.seen": after("seen"), "next.shift": after("shift") };
      },
    };
    const ort = { Tensor: class { constructor(...parts) { [this.dtype, this.values, this.shape] = parts; } } };
    const network = new Network(ort, session, { card: { size: 1 }, mode: "stream", state: given });
    let state = network.initialState();
    const logits = [];
    for (let k = 0; k < 2; k++) {
      const step = await network.step(new Float32Array([1, 2, 3]), state);
      logits.push(...step.logits);
      state = step.state;
    }
    const { frame, ...taken } = asked[1];
    const result = { logits, shape: frame.shape, values: [...frame.values], taken, state };"""
    state = {name: StateTensor(shape=(1,)).model_dump() for name in ("seen", "shift")}
    assert node(script, state, tmp_path) == {
        **{"logits": [1, 2], "shape": [1, 3, 1, 1], "values": [1, 2, 3]},
        "taken": {"state.seen": "seen after 1", "state.shift": "shift after 1"},
        "state": {"state.seen": "seen after 2", "state.shift": "shift after 2"},
    }
