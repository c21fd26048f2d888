"""Collectives: nothing happens on one process; two gloo processes exchange what they should."""

from pathlib import Path

import pytest
import torch

from seehear import dist
from seehear.errors import UsageError


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
    dist.init(rank, 2, init_method=f"file://{folder}/meet")
    result: dict[str, object] = {"who": (dist.rank(), dist.world_size(), dist.is_main())}
    result["sum"] = dist.all_reduce_sum(torch.tensor([1.0, 2.0]) * (rank + 1))
    result["mean"] = dist.all_reduce_mean(torch.tensor([1.0, 2.0]) * (rank + 1))
    result["broadcast"] = dist.broadcast(torch.full((2, 3), rank, dtype=torch.bfloat16).T, src=1)
    result["object"] = dist.broadcast({"rank": rank} if rank == 0 else None)
    result["objects"] = dist.all_gather_objects(rank * "x")
    for dtype in (torch.bool, torch.int64, torch.float16):
        result[f"rows {dtype}"] = dist.all_gather_rows(torch.ones(3 * rank, 2, dtype=dtype))
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
        assert result["nothing"].shape == (0, 2)
        assert result["gradient"].tolist() == [[2.0 + 2 * rank]]
        assert result["module"][0] == 0
        assert result["module"][1].tolist() == [[1.0]]
