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
from safetensors.torch import load_file

import seehear
from seehear.data.clips import held_out
from seehear.data.manifest import Manifest
from seehear.engine.runlog import read_metrics
from seehear.errors import ProcessError
from seehear.types import Assignment
from tests.conftest import TINY_SETTINGS

METHODS = ("xdc", "gdt", "selavi", "avts", "rotation", "supervised")
SHORT = (
    *TINY_SETTINGS,
    "rounds=1",
    "optim.epochs=1",
    "optim.base_lr=0.02",
    "clip.short_side_px=52",
    "clip.crop_px=48",
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
    settings = ("optim.batch_size=1", "data.validation_share=0.1", "data.cache_gib=0", "data.max_failed_share=0.5")
    groups = [
        {"size": 5, "tasks": [task(m, broken, tmp_path / f"{m}5", *settings) for m in METHODS]},
        {"size": 3, "tasks": [task(m, broken, tmp_path / f"{m}3", *settings) for m in ("xdc", "gdt", "selavi")]},
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


class TestEquality:
    """With joint batch normalisation, 2 and 4 processes are one with as many clips a step."""

    @pytest.fixture(scope="class")
    def runs(self, collection, tmp_path_factory):
        folder = tmp_path_factory.mktemp("equal")
        settings = (
            "optim.sync_batchnorm=always", "optim.epochs=2", "rounds=2", "cluster.k=4", "optim.base_lr=0.002",
            "cluster.calibrate_batchnorm=never",
        )  # fmt: skip
        groups = []
        for size in (1, 2, 4):
            share = f"optim.batch_size={8 // size}"
            tasks = [task(m, collection, folder / f"{m}-{size}", *settings, share) for m in METHODS]
            groups.append({"size": size, "tasks": tasks})
        results = together(groups, folder)
        assert [codes(r) for r in results] == [[0], [0] * 2, [0] * 4], results
        return folder

    @pytest.mark.parametrize("size", [2, 4])
    @pytest.mark.parametrize("method", METHODS)
    def test_losses_gradients_and_weights_agree(self, method, size, runs):
        one, several = (read_metrics(runs / f"{method}-{n}" / "metrics.jsonl") for n in (1, size))
        for name in ("train_loss", "validation_loss"):
            a, b = ([r[name] for r in records if r["kind"] == "epoch"] for records in (one, several))
            assert np.allclose(a, b, rtol=1e-3), name
        a, b = ([r["gradient_norm"] for r in records if r["kind"] == "step"] for records in (one, several))
        assert len(a) == len(b) > 2
        assert np.allclose(a, b, rtol=5e-2 if method == "selavi" else 1e-3)
        a, b = (load_file(runs / f"{method}-{n}" / "model" / "model.safetensors") for n in (1, size))
        for name, weight in a.items():
            if weight.is_floating_point() and not name.startswith(("centroids", "transform")):
                assert np.allclose(weight, b[name], rtol=1e-2, atol=2e-3), name

    @pytest.mark.parametrize("size", [2, 4])
    @pytest.mark.parametrize("method", METHODS)
    def test_labels_are_equal(self, method, size, runs):
        one, several = (runs / f"{method}-{n}" for n in (1, size))
        rounds = sorted(path.name for path in (one / "assignments").glob("*.parquet"))
        assert bool(rounds) == (method in ("xdc", "selavi", "supervised"))
        for name in rounds:
            a, b = (Assignment.load(run / "assignments" / name) for run in (one, several))
            assert a.clip_ids.equals(b.clip_ids)
            for labelling, labels in a.labels.items():
                assert np.array_equal(labels, b.labels[labelling]), (name, labelling)


class TestFaults:
    """Whatever befalls one process ends all, with a word on what it was, and the run goes on."""

    def test_killed_and_stopped_and_resumed_by_other_numbers_of_processes(self, collection, tmp_path):
        out = tmp_path / "run"
        run = task("xdc", collection, out, "checkpoint_minutes=0", "optim.batch_size=1", resume_if_there=True)
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

    @pytest.mark.parametrize("where", ["extraction", "cache"])
    def test_a_signal_to_one_before_the_first_step(self, where, collection, tmp_path):
        fault = {"rank": 0 if where == "cache" else 2, "what": "stop", "where": where}
        run = task("selavi", collection, tmp_path / "run", fault=fault)
        (results,) = together([{"size": 3, "tasks": [run]}], tmp_path, XDG_CACHE_HOME=str(tmp_path / "cache"))
        assert codes(results) == [75] * 3, results
        assert "SIGTERM" in results[fault["rank"]]["said"]

    def test_errors_of_one(self, collection, tmp_path):
        def run(name: str, method: str, **fault: Any) -> dict[str, Any]:
            return {"size": 3, "tasks": [task(method, collection, tmp_path / name, fault=fault)]}

        groups = [
            run("decoding", "gdt", rank=2, what="fail", where="decoding", count=9),
            run("disk", "rotation", rank=0, what="full", where="save", count=1),
            run("first", "supervised", rank=0, what="fail", where="step", count=2),
        ]
        decoding, disk, first = together(groups, tmp_path)
        assert codes(decoding) == [5, 5, 1]
        assert all("process 2 has failed: ZeroDivisionError: a fault" in decoding[r]["said"] for r in (0, 1))
        assert codes(disk) == [4, 5, 5]
        assert all("the disk is full" in process["said"] for process in disk)
        assert codes(first) == [1, 5, 5]
        assert all("process 0 has failed" in first[r]["said"] for r in (1, 2))

    def test_a_process_that_does_not_come_is_named(self, collection, tmp_path):
        fault = {"rank": 2, "what": "sleep", "where": "step", "count": 2}
        run = task("avts", collection, tmp_path / "run", "process_timeout_seconds=30", fault=fault)
        (results,) = together([{"size": 3, "tasks": [run]}], tmp_path)
        # The one that sleeps is ended by its own thread.
        assert codes(results) == [5, 5, None], results
        for process in results[:2]:
            assert 's in "' in process["said"] and "process 2 was at work after" in process["said"]
