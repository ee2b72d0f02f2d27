// The page's handle on the worker: one frame at work, one waiting, older ones dropped.

/**
 * Dispatches CustomEvents whose `detail` is:
 *   progress {share}  ready {runsOn}  failed {message}
 *   update {time, evidence, latency}: the evidence for all classes at `time` of the stream
 *   gesture: an event of events.js   work {runs}: after each frame, how often the network ran
 */
export class Recogniser extends EventTarget {
  constructor() {
    super();
    this.worker = null;
    this.ready = false;
    this.model = null;
  }

  /** Start a network (what /api/model answers); another one that runs is thrown away. */
  load(model, compute) {
    this.close();
    this.model = model;
    this.worker = new Worker(new URL("./worker.js", import.meta.url), { type: "module" });
    this.worker.onmessage = ({ data }) => this.receive(data);
    this.worker.onerror = (event) => this.fail(event.message || "The recogniser could not be started.");
    this.worker.postMessage({ type: "load", model, compute });
  }

  /**
   * One more frame. `time`: seconds of the stream; `arrived`: performance.now() at which it was taken, or came.
   * The bitmap is closed here or in the worker.
   */
  push(bitmap, time, arrived) {
    if (!this.ready) return bitmap.close();
    const frame = { bitmap, time, arrived };
    if (!this.working) return this.send(frame, false);
    this.waiting?.bitmap.close();
    this.late = this.late || Boolean(this.waiting);
    this.waiting = frame;
  }

  /** The next frame begins a stream. */
  reset() {
    this.waiting?.bitmap.close();
    this.waiting = null;
    if (this.ready) this.worker.postMessage({ type: "reset" });
  }

  close() {
    this.worker?.terminate();
    this.waiting?.bitmap.close();
    Object.assign(this, { worker: null, ready: false, working: null, waiting: null, late: false });
  }

  send(frame, late) {
    this.working = frame;
    this.worker.postMessage({ type: "frame", bitmap: frame.bitmap, time: frame.time, late }, [frame.bitmap]);
  }

  receive(data) {
    if (data.type === "failed") return this.fail(data.message);
    if (data.type === "events") return data.events.forEach((event) => this.tell("gesture", event));
    if (data.type === "ready") this.ready = true;
    if (data.type !== "done") return this.tell(data.type, data);
    const latency = performance.now() - this.working.arrived;
    const { waiting, late } = this;
    Object.assign(this, { working: null, waiting: null, late: false });
    if (waiting) this.send(waiting, late);
    this.tell("work", data);
    for (const event of data.events) this.tell("gesture", event); // before the update that shows whether one goes on
    if (data.update) this.tell("update", { ...data.update, latency });
  }

  fail(message) {
    this.close();
    this.tell("failed", { message });
  }

  tell(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}
