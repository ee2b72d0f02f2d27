// Timed frames in, scores of all classes over time out.
// As WindowScorer and StateScorer in src/dynagest/stream/{window,state}.py; tests/test_web_scripts.py compares them.

import { Clock } from "./clock.js";

/** Scores [0, 1] of logits; they sum to 1. */
function softmax(logits) {
  const most = Math.max(...logits);
  const powers = Array.from(logits, (logit) => Math.exp(logit - most));
  const sum = powers.reduce((a, b) => a + b, 0);
  return powers.map((power) => power / sum);
}

/** Frames (3*s*s each) as the clip (T*3*s*s) that a network takes. */
export function joined(frames) {
  const clip = new Float32Array(frames.length * frames[0].length);
  frames.forEach((each, t) => clip.set(each, t * each.length));
  return clip;
}

/** The clock of a network: its rate, and no gap longer than its T frames. */
function clockOf(card) {
  return new Clock(card.fps, card.num_segments / card.fps);
}

/** Scores of the last T frames at every tick, for networks that take a whole clip. */
export class WindowScorer {
  /** @param network {card, clip(Float32Array (T*3*s*s)) -> Promise<logits>}  @param prepare frame -> Float32Array */
  constructor(network, prepare) {
    this.network = network;
    this.prepare = prepare;
    this.clock = clockOf(network.card);
    this.frames = [];
  }

  reset() {
    this.clock.reset();
    this.frames = [];
  }

  /**
   * Take the next frame, taken at `time` seconds, and return its scores: none, one or several.
   * @param {boolean} late whether older frames were dropped for lack of time; then only the newest window is scored
   */
  async push(frame, time, late = false) {
    const { num_segments: length } = this.network.card;
    const ticks = this.clock.push(frame, time);
    const scores = [];
    for (const [index, tick] of ticks.entries()) {
      if (tick.first) this.frames = [];
      this.frames.push(tick.repeated ? this.frames.at(-1) : this.prepare(tick.frame));
      if (this.frames.length > length) this.frames.shift();
      if (this.frames.length < length || (late && index < ticks.length - 1)) continue;
      scores.push({ time: tick.time, scores: softmax(await this.network.clip(joined(this.frames))) });
    }
    return scores;
  }
}

/** Scores at every tick, for networks that take one frame and remember. */
export class StateScorer {
  /** @param network {card, initialState(), step(Float32Array (3*s*s), state) -> Promise<{logits, state}>} */
  constructor(network, prepare) {
    this.network = network;
    this.prepare = prepare;
    this.clock = clockOf(network.card);
    this.state = null;
  }

  reset() {
    this.clock.reset();
  }

  /**
   * Take the next frame, taken at `time` seconds, and return its scores: none, one or several.
   * @param {boolean} late whether older frames were dropped for lack of time; then the network gets only the newest one
   */
  async push(frame, time, late = false) {
    const ticks = this.clock.push(frame, time);
    const scores = [];
    for (const [index, tick] of ticks.entries()) {
      if (tick.first) this.state = this.network.initialState();
      else if (late && index < ticks.length - 1) continue;
      const { logits, state } = await this.network.step(this.prepare(tick.frame), this.state);
      this.state = state;
      scores.push({ time: tick.time, scores: softmax(logits) });
    }
    return scores;
  }
}
