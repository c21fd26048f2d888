"""The optimiser, and steps that are left out where gradients are not finite, which on a GPU it decides by itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from seehear.config import OptimConfig
from seehear.errors import DivergedError

NON_FINITE_LIMIT = 10


def make_optimiser(groups: list[dict[str, Any]], optim: OptimConfig, *, fused: bool) -> torch.optim.Optimizer:
    """SGD or Adam for groups of `params`, each with its `lr_factor`; `set_rate` gives them their rate.

    Fused, a step is one kernel for many tensors, and whether it is taken need not be known to the host.
    """
    kind = True if fused else None  # None, not False: PyTorch's own choice on a CPU
    decay = optim.weight_decay
    optimiser: torch.optim.Optimizer
    if optim.algorithm == "adam":
        optimiser = torch.optim.Adam(groups, lr=0.0, betas=(optim.momentum, 0.999), weight_decay=decay, fused=kind)
    else:
        optimiser = torch.optim.SGD(
            groups, lr=0.0, momentum=optim.momentum, weight_decay=decay, nesterov=optim.nesterov, fused=kind
        )
    _begin_momentum(optimiser)
    return optimiser


def load_state(optimiser: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Go on from what `state_dict` gave, on this device or another."""
    # How steps are carried out is this optimiser's own, whatever saved the state.
    groups = [{**group, "fused": optimiser.defaults["fused"]} for group in state["param_groups"]]
    optimiser.load_state_dict({**state, "param_groups": groups})
    _begin_momentum(optimiser)


def _begin_momentum(optimiser: torch.optim.Optimizer) -> None:
    """Momentum of zero where a fused SGD has none yet.

    Its first step makes buffers that it fills itself, and leaves them unfilled if that step is not taken. From zeros
    the first step is the same.
    """
    if not optimiser.defaults["fused"] or not isinstance(optimiser, torch.optim.SGD):
        return
    for group in optimiser.param_groups:
        for p in group["params"] if group["momentum"] else ():
            if optimiser.state[p].get("momentum_buffer") is None:
                optimiser.state[p]["momentum_buffer"] = torch.zeros_like(p, memory_format=torch.preserve_format)


def set_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    """The learning rate of the next step, for each group times its factor."""
    for group in optimiser.param_groups:
        group["lr"] = rate * group.get("lr_factor", 1.0)  # states of earlier versions have none


def clip_gradients(parameters: Iterable[nn.Parameter], limit: float | None) -> Tensor:
    """Scale gradients down to a norm of `limit`, if there is one; returns the norm before, a scalar."""
    with_gradient = [p for p in parameters if p.grad is not None]
    norm = nn.utils.get_total_norm([p.grad for p in with_gradient if p.grad is not None])
    if limit:
        nn.utils.clip_grads_with_norm_(with_gradient, limit, norm)
    return norm


def step_if_finite(optimiser: torch.optim.Optimizer, norm: Tensor) -> None:
    """Take a step, unless the gradients' norm is not finite: then parameters and optimiser stay what they are.

    A fused optimiser is told by a tensor on the device, in the way of `torch.amp.GradScaler`.
    """
    if optimiser.defaults["fused"]:
        optimiser.found_inf = (~norm.isfinite()).float()  # type: ignore[attr-defined]
        optimiser.step()
    elif bool(norm.isfinite()):
        optimiser.step()


class FiniteSteps:
    """Says which steps were left out by `step_if_finite`, and when too many running were."""

    def __init__(self, warn: Callable[[str, int], None]) -> None:
        """`warn` is told what happened, and after how many steps."""
        self._warn = warn
        self._left_out = 0
        """Running."""

    def taken(self, norm: Tensor, step: int) -> bool:
        """Whether a step, counted from 1, was taken; the norm is of averaged gradients, so all processes agree.

        Raises `DivergedError` at the `NON_FINITE_LIMIT`th that was not, running.
        """
        if bool(norm.isfinite()):
            self._left_out = 0
            return True
        self._left_out += 1
        self._warn(f"step {step} left out: its gradients are not finite", step - 1)
        if self._left_out >= NON_FINITE_LIMIT:
            raise DivergedError(
                f"{NON_FINITE_LIMIT} steps running had gradients that are not finite",
                "lower optim.base_lr or set optim.clip_gradient_norm, and resume or start again",
            )
        return False
