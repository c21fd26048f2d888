"""A real browser over a real server, watched: what the page asks for, and what it complains of."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--mute-audio", "--autoplay-policy=no-user-gesture-required",
]  # fmt: skip
NO_BROWSER = (
    "no Chromium or Chrome was found: install one (Debian, Ubuntu: apt-get install chromium), "
    "so that `chromium`, `chromium-browser` or `google-chrome` is on the PATH"
)

# Violations of the policy are events; a console line makes them part of what is watched.
WATCH = """addEventListener("securitypolicyviolation", (event) =>
    console.error(`policy: ${event.violatedDirective} ${event.blockedURI}`));"""


def find_chromium() -> str | None:
    """The path of a browser that Playwright can drive."""
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    return next((path for name in names if (path := shutil.which(name))), None)


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


class Visit:
    """A person's window: one context of the browser with its pages."""

    def __init__(self, browser: Any, server: Any, **options: Any) -> None:
        self.server = server
        self.context = browser.new_context(viewport={"width": 1280, "height": 800}, **options)
        self.context.set_default_timeout(15000)
        self.context.add_init_script(WATCH)
        self.problems: list[str] = []
        self.elsewhere: list[str] = []
        self.page = self.tab()
        self.enter(self.page)

    def tab(self) -> Any:
        """Another tab, watched too."""
        page = self.context.new_page()
        page.on("console", self._hear)
        page.on("pageerror", lambda error: self.problems.append(str(error)))
        page.on("request", self._watch)
        return page

    def _hear(self, line: Any) -> None:
        if line.type == "error":
            self.problems.append(f"{line.text} {line.location.get('url', '')}")

    def _watch(self, request: Any) -> None:
        address = urlsplit(request.url)
        if address.scheme not in ("data", "blob") and address.hostname != "127.0.0.1":
            self.elsewhere.append(request.url)

    def enter(self, page: Any) -> None:
        """Open the address that the server printed."""
        page.goto(f"http://127.0.0.1:{self.server.port}/?token={self.server.token}")
        page.wait_for_selector(".card:not(.skeleton)")

    def go(self, place: str, page: Any = None) -> Any:
        """Go to a view by its address, as a link would."""
        page = page or self.page
        page.evaluate("(place) => { location.hash = place; }", f"#/{place}")
        return page

    def keys(self, *names: str) -> None:
        """Press keys one after another."""
        for name in names:
            self.page.keyboard.press(name)

    def toast(self, words: str) -> None:
        """Wait for a message that holds these words."""
        self.page.wait_for_selector(f".toast:has-text({words!r})")

    def leave(self, expected: Callable[[str], bool] = lambda _: False) -> None:
        """Close the window; nothing may have been complained of but what was expected."""
        self.context.close()
        assert not self.elsewhere, self.elsewhere
        problems = [line for line in self.problems if not expected(line)]
        assert not problems, problems
