"""Measures how many frames per second the page's worker handles in Chromium: preprocessing and network, in WebAssembly.

    python benchmarks/browser.py runs/demo/network-fp32.onnx [--seconds 10] [--compute wasm] [--json]

The worker is the page's own. A frame of 640 x 480 is cropped, resized and normalised, and the network runs after every
frame: on the last T frames (clip), or one step (stream). Prints frames per second (from the median), milliseconds per
frame at the median and the 95th percentile, and the median of the preprocessing alone. Measure on a quiet machine; the
aim is 30 frames per second with two threads.
"""

import argparse
import json
import shutil
import statistics
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import uvicorn

from dynagest.web.app import Site, create_app
from dynagest.web.model import ModelShelf, load_model
from dynagest.web.runtime import find_runtime
from dynagest.web.serve import ServeOptions, build_config

FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
)
MEASURE = """async ([compute, seconds]) => {
  const { getModel } = await import("/static/api.js");
  const model = await getModel();
  const worker = new Worker("/static/worker.js", { type: "module" });
  const answer = (type) => new Promise((resolve, reject) => {
    worker.addEventListener("message", ({ data }) => {
      if (data.type === type) resolve(data);
      if (data.type === "failed") reject(new Error(data.message));
    });
  });
  worker.postMessage({ type: "load", model, compute });
  await answer("ready");
  const canvas = new OffscreenCanvas(640, 480);
  const context = canvas.getContext("2d");
  for (let k = 0; k < 400; k++) {
    context.fillStyle = `hsl(${(k * 47) % 360} 60% 50%)`;
    context.fillRect((k * 97) % 640, (k * 53) % 480, 60, 40);
  }
  worker.postMessage({ type: "measure", bitmap: canvas.transferToImageBitmap(), seconds });
  const { times, preparing, runsOn } = await answer("measured");
  return { times, preparing, runsOn, isolated: crossOriginIsolated };
}"""


def measure(network: Path, seconds: float, compute: str) -> dict[str, Any]:
    """The milliseconds of each frame (``times``, of which ``preparing`` is the preprocessing), and where it ran."""
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    model = load_model(network, fps=8.0)
    config = build_config(create_app(Site(ModelShelf(model), find_runtime())), ServeOptions(network, port=0))
    socket = config.bind_socket()
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [socket]}, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            folder, executable_path=chromium, headless=True, args=list(FLAGS)
        )
        page = context.pages[0]
        page.goto(f"http://127.0.0.1:{socket.getsockname()[1]}/static/icon.svg")
        found: dict[str, Any] = page.evaluate(MEASURE, [compute, seconds])
        context.close()
    server.should_exit = True
    thread.join()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("network", type=Path)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--compute", default="wasm", choices=("auto", "wasm", "webgpu"))
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found = measure(options.network, options.seconds, options.compute)
    times = sorted(found["times"])
    middle = statistics.median(times)
    summary = {
        "network": options.network.name,
        "runs_on": found["runsOn"],
        "isolated": found["isolated"],
        "frames": len(times),
        "frames_a_second": 1000 / middle,
        "median_ms": middle,
        "p95_ms": times[min(len(times) - 1, int(0.95 * len(times)))],
        "preprocessing_ms": statistics.median(found["preparing"]),
    }
    if options.json:
        print(json.dumps(summary))
        return
    print(
        f"{summary['network']} on {summary['runs_on']}: {summary['frames_a_second']:.1f} frames/s, "
        f"{middle:.1f} ms at the median, {summary['p95_ms']:.1f} at the 95th percentile, "
        f"of that {summary['preprocessing_ms']:.1f} ms preprocessing ({len(times)} frames)"
    )


if __name__ == "__main__":
    main()
