"""Work on a real Ray cluster of two nodes, one of which is killed, comes to what one process makes."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import seehear
from seehear.engines import Task, Work, on_ray, run
from seehear.errors import DataError, SeehearError, UsageError
from seehear.parts import parts_of
from seehear.search.index import Index
from tests.engines import ray_work
from tests.joining.conftest import mixed  # noqa: F401 - a fixture
from tests.joining.parted import small_blocks, work  # noqa: F401 - a fixture
from tests.search.made import copied

ROOT = Path(__file__).resolve().parents[2]
# Read when Ray is imported. The second is what makes it stay on the loopback interface.
os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
pytest.importorskip("ray", reason="Ray is not installed (extra `ray`)")
NODE: dict[str, Any] = {
    "num_cpus": 1, "node_ip_address": "127.0.0.1", "object_store_memory": 80 << 20, "include_dashboard": False,
}  # fmt: skip


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A cluster of one node, for one task at a time, that this process finds as a person's would."""
    from ray.cluster_utils import Cluster

    # Sockets in it have long names, so its own must be short. What the processes of the cluster inherit is set here.
    temporary = tempfile.mkdtemp(prefix="ray", dir="/tmp")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT))
        made = Cluster(initialize_head=True, head_node_args={**NODE, "temp_dir": temporary})
        patch.setenv("RAY_ADDRESS", made.address)
        yield made
        made.shutdown()
    shutil.rmtree(temporary, ignore_errors=True)


def tasks_of(folder: Path, *whats: str) -> list[Task]:
    return [Task(f"task {i} {what}", 1, (f"{i}", what), str(folder)) for i, what in enumerate(whats)]


def do(folder: Path, tasks: Any, total: int, shared: tuple[str, ...] = (), tell: Any = lambda *_: None) -> None:
    run(Work(ray_work.opened, (str(folder),), (str(folder), *shared), 0), tasks, "ray", total, 0, tell)


def names(folder: Path, what: str) -> list[str]:
    return sorted(path.name.split(".")[1] for path in folder.glob(f"{what}.*"))


@pytest.mark.usefixtures("small_blocks")
def test_two_nodes_one_of_them_killed_come_to_what_one_process_does(
    cluster, mixed, finished_run, tmp_path, monkeypatch  # noqa: F811
):  # fmt: skip
    import ray

    node = cluster.add_node(**NODE)
    ray.init(address=cluster.address, log_to_driver=False)  # once for all commands: the workers stay, with torch
    run_folder = copied(finished_run, tmp_path / "run")
    one, many = tmp_path / "one", tmp_path / "many"
    work("scan", run_folder, mixed, one / "clips.parquet")
    work("scan", run_folder, mixed, many / "clips.parquet", engine="ray")
    assert (many / "clips.parquet").read_bytes() == (one / "clips.parquet").read_bytes()

    monkeypatch.setattr("seehear.preparing.in_parts.LEAST_SECONDS", 10.0)
    work("prepare", run_folder, mixed, one / "copies")
    work("prepare", run_folder, mixed, many / "copies", engine="ray")
    copies = [path.relative_to(one) for path in one.rglob("*.mp4")]
    assert len(copies) > 20 and all((many / name).read_bytes() == (one / name).read_bytes() for name in copies)

    work("embed", run_folder, mixed, one / "features.parquet")
    left: list[int] = []

    def kill() -> None:
        folder = parts_of(many / "features.parquet")
        while len(list(folder.glob("block-*"))) < 2:
            time.sleep(0.002)
        cluster.remove_node(node, allow_graceful=False)  # kill -9
        left.append(len(list(folder.glob("block-*"))))

    killer = threading.Thread(target=kill)
    killer.start()
    written = work("embed", run_folder, mixed, many / "features.parquet", engine="ray")
    killer.join()
    assert (many / "features.parquet").read_bytes() == (one / "features.parquet").read_bytes()
    assert left[0] < 10  # of 18 blocks
    assert written.num_rows > 100 and not parts_of(many / "features.parquet").exists()

    work("label", run_folder, mixed, one / "labels.csv")
    work("label", run_folder, mixed, many / "labels.csv", engine="ray")
    assert (many / "labels.csv").read_bytes() == (one / "labels.csv").read_bytes()

    other = copied(finished_run, tmp_path / "other")
    work("index", other, mixed, one)
    work("index", run_folder, mixed, many, engine="ray")
    assert Index.open(run_folder).generation == Index.open(other).generation
    ray.shutdown()


def test_a_task_on_a_node_that_dies_is_done_by_another(cluster, tmp_path):
    node = cluster.add_node(**NODE)

    def kill() -> None:
        while len(names(tmp_path, "begun")) < 2:
            time.sleep(0.01)
        cluster.remove_node(node, allow_graceful=False)
        (tmp_path / "go").touch()

    killer = threading.Thread(target=kill)
    killer.start()
    do(tmp_path, iter(tasks_of(tmp_path, "waits", "waits", "is done")), 3)  # one on each node, until one is killed
    killer.join()
    assert names(tmp_path, "done") == ["0", "1", "2"]
    assert sorted(names(tmp_path, "begun")) in (["0", "0", "1", "2"], ["0", "1", "1", "2"])


def test_a_process_that_dies_of_a_task_is_given_it_again_but_not_for_ever(cluster, tmp_path):
    seen: list[int] = []
    tasks = tasks_of(tmp_path, "dies once", "is done", "dies", "is done")
    with pytest.raises(SeehearError, match=r"died 4 times at task 2 dies"):
        do(tmp_path, iter(tasks), 4, tell=lambda done, _: seen.append(done))
    assert names(tmp_path, "done") == ["0", "1", "3"]
    assert names(tmp_path, "begun").count("2") == on_ray.ATTEMPTS
    assert names(tmp_path, "begun").count("0") == 2
    assert seen == sorted(seen) and seen[-1] == 3


def test_a_task_that_fails_for_its_own_fault_is_not_tried_again(cluster, tmp_path):
    with pytest.raises(DataError, match="1 cannot be used") as raised:
        do(tmp_path, iter(tasks_of(tmp_path, "is done", "fails")), 2)
    assert raised.value.remedy == "leave it out"
    assert names(tmp_path, "begun").count("1") == 1


def test_a_machine_that_does_not_see_the_files_is_named(cluster, tmp_path, monkeypatch):
    with pytest.raises(UsageError, match=r"the machine .* does not see .*/nowhere") as raised:
        do(tmp_path, tasks_of(tmp_path, "is done"), 1, shared=(str(tmp_path / "nowhere"),))
    assert "same paths" in " ".join(raised.value.remedy.split())


def test_a_process_opens_its_work_once_and_few_tasks_are_taken_ahead(cluster, tmp_path):
    taken = 0

    def tasks() -> Iterator[Task]:
        nonlocal taken
        for task in tasks_of(tmp_path, *["is done"] * 12):
            taken += 1
            assert taken - len(names(tmp_path, "done")) <= 2 * 1 + 2
            yield task

    do(tmp_path, tasks(), 12)
    assert len(names(tmp_path, "done")) == 12
    assert len(names(tmp_path, "opened")) == 1


def test_without_a_cluster_it_is_said_how_to_start_one(tmp_path, monkeypatch):
    import ray

    def init(**options: Any) -> None:
        assert options["address"] == "auto"
        raise ConnectionError("Could not find any running Ray instance.")  # as it says where none runs at all

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(ray, "init", init)
    with pytest.raises(UsageError, match=r"no Ray cluster was found .*any running") as raised:
        do(tmp_path, tasks_of(tmp_path, "is done"), 1)
    assert "ray start" in raised.value.remedy


def test_the_public_functions_take_the_engine(tmp_path):
    with pytest.raises(UsageError, match="beside the result"):
        seehear.scan(tmp_path, engine="ray")
