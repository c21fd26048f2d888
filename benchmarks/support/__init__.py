"""What the benchmarks share."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

import torch


def machine(**versions: str) -> dict[str, Any]:
    """What the numbers depend on; `versions` are those of further packages."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return {
        "cpu": names[0] if names else platform.processor(),
        "cores": os.cpu_count(),
        "load_average": list(os.getloadavg()),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        **versions,
    }
