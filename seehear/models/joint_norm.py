"""Batch normalisation over the clips of all processes, instead of each process's own."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from seehear import dist


class JointOnGpu(nn.SyncBatchNorm):
    """torch's own, which only GPUs have; outside training and in `each_alone` it is any batch normalisation."""

    joint = True
    """False: over this process's own rows."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (B, C, ...) over all but the channels."""
        return super().forward(x) if self.joint else _BatchNorm.forward(self, x)


class JointOnCpu(_BatchNorm):
    """The same on CPUs, of operations that autograd knows, with two sums over the processes each way.

    Slow, and meant for comparisons. Every process must call it together with the others, with however many rows.
    """

    joint = True

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (B, C, ...) over all but the channels."""
        return self._over_all_processes(x) if self.joint and self.training else super().forward(x)

    def _check_input_dim(self, input: Tensor) -> None:
        assert input.ndim >= 2

    def _over_all_processes(self, x: Tensor) -> Tensor:
        # Sums in float64, as the CPU's own normalisation has them: the result is that of one process with all rows.
        rows = x.double()
        over = [axis for axis in range(x.ndim) if axis != 1]
        shape = [1, -1] + [1] * (x.ndim - 2)
        sums = _sum_of_all(torch.cat([rows.sum(over), rows.new_tensor([x.numel() // x.shape[1]])]))
        count = sums[-1].detach()
        mean = sums[:-1] / count
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

    Names and values of its state stay what they are. "always" holds for one process too, whose sums are then in float64
    as those of several: the normalisation of torch's own in float32 is by up to a hundredth off where parts of a clip
    are of one colour, which would be all that is compared.
    """
    if when == "never" or (when == "gpu" and (dist.world_size() == 1 or device.type != "cuda")):
        return module
    kind = JointOnGpu if device.type == "cuda" else JointOnCpu
    for parent in list(module.modules()):
        for name, child in parent.named_children():
            if isinstance(child, _BatchNorm) and not isinstance(child, kind):
                setattr(parent, name, _joint(child, kind))
    return module


def _joint(norm: _BatchNorm, kind: type[_BatchNorm]) -> _BatchNorm:
    made = kind(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
    for name in ("weight", "bias"):
        made._parameters[name] = norm._parameters[name]
    made._buffers.update(norm._buffers)
    return made.train(norm.training)


@contextlib.contextmanager
def each_alone(norms: Iterable[nn.Module]) -> Iterator[None]:
    """Within the block joint normalisations count this process's rows alone, and processes need not call them alike."""
    changed = [norm for norm in norms if isinstance(norm, JointOnGpu | JointOnCpu) and norm.joint]
    for norm in changed:
        norm.joint = False
    try:
        yield
    finally:
        for norm in changed:
            norm.joint = True
