"""What grows with the number of videos where work is done in parts: CPU seconds and memory of what one process holds.

    python benchmarks/parts.py --files 50000 100000 200000 400000

Each figure is of a process of its own: `list` reads a table of paths and makes the plan of a scan, `join scan` joins
blocks of rows, which are made up, into a manifest, `plan` reads such a manifest and makes the plan of features,
`join features` joins blocks of 2 x 32 numbers a row, and `join labels` ranks the rows of blocks of labels. Memory is
the peak of the process above what it has when seehear is imported. Slopes are those of a line through the logarithms.
"""

from __future__ import annotations

import argparse
import csv
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from support import machine

from seehear.config import Config
from seehear.data import scan_parts
from seehear.data.manifest import COLUMNS, Manifest
from seehear.data.sources import find
from seehear.features.model import usable_rows
from seehear.labelling import in_parts
from seehear.parts import PartFolder, Plan, cut, digest_of
from seehear.progress import Progress

RESULTS = Path(__file__).parent / "results" / "parts.json"
STEPS = ("list", "join scan", "plan", "join features", "join labels")
_BLOCK = 1024


def names(start: int, end: int) -> list[str]:
    """Paths as collections have them, some sixty characters long."""
    return [f"/data/videos/{n % 997:03d}/a_video_of_somebody_{n:09d}.mp4" for n in range(start, end)]


def write_source(folder: Path, files: int) -> None:
    """A table of paths; no file is there."""
    with open(folder / "table.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path"])
        writer.writerows([name] for name in names(0, files))


def scanned(start: int, end: int) -> pa.Table:
    """Rows of a manifest for these files."""
    count, paths = end - start, names(start, end)
    made: dict[str, Any] = {
        "video_id": paths, "path": paths, "usable": [True] * count,
        "fingerprint": [f"{n:032x}" for n in range(start, end)], "size_bytes": [10**7] * count,
        "modified_ns": [10**18] * count,
    }  # fmt: skip
    for stream in ("video", "audio"):
        made |= {f"{stream}_start_seconds": [0.0] * count, f"{stream}_duration_seconds": [10.0] * count}
    columns = [pa.array(made[n], kind) if n in made else pa.nulls(count, kind) for n, kind in COLUMNS.items()]
    return pa.table(columns, schema=pa.schema(list(COLUMNS.items())))


def fill(folder: PartFolder, kind: str, files: int) -> None:
    """Write blocks as parts would have made them."""
    rng = np.random.default_rng(0)
    for block in range(folder.plan.count):
        place = folder.plan.block(block)
        keys = {"video_id": names(place.start, place.stop)}
        keys |= {name: pa.array(np.full(len(place), 1.0)) for name in ("start_seconds", "end_seconds")}
        if kind == "scan":
            table = scanned(place.start, place.stop)
        elif kind == "embed":
            x = (pa.array(rng.random(len(place) * 32, dtype=np.float32)) for _ in range(2))
            vectors = (pa.FixedSizeListArray.from_arrays(column, 32) for column in x)
            table = pa.table(keys | dict(zip(("video", "audio"), vectors, strict=True)))
        else:
            x = rng.random(len(place), dtype=np.float32)
            cluster = rng.integers(0, 256, len(place)).astype(np.int32)
            table = pa.table(keys | {"cluster": cluster, "distance": x, "confidence": x})
        folder.write(block, table)


def begun(folder: Path, kind: str, files: int, facts: dict[str, Any]) -> PartFolder:
    """A folder of parts with all its blocks."""
    made = PartFolder.begin(folder / f"{kind}.parquet", Plan(kind, "made up", cut(np.ones(files), _BLOCK), facts))
    fill(made, kind, files)
    return made


def work(step: str, folder: Path) -> None:
    """What is measured."""
    if step == "list":
        found = find(folder / "table.csv")
        digest_of({}, ([c.video_id, c.path] for c in found.candidates))
        cut(np.ones(len(found.candidates)), 512)
    elif step == "join scan":
        scan_parts.finish(PartFolder.open(folder / "scan.parquet"), folder / "scan.parquet")
    elif step == "plan":
        config = Config()
        rows = usable_rows(Manifest.load(folder / "scan.parquet"), ("video", "audio"))
        in_parts.plan_of(rows, ("video", "audio"), config, 2.0, {"model": "made up"}, "embed", "both")
    else:
        kind = step.removeprefix("join ").replace("features", "embed").replace("labels", "label")
        out = folder / f"{kind}.parquet"
        in_parts.finish(PartFolder.open(out), out, Progress(quiet=True))


def measured(step: str, folder: Path) -> dict[str, float]:
    """CPU seconds and the peak of memory of a process that does a step."""
    done = subprocess.run(
        [sys.executable, __file__, "--step", step, "--folder", str(folder)], capture_output=True, text=True, check=True
    )
    found: dict[str, float] = json.loads(done.stdout)
    return found


def child(step: str, folder: Path) -> None:
    """In the process of its own."""
    before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    work(step, folder)
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    print(json.dumps({"cpu_seconds": round(time.process_time() - started, 3), "mib": round(used / 1024, 1)}))


def rows_of(files: int) -> Iterator[dict[str, Any]]:
    """All steps for so many files, one after the other."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_source(folder, files)
        begun(folder, "scan", files, {"info": {"need": ["audio", "video"]}, "extra_columns": [], "strict": False})
        begun(folder, "embed", files, {"modality": "both"})
        begun(folder, "label", files, {"modality": "both"})
        for step in STEPS:
            yield {"files": files, "step": step, **measured(step, folder)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, nargs="+", default=[50_000, 100_000, 200_000, 400_000])
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.step:
        child(given.step, given.folder)
        return
    rows = [row for files in given.files for row in rows_of(files)]
    slopes = {}
    for step in STEPS:
        own = [row for row in rows if row["step"] == step]
        x = np.log([row["files"] for row in own])
        slopes[step] = {n: round(float(np.polyfit(x, np.log([row[n] for row in own]), 1)[0]), 2) for n in own[0]
                        if n in ("cpu_seconds", "mib")}  # fmt: skip
        last = own[-1]
        million = 1e6 / last["files"]
        print(f"{step:<14} a million: {last['cpu_seconds'] * million:7.1f} CPU s {last['mib'] * million:8.0f} MiB  "
              f"slopes {slopes[step]['cpu_seconds']:.2f}, {slopes[step]['mib']:.2f}")  # fmt: skip
    result = {"date": datetime.now(UTC).isoformat(timespec="seconds"), "machine": machine(), "rows": rows,
              "slopes": slopes}  # fmt: skip
    RESULTS.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
