"""So many videos on paper: what each step would take, from a formula and a constant that was measured here.

    python benchmarks/scale_paper.py                # 65 million videos, 64 GPUs
    python benchmarks/scale_paper.py --videos 1e6 --gpus 8

Reads the results of the other benchmarks (`benchmarks/results/`) and prints the table of `docs/scale.md`; it measures
nothing. Every video has one clip; encoders are R(2+1)D-18 and ResNet-18 with 512 features each, clusters 1024 (the
recipe `xdc-ig`), SeLaVi's 309. Speeds of a GPU are the constants below, those that `docs/gpu.md` states.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
D, ENCODERS, K, HEAD_K, SECONDS = 512, 2, 1024, 309, 10.0
CLIPS_A_SECOND = 181.0
"""The trainer of `xdc-kinetics` on an H100."""
GPU_KMEANS = 0.32 / 20 / 500_000
"""Seconds a clip and iteration, 512 dimensions and 1024 clusters, on an H100."""
PARAMETERS = 31_300_125 + 11_170_240
XDC_IG = (6, 80 * 10_000_000)
"""Rounds of `xdc-ig`, and clips that its epochs train on."""


def in_words(value: float, unit: str) -> str:
    """A number of bytes, or of seconds, as a person would say it."""
    if unit == "B":
        steps = (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3), ("B", 1.0))
    else:
        steps = (("days", 86400.0), ("h", 3600.0), ("min", 60.0), ("s", 1.0), ("ms", 1e-3))
    name, of = next(((n, s) for n, s in steps if value >= 1.5 * s or (n == steps[-1][0])), steps[-1])
    return f"{value / of:.3g} {name}"


def read(name: str) -> Any:
    return json.loads((RESULTS / name).read_text())


def rows(n: float, gpus: int) -> Iterator[tuple[str, str, str, float, str]]:
    """What, its formula with the constant in it, where the constant is from, the value and its unit."""
    parts = read("scale.json")["parts"]

    def each(part: str, what: str) -> float:
        return float(parts[part][what]["each"])

    def of(part: str, what: str) -> str:
        return f"{each(part, what) * 1e6:.3g} us" if what == "seconds" else f"{each(part, what):.0f} B"

    def held(part: str) -> float:
        """Bytes a clip that are there for good, of the largest number: with several processes in a file."""
        largest = max((p for p in parts[part]["points"] if "held" in p), key=lambda p: p["rows"])
        return float(largest["held"] / largest["rows"])

    prepared = next(r for r in read("prepared.json")["results"] if r["recipe"] == "selavi-vggsound")
    footage = prepared["videos"] * 30
    original, copy = (prepared["megabytes"][w] * 1e6 / footage for w in ("originals", "copies"))
    decoding = {w: prepared["cpu_ms_a_clip"][w] / 1e3 for w in ("originals", "copies")}
    here, made = "`scale.py`", "`prepared.py`"
    for name, rate in (("videos as they come, 256 lines", original), ("copies of 128 lines", copy)):
        yield name, f"N · {SECONDS:g} s · {rate / 1e3:.3g} kB/s", made, n * SECONDS * rate, "B"
    for name, part in (("the manifest, read, with its spans", "clips"), ("labels", "assignment")):
        yield name, f"N · {of(part, 'seconds')}", here, n * each(part, "seconds"), "s"
        yield f"{name}: one process of a machine, once", f"N · {of(part, 'bytes')}", here, n * each(part, "bytes"), "B"
        yield f"{name}: in a file of each machine", f"N · {held(part):.0f} B", here, n * held(part), "B"
    for name, part in (("an epoch's order", "order"), ("the same, uniform over clusters", "uniform order")):
        yield name, f"N · {of(part, 'seconds')}", here, n * each(part, "seconds"), "s"
    yield "an epoch's order: in a file of each machine", "N · 8 B", "", n * 8, "B"
    # The bank's own rows are counted with the features.
    objects = each("share", "bytes") - 2 * 32 * 4
    yield "requests of a share, while features are made", f"N / R · {objects:.0f} B", here, n / gpus * objects, "B"
    features = 4 * D * ENCODERS
    yield "features of all", f"N · 2 · 512 · 4 B = N · {features} B", "", n * features, "B"
    yield "features of a share", f"N / R · {features} B, a file that is mapped", "", n / gpus * features, "B"
    yield "the end: labels, in the first process", f"N · {of('end', 'bytes')}", here, n * each("end", "bytes"), "B"
    cpu = read("kmeans.json")
    multiplied = cpu["settings"]["rows"] * cpu["settings"]["columns"] * cpu["settings"]["clusters"]
    pace = cpu["median_cpu_seconds"]["seehear"] / multiplied / (cpu["settings"]["iterations"] + 1)
    yield (
        "k-means, an iteration on CPUs", f"N / R · D · K · {pace * 1e9:.3g} ns, a core each", "`kmeans.py`",
        n / gpus * D * K * pace, "s",
    )  # fmt: skip
    yield (
        "k-means, an iteration on GPUs", f"N / R · {GPU_KMEANS * 1e9:.3g} ns for these D and K", "H100, [gpu](gpu.md)",
        n / gpus * GPU_KMEANS, "s",
    )  # fmt: skip
    yield "k-means: sums of an iteration", "K · (D + 3) · 8 B, between all", "", K * (D + 3) * 8, "B"
    labels = parts["kmeans"]["bytes"]["each"]
    yield (
        "k-means: memory beside features",
        f"N / R · ({labels:.0f} B + D · 4 B)",
        here,
        n / gpus * (labels + 4 * D),
        "B",
    )
    large = read("sinkhorn_large.json")
    wall = large["race"]["iteration_wall_seconds"] / large["settings"]["rows"] / large["settings"]["clusters"]
    yield (
        "transport of a head, an iteration", f"N / R · K · {wall * 1e9:.2g} ns, a core each, K = 309", "`sinkhorn.py`",
        n / gpus * HEAD_K * wall, "s",
    )  # fmt: skip
    yield "transport: memory", "N / R · K · 2 · 4 B, K = 309", "", n / gpus * HEAD_K * 8, "B"
    saved = PARAMETERS * 8 + 2 * K * D * 8
    yield "a checkpoint: weights, momentum", "(42.5 million + 2 · K · D) · 8 B", "", saved, "B"
    yield from training(n, gpus, decoding)
    yield from index(n, parts)


def training(n: float, gpus: int, decoding: dict[str, float]) -> Iterator[tuple[str, str, str, float, str]]:
    at, card = f"{CLIPS_A_SECOND:g} clips/s", "H100, [gpu](gpu.md)"
    yield "a pass of training over all", f"N / R / {at}", card, n / gpus / CLIPS_A_SECOND, "s"
    rounds, clips = XDC_IG
    total = clips + (rounds + 1) * n
    yield (
        f"`xdc-ig`: {rounds} rounds, {rounds + 1} passes for features",
        f"({clips / 1e6:g} million + {rounds + 1} N) / R / {at}, a pass for features counted as one of training", card,
        total / gpus / CLIPS_A_SECOND, "s",
    )  # fmt: skip
    for name, seconds in decoding.items():
        yield (
            f"cores that decode {name}, each GPU", f"{at} · {seconds * 1e3:.3g} ms", "`prepared.py`",
            CLIPS_A_SECOND * seconds, "cores",
        )  # fmt: skip


def index(n: float, parts: Any) -> Iterator[tuple[str, str, str, float, str]]:
    rows_of = ENCODERS * 2 * D * 4
    yield "index: features and unit rows", f"N · 2 · 2 · 512 · 4 B = N · {rows_of} B", "", n * rows_of, "B"
    objects = parts["index, a video each"]["bytes"]["each"]
    yield "index: objects of videos, one process", f"N · {objects:.0f} B", "`scale.py`", n * objects, "B"
    cells = 2 ** round(math.log2(4 * n**0.5))
    point = max(parts["index, cells"]["points"], key=lambda p: p["rows"])
    then = 2 ** round(math.log2(4 * point["rows"] ** 0.5))
    # Adding compares every row with every cell; training ten times 40 rows of each cell with every cell.
    pace = point["seconds"] / ((point["rows"] + 400 * then) * then * 32)
    yield (
        f"index: three inverted files of {cells} cells",
        f"(N + 400 C) · C · 4 D · {pace * 1e9:.2g} ns, one core, C = 4 √N", "`scale.py`",
        (n + 400 * cells) * cells * 4 * D * pace, "s",
    )  # fmt: skip
    exact = json.loads((RESULTS / "search.json").read_text())["sizes"]["1000000"]["exact"]["p50_ms"] / 1e3 / 1e6 / 256
    yield "a query by sight, all compared", f"N · D · {exact * 1e9:.2g} ns", "`search.py`", n * D * exact, "s"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=float, default=65e6)
    parser.add_argument("--gpus", type=int, default=64)
    given = parser.parse_args()
    print("| what | formula | constant from | value |\n|---|---|---|---|")
    for name, formula, source, value, unit in rows(given.videos, given.gpus):
        said = f"{value:.2g} cores" if unit == "cores" else in_words(value, unit)
        print(f"| {name} | {formula} | {source} | {said} |")


if __name__ == "__main__":
    main()
