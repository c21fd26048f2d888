"""What the labels of many clips cost: memory and time of `seehear.types.Assignment` and of gathering it.

    python benchmarks/assignment.py --clips 1000000 --out benchmarks/results/assignment.json
    python benchmarks/assignment.py --clips 1000000 --package OTHER_CHECKOUT     # to compare with

Ids as runs have them (a video's id with a media fragment) and three labellings. Each measurement is a process of its
own: `held` is what it keeps in memory beyond what it had before, `peak` the most it had; seconds are CPU seconds.

- load: the Parquet file of a round, as a resume and every process reads it.
- batch: the labels of 32 clips drawn at random, median of 2000, in microseconds.
- all: which of all clips have labels, as at the beginning of an epoch.
- gather: the labels of 4 processes, of a quarter of the clips each, brought together (gloo).
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PROCESSES = 4


def clip_ids(first: int, last: int) -> list[str]:
    """Ids like those of runs, of so many clips."""
    return [f"{i * 2654435761 % 2**64:016x}/video_{i:09d}.mp4#t=0.000,10.000" for i in range(first, last)]


def held_bytes() -> int:
    """Memory of this process, after what Arrow and Python keep for later is given back as far as they can."""
    import gc

    import pyarrow as pa

    gc.collect()
    pa.default_memory_pool().release_unused()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def measure_load(path: str) -> dict[str, float]:
    """Load an assignment and ask it."""
    import numpy as np
    import torch

    from seehear.types import Assignment

    Assignment.load(Path(path + ".small")).targets(["a"], torch.device("cpu"))  # what is imported on the way
    before, began = held_bytes(), time.process_time()
    assignment = Assignment.load(Path(path))
    loaded, held = time.process_time() - began, held_bytes() - before
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before
    count = len(assignment.labels["video"])
    drawn = np.random.default_rng(0).integers(0, count, (2000, 32))
    texts = clip_ids(0, count)
    times = []
    for rows in drawn:
        batch = [texts[i] for i in rows]
        started = time.process_time_ns()
        assignment.targets(batch, torch.device("cpu"))
        times.append((time.process_time_ns() - started) / 1000)
    began = time.process_time()
    if hasattr(assignment, "rows"):
        there = int((assignment.rows(texts) >= 0).sum())
    else:
        there = sum(c in assignment for c in texts)
    assert there == count
    return {
        "load_seconds": loaded, "held_bytes": held, "peak_bytes": peak, "all_seconds": time.process_time() - began,
        "batch_microseconds": float(np.median(times)),
    }  # fmt: skip


def measure_gather(rank: int, clips: int) -> dict[str, float]:
    """This process's share of gathering the labels of all."""
    import numpy as np

    from seehear import dist
    from seehear.engine.trainer import gather_assignment

    dist.init_from_environment()
    first, last = clips * rank // PROCESSES, clips * (rank + 1) // PROCESSES
    bank = SimpleNamespace(clip_ids=clip_ids(first, last))
    labels = {n: SimpleNamespace(labels=np.arange(first, last) % 400, k=400) for n in ("video", "audio", "video+audio")}
    small = SimpleNamespace(clip_ids=[str(rank)])
    gather_assignment(small, {"video": SimpleNamespace(labels=np.zeros(1, dtype=np.int64), k=1)})  # type: ignore
    before, began = held_bytes(), time.process_time()
    found = gather_assignment(bank, labels)  # type: ignore[arg-type]
    seconds, held = time.process_time() - began, held_bytes() - before
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before
    assert len(found.labels["video"]) == clips
    dist.shutdown()
    return {"gather_seconds": seconds, "gather_held_bytes": held, "gather_peak_bytes": peak}


def run(package: Path, *arguments: object, **environment: str) -> subprocess.Popen[str]:
    """A measurement in a process of its own, with the code of the given checkout."""
    variables = {**os.environ, "PYTHONPATH": str(package), "OMP_NUM_THREADS": "1", **environment}
    return subprocess.Popen(
        [sys.executable, __file__, *map(str, arguments)], env=variables, stdout=subprocess.PIPE, text=True
    )


def answer(process: subprocess.Popen[str]) -> dict[str, Any]:
    """What a measurement printed."""
    out, _ = process.communicate()
    assert process.returncode == 0
    found: dict[str, Any] = json.loads(out.splitlines()[-1])
    return found


def measure(package: Path, clips: int) -> dict[str, Any]:
    """All measurements of a checkout."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/round.parquet"
        for name, ids in ((path, clip_ids(0, clips)), (path + ".small", ["a"])):
            labels = {n: pa.array((np.arange(len(ids)) % 400).astype(np.int32)) for n in ("video", "audio", "v+a")}
            metadata = {f"classes.{n}": "400" for n in labels}
            pq.write_table(pa.table({"clip_id": ids, **labels}).replace_schema_metadata(metadata), name)
        found = answer(run(package, "--load", path))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    meeting = {"WORLD_SIZE": str(PROCESSES), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    processes = [run(package, "--gather", r, "--clips", clips, RANK=str(r), **meeting) for r in range(PROCESSES)]
    answers = [answer(process) for process in processes]
    return found | {name: max(a[name] for a in answers) for name in answers[0]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=1_000_000)
    parser.add_argument("--package", type=Path, default=ROOT, help="the checkout whose seehear is measured")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--load", help=argparse.SUPPRESS)
    parser.add_argument("--gather", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.load:
        print(json.dumps(measure_load(arguments.load)))
    elif arguments.gather is not None:
        print(json.dumps(measure_gather(arguments.gather, arguments.clips)))
    else:
        load = os.getloadavg()[0]
        found = {"clips": arguments.clips, "load": load, **measure(arguments.package.resolve(), arguments.clips)}
        print(json.dumps(found, indent=1))
        if arguments.out:
            arguments.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
