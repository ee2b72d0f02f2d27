"""What only the page does, without a Python part that it is a port of; its scripts are run by Node.js."""

from pathlib import Path
from typing import Any

import pytest
from node import needs_node, node
from web_helpers import CARD

from dynagest.stream.events import EventSettings

pytestmark = needs_node


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
        {"name": "001", "frames": 10, "seconds": 0.9, "written": 1.5, "fault": ""},
        {"name": "002", "frames": 0, "seconds": 0, "written": 2.5, "fault": "wave/002.mkv cannot be read; delete it"},
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


def test_a_clip_that_took_the_name_of_a_deleted_one_is_shown_anew(tmp_path: Path) -> None:
    """As where another page deleted the last clip of a gesture and recorded one more."""
    script = """
    class Element {
      parts = {}; children = []; dataset = {};
      get content() { return { firstElementChild: this }; }
      querySelector(name) { return (this.parts[name] ??= new Element()); }
      cloneNode() { return new Element(); }
      appendChild(child) { return (child.home = this).children.push(child), child; }
      replaceWith(other) { (other.home = this.home).children[this.home.children.indexOf(this)] = other; }
      setAttribute() {}
      addEventListener() {}
    }
    const page = new Element(), asked = [];
    globalThis.document = { getElementById: (id) => page.querySelector(id) };
    globalThis.addEventListener = globalThis.createImageBitmap = () => {};
    globalThis.fetch = (path) => (asked.push(path.split("/").at(-2)), new Promise(() => {}));
    const { Teach } = await import("$static/teach.js");
    const teach = new Teach(new Element(), new Element(), () => {}), row = new Element();
    const clip = (name, written) => ({ name, written, frames: 10, seconds: 0.9, fault: "" });
    const list = row.querySelector(".clips"), seen = [];
    for (const times of [[1.5, 2.5], [1.5, 2.5], [1.5, 3.5]]) {
      teach.fill(row, "wave", [clip("001", times[0]), clip("002", times[1])]);
      seen.push(list.children.map((item) => item.dataset.written));
    }
    const result = { asked, seen };"""
    assert node(script, None, tmp_path) == {
        "asked": ["001", "002", "002"],
        "seen": [[1.5, 2.5], [1.5, 2.5], [1.5, 3.5]],
    }


def test_a_list_that_does_not_come_after_a_clip_was_deleted_is_told(tmp_path: Path) -> None:
    script = """
    class Element {
      parts = {}; dataset = {}; children = []; listeners = {};
      get content() { return { firstElementChild: this }; }
      querySelector(name) { return (this.parts[name] ??= new Element()); }
      cloneNode() { return this; }
      addEventListener(name, listener) { this.listeners[name] = listener; }
      scrollIntoView() {}
    }
    const page = new Element();
    globalThis.document = { getElementById: (id) => page.querySelector(id) };
    globalThis.addEventListener = globalThis.createImageBitmap = () => {};
    globalThis.fetch = async (path, { method } = {}) => {
      if (method === "DELETE") return new Response(null, { status: 204 });
      throw new TypeError("Failed to fetch");
    };
    const { Teach } = await import("$static/teach.js");
    const item = new Teach(new Element(), new Element(), () => {}).item("wave", { name: "001", fault: "" });
    await item.querySelector(".delete").listeners.click();
    const result = page.querySelector("train-fault").textContent;"""
    assert node(script, None, tmp_path) == "The server does not answer. Is it still running?"


def test_a_camera_whose_picture_is_not_played_can_be_tried_again(tmp_path: Path) -> None:
    """As where a browser stops what plays out of sight, to save power."""
    script = """
    const stopped = [], stream = {
      getTracks: () => [{ stop: () => stopped.push(true) }],
      getVideoTracks: () => [{ addEventListener() {}, getSettings: () => ({}) }],
    };
    const mediaDevices = { addEventListener() {}, getUserMedia: async () => stream };
    Object.defineProperty(globalThis, "navigator", { value: { mediaDevices } });
    const { Camera } = await import("$static/camera.js");
    const play = async () => { throw new DOMException("interrupted", "AbortError"); };
    const camera = new Camera({ play, classList: { toggle() {} }, requestVideoFrameCallback() {} });
    const result = [await camera.start(), stopped, camera.running];
    setTimeout(() => process.exit(), 100); // not when the camera's time is over"""
    assert node(script, None, tmp_path) == ["busy", [True], False]


def test_of_two_camera_starts_at_once_the_last_counts_however_they_are_answered(tmp_path: Path) -> None:
    script = """
    const stopped = [], asked = [];
    const streamOf = (name) => ({
      name,
      getTracks: () => [{ stop: () => stopped.push(name) }],
      getVideoTracks: () => [{ addEventListener() {}, getSettings: () => ({}) }],
    });
    const getUserMedia = () => new Promise((resolve, reject) => asked.push({ resolve, reject }));
    const mediaDevices = { addEventListener() {}, getUserMedia };
    Object.defineProperty(globalThis, "navigator", { value: { mediaDevices } });
    const { Camera } = await import("$static/camera.js");
    const refused = new DOMException("no", "NotAllowedError");
    const attempt = async (answer) => {
      asked.length = stopped.length = 0;
      const video = { play: async () => {}, classList: { toggle() {} }, requestVideoFrameCallback() {} };
      const camera = new Camera(video);
      const both = [camera.start(), camera.start()];
      answer(...asked);
      return [await Promise.all(both), camera.stream?.name ?? null, [...stopped]];
    };
    const result = [
      await attempt((one, two) => (one.resolve(streamOf("one")), two.resolve(streamOf("two")))),
      await attempt((one, two) => (two.resolve(streamOf("two")), one.resolve(streamOf("one")))),
      await attempt((one, two) => (two.resolve(streamOf("two")), one.reject(refused))),
      await attempt((one, two) => (one.resolve(streamOf("one")), two.reject(refused))),
    ];
    setTimeout(() => process.exit(), 100); // not when the cameras' time is over"""
    assert node(script, None, tmp_path) == [
        [["replaced", "on"], "two", ["one"]],
        [["replaced", "on"], "two", ["one"]],
        [["replaced", "on"], "two", []],
        [["replaced", "denied"], None, ["one"]],
    ]


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


WORKER = """
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
"""


def work(script: str, folder: Path) -> Any:
    """What ``script`` leaves in ``result``, with the worker of a network of two frames."""
    card = {**CARD.model_dump(mode="json"), "num_segments": 2, "size": 4, "fps": 5.0}
    settings = EventSettings(smoothing=0, lag=0).model_dump()
    model = {"runtime": "./", "url": "/model/0.onnx", "mode": "clip", "card": card, "state": {}, "events": settings}
    (folder / "static").mkdir()
    (folder / "static" / "ort.wasm.min.mjs").write_text(ORT)
    return node(WORKER + script, model, folder)


def test_the_worker_keeps_one_frame_and_ends_a_gesture_when_the_stream_ends(tmp_path: Path) -> None:
    """Frames lie in the memory of the graphics card, which runs full long before they would be collected."""
    script = """
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
    assert work(script, tmp_path) == {
        "ready": {"type": "ready", "runsOn": "CPU, 1 thread"},
        "left": [[11], [13], [14]],
        "events": [["wave", False], ["wave", True]],
    }


def test_a_network_that_runs_out_of_memory_is_told(tmp_path: Path) -> None:
    """Engines throw a RangeError then, as the clock does for a frame of another stream."""
    script = """
    await send({ type: "load", model: given, compute: "wasm" });
    define("given", { get milliseconds() { throw new RangeError("Array buffer allocation failed"); } });
    const bitmap = { width: 8, height: 6, close() {} };
    await send({ type: "frame", bitmap, time: 5, late: false });
    const result = await send({ type: "frame", bitmap, time: 5.2, late: false });"""
    assert work(script, tmp_path) == [{"type": "failed", "message": "Array buffer allocation failed"}]


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
