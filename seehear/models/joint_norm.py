"""Batch normalisation over the clips of all processes, instead of each process's own."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from seehear import dist


class JointBatchNorm(nn.SyncBatchNorm):
    """Batch normalisation whose mean and variance in training are those of the rows of all processes.

    On GPUs it is torch's own (`nn.SyncBatchNorm`), which CPUs do not have: there it is made of operations that autograd
    knows, with two sums over the processes each way, and is meant for comparisons. Every process must call it together
    with the others, with however many rows. In evaluation, and in `each_alone`, it is any batch normalisation.
    """

    joint = True
    """False: over this process's own rows."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (B, C, ...) over all but the channels."""
        if not (self.joint and self.training and dist.world_size() > 1):
            return _BatchNorm.forward(self, x)
        return super().forward(x) if x.is_cuda else self._over_all_processes(x)

    def _over_all_processes(self, x: Tensor) -> Tensor:
        # Sums in float64, as the CPU's own normalisation has them: the result is that of one process with all rows.
        rows = x.double()
        over = [axis for axis in range(x.ndim) if axis != 1]
        shape = [1, -1] + [1] * (x.ndim - 2)
        count = dist.all_reduce_sum(rows.new_tensor(float(x.numel() // x.shape[1])))
        mean = _sum_of_all(rows.sum(over)) / count
        centred = rows - mean.view(shape)
        variance = _sum_of_all(centred.square().sum(over)) / count
        assert self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None
        with torch.no_grad():
            self.num_batches_tracked.add_(1)
            momentum = 1.0 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
            unbiased = variance * count / (count - 1).clamp_min(1)
            self.running_mean.lerp_(mean.to(self.running_mean.dtype), momentum)
            self.running_var.lerp_(unbiased.to(self.running_var.dtype), momentum)
        normal = (centred * (variance + self.eps).rsqrt().view(shape)).to(self.weight.dtype)
        return (normal * self.weight.view(shape) + self.bias.view(shape)).to(x.dtype)


class _SumOfAll(torch.autograd.Function):
    """The sum over the processes, of values and of gradients."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return dist.all_reduce_sum(x.clone())

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return dist.all_reduce_sum(gradients[0].clone())


def _sum_of_all(x: Tensor) -> Tensor:
    result: Tensor = _SumOfAll.apply(x)
    return result


def joint_norms(module: nn.Module, when: str, device: torch.device) -> nn.Module:
    """`module`, whose batch normalisations are made joint in place if `when` (`optim.sync_batchnorm`) says so.

    Names and values of its state stay what they are. Nothing happens on one process.
    """
    if dist.world_size() == 1 or when == "never" or (when == "gpu" and device.type != "cuda"):
        return module
    for parent in list(module.modules()):
        for name, child in parent.named_children():
            if isinstance(child, _BatchNorm) and not isinstance(child, JointBatchNorm):
                setattr(parent, name, _joint(child))
    return module


def _joint(norm: _BatchNorm) -> JointBatchNorm:
    made = JointBatchNorm(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
    for name in ("weight", "bias"):
        made._parameters[name] = norm._parameters[name]
    made._buffers.update(norm._buffers)
    return made.train(norm.training)  # type: ignore[no-any-return]


@contextlib.contextmanager
def each_alone(norms: Iterable[nn.Module]) -> Iterator[None]:
    """Within the block joint normalisations count this process's rows alone, and processes need not call them alike."""
    changed = [norm for norm in norms if isinstance(norm, JointBatchNorm) and norm.joint]
    for norm in changed:
        norm.joint = False
    try:
        yield
    finally:
        for norm in changed:
            norm.joint = True
