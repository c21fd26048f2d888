"""Every collective of the project; each one does nothing when a single process runs.

No other module imports `torch.distributed`. Each function must be called by all processes together, in the
same order, whatever a process happens to have. Values that are only copied (`broadcast`, `all_gather_rows`) travel as
bytes, so that every element type works on every back end. A run is within `together`, which ends all of them when one
ends (`seehear.peers`).
"""

from __future__ import annotations

import collections
import contextlib
import datetime
import math
import os
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, BinaryIO, TypeVar

import pyarrow as pa
import torch
import torch.distributed as torch_dist
from torch import Tensor, nn
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel

from seehear import peers
from seehear.errors import ProcessError, UsageError
from seehear.files import scratch_file

T = TypeVar("T")
TIMEOUT_SECONDS = 1800.0
"""How long a process waits in a collective for others that live, if no setting says otherwise."""
ROWS_AT_ONCE = 1 << 14
_TORCHRUN_VARIABLES = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


_alone = False


def is_initialized() -> bool:
    """Whether this process has joined a group (of any size), and is not `alone`."""
    return torch_dist.is_available() and torch_dist.is_initialized() and not _alone


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Compute what is in the block by this process alone, from data that it has whole: there is no group in it."""
    global _alone
    before, _alone = _alone, True
    try:
        yield
    finally:
        _alone = before


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


def init(
    rank: int,
    world_size: int,
    *,
    init_method: str = "env://",
    backend: str | None = None,
    timeout_seconds: float = TIMEOUT_SECONDS,
) -> None:
    """Join a group of `world_size` processes.

    Args:
        init_method: where the processes meet: "env://" (MASTER_ADDR, MASTER_PORT), "tcp://host:port" or
            "file:///path" (a path that does not exist yet).
        backend: None takes gloo for CPU tensors and, where there is a GPU, nccl for CUDA tensors.
        timeout_seconds: how long a process waits for another that lives, and at the start for all.

    Raises:
        ProcessError: the others do not come.
    """
    has_gpu = torch.cuda.is_available()
    if has_gpu:
        # One GPU for each process of a machine; must be set before the first nccl call.
        torch.cuda.set_device(local_rank() % torch.cuda.device_count())
    default = "cpu:gloo,cuda:nccl" if has_gpu and torch_dist.is_nccl_available() else "gloo"
    timeout = datetime.timedelta(seconds=timeout_seconds)
    try:
        store, _, _ = next(rendezvous(init_method, rank, world_size, timeout=timeout))
        meeting = peers.meet(PrefixStore("seehear", store), rank, world_size, timeout_seconds)
        # A connection of its own for the thread: one that waits holds its connection.
        others = peers.Peers(PrefixStore(f"seehear/{meeting}", store.clone()), rank, world_size, timeout_seconds)
        others.start()
        torch_dist.init_process_group(
            backend or default, store=PrefixStore(meeting, store), rank=rank, world_size=world_size, timeout=timeout
        )
    except RuntimeError as error:
        raise ProcessError(
            f"process {rank} of {world_size} finds no way to the others: {error}",
            "do all machines run the command, and reach MASTER_ADDR and MASTER_PORT?",
        ) from error
    peers.current = others


def init_from_environment(timeout_seconds: float = TIMEOUT_SECONDS) -> bool:
    """Join the group that torchrun's environment variables describe; True if there is one.

    Without WORLD_SIZE, or with WORLD_SIZE=1, nothing is started, and a second call changes nothing.

    Raises:
        UsageError: only some of RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT are set, or not to numbers.
        ProcessError: the others do not come.
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
    init(number, size, timeout_seconds=timeout_seconds)
    return True


@contextlib.contextmanager
def together(timeout_seconds: float = TIMEOUT_SECONDS) -> Iterator[None]:
    """Do what is in the block with the processes of torchrun's environment, if there are any; then leave them.

    What one of them raises ends all: the others raise it as `Interrupted` (it was stopped) or `ProcessError`. So does
    the loss of one, and a collective in which others were waited for longer than `timeout_seconds`. Within a group
    that was joined before, nothing is added.
    """
    if is_initialized() or not init_from_environment(timeout_seconds):
        yield
        return
    others = peers.current
    assert others is not None
    try:
        yield
        others.leave()
    except BaseException as error:
        cause = others.explained(error)
        others.report(cause)
        if cause is error:
            raise
        raise cause from error
    peers.current = None
    torch_dist.destroy_process_group()


def waiting(name: str) -> contextlib.AbstractContextManager[None]:
    """Call what happens in the block by this name, should other processes not come to it."""
    return contextlib.nullcontext() if peers.current is None else peers.current.waiting(name)


def _collective(what: str) -> contextlib.AbstractContextManager[None]:
    """`waiting`, named after what is exchanged and the function that asks for it."""
    if peers.current is None:
        return contextlib.nullcontext()
    frame = sys._getframe(2)
    while frame.f_globals.get("__name__") == __name__ and frame.f_back is not None:
        frame = frame.f_back
    return peers.current.waiting(f"{what} of {frame.f_code.co_qualname} in {frame.f_globals.get('__name__')}")


def shutdown() -> None:
    """Leave the group; nothing happens without one."""
    if is_initialized():
        if peers.current is not None:
            peers.current.leave()
            peers.current = None
        torch_dist.destroy_process_group()


def share(items: Sequence[T]) -> Sequence[T]:
    """This process's part of a sequence; the parts in the order of the ranks are the whole."""
    count = len(items)
    return items[count * rank() // world_size() : count * (rank() + 1) // world_size()]


def barrier(name: str = "barrier") -> None:
    """Wait until every process has come here, for as long as the others live and move.

    So what one process does alone may take hours (a scan, a cache to be filled), where it shows progress.

    Args:
        name: what is waited for, should one not come.
    """
    if peers.current is not None:
        peers.current.barrier(name)


def all_reduce_sum(tensor: Tensor) -> Tensor:
    """The element-wise sum over the processes, the same bits on each; `tensor` itself may be overwritten."""
    if world_size() == 1:
        return tensor
    result = tensor.detach().contiguous()
    with _collective("sum"):
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
            with _collective("broadcast"):
                torch_dist.broadcast(_as_bytes(result), src)
        return result
    box = [value]
    with _collective("broadcast"):
        torch_dist.broadcast_object_list(box, src)
    return box[0]


def all_gather_objects(value: Any) -> list[Any]:
    """One small object that can be pickled from every process, in the order of the ranks.

    What grows with the number of clips is a matter for `all_gather_rows` and `all_gather_table`.
    """
    if world_size() == 1:
        return [value]
    values: list[Any] = [None] * world_size()
    with _collective("gathering"):
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
    with _collective("gathering"):
        torch_dist.all_gather([_as_bytes(piece) for piece in pieces], _as_bytes(padded))
    pieces = [piece[:n] for piece, n in zip(pieces, counts, strict=True)]
    pieces[rank()] = tensor
    return torch.cat(pieces)


def tables_of_all(table: pa.Table) -> Iterator[pa.Table]:
    """The rows of all processes' tables, which have one schema, in the order of the ranks: tables that are not long.

    Every process must go through all of them; each travels as Arrow's own bytes, when all have come to it. Without any
    row there is one table, of no rows. With one process it is `table` itself.
    """
    if world_size() == 1:
        yield table
        return
    counts = row_counts(len(table))
    if not sum(counts):
        yield table
    for source, rows in enumerate(counts):
        for start in range(0, rows, ROWS_AT_ONCE):
            mine = (
                _stream_of(table.slice(start, ROWS_AT_ONCE)) if source == rank() else torch.empty(0, dtype=torch.uint8)
            )
            size = int(broadcast(torch.tensor([len(mine)]), source))
            content = mine if source == rank() else torch.empty(size, dtype=torch.uint8)
            with _collective("broadcast"):
                torch_dist.broadcast(content, source)
            yield pa.ipc.open_stream(pa.py_buffer(content.numpy())).read_all()


def _stream_of(table: pa.Table) -> Tensor:
    """A table as the bytes of an Arrow stream, (n,) uint8."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return torch.frombuffer(bytearray(sink.getvalue()), dtype=torch.uint8)


def all_gather_table(table: pa.Table) -> pa.Table:
    """The rows of all processes' tables, which have one schema, in the order of the ranks."""
    return pa.concat_tables(tables_of_all(table))


def leads_machine() -> bool:
    """Whether this process does what is done once on its machine."""
    return is_main() or local_rank() == 0


def once_a_machine(name: str, make: Callable[[], pa.Table]) -> pa.Table:
    """A table that one process of each machine makes; all processes of the machine see it in one file's pages.

    For what has the size of the collection and is not written to: however many processes a machine has, it is there
    once, and the system may drop its pages, as they can be read again. The file (`scratch_file`) has lost its name when
    this returns, and its room when the last process is done with it. With one process it is what `make` gives, in
    memory.

    Args:
        name: what is waited for, should the one that makes it not come to an end.
        make: gives the same table on every machine, without a collective. Columns of texts are best `large_string`.

    Raises:
        DestinationError: the file cannot be written.
        ProcessError: a process does not see the file of its machine.
    """
    if world_size() == 1 or not is_initialized():
        return make()
    with scratch_file(partial(_write, make())) if leads_machine() else contextlib.nullcontext() as path:
        barrier(name)
        told = all_gather_objects((socket.gethostname(), path))
        mine = path or next((p for host, p in told if p is not None and host == socket.gethostname()), None)
        table = _mapped(name, mine)
        all_gather_objects(None)  # all have it open
    return table


def table_of_all(name: str, table: pa.Table, finish: Callable[[pa.Table], pa.Table]) -> pa.Table:
    """The rows of all processes' tables in the order of the ranks, as `finish` makes them over: `once_a_machine`."""
    blocks = tables_of_all(table)
    kept = list(blocks) if leads_machine() else collections.deque(blocks, maxlen=0)
    return once_a_machine(name, lambda: finish(pa.concat_tables(kept)))


def _write(table: pa.Table, file: BinaryIO) -> None:
    """A table as an Arrow file, in one piece."""
    with pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table.combine_chunks())


def _mapped(name: str, path: str | None) -> pa.Table:
    try:
        if path is None:
            raise FileNotFoundError("no process of this machine has LOCAL_RANK=0")
        return pa.ipc.open_file(pa.memory_map(path)).read_all()
    except OSError as error:
        raise ProcessError(
            f"process {rank()} does not see {name}, which another process of this machine has written: {error}",
            "set TMPDIR to a folder that all processes of the machine see, and LOCAL_RANK to 0 for one of them",
        ) from error


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
