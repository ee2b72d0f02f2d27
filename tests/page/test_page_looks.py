"""The page can be read and reached: any size, scheme and contrast, long names and messages, keys alone."""

import re
from pathlib import Path

import numpy as np
import pytest
from page_sites import LONGEST, scores_seen, serve
from web_browser import browser, turn_on, until
from web_helpers import running

from dynagest.clips.gesture_folder import write_clip
from dynagest.web.app import create_app

pytestmark = pytest.mark.slow


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


def test_a_long_message_can_be_scrolled_to_its_button(address: str) -> None:
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


def test_the_skip_link_stays_in_the_view(address: str) -> None:
    with browser(None) as page:
        page.goto(f"{address}#teach")
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        assert page.evaluate("document.activeElement.id") == "main"
        assert page.evaluate("document.body.dataset.view") == "teach"


@pytest.mark.parametrize("scheme", ["dark", "light"])
def test_the_scheme_that_is_wished_for(colours: str, red: Path, scheme: str) -> None:
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


def test_bars_are_seen_in_forced_colours(colours: str, red: Path) -> None:
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


def test_a_long_log_can_be_scrolled_by_keys(colours: str, red: Path) -> None:
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
def test_nothing_sticks_out(address: str, film: Path, size: tuple[int, int], view: str) -> None:
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
def test_a_long_name_does_not_stick_out(tmp_path: Path, untrained: Path, film: Path, view: str) -> None:
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
