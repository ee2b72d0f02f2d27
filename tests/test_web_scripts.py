"""The page's scripts give what the Python parts give of which they are ports; run by Node.js."""

import json
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from event_vectors import VECTORS
from web_helpers import CARD, picture

from dynagest.card import NetworkCard
from dynagest.runtimes.model_file import StateTensor
from dynagest.stream.clock import Clock
from dynagest.stream.events import EventSettings
from dynagest.stream.prepare import prepare_frame
from dynagest.stream.state import StateScorer
from dynagest.stream.window import Unsplit, WindowScorer
from dynagest.web.app import STATIC
from dynagest.web.recording import Limits, Recording

NODE = shutil.which("node")
pytestmark = pytest.mark.skipif(NODE is None, reason="Node.js is not installed")


def node(script: str, given: object, folder: Path) -> Any:
    """What ``script`` leaves in ``result``; it has ``given``, and imports from ``$static``."""
    shutil.copytree(STATIC, folder / "static", dirs_exist_ok=True)
    (folder / "package.json").write_text('{"type": "module"}')
    (folder / "given.json").write_text(json.dumps(given))
    imports = 'import { readFileSync } from "node:fs";\nconst given = JSON.parse(readFileSync("given.json", "utf8"));\n'
    text = imports + script.replace("$static", "./static") + "\nprocess.stdout.write(JSON.stringify(result));\n"
    (folder / "script.js").write_text(text)
    assert NODE is not None
    done = subprocess.run([NODE, "script.js"], cwd=folder, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


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
      try { for (const time of times) clock.push(0, time); return "no error"; } catch (error) { return error.name; }
    };
    const result = [attempt([5, 3]), attempt([NaN]), attempt([5, 4.5])];"""
    assert node(script, None, tmp_path) == ["RangeError", "RangeError", "no error"]


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


def test_a_clip_that_cannot_be_shown_says_why_and_can_be_deleted(tmp_path: Path) -> None:
    script = """
    class Element {
      parts = {}; children = []; dataset = {}; listeners = {}; attributes = {}; classes = [];
      classList = { add: (name) => this.classes.push(name) };
      get content() { return { firstElementChild: this }; }
      querySelector(name) { return (this.parts[name] ??= new Element()); }
      cloneNode() { return new Element(); }
      appendChild(child) { return this.children.push(child), child; }
      setAttribute(name, value) { this.attributes[name] = value; }
      addEventListener(name, listener) { this.listeners[name] = listener; }
      scrollIntoView() { this.seen = true; }
    }
    const page = new Element(), asked = [];
    globalThis.document = { getElementById: (id) => page.querySelector(id) };
    globalThis.addEventListener = globalThis.createImageBitmap = () => {};
    globalThis.fetch = (path, { method = "GET" } = {}) => (asked.push(`${method} ${path}`), new Promise(() => {}));
    const { Teach } = await import("$static/teach.js");
    const row = new Element();
    new Teach(new Element(), new Element(), () => {}).fill(row, "wave", given);
    const items = row.querySelector(".clips").children;
    const buttons = items.map((item) => [".play", ".delete"].map((name) => item.querySelector(name)));
    const [play, remove] = buttons[1];
    play.listeners.click();
    remove.listeners.click();
    const result = {
      asked,
      labels: buttons.flat().map((each) => each.attributes["aria-label"]),
      shown: play.textContent,
      classes: play.classes,
      fault: page.querySelector("train-fault").textContent,
      seen: page.querySelector("train-fault").seen,
    };"""
    clips = [
        {"name": "001", "frames": 10, "seconds": 0.9, "fault": ""},
        {"name": "002", "frames": 0, "seconds": 0, "fault": "wave/002.mkv cannot be read; delete it"},
    ]
    assert node(script, clips, tmp_path) == {
        "asked": ["GET /api/gestures/wave/clips/001/picture", "DELETE /api/gestures/wave/clips/002"],
        "labels": [
            *("Play clip 1 of wave, 0.9 seconds", "Delete clip 1 of wave"),
            *("Why clip 2 of wave cannot be shown", "Delete clip 2 of wave"),
        ],
        "shown": "cannot be shown",
        "classes": ["unreadable"],
        "fault": "wave/002.mkv cannot be read; delete it.",
        "seen": True,
    }


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


def test_while_the_network_computes_one_frame_waits_and_older_ones_are_dropped(tmp_path: Path) -> None:
    script = """
    let worker;
    globalThis.Worker = class {
      sent = [];
      constructor() { worker = this; }
      postMessage(data) { if (data.type === "frame") this.sent.push([data.time, data.late]); }
      terminate() {}
    };
    const { Recogniser } = await import("$static/recogniser.js");
    const recogniser = new Recogniser(), closed = [], steps = [];
    const push = (...times) => times.forEach((time) => recogniser.push({ close: () => closed.push(time) }, time, 0));
    const done = () => worker.onmessage({ data: { type: "done", events: [], runs: 1 } });
    const step = () => steps.push([...worker.sent.splice(0)]);
    recogniser.load({}, "auto");
    push(0);
    step();
    worker.onmessage({ data: { type: "ready", runsOn: "CPU" } });
    push(1, 2, 3, 4);
    step();
    done();
    step();
    push(5);
    done();
    step();
    done();
    push(6);
    step();
    const result = { steps, closed };"""
    assert node(script, None, tmp_path) == {
        "steps": [[], [[1, False]], [[4, True]], [[5, False]], [[6, False]]],
        "closed": [0, 2, 3],  # before the network was ready, and while it computed
    }


# An ONNX Runtime Web whose network takes `given.milliseconds` of a provider, and gives `given.logits`.
ORT = """
let clock = 0;
Object.defineProperty(globalThis, "performance", { value: { now: () => clock } });
export const env = { wasm: {} };
export class Tensor { constructor(...parts) { [this.dtype, this.data, this.shape] = parts; } }
export const InferenceSession = {
  create: async (bytes, { executionProviders: [provider] }) => ({
    run: async () => {
      clock += globalThis.given.milliseconds[provider];
      return { logits: { data: globalThis.given.logits[provider] } };
    },
  }),
};
"""
LOAD = """
const define = (name, value) => Object.defineProperty(globalThis, name, { value, configurable: true });
define("given", given);
define("self", { crossOriginIsolated: true, location: { origin: "http://localhost" } });
define("navigator", { hardwareConcurrency: 2, gpu: given.adapter && { requestAdapter: async () => given.adapter } });
define("fetch", async (address) => {
  const whole = new Uint8Array(1000);
  const body = address.endsWith(".onnx") ? new Uint8Array(given.length ?? 1000) : whole;
  return new Response(body, { headers: { "content-length": "1000" } });
});
console.info = () => {};
const { loadNetwork } = await import("$static/network.js");
const model = { runtime: "./", url: "/model/0.onnx", mode: "clip", card: { num_segments: 1, size: 2 }, state: {} };
const result = await loadNetwork(model, given.compute, () => {}).then(({ runsOn }) => runsOn, ({ message }) => message);
"""
AGREEING, APART = [2.0, -1.0], [2.0, -0.95]  # a difference of 2.5 % of the largest logit


@pytest.mark.parametrize(
    ("compute", "adapter", "faster", "logits", "answer"),
    [
        ("auto", None, True, AGREEING, "CPU, 2 threads"),
        ("auto", {}, True, AGREEING, "graphics card"),
        ("auto", {}, False, AGREEING, "CPU, 2 threads"),
        ("auto", {}, True, APART, "CPU, 2 threads"),
        ("auto", {}, True, ["no number", 0.0], "CPU, 2 threads"),
        ("auto", {"info": {"isFallbackAdapter": True}}, True, AGREEING, "CPU, 2 threads"),
        ("wasm", {}, True, AGREEING, "CPU, 2 threads"),
        ("webgpu", {}, False, AGREEING, "graphics card"),
        ("webgpu", {"info": {"isFallbackAdapter": True}}, True, AGREEING, "graphics card"),
        (
            "webgpu",
            {},
            True,
            APART,
            "The graphics card cannot run this network: its answers are 2.5 % apart from the CPU's",
        ),
        ("webgpu", None, True, AGREEING, "This browser offers no WebGPU."),
    ],
)
def test_the_graphics_card_is_taken_where_it_is_faster_and_agrees(
    compute: str, adapter: dict[str, Any] | None, faster: bool, logits: list[Any], answer: str, tmp_path: Path
) -> None:
    (tmp_path / "static").mkdir()
    for name in ("ort.wasm.min.mjs", "ort.webgpu.min.mjs"):
        (tmp_path / "static" / name).write_text(ORT)
    given = {
        **{"compute": compute, "adapter": adapter, "milliseconds": {"wasm": 20, "webgpu": 10 if faster else 30}},
        "logits": {"wasm": AGREEING, "webgpu": logits},
    }
    assert node(LOAD, given, tmp_path) == answer


@pytest.mark.parametrize(("length", "answer"), [(999, "broke off"), (1001, "longer than announced")])
def test_a_network_that_comes_in_another_length_than_announced_is_told(
    length: int, answer: str, tmp_path: Path
) -> None:
    found = node(LOAD, {"compute": "wasm", "adapter": None, "length": length}, tmp_path)
    assert found == f"/model/0.onnx: {answer}"


def test_the_strip_forgets_what_is_older_than_a_minute_and_shows_each_gesture_once(tmp_path: Path) -> None:
    script = """
    globalThis.matchMedia = () => ({ matches: false, addEventListener() {} });
    globalThis.devicePixelRatio = 1;
    globalThis.ResizeObserver = class { observe() {} };
    const { Timeline } = await import("$static/timeline.js");
    const timeline = new Timeline({ getContext: () => ({}), clientWidth: 0 });
    const put = (label, fired, end) => timeline.put({ label, name: label, begin: fired, end, fired });
    for (let time = 0; time <= 100; time++) {
      if (time === 10) put("wave", 10, null);
      if (time === 12) put("wave", 10, 12);
      if (time === 70) put("wave", 70, null);
      if (time === 90) put("push", 90, null);
      if (time === 92) put("push", 90, 92);
      timeline.add(time, 0.5);
    }
    const kept = timeline.points.map(({ time }) => time);
    const events = timeline.events.map(({ label, fired, end }) => [label, fired, end]);
    timeline.add(3, 0.5);
    const result = { kept: [kept[0], kept.at(-1)], events, anew: [timeline.points.length, timeline.events.length] };"""
    assert node(script, None, tmp_path) == {
        "kept": [40, 100],
        "events": [["wave", 70, None], ["push", 90, 92]],
        "anew": [1, 0],
    }


def test_the_worker_keeps_one_frame_and_ends_a_gesture_when_the_stream_ends(tmp_path: Path) -> None:
    """Frames lie in the memory of the graphics card, which runs full long before they would be collected."""
    script = """
    const define = (name, value) => Object.defineProperty(globalThis, name, { value, writable: true });
    const posted = [];
    define("given", { milliseconds: { wasm: 1 }, logits: { wasm: [8, 0] } });
    define("self", { crossOriginIsolated: false, location: { origin: "http://localhost" } });
    define("navigator", {});
    define("fetch", async () => new Response(new Uint8Array(10), { headers: { "content-length": "10" } }));
    define("postMessage", (data) => posted.push(data));
    define("onmessage", null);
    define("OffscreenCanvas", class {
      constructor(side) { this.width = side; }
      getContext() { return this; }
      fillRect() { this.colour = [...this.fillStyle.match(/\\d+/g).map(Number), 255]; }
      drawImage() { this.colour = [9, 9, 9, 255]; }
      getImageData(x, y, width, height) {
        return { data: Uint8ClampedArray.from({ length: 4 * width * height }, (_, i) => this.colour[i % 4]) };
      }
    });
    await import("$static/worker.js");
    const answered = () => ["ready", "done", "failed"].includes(posted.at(-1)?.type);
    const send = async (data) => {
      onmessage({ data });
      while (!answered()) await new Promise((resolve) => setTimeout(resolve));
      return posted.splice(0);
    };
    const closed = [], events = [], left = [];
    const show = async (number, time) => {
      const bitmap = { width: 8, height: 6, close: () => closed.push(number) };
      const answers = await send({ type: "frame", bitmap, time, late: false });
      events.push(...answers.flatMap((each) => each.events.map(({ label, end }) => [label, end !== null])));
    };
    const open = (count) => left.push([...Array(count).keys()].filter((number) => !closed.includes(number)));
    const [ready] = (await send({ type: "load", model: given, compute: "wasm" })).slice(-1);
    for (let k = 0; k < 12; k++) await show(k, 5 + k / 10);
    open(12);
    await show(12, 1); // by a clock that was set back
    await show(13, 2);
    open(14);
    onmessage({ data: { type: "reset" } });
    await show(14, 2.1);
    open(15);
    const result = { ready, left, events };"""
    card = {**CARD.model_dump(mode="json"), "num_segments": 2, "size": 4, "fps": 5.0}
    settings = EventSettings(smoothing=0, lag=0).model_dump()
    model = {"runtime": "./", "url": "/model/0.onnx", "mode": "clip", "card": card, "state": {}, "events": settings}
    (tmp_path / "static").mkdir()
    (tmp_path / "static" / "ort.wasm.min.mjs").write_text(ORT)
    assert node(script, model, tmp_path) == {
        "ready": {"type": "ready", "runsOn": "CPU, 1 thread"},
        "left": [[11], [13], [14]],
        "events": [["wave", False], ["wave", True]],
    }


def test_teach_says_what_is_missing_before_a_training(tmp_path: Path) -> None:
    script = """
    class Element {
      parts = {};
      querySelector(name) { return (this.parts[name] ??= new Element()); }
      addEventListener() {}
    }
    const page = new Element();
    globalThis.document = { getElementById: (id) => page.querySelector(id) };
    globalThis.addEventListener = () => {};
    const { Teach } = await import("$static/teach.js");
    const teach = new Teach(new Element(), new Element(), () => {});
    const result = given.map(({ trainable, counts }) => {
      teach.answer = { fewest_clips: 2, trainable, folder: "gestures" };
      teach.hint(new Map(Object.entries(counts).map(([label, count]) => [label, new Array(count).fill({})])));
      return [page.querySelector("train-start").disabled, page.querySelector("train-hint").textContent];
    });"""
    cases = [
        {"trainable": False, "counts": {"wave": 2, "push": 2}},
        {"trainable": True, "counts": {"wave": 2, "push": 0}},
        {"trainable": True, "counts": {"wave": 1, "push": 2, "none": 1}},
        {"trainable": True, "counts": {"wave": 2, "push": 2}},
    ]
    assert node(script, cases, tmp_path) == [
        [True, "This server has no weights to train from: start it with --init RUN."],
        [True, "Record two gestures or more first."],
        [True, "Record 2 clips or more of wave, none."],
        [False, "Takes some minutes on this machine. Clips lie in gestures."],
    ]
