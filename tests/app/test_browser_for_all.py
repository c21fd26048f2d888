"""The pages for everybody: by keyboard and by screen reader, in light and dark, on a phone, with less motion."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.app.browsing import CONTRAST, NAMELESS, NO_BROWSER, Visit, find_chromium, until
from tests.app.conftest import SCRIPT_NAME, Server

pytest.importorskip("playwright.sync_api", reason="playwright is missing: make setup installs it")
pytestmark = pytest.mark.skipif(find_chromium() is None, reason=NO_BROWSER)

DOCS = Path(__file__).resolve().parents[2] / "docs" / "app.md"

VIEWS = ("clusters", "segments", "map", "review", "search", "search?row=0", "videos", "history", "segments?play=0")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everything_has_a_name_and_can_be_read(browser: Any, server: Server, scheme: str) -> None:
    visit = Visit(browser, server, color_scheme=scheme)
    for view in VIEWS:
        page = visit.go(view)
        page.wait_for_timeout(350)
        assert page.evaluate(NAMELESS) == [], view
        assert page.evaluate(CONTRAST) == [], view
        assert page.locator("h1").count() == 1, view
    visit.leave()


def test_a_phone_shows_every_view_without_scrolling_sideways(browser: Any, server: Server) -> None:
    visit = Visit(browser, server, has_touch=True, is_mobile=True, screen={"width": 360, "height": 740})
    visit.page.set_viewport_size({"width": 360, "height": 740})
    for view in VIEWS:
        page = visit.go(view)
        page.wait_for_timeout(350)
        assert page.evaluate("document.documentElement.scrollWidth") <= 360, view
        assert page.evaluate("[...document.querySelectorAll('dialog')].every((d) => d.scrollWidth <= 360)"), view
    visit.page.keyboard.press("Escape")
    visit.go("segments")
    visit.page.locator(".tile").first.tap()
    visit.page.wait_for_selector("dialog.player")
    visit.leave()


def test_the_theme_is_the_systems_until_one_is_chosen_and_is_kept(browser: Any, server: Server) -> None:
    visit = Visit(browser, server, color_scheme="light")
    ground = "getComputedStyle(document.body).backgroundColor"
    light = visit.page.evaluate(ground)
    for name in ("As bright as the system", "Light: go dark"):
        visit.page.get_by_role("button", name=name).click()
    dark = visit.page.evaluate(ground)
    assert dark != light
    visit.page.reload()
    visit.page.wait_for_selector(".card")
    assert visit.page.evaluate(ground) == dark
    visit.leave()


def test_nothing_moves_by_itself_where_less_motion_is_asked_for(browser: Any, server: Server) -> None:
    visit = Visit(browser, server, reduced_motion="reduce")
    page = visit.page
    page.wait_for_selector(".strip img.there")
    page.mouse.move(2, 2)
    where = "getComputedStyle(document.querySelector('.strip img.there')).transform"
    assert {page.evaluate(where) for _ in range(8) if not page.wait_for_timeout(120)} == {page.evaluate(where)}
    page.locator(".card").first.hover()
    first = page.evaluate(where)
    until(lambda: page.evaluate(where) != first, page)
    visit.leave()


def test_the_documented_keys_are_those_of_the_sheet(visit: Visit) -> None:
    sheet = visit.page.evaluate("import('/static/keys.js').then(({ KEYS }) => KEYS)")
    text = DOCS.read_text(encoding="utf-8")
    section = text.split("\n## Keys\n")[1].split("\n## ")[0]
    lines = [line.strip("|").split(" | ") for line in section.splitlines() if re.match(r"\| (?!key \|)", line)]
    documented = [tuple(cell.strip() for cell in line) for line in lines]
    assert documented == [(key, what) for _, keys in sheet for key, what in keys]


def test_a_script_in_a_files_name_does_nothing(visit: Visit, server: Server) -> None:
    page = visit.go(f"videos?watch={server.video('script')}")
    page.wait_for_selector("dialog h2")
    until(lambda: page.locator("dialog h2").inner_text() == SCRIPT_NAME, page)
