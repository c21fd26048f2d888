"""Several processes: none waits for ever, whatever befalls one; and together they learn what one alone would.

Processes are forks of `tests.ranks`, and many runs share a group, since starting processes takes longer than the runs.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file

import seehear
from seehear.data.clips import held_out
from seehear.data.manifest import Manifest
from seehear.engine.runlog import read_metrics
from seehear.errors import ProcessError
from seehear.types import Assignment
from tests.conftest import TINY_SETTINGS

LARGER = ("clip.short_side_px=52", "clip.crop_px=48")
"""Of one clip of these a network's last layers see more than one value, without which nothing can be normalised."""
METHODS = ("xdc", "gdt", "selavi", "avts", "rotation", "supervised")
SHORT = (
    *TINY_SETTINGS,
    "rounds=1",
    "optim.epochs=1",
    "optim.base_lr=0.02",
    "cluster.k=3",
    "cluster.restarts=1",
    "selavi.heads=2",
    "selavi.clusterings=2",
    "selavi.labels_from=pass",
)


def together(groups: list[dict[str, Any]], folder: Path, **environment: str) -> list[list[dict[str, Any]]]:
    """Run groups of processes, one group after the other: what each process of each came to."""
    for number, group in enumerate(groups):
        group["out"] = str(folder / f"group-{number}")
    job = folder / "job.json"
    job.write_text(json.dumps(groups))
    done = subprocess.run(
        [sys.executable, "-m", "tests.ranks", str(job)], env={**os.environ, **environment}, capture_output=True,
        text=True, timeout=900,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    results = []
    for group in groups:
        files = [Path(f"{group['out']}.{rank}") for rank in range(group["size"])]
        results.append([json.loads(f.read_text()) if f.exists() else {"code": None} for f in files])
    return results


def task(method: str, source: Path, out: Path, *settings: str, **more: Any) -> dict[str, Any]:
    return {"method": method, "source": str(source), "out": str(out), "settings": [*SHORT, *settings], **more}


def codes(group: list[dict[str, Any]]) -> list[int | None]:
    return [process["code"] for process in group]


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A manifest of 12 videos of which one cannot be decoded any more."""
    from tests.corpus import make_collection

    folder = tmp_path_factory.mktemp("broken")
    manifest = seehear.scan(make_collection(folder, n=12, classes=4))
    manifest.save(folder / "manifest.parquet")
    victim = sorted((folder / "clips").iterdir())[4]
    victim.write_bytes(victim.read_bytes()[:300])
    return folder / "manifest.parquet"


def test_no_process_waits_whatever_the_others_have(broken, tmp_path):
    """Clips that processes do not divide, fewer held out than processes, and batches of one clip, which is broken."""
    settings = (
        *LARGER,
        "optim.batch_size=1",
        "data.validation_share=0.1",
        "data.cache_gib=0",
        "data.max_failed_share=0.5",
    )
    groups = [
        {"size": size, "tasks": [task(m, broken, tmp_path / f"{m}{size}", *settings) for m in methods]}
        for size, methods in ((5, METHODS), (3, ("gdt",)))
    ]
    ids = Manifest.load(broken).by_id("path")
    for group, results in zip(groups, together(groups, tmp_path), strict=True):
        assert codes(results) == [0] * group["size"], results
        for done in group["tasks"]:
            records = read_metrics(Path(done["out"]) / "metrics.jsonl")
            epoch = next(r for r in records if r["kind"] == "epoch")
            assert np.isfinite(epoch["validation_loss"])
            steps = sum(not held_out(i, 0.1) for i in ids) // group["size"]
            # The batch that the broken clip was alone in is a step for nobody.
            assert records[-1]["kind"] == "end" and records[-1]["steps"] in (steps - 1, steps), done["out"]
            labels = pq.read_table(Path(done["out"]) / "labels.parquet")
            assert len(set(labels["video_id"].to_pylist())) == 11


def test_2_and_4_processes_learn_what_one_learns(collection, tmp_path):
    """With joint batch normalisation, and in float64: in float32 rounding decides in flat pictures what a ReLU lets
    through, and two programs that are equal but for the order of their sums drift apart by parts in a thousand."""
    groups = []
    for size, methods in ((1, METHODS), (2, METHODS), (4, ("xdc", "gdt", "selavi"))):
        settings = (
            f"optim.sync_batchnorm={'never' if size == 1 else 'always'}", f"optim.batch_size={16 // size}", "rounds=2",
            "cluster.k=4", "cluster.calibrate_batchnorm=never",
        )  # fmt: skip
        tasks = [task(m, collection, tmp_path / f"{m}-{size}", *settings) for m in methods]
        groups.append({"size": size, "float64": True, "tasks": tasks})
    results = together(groups, tmp_path)
    assert [codes(r) for r in results] == [[0], [0] * 2, [0] * 4], results
    for group in groups[1:]:
        for done in group["tasks"]:
            assert_same(tmp_path / f"{done['method']}-1", Path(done["out"]), done["method"])


def assert_same(one: Path, several: Path, method: str) -> None:
    """Labels are equal; losses, gradients and weights are but for the last digits of the type that holds them."""
    name = several.name
    logs = [read_metrics(run / "metrics.jsonl") for run in (one, several)]
    a, b = ([r["gradient_norm"] for r in log if r["kind"] == "step"] for log in logs)
    assert len(a) == len(b) == 2
    assert np.allclose(a, b, rtol=1e-10, atol=0), name
    for value in ("train_loss", "validation_loss"):  # means, which are float32
        a, b = ([r[value] for r in log if r["kind"] == "epoch"] for log in logs)
        assert len(a) == 2
        assert np.allclose(a, b, rtol=1e-6, atol=0), (name, value)
    a, b = (load_file(run / "model" / "model.safetensors") for run in (one, several))
    assert a.keys() == b.keys()
    for key, weight in a.items():
        close = 1e-10 if weight.dtype == torch.float64 else 1e-5
        assert np.allclose(weight, b[key], rtol=close, atol=close), (name, key)
    assert any(weight.dtype == torch.float64 for weight in a.values())
    rounds = sorted(path.name for path in (one / "assignments").glob("*.parquet"))
    assert bool(rounds) == (method in ("xdc", "selavi", "supervised"))
    for table in rounds:
        c, d = (Assignment.load(run / "assignments" / table) for run in (one, several))
        assert c.clip_ids.equals(d.clip_ids)
        for labelling, labels in c.labels.items():
            assert np.array_equal(labels, d.labels[labelling]), (name, table, labelling)


def test_killed_and_stopped_and_resumed_by_other_numbers_of_processes(collection, tmp_path):
    out = tmp_path / "run"
    run = task("xdc", collection, out, *LARGER, "checkpoint_minutes=0", "optim.batch_size=1", resume_if_there=True)
    groups = [
        {"size": 3, "tasks": [run | {"fault": {"rank": 1, "what": "kill", "where": "step", "count": 3}}]},
        {"size": 2, "tasks": [run | {"fault": {"rank": 1, "what": "stop", "where": "step", "count": 2}}]},
        {"size": 5, "tasks": [run | {"fault": {"rank": 4, "what": "stop", "where": "step"}}]},
        {"size": 1, "tasks": [run]},
    ]
    killed, stopped, again, last = together(groups, tmp_path)
    assert codes(killed) == [ProcessError.exit_code, None, ProcessError.exit_code]
    assert all("process 1 has been killed" in killed[rank]["said"] for rank in (0, 2))
    assert codes(stopped) == [75, 75]
    assert codes(again) == [75] * 5
    assert codes(last) == [0]
    steps = [r["step"] for r in read_metrics(out / "metrics.jsonl") if r["kind"] == "step"]
    assert steps == list(range(1, len(steps) + 1))
    assert len(pq.read_table(out / "labels.parquet")) == 24


def test_what_befalls_one_ends_all_with_a_word_on_what_it_was(collection, tmp_path):
    def run(method: str, *settings: str, **fault: Any) -> dict[str, Any]:
        out = tmp_path / f"{method}-{fault['where']}"
        return {"size": 3, "tasks": [task(method, collection, out, "optim.batch_size=2", *settings, fault=fault)]}

    groups = [
        run("selavi", rank=0, what="stop", where="cache"),  # the first: later ones find a cache
        run("selavi", rank=2, what="stop", where="extraction"),
        run("gdt", rank=2, what="fail", where="decoding", count=3),
        run("rotation", rank=0, what="full", where="save"),
        run("supervised", rank=0, what="fail", where="step", count=2),
        run("avts", "process_timeout_seconds=30", rank=2, what="sleep", where="step", count=2),
    ]
    results = together(groups, tmp_path, XDG_CACHE_HOME=str(tmp_path / "cache"))
    cache, extraction, decoding, disk, first, asleep = results
    assert codes(cache) == codes(extraction) == [75] * 3, results
    assert "SIGTERM" in cache[0]["said"] and "SIGTERM" in extraction[2]["said"]
    assert codes(decoding) == [5, 5, 1], decoding
    assert all("process 2 has failed: ZeroDivisionError: a fault" in decoding[r]["said"] for r in (0, 1))
    assert codes(disk) == [4, 5, 5], disk
    assert all("the disk is full" in process["said"] for process in disk)
    assert codes(first) == [1, 5, 5], first
    assert all("process 0 has failed" in first[r]["said"] for r in (1, 2))
    assert codes(asleep) == [5, 5, None], asleep  # the one that sleeps is ended by its own thread
    for process in asleep[:2]:
        assert 's in "' in process["said"] and "process 2 was at work after" in process["said"]
