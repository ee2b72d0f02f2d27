// Teach: name gestures, record clips of each, look through them, train.

import { addClip, cancelTraining, deleteClip, getClip, getGestures, getPicture, getTraining, startTraining } from "./api.js";
import { checkPixels } from "./preprocess.js";

const NONE = "none";
const NONE_NOTE =
  "What is no gesture: rest, scratch your head, reach for a cup. Without it the network sees gestures everywhere.";
const SIDE = 240; // pixels of the shorter side of what is recorded
const STEP = 800; // milliseconds from one number of the countdown to the next
const POLL = 1000;
const LEARNED = 0.8; // _LEARNED of src/dynagest/web/training.py: the progress once the network is trained

const find = (id) => document.getElementById(id);
const sleep = (milliseconds, signal) =>
  new Promise((resolve, reject) => {
    signal.throwIfAborted();
    const timer = setTimeout(resolve, milliseconds);
    signal.addEventListener("abort", () => (clearTimeout(timer), reject(signal.reason)), { once: true });
  });

/** Dispatches `trained` when a training that was seen running is done. */
export class Teach extends EventTarget {
  /** @param camera Camera  @param stage Stage  @param {(text: string) => void} say for screen readers */
  constructor(camera, stage, say) {
    super();
    Object.assign(this, { camera, stage, say, rows: new Map(), named: new Set(), stop: null, seen: false, gone: false, timer: 0 });
    find("add").addEventListener("submit", (event) => (event.preventDefault(), this.name(find("add-name").value.trim())));
    find("train-start").addEventListener("click", () => this.train());
    find("train-cancel").addEventListener("click", () => this.attempt(cancelTraining, "train-fault"));
    stage.addEventListener("stop", () => this.stop?.abort());
    camera.addEventListener("stopped", () => this.stop?.abort());
    addEventListener("keydown", (event) => event.key === "Escape" && this.stop?.abort());
  }

  /** Look at the folder and the training again. */
  async refresh() {
    try {
      this.show(await getGestures());
      if (this.gone) this.fault("train-fault", null);
      this.gone = false;
      this.follow(await getTraining().catch(() => null));
    } catch (error) {
      this.lost(error);
    }
  }

  name(label) {
    if (!label || !this.answer) return; // without a list, a message below says that the server does not answer
    if ([...this.rows.keys()].some((other) => other.toLowerCase() === label.toLowerCase())) {
      this.fault("add-fault", new Error(`“${label}” is on the list already.`));
      return;
    }
    if (/[^\p{L}\p{M}\p{N}_ -]/u.test(label)) {
      this.fault("add-fault", new Error("Letters, digits, blanks, _ and - make a name."));
      return;
    }
    this.fault("add-fault", null);
    this.named.add(label);
    find("add-name").value = "";
    this.show(this.answer);
    this.rows.get(label).querySelector(".record").focus();
  }

  /** Bring the list up to what the server answered, and to the names that have no clips yet. */
  show(answer) {
    this.answer = answer;
    find("teach-body").hidden = !answer.teach;
    if (!answer.teach) {
      find("teach-lead").textContent = `Teaching is off: ${answer.reason}.`;
      return;
    }
    const clips = new Map(answer.gestures.map(({ label, clips }) => [label, clips]));
    const labels = [...clips.keys(), ...this.named].filter((label) => label !== NONE);
    const wanted = [...new Set(labels), NONE];
    for (const [label, row] of this.rows) if (!wanted.includes(label)) (row.remove(), this.rows.delete(label));
    for (const label of wanted) {
      if (!this.rows.has(label)) this.rows.set(label, this.row(label));
      this.fill(this.rows.get(label), label, clips.get(label) ?? []);
      if (find("gestures").children[wanted.indexOf(label)] !== this.rows.get(label)) {
        find("gestures").append(this.rows.get(label));
      }
    }
    this.hint(clips);
  }

  row(label) {
    const row = find("gesture-row").content.firstElementChild.cloneNode(true);
    row.querySelector("h3").textContent = label;
    row.querySelector(".note").textContent = label === NONE ? NONE_NOTE : "";
    row.querySelector(".record").setAttribute("aria-label", `Record ${label}`);
    row.querySelector(".record").addEventListener("click", () => this.record(label));
    return row;
  }

  fill(row, label, clips) {
    row.querySelector(".count").textContent = clips.length ? `${clips.length} clip${clips.length > 1 ? "s" : ""}` : "no clips yet";
    const list = row.querySelector(".clips");
    const present = new Map([...list.children].map((item) => [item.dataset.name, item]));
    for (const [name, item] of present) if (!clips.some((clip) => clip.name === name)) item.remove();
    clips.forEach((clip, k) => {
      let item = present.get(clip.name);
      if (Number(item?.dataset.written) !== clip.written) { // also where another page deleted it and recorded anew
        const made = this.item(label, clip);
        if (item) item.replaceWith(made);
        else list.appendChild(made);
        item = made;
      }
      const what = `clip ${k + 1} of ${label}`;
      const play = clip.fault ? `Why ${what} cannot be shown` : `Play ${what}, ${clip.seconds.toFixed(1)} seconds`;
      item.querySelector(".play").setAttribute("aria-label", play);
      item.querySelector(".delete").setAttribute("aria-label", `Delete ${what}`);
    });
  }

  item(label, clip) {
    const item = find("clip-item").content.firstElementChild.cloneNode(true);
    Object.assign(item.dataset, { name: clip.name, written: clip.written });
    const play = item.querySelector(".play");
    if (clip.fault) {
      play.classList.add("unreadable");
      play.textContent = "cannot be shown";
      play.addEventListener("click", () => this.fault("train-fault", new Error(`${clip.fault}.`)));
    } else {
      const canvas = play.querySelector("canvas");
      getPicture(label, clip.name).then(createImageBitmap).then((picture) => paint(canvas, picture), () => {});
      play.addEventListener("click", () => this.play(label, clip.name, canvas));
    }
    item.querySelector(".delete").addEventListener("click", async () => {
      const next = item.nextElementSibling ?? item.previousElementSibling;
      this.named.add(label);
      const remove = async () => (await deleteClip(label, clip.name), this.show(await getGestures()));
      if (!(await this.attempt(remove, "train-fault"))) return;
      (next?.querySelector(".delete") ?? this.rows.get(label)?.querySelector(".record"))?.focus();
      this.say("Deleted");
    });
    return item;
  }

  async play(label, name, canvas) {
    if (canvas.playing) return;
    canvas.playing = true;
    try {
      const { pictures, times } = await getClip(label, name);
      const began = performance.now();
      for (let k = 0; k < pictures.length; k++) {
        const bitmap = await createImageBitmap(pictures[k]);
        await sleep(Math.max(0, 1000 * (times[k] - times[0]) - (performance.now() - began)), new AbortController().signal);
        paint(canvas, bitmap);
      }
    } catch (error) {
      this.fault("train-fault", error);
    }
    canvas.playing = false;
  }

  hint(clips) {
    const fewest = this.answer.fewest_clips;
    const counts = [...clips].filter(([, each]) => each.length);
    const few = counts.filter(([, each]) => each.length < fewest).map(([label]) => label);
    let text = "";
    if (!this.answer.trainable) text = "This server has no weights to train from: start it with --init RUN.";
    else if (counts.length < 2) text = "Record two gestures or more first.";
    else if (few.length) text = `Record ${fewest} clips or more of ${few.join(", ")}.`;
    find("train-start").disabled = Boolean(text);
    find("train-hint").textContent = text || `Takes some minutes on this machine. Clips lie in ${this.answer.folder}.`;
  }

  /** Record as many clips of a gesture as the user asked for, each after a countdown. */
  async record(label) {
    if (this.stop) return;
    if (!this.camera.running) {
      this.fault("train-fault", new Error("Turn on the camera first."));
      return;
    }
    const number = (id) => Math.min(Math.max(Number(find(id).value) || 1, Number(find(id).min)), Number(find(id).max));
    const [count, seconds] = [number("take-count"), number("take-seconds")];
    this.stop = new AbortController();
    this.fault("train-fault", null);
    document.querySelector(".stage").scrollIntoView({ block: "nearest" });
    try {
      checkPixels();
      for (let k = 1; k <= count; k++) {
        await this.countdown(label, k, count, this.stop.signal);
        const shots = await this.capture(seconds, this.stop.signal);
        this.stage.take("…", "Keeping it");
        await this.keep(label, shots);
        this.say(`Clip ${k} of ${count} kept`);
      }
    } catch (error) {
      if (error.name !== "AbortError") this.fault("train-fault", error);
    }
    this.stage.take(null);
    this.stop = null;
    this.rows.get(label)?.querySelector(".record").focus({ preventScroll: true });
  }

  async countdown(label, k, count, signal) {
    for (const number of ["3", "2", "1"]) {
      this.stage.take(number, `${label}, clip ${k} of ${count}`);
      this.say(number);
      await sleep(STEP, signal);
    }
  }

  /** Record for `seconds`, and return the pictures, as promises, with their times. */
  async capture(seconds, signal) {
    const shots = [];
    const take = ({ detail }) => shots.push({ time: detail.time, picture: this.camera.picture(SIDE) });
    this.stage.take("", "Now");
    this.say("Now");
    this.stage.fill(seconds);
    this.camera.addEventListener("frame", take);
    try {
      await sleep(1000 * seconds, signal);
    } finally {
      this.camera.removeEventListener("frame", take);
      if (signal.aborted) for (const { picture } of shots) picture.then((bitmap) => bitmap.close(), () => {});
    }
    return shots;
  }

  async keep(label, shots) {
    const pictures = [];
    let canvas, context;
    for (const { picture } of shots) {
      const bitmap = await picture;
      if (canvas?.width !== bitmap.width || canvas.height !== bitmap.height) {
        canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
        context = canvas.getContext("2d", { alpha: false });
      }
      context.drawImage(bitmap, 0, 0);
      bitmap.close();
      pictures.push(await canvas.convertToBlob({ type: "image/jpeg", quality: 0.92 }));
    }
    const start = shots[0]?.time ?? 0;
    await addClip(label, pictures, shots.map(({ time }) => time - start));
    this.show(await getGestures());
  }

  async train() {
    this.fault("train-fault", null);
    await this.attempt(async () => this.follow(await startTraining()), "train-fault");
  }

  /** Show how the training stands, and ask again while it runs. */
  follow(status) {
    clearTimeout(this.timer);
    const running = status?.state === "running";
    const left = document.activeElement; // hiding a button would take the focus from whoever works by keys
    find("train-running").hidden = !running;
    find("train-start").hidden = running;
    find("train-hint").hidden = running;
    if (running && left === find("train-start")) find("train-cancel").focus();
    else if (!running && left === find("train-cancel")) find("train-start").focus();
    if (running) {
      if (!this.seen) this.say("Training. Its progress is shown.");
      this.seen = true;
      find("train-progress").value = status.progress;
      find("train-text").textContent = describe(status);
      this.timer = setTimeout(() => getTraining().then((next) => this.follow(next), (error) => this.lost(error)), POLL);
    } else if (this.seen && status) {
      this.seen = false;
      if (status.state === "done") this.dispatchEvent(new Event("trained"));
      const told = status.state === "done" ? status.note : status.message;
      this.fault("train-fault", told ? new Error(told) : null);
    }
  }

  /** The server does not answer: it is asked again until it does. */
  lost(error) {
    clearTimeout(this.timer);
    this.gone = true;
    this.fault("train-fault", error);
    this.timer = setTimeout(() => this.refresh(), 5 * POLL);
  }

  async attempt(action, place) {
    try {
      await action();
      return true;
    } catch (error) {
      this.fault(place, error);
      return false;
    }
  }

  fault(place, error) {
    const text = error?.message ?? "";
    if (find(place).textContent === text) return;
    find(place).textContent = text;
    if (text) find(place).scrollIntoView({ block: "nearest" }); // it may lie below many clips
  }
}

function describe({ stage, epoch, epochs, top1, progress, left }) {
  if (!epoch || progress >= LEARNED) return stage;
  const told = left < 90 ? `about ${Math.max(10, 10 * Math.round(left / 10))} seconds left` : `about ${Math.round(left / 60)} minutes left`;
  return [`${stage}: round ${epoch} of ${epochs}`, `${Math.round(100 * top1)} % of your clips right`, ...(left === null ? [] : [told])].join(" · ");
}

function paint(canvas, bitmap) {
  canvas.width = 128;
  canvas.height = Math.round((128 * bitmap.height) / bitmap.width);
  canvas.getContext("2d").drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  bitmap.close();
}
