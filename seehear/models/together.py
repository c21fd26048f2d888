"""Small encoders on a CPU: several at once, each in a thread of its own, instead of all threads in each.

A step of a small encoder consists of hundreds of operations of a fraction of a millisecond, and threads that share such
an operation wait for one another most of the time. Encoders know nothing of each other between their inputs and their
features, so each may have its share of the threads from the beginning to the end of the pass, forward and backward. The
numbers are those of the encoders one after another with that share of the threads.

One encoder is finished before another. Nothing else in the backward pass waits for the gradients of convolutions'
weights, a third of it, so they are left to whichever thread has nothing else to do.
"""

from __future__ import annotations

import contextlib
import functools
import threading
from collections import deque
from collections.abc import Callable, Collection, Generator, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from seehear import dist
from seehear.models.speed import COMPILED_PARAMETERS

T = TypeVar("T")
R = TypeVar("R")
_CONVOLUTIONS = (torch.conv2d, torch.conv3d)


def side_by_side(work: Mapping[str, Callable[[], Tensor]], modules: Collection[nn.Module]) -> dict[str, Tensor]:
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
    inference, gradients = torch.is_inference_mode_enabled(), torch.is_grad_enabled()
    compiled = any(getattr(module, "compiled", None) is not None for module in modules)  # as a whole, backward pass too
    later = {name: _WeightsLater(pool) for name in work if gradients and not compiled}
    begun = {
        name: pool.submit(_in_mode, function, inference, gradients, later.get(name)) for name, function in work.items()
    }
    done = {name: future.result() for name, future in begun.items()}
    return {
        name: _Joint.apply(_anchor(x), [x], pool, later[name].jobs if name in later else []) if x.requires_grad else x
        for name, x in done.items()
    }


def at_once(function: Callable[[T], R], items: Iterable[T], modules: Iterable[nn.Module]) -> Generator[R, None, None]:
    """What `function` returns for each item, in their order; several items at once, a thread each, where it pays.

    Where that is, is as for `side_by_side`; elsewhere it is `map`. `function` needs no gradients, makes no random draws
    and leaves the modules as they are. When the iterator is closed, no call of it is under way any more.
    """
    if not _pays(modules):
        yield from map(function, items)
        return
    workers = torch.get_num_threads()
    pool = _pool(workers, workers)
    mode = torch.is_inference_mode_enabled()
    begun: deque[Future[R]] = deque()
    try:
        for item in items:
            begun.append(pool.submit(_in_mode, functools.partial(function, item), mode, False))
            if len(begun) > workers:
                yield begun.popleft().result()
        while begun:
            yield begun.popleft().result()
    finally:
        for future in begun:
            future.cancel()
        wait(begun)


def _pays(modules: Iterable[nn.Module]) -> bool:
    if torch.get_num_threads() < 2 or dist.world_size() > 1 or torch.is_autocast_enabled("cpu"):
        return False
    parameters = [list(module.parameters()) for module in modules]
    on_cpu = all(p.device.type == "cpu" for each in parameters for p in each)
    # What has no parameters is run by something else, which has threads of its own.
    return on_cpu and all(each and sum(p.numel() for p in each) < COMPILED_PARAMETERS for each in parameters)


@functools.lru_cache(maxsize=2)
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


def _in_mode(function: Callable[[], R], inference: bool, gradients: bool, later: TorchFunctionMode | None = None) -> R:
    """Modes are a thread's own."""
    noting = contextlib.nullcontext() if later is None else later
    with torch.inference_mode(inference), torch.set_grad_enabled(gradients), noting:
        return function()


def _anchor(x: Tensor) -> Tensor:
    """What makes autograd come by."""
    return torch.zeros((), dtype=x.dtype, requires_grad=True)


class _Joint(torch.autograd.Function):
    """Passes features on, and in the backward pass starts the rest of it in a thread; the pass ends when that ends."""

    @staticmethod
    def forward(ctx: Any, anchor: Tensor, features: list[Tensor], pool: ThreadPoolExecutor, jobs: list[_Job]) -> Tensor:
        # In a list: autograd itself shall not go on to what the features were made of.
        ctx.features, ctx.pool, ctx.jobs = features, pool, jobs
        return features[0].detach()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, None, None, None]:
        rest: Future[None] = ctx.pool.submit(torch.autograd.backward, ctx.features.pop(), gradient)
        torch.autograd.Variable._execution_engine.queue_callback(functools.partial(_finish, rest, ctx.jobs))
        return None, None, None, None


# -- gradients of weights ---------------------------------------------------------------------------------------------

_Job = tuple[Tensor, "Future[Tensor]"]
"""A weight, and its gradient to come."""


def _finish(rest: Future[None], jobs: list[_Job]) -> None:
    """Wait for the rest of a backward pass and for the gradients that it has left to others, and add these up."""
    rest.result()
    for weight, job in jobs:
        gradient = job.result()
        if weight.grad is None:
            weight.grad = gradient
        else:
            weight.grad += gradient
    jobs.clear()


class _WeightsLater(TorchFunctionMode):
    """Where it is on, the backward pass of convolutions without a bias makes their weights' gradients `jobs` of a pool.

    They are in the order in which that pass came by, and whoever ends the pass adds them up.
    """

    def __init__(self, pool: ThreadPoolExecutor) -> None:
        super().__init__()
        self.pool = pool
        self.jobs: list[_Job] = []

    def __torch_function__(
        self, function: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if function in _CONVOLUTIONS and not kwargs and len(args) > 2 and args[2] is None:
            weight = args[1]
            if weight.is_leaf and weight.requires_grad and not any(isinstance(s, str) for s in args):
                return _Convolution.apply(self, function, *args)
        return function(*args, **(kwargs or {}))


class _Convolution(torch.autograd.Function):
    """A convolution whose weight is told its gradient by a job."""

    @staticmethod
    def forward(
        ctx: Any, later: _WeightsLater, function: Callable[..., Tensor], x: Tensor, weight: Tensor, *settings: Any
    ) -> Tensor:
        ctx.later, ctx.settings = later, settings
        ctx.save_for_backward(x, weight)
        return function(x, weight, *settings)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        given: list[Any] = list(ctx.settings[1:])
        *windows, groups = given + [1, 0, 1, 1][len(given) :]
        dims = x.ndim - 2
        stride, padding, dilation = ([s] * dims if isinstance(s, int) else s for s in windows)
        backward = functools.partial(
            torch.ops.aten.convolution_backward.default,
            gradient, x, weight, None, stride, padding, dilation, False, [0] * dims, groups,
        )  # fmt: skip
        ctx.later.jobs.append((weight, ctx.later.pool.submit(_weight_gradient, backward, weight)))
        of_x = backward([True, False, False])[0] if ctx.needs_input_grad[2] else None
        rest: list[None] = [None] * (1 + len(ctx.settings))
        return None, None, of_x, *rest


def _weight_gradient(backward: Callable[[list[bool]], Sequence[Tensor]], weight: Tensor) -> Tensor:
    """The gradient of a weight, in memory as the weight is: optimisers want it so."""
    with torch.no_grad():
        return torch.empty_like(weight).copy_(backward([False, True, False])[1])
