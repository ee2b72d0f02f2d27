// The page's requests to its server. Faults are thrown as Errors with messages for the user.

import { pack, unpack } from "./clipfile.js";

const CLIP = "application/vnd.dynagest.clip";
const clipPath = (label, name) => `/api/gestures/${encodeURIComponent(label)}/clips/${encodeURIComponent(name)}`;

async function ask(path, options = {}) {
  let response;
  try {
    response = await fetch(path, options);
  } catch {
    throw new Error("The server does not answer. Is it still running?");
  }
  if (response.ok) return response;
  const { error } = await response.json().catch(() => ({}));
  throw new Error(error ? error[0].toUpperCase() + error.slice(1) + (error.endsWith(".") ? "" : ".") : `${path}: ${response.status}`);
}

const json = async (path, options) => (await ask(path, options)).json();

/** {url, mode, state, card, events, runtime}: the network to run. */
export const getModel = () => json("/api/model");

/** {teach, reason?, folder?, gestures: [{label, clips: [{name, frames, seconds, written, fault}]}], fewest_clips?, trainable?} */
export const getGestures = () => json("/api/gestures");

/** {state, stage, progress, epoch, epochs, top1, left, note, message} */
export const getTraining = () => json("/api/training");

export const startTraining = () =>
  json("/api/training", { method: "POST", headers: { "content-type": "application/json" }, body: "{}" });

export const cancelTraining = () => json("/api/training", { method: "DELETE" });

/** Store a clip: `pictures` are JPEG blobs, `times` seconds. */
export const addClip = async (label, pictures, times) =>
  json(`/api/gestures/${encodeURIComponent(label)}/clips`, {
    method: "POST",
    headers: { "content-type": CLIP },
    body: await pack(pictures, times),
  });

/** {pictures: Blob[], times: number[]} */
export const getClip = async (label, name) => unpack(await (await ask(clipPath(label, name))).arrayBuffer());

/** The middle picture of a clip. */
export const getPicture = async (label, name) => (await ask(`${clipPath(label, name)}/picture`)).blob();

export const deleteClip = (label, name) => ask(clipPath(label, name), { method: "DELETE" });
