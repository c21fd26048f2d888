"""What the benchmarks share.

`make bench` ends with a table of the ratios that its scripts gave to `ratio`.
"""

from __future__ import annotations

import json
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


def ratio(name: str, value: float, of: str) -> None:
    """Print a ratio of this machine's CPU, and add it to the table that `make bench` ends with.

    The table is the file that BENCH_RATIOS names, a JSON object a line; without it nothing is added.
    """
    print(f"{name}: {value:.2f} ({of})")
    if table := os.environ.get("BENCH_RATIOS"):
        with open(table, "a") as file:
            file.write(json.dumps({"name": name, "value": value, "of": of}) + "\n")


def print_ratios(table: Path) -> None:
    """The table of `ratio`."""
    rows = [json.loads(line) for line in table.read_text().splitlines()] if table.exists() else []
    print("\nRatios of CPU seconds on this machine")
    for row in rows:
        print(f"  {row['name']:<44}{row['value']:6.2f}   {row['of']}")
