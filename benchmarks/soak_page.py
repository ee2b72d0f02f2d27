"""Tests the web page over a long time: ``python benchmarks/soak_page.py runs/live``.

``dynagest serve`` runs in a process of its own, and Chromium opens the page with a camera that plays generated gestures
in a loop. Once a minute the page's memory, its DOM, the values that it shows and the server's memory are sampled; every
third minute the camera is paused and resumed. A table and ``soak_page.json`` say whether everything stayed flat, and
whether gestures were still recognised at the end. Exit code 1 if anything failed. ``--minutes 4`` is enough to see that
it runs. With ``--browsers 2`` as many browsers have the page open and recognise at once, and each value is of the one
that does worst.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
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
MEASURE = "() => { window.memory = performance.measureUserAgentSpecificMemory(); }"
LOOK = """async () => {
  const read = (id) => parseFloat(document.getElementById(id).textContent);
  const { bytes } = await window.memory;
  const rows = [...document.querySelectorAll("#log li")].map((row) => row.dataset.key);
  return { bytes, rows, delay: read("latency"), camera: read("camera-rate"), network: read("network-rate") };
}"""


@dataclass(frozen=True)
class Sample:
    """One sample, at ``minute`` of the soak. With several browsers each value is of the page that does worst.

    In MiB: ``heap`` of page and worker after a garbage collection, and the resident memory of the page's ``renderer``
    (the largest), of all the browsers' other processes, and of the ``server``. As shown by the page: ``delay`` in ms,
    and the frames per second of ``camera`` and ``network``. ``gestures`` counts those recognised so far.
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
            # A run folder may be exported first, and the server says so before it tells its address.
            address = next((line.split()[0] for line in process.stdout if line.startswith("http")), None)
            if address is None:
                raise SystemExit(process.wait())  # the server has printed the reason
            yield psutil.Process(process.pid), address
        finally:
            process.terminate()


@contextmanager
def watching(address: str, folder: Path, browsers: int) -> Iterator[list[Any]]:
    """Open the page in as many Chromiums, with the camera on, inside the block; gives playwright's ``Page`` of each."""
    from playwright.sync_api import sync_playwright

    film = folder / "film.mjpeg"
    film.write_bytes(b"".join(generated_pictures()))
    camera = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
    with ExitStack() as stack:
        playwright = stack.enter_context(sync_playwright())
        pages = []
        for number in range(browsers):
            context = playwright.chromium.launch_persistent_context(
                folder / f"browser-{number}",
                executable_path=shutil.which("chromium") or shutil.which("google-chrome"),
                headless=True,
                permissions=["camera"],  # granted beforehand, so that the page turns the camera on by itself
                args=[*FLAGS, *camera, f"--use-file-for-fake-video-capture={film}"],
            )
            stack.callback(context.close)
            pages.append(context.pages[0])
            pages[-1].goto(address)
            pages[-1].wait_for_selector("#pause", state="visible", timeout=120_000)
        yield pages


def soak(model: Path, minutes: float, browsers: int, progress: Callable[[Sample], None]) -> list[Sample]:
    """Let the page recognise for ``minutes``, in as many browsers at once, and sample it."""
    samples: list[Sample] = []
    with (
        tempfile.TemporaryDirectory() as scratch,
        serving(model, Path(scratch)) as (server, address),
        watching(address, Path(scratch), browsers) as pages,
    ):
        devtools = [page.context.new_cdp_session(page) for page in pages]
        gestures: list[set[str]] = [set() for _ in pages]
        begin = time.monotonic()
        while (elapsed := time.monotonic() - begin) < minutes * 60:
            if len(samples) % PAUSED == PAUSED - 1:
                for page in pages:
                    page.keyboard.press("Alt+p")
                    page.wait_for_selector("#pause", state="hidden")
                    page.keyboard.press("Alt+p")
            pages[0].wait_for_timeout(1000 * max((len(samples) + 1) * SAMPLE - elapsed, 0))
            for page in pages:
                page.evaluate(MEASURE)  # all at once: each may take up to a minute
            seen = [page.evaluate(LOOK) for page in pages]
            for known, look in zip(gestures, seen, strict=True):
                known.update(look["rows"])
            for session in devtools:
                session.send("HeapProfiler.collectGarbage")  # so that replaced rows do not count as growth
            counters = [session.send("Memory.getDOMCounters") for session in devtools]
            renderer, others = resident(browsers)
            samples.append(
                Sample(
                    minute=round((time.monotonic() - begin) / 60, 3),
                    heap=round(max(look["bytes"] for look in seen) / 2**20, 2),
                    nodes=max(counter["nodes"] for counter in counters),
                    listeners=max(counter["jsEventListeners"] for counter in counters),
                    renderer=renderer,
                    browser=others,
                    server=round(server.memory_info().rss / 2**20, 2),
                    delay=max(look["delay"] for look in seen),
                    camera=min(look["camera"] for look in seen),
                    network=min(look["network"] for look in seen),
                    gestures=min(map(len, gestures)),
                )
            )
            progress(samples[-1])
    return samples


def resident(browsers: int) -> tuple[float, float]:
    """Resident MiB of the largest renderer, and of all other processes of the browsers but the pages' renderers.

    The largest renderers, one a browser, are the pages'.
    """
    renderers, others = [], 0.0
    for process in psutil.Process().children(recursive=True):
        command = process.cmdline()
        if command and "chrom" in Path(command[0]).name:
            size = process.memory_info().rss / 2**20
            if "--type=renderer" in command:
                renderers.append(size)
            else:
                others += size
    renderers.sort(reverse=True)
    return round(renderers[0], 2), round(others + sum(renderers[browsers:]), 2)


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
    parser.add_argument("--browsers", type=int, default=1, help="browsers that have the page open at once")
    parser.add_argument("--out", type=Path, default=Path("soak_page.json"))
    options = read_options(parser, SAMPLE)
    samples = soak(options.model, options.minutes, options.browsers, lambda sample: print(line_of(sample), flush=True))
    report(f"{options.minutes:g} minutes of the page, browsers: {options.browsers}", judge(samples), samples, options)


if __name__ == "__main__":
    main()
