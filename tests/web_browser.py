"""Chromium for the tests of the page: a fake camera that plays a film, and a user folder of its own."""

import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from dynagest.errors import RunError
from dynagest.web.runtime import find_runtime

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = (
    *("--no-sandbox", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
)
NO_GPU = ("--disable-gpu",)
SOFTWARE_GPU = (  # a graphics card that is computed, by SwiftShader, which comes with Chromium
    *("--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader"),
    *("--enable-features=Vulkan", "--use-vulkan=swiftshader"),
)
FAKE = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
RATE = 30  # frames a second at which Chromium plays a Motion JPEG file


def needs_browser() -> None:
    """Skip the test where there is no Chromium, no playwright or no ONNX Runtime Web."""
    pytest.importorskip("playwright", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed")
    try:
        find_runtime()
    except RunError as missing:
        pytest.skip(str(missing))


@contextmanager
def browser(
    film: Path | None, flags: Sequence[str] = FAKE, gpu: Sequence[str] = NO_GPU, **options: Any
) -> Iterator[Any]:
    """A page in a browser of its own (a playwright ``Page``); every fault in its console is in ``page.faults``."""
    from playwright.sync_api import sync_playwright

    arguments = [*FLAGS, *gpu, *flags, *([f"--use-file-for-fake-video-capture={film}"] if film else [])]
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            folder, executable_path=CHROMIUM, headless=True, args=arguments, **options
        )
        page = context.pages[0]
        page.faults = []
        page.on("console", lambda message: page.faults.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: page.faults.append(str(error)))
        try:
            yield page
        finally:
            context.close()


def write_film(path: Path, frames: Sequence[np.ndarray], fps: float) -> Path:
    """Square RGB frames at ``fps`` as a film for the fake camera: 640 x 480 around the square, Motion JPEG."""
    count = round(len(frames) * RATE / fps)
    with path.open("wb") as file:
        for index in range(count):
            frame = frames[int(index * fps / RATE)]
            picture = np.full((480, 640, 3), 24, np.uint8)
            picture[:, 80:560] = cv2.resize(frame, (480, 480), interpolation=cv2.INTER_CUBIC)
            file.write(cv2.imencode(".jpg", picture[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 92])[1].tobytes())
    return path


def turn_on(page: Any, address: str) -> None:
    """Open the page and turn on its camera."""
    page.goto(address)
    # The button is there until the camera is on; a fake camera that was allowed before comes on by itself.
    until(page, "document.body.dataset.stage === 'start' || document.body.dataset.stage === 'on'")
    if page.is_visible("#veil-button"):
        page.locator("#veil-button").click()
    page.wait_for_selector("#pause", state="visible", timeout=120_000)


def until(page: Any, condition: str, seconds: float = 120.0) -> None:
    """Wait until a JavaScript expression holds. playwright's own wait is against the page's CSP."""
    deadline = time.monotonic() + seconds
    while not page.evaluate(condition):
        assert time.monotonic() < deadline, condition
        page.wait_for_timeout(100)
