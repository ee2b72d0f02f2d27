// The page: joins camera, recogniser, strip and Teach, and says what is going on.

import { getModel } from "./api.js";
import { Camera } from "./camera.js";
import { Recogniser } from "./recogniser.js";
import { Stage } from "./stage.js";
import { Teach } from "./teach.js";
import { Timeline } from "./timeline.js";

const NONE = "none";
const RANKED = 3;
const LOGGED = 40;
const find = (id) => document.getElementById(id);
const title = (label) => label[0].toUpperCase() + label.slice(1).replaceAll("_", " ");
const percent = (share) => `${Math.round(100 * share)} %`;

const stage = new Stage();
const camera = new Camera(find("video"));
const recogniser = new Recogniser();
const timeline = new Timeline(find("timeline"));
const teach = new Teach(camera, stage, say);
const compute = new URLSearchParams(location.search).get("compute") ?? "auto";

const state = { camera: "start", model: "loading", fault: "", taking: false, active: null };
const frames = []; // when the last ones came, ms
const runs = []; // when the network ran, ms
const latencies = [];

/** Tell screen readers, without interrupting them. */
function say(text) {
  find("spoken").textContent = text;
}

const watching = () => state.camera === "on" && state.model === "ready";

/** Show the first obstacle in the veil; while there is one, no gesture is shown as seen. */
function showState() {
  if (!watching()) showName("Now", null, []);
  if (state.model === "failed") stage.show("failed", state.fault);
  else if (state.camera !== "on") stage.show(state.camera);
  else stage.show(state.model === "loading" && view() === "recognise" ? "loading" : "");
}

const view = () => (location.hash === "#teach" ? "teach" : "recognise");

function showView() {
  document.body.dataset.view = view();
  for (const link of document.querySelectorAll(".views a")) {
    if (link.hash === `#${view()}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  find("privacy").firstChild.textContent =
    view() === "teach" ? "Only clips that you record are kept, on the machine that serves this page. " : "The camera picture stays in this browser. ";
  document.title = view() === "teach" ? "Teach – dynagest" : "dynagest";
  recogniser.reset();
  if (view() === "teach") teach.refresh();
  else timeline.draw();
  showState();
}

function setActive(event) {
  state.active = event;
  document.body.classList.toggle("gesturing", event !== null);
}

async function loadModel() {
  state.model = "loading";
  setActive(null);
  showState();
  try {
    const model = await getModel();
    timeline.threshold = model.events.threshold;
    knows(model.card.classes);
    recogniser.load(model, compute);
  } catch (error) {
    fail(error.message);
  }
}

function fail(message) {
  Object.assign(state, { model: "failed", fault: message });
  showState();
}

async function startCamera(deviceId) {
  state.camera = "asking";
  showState();
  const started = await camera.start(deviceId);
  if (started === "replaced") return; // the later start tells
  state.camera = started;
  showState();
  if (state.camera === "on") await listCameras();
}

async function listCameras() {
  const cameras = await camera.list();
  find("cameras").replaceChildren(...cameras.map(({ id, name, chosen }) => new Option(name, id, chosen, chosen)));
  document.querySelector(".pick").hidden = cameras.length < 2;
}

function pause() {
  if (state.camera === "paused") return startCamera();
  if (state.camera !== "on") return undefined;
  camera.stop();
  recogniser.reset();
  state.camera = "paused";
  showState();
  find("veil-button").focus();
  return undefined;
}

/** List the gestures that the network knows, in a part that can be opened. */
function knows(classes) {
  const names = classes.filter((label) => label !== NONE).map(title);
  find("knows").querySelector("summary").textContent = `It knows ${names.length} gesture${names.length === 1 ? "" : "s"}`;
  find("knows").querySelector("ul").replaceChildren(...names.map((name) => element("li", "", name)));
}

function element(tag, kind, text = "") {
  const made = document.createElement(tag);
  if (kind) made.className = kind;
  made.textContent = text;
  return made;
}

/**
 * Show a gesture, perhaps one, or none, and below it what else is likely. Returns the largest evidence.
 *
 * All by the evidence, as strip and log: a score that is high for a moment is none yet, and would contradict the name.
 */
function showNow({ evidence }) {
  const { card, events } = recogniser.model;
  const ranked = card.classes
    .map((label, k) => ({ label, evidence: evidence[k] }))
    .filter(({ label }) => label !== NONE)
    .sort((a, b) => b.evidence - a.evidence);
  const active = state.active && ranked.find(({ label }) => label === state.active.label);
  const likely = ranked[0].evidence;
  const perhaps = likely >= events.threshold / 2 ? ranked[0] : undefined;
  const shown = active ?? perhaps;
  showName(active ? "Gesture" : perhaps ? "Perhaps" : "Now", shown, ranked.filter((each) => each !== shown));
  return likely;
}

/** `shown` {label, evidence} or undefined, and `others` like it. */
function showName(eyebrow, shown, others) {
  find("now").classList.toggle("alive", eyebrow === "Gesture");
  find("now").classList.toggle("perhaps", eyebrow === "Perhaps");
  find("now-eyebrow").textContent = eyebrow;
  const name = shown ? title(shown.label) : "No gesture";
  find("now-name").textContent = name;
  find("now-name").style.setProperty("--chars", name.length);
  find("now-sure").style.setProperty("--share", shown ? shown.evidence : 0);
  find("now-sure").setAttribute("aria-valuenow", Math.round(100 * (shown?.evidence ?? 0)));
  find("now-percent").textContent = shown ? percent(shown.evidence) : "–";
  find("rank").replaceChildren(...others.slice(0, RANKED).map(rankRow));
}

function rankRow({ label, evidence }) {
  const row = element("li");
  row.append(element("span", "", title(label)), element("span", "share", percent(evidence)));
  row.style.setProperty("--share", evidence.toFixed(3));
  return row;
}

/** Add a line to the log at the activation, and complete it when the gesture is over. */
function logEvent(event) {
  const key = String(event.fired);
  let row = [...find("log").children].find((each) => each.dataset.key === key);
  if (!row) {
    row = element("li");
    row.dataset.key = key;
    row.dataset.label = event.label;
    row.append(element("time", "", new Date().toLocaleTimeString()), element("strong", "", title(event.label)), element("span"));
    find("log").prepend(row);
    while (find("log").children.length > LOGGED) find("log").lastElementChild.remove();
    say(`${title(event.label)}, ${percent(event.confidence)}`);
  }
  const length = event.end === null ? "" : ` · ${(event.end - event.begin).toFixed(1)} s long`;
  row.classList.toggle("alive", event.end === null);
  row.lastElementChild.textContent = percent(event.confidence) + length;
  find("log-empty").hidden = true;
}

/** How many of `times` there were per second, over the last `span` ms. */
function rate(times, span) {
  const now = performance.now();
  while (times.length && times[0] < now - span) times.shift();
  return times.length / (span / 1000);
}

function showReadings() {
  const camerasRate = rate(frames, 2000);
  const networksRate = rate(runs, 3000);
  const middle = latencies.toSorted((a, b) => a - b)[Math.floor(latencies.length / 2)];
  find("latency").textContent = middle === undefined || !networksRate ? "–" : `${Math.round(middle)} ms`;
  find("camera-rate").textContent = camerasRate ? `${Math.round(camerasRate)} fps` : "–";
  find("network-rate").textContent = networksRate ? `${networksRate.toFixed(1)} /s` : "–";
}

camera.addEventListener("frame", async ({ detail }) => {
  frames.push(performance.now());
  timeline.now(detail.time);
  if (view() !== "recognise" || !recogniser.ready || state.taking) return;
  state.taking = true; // one at a time, so that they stay in order
  try {
    recogniser.push(await camera.picture(), detail.time, detail.arrived);
  } catch (error) {
    if (camera.running) throw error; // without a camera there is no picture, which is no fault
  } finally {
    state.taking = false;
  }
});
camera.addEventListener("lost", () => {
  state.camera = "lost";
  recogniser.reset();
  showState();
});
camera.addEventListener("found", () => {
  if (["lost", "missing"].includes(state.camera)) startCamera();
  else listCameras();
});
recogniser.addEventListener("progress", ({ detail }) => stage.progress(detail.share));
recogniser.addEventListener("ready", ({ detail }) => {
  state.model = "ready";
  find("runs-on").textContent = detail.runsOn;
  showState();
});
recogniser.addEventListener("failed", ({ detail }) => fail(detail.message));
recogniser.addEventListener("work", ({ detail }) => {
  for (let k = 0; k < detail.runs; k++) runs.push(performance.now());
});
recogniser.addEventListener("update", ({ detail }) => {
  if (!watching()) return; // the answer to a frame from before the camera stopped
  latencies.push(detail.latency);
  if (latencies.length > 15) latencies.shift();
  timeline.add(detail.time, showNow(detail));
});
recogniser.addEventListener("gesture", ({ detail }) => {
  setActive(detail.end === null ? detail : null);
  timeline.put({ ...detail, name: title(detail.label) });
  logEvent(detail);
});
stage.addEventListener("act", () => (state.model === "failed" ? loadModel() : startCamera()));
stage.addEventListener("pause", pause);
teach.addEventListener("trained", async () => {
  say("Trained. The page runs the new network.");
  timeline.clear();
  location.hash = "#recognise";
  await loadModel();
});
find("cameras").addEventListener("change", ({ target }) => startCamera(target.value));
// Moves the focus itself, because following the link would change the address, which names the view.
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  find("main").focus();
});
addEventListener("hashchange", showView);
// With Alt, because speech input and screen readers use single letters. On a Mac, Alt+P types another letter.
addEventListener("keydown", (event) => {
  const p = event.key.toLowerCase() === "p" || event.code === "KeyP";
  if (p && event.altKey && !event.ctrlKey && !event.metaKey && !event.repeat && !event.target.closest("input, textarea")) pause();
});

const narrow = matchMedia("(max-width: 719px)");
const fitStrip = () => {
  timeline.seconds = narrow.matches ? 8 : 12;
  find("strip-seconds").textContent = timeline.seconds;
  timeline.draw();
};
narrow.addEventListener("change", fitStrip);
find("video").addEventListener("resize", ({ target }) => document.body.classList.toggle("upright", target.videoHeight > target.videoWidth));

fitStrip();
showView();
timeline.animate(() => state.camera === "on" && view() === "recognise");
setInterval(showReadings, 500);
loadModel();
// Where the camera was allowed before, it need not be asked for again.
navigator.permissions?.query({ name: "camera" }).then(
  ({ state: allowed }) => allowed === "granted" && state.camera === "start" && startCamera(),
  () => {}, // a browser that does not tell asks when the button is pressed
);
