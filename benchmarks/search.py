"""Search: how long an index takes to make, to open and to ask, and what an approximate search misses.

    python benchmarks/search.py                           # 10 000 and 1 000 000 generated segments; some minutes
    python benchmarks/search.py --run runs/a --videos 60  # also from features and from video, by a run's own model
    python benchmarks/search.py --rows 10000 --engines 100000

Segments are unit vectors of 256 dimensions around a thousand centres for every 50 000 of them, those around one centre
having a cosine of .8 (best matches in trained runs have .9 and more, which is easier). Queries are other
vectors around the same centres; each is asked through `Searcher`, as the commands and the server do, one after the
other, the files being in the page cache. Recall is the share of the true best ten (all compared) that is found.
`--engines N` compares the inverted file with a graph (usearch) on N vectors; the graph's building was what decided.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from support import machine

RESULTS = Path(__file__).parent / "results" / "search.json"
DIMENSIONS, QUERIES, AT = 256, 300, 10
NOISE = np.float32(0.5)


def generated(rows: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Segments (rows, 256) and queries (QUERIES, 256)."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(max(1000, rows // 50), DIMENSIONS)).astype(np.float32)
    made = np.empty((rows, DIMENSIONS), dtype=np.float32)
    for start in range(0, rows, 65_536):
        block = centres[rng.integers(len(centres), size=min(65_536, rows - start))]
        block += NOISE * rng.normal(size=block.shape).astype(np.float32)
        made[start : start + len(block)] = block / np.linalg.norm(block, axis=1, keepdims=True)
    queries = centres[rng.integers(len(centres), size=QUERIES)] + NOISE * rng.normal(size=(QUERIES, DIMENSIONS))
    return made, (queries / np.linalg.norm(queries, axis=1, keepdims=True)).astype(np.float32)


def write_index(folder: Path, x: np.ndarray, exact_up_to: int, a_video: int = 100) -> dict[str, Any]:
    """An index of these rows, sight alone, so many of each video; seconds of its parts."""
    from seehear.media.identity import Identity
    from seehear.search.calibration import calibrate
    from seehear.search.layout import Content, Labels, write_generation
    from seehear.search.nearest import write_inverted_files
    from seehear.search.segments import IndexedVideo

    rows = len(x)
    names = [f"v{i}.mp4" for i in range(-(-rows // a_video))]
    videos = [
        IndexedVideo(n, Path("/nowhere") / n, Identity(f"{i:032x}", 1, 1), 0.0, 200.0, "mp4", "h264", None)
        for i, n in enumerate(names)
    ]
    start = (np.arange(rows) % a_video) * 2.0
    none = np.zeros(rows, np.float32)
    labels = Labels(np.zeros(rows, np.int32), none, none, np.ones(rows, np.int32))
    facts = {
        "every_seconds": 2.0, "encoder": "generated", "encoders": {"video": "video"}, "model": None, "across": None,
        "across_kind": None, "labels_keys": {"both": "x"}, "left_out": [], "exact_up_to": exact_up_to,
    }  # fmt: skip
    content = Content(
        videos, (np.arange(rows) // a_video).astype(np.int32), start, start + 2, {"video": x}, {"video": x},
        {"video": np.ones(rows, bool)}, {}, {"both": labels}, facts,
    )  # fmt: skip
    seconds = {}
    began = time.perf_counter()
    facts["calibration"] = calibrate(content)
    seconds["calibrate"] = time.perf_counter() - began

    def also(within: Path, what: Content) -> None:
        started = time.perf_counter()
        what.facts["nearest"] = write_inverted_files(within, what)
        seconds["cells"] = time.perf_counter() - started

    began = time.perf_counter()
    write_generation(folder / "index", content, f"made{exact_up_to}", also if rows > exact_up_to else None)
    seconds["write"] = time.perf_counter() - began - seconds.get("cells", 0.0)
    return {name: round(value, 2) for name, value in seconds.items()}


ASK = """
import json, sys, time
import numpy as np
from pathlib import Path
from seehear.search.index import Index
from seehear.search.layout import current_generation, read_generation
from seehear.search.query import Query, Searcher
folder = Path(sys.argv[1])
queries = np.load(sys.argv[2])
began = time.perf_counter()
place = current_generation(folder / "index")
index = Index(folder, place, read_generation(place))
opened = time.perf_counter() - began
searcher = Searcher(index)
def ask(q): return searcher.search(Query({"video": q}), by="sight", k=10)
began = time.perf_counter()
ask(queries[0])
first = time.perf_counter() - began
for q in queries[:20]: ask(q)
seconds, rows = [], []
for q in queries:
    began = time.perf_counter()
    answer = ask(q)
    seconds.append(time.perf_counter() - began)
    rows.append([hit.row for hit in answer.hits])
def own():
    lines = [line.split() for line in open("/proc/self/status") if line.startswith(("RssAnon", "RssFile"))]
    return {words[0].rstrip(":"): int(words[1]) // 1024 for words in lines}
p50, p99 = (float(np.percentile(seconds, p) * 1e3) for p in (50, 99))
print(json.dumps({
    "open_seconds": opened, "first_query_seconds": first, "p50_ms": p50, "p99_ms": p99, "exact": answer.exact,
    "recall_said": answer.recall, "memory_mib": own(), "rows": rows,
}))
"""


def asked(folder: Path, queries: Path) -> dict[str, Any]:
    """What a fresh process measures. With one thread: on a busy machine several would wait for each other."""
    alone = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "-c", ASK, str(folder), str(queries)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=alone)
    return dict(json.loads(done.stdout))


def sized(rows: int) -> dict[str, Any]:
    """One number of segments: all compared and, of more than 100 000, by cells."""
    x, queries = generated(rows)
    true: list[set[int]] = []
    for start in range(0, QUERIES, 10):  # blocks of queries: a million similarities each
        similarity = queries[start : start + 10] @ x.T
        true += [set(row.tolist()) for row in np.argpartition(-similarity, AT, axis=1)[:, :AT]]
    found: dict[str, Any] = {"rows": rows, "dimensions": DIMENSIONS, "queries": QUERIES}
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        np.save(place / "queries.npy", queries)
        for name, exact_up_to in (("exact", 10**9), ("cells", 1000)):
            if name == "cells" and rows <= 100_000:
                continue
            made = write_index(place, x, exact_up_to)
            told = asked(place, place / "queries.npy")
            hits = told.pop("rows")
            told["recall"] = float(np.mean([len(set(h) & t) / AT for h, t in zip(hits, true, strict=True)]))
            generation = place / "index" / f"generation-made{exact_up_to}"
            told["build_seconds"] = made
            told["disk_mib"] = sum(p.stat().st_size for p in generation.iterdir()) // 2**20
            told["nearest"] = json.loads((generation / "facts.json").read_text()).get("nearest")
            found[name] = {k: round(v, 4) if isinstance(v, float) else v for k, v in told.items()}
            print(rows, name, json.dumps(found[name]), flush=True)
            shutil.rmtree(place / "index")
    found["peak_build_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    return found


def engines(rows: int) -> dict[str, Any]:
    """The inverted file beside a graph, on the same vectors."""
    from seehear.search.nearest import InvertedFiles, Part, _write_one

    x, queries = generated(rows, seed=1)
    true = [set(np.argpartition(-(x @ q), AT)[:AT].tolist()) for q in queries]

    def measure(ask: Any) -> dict[str, float]:
        seconds, shares = [], []
        for q, best in zip(queries, true, strict=True):
            began = time.perf_counter()
            rows_found = ask(q)
            seconds.append(time.perf_counter() - began)
            shares.append(len(set(rows_found) & best) / AT)
        p50, p99 = (float(np.percentile(seconds, p) * 1e3) for p in (50, 99))
        return {"p50_ms": round(p50, 3), "p99_ms": round(p99, 3), "recall": round(float(np.mean(shares)), 4)}

    found: dict[str, Any] = {"rows": rows}
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        facts = {"video": _write_one(Path(folder) / "nearest.video.faiss", {"video": x}, ["video"])}
        built = time.perf_counter() - began
        files = InvertedFiles(Path(folder), facts)

        def by_cells(q: np.ndarray) -> list[int]:
            answer = files.search({"video": x}, [Part("video", q, 1.0)], AT, None)
            assert answer is not None
            return [int(row) for row in answer[0]]

        found["faiss"] = {"build_seconds": round(built, 1), **facts["video"]} | measure(by_cells)
    try:
        from usearch.index import Index as Graph
    except ImportError:
        return found
    began = time.perf_counter()
    graph = Graph(ndim=DIMENSIONS, metric="ip", dtype="f16")
    graph.add(np.arange(rows), x)
    built = time.perf_counter() - began
    found["usearch"] = {"build_seconds": round(built, 1)} | measure(lambda q: graph.search(q, AT).keys.tolist())
    print("engines", json.dumps(found), flush=True)
    return found


def from_run(run: Path, videos: int) -> dict[str, Any]:
    """How fast a run's own model makes an index: of features alone, and of some of its videos."""
    from seehear.data.manifest import Manifest
    from seehear.features.model import Model
    from seehear.search.building import build_index
    from seehear.search.layout import Content
    from seehear.search.publishing import Facts, indexed_video, publish

    found: dict[str, Any] = {"method": Model.load(run).config.method, "recipe": Model.load(run).config.recipe}
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "run"
        shutil.copytree(run, copy, ignore=shutil.ignore_patterns("index", "checkpoints", "tensorboard", "assignments"))
        model, manifest = Model.load(copy), Manifest.load(copy / "manifest.parquet")
        rows, rng = 100_000, np.random.default_rng(0)
        video = indexed_video(manifest.usable_rows()[0], ("video", "audio"))
        dims = {name: int(encoder.feature_dim) for name, encoder in model.encoders.items()}  # type: ignore[arg-type]
        from dataclasses import replace

        many = [replace(video, video_id=f"{i}.mp4") for i in range(1000)]
        start = (np.arange(rows) % 100) * 2.0
        features = {n: np.abs(rng.normal(size=(rows, d))).astype(np.float32) for n, d in dims.items()}
        content = Content(many, (np.arange(rows) // 100).astype(np.int32), start, start + 2, features)
        (copy / "index").mkdir()
        began = time.perf_counter()
        publish(copy, model, content, Facts(every_seconds=2.0))
        found["seconds_per_100000_from_features"] = round(time.perf_counter() - began, 2)
        some = manifest.usable().table.slice(0, videos)
        began = time.perf_counter()
        made = build_index(copy, Manifest(some, manifest.info), every_seconds=1.0)
        seconds = time.perf_counter() - began
        found |= {"videos": videos, "segments": made["segments"], "seconds": round(seconds, 2)}
        found["seconds_per_100000_from_video"] = round(seconds / made["segments"] * 100_000)
    print("run", json.dumps(found), flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="*", default=[10_000, 1_000_000])
    parser.add_argument("--engines", type=int, default=0, help="compare two packages on so many vectors")
    parser.add_argument("--run", type=Path, help="a finished run")
    parser.add_argument("--videos", type=int, default=60)
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    results = json.loads(given.out.read_text()) if given.out.exists() else {}
    import faiss

    results["machine"] = machine(numpy=np.__version__, faiss=faiss.__version__)
    results["date_utc"] = datetime.now(UTC).isoformat(timespec="seconds")
    for rows in given.rows:
        results.setdefault("sizes", {})[str(rows)] = sized(rows)
    if given.engines:
        results["engines"] = engines(given.engines)
    if given.run:
        results["index"] = from_run(given.run, given.videos)
    given.out.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
