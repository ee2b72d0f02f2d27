// From scores over time to gestures: when one begins and ends, with one activation each.
// The same algorithm as src/dynagest/stream/events.py; tests/vectors/events.json holds both to the same answers.

const BACKGROUND = "none";

/**
 * A state machine from scores to events. Times are seconds.
 *
 * An event is `{label, begin, end, confidence, fired}`: reported when the gesture is recognised (`end` is null), and
 * again, with the same `fired`, when it is over.
 */
export class EventDetector {
  /** @param {string[]} classes names of the scores  @param {object} settings as `EventSettings` in Python */
  constructor(classes, settings) {
    this.classes = classes;
    this.settings = settings;
    this.none = classes.indexOf(BACKGROUND);
    this.reset();
  }

  /** Forget everything: the next scores begin a stream. */
  reset() {
    const count = this.classes.length;
    this.time = null;
    this.mean = this.classes.map((_, k) => (this.none < 0 ? 1 / count : Number(k === this.none)));
    this.valley = new Array(count).fill(0);
    this.onset = new Array(count).fill(0);
    this.active = null;
    this.activeClass = -1;
    this.lastFired = -Infinity;
    this.lastEnd = -Infinity;
  }

  /** Take the next scores, and return the end of a gesture, an activation, both in this order, or nothing. */
  push({ time, scores }) {
    const { smoothing, threshold, dip, cooldown, longest } = this.settings;
    if (!scores.every(Number.isFinite)) throw new Error("the scores are not finite: the network's weights are broken");
    if (this.time === null) this.time = this.lastEnd = time;
    if (time < this.time) throw new RangeError(`scores at ${time} s came after those at ${this.time} s`);
    const before = this.time;
    this.time = time;
    const share = smoothing ? 1 - Math.exp((before - time) / smoothing) : 1;
    this.mean = this.mean.map((mean, k) => mean + share * (scores[k] - mean));

    const evidence = this.evidence();
    evidence.forEach((value, k) => {
      this.valley[k] = Math.min(this.valley[k], value);
      if (value <= Math.max(threshold / 2, this.valley[k])) this.onset[k] = time;
    });
    const best = this.mean.indexOf(Math.max(...this.mean));
    let ready =
      best !== this.none &&
      evidence[best] >= Math.max(threshold, this.valley[best] + dip) &&
      time - this.lastFired >= cooldown;

    const events = [];
    if (this.active !== null) {
      const now = evidence[this.activeClass];
      this.active = { ...this.active, confidence: Math.max(this.active.confidence, now) };
      const tooLong = time - this.active.fired >= longest;
      if (tooLong || now < this.active.confidence - dip || (ready && best !== this.activeClass)) {
        // With the last scores that spoke for it: a camera that was away for long has not seen it go on.
        events.push(this.end(before));
        this.valley[this.activeClass] = now;
        ready = ready && best !== this.activeClass;
      }
    }
    if (ready && this.active === null) {
      const begin = Math.max(this.onset[best] - this.settings.lag, this.lastEnd);
      this.active = { label: this.classes[best], begin, end: null, confidence: evidence[best], fired: time };
      this.activeClass = best;
      this.lastFired = time;
      events.push(this.active);
    }
    return events;
  }

  /** End the stream, and return the end of the gesture that is going on, if any. Then as after `reset`. */
  finish() {
    const events = this.active === null ? [] : [this.end(this.time)];
    this.reset();
    return events;
  }

  /** The evidence for each class, in [0, 1]. */
  evidence() {
    if (this.none >= 0) return [...this.mean];
    const [first, second] = [...this.mean].sort((a, b) => b - a);
    return this.mean.map((mean) => Math.max(mean - (mean === first ? second : first), 0));
  }

  /** The second report of the gesture that is going on. */
  end(time) {
    const over = { ...this.active, end: Math.max(time - this.settings.lag, this.active.begin) };
    this.active = null;
    this.lastEnd = over.end;
    return over;
  }
}
