"""The page in real Chromium, with a fake camera that plays generated gestures."""

import re
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from export_helpers import export_colours
from web_browser import SOFTWARE_GPU, browser, needs_browser, turn_on, until, write_film
from web_helpers import make_site, running

from dynagest.card import NetworkCard
from dynagest.clips.checks.check import check
from dynagest.clips.gesture_folder import LONGEST_LABEL, write_clip
from dynagest.clips.manifest import Manifest
from dynagest.export import export
from dynagest.networks.build import create_model
from dynagest.networks.weights import save_network
from dynagest.runtimes.arrays import softmax
from dynagest.runtimes.exported import ExportedNetwork
from dynagest.runtimes.load import load_clip_network
from dynagest.runtimes.model_file import Mode
from dynagest.stream.events import EventDetector, EventSettings
from dynagest.stream.prepare import prepare_frame
from dynagest.stream.recogniser import Recogniser
from dynagest.stream.window import Unsplit, WindowScorer
from dynagest.synth import get_preset
from dynagest.synth.recording import label_of, plan, record
from dynagest.synth.spec import SynthSpec
from dynagest.web.app import Site, create_app
from dynagest.web.clips import ClipFolder
from dynagest.web.model import ModelShelf, load_model
from dynagest.web.runtime import find_runtime
from dynagest.web.training import Training

pytestmark = pytest.mark.slow
LONGEST = "w" * LONGEST_LABEL  # of the names that a gesture may have, and the widest
DEMO = Path(__file__).resolve().parents[1] / "runs" / "demo"
LOGITS = """async ([values, compute]) => {
  const { loadNetwork } = await import("/static/network.js");
  const { getModel } = await import("/static/api.js");
  const network = await loadNetwork(await getModel(), compute, () => {});
  return [network.runsOn, Array.from(await network.clip(new Float32Array(values)))];
}"""


@pytest.fixture(scope="module", autouse=True)
def _needed() -> None:
    needs_browser()


def rate_of(spec: SynthSpec) -> float:
    """Frames a second of its clips."""
    return spec.num_frames / spec.seconds


def clip_frames(spec: SynthSpec, index: int) -> list[np.ndarray]:
    """The frames (S, S, 3) of test clip ``index``."""
    footage = record(spec, plan(spec, "test", index), np.arange(spec.num_frames))
    return list(np.ascontiguousarray(footage.rgb.permute(0, 2, 3, 1).numpy()))


def export_untrained(folder: Path, classes: tuple[str, ...], **options: Any) -> Path:
    """A run folder with an untrained small network, exported: the ONNX file."""
    torch.manual_seed(0)
    net = create_model("action_resnet18", len(classes), 8, width=16, options=options or None)
    card = NetworkCard(
        model="action_resnet18", classes=classes, num_segments=8, fps=8.0, size=64, width=16, options=options
    )
    save_network(folder, net.eval(), card)
    mode: Mode = "stream" if options.get("online") else "clip"
    path = folder / f"{mode}.onnx"
    export(folder, "onnx", mode=mode, out=path, clips=2)
    return path


@pytest.fixture(scope="module")
def untrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_untrained(tmp_path_factory.mktemp("untrained"), ("left", LONGEST, "none"))


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    spec = get_preset("demo")
    return write_film(tmp_path_factory.mktemp("film") / "one.mjpeg", clip_frames(spec, 0), rate_of(spec))


def serve(
    folder: Path, network: Path, init: Path | None = None, epochs: int | None = None, fps: float | None = None
) -> Site:
    shelf, clips = ModelShelf(load_model(network, fps=fps)), ClipFolder(folder / "gestures")
    training = Training(clips, init, folder / "runs", lambda path: shelf.put(load_model(path)), epochs)
    return Site(shelf, find_runtime(), clips, training)


@pytest.fixture
def address(tmp_path: Path, untrained: Path) -> Iterator[str]:
    with running(create_app(serve(tmp_path, untrained))) as port:
        yield f"http://127.0.0.1:{port}/"


def scores_seen(page: Any) -> None:
    until(page, "document.getElementById('network-rate').textContent.includes('/s')")
    until(page, "document.querySelectorAll('#rank li').length > 0")


def luminance(colour: str) -> float:
    """Of a computed colour, "rgb(r, g, b)", as WCAG has it: 0 is black, 1 is white."""
    found = re.fullmatch(r"rgb\((\d+), (\d+), (\d+)\)", colour)
    assert found, colour
    values = np.array([int(each) for each in found.groups()]) / 255
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    return float(linear @ (0.2126, 0.7152, 0.0722))


def contrast(front: str, back: str) -> float:
    """WCAG's, 1 to 21."""
    darker, lighter = sorted((luminance(front), luminance(back)))
    return (lighter + 0.05) / (darker + 0.05)


def with_pause(frames: list[np.ndarray]) -> list[np.ndarray]:
    """A gesture and as much dark: shown end to beginning, a hand that swiped up would visibly swipe down again."""
    return [*frames, *[np.zeros_like(frames[0])] * len(frames)]


def named_by_python(
    network: ExportedNetwork, frames: list[np.ndarray], rate: float, fps: float, settings: EventSettings
) -> list[str]:
    """What is recognised in four rounds of the film that the page is to see, begun at every second of its frames.

    The page comes in somewhere, and which frames its network sees follows from that.
    """
    labels = []
    for start in range(0, len(frames), 2):
        scorer = WindowScorer(Unsplit(network), fps=fps)
        recogniser = Recogniser(scorer, EventDetector(network.card.classes, settings))
        shown = (with_pause(frames) * 4)[start:]
        events = [event for k, frame in enumerate(shown) for event in recogniser.push(frame, k / rate).events]
        labels += [event.label for event in events if event.end is None]
    return labels


@pytest.fixture
def colours(tmp_path: Path) -> Iterator[str]:
    """The address of a page whose network takes red for "left": one that is no trained one, and sure of it."""
    settings = EventSettings(smoothing=0, lag=0, cooldown=0.1)
    network = export_colours(tmp_path / "colours.onnx", "left", "right", settings)
    site = Site(ModelShelf(load_model(network)), find_runtime(), teach_off="not in this test")
    with running(create_app(site)) as port:
        yield f"http://127.0.0.1:{port}/"


@pytest.fixture(scope="module")
def red(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A second of dark and a second of red, again and again."""
    frame = np.zeros((64, 64, 3), np.uint8)
    frame[..., 0] = 230
    return write_film(tmp_path_factory.mktemp("film") / "red.mjpeg", [np.zeros_like(frame), frame], 1)


class TestRecognise:
    def test_it_runs_isolated_and_from_this_server_alone(self, address: str, film: Path) -> None:
        with browser(film) as page:
            asked: list[str] = []
            page.on("request", lambda request: asked.append(request.url))
            turn_on(page, address)
            scores_seen(page)
            assert page.evaluate("crossOriginIsolated")
            assert re.fullmatch(r"CPU, \d threads?", page.inner_text("#runs-on"))
            assert re.fullmatch(r"\d+ ms", page.inner_text("#latency"))
            assert {url.split("/")[2] for url in asked} == {address.split("/")[2]}
            assert page.faults == []
            # Alt+P turns the camera off, and the button on again; the focus goes along.
            page.keyboard.press("Alt+p")
            assert page.inner_text("#veil-title") == "Paused"
            assert page.evaluate("document.getElementById('video').srcObject") is None
            assert page.locator("#rank li").count() == 0, "what was seen before the pause is not seen now"
            page.keyboard.press("Enter")
            page.wait_for_selector("#pause", state="visible")
            assert page.evaluate("document.activeElement.id") == "pause"
            scores_seen(page)

    def test_a_stream_network(self, tmp_path: Path, film: Path) -> None:
        network = export_untrained(tmp_path / "net", ("left", "right", "none"), online=True)
        with running(create_app(serve(tmp_path, network))) as port, browser(film) as page:
            turn_on(page, f"http://127.0.0.1:{port}/")
            scores_seen(page)
            assert page.faults == []

    def test_the_network_gives_in_the_browser_what_it_gives_in_python(
        self, address: str, film: Path, untrained: Path
    ) -> None:
        network = load_clip_network(untrained)
        clip = np.random.default_rng(0).normal(size=(1, 8, 3, 64, 64)).astype(np.float32)
        with browser(film) as page:
            page.goto(address)
            _, logits = page.evaluate(LOGITS, [clip.ravel().tolist(), "wasm"])
        assert logits == pytest.approx(network.logits(clip)[0].tolist(), rel=1e-3, abs=1e-4)

    def test_the_graphics_card_runs_the_network_when_it_is_asked_for_and_gives_what_the_cpu_gives(
        self, address: str, film: Path, untrained: Path
    ) -> None:
        clip = np.random.default_rng(0).normal(size=(1, 8, 3, 64, 64)).astype(np.float32)
        expected = load_clip_network(untrained).logits(clip)[0]
        with browser(film, gpu=SOFTWARE_GPU) as page:
            page.goto(address)
            if not page.evaluate("async () => Boolean(await navigator.gpu?.requestAdapter().catch(() => null))"):
                pytest.skip("this Chromium offers no adapter for WebGPU, not even SwiftShader's")
            runs_on, logits = page.evaluate(LOGITS, [clip.ravel().tolist(), "webgpu"])
            assert runs_on == "graphics card"
            assert logits == pytest.approx(expected.tolist(), rel=0, abs=0.02 * float(np.abs(expected).max()))

    def test_a_gesture_is_announced_each_time(self, colours: str, red: Path) -> None:
        """The same words twice, too: a screen reader says what changes in the document, and nothing else."""
        with browser(red) as page:
            page.add_init_script("""addEventListener("DOMContentLoaded", () => {
              const spoken = document.getElementById("spoken");
              window.heard = [];
              new MutationObserver((changes) => {
                if (changes.some((change) => change.addedNodes.length)) window.heard.push(spoken.textContent);
              }).observe(spoken, { childList: true });
            })""")
            turn_on(page, colours)
            until(page, "document.querySelectorAll('#log li').length >= 3")
            heard, rows = page.evaluate("[window.heard, document.querySelectorAll('#log li').length]")
            assert page.get_attribute("#spoken", "aria-live") == "polite"
            assert page.faults == []
        assert heard == ["Left, 100 %"] * rows

    def test_it_names_the_gestures(self, tmp_path: Path) -> None:
        if not (DEMO / "network.safetensors").exists():
            pytest.skip("needs the demo's network: `make demo`")
        path = tmp_path / "demo.onnx"
        export(DEMO, "onnx", out=path, clips=2)
        network, spec = load_clip_network(path), get_preset("demo")
        classes, found = network.card.classes, {}
        for index in range(2 * len(spec.classes)):
            frames = clip_frames(spec, index)
            picked = [frames[int((k + 0.5) * len(frames) / 8)] for k in range(8)]
            clip = np.stack([prepare_frame(frame, network.card)[0] for frame in picked])
            scores = softmax(network.logits(clip[None]))[0]
            label = label_of(spec, index)
            if classes[int(scores.argmax())] == spec.classes[label]:
                found[spec.classes[label]] = max(
                    found.get(spec.classes[label], (0.0, [])), (float(scores.max()), frames), key=lambda each: each[0]
                )
        fps = 8 / spec.seconds
        settings = EventSettings(smoothing=0.1, threshold=0.5, dip=0.12, cooldown=0.5, lag=0.3)
        # The page is tested, not the demo's network, which knows no "none": gestures that Python names in such a film,
        # and names nothing else.
        best = [
            name
            for name in sorted(found, key=lambda name: -found[name][0])[:6]
            if set(named_by_python(network, found[name][1], rate_of(spec), fps, settings)) == {name}
        ][:3]
        assert len(best) == 3, "the demo's network names too few gestures in a stream"
        site = serve(tmp_path, path, fps=fps)
        site.models.put(replace(site.models.current, events=settings))
        with running(create_app(site)) as port:
            for name in best:
                frames = found[name][1]
                reel = write_film(tmp_path / f"{name}.mjpeg", with_pause(frames), rate_of(spec))
                with browser(reel) as page:
                    turn_on(page, f"http://127.0.0.1:{port}/")
                    until(page, "document.querySelectorAll('#log li').length >= 4", 180)
                    labels = page.evaluate("[...document.querySelectorAll('#log li')].map((row) => row.dataset.label)")
                    assert set(labels) == {name}, labels


class TestStates:
    def test_no_camera(self, address: str) -> None:
        with browser(None, flags=("--use-fake-ui-for-media-stream",)) as page:
            page.goto(address)
            if page.is_visible("#veil-button"):
                page.locator("#veil-button").click()
            until(page, "document.getElementById('veil-title').textContent === 'No camera found'")

    def test_no_permission(self, address: str) -> None:
        with browser(None, flags=("--use-fake-device-for-media-stream", "--deny-permission-prompts")) as page:
            page.goto(address)
            if page.is_visible("#veil-button"):
                page.locator("#veil-button").click()
            until(page, "document.getElementById('veil-title').textContent === 'The camera is blocked'")
            assert page.inner_text("#veil-button") == "Try again"

    def test_a_camera_without_pictures(self, address: str) -> None:
        with browser(None) as page:
            page.add_init_script("""navigator.mediaDevices.getUserMedia = async () => {
              const canvas = document.createElement("canvas");
              canvas.getContext("2d");
              return canvas.captureStream(0);
            }""")
            page.goto(address)
            if page.is_visible("#veil-button"):
                page.locator("#veil-button").click()
            until(page, "document.getElementById('veil-title').textContent === 'The camera does not answer'")
            assert page.faults == []

    def test_a_network_that_does_not_load(self, address: str, film: Path) -> None:
        with browser(film) as page:
            page.route("**/model/*", lambda route: route.fulfill(status=404, body='{"error": "gone"}'))
            page.goto(address)
            until(page, "document.getElementById('veil-title').textContent === 'The network did not start'")
            assert page.inner_text("#veil-text") == "gone"
            page.unroute("**/model/*")
            page.locator("#veil-button").click()
            until(page, "document.getElementById('veil-title').textContent !== 'The network did not start'")

    def test_a_long_message_can_be_scrolled_to_its_button(self, address: str) -> None:
        """On a phone: the picture, in which it stands, is not as high as a long message of the runtime."""
        with browser(None, viewport={"width": 390, "height": 844}) as page:
            failure = {"status": 500, "body": '{"error": "' + "no available backend found " * 12 + '"}'}
            page.route("**/model/*", lambda route: route.fulfill(**failure))
            page.goto(address)
            until(page, "document.getElementById('veil-title').textContent === 'The network did not start'")
            page.mouse.move(195, 200)
            page.mouse.wheel(0, 1000)
            page.evaluate("""() => {
              window.bottom = (name) => document.querySelector(name).getBoundingClientRect().bottom;
            }""")
            until(page, "bottom('#veil-button') <= bottom('.stage')", 10)

    def test_a_camera_that_goes_and_comes_back(self, address: str, film: Path) -> None:
        with browser(film) as page:
            turn_on(page, address)
            page.evaluate("""() => {
              const [track] = document.getElementById("video").srcObject.getVideoTracks();
              track.stop();
              track.dispatchEvent(new Event("ended"));
            }""")
            assert page.inner_text("#veil-title") == "The camera is gone"
            page.evaluate("navigator.mediaDevices.dispatchEvent(new Event('devicechange'))")
            page.wait_for_selector("#pause", state="visible")
            scores_seen(page)

    def test_teach_that_is_off(self, tmp_path: Path, film: Path) -> None:
        site = replace(make_site(tmp_path), clips=None, training=None, teach_off="not on this address")
        with running(create_app(site)) as port, browser(film) as page:
            page.goto(f"http://127.0.0.1:{port}/#teach")
            until(page, "document.getElementById('teach-lead').textContent.includes('not on this address')")
            assert not page.is_visible("#add")

    def test_two_starts_at_once_leave_one_camera_on(self, address: str, film: Path) -> None:
        with browser(film) as page:
            page.goto(address)
            on = page.evaluate("""async () => {
              const { Camera } = await import("/static/camera.js");
              const ask = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
              const streams = [];
              navigator.mediaDevices.getUserMedia = async (wanted) => (streams.push(await ask(wanted)), streams.at(-1));
              const camera = new Camera(document.createElement("video"));
              await Promise.all([camera.start(), camera.start()]);
              return streams.map((stream) => stream.active);
            }""")
            assert on == [False, True]

    def test_a_recording_ends_with_the_camera(self, address: str, film: Path) -> None:
        with browser(film) as page:
            turn_on(page, f"{address}#teach")
            page.get_by_role("button", name="Record none", exact=True).click()
            until(page, "document.getElementById('spoken').textContent === 'Now'")
            page.keyboard.press("Alt+p")
            page.wait_for_selector("#take", state="hidden")
            assert (page.inner_text("#veil-title"), page.inner_text("#train-fault")) == ("Paused", "")

    def test_the_skip_link_stays_in_the_view(self, address: str) -> None:
        with browser(None) as page:
            page.goto(f"{address}#teach")
            page.keyboard.press("Tab")
            page.keyboard.press("Enter")
            assert page.evaluate("document.activeElement.id") == "main"
            assert page.evaluate("document.body.dataset.view") == "teach"

    @pytest.mark.parametrize("scheme", ["dark", "light"])
    def test_the_scheme_that_is_wished_for(self, colours: str, red: Path, scheme: str) -> None:
        """Dark: light text on dark; light: dark text on light. All of it can be read (WCAG's 4.5)."""
        with browser(red, color_scheme=scheme) as page:
            turn_on(page, colours)
            page.locator("#knows summary").click()
            until(page, "document.querySelectorAll('#log li').length > 0")
            page.wait_for_timeout(500)  # until the name has taken on its colour
            found = page.evaluate("""() => {
              const clear = (colour) => ["rgba(0, 0, 0, 0)", "transparent"].includes(colour);
              const behind = (each) => {
                const colour = getComputedStyle(each).backgroundColor;
                return clear(colour) && each.parentElement ? behind(each.parentElement) : colour;
              };
              const own = (each) => [...each.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
              const others = ".stage, .skip, .spoken, option";  // on a picture, or not seen
              const texts = [...document.querySelectorAll("body *")].filter(
                (each) => own(each) && each.checkVisibility() && !each.closest(others));
              return texts.map((each) => [each.textContent.trim(), getComputedStyle(each).color, behind(each)]);
            }""")
            page_colours = page.evaluate(
                "[getComputedStyle(document.documentElement).backgroundColor, getComputedStyle(document.body).color]"
            )
        paper, ink = map(luminance, page_colours)
        assert (paper < 0.02 and ink > 0.8) if scheme == "dark" else (paper > 0.8 and ink < 0.02)
        assert {"dynagest", "Recognise", "Teach", "Left", "Latency"} <= {text for text, *_ in found}
        faint = [each for each in found if contrast(*each[1:]) < 4.5]
        assert faint == []

    def test_bars_are_seen_in_forced_colours(self, colours: str, red: Path) -> None:
        """Which take away every background that does not name a colour of the system."""
        with browser(red, forced_colors="active") as page:
            turn_on(page, colours)
            until(page, "document.body.classList.contains('gesturing')")
            bar, paper, edge = page.evaluate("""() => {
              const meter = document.querySelector(".meter"), style = getComputedStyle(meter);
              const bar = getComputedStyle(meter, "::after").backgroundColor;
              return [bar, getComputedStyle(document.body).backgroundColor, style.borderTopStyle];
            }""")
            assert (edge, bar != paper) == ("solid", True), (bar, paper)
            assert page.evaluate("getComputedStyle(document.getElementById('train-start')).borderTopStyle") == "solid"

    def test_a_long_log_can_be_scrolled_by_keys(self, colours: str, red: Path) -> None:
        with browser(red) as page:
            page.goto(colours)
            assert not page.is_visible("#log"), "an empty list is no stop of the Tab key"
            turn_on(page, colours)
            until(page, "document.querySelectorAll('#log li').length > 0")
            page.locator("#pause").focus()
            page.keyboard.press("Tab")
            assert page.evaluate("document.activeElement.id") == "log"

    @pytest.mark.parametrize("size", [(390, 844), (720, 900), (844, 390), (1280, 800)])
    @pytest.mark.parametrize("view", ["recognise", "teach"])
    def test_nothing_sticks_out(self, address: str, film: Path, size: tuple[int, int], view: str) -> None:
        with browser(film, viewport={"width": size[0], "height": size[1]}) as page:
            turn_on(page, f"{address}#{view}")
            assert page.evaluate("document.documentElement.scrollWidth") <= size[0]
            stage, sight, pause = (page.locator(each).bounding_box() for each in (".stage", ".sight", "#pause"))
            assert stage["y"] + stage["height"] <= size[1], "the picture is seen whole"
            room = (sight["x"] - pause["x"], pause["x"] + pause["width"] - sight["x"] - sight["width"])
            assert max(room) < -22, "the button leaves the corners of the square free"
            nameless = page.evaluate("""() => [...document.querySelectorAll("button, input, select, a")]
              .filter((each) => each.checkVisibility())
              .filter((each) => !(each.ariaLabel || each.innerText.trim() || each.labels?.length))
              .map((each) => each.outerHTML)""")
            assert nameless == []

    @pytest.mark.parametrize("view", ["recognise", "teach"])
    def test_a_long_name_does_not_stick_out(self, tmp_path: Path, untrained: Path, film: Path, view: str) -> None:
        site = serve(tmp_path, untrained, init=untrained.parent)
        assert site.clips is not None
        for label, clips in (("left", 2), (LONGEST, 1)):
            for _ in range(clips):
                write_clip(site.clips.folder, label, [np.full((48, 64, 3), 99, np.uint8)] * 2, [0.0, 0.1])
        with running(create_app(site)) as port, browser(film, viewport={"width": 320, "height": 568}) as page:
            turn_on(page, f"http://127.0.0.1:{port}/#{view}")
            if view == "recognise":
                scores_seen(page)
                page.locator("#knows summary").click()
            else:
                until(page, f"document.getElementById('train-hint').textContent.endsWith('of {LONGEST}.')")
                page.get_by_role("button", name=f"Record {LONGEST}", exact=True).click()
                until(page, f"document.getElementById('take-text').textContent.startsWith('{LONGEST}, clip 1')")
                text, add = (page.locator(each).bounding_box() for each in ("#take-text", "#add button"))
                assert text["x"] >= 0
                assert text["x"] + text["width"] <= 320
                assert add["x"] + add["width"] == 304, "the margin is kept"
            assert page.evaluate("document.documentElement.scrollWidth") <= 320

    def test_a_server_that_comes_back(self, address: str) -> None:
        with browser(None) as page:
            page.route("**/api/gestures", lambda route: route.abort())
            page.goto(f"{address}#teach")
            gone = "The server does not answer. Is it still running?"
            until(page, f"document.getElementById('train-fault').textContent === '{gone}'")
            page.fill("#add-name", "wave")
            page.keyboard.press("Enter")
            assert [fault for fault in page.faults if "ERR_FAILED" not in fault] == []
            page.unroute("**/api/gestures")
            page.get_by_role("button", name="Record none", exact=True).wait_for()
            assert page.inner_text("#train-fault") == ""
            page.keyboard.press("Enter")
            assert page.evaluate("document.activeElement.ariaLabel") == "Record wave"


def teach(page: Any, address: str, gesture: str, clips: int) -> None:
    """Name a gesture and record it."""
    turn_on(page, f"{address}#teach")
    page.fill("#add-name", gesture)
    page.keyboard.press("Enter")
    page.fill("#take-count", str(clips))
    page.fill("#take-seconds", "1")
    page.get_by_role("button", name=f"Record {gesture}", exact=True).click()
    row = (
        f"[...document.querySelectorAll('.gesture')].find((row) => row.querySelector('h3').textContent === '{gesture}')"
    )
    until(page, f"{row}?.querySelectorAll('.clip').length === {clips}", 240)


def test_teach_from_the_first_clip_to_the_new_network(tmp_path: Path, untrained: Path) -> None:
    """Two browsers record a gesture each at the same time, one trains, and the page then tells the two apart."""
    spec = get_preset("demo")
    # Of two subjects before two scenes: so easy that a few steps from random weights are enough.
    films = {
        name: write_film(tmp_path / f"{index}.mjpeg", clip_frames(spec, index), rate_of(spec))
        for name, index in (("hello", 0), ("good bye", len(spec.classes)))
    }
    site = serve(tmp_path, untrained, init=untrained.parent, epochs=40)
    with running(create_app(site)) as port:
        address = f"http://127.0.0.1:{port}/"
        faults: list[str] = []

        def record_one(name: str) -> None:
            try:
                with browser(films[name]) as page:
                    teach(page, address, name, clips=4)
                    faults.extend(page.faults)
            except Exception as error:
                faults.append(repr(error))

        threads = [threading.Thread(target=record_one, args=(name,)) for name in films]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert faults == []
        assert site.clips is not None
        manifest = Manifest.read(site.clips.folder)
        assert Counter(clip.label for clip in manifest.clips) == {"hello": 4, "good bye": 4}
        assert not check(manifest, 8).errors

        before = site.models.current.key
        for number, name in enumerate(films):
            with browser(films[name]) as page:
                if number == 0:
                    turn_on(page, f"{address}#teach")
                    page.locator("#train-start").click()
                    page.wait_for_selector("#train-running", state="visible")
                    assert page.evaluate("document.activeElement.id") == "train-cancel"  # not lost with the button
                    page.wait_for_url("**/#recognise", timeout=400_000)
                    assert site.models.current.key != before
                    assert page.inner_text("#train-fault") == ""
                else:
                    turn_on(page, address)
                scores_seen(page)
                until(page, f"document.getElementById('now-name').textContent.toLowerCase() === '{name}'")
                assert page.inner_text("#knows summary") == "It knows 2 gestures"
                # A clip is deleted by its button.
                if number == 1:
                    page.goto(f"{address}#teach")
                    page.get_by_role("button", name="Delete clip 1 of hello").click()
                    until(page, "document.querySelectorAll('.clip').length === 7")
        assert len(Manifest.read(site.clips.folder)) == 7
