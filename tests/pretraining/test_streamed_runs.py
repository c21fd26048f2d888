"""Training from shards on a server that is slow, cuts connections and restarts gives the bits of the folder."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

import seehear
from seehear.data.manifest import Manifest
from seehear.data.scanning import scan
from seehear.data.sources import find
from seehear.engine.runlog import read_metrics
from seehear.errors import DataError, UsageError
from seehear.files import write_table
from seehear.media import remote
from seehear.media.recoding import Recoding
from seehear.preparing.run import prepare
from tests.conftest import TINY_SETTINGS
from tests.corpus import make_collection
from tests.servers import Server, serving, watching

SHORT = (
    *TINY_SETTINGS, "rounds=1", "optim.epochs=2", "optim.warmup_epochs=0", "clip.short_side_px=32", "data.cache_gib=0",
    "cluster.k=2", "cluster.restarts=1", "optim.base_lr=0.01",
)  # fmt: skip


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """A folder of copies of nine videos in several shards, with a manifest beside them."""
    folder = tmp_path_factory.mktemp("shards") / "prepared"
    table = make_collection(tmp_path_factory.mktemp("nine"), n=9, classes=3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("seehear.preparing.run.check_settings", lambda *_: None)
        prepare(table, folder, Recoding(32, 15.0, 10, 8000, ("video", "audio")), shard_bytes=60_000, workers=0)
    scan(folder, out=folder / "manifest.parquet", min_seconds=1.0, workers=0)
    return folder


@pytest.fixture(autouse=True)
def streaming(tmp_path):
    """A folder of its own for what is fetched where no run says otherwise."""
    before = remote.streaming()
    remote.use(remote.Streaming(str(tmp_path / "fetched"), 1 << 26, 20.0))
    yield
    remote.use(before)


@pytest.fixture(scope="module")
def at_one(shards, tmp_path_factory):
    """The run of one process on the folder."""
    out = tmp_path_factory.mktemp("folder") / "run"
    seehear.pretrain(shards, out, settings=SHORT, quiet=True)
    return out


def streamed_settings(shards: Path, tmp_path: Path, patience: float = 20.0) -> list[str]:
    """Settings with which hardly more than a third of the copies can be kept."""
    sizes = pq.read_table(shards / "index.parquet")["size"].to_pylist()
    room = max(2 * max(sizes), sum(sizes) // 3) + 40_000  # and the tables, which are there at the beginning
    return [
        *SHORT, f"data.stream_gib={room / 2**30}", f"data.stream_patience_seconds={patience}",
        f"data.cache_folder={tmp_path / 'kept'}",
    ]  # fmt: skip


def bad_day(server: Server) -> None:
    server.slow, server.cut_every, server.busy_every = 0.005, 5, 7


def results(run: Path) -> tuple[bytes, list[dict[str, Any]]]:
    return (run / "model" / "model.safetensors").read_bytes(), pq.read_table(run / "labels.parquet").to_pylist()


def test_one_process_learns_the_same_bits_from_a_bad_server(shards, at_one, tmp_path):
    settings = streamed_settings(shards, tmp_path)
    with serving(shards) as server:
        bad_day(server)
        server.at[30] = lambda: server.restart(0.5)
        with watching(tmp_path / "kept" / "streamed") as most:
            seehear.pretrain(f"{server.url}/", tmp_path / "run", settings=[*settings, "data.workers=1"], quiet=True)
        assert server.cuts > 2 and server.refusals > 2
        assert len(server.requests) > 30  # so it restarted, and copies were fetched again
    assert results(tmp_path / "run") == results(at_one)
    assert not (tmp_path / "run" / "failures.jsonl").exists()
    assert max(most) <= float(settings[-3].partition("=")[2]) * 2**30
    assert all(
        row["path"].startswith(server.url) for row in Manifest.load(tmp_path / "run" / "manifest.parquet").rows()
    )


def test_a_run_whose_server_goes_ends_with_its_name_and_resumes(shards, at_one, tmp_path):
    settings = streamed_settings(shards, tmp_path, patience=0.4)
    with serving(shards) as server:
        server.at[24] = server.stop
        with pytest.raises(DataError, match=rf"{server.url} gives no more files") as caught:
            seehear.pretrain(f"{server.url}/index.parquet", tmp_path / "run", settings=settings, quiet=True)
        assert "seehear pretrain --resume" in str(caught.value)
        server.start()
        seehear.pretrain(resume=tmp_path / "run", quiet=True)
    assert results(tmp_path / "run") == results(at_one)


def test_two_and_three_processes_learn_the_same_bits_from_a_bad_server(shards, tmp_path):
    with serving(shards) as server:
        bad_day(server)
        server.at[60] = lambda: server.restart(0.5)
        groups: list[dict[str, Any]] = []
        for size in (2, 3):
            settings = [*streamed_settings(shards, tmp_path), "optim.batch_size=3"]
            tasks = [
                {"source": str(source), "out": str(tmp_path / f"{name}{size}"), "settings": settings}
                for name, source in (("folder", shards), ("served", f"{server.url}/manifest.parquet"))
            ]
            groups.append({"size": size, "tasks": tasks, "out": str(tmp_path / f"group{size}")})
        assert by_processes(groups, tmp_path) == [[0] * 2, [0] * 3]
        assert server.cuts > 2 and len(server.requests) > 60
    for size in (2, 3):
        assert results(tmp_path / f"served{size}") == results(tmp_path / f"folder{size}")


def by_processes(groups: list[dict[str, Any]], tmp_path: Path) -> list[list[int | None]]:
    """Run groups of processes; the exit code of each, None where it was killed."""
    job = tmp_path / "job.json"
    job.write_text(json.dumps(groups))
    done = subprocess.run(
        [sys.executable, "-m", "tests.ranks", str(job)], env=os.environ, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    files = [[Path(f"{group['out']}.{rank}") for rank in range(group["size"])] for group in groups]
    return [[json.loads(f.read_text())["code"] if f.exists() else None for f in of] for of in files]


def test_three_processes_are_killed_and_two_go_on_from_a_bad_server_as_from_the_folder(shards, tmp_path):
    """Two copies of the run that was killed: one goes on from the server, the other with the folder's manifest."""
    with serving(shards) as server:
        bad_day(server)
        served, folder = tmp_path / "served", tmp_path / "folder"
        few = ("optim.batch_size=2", "optim.clips_per_epoch=18", "checkpoint_minutes=0")
        settings = [*streamed_settings(shards, tmp_path), *few]
        task = {"source": f"{server.url}/manifest.parquet", "out": str(served), "settings": settings}
        fault = {"what": "kill", "where": "step", "rank": 1, "count": 3}
        group = {"size": 3, "tasks": [task | {"fault": fault}], "out": str(tmp_path / "three")}
        (codes,) = by_processes([group], tmp_path)
        assert codes == [5, None, 5]
        begun = [r["step"] for r in read_metrics(served / "metrics.jsonl") if r["kind"] == "step"]
        assert begun and not (served / "labels.parquet").exists()
        shutil.copytree(served, folder)
        shutil.copy(shards / "manifest.parquet", folder / "manifest.parquet")
        resumed = [{"resume": True, "out": str(run), "settings": settings} for run in (served, folder)]
        asked = len(server.requests)
        assert by_processes([{"size": 2, "tasks": resumed, "out": str(tmp_path / "two")}], tmp_path) == [[0] * 2]
        assert len(server.requests) > asked
    assert results(served) == results(folder)
    last = read_metrics(served / "metrics.jsonl")[-1]
    assert last["kind"] == "end" and last["clips_seen"] > 2 * 3  # of both numbers of processes


def test_a_manifest_beside_the_shards_spares_looking_at_every_copy(shards, tmp_path):
    with serving(shards) as server:
        there = Manifest.load(f"{server.url}/manifest.parquet")
        assert {path for path, _ in server.requests} == {"/manifest.parquet"}
        scanned = scan(f"{server.url}/", min_seconds=1.0, workers=0)
    here = Manifest.load(shards / "manifest.parquet")
    assert there.table.equals(scanned.table)
    assert there.fingerprint() == here.fingerprint()
    own = ("path", "modified_ns")
    assert there.table.drop_columns(own).equals(here.table.drop_columns(own))


def test_tables_that_do_not_belong_together_or_name_other_places_are_refused(shards, tmp_path):
    folder = tmp_path / "there"
    shutil.copytree(shards, folder)
    index = pq.read_table(folder / "index.parquet")
    with serving(folder) as server:
        rows = index.to_pylist()
        rows[3]["offset"] += 512
        write_table(type(index).from_pylist(rows, index.schema), folder / "index.parquet")
        with pytest.raises(DataError, match="say different things of"):
            find(server.url)
        (folder / "index.parquet").unlink()
        remote._tables.clear()
        with pytest.raises(DataError, match="--shards"):
            find(server.url)
        with pytest.raises(DataError, match="nothing prepared"):
            find(f"{server.url}/elsewhere")
        with pytest.raises(DataError, match="neither prepared copies nor a manifest"):
            find(f"{server.url}/videos.parquet")
        manifest = Manifest.load(shards / "manifest.parquet")
        for wrong in ("/etc/passwd", "http://127.0.0.1:9/shards/000000.tar/0+5/a.mp4", f"{shards}/../x.tar/0+5/a.mp4"):
            paths = [wrong, *manifest.column("path")[1:]]
            at = manifest.table.schema.get_field_index("path")
            table = manifest.table.set_column(at, "path", [paths])
            name = f"{abs(hash(wrong))}.parquet"
            Manifest(table, manifest.info).save(folder / name)
            with pytest.raises(DataError, match="no copy in"):
                Manifest.load(f"{server.url}/{name}")
    with pytest.raises(UsageError, match="passwords and tokens"):
        find("https://host/prepared/?token=1")


def test_a_copy_that_was_replaced_on_the_server_is_named_by_the_scan(shards, tmp_path):
    folder = tmp_path / "there"
    shutil.copytree(shards, folder)
    place = pq.read_table(folder / "index.parquet").to_pylist()[2]
    with open(folder / place["shard"], "r+b") as file:
        file.seek(place["offset"] + 40)
        file.write(b"another content")
    with serving(folder) as server:
        manifest = scan(server.url, workers=0)
    bad = manifest.rejected_rows()
    assert [(row["video_id"], row["reason"]) for row in bad] == [(place["video_id"], "changed")]
    assert "not those of the index" in bad[0]["detail"] and bad[0]["path"].startswith(f"{server.url}/{place['shard']}/")
