"""How smooth the pages are with many segments: what a frame costs while people scroll, choose, and move the map.

    python benchmarks/browsing.py RUN [--segments 50000] [--out results.json]

RUN is a finished run. As in `app.py`, a copy of it gets an index of so many segments and is served; a
Chromium without a GPU looks at it. Two numbers a frame: the time between two frames, which is what people see and
depends on what else the machine does, and the processor time of the page's main thread, of which 16.7 ms a frame is
the most that sixty frames a second leave. Needs Chromium and Playwright.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from app import grown
from support import machine

from seehear.search.index import Index

FRAMES = 120

# Runs a step in each frame and tells the times between them.
STEPS = """([count, step]) => new Promise((done) => {
    const act = { scroll: () => scrollBy(0, 60), fling: () => scrollBy(0, 2500), rest: () => {},
        zoom: (k) => document.querySelector('.scatter').dispatchEvent(new WheelEvent('wheel', {
            deltaY: k % 40 < 20 ? -40 : 40, clientX: 500, clientY: 400, bubbles: true, cancelable: true })) }[step];
    const times = []; let last = performance.now();
    const go = (now) => { times.push(now - last); last = now;
        if (times.length <= count) { act(times.length); requestAnimationFrame(go); } else done(times.slice(1)); };
    requestAnimationFrame(go); })"""


def measure(page: Any, session: Any, step: str) -> dict[str, float]:
    """Milliseconds a frame of one kind of step."""

    def task_seconds() -> float:
        found = session.send("Performance.getMetrics")["metrics"]
        return float(next(one["value"] for one in found if one["name"] == "TaskDuration"))

    before = task_seconds()
    times = sorted(page.evaluate(STEPS, [FRAMES, step]))
    spent = task_seconds() - before
    return {
        "between_frames_median_ms": round(statistics.median(times), 1),
        "between_frames_p95_ms": round(times[int(0.95 * len(times))], 1),
        "main_thread_ms_a_frame": round(1000 * spent / len(times), 2),
    }


def look(address: str, executable: str) -> dict[str, Any]:
    """Open the page and do what people do."""
    from playwright.sync_api import sync_playwright

    found: dict[str, Any] = {}
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=executable, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        page.goto(address)
        page.wait_for_selector(".card:not(.skeleton)")
        session = page.context.new_cdp_session(page)
        session.send("Performance.enable", {"timeDomain": "threadTicks"})
        found["chromium"] = browser.version
        page.evaluate("location.hash = '#/segments'")
        page.wait_for_selector(".tile")
        page.wait_for_timeout(3000)
        found["tiles_drawn"] = page.locator(".tile").count()
        for step in ("rest", "scroll", "fling"):
            found[f"segments_{step}"] = measure(page, session, step)
        found["select_all_ms"] = round(
            page.evaluate("""() => { const start = performance.now();
            document.dispatchEvent(new KeyboardEvent('keydown', { key: 'a', ctrlKey: true, bubbles: true }));
            return new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() =>
                done(performance.now() - start)))); }""")
        )
        assert re.search(r"\d", page.locator(".action-bar strong").inner_text())
        page.evaluate("location.hash = '#/map'")
        page.wait_for_selector(".scatter", timeout=600000)
        page.wait_for_timeout(2000)
        found["map_zoom"] = measure(page, session, "zoom")
        browser.close()
    return found


def main() -> None:
    """Do it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, nargs="?")
    parser.add_argument("--segments", type=int, default=50000)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    executable = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if options.run is None or executable is None:
        print("Needs a run and Chromium; see --help.")
        return
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        shutil.copytree(options.run, run)
        Index.open_or_make(run)
        grown(run, options.segments)
        words = [sys.executable, "-u", "-m", "seehear", "serve", str(run), "--no-open", "--port", "0"]
        server = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
        try:
            assert server.stdout is not None
            address = re.search(r"http://\S+", server.stdout.readline())
            assert address is not None
            found = {"segments": options.segments, **look(address[0], executable), "machine": machine()}
        finally:
            server.terminate()
            server.wait(30)
    text = json.dumps(found, indent=1)
    print(text)
    if options.out:
        options.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
