// The recogniser's own thread: frames in, scores and events out. So the page never stutters, however slow the network.

import { TimeError } from "./clock.js";
import { EventDetector } from "./events.js";
import { loadNetwork } from "./network.js";
import { Shrinker, centreSquare, checkPixels, normalise } from "./preprocess.js";
import { StateScorer, WindowScorer, joined } from "./scorer.js";

let network, scorer, detector, canvas, context, shrinker;

/** A frame (ImageBitmap) as the network wants it: Float32Array (3*s*s). */
function prepare(bitmap) {
  const { x, y, side } = centreSquare(bitmap.width, bitmap.height);
  if (canvas?.width !== side) {
    canvas = new OffscreenCanvas(side, side);
    context = canvas.getContext("2d", { willReadFrequently: true, alpha: false });
    shrinker = new Shrinker(side, network.card.size);
  }
  context.drawImage(bitmap, x, y, side, side, 0, 0, side, side);
  return normalise(shrinker.shrink(context.getImageData(0, 0, side, side).data), network.card);
}

async function load({ model, compute }) {
  canvas = undefined;
  checkPixels();
  network = await loadNetwork(model, compute, (share) => postMessage({ type: "progress", share }));
  scorer = new (network.mode === "stream" ? StateScorer : WindowScorer)(network, prepare);
  detector = new EventDetector(model.card.classes, model.events);
  postMessage({ type: "ready", runsOn: network.runsOn });
}

async function recognise({ bitmap, time, late }) {
  const before = scorer.clock.newest;
  let scores = [];
  try {
    scores = await scorer.push(bitmap, time, late);
  } catch (error) {
    if (!(error instanceof TimeError)) throw error;
    reset(); // the camera's clock was set back: another stream
  } finally {
    const kept = scorer.clock.newest?.frame;
    for (const frame of new Set([before?.frame, bitmap])) if (frame && frame !== kept) frame.close();
  }
  const events = scores.flatMap((each) => detector.push(each));
  const newest = scores.at(-1);
  const update = newest && { time: newest.time, evidence: detector.evidence() };
  postMessage({ type: "done", update, runs: scores.length, events });
}

function reset() {
  scorer.clock.newest?.frame.close();
  scorer.reset();
  const events = detector.finish();
  if (events.length) postMessage({ type: "events", events });
}

/** Run the network for `seconds`, and post each frame's time, in all and to prepare it; for benchmarks/browser.py. */
async function measure({ bitmap, seconds }) {
  const frames = Array.from({ length: network.card.num_segments }, () => prepare(bitmap));
  let state = network.mode === "stream" ? network.initialState() : null;
  const times = [];
  const preparing = [];
  const end = performance.now() + 1000 * seconds;
  while (performance.now() < end) {
    const began = performance.now();
    frames.push(prepare(bitmap));
    frames.shift();
    preparing.push(performance.now() - began);
    if (state) ({ state } = await network.step(frames.at(-1), state));
    else await network.clip(joined(frames));
    times.push(performance.now() - began);
  }
  bitmap.close();
  postMessage({ type: "measured", times, preparing, runsOn: network.runsOn });
}

const handlers = { load, frame: recognise, reset, measure };
let queue = Promise.resolve(); // one after another, in order

onmessage = ({ data }) => {
  queue = queue
    .then(() => handlers[data.type](data))
    .catch((error) => postMessage({ type: "failed", message: error.message || String(error) }));
};
