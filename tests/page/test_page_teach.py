"""Teach, from the first clip to the page that runs the new network."""

import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from page_sites import clip_frames, rate_of, scores_seen, serve
from web_browser import browser, turn_on, until, write_film
from web_helpers import running

from dynagest.clips.checks.check import check
from dynagest.clips.manifest import Manifest
from dynagest.synth.spec import get_preset
from dynagest.web.app import create_app

pytestmark = pytest.mark.slow


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
