"""Copies between the host and a GPU that nothing waits for. On a CPU all of it happens at once.

A step of training leads the GPU as long as the host never waits for it: inputs are copied from page-locked memory in a
stream of their own (`beside`), and what a step comes to is read when the next one has been started (`LateReader`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

Host = dict[str, Tensor]
"""Tensors by name, on the CPU."""


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor on a device. A copy to a GPU is made without waiting for it, by way of page-locked memory."""
    if device.type != "cuda" or tensor.device.type != "cpu":
        return tensor.to(device)
    return (tensor if tensor.is_pinned() else tensor.pin_memory()).to(device, non_blocking=True)


@lru_cache(maxsize=16)
def _side_stream(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)


@contextmanager
def beside(device: torch.device) -> Iterator[list[Tensor]]:
    """What the block starts on a GPU runs beside what is under way there, which waits for it where the block ends.

    The block makes new tensors of what lies on the host, and appends to the list those that are used afterwards: their
    memory is then not taken for other tensors too soon.
    """
    made: list[Tensor] = []
    if device.type != "cuda":
        yield made
        return
    main, side = torch.cuda.current_stream(device), _side_stream(device)
    with torch.cuda.stream(side):
        yield made
    main.wait_stream(side)
    for tensor in made:
        tensor.record_stream(main)


class LateReader:
    """Reads values that a device computes: at once, or with `late` when those of the next call have been started.

    A host that reads a value waits for all that leads to it. One call late, there is always work left for the device
    meanwhile. Whoever depends on all that was read calls `flush` first.
    """

    def __init__(self, device: torch.device, *, late: bool | None = None) -> None:
        """`late` is so by default where `device` is a GPU."""
        self.device = device
        self.late = device.type == "cuda" if late is None else late
        self._pending: tuple[Callable[..., None], list[Host], Any] | None = None

    @property
    def busy(self) -> bool:
        """Whether the device has not yet come to the values that were asked for last."""
        return self._pending is not None and self._pending[2] is not None and not self._pending[2].query()

    def read(self, use: Callable[..., None], *groups: Mapping[str, Tensor]) -> None:
        """Call `use` with the groups of tensors on the CPU; what it raises is raised here, or by a later call."""
        if not self.late:
            use(*({name: x.detach().cpu() for name, x in group.items()} for group in groups))
            return
        copied = [{name: _copied(x.detach()) for name, x in group.items()} for group in groups]
        event = None
        if self.device.type == "cuda":
            event = torch.cuda.Event()
            event.record(torch.cuda.current_stream(self.device))
        before, self._pending = self._pending, (use, copied, event)
        _use(before)

    def flush(self) -> None:
        """Read what is still to be read."""
        before, self._pending = self._pending, None
        _use(before)


def _copied(tensor: Tensor) -> Tensor:
    """A copy on the CPU, which a GPU may still be writing."""
    if tensor.device.type != "cuda":
        return tensor.clone()
    return torch.empty_like(tensor, device="cpu", pin_memory=True).copy_(tensor, non_blocking=True)


def _use(pending: tuple[Callable[..., None], list[Host], Any] | None) -> None:
    if pending is None:
        return
    use, groups, event = pending
    if event is not None:
        event.synchronize()
    use(*groups)
