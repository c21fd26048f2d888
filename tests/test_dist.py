"""Collectives: nothing happens on one process; two gloo processes exchange what they should."""

from __future__ import annotations

import concurrent.futures
import contextlib
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from unittest import mock

import pyarrow as pa
import pytest
import torch
import torch.distributed

from seehear import dist, peers
from seehear.errors import Interrupted, ProcessError, RunError, UsageError
from seehear.models.joint_norm import each_alone, joint_norms


def test_one_process() -> None:
    x = torch.arange(6.0).view(3, 2)
    assert (dist.world_size(), dist.rank(), dist.is_main()) == (1, 0, True)
    assert dist.all_reduce_sum(x) is x
    assert dist.all_reduce_mean(x) is x
    assert dist.broadcast(x) is x
    assert dist.all_gather_rows(x) is x
    assert dist.all_gather_objects("a") == ["a"]
    assert dist.row_counts(3) == [3]
    module = torch.nn.Linear(2, 2)
    assert dist.average_gradients(module, "cpu") is module
    dist.barrier()
    dist.shutdown()


def test_wrong_calls() -> None:
    with pytest.raises(TypeError, match="floating"):
        dist.all_reduce_mean(torch.ones(2, dtype=torch.int64))
    with pytest.raises(ValueError, match="rows"):
        dist.all_gather_rows(torch.tensor(1.0))


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"WORLD_SIZE": "2"}, "RANK, MASTER_ADDR, MASTER_PORT"),
        ({"WORLD_SIZE": "2", "RANK": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}, "not below"),
        ({"WORLD_SIZE": "2", "RANK": "x", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}, "whole numbers"),
    ],
)
def test_environment_that_is_wrong(variables: dict[str, str], said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    assert dist.init_from_environment() is False
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match=said):
        dist.init_from_environment()


def _process(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    tempfile.tempdir = folder
    dist.init(rank, 2, init_method=f"file://{folder}/meet")
    result: dict[str, object] = {"who": (dist.rank(), dist.world_size(), dist.is_main())}
    result["sum"] = dist.all_reduce_sum(torch.tensor([1.0, 2.0]) * (rank + 1))
    result["mean"] = dist.all_reduce_mean(torch.tensor([1.0, 2.0]) * (rank + 1))
    result["broadcast"] = dist.broadcast(torch.full((2, 3), rank, dtype=torch.bfloat16).T, src=1)
    result["object"] = dist.broadcast({"rank": rank} if rank == 0 else None)
    result["objects"] = dist.all_gather_objects(rank * "x")
    for dtype in (torch.bool, torch.int64, torch.float16):
        result[f"rows {dtype}"] = dist.all_gather_rows(torch.ones(3 * rank, 2, dtype=dtype))
    table = pa.table(
        {
            "id": pa.array([f"{rank}-{i}" for i in range(2 * rank)], pa.string()),
            "n": pa.array(range(2 * rank), pa.int32()),
        }
    )
    result["table"] = dist.all_gather_table(table).to_pydict()
    with mock.patch.object(dist, "ROWS_AT_ONCE", 2):
        for mine in (table, pa.table({"x": range(10 * rank, 10 * rank + 5 - 4 * rank)})):  # one process may have none
            result[f"blocks {mine.column_names}"] = [block.to_pydict() for block in dist.tables_of_all(mine)]
    result["no rows"] = [block.to_pydict() for block in dist.tables_of_all(table.slice(0, 0))]
    for machine, local_rank in (("one", rank), (f"machine {rank}", 0)):
        os.environ["LOCAL_RANK"] = str(local_rank)
        with mock.patch("socket.gethostname", return_value=machine):
            result[machine.split()[0]] = _once(rank, table)
    result["joint"] = _normalised(rank)
    result["nothing"] = dist.all_gather_rows(torch.ones(0, 2))
    x = torch.tensor([[1.0 + rank]], requires_grad=True)
    dist.all_gather_rows(x).square().sum().backward()
    result["gradient"] = x.grad
    module = torch.nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        module.weight.fill_(rank)
    averaged = dist.average_gradients(module, "cpu")
    averaged(torch.tensor([[2.0 * rank]])).sum().backward()
    result["module"] = (module.weight.item(), module.weight.grad)
    dist.barrier()
    torch.save(result, f"{folder}/{rank}.pt")
    dist.shutdown()


def _once(rank: int, table: pa.Table) -> dict[str, object]:
    """What a process sees of a table that is made once a machine, and of the file that it is in."""
    made: list[int] = []
    texts = pa.array([None, "", "ä", "b"], pa.large_string())

    def make() -> pa.Table:
        made.append(rank)
        return pa.table({"text": texts, "number": pa.chunked_array([[1, 2], [3, 4]])})

    found = {"made": len(made), "table": dist.once_a_machine("a table", make), "none": None}
    found["none"] = dist.once_a_machine("no rows", lambda: make().slice(0, 0)).to_pydict()
    found["all"] = dist.table_of_all("all", table, lambda all_: all_.append_column("more", all_["n"])).to_pydict()
    lines = [line.split() for line in Path("/proc/self/maps").read_text().splitlines() if ".scratch" in line]
    chunks = {name: found["table"][name].num_chunks for name in ("text", "number")}
    return found | {"made": len(made), "table": found["table"].to_pydict(), "chunks": chunks, "files": lines}


def _normalised(rank: int) -> dict[str, torch.Tensor]:
    """What this process's rows of a batch come to in a joint batch normalisation, and their gradients."""
    x, weights = _batch()
    mine = slice(0, 2) if rank == 0 else slice(2, 7)  # not equally many
    rows = x[mine].clone().requires_grad_()
    holder = joint_norms(torch.nn.Sequential(_norm()), "always", torch.device("cpu"))
    y = holder(rows)
    (y * weights[mine]).sum().backward()
    norm = holder[0]
    with each_alone([norm]):
        alone = holder(rows.detach())
    state = {name: value.detach().clone() for name, value in norm.state_dict().items()}
    gradients = {"rows.grad": rows.grad, "weight.grad": norm.weight.grad, "bias.grad": norm.bias.grad}
    return state | gradients | {"rows": y.detach(), "alone": alone.detach()}


def _batch() -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(0)
    return torch.randn(7, 3, 2, 2, generator=random) * 3 + 5, torch.randn(7, 3, 2, 2, generator=random)


def _norm() -> torch.nn.BatchNorm2d:
    norm = torch.nn.BatchNorm2d(3, momentum=0.3)
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([0.5, 1.0, 2.0]))
        norm.bias.copy_(torch.tensor([1.0, 0.0, -1.0]))
    return norm


def test_two_processes(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(_process, (str(tmp_path),), nprocs=2)
    for rank in range(2):
        result = torch.load(tmp_path / f"{rank}.pt", weights_only=False)
        assert result["who"] == (rank, 2, rank == 0)
        assert result["sum"].tolist() == [3, 6]
        assert result["mean"].tolist() == [1.5, 3]
        assert result["broadcast"].tolist() == [[1, 1]] * 3
        assert result["object"] == {"rank": 0}
        assert result["objects"] == ["", "x"]
        for dtype in (torch.bool, torch.int64, torch.float16):
            assert torch.equal(result[f"rows {dtype}"], torch.ones(3, 2, dtype=dtype))
        assert result["table"] == {"id": ["1-0", "1-1"], "n": [0, 1]}
        assert result["nothing"].shape == (0, 2)
        assert result["gradient"].tolist() == [[2.0 + 2 * rank]]
        assert result["module"][0] == 0
        assert result["module"][1].tolist() == [[1.0]]
        assert result["blocks ['id', 'n']"] == [{"id": ["1-0", "1-1"], "n": [0, 1]}]
        assert result["blocks ['x']"] == [{"x": [0, 1]}, {"x": [2, 3]}, {"x": [4]}, {"x": [10]}]
        assert result["no rows"] == [{"id": [], "n": []}]
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=False) for rank in range(2))
    for result in (first["one"], second["one"], first["machine"], second["machine"]):
        assert result["table"] == {"text": [None, "", "ä", "b"], "number": [1, 2, 3, 4]}
        assert result["chunks"] == {"text": 1, "number": 1}
        assert result["none"] == {"text": [], "number": []}
        assert result["all"] == {"id": ["1-0", "1-1"], "n": [0, 1], "more": [0, 1]}
    assert [first["one"]["made"], second["one"]["made"]] == [2, 0]
    assert [first["machine"]["made"], second["machine"]["made"]] == [2, 2]
    inodes = [{line[4] for line in result[of]["files"]} for of in ("one", "machine") for result in (first, second)]
    assert inodes[0] == inodes[1] and inodes[2].isdisjoint(inodes[3])
    assert not list(tmp_path.glob("*.scratch"))
    # Joint batch normalisation: that of one process with all rows, which torch's own is the oracle of.
    x, weights = _batch()
    x.requires_grad_()
    norm = _norm()
    y = norm(x)
    (y * weights).sum().backward()
    made = [first["joint"], second["joint"]]
    for name, expected in (("rows", y), ("rows.grad", x.grad)):
        assert torch.allclose(torch.cat([m[name] for m in made]), expected, atol=1e-5), name
    for name, expected in (("weight.grad", norm.weight.grad), ("bias.grad", norm.bias.grad)):
        assert torch.allclose(made[0][name] + made[1][name], expected, atol=1e-4), name
    for one in made:
        # Once for all rows; then once more, in `each_alone`, for a process's own.
        assert torch.equal(one["num_batches_tracked"], torch.tensor(2))
    alone = _norm()(x.detach()[:2])
    assert torch.allclose(made[0]["alone"], alone, atol=1e-5)


class TestPeers:
    """What processes know of each other, on a store of their own without any group."""

    def peers(self, size, seconds=60.0):
        store = torch.distributed.HashStore()
        made = [peers.Peers(store, rank, size, seconds) for rank in range(size)]
        for one in made:
            one._beat()
        return made

    def test_a_meeting_has_nothing_of_earlier_ones_in_the_same_store(self):
        store, names = torch.distributed.HashStore(), []
        for size in (3, 3, 2, 4):
            with concurrent.futures.ThreadPoolExecutor(size) as pool:
                # The first one comes first, and finds what those of the last meeting left.
                come = [pool.submit(peers.meet, store, rank, size, 60.0) for rank in range(size - 1)]
                time.sleep(0.1)
                assert not any(one.done() for one in come)
                come.append(pool.submit(peers.meet, store, size - 1, size, 60.0))
                (name,) = {one.result() for one in come}
            names.append(name)
        assert len(set(names)) == 4
        with pytest.raises(ProcessError, match="process 0 waited 0 s for process 4 to start"):
            peers.meet(store, 0, 5, 0.1)

    def test_a_time_out_says_where_the_others_were(self):
        first, second, third, fourth = self.peers(4)
        for one in (first, second):
            with contextlib.suppress(ZeroDivisionError), one.waiting("the labels"):
                raise ZeroDivisionError  # an error leaves it waiting
        with third.waiting("the features"):
            pass
        with contextlib.suppress(ZeroDivisionError), fourth.waiting("the features"):
            raise ZeroDivisionError
        for one in (second, third, fourth):
            one._beat()
        said = str(first.timed_out(60.0))
        assert (
            'process 0 waited 60 s in "the labels": process 1 waited there, too; process 2 was at work after "the'
            in said
        )
        assert 'process 3 waited in "the features"' in said
        assert "process_timeout_seconds" in said

    @pytest.mark.parametrize(
        ("error", "kind", "said"),
        [
            (Interrupted("stopped by SIGTERM", "resume"), Interrupted, "stopped by SIGTERM"),
            (RunError("the disk is full", "make room"), ProcessError, "process 1 has failed: the disk is full"),
            (KeyError("x"), ProcessError, "process 1 has failed: KeyError: 'x'"),
        ],
    )
    def test_what_ends_one_is_raised_by_the_others(self, error, kind, said):
        first, second = self.peers(2)
        second.report(error)
        first._hear()
        with pytest.raises(kind, match=said):
            first.moved()
        assert first.explained(RuntimeError("Connection closed by peer")) is first.trouble
        first.report(ZeroDivisionError())  # a consequence: what came first counts
        second._hear()
        assert second.trouble is None

    def test_a_dead_process_is_found_by_the_first_and_told_to_all(self):
        first, second, third = self.peers(3)
        child = subprocess.Popen([sys.executable, "-c", "pass"])
        child.wait()
        with mock.patch.object(os, "getpid", return_value=child.pid):
            third._beat()
        first._look(0.0)
        second._hear()
        for one in (first, second):
            assert isinstance(one.trouble, ProcessError)
            assert str(one.trouble).startswith("process 2 has been killed")

    def test_one_without_a_sign_of_life_is_lost_even_where_its_number_says_nothing(self):
        first, second = self.peers(2)
        first._look(0.0)
        first._look(peers.LOST_SECONDS - 1)
        assert first.trouble is None
        second._beat()
        first._look(peers.LOST_SECONDS + 1)
        assert first.trouble is None
        first._look(3 * peers.LOST_SECONDS)
        assert "no sign of life for" in str(first.trouble)

    def test_a_signal_is_heard_by_all(self):
        first, second = self.peers(2)
        second.stop_signal = "SIGTERM"
        second._beat()
        assert not first.stop_heard
        first._hear()
        assert first.stop_heard and second.stop_heard
