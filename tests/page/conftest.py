"""The page in real Chromium: sites to open, and films for its fake camera."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from export_helpers import export_colours
from page_sites import LONGEST, clip_frames, export_untrained, rate_of, serve
from web_browser import needs_browser, write_film
from web_helpers import running

from dynagest.stream.events import EventSettings
from dynagest.synth.spec import get_preset
from dynagest.web.app import Site, create_app
from dynagest.web.model import ModelShelf, load_model
from dynagest.web.runtime import find_runtime


@pytest.fixture(scope="session", autouse=True)
def _needed() -> None:
    needs_browser()


@pytest.fixture(scope="session")
def untrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_untrained(tmp_path_factory.mktemp("untrained"), ("left", LONGEST, "none"))


@pytest.fixture(scope="session")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    spec = get_preset("demo")
    return write_film(tmp_path_factory.mktemp("film") / "one.mjpeg", clip_frames(spec, 0), rate_of(spec))


@pytest.fixture
def address(tmp_path: Path, untrained: Path) -> Iterator[str]:
    with running(create_app(serve(tmp_path, untrained))) as port:
        yield f"http://127.0.0.1:{port}/"


@pytest.fixture
def colours(tmp_path: Path) -> Iterator[str]:
    """The address of a page whose network takes red for "left": one that is no trained one, and sure of it."""
    settings = EventSettings(smoothing=0, lag=0, cooldown=0.1)
    network = export_colours(tmp_path / "colours.onnx", "left", "right", settings)
    site = Site(ModelShelf(load_model(network)), find_runtime(), teach_off="not in this test")
    with running(create_app(site)) as port:
        yield f"http://127.0.0.1:{port}/"


@pytest.fixture(scope="session")
def red(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A second of dark and a second of red, again and again."""
    frame = np.zeros((64, 64, 3), np.uint8)
    frame[..., 0] = 230
    return write_film(tmp_path_factory.mktemp("film") / "red.mjpeg", [np.zeros_like(frame), frame], 1)
