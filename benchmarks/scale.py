"""Time and memory of what is done once for all clips, over the number of clips and of processes.

    python benchmarks/scale.py                      # 250 thousand to 10 million clips; about ten CPU minutes
    python benchmarks/scale.py --only kmeans order  # some parts
    python benchmarks/scale.py --tiny               # thousands, to see that it runs

Clips, features and labels are made up; what is measured is the code that a run uses. Every number of clips and every
part has processes of its own. Time is CPU seconds of user and kernel, with one thread, as other work may be on the
machine, those of the kernel also apart: it gives out memory, which on a virtual machine costs more the more of it was
not in use before. Of parts that take less than `AGAIN_SECONDS` (not with `--tiny`) it is the median of three. Memory is
the rise of the process's peak (VmHWM, reset when the work begins) over what it held before, and `held` what of it stays
when the work is done. Pages of a mapped file are the system's, which may drop them, and not counted: `held` is the
anonymous memory of /proc/self/smaps_rollup, and from the peak what is mapped in the end is taken away.
Features have 32 dimensions, 64 clusters (32 for transport), so that ten million fit a small machine; `docs/scale.md`
says how each constant goes with them. Features on disk are read by blocks and not mapped, as pages of a mapped file
would count as memory of the process while anybody may have them back.

A slope is that of log time (memory) over log clips, by least squares, and its scatter the standard deviation of the
points from that line, as a share. A line of constants follows: what a further clip costs, in microseconds and bytes,
from the two largest numbers of clips. With several processes (gloo) on one machine the largest of them counts; what is
done once a machine has its peak in the first process, and `of_each` has that of every process.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import gc
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from support import machine

from seehear import dist

RESULTS = Path(__file__).parent / "results" / "scale.json"
SIZES, TINY = (250_000, 1_000_000, 2_500_000, 10_000_000), (2_000, 8_000)
D, K, TRANSPORT_K, BATCH = 32, 64, 32, 32
BLOCK = 1 << 16
AGAIN_SECONDS = 3.0
Work = Callable[[], Any]


@dataclass(frozen=True)
class Simulated:
    """A collection of made-up clips: one clip of each video."""

    place: Path
    rows: int

    def numbers(self) -> range:
        """Those of this process's share."""
        return range(self.rows * dist.rank() // dist.world_size(), self.rows * (dist.rank() + 1) // dist.world_size())

    @property
    def manifest(self) -> Path:
        return self.place / "manifest.parquet"  # as in the folder of a run

    @property
    def features(self) -> Path:
        return self.place / "features.f32"


class Rows:
    """Rows (n, D) float32 of a file, read when they are asked for."""

    def __init__(self, path: Path, numbers: range) -> None:
        self.path, self.numbers = path, numbers
        self.shape = (len(numbers), D)

    def __getitem__(self, index: Any) -> np.ndarray:
        if isinstance(index, slice):
            start, stop, _ = index.indices(len(self.numbers))
            at, count = self.numbers.start + start, max(0, stop - start)
            return np.fromfile(self.path, np.float32, count * D, offset=4 * D * at).reshape(count, D)
        return np.concatenate([self[int(i) : int(i) + 1] for i in index] or [np.empty((0, D), np.float32)])


def blocks(rows: int) -> Iterator[range]:
    return (range(start, min(start + BLOCK, rows)) for start in range(0, rows, BLOCK))


def make_features(simulated: Simulated) -> None:
    """Write features around 1000 centres."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(1000, D)).astype(np.float32)
    with open(simulated.features, "wb") as file:
        for block in blocks(simulated.rows):
            noise = rng.standard_normal((len(block), D), dtype=np.float32)
            (centres[rng.integers(1000, size=len(block))] + 0.7 * noise).tofile(file)


def make_manifest(simulated: Simulated) -> None:
    """Write a manifest with ids, paths and sizes like a real one's."""
    from seehear.data.manifest import _METADATA_KEY, _VERSION, COLUMNS

    rng = np.random.default_rng(0)
    note = json.dumps({"version": _VERSION, "info": {"need": ["video", "audio"], "root": "/"}}).encode()
    schema = pa.schema(list(COLUMNS.items()), metadata={_METADATA_KEY: note})
    with pq.ParquetWriter(simulated.manifest, schema) as writer:
        for block in blocks(simulated.rows):
            known: dict[str, Any] = {
                "video_id": video_ids(block), "path": [f"/archive/clips/{i % 1000:03d}/{i:011d}.mp4" for i in block],
                "fingerprint": [f"{(i * 0x9E3779B97F4A7C15) % 2**128:032x}" for i in block], "container": "mp4",
                "video_codec": "h264", "audio_codec": "aac", "usable": True, "audio_track": 0, "clock_jumps": 0,
                "variable_frame_rate": False, "width": 340, "height": 256, "rotation_degrees": 0, "channels": 2,
                "sample_rate_hz": 44100, "frame_rate_hz": 25.0, "frame_count": 250, "modified_ns": 10**18,
                "size_bytes": rng.integers(10**5, 10**6, len(block)), "video_start_seconds": 0.0,
                "audio_rms_dbfs": rng.uniform(-40, -10, len(block)), "audio_peak_dbfs": rng.uniform(-9, 0, len(block)),
                "audio_start_seconds": 0.0, "video_duration_seconds": rng.uniform(9, 10, len(block)),
                "audio_duration_seconds": rng.uniform(9, 10, len(block)),
            }  # fmt: skip
            columns = [_column(known.get(name), kind, len(block)) for name, kind in COLUMNS.items()]
            writer.write_table(pa.table(columns, schema=schema))


def _column(values: Any, kind: pa.DataType, count: int) -> pa.Array:
    if values is None:
        return pa.nulls(count, kind)
    if isinstance(values, list | np.ndarray):
        return pa.array(values, kind)
    return pa.repeat(pa.scalar(values, kind), count)


def video_ids(numbers: Sequence[int]) -> list[str]:
    return [f"{i % 1000:03d}/{i:011d}.mp4" for i in numbers]


def clip_ids(numbers: range) -> pa.ChunkedArray:
    parts = (numbers[start : start + BLOCK] for start in range(0, len(numbers), BLOCK))
    texts = [pa.array([f"{i}#t=0.000,10.000" for i in video_ids(part)], pa.large_string()) for part in parts]
    return pa.chunked_array(texts, pa.large_string())


# -- what is measured: each returns the work, all else being done before ------------------------------------------


def manifest(simulated: Simulated) -> Work:
    from seehear.data.manifest import Manifest

    return lambda: Manifest.load(simulated.manifest)


def clips(simulated: Simulated) -> Work:
    """Videos by their ids and spans, those to train on and those held out: what a run makes of its manifest."""
    from seehear.config import Config
    from seehear.data.columns import VideosById, VideoTable
    from seehear.engine.runfolder import RunFolder
    from seehear.engine.sampling import split
    from seehear.pretraining.run import _videos
    from seehear.progress import Progress

    folder, streams = RunFolder(simulated.place), ("video", "audio")

    def work() -> Any:
        columns = dist.once_a_machine("the manifest", lambda: _videos(folder, streams, Config(), None, Progress()))
        videos = VideosById(VideoTable.of_columns(columns, streams))
        parts = split(videos, Config(), None)
        videos[videos.table.id_of(0)]
        return videos, parts

    return work


def assignment(simulated: Simulated) -> Work:
    """Labels of all clips by two labellings, written, read, and asked for by 1000 batches."""
    from seehear.features.bank import shared_assignment
    from seehear.types import Assignment

    ids = clip_ids(range(simulated.rows))
    labels = {n: np.random.default_rng(0).integers(0, K, simulated.rows, np.int32) for n in ("video", "audio")}
    asked = np.random.default_rng(1).integers(0, simulated.rows, (1000, BATCH))
    path = simulated.place / "assignment.parquet"

    def work() -> Any:
        if dist.is_main():
            Assignment(ids, labels, {"video": K, "audio": K}).save(path)
        read = shared_assignment(lambda: Assignment.load(path))
        for rows in asked:
            read.targets(ids.take(rows), torch.device("cpu"))
        return read

    return work


def _spans(simulated: Simulated) -> tuple[Any, Any]:
    from seehear.config import ClusterConfig
    from seehear.data.clips import Video
    from seehear.data.columns import VideosById, VideoTable, cut

    ids = pa.chunked_array([pa.array(video_ids(block), pa.large_string()) for block in blocks(simulated.rows)])
    ends = np.full(simulated.rows, 9.5)

    def video(place: int) -> Video:
        return Video(ids[place].as_py(), "/x.mp4", f"{place:032x}", 0.0, 9.5, 340, 256)

    table = VideoTable(ids, np.zeros(simulated.rows), ends, np.zeros(simulated.rows, dtype=bool), video)
    return VideosById(table), cut(table, ClusterConfig())


def _order(simulated: Simulated, *, uniform: bool) -> Work:
    import dataclasses

    from seehear.config import Config
    from seehear.engine.sampling import epoch_steps
    from seehear.engine.schedule import stages
    from seehear.types import Assignment

    videos, refs = _spans(simulated)
    videos[videos.table.id_of(0)]
    config = Config()
    config = dataclasses.replace(config, cluster=dataclasses.replace(config.cluster, uniform_sampling=uniform))
    stage, labels = stages(config)[0], None
    if uniform:
        made = np.random.default_rng(0).integers(0, K, simulated.rows, np.int32)
        labels = Assignment(refs.clip_ids, {"video": made}, {"video": K})

    def work() -> Any:
        steps = epoch_steps(stage, refs, videos, None, labels, 0)
        return steps, list(steps.requests(0, steps.size))

    return work


def order(simulated: Simulated) -> Work:
    """An epoch's order, and the requests of its first step."""
    return _order(simulated, uniform=False)


def uniform_order(simulated: Simulated) -> Work:
    """The same, uniform over the clusters."""
    return _order(simulated, uniform=True)


def share(simulated: Simulated) -> Work:
    """The requests for features of a process's share, and the bank that takes them (two encoders of D dimensions)."""
    from seehear.config import Config
    from seehear.data.clips import plain_requests
    from seehear.features.bank import FeatureBank

    videos, refs = _spans(simulated)
    videos[videos.table.id_of(0)]

    def work() -> Any:
        requests = plain_requests(dist.share(refs), videos, Config().clip)
        bank = FeatureBank.empty([r.ref for r in requests], {"video": D, "audio": D})
        for x in bank.features.values():
            x += 1
        return requests, bank

    return work


def kmeans(simulated: Simulated) -> Work:
    """k-means++ and two moves of the centroids: four passes over the features."""
    from seehear.cluster import kmeans as room

    rows = Rows(simulated.features, simulated.numbers())
    return lambda: room.kmeans(rows, K, iterations=2)


def transform(simulated: Simulated) -> Work:
    """PCA with whitening to 16 dimensions, measured and applied."""
    from seehear.cluster.preprocess import FeatureTransform

    rows = Rows(simulated.features, simulated.numbers())
    return lambda: FeatureTransform(pca_dim=16, whiten=True).fit(rows).apply(rows)


def transport(simulated: Simulated) -> Work:
    """Log-probabilities and ten iterations of optimal transport over them, as SeLaVi's heads are labelled."""
    from seehear.cluster.sinkhorn import sinkhorn

    rows = Rows(simulated.features, simulated.numbers())
    weights = torch.randn(D, TRANSPORT_K, generator=torch.Generator().manual_seed(0)) / D**0.5

    def work() -> Any:
        log_p = torch.empty(len(rows.numbers), TRANSPORT_K)
        for start in range(0, len(log_p), 4096):
            log_p[start : start + 4096] = (torch.from_numpy(rows[start : start + 4096]) @ weights).log_softmax(1)
        shares = torch.full((TRANSPORT_K,), 1 / TRANSPORT_K)
        return sinkhorn(log_p, shares, tolerance=0.0, max_iterations=10, overwrite=True)

    return work


def labels(simulated: Simulated) -> Work:
    """The labels of all processes' shares, gathered so that every process has all."""
    from seehear.features.bank import FeatureBank, gather_assignment
    from seehear.types import Labelling

    mine = dist.share(_spans(simulated)[1])
    bank = FeatureBank(mine, {}, np.ones(len(mine), dtype=bool))  # type: ignore[arg-type] # of which only ids are asked
    made = np.random.default_rng(dist.rank()).integers(0, K, len(mine), np.int32)
    found = Labelling(made, np.zeros(0), torch.zeros(K, D), {}, 0.0, 0)
    return lambda: gather_assignment(bank, {"video": found, "audio": found})


def end(simulated: Simulated) -> Work:
    """The final features of two encoders, of all processes' shares, written, and labelled by K clusters of each."""
    from seehear.cluster.preprocess import FeatureTransform
    from seehear.config import Config
    from seehear.data.views import Statistics
    from seehear.features.bank import FeatureBank
    from seehear.features.model import Clusters, Model, bank_table
    from seehear.files import in_row_groups
    from seehear.pretraining.run import _write_features

    mine, names = simulated.numbers(), {"video": "video", "audio": "audio"}
    x = np.memmap(simulated.features, np.float32, "r").reshape(-1, D)[mine.start : mine.stop]
    table = bank_table(FeatureBank(list(dist.share(_spans(simulated)[1])), dict.fromkeys(names, x), np.ones(len(x))))
    clusters = {name: Clusters(torch.from_numpy(np.array(x[:K])), FeatureTransform().state()) for name in names}
    model = Model(Config(), names, {}, Statistics(), clusters)

    def work() -> Any:
        features = in_row_groups(dist.tables_of_all(table))
        if dist.is_main():
            return _write_features(features, simulated.place / "features.parquet", model)
        return sum(map(len, features))

    return work


def _index(simulated: Simulated) -> tuple[np.ndarray, Path]:
    x = np.fromfile(simulated.features, np.float32).reshape(-1, D)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    place = simulated.place / "index"
    place.mkdir(exist_ok=True)
    return x, place


def index(simulated: Simulated) -> Work:
    """Calibrating and writing an index, a hundred segments of each video, without an inverted file."""
    from search import write_index

    x, place = _index(simulated)
    return lambda: write_index(place, x, 10**9)


def index_videos(simulated: Simulated) -> Work:
    """The same with one segment of each video."""
    from search import write_index

    x, place = _index(simulated)
    return lambda: write_index(place, x, 10**9, a_video=1)


def index_cells(simulated: Simulated) -> Work:
    """The inverted file of an index of 4 √N cells."""
    from seehear.search.nearest import _write_one

    x, place = _index(simulated)
    return lambda: _write_one(place / "nearest.video.faiss", {"video": x}, ["video"])


def search(simulated: Simulated) -> Work:
    """Opening an index and twenty queries that compare all."""
    from search import write_index

    from seehear.search.index import Index
    from seehear.search.layout import current_generation, read_generation
    from seehear.search.query import Query, Searcher

    x, place = _index(simulated)
    queries = x[:20].copy()
    write_index(place, x, 10**9)

    def work() -> Any:
        generation = current_generation(place / "index")
        assert generation is not None
        searcher = Searcher(Index(place, generation, read_generation(generation)))
        return searcher, [searcher.search(Query({"video": q}), by="sight", k=10) for q in queries]

    return work


LARGEST, SOME = 10_000_000, (1, 2, 4)
PARTS: dict[str, tuple[Callable[[Simulated], Work], int, tuple[int, ...], float]] = {
    "manifest": (manifest, LARGEST, (1,), 1.0),
    "clips": (clips, LARGEST, SOME, 1.0),
    "assignment": (assignment, LARGEST, SOME, 1.0),
    "order": (order, LARGEST, SOME, 1.0),
    "uniform order": (uniform_order, LARGEST, SOME, 1.0),
    "share": (share, 4_000_000, SOME, 1.0),
    "transform": (transform, LARGEST, SOME, 1.0),
    "kmeans": (kmeans, LARGEST, SOME, 1.0),
    "transport": (transport, LARGEST, SOME, 1.0),
    "labels": (labels, LARGEST, SOME, 1.0),
    "end": (end, 4_000_000, SOME, 1.0),
    "index": (index, LARGEST, (1,), 1.0),
    "index, a video each": (index_videos, 4_000_000, (1,), 1.0),
    "index, cells": (index_cells, LARGEST, (1,), 1.5),
    "search": (search, LARGEST, (1,), 1.0),
}
"""For each part what it does, up to how many clips, by how many processes, and what the slope of its time should be."""
SHARED = 1_000_000
"""Clips at which processes are compared."""


# -- measuring ---------------------------------------------------------------------------------------------------


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) * 1024


def _give_back() -> None:
    """Hand memory that was used and freed back to the system: what comes would else be put there and not be seen."""
    gc.collect()
    pa.default_memory_pool().release_unused()
    with contextlib.suppress(OSError, AttributeError):  # other libraries of C have no such function
        ctypes.CDLL(None).malloc_trim(0)


def _anonymous() -> int:
    """Bytes of this process's own memory, no file's pages."""
    lines = [line.split() for line in Path("/proc/self/smaps_rollup").read_text().splitlines()]
    return 1024 * next(int(line[1]) for line in lines if line[0] == "Anonymous:")


def child(part: str, place: Path, rows: int, rank: int, ranks: int) -> None:
    """Do one part as one of some processes, and print what it took."""
    torch.set_num_threads(1)
    pa.set_cpu_count(1)
    tempfile.tempdir = str(place)
    if ranks > 1:
        dist.init(rank, ranks, init_method=f"file://{place}/meeting", timeout_seconds=600)
    work = PARTS[part][0](Simulated(place, rows))
    _give_back()
    dist.barrier("all is ready")
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    held, before, own = _status("VmRSS"), resource.getrusage(resource.RUSAGE_SELF), _anonymous()
    file_pages = _status("RssFile")
    kept = work()
    after = resource.getrusage(resource.RUSAGE_SELF)
    # Pages of a mapped file are anybody's.
    peak = _status("VmHWM") - held - max(0, _status("RssFile") - file_pages)
    kernel = after.ru_stime - before.ru_stime
    _give_back()
    dist.barrier("all is done")
    own = _anonymous() - own
    dist.barrier("all is measured")
    del kept
    dist.shutdown()
    print(json.dumps({
        "seconds": after.ru_utime - before.ru_utime + kernel, "kernel": kernel, "bytes": max(peak, 0),
        "held": max(own, 0), "whole": _status("VmHWM"),
    }))  # fmt: skip


def measure(part: str, place: Path, rows: int, ranks: int = 1) -> dict[str, Any]:
    """What the slowest and the largest of some processes took for a part."""
    runs = [_measured_once(part, place, rows, ranks)]
    while ranks == 1 and rows >= min(SIZES) and len(runs) < 3 and runs[0]["seconds"] < AGAIN_SECONDS:
        runs.append(_measured_once(part, place, rows, ranks))
    return sorted(runs, key=lambda run: run["seconds"])[len(runs) // 2] | {"runs": len(runs)}


def _measured_once(part: str, place: Path, rows: int, ranks: int) -> dict[str, Any]:
    (place / "meeting").unlink(missing_ok=True)
    alone = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONHASHSEED": "0"}
    command = [sys.executable, __file__, "--child", part, str(place), str(rows)]
    started = [
        subprocess.Popen(
            [*command, str(rank), str(ranks)], stdout=subprocess.PIPE, text=True, env=alone | {"LOCAL_RANK": str(rank)}
        )
        for rank in range(ranks)
    ]
    told = [process.communicate()[0] for process in started]
    if any(process.returncode for process in started):
        raise SystemExit(f"{part} of {rows} clips by {ranks} processes failed")
    found = [json.loads(text.splitlines()[-1]) for text in told]
    largest = {name: max(f[name] for f in found) for name in found[0]}
    each = [{name: f[name] for name in ("bytes", "held")} for f in found]
    return {"rows": rows, "ranks": ranks, **largest} | ({"of_each": each} if ranks > 1 else {})


def fitted(points: Sequence[dict[str, Any]], what: str) -> dict[str, float]:
    """Slope of the logarithms, scatter about the line, and what a further clip costs between the two largest."""
    x = np.log([p["rows"] for p in points])
    y = np.log([max(p[what], 1e-9) for p in points])
    slope, offset = np.polyfit(x, y, 1)
    scatter = float(np.std(y - slope * x - offset))
    first, last = sorted(points, key=lambda p: p["rows"])[-2:]
    each = (last[what] - first[what]) / (last["rows"] - first["rows"])
    return {"slope": round(float(slope), 3), "scatter": round(scatter, 3), "each": each}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", choices=list(PARTS), help="these parts; the others' results stay")
    parser.add_argument("--sizes", type=int, nargs="*", help="numbers of clips")
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    sizes = given.sizes or (TINY if given.tiny else SIZES)
    results = json.loads(given.out.read_text()) if given.out.exists() else {}
    results |= {"machine": machine(numpy=np.__version__), "measured": datetime.now(UTC).isoformat(timespec="seconds")}
    before = {part: found["points"] for part, found in results.get("parts", {}).items()}
    results["dimensions"], results["clusters"], results["transport_clusters"] = D, K, TRANSPORT_K
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        # What was measured before at other sizes stays.
        points = {part: [p for p in before.get(part, []) if p["rows"] not in sizes] for part in given.only or PARTS}
        for rows in sorted(sizes):
            make_features(Simulated(place, rows))
            if {"manifest", "clips"} & set(points):
                make_manifest(Simulated(place, rows))
            for part, measured in points.items():
                _, most, ranks, _ = PARTS[part]
                if rows <= most:
                    measured.append(measure(part, place, rows))
                    print(json.dumps({"part": part, **measured[-1]}), flush=True)
                if rows == (max(sizes) if given.tiny else SHARED):
                    shared = [measure(part, place, rows, n) for n in ranks if n > 1]
                    if shared:
                        results.setdefault("ranks", {})[part] = [measured[-1], *shared]
            for path in place.iterdir():
                shutil.rmtree(path) if path.is_dir() else path.unlink()
            write(results, points, given.out)
    show(results)


def write(results: dict[str, Any], points: dict[str, list[dict[str, Any]]], out: Path) -> None:
    """Keep what was measured so far, with the lines through it."""
    for part, measured in points.items():
        measured.sort(key=lambda p: p["rows"])
        lines = {what: fitted(measured, what) for what in ("seconds", "bytes")} if len(measured) > 1 else {}
        apart = [p | {"user": p["seconds"] - p["kernel"]} for p in measured if "kernel" in p]
        lines |= {"user": fitted(apart, "user")} if len(apart) > 1 else {}
        results.setdefault("parts", {})[part] = {"points": measured, "wanted_slope": PARTS[part][3], **lines}
    out.write_text(json.dumps(results, indent=1) + "\n")


def show(results: dict[str, Any]) -> None:
    """Print the lines through all points, and the memory by processes."""
    print(f"\n{'':<22}time: slope  scatter  us a clip  user: slope   memory: slope  scatter  bytes a clip")
    for part, found in results["parts"].items():
        if "seconds" not in found:
            continue
        time, memory, wanted = found["seconds"], found["bytes"], found["wanted_slope"]
        print(
            f"{part:<22}{time['slope']:11.2f} {time['scatter']:8.2f} {time['each'] * 1e6:10.3f}"
            f"{found['user']['slope'] if 'user' in found else float('nan'):13.2f}"
            f"{memory['slope']:16.2f} {memory['scatter']:8.2f} {memory['each']:13.1f}"
            + ("" if abs(time["slope"] - wanted) <= 0.1 else f"   time not {wanted:g}")
        )
    print(f"\n{'':<22}MiB by 1, 2 and 4 processes: held by the first, by another; peak of the first, of another")
    for part, measured in results.get("ranks", {}).items():
        alike = [found.get("of_each", [found]) for found in measured]
        columns = [
            " ".join(f"{max(f.get(name, 0) for f in of) / 2**20:8.1f}" for of in (each[rows] for each in alike) if of)
            for name in ("held", "bytes")
            for rows in (slice(0, 1), slice(1, None))
        ]
        print(f"{part:<22}" + "   ".join(columns))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5]), int(sys.argv[6]))
    else:
        main()
