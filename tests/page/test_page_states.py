"""The page without a camera, a network or a server, and when they come back."""

from dataclasses import replace
from pathlib import Path

import pytest
from page_sites import scores_seen
from web_browser import browser, turn_on, until
from web_helpers import make_site, running

from dynagest.web.app import create_app

pytestmark = pytest.mark.slow


def test_no_camera(address: str) -> None:
    with browser(None, flags=("--use-fake-ui-for-media-stream",)) as page:
        page.goto(address)
        if page.is_visible("#veil-button"):
            page.locator("#veil-button").click()
        until(page, "document.getElementById('veil-title').textContent === 'No camera found'")


def test_no_permission(address: str) -> None:
    with browser(None, flags=("--use-fake-device-for-media-stream", "--deny-permission-prompts")) as page:
        page.goto(address)
        if page.is_visible("#veil-button"):
            page.locator("#veil-button").click()
        until(page, "document.getElementById('veil-title').textContent === 'The camera is blocked'")
        assert page.inner_text("#veil-button") == "Try again"


def test_a_camera_without_pictures(address: str) -> None:
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


def test_a_network_that_does_not_load(address: str, film: Path) -> None:
    with browser(film) as page:
        page.route("**/model/*", lambda route: route.fulfill(status=404, body='{"error": "gone"}'))
        page.goto(address)
        until(page, "document.getElementById('veil-title').textContent === 'The network did not start'")
        assert page.inner_text("#veil-text") == "gone"
        page.unroute("**/model/*")
        page.locator("#veil-button").click()
        until(page, "document.getElementById('veil-title').textContent !== 'The network did not start'")


def test_a_camera_that_goes_and_comes_back(address: str, film: Path) -> None:
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


def test_teach_that_is_off(tmp_path: Path, film: Path) -> None:
    site = replace(make_site(tmp_path), clips=None, training=None, teach_off="not on this address")
    with running(create_app(site)) as port, browser(film) as page:
        page.goto(f"http://127.0.0.1:{port}/#teach")
        until(page, "document.getElementById('teach-lead').textContent.includes('not on this address')")
        assert not page.is_visible("#add")


def test_two_starts_at_once_leave_one_camera_on(address: str, film: Path) -> None:
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


def test_a_recording_ends_with_the_camera(address: str, film: Path) -> None:
    with browser(film) as page:
        turn_on(page, f"{address}#teach")
        page.get_by_role("button", name="Record none", exact=True).click()
        until(page, "document.getElementById('spoken').textContent === 'Now'")
        page.keyboard.press("Alt+p")
        page.wait_for_selector("#take", state="hidden")
        assert (page.inner_text("#veil-title"), page.inner_text("#train-fault")) == ("Paused", "")


def test_a_server_that_comes_back(address: str) -> None:
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
