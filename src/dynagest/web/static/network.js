// A network in ONNX Runtime Web: on the GPU where there is one that works and is faster, otherwise in WebAssembly.

const WASM = { script: "ort.wasm.min.mjs", glue: "ort-wasm-simd-threaded" };
const WEBGPU = { script: "ort.webgpu.min.mjs", glue: "ort-wasm-simd-threaded.asyncify" };
const MOST_THREADS = 4;
const AGREE = 0.02; // largest difference of logits between GPU and CPU, as a share of the largest logit

/**
 * Fetches and starts a network.
 * @param {object} model what /api/model answers
 * @param {"auto"|"wasm"|"webgpu"} compute "webgpu" takes the GPU even if it is slower or emulated
 * @param {(share: number) => void} progress how much of what must be loaded is there, 0 to 1
 */
export async function loadNetwork(model, compute, progress) {
  const runtime = compute !== "wasm" && (await hasGpu(compute === "webgpu")) ? WEBGPU : WASM;
  if (compute === "webgpu" && runtime !== WEBGPU) throw new Error("This browser offers no WebGPU.");
  const [wasmBinary, bytes] = await fetchAll([`${model.runtime}${runtime.glue}.wasm`, model.url], progress);
  const ort = await import(`${model.runtime}${runtime.script}`);
  const threads = self.crossOriginIsolated ? Math.min(navigator.hardwareConcurrency || 1, MOST_THREADS) : 1;
  Object.assign(ort.env.wasm, {
    numThreads: threads,
    wasmBinary,
    wasmPaths: { mjs: new URL(`${model.runtime}${runtime.glue}.mjs`, self.location.origin).href },
  });
  ort.env.logLevel = "error";
  const start = (provider) => Network.start(ort, bytes, provider, model, threads);
  const onCpu = await start("wasm");
  if (runtime === WASM) return onCpu;
  return (await onGpuIfBetter(start, onCpu, compute === "webgpu")) ?? onCpu;
}

/** A running network; `clip` for mode "clip", `initialState` and `step` for mode "stream". */
export class Network {
  static async start(ort, bytes, provider, model, threads) {
    const session = await ort.InferenceSession.create(bytes, {
      executionProviders: [provider],
      graphOptimizationLevel: "all",
      logSeverityLevel: 3,
    });
    const network = new Network(ort, session, model);
    network.runsOn = provider === "webgpu" ? "graphics card" : `CPU, ${threads} thread${threads > 1 ? "s" : ""}`;
    await network.probe(); // the first run is slow; better now than on the first frame
    return network;
  }

  constructor(ort, session, model) {
    this.ort = ort;
    this.session = session;
    this.card = model.card;
    this.mode = model.mode;
    this.state = model.state; // {name: {shape, dtype}}, see src/dynagest/runtimes/model_file.py
  }

  /** Normalised frames (T*3*s*s) -> logits (K). */
  async clip(values) {
    const { num_segments: length, size } = this.card;
    const results = await this.session.run({ clips: this.tensor(values, [1, length, 3, size, size]) });
    return results.logits.data;
  }

  /** The state before the first frame: zeros. */
  initialState() {
    const state = {};
    for (const [name, { shape, dtype }] of Object.entries(this.state)) {
      const length = shape.reduce((a, b) => a * b, 1);
      const values = dtype === "uint8" ? new Uint8Array(length) : new Float32Array(length);
      state[`state.${name}`] = new this.ort.Tensor(dtype, values, shape);
    }
    return state;
  }

  /** A normalised frame (3*s*s) and a state -> {logits (K), state}. */
  async step(values, state) {
    const { size } = this.card;
    const results = await this.session.run({ frame: this.tensor(values, [1, 3, size, size]), ...state });
    const next = Object.keys(this.state).map((name) => [`state.${name}`, results[`next.${name}`]]);
    return { logits: results.logits.data, state: Object.fromEntries(next) };
  }

  /** Logits of a picture that is always the same, and the milliseconds that they took. */
  async probe() {
    const { num_segments: length, size } = this.card;
    const values = new Float32Array((this.mode === "clip" ? length : 1) * 3 * size * size);
    values.forEach((_, i) => (values[i] = Math.sin(i * 0.37) + Math.sin(i * 0.011)));
    const began = performance.now();
    const logits = this.mode === "clip" ? await this.clip(values) : (await this.step(values, this.initialState())).logits;
    return { logits, milliseconds: performance.now() - began };
  }

  tensor(values, shape) {
    return new this.ort.Tensor("float32", values, shape);
  }
}

async function hasGpu(software) {
  const adapter = await navigator.gpu?.requestAdapter().catch(() => null);
  return Boolean(adapter) && (software || !adapter.info?.isFallbackAdapter);
}

/** The network on the GPU, if it starts, gives the CPU's answer and (unless forced) gives it sooner; else null. */
async function onGpuIfBetter(start, onCpu, forced) {
  try {
    const onGpu = await start("webgpu");
    const [cpu, gpu] = [await fastest(onCpu), await fastest(onGpu)];
    const scale = Math.max(...cpu.logits.map(Math.abs), 1e-6);
    const apart = Math.max(...cpu.logits.map((value, k) => Math.abs(value - gpu.logits[k]))) / scale;
    if (!(apart < AGREE)) throw new Error(`its answers are ${(100 * apart).toFixed(1)} % apart from the CPU's`);
    return forced || gpu.milliseconds < cpu.milliseconds ? onGpu : null;
  } catch (error) {
    if (forced) throw new Error(`The graphics card cannot run this network: ${error.message}`);
    console.info("WebGPU is not used:", error.message);
    return null;
  }
}

async function fastest(network) {
  let best = await network.probe();
  for (let i = 0; i < 4; i++) {
    const next = await network.probe();
    if (next.milliseconds < best.milliseconds) best = next;
  }
  return { logits: Array.from(best.logits), milliseconds: best.milliseconds };
}

/** The bytes of several addresses, with one progress for all. */
async function fetchAll(addresses, progress) {
  const loaded = addresses.map(() => 0);
  const totals = addresses.map(() => 0);
  const told = () => {
    if (totals.every(Boolean)) progress(Math.min(1, sum(loaded) / sum(totals)));
  };
  return Promise.all(
    addresses.map(async (address, index) => {
      const response = await fetch(address);
      if (!response.ok) throw new Error((await response.json().catch(() => ({}))).error ?? `${address}: ${response.status}`);
      totals[index] = Number(response.headers.get("content-length")) || 1;
      const bytes = new Uint8Array(totals[index]);
      let at = 0;
      for await (const chunk of chunks(response)) {
        if (at + chunk.length > bytes.length) throw new Error(`${address}: longer than announced`);
        bytes.set(chunk, at);
        loaded[index] = at += chunk.length;
        told();
      }
      if (at !== bytes.length) throw new Error(`${address}: broke off`);
      return bytes;
    }),
  );
}

async function* chunks(response) {
  const reader = response.body.getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    yield value;
  }
}

const sum = (values) => values.reduce((a, b) => a + b, 0);
