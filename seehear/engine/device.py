"""Where a run computes, in what precision, and how much memory it took."""

from __future__ import annotations

import torch

from seehear import dist
from seehear.config import Config
from seehear.errors import UsageError


def peak_memory_bytes() -> int:
    import resource
    import sys

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def choose_device(name: str) -> torch.device:
    """The device that a setting names; `auto` takes this process's GPU if there is one."""
    if name == "auto":
        name = f"cuda:{dist.local_rank()}" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UsageError(f"there is no device {name!r}", "use auto, cpu, cuda or cuda:N") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UsageError("device is cuda, and PyTorch finds no GPU", "set device=auto, or see `seehear doctor`")
    return device


def use_bfloat16(config: Config, device: torch.device) -> bool:
    """Whether to compute in bfloat16."""
    if config.precision == "auto":
        # Never on a CPU: there gradients of convolutions in bfloat16 came out different from call to call.
        return device.type == "cuda" and torch.cuda.is_bf16_supported()
    return config.precision == "bfloat16"
