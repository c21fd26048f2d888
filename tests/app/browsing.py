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

NAMELESS = """
[...document.querySelectorAll('button, a[href], input:not([type=hidden]), select, [role=option], dialog')]
    .filter((e) => e.offsetParent !== null && !e.closest('[aria-hidden=true]'))
    .filter((e) => !(e.getAttribute('aria-label') || e.textContent.trim() || e.labels?.length
        || document.getElementById(e.getAttribute('aria-labelledby'))?.textContent.trim()))
    .map((e) => e.outerHTML.slice(0, 120))"""
"""What a screen reader would have no name for."""

CONTRAST = """(() => {
  const canvas = new OffscreenCanvas(1, 1).getContext('2d', { willReadFrequently: true });
  const rgba = (css) => {
    canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = css; canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const linear = (v) => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4;
  const light = (c) => { const [r, g, b] = c.map((v) => linear(v / 255)); return .2126 * r + .7152 * g + .0722 * b; };
  const ground = (e) => {
    for (; e; e = e.parentElement) { const c = rgba(getComputedStyle(e).backgroundColor); if (c[3] > 200) return c; }
    return rgba(getComputedStyle(document.body).backgroundColor);
  };
  const found = [];
  for (const e of document.querySelectorAll('body *')) {
    const words = [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
    if (!words || e.offsetParent === null) continue;
    if (e.closest('.strip, .unseen, .toast, :disabled, .tile .picture, .hit')) continue;
    const style = getComputedStyle(e), a = light(rgba(style.color)), b = light(ground(e));
    const ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05), size = parseFloat(style.fontSize);
    const large = size >= 24 || (size >= 18.6 && +style.fontWeight >= 700);
    if (ratio < (large ? 3 : 4.5)) found.push(`${ratio.toFixed(2)} ${e.outerHTML.slice(0, 140)}`);
  }
  return found;
})()"""
"""Text with less contrast than WCAG's AA asks for; text over pictures is left out."""


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


def until(condition: Callable[[], bool], page: Any, seconds: float = 10.0) -> None:
    """Wait until something is so."""
    for _ in range(round(seconds / 0.05)):
        if condition():
            return
        page.wait_for_timeout(50)
    raise AssertionError("it did not come about")
