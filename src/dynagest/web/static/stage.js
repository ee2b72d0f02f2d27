// What lies over the camera picture: why there is none, the countdown of a recording, and the button that pauses.

const find = (id) => document.getElementById(id);

/** What the veil says in each state: title, text, and what its button does. */
const VEILS = {
  start: ["Show it a gesture", "Turn on the camera. Its picture is looked at in this browser and stays here.", "Turn on the camera"],
  asking: ["May the page use the camera?", "Your browser is asking. The picture stays in this browser."],
  loading: ["Getting the network ready", "A few seconds the first time, less from then on."],
  denied: ["The camera is blocked", "Allow it for this page, by the camera sign in the address bar or in the browser’s settings, then try again.", "Try again"],
  missing: ["No camera found", "Plug one in; the page notices and goes on.", "Try again"],
  busy: ["The camera does not answer", "Another program may be using it. Close that one, then try again.", "Try again"],
  lost: ["The camera is gone", "Plug it in again; the page goes on by itself.", "Try again"],
  insecure: ["The browser withholds the camera", "It gives it only to secure pages. Open this one on the machine that serves it, as http://localhost, or over https."],
  old: ["This browser is too old", "It cannot tell when a camera picture was taken. Firefox 132, Safari 15.4, Chrome 83 or later can."],
  failed: ["The network did not start", "", "Try again"],
  paused: ["Paused", "The camera is off.", "Go on"],
};

/** Dispatches `act` (the veil's button), `pause`, and `stop` (a recording is to end). */
export class Stage extends EventTarget {
  constructor() {
    super();
    this.veil = find("veil");
    this.state = "";
    this.pressed = false; // whether the focus was on the veil's button
    find("veil-button").addEventListener("click", () => this.dispatchEvent(new Event("act")));
    find("pause").addEventListener("click", () => this.dispatchEvent(new Event("pause")));
    find("take-stop").addEventListener("click", () => this.dispatchEvent(new Event("stop")));
  }

  /** Show one of the states above, or with "" the camera. `text` replaces the state's own. */
  show(state, text) {
    if (state === this.state && !text) return;
    this.state = state;
    const focused = document.activeElement;
    this.pressed ||= focused === find("veil-button");
    document.body.dataset.stage = state || "on";
    this.veil.hidden = !state;
    find("pause").hidden = Boolean(state);
    find("veil-progress").hidden = state !== "loading";
    if (!state) {
      // The focus moves from the button that turned the camera on to the one that pauses, unless it is elsewhere by now.
      if (this.pressed && (focused === document.body || this.veil.contains(focused))) find("pause").focus();
      this.pressed = false;
      return;
    }
    const [title, usual, button] = VEILS[state];
    find("veil-title").textContent = title;
    find("veil-text").textContent = text || usual;
    find("veil-button").hidden = !button;
    find("veil-button").textContent = button ?? "";
  }

  /** How much of what is loading is there, 0 to 1. */
  progress(share) {
    find("veil-progress").value = share;
  }

  /** The countdown: a large `number`, or "" while it records; `text` below. `null` takes it away. */
  take(number, text = "") {
    find("take").hidden = number === null;
    document.body.classList.toggle("taking", number !== null);
    find("take").classList.toggle("recording", number === "");
    find("take-number").textContent = number ?? "";
    find("take-text").textContent = text;
    if (number !== "") find("take-bar").hidden = true;
  }

  /** A bar that fills while `seconds` are recorded. */
  fill(seconds) {
    const bar = find("take-bar");
    bar.hidden = false;
    bar.firstElementChild.animate([{ transform: "scaleX(0)" }, { transform: "scaleX(1)" }], {
      duration: 1000 * seconds,
      fill: "forwards",
    });
  }
}
