"""The pictures of the application in the documentation, made from a run.

    python benchmarks/screenshots.py RUN --labels TRUTH [--out docs/images]

RUN is a finished run with an index, TRUTH a table with a row for each video: `path` and `label`. A copy of the run is
served; its clusters are given the names of the labels that most of their segments have (two clusters of one label are
merged), a few segments are confirmed, and then each view is pictured at the width of a desk, light and dark, and of a
phone. Needs Chromium and Playwright.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import re
import shutil
import subprocess
import sys
import tempfile
import urllib.request
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
SIZES = {"desk": (1360, 850, 1), "phone": (390, 780, 2)}
COLOURS = (256, 192, 128, 96)
OWN_COLOURS = 48
MOST_BYTES = 300_000


class Served:
    """A run that is served, asked over HTTP."""

    def __init__(self, run: Path) -> None:
        words = [sys.executable, "-u", "-m", "seehear", "serve", str(run), "--no-open", "--port", "0"]
        self.process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        found = re.search(r"(http://\S+?)/\?token=(\S+)", self.process.stdout.readline())
        if found is None:
            raise SystemExit("the server did not start")
        self.address, self.token = found[1], found[2]

    def ask(self, path: str, body: dict[str, Any] | None = None) -> Any:
        """The JSON of an answer."""
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        with urllib.request.urlopen(urllib.request.Request(self.address + path, data, headers)) as reply:
            return json.load(reply)

    def edit(self, **asked: Any) -> None:
        """An edit of the clusters that there are now."""
        self.ask("/api/edits", {"generation": self.ask("/api/changes")["generation"]} | asked)


def name_clusters(served: Served, labels: dict[str, str]) -> None:
    """Give clusters the names of what is in them, all but the last; confirm some segments."""
    known: dict[str, str] = {}
    clusters = sorted(served.ask("/api/clusters")["clusters"], key=lambda one: -one["size"])
    for cluster in clusters[:-1]:
        rows = served.ask(f"/api/rows?cluster={cluster['id']}")["rows"]
        segments = served.ask(f"/api/segments?rows={','.join(map(str, rows[:400]))}")["segments"]
        counted = Counter(labels.get(Path(s["title"]).name, "") for s in segments)
        name = counted.most_common(1)[0][0].replace("_", " ")
        if not name:
            continue
        if name in known:
            served.edit(kind="merge", clusters=[known[name], cluster["id"]], into=known[name])
        else:
            known[name] = cluster["id"]
            served.edit(kind="name", cluster=cluster["id"], text=name)
        served.edit(kind="answer", rows=rows[2:8], cluster=known[name], yes=True)


def views(served: Served) -> dict[str, str]:
    """The address of each view that is pictured."""
    clusters = sorted(served.ask("/api/clusters")["clusters"], key=lambda one: -one["size"])
    first, second = clusters[0], clusters[1]
    return {
        "clusters": "clusters",
        "cluster": f"cluster/{first['id']}",
        "player": f"cluster/{second['id']}?play={second['exemplars'][0]}",
        "search": f"search?row={first['exemplars'][1]}",
        "review": "review",
        "map": "map",
    }


def picture(png: bytes, path: Path) -> None:
    """Write a picture with as many colours as fit.

    The colours that most pixels have, those of the page itself, are kept as they are; the others are for the rest.
    """
    image = Image.open(io.BytesIO(png)).convert("RGB")
    pixels = np.array(image)
    counted = image.getcolors(image.width * image.height) or []
    own = [colour for _, colour in sorted(counted, reverse=True)[:OWN_COLOURS]]
    for colours in COLOURS:
        rest = image.quantize(colours - OWN_COLOURS, method=Image.Quantize.MEDIANCUT).getpalette() or []
        palette = Image.new("P", (1, 1))
        palette.putpalette([value for colour in own for value in colour] + rest[: 3 * (colours - OWN_COLOURS)])
        places = np.array(image.quantize(palette=palette, dither=Image.Dither.NONE))
        for place, colour in enumerate(own):  # Pillow takes the nearest only nearly
            places[(pixels == colour).all(axis=-1)] = place
        kept = Image.fromarray(places)
        kept.putpalette(palette.getpalette() or [])
        held = io.BytesIO()
        kept.save(held, "PNG", optimize=True)
        if held.tell() <= MOST_BYTES:
            break
    path.write_bytes(held.getvalue())
    print(f"{path.name:<28}{held.tell() // 1024:>6} KiB  {colours} colours")


def shoot(served: Served, out: Path, executable: str) -> None:
    """Picture every view."""
    from playwright.sync_api import sync_playwright

    arguments = ["--no-sandbox", "--disable-gpu", "--mute-audio", "--autoplay-policy=no-user-gesture-required"]
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=executable, args=arguments)
        for size, scheme, ending in (("desk", "light", ""), ("desk", "dark", "-dark"), ("phone", "light", "-phone")):
            width, height, dense = SIZES[size]
            context = browser.new_context(
                viewport={"width": width, "height": height}, device_scale_factor=dense, color_scheme=scheme,
                is_mobile=size == "phone", has_touch=size == "phone",
            )  # fmt: skip
            page = context.new_page()
            page.goto(f"{served.address}/?token={served.token}")
            for name, place in views(served).items():
                page.goto(f"{served.address}/#/{place}")
                page.reload()
                page.wait_for_selector("main")
                page.wait_for_load_state("networkidle")
                page.wait_for_timeout(4000)
                picture(page.screenshot(), out / f"app-{name}{ending}.png")
            context.close()
        browser.close()


def main() -> None:
    """Do it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, nargs="?")
    parser.add_argument("--labels", type=Path, help="CSV with path and label")
    parser.add_argument("--out", type=Path, default=Path("docs/images"))
    options = parser.parse_args()
    executable = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if options.run is None or options.labels is None or executable is None:
        print("Needs a run, --labels and Chromium; see --help.")
        return
    with open(options.labels, encoding="utf-8", newline="") as file:
        labels = {Path(row["path"]).name: row["label"] for row in csv.DictReader(file)}
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / options.run.resolve().name
        shutil.copytree(options.run, run)
        served = Served(run)
        try:
            name_clusters(served, labels)
            shoot(served, options.out, executable)
        finally:
            served.process.terminate()
            served.process.wait(30)


if __name__ == "__main__":
    main()
