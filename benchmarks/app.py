"""The app on a large collection: how soon the server is there, how soon the page shows, how long its questions take.

    python benchmarks/app.py RUN [--segments 50000] [--out results.json]

RUN is a finished run with an index. A copy of it gets an index of so many segments: those that there are, again and
again as parts of other videos of the same files, with a little noise on what they are compared by. Then `seehear serve`
starts in a process of its own, and is asked over HTTP what the page asks. With Chromium and Playwright at hand the
first paint of the page is measured too, in a browser without a cache. Every number is the median of five.
"""

from __future__ import annotations

import argparse
import dataclasses
import http.client
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from seehear.search.index import Index
from seehear.search.layout import Content, Labels, current_generation, index_folder, read_generation, write_generation

REPEATS = 5


def grown(run: Path, segments: int) -> None:
    """Put an index of so many segments in the place of the run's own."""
    folder = index_folder(run)
    current = current_generation(folder)
    assert current is not None
    content = read_generation(current)
    own, times = len(content.video), -(-segments // len(content.video))
    rng = np.random.default_rng(0)

    def again(array: np.ndarray) -> np.ndarray:
        return np.concatenate([np.asarray(array)] * times)[:segments]

    def noisy(array: np.ndarray) -> np.ndarray:
        made = again(array) + rng.normal(0, 0.02, (segments, array.shape[1])).astype(np.float32)
        norm = np.linalg.norm(made, axis=1, keepdims=True)
        return (made / np.maximum(norm, 1e-9)).astype(np.float32)

    count = len(content.videos)
    videos = [
        dataclasses.replace(video, video_id=f"copy {turn}/{video.video_id}")
        for turn in range(times)
        for video in content.videos
    ]
    turns = np.repeat(np.arange(times), own)[:segments]
    labels = {
        by: Labels(again(one.cluster), again(one.confidence), again(one.distance), _ranks(again(one.cluster)))
        for by, one in content.labels.items()
    }
    facts = {key: value for key, value in content.facts.items() if key != "nearest"} | {"left_out": []}
    made = Content(
        videos, (again(content.video) + turns * count).astype(np.int32), again(content.start_seconds),
        again(content.end_seconds), {name: again(x) for name, x in content.features.items()},
        {name: noisy(x) for name, x in content.space.items()}, maps=dict(content.maps), labels=labels, facts=facts,
    )  # fmt: skip
    made.has = {name: again(x) for name, x in content.has.items()}
    write_generation(folder, made, "grown")
    assert len(Index.open(run)) == segments


def _ranks(cluster: np.ndarray) -> np.ndarray:
    ranks = np.zeros(len(cluster), np.int32)
    for one in np.unique(cluster):
        rows = np.flatnonzero(cluster == one)
        ranks[rows] = np.arange(1, len(rows) + 1)
    return ranks


class Started:
    """A server process, and how long it took to answer."""

    def __init__(self, run: Path) -> None:
        began = time.perf_counter()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "seehear", "serve", str(run), "--no-open", "--port", "0"],
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self.process.stdout is not None
        found = re.search(r"http://127\.0\.0\.1:(\d+)/\?token=(\S+)", self.process.stdout.readline())
        assert found is not None
        self.seconds = time.perf_counter() - began
        self.port, self.token = int(found[1]), found[2]

    def ask(self, path: str, body: dict[str, Any] | None = None) -> tuple[float, int, bytes]:
        """(seconds, status, body) of a request."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=300)
        began = time.perf_counter()
        connection.request(
            "GET" if body is None else "POST", path, None if body is None else json.dumps(body),
            {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"},
        )  # fmt: skip
        reply = connection.getresponse()
        content = reply.read()
        connection.close()
        return time.perf_counter() - began, reply.status, content

    def memory_mib(self) -> float:
        """Resident memory, without pages of mapped files."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"RssAnon:\s+(\d+)", status)[1]) / 1024  # type: ignore[index]

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait()


def questions(started: Started, segments: int) -> dict[str, Any]:
    """Seconds of what the page asks; the first asking and the median of the following ones."""
    generation = json.loads(started.ask("/api/changes")[2])["generation"]
    some = ",".join(map(str, np.linspace(0, segments - 1, 200).astype(int)))
    asked: dict[str, tuple[str, dict[str, Any] | None]] = {
        "run": ("/api/run", None),
        "clusters": ("/api/clusters", None),
        "changes": ("/api/changes", None),
        "rows": ("/api/rows?order=unsurest&text=copy", None),
        "200 segments": (f"/api/segments?rows={some}", None),
        "more like this": ("/api/search", {"generation": generation, "row": 7, "k": 50}),
        "name a cluster": ("/api/edits", {"generation": generation, "kind": "name", "cluster": "0", "text": "it"}),
        "map": ("/api/map", None),
        "review": ("/api/review", None),
    }
    found = {}
    for name, (path, body) in asked.items():
        first, status, _ = started.ask(path, body)
        assert status == 200, (name, status)
        rest = []
        for turn in range(REPEATS):
            if name == "name a cluster":
                body = {**(body or {}), "text": f"it {turn}"}
            rest.append(started.ask(path, body)[0])
        found[name] = {"first": round(first, 3), "then": round(statistics.median(rest), 3)}
    return found


def first_paint(started: Started) -> float | None:
    """Milliseconds until the page shows something, by the browser's own clock; None without a browser."""
    try:
        from playwright.sync_api import Error, sync_playwright
    except ImportError:
        return None
    chromium = os.environ.get("SEEHEAR_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    found = []
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=chromium, args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
            )
            for _ in range(REPEATS):
                page = browser.new_context().new_page()
                page.goto(f"http://127.0.0.1:{started.port}/?token={started.token}", wait_until="load")
                page.wait_for_function("performance.getEntriesByName('first-contentful-paint').length > 0")
                found.append(page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime"))
                page.context.close()
            browser.close()
    except Error as error:
        print(f"no browser: {str(error).splitlines()[0]}", file=sys.stderr)
        return None
    return float(statistics.median(found))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--segments", type=int, default=50_000)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        shutil.copytree(given.run, run, ignore=shutil.ignore_patterns("checkpoints", "tensorboard", "assignments"))
        grown(run, given.segments)
        Started(run).stop()  # once, so that all comes from memory and not from a disk
        starts = []
        for _ in range(REPEATS):
            started = Started(run)
            starts.append(started.seconds)
            started.stop()
        started = Started(run)
        paint = first_paint(started)
        result = {
            "segments": given.segments,
            "start_seconds": round(statistics.median(starts), 2),
            "first_paint_ms": None if paint is None else round(paint),
            "seconds": questions(started, given.segments),
            "memory_mib": round(started.memory_mib()),
            "load": round(os.getloadavg()[0], 1),
        }
        started.stop()
    text = json.dumps(result, indent=1)
    print(text)
    if given.out is not None:
        given.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
