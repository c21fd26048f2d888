"""Every collective of the project; each one does nothing when a single process runs.

No other module imports `torch.distributed`. Each function must be called by all processes together, in the
same order. Values that are only copied (`broadcast`, `all_gather_rows`) travel as bytes, so that every
element type works on every back end.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import Any, TypeVar

import torch
import torch.distributed as torch_dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from seehear.errors import UsageError

T = TypeVar("T")
_TORCHRUN_VARIABLES = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


def is_initialized() -> bool:
    """Whether this process has joined a group (of any size)."""
    return torch_dist.is_available() and torch_dist.is_initialized()


def world_size() -> int:
    """The number of processes that train together; 1 without a group."""
    return torch_dist.get_world_size() if is_initialized() else 1


def rank() -> int:
    """This process's number, 0 <= rank < world_size()."""
    return torch_dist.get_rank() if is_initialized() else 0


def launched_rank() -> int:
    """The number that torchrun gave this process, whether or not it has joined the others; else 0."""
    return int(os.environ.get("RANK", "0"))


def is_main() -> bool:
    """Whether this process is the one that writes files and prints (rank 0)."""
    return rank() == 0


def local_rank() -> int:
    """This process's number on its machine, which is the GPU it uses (torchrun's LOCAL_RANK); else 0."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def init(rank: int, world_size: int, *, init_method: str = "env://", backend: str | None = None) -> None:
    """Join a group of `world_size` processes.

    Args:
        init_method: where the processes meet: "env://" (MASTER_ADDR, MASTER_PORT), "tcp://host:port" or
            "file:///path" (a path that does not exist yet).
        backend: None takes gloo for CPU tensors and, where there is a GPU, nccl for CUDA tensors.
    """
    has_gpu = torch.cuda.is_available()
    if has_gpu:
        # One GPU for each process of a machine; must be set before the first nccl call.
        torch.cuda.set_device(local_rank() % torch.cuda.device_count())
    default = "cpu:gloo,cuda:nccl" if has_gpu and torch_dist.is_nccl_available() else "gloo"
    torch_dist.init_process_group(backend or default, init_method=init_method, rank=rank, world_size=world_size)


def init_from_environment() -> bool:
    """Join the group that torchrun's environment variables describe; True if there is one.

    Without WORLD_SIZE, or with WORLD_SIZE=1, nothing is started, and a second call changes nothing.

    Raises:
        UsageError: only some of RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT are set, or not to numbers.
    """
    if is_initialized():
        return True
    if os.environ.get("WORLD_SIZE", "1") == "1":
        return False
    missing = [name for name in _TORCHRUN_VARIABLES if not os.environ.get(name)]
    if missing:
        raise UsageError(
            f"WORLD_SIZE is set but {', '.join(missing)} is not",
            "start with `torchrun --nproc-per-node=N -m seehear ...`, or unset WORLD_SIZE for one process",
        )
    try:
        number, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    except ValueError as error:
        raise UsageError(f"RANK and WORLD_SIZE must be whole numbers ({error})") from None
    if not 0 <= number < size:
        raise UsageError(f"RANK={number} is not below WORLD_SIZE={size}")
    init(number, size)
    return True


def shutdown() -> None:
    """Leave the group; nothing happens without one."""
    if is_initialized():
        torch_dist.destroy_process_group()


def share(items: Sequence[T]) -> Sequence[T]:
    """This process's part of a sequence; the parts in the order of the ranks are the whole."""
    count = len(items)
    return items[count * rank() // world_size() : count * (rank() + 1) // world_size()]


def barrier() -> None:
    """Wait until every process has come here."""
    if world_size() > 1:
        torch_dist.barrier()


def all_reduce_sum(tensor: Tensor) -> Tensor:
    """The element-wise sum over the processes, the same bits on each; `tensor` itself may be overwritten."""
    if world_size() == 1:
        return tensor
    result = tensor.detach().contiguous()
    torch_dist.all_reduce(result)
    return result


def any_of(flag: bool, device: torch.device | str = "cpu") -> bool:
    """Whether the flag is set on at least one process; the same answer on each."""
    if world_size() == 1:
        return flag
    return bool(all_reduce_sum(torch.tensor(int(flag), device=device)))


def all_reduce_mean(tensor: Tensor) -> Tensor:
    """The element-wise mean over the processes of a floating tensor; `tensor` itself may be overwritten."""
    if not tensor.is_floating_point():
        raise TypeError(f"a mean needs a floating tensor, not {tensor.dtype}")
    return tensor if world_size() == 1 else all_reduce_sum(tensor).div_(world_size())


def broadcast(value: Any, src: int = 0) -> Any:
    """What process `src` holds: a tensor, or any object that can be pickled.

    Every process passes a tensor of the same shape, type and kind of device, or every process passes
    something that is not a tensor (None will do, except on `src`).
    """
    if world_size() == 1:
        return value
    if isinstance(value, Tensor):
        result = value.detach().clone(memory_format=torch.contiguous_format)
        if result.numel():
            torch_dist.broadcast(_as_bytes(result), src)
        return result
    box = [value]
    torch_dist.broadcast_object_list(box, src)
    return box[0]


def all_gather_objects(value: Any) -> list[Any]:
    """One object that can be pickled from every process, in the order of the ranks."""
    if world_size() == 1:
        return [value]
    values: list[Any] = [None] * world_size()
    torch_dist.all_gather_object(values, value)
    return values


def row_counts(rows: int, device: torch.device | str = "cpu") -> list[int]:
    """`rows` of every process, in the order of the ranks; `device` is where the exchange takes place."""
    counts = torch.zeros(world_size(), dtype=torch.int64, device=device)
    counts[rank()] = rows
    return [int(n) for n in all_reduce_sum(counts).tolist()]


def all_gather_rows(tensor: Tensor) -> Tensor:
    """The rows of all processes, one below the other in the order of the ranks.

    Gradients flow to the rows of this process only: those of others arrive as constants.

    Args:
        tensor: of shape (n, ...); n may differ from process to process (0 too), the rest may not.

    Returns:
        A tensor of shape (sum of n, ...), the same on every process.
    """
    if tensor.ndim == 0:
        raise ValueError("all_gather_rows needs a tensor with rows, not a scalar")
    if world_size() == 1:
        return tensor
    counts = row_counts(len(tensor), tensor.device)
    row_shape = tensor.shape[1:]
    if max(counts) * math.prod(row_shape) == 0:
        return tensor.new_empty((sum(counts), *row_shape))
    # Back ends want one size from all: pad to the longest, then cut.
    padded = tensor.new_zeros((max(counts), *row_shape), requires_grad=False)
    padded[: len(tensor)] = tensor.detach()
    pieces = [torch.empty_like(padded) for _ in counts]
    torch_dist.all_gather([_as_bytes(piece) for piece in pieces], _as_bytes(padded))
    pieces = [piece[:n] for piece, n in zip(pieces, counts, strict=True)]
    pieces[rank()] = tensor
    return torch.cat(pieces)


def average_gradients(module: nn.Module, device: torch.device | str, *, find_unused: bool = False) -> nn.Module:
    """`module`, made to average its gradients over the processes in `backward`; itself on one process.

    All processes then start from the parameters of rank 0. Call the module returned, and keep it until
    `backward` is done: the averaging lives and dies with it.

    Args:
        device: where the module's parameters are.
        find_unused: some parameters take no part in a step's loss.
    """
    if world_size() == 1:
        return module
    on_gpu = torch.device(device).type == "cuda"
    return DistributedDataParallel(module, device_ids=[device] if on_gpu else None, find_unused_parameters=find_unused)


def average_buffers(module: nn.Module) -> None:
    """Give every process the mean of all processes' floating-point buffers (running statistics)."""
    if world_size() == 1:
        return
    for buffer in module.buffers():
        if buffer.is_floating_point():
            buffer.copy_(all_reduce_mean(buffer.clone()))


def _as_bytes(tensor: Tensor) -> Tensor:
    """A flat uint8 view of a contiguous tensor."""
    return tensor.view(-1).view(torch.uint8)
