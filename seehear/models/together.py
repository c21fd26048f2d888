"""Small encoders side by side on a CPU: each in a thread of its own instead of all threads in each.

A step of a small encoder consists of hundreds of operations of a fraction of a millisecond, and threads that share such
an operation wait for one another most of the time. Encoders know nothing of each other between their inputs and their
features, so each may have its share of the threads from the beginning to the end of the pass, forward and backward. The
numbers are those of the encoders one after another with that share of the threads.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor, nn

from seehear import dist
from seehear.models.speed import COMPILED_PARAMETERS


def side_by_side(work: Mapping[str, Callable[[], Tensor]], modules: Iterable[nn.Module]) -> dict[str, Tensor]:
    """What each piece of `work` returns, by its name; `loss.backward()` then goes through all of them at once, too.

    Args:
        work: functions that compute features (B, D) from inputs that need no gradients, independent of each other and
            without random draws. `torch.autograd.grad` doesn't see behind their results.
        modules: what they compute with. On a GPU, with several processes, with one thread, under autocast and where
            one is big (`COMPILED_PARAMETERS`), the functions are called one after another.
    """
    if len(work) < 2 or not _pays(modules):
        return {name: function() for name, function in work.items()}
    pool = _pool(len(work), torch.get_num_threads())
    modes = torch.is_inference_mode_enabled(), torch.is_grad_enabled()
    begun = {name: pool.submit(_in_mode, function, *modes) for name, function in work.items()}
    done = {name: future.result() for name, future in begun.items()}
    return {name: _Joint.apply(_anchor(x), [x], pool) if x.requires_grad else x for name, x in done.items()}


def _pays(modules: Iterable[nn.Module]) -> bool:
    if torch.get_num_threads() < 2 or dist.world_size() > 1 or torch.is_autocast_enabled("cpu"):
        return False
    parameters = [list(module.parameters()) for module in modules]
    on_cpu = all(p.device.type == "cpu" for each in parameters for p in each)
    return on_cpu and all(sum(p.numel() for p in each) < COMPILED_PARAMETERS for each in parameters)


@functools.lru_cache(maxsize=1)
def _pool(workers: int, threads: int) -> ThreadPoolExecutor:
    """So many workers, which share so many threads."""
    share = max(1, threads // workers)
    ready = threading.Barrier(workers)

    def begin() -> None:
        torch.set_num_threads(share)
        torch.get_num_threads()  # a thread takes up the number that was set last, by any, when it first needs it: now
        ready.wait()

    pool = ThreadPoolExecutor(workers, "encoder", initializer=begin)
    for future in [pool.submit(int) for _ in range(workers)]:
        future.result()
    torch.set_num_threads(threads)
    return pool


def _in_mode(function: Callable[[], Tensor], inference: bool, gradients: bool) -> Tensor:
    """Modes are a thread's own."""
    with torch.inference_mode(inference), torch.set_grad_enabled(gradients):
        return function()


def _anchor(x: Tensor) -> Tensor:
    """What makes autograd come by."""
    return torch.zeros((), dtype=x.dtype, requires_grad=True)


class _Joint(torch.autograd.Function):
    """Passes features on, and in the backward pass starts the rest of it in a thread; the pass ends when that ends."""

    @staticmethod
    def forward(ctx: Any, anchor: Tensor, features: list[Tensor], pool: ThreadPoolExecutor) -> Tensor:
        # In a list: autograd itself shall not go on to what the features were made of.
        ctx.features, ctx.pool = features, pool
        return features[0].detach()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, None, None]:
        rest: Future[None] = ctx.pool.submit(torch.autograd.backward, ctx.features.pop(), gradient)
        torch.autograd.Variable._execution_engine.queue_callback(rest.result)
        return None, None, None
