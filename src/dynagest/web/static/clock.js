// Frames taken by time: which frame of a stream, of whatever rate, a network sees at each of its ticks.
// The same rules as src/dynagest/stream/clock.py; tests/test_web_scripts.py holds both to the same answers.

const CLOSE = 1e-6; // s: a frame this little before a tick is at the tick

/** A frame's time is no number, or far behind the newest one: it belongs to another stream. */
export class TimeError extends RangeError {}

/** Picks a frame for each tick of a stream: tick k is at t0 + k / fps, t0 the time of the first frame. */
export class Clock {
  /** @param {number} fps ticks a second  @param {number} longestGap seconds without a frame that end a stream */
  constructor(fps, longestGap) {
    this.fps = fps;
    this.longestGap = longestGap;
    this.reset();
  }

  /** Forget everything: the next frame begins a stream. */
  reset() {
    this.newest = null;
    this.picked = null;
    this.start = 0;
    this.next = 0;
  }

  /**
   * Take the next frame, of any type, taken at `time` seconds, and return the ticks that it decides.
   * A frame that is not newer than the newest one is left out; one far behind it throws a TimeError.
   * @returns {{time: number, frame: any, first: boolean, repeated: boolean}[]}
   */
  push(frame, time) {
    if (!Number.isFinite(time)) throw new TimeError(`a frame with the time ${time}`);
    if (this.newest === null || time - this.newest.time > this.longestGap) {
      this.newest = { frame, time };
      this.picked = frame;
      this.start = time;
      this.next = 1;
      return [{ time, frame, first: true, repeated: false }];
    }
    const older = this.newest;
    if (time <= older.time) {
      if (older.time - time > this.longestGap) throw new TimeError(`a frame at ${time} s after one at ${older.time} s`);
      return [];
    }
    const ticks = [];
    for (;;) {
      const due = this.start + this.next / this.fps;
      if (due > time + CLOSE) break;
      const nearer = time - due <= due - older.time ? frame : older.frame;
      ticks.push({ time: due, frame: nearer, first: false, repeated: nearer === this.picked });
      this.picked = nearer;
      this.next += 1;
    }
    this.newest = { frame, time };
    return ticks;
  }
}
