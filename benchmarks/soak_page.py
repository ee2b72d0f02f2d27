"""Tests the web page over a long time: ``python benchmarks/soak_page.py runs/live``.

``dynagest serve`` runs in a process of its own, and Chromium opens the page with a camera that plays generated gestures
in a loop. Once a minute the page's memory, its DOM, the values that it shows and the server's memory are sampled; every
third minute the camera is paused and resumed. A table and ``soak_page.json`` say whether everything stayed flat, and
whether gestures were still recognised at the end. Exit code 1 if anything failed. ``--minutes 3`` is enough to see that
it runs.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from browser import FLAGS
from soak import Check, generated_pictures, line_of, medians, read_options, report, slower

SAMPLE = 60.0  # seconds between two samples; Chromium takes up to a minute to measure the memory
PAUSED = 3  # samples from one pause to the next
# How much each may grow from the second to the last quarter.
ALLOWED = {"heap": 1.0, "nodes": 50, "listeners": 2, "renderer": 16.0, "browser": 32.0, "server": 4.0}
LOOK = """async () => {
  const read = (id) => parseFloat(document.getElementById(id).textContent);
  const { bytes } = await performance.measureUserAgentSpecificMemory();
  const rows = [...document.querySelectorAll("#log li")].map((row) => row.dataset.key);
  return { bytes, rows, delay: read("latency"), camera: read("camera-rate"), network: read("network-rate") };
}"""


@dataclass(frozen=True)
class Sample:
    """One sample, at ``minute`` of the soak.

    In MiB: ``heap`` of page and worker after a garbage collection, and the resident memory of the page's ``renderer``,
    of the ``browser``'s other processes, and of the ``server``. As shown by the page: ``delay`` in ms, and the frames
    per second of ``camera`` and ``network``. ``gestures`` counts those recognised so far.
    """

    minute: float
    heap: float
    nodes: int
    listeners: int
    renderer: float
    browser: float
    server: float
    delay: float
    camera: float
    network: float
    gestures: int


@contextmanager
def serving(model: Path, folder: Path) -> Iterator[tuple[psutil.Process, str]]:
    """Run ``dynagest serve`` with this model inside the block; gives its process and its address."""
    command = [sys.executable, "-m", "dynagest", "serve", str(model.resolve()), "--port", "0"]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            told = process.stdout.readline()
            if not told:
                raise SystemExit(process.wait())  # the server has printed the reason
            yield psutil.Process(process.pid), told.split()[0]
        finally:
            process.terminate()


@contextmanager
def watching(address: str, folder: Path) -> Iterator[Any]:
    """Open the page in Chromium, with the camera on, inside the block; gives playwright's ``Page``."""
    from playwright.sync_api import sync_playwright

    film = folder / "film.mjpeg"
    film.write_bytes(b"".join(generated_pictures()))
    camera = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            folder / "browser",
            executable_path=shutil.which("chromium") or shutil.which("google-chrome"),
            headless=True,
            permissions=["camera"],  # granted beforehand, so that the page turns the camera on by itself
            args=[*FLAGS, *camera, f"--use-file-for-fake-video-capture={film}"],
        )
        page = context.pages[0]
        page.goto(address)
        page.wait_for_selector("#pause", state="visible", timeout=120_000)
        yield page
        context.close()


def soak(model: Path, minutes: float, progress: Callable[[Sample], None]) -> list[Sample]:
    """Let the page recognise for ``minutes`` and sample it."""
    samples: list[Sample] = []
    gestures: set[str] = set()
    with (
        tempfile.TemporaryDirectory() as scratch,
        serving(model, Path(scratch)) as (server, address),
        watching(address, Path(scratch)) as page,
    ):
        devtools = page.context.new_cdp_session(page)
        begin = time.monotonic()
        while (elapsed := time.monotonic() - begin) < minutes * 60:
            if len(samples) % PAUSED == PAUSED - 1:
                page.keyboard.press("Alt+p")
                page.wait_for_selector("#pause", state="hidden")
                page.keyboard.press("Alt+p")
            page.wait_for_timeout(1000 * max((len(samples) + 1) * SAMPLE - elapsed, 0))
            seen = page.evaluate(LOOK)
            gestures.update(seen["rows"])
            devtools.send("HeapProfiler.collectGarbage")  # so that replaced rows do not count as growth
            counters = devtools.send("Memory.getDOMCounters")
            renderer, browser = resident()
            samples.append(
                Sample(
                    minute=round((time.monotonic() - begin) / 60, 3),
                    heap=round(seen["bytes"] / 2**20, 2),
                    nodes=counters["nodes"],
                    listeners=counters["jsEventListeners"],
                    renderer=renderer,
                    browser=browser,
                    server=round(server.memory_info().rss / 2**20, 2),
                    delay=seen["delay"],
                    camera=seen["camera"],
                    network=seen["network"],
                    gestures=len(gestures),
                )
            )
            progress(samples[-1])
    return samples


def resident() -> tuple[float, float]:
    """Resident MiB of the browser's largest renderer, which is the page's, and of its other processes together."""
    sizes = []
    for process in psutil.Process().children(recursive=True):
        command = process.cmdline()
        if command and "chrom" in Path(command[0]).name:
            sizes.append(("--type=renderer" in command, process.memory_info().rss / 2**20))
    page = max(size for is_renderer, size in sizes if is_renderer)
    return round(page, 2), round(sum(size for _, size in sizes) - page, 2)


def judge(samples: list[Sample]) -> list[Check]:
    """The checks of what must hold for the samples."""
    checks = []
    for name, allowed in ALLOWED.items():
        early, late = medians(samples, name)
        checks.append(Check(f"flat: {name}", f"{early:.1f} -> {late:.1f}", late - early <= allowed))
    delay, camera, network = (medians(samples, name) for name in ("delay", "camera", "network"))
    between = samples[-1].gestures - samples[-max(len(samples) // 4, 1) - 1].gestures
    return [
        *checks,
        Check("delay does not grow", f"{delay[0]:.0f} -> {delay[1]:.0f} ms", not slower(*delay)),
        Check("camera keeps its rate", f"{camera[0]:.0f} -> {camera[1]:.0f} /s", camera[1] > 0.8 * camera[0]),
        Check("network keeps its rate", f"{network[0]:.1f} -> {network[1]:.1f} /s", network[1] > 0.8 * network[0]),
        Check("gestures to the end", f"{samples[-1].gestures}, in the last quarter {between}", between > 0),
    ]


def main() -> None:
    """Soak, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="a run folder or an exported ONNX file")
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--out", type=Path, default=Path("soak_page.json"))
    options = read_options(parser, SAMPLE)
    samples = soak(options.model, options.minutes, lambda sample: print(line_of(sample), flush=True))
    report(f"{options.minutes:g} minutes of the page", judge(samples), samples, options)


if __name__ == "__main__":
    main()
