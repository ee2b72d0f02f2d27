"""The page names what its camera shows, and computes what Python computes."""

import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from export_helpers import export_colours
from page_sites import clip_frames, export_untrained, rate_of, scores_seen, serve
from web_browser import RATE, SOFTWARE_GPU, browser, turn_on, until, write_film
from web_helpers import running

from dynagest.export import export
from dynagest.runtimes.arrays import softmax
from dynagest.runtimes.exported import ExportedNetwork
from dynagest.runtimes.load import load_clip_network
from dynagest.stream.events import EventDetector, EventSettings
from dynagest.stream.prepare import prepare_frame
from dynagest.stream.recogniser import Recogniser
from dynagest.stream.window import Unsplit, WindowScorer
from dynagest.synth.recording import label_of
from dynagest.synth.spec import get_preset
from dynagest.web.app import Site, create_app
from dynagest.web.model import ModelShelf, load_model
from dynagest.web.runtime import find_runtime

pytestmark = pytest.mark.slow
DEMO = Path(__file__).resolve().parents[2] / "runs" / "demo"
LOGITS = """async ([values, compute]) => {
  const { loadNetwork } = await import("/static/network.js");
  const { getModel } = await import("/static/api.js");
  const network = await loadNetwork(await getModel(), compute, () => {});
  return [network.runsOn, Array.from(await network.clip(new Float32Array(values)))];
}"""


def with_pause(frames: list[np.ndarray]) -> list[np.ndarray]:
    """A gesture and as much dark: shown end to beginning, a hand that swiped up would visibly swipe down again."""
    return [*frames, *[np.zeros_like(frames[0])] * len(frames)]


def named_in_python(
    network: ExportedNetwork, frames: list[np.ndarray], rate: float, fps: float, settings: EventSettings
) -> Counter[str]:
    """How often Python names what in the film that the page sees: four rounds of it from every second frame on.

    The page comes in somewhere, and which frames its network sees follows from that. Some pictures are left out and
    others come late, as in a browser that has other work.
    """
    rng = np.random.default_rng(0)
    reel = with_pause(frames)
    film = [reel[int(k * rate / RATE)] for k in range(round(len(reel) * RATE / rate))]
    named: Counter[str] = Counter()
    for start in range(0, len(film), 2):
        recogniser = Recogniser(WindowScorer(Unsplit(network), fps=fps), EventDetector(network.card.classes, settings))
        for k in range(start, start + 4 * len(film)):
            if rng.random() < 0.15:
                continue
            seen = film[(k + int(rng.integers(3))) % len(film)]
            named.update(event.label for event in recogniser.push(seen, k / RATE).events if event.end is None)
    return named


def test_it_runs_isolated_and_from_this_server_alone(address: str, film: Path) -> None:
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


def test_a_stream_network(tmp_path: Path, film: Path) -> None:
    network = export_untrained(tmp_path / "net", ("left", "right", "none"), online=True)
    with running(create_app(serve(tmp_path, network))) as port, browser(film) as page:
        turn_on(page, f"http://127.0.0.1:{port}/")
        scores_seen(page)
        assert page.faults == []


def test_the_network_gives_in_the_browser_what_it_gives_in_python(address: str, film: Path, untrained: Path) -> None:
    network = load_clip_network(untrained)
    clip = np.random.default_rng(0).normal(size=(1, 8, 3, 64, 64)).astype(np.float32)
    with browser(film) as page:
        page.goto(address)
        _, logits = page.evaluate(LOGITS, [clip.ravel().tolist(), "wasm"])
    assert logits == pytest.approx(network.logits(clip)[0].tolist(), rel=1e-3, abs=1e-4)


def test_the_graphics_card_runs_the_network_when_it_is_asked_for_and_gives_what_the_cpu_gives(
    address: str, film: Path, untrained: Path
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


def test_below_no_gesture_stands_none_that_a_moment_alone_speaks_for(tmp_path: Path, red: Path) -> None:
    """The network is sure of red for a second at a time; the evidence, averaged over five, comes to half of that."""
    settings = EventSettings(smoothing=5, threshold=0.98)
    network = export_colours(tmp_path / "colours.onnx", "left", "right", settings)
    site = Site(ModelShelf(load_model(network)), find_runtime(), teach_off="not in this test")
    with running(create_app(site)) as port, browser(red) as page:
        turn_on(page, f"http://127.0.0.1:{port}/")
        likely = page.evaluate("""async () => {
          let most = 0;
          for (let end = performance.now() + 60_000; performance.now() < end; ) {
            await new Promise(requestAnimationFrame);
            const share = parseFloat(document.querySelector("#rank .share")?.textContent ?? 0);
            if (document.getElementById("now-name").textContent !== "No gesture" || share <= most) continue;
            if (!most) end = Math.min(end, performance.now() + 4000);
            most = share;
          }
          return most;
        }""")
    assert 0 < likely <= 50


def test_a_gesture_is_announced_each_time(colours: str, red: Path) -> None:
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


def test_it_names_the_gestures(tmp_path: Path) -> None:
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
    settings = EventSettings(smoothing=0.2, threshold=0.5, dip=0.12, cooldown=0.5, lag=0.3)
    # The page is tested, not the demo's network, which knows no "none": three gestures that Python confuses least.
    rate = rate_of(spec)
    named = {name: named_in_python(network, frames, rate, fps, settings) for name, (_, frames) in found.items()}
    share = {name: names[name] / max(names.total(), 1) for name, names in named.items()}
    best = sorted(share, key=lambda name: -share[name])[:3]
    assert min(share[name] for name in best) > 0.8, share
    site = serve(tmp_path, path, fps=fps)
    site.models.put(replace(site.models.current, events=settings))
    with running(create_app(site)) as port:
        for name in best:
            frames = found[name][1]
            reel = write_film(tmp_path / f"{name}.mjpeg", with_pause(frames), rate)
            with browser(reel) as page:
                turn_on(page, f"http://127.0.0.1:{port}/")
                until(page, "document.querySelectorAll('#log li').length >= 4", 180)
                labels = page.evaluate("[...document.querySelectorAll('#log li')].map((row) => row.dataset.label)")
                assert Counter(labels).most_common(1)[0][0] == name, labels
                assert set(labels) <= set(named[name]), "Python names nothing else"
