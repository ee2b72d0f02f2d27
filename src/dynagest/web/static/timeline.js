// The strip: the evidence over time, drawn as by a chart recorder, and the gestures recognised in it.

const KEPT = 60; // seconds

export class Timeline {
  /** @param {HTMLCanvasElement} canvas */
  constructor(canvas) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d");
    this.seconds = 12;
    this.threshold = 0.6;
    this.still = matchMedia("(prefers-reduced-motion: reduce)");
    new ResizeObserver(() => this.draw()).observe(canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
    this.clear();
  }

  /** Forget everything. */
  clear() {
    this.points = [];
    this.events = [];
    this.clock = null;
    this.draw();
  }

  /** Set the current time of the stream. */
  now(time) {
    this.clock = { time, at: performance.now() };
  }

  /** Add the evidence of the best gesture, 0 to 1, at `time`. */
  add(time, evidence) {
    if (time < (this.points.at(-1)?.time ?? -Infinity)) this.clear();
    this.points.push({ time, evidence });
    while (this.points[0].time < time - KEPT) this.points.shift();
    this.events = this.events.filter((event) => (event.end ?? time) > time - KEPT);
    if (this.still.matches) this.draw();
  }

  /** Add an event of events.js with the `name` to show, in place of one with the same label and time of activation. */
  put(event) {
    const index = this.events.findIndex((each) => each.fired === event.fired && each.label === event.label);
    if (index < 0) this.events.push(event);
    else this.events[index] = event;
    this.draw(); // it may be the last one, at a pause
  }

  /** Keep drawing while `running()`; with reduced motion only new answers are drawn. */
  animate(running) {
    const step = () => {
      if (running() && !this.still.matches && this.clock) this.draw();
      requestAnimationFrame(step);
    };
    requestAnimationFrame(step);
  }

  draw() {
    const { canvas, context } = this;
    const width = canvas.clientWidth;
    const height = canvas.clientHeight;
    const ratio = devicePixelRatio || 1;
    if (!width) return;
    if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
      canvas.width = Math.round(width * ratio);
      canvas.height = Math.round(height * ratio);
    }
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, width, height);
    const style = getComputedStyle(canvas);
    const colour = (name) => style.getPropertyValue(name).trim();
    const box = { top: 34, bottom: height - 20, right: width - 14 };
    const scale = box.right / this.seconds;
    const newest = this.points.at(-1)?.time ?? 0;
    const ran = this.clock && !this.still.matches ? this.clock.time + (performance.now() - this.clock.at) / 1000 : newest;
    const now = Math.min(Math.max(ran, newest), newest + 2);
    const x = (time) => box.right - (now - time) * scale;
    // The threshold lies at half the height or above, so that a network of low scores is not a flat line.
    const full = Math.min(1, 2 * this.threshold);
    const y = (evidence) => box.bottom - Math.min(evidence / full, 1) * (box.bottom - box.top);
    context.font = `500 11px ${style.fontFamily}`;
    this.grid(width, height, box, scale, now, y, colour);
    this.trace(box, x, y, now, colour);
    context.font = `600 13px ${style.fontFamily}`;
    this.marks(box, x, now, colour);
    this.needle(box, x, y, now, colour);
  }

  grid(width, height, box, scale, now, y, colour) {
    const { context } = this;
    context.lineWidth = 1;
    context.textAlign = "center";
    context.fillStyle = colour("--quiet");
    const first = Math.floor(now);
    for (let second = 0; second <= this.seconds + 1; second++) {
      const at = Math.round(box.right - (now - (first - second)) * scale) + 0.5;
      context.strokeStyle = colour((first - second) % 5 === 0 ? "--line-strong" : "--line");
      context.beginPath();
      context.moveTo(at, box.top - 8);
      context.lineTo(at, box.bottom);
      context.stroke();
    }
    for (let ago = 0; ago < this.seconds; ago += this.seconds > 9 ? 2 : 1) {
      const at = box.right - ago * scale;
      if (at > 20) context.fillText(ago ? `−${ago} s` : "now", ago ? at : at - 6, height - 5);
    }
    context.strokeStyle = colour("--line-strong");
    context.setLineDash([2, 4]);
    context.beginPath();
    context.moveTo(0, y(this.threshold));
    context.lineTo(box.right, y(this.threshold));
    context.stroke();
    context.setLineDash([]);
    context.textAlign = "left";
    context.fillText(`recognised at ${Math.round(100 * this.threshold)} %`, 4, y(this.threshold) - 5);
    context.beginPath();
    context.moveTo(0, box.bottom + 0.5);
    context.lineTo(width, box.bottom + 0.5);
    context.stroke();
  }

  trace(box, x, y, now, colour) {
    const { context, points } = this;
    const from = Math.max(0, points.findIndex((point) => x(point.time) > -60) - 1);
    const shown = points.slice(from);
    if (shown.length) shown.push({ time: now, evidence: shown.at(-1).evidence }); // the last answer holds until now
    for (const piece of split(shown)) {
      context.beginPath();
      context.moveTo(x(piece[0].time), y(piece[0].evidence));
      for (let i = 1; i < piece.length; i++) {
        const middle = (x(piece[i - 1].time) + x(piece[i].time)) / 2;
        context.bezierCurveTo(middle, y(piece[i - 1].evidence), middle, y(piece[i].evidence), x(piece[i].time), y(piece[i].evidence));
      }
      context.strokeStyle = colour("--ink");
      context.lineWidth = 1.75;
      context.lineJoin = "round";
      context.stroke();
      context.lineTo(x(piece.at(-1).time), box.bottom);
      context.lineTo(x(piece[0].time), box.bottom);
      context.fillStyle = colour("--trace-fill");
      context.fill();
    }
  }

  marks(box, x, now, colour) {
    const { context } = this;
    context.textAlign = "left";
    let free = Infinity; // labels are written from the newest to the left, and none over another
    for (const event of this.events.toReversed()) {
      const left = x(event.begin);
      const right = x(event.end ?? now);
      if (right < 0) continue;
      const alive = event.end === null;
      context.fillStyle = colour(alive ? "--accent" : "--ink");
      context.beginPath();
      context.roundRect(left, box.top - 8, Math.max(right - left, 4), 5, 2.5);
      context.fill();
      context.fillStyle = colour(alive ? "--accent-wash" : "--ink-wash");
      context.fillRect(left, box.top - 3, Math.max(right - left, 4), box.bottom - box.top + 3);
      const wide = context.measureText(event.name).width;
      const at = Math.max(2, Math.min(left, box.right - wide));
      if (at + wide > free || right < 2) continue;
      context.fillStyle = colour(alive ? "--accent-text" : "--ink");
      context.fillText(event.name, at, box.top - 15);
      free = at - 12;
    }
  }

  needle(box, x, y, now, colour) {
    const { context } = this;
    context.strokeStyle = context.fillStyle = colour("--accent");
    context.lineWidth = 2;
    context.beginPath();
    context.moveTo(x(now), box.top - 8);
    context.lineTo(x(now), box.bottom);
    context.stroke();
    const point = this.points.at(-1);
    if (!point) return;
    context.beginPath();
    context.arc(x(now), y(point.evidence), 4.5, 0, 2 * Math.PI);
    context.fill();
  }
}

/** Split points where more than two seconds lie between them. */
function split(points) {
  const pieces = [];
  points.forEach((point, i) => {
    if (i === 0 || point.time - points[i - 1].time > 2) pieces.push([]);
    pieces.at(-1).push(point);
  });
  return pieces;
}
