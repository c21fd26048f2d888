"""CPU seconds of seehear's Sinkhorn beside POT's plain float32 solver and its log-domain one.

All solve one problem by the same number of iterations, without an early stop, and end with labels; POT gets rows
whose maximum is taken off, without which its plain solver fails. Its log-domain solver does fewer iterations and
its time is scaled up to the others' (`scaled` in the results). The contestants take turns, so that a busy machine
slows all alike; ratios are those of median CPU seconds. Then: the share of the memory bandwidth that an iteration
reaches (bytes of the matrix over its time, against torch's `sum` of the same matrix), time over several N, and
the peak of memory beside the rows.

    python benchmarks/sinkhorn.py --threads 1
    python benchmarks/sinkhorn.py --large --threads 1
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
import warnings
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import ot
import torch
from support import machine
from threadpoolctl import threadpool_limits

from seehear.cluster.sinkhorn import sinkhorn

RESULTS = Path(__file__).parent / "results" / "sinkhorn.json"
STRENGTH = 20.0
Work = Callable[[], np.ndarray]


def make_rows(rows: int, clusters: int, scale: float) -> torch.Tensor:
    random = torch.Generator().manual_seed(0)
    return (scale * torch.randn(rows, clusters, generator=random)).log_softmax(1)


def make_marginals(clusters: int) -> torch.Tensor:
    shares = 1 + 0.1 * torch.randn(clusters, generator=torch.Generator().manual_seed(1))
    return shares / shares.sum()


def ours(rows: torch.Tensor, iterations: int, overwrite: bool) -> np.ndarray:
    result = sinkhorn(
        rows,
        make_marginals(rows.shape[1]),
        strength=STRENGTH,
        tolerance=0,
        max_iterations=iterations,
        overwrite=overwrite,
    )
    return result.labels.numpy()


def with_pot(rows: np.ndarray, iterations: int, method: str) -> np.ndarray:
    uniform = np.full(len(rows), 1 / len(rows), np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it did not converge
        plan = ot.sinkhorn(
            uniform,
            make_marginals(rows.shape[1]).numpy(),
            rows.max(1, keepdims=True) - rows,
            1 / STRENGTH,
            method=method,
            numItermax=iterations,
            stopThr=0,
        )
    return plan.argmax(1)


def timed(work: Work) -> tuple[dict[str, float], np.ndarray]:
    cpu, wall = time.process_time(), time.perf_counter()
    labels = work()
    return {"cpu_seconds": time.process_time() - cpu, "wall_seconds": time.perf_counter() - wall}, labels


def peak_mib(work: Work) -> float | None:
    """Memory that the work takes beyond what is held before; None where Linux does not tell."""

    def field(name: str) -> float:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(name))

    try:
        Path("/proc/self/clear_refs").write_text("5")
        before = field("VmRSS")
        work()
        return field("VmHWM") - before
    except OSError:
        return None


def race(x: torch.Tensor, options: argparse.Namespace) -> dict[str, Any]:
    """All contestants in turn, with the time of an iteration of ours against the memory bandwidth."""
    iterations = options.iterations
    rows, array = x.clone(), x.numpy()
    contestants: dict[str, Work] = {
        "seehear, overwriting": lambda: ours(rows, iterations, True),
        "seehear, overwriting, 2 iterations": lambda: ours(rows, 2, True),
        "seehear": lambda: ours(x, iterations, False),
        "POT float32": lambda: with_pot(array, iterations, "sinkhorn"),
        "POT log-domain": lambda: with_pot(array, options.log_iterations, "sinkhorn_log"),
        "sum": lambda: np.array([float(x.sum()) for _ in range(20)]),
    }
    runs: dict[str, list[dict[str, float]]] = {}
    labels: dict[str, np.ndarray] = {}
    for repeat in range(options.repeats + 1):
        for name, work in contestants.items():
            if name == "POT log-domain" and not repeat:
                continue
            rows.copy_(x)
            measured, labels[name] = timed(work)
            if repeat:  # the first round warms up
                runs.setdefault(name, []).append(measured)
    seconds = {name: statistics.median(run["cpu_seconds"] for run in each) for name, each in runs.items()}
    walls = {name: statistics.median(run["wall_seconds"] for run in each) for name, each in runs.items()}
    seconds["POT log-domain, scaled"] = seconds["POT log-domain"] * iterations / options.log_iterations
    fast = seconds["seehear, overwriting"]
    # Both numbers of iterations pay for the first passes and the labels.
    iteration = (walls["seehear, overwriting"] - walls["seehear, overwriting, 2 iterations"]) / (iterations - 2)
    size = x.numel() * x.element_size()
    best = labels["seehear, overwriting"]
    return {
        "median_cpu_seconds": seconds,
        "others_over_seehear_overwriting": {name: s / fast for name, s in seconds.items() if name != "sum"},
        "others_over_seehear": {name: s / seconds["seehear"] for name, s in seconds.items() if name != "sum"},
        "labels_that_differ": {name: int((labels[name] != best).sum()) for name in ("seehear", "POT float32")},
        "iteration_wall_seconds": iteration,
        "bandwidth_gb_per_second": {"iteration": size / iteration / 1e9, "sum": 20 * size / walls["sum"] / 1e9},
        "share_of_bandwidth": (walls["sum"] / 20) / iteration,
        "runs": runs,
    }


def growth(x: torch.Tensor, options: argparse.Namespace) -> dict[str, Any]:
    """Time over N, with the slope of its logarithm, and memory at the least and the largest N."""
    counts = [len(x) // 8, len(x) // 4, len(x) // 2, len(x)]
    seconds: dict[str, list[list[float]]] = {"seehear, overwriting": [], "seehear": []}
    memory: dict[str, dict[int, float | None]] = {"seehear, overwriting": {}, "seehear": {}, "POT float32": {}}
    for _ in range(options.repeats):
        for each in seconds.values():
            each.append([])
        for count in counts:
            for name, each in seconds.items():
                rows = x[:count].clone()
                each[-1].append(timed(lambda: ours(rows, options.iterations, "over" in name))[0]["cpu_seconds"])  # noqa: B023
    for count in (counts[0], counts[-1]):
        rows = x[:count].clone()
        memory["seehear"][count] = peak_mib(lambda: ours(rows, 5, False))  # noqa: B023
        memory["POT float32"][count] = peak_mib(lambda: with_pot(rows.numpy(), 5, "sinkhorn"))  # noqa: B023
        memory["seehear, overwriting"][count] = peak_mib(lambda: ours(rows, 5, True))  # noqa: B023
    slopes = {
        name: float(np.polyfit(np.log(counts), np.log(np.median(np.array(each), 0)), 1)[0])
        for name, each in seconds.items()
    }
    return {"rows": counts, "cpu_seconds": seconds, "log_log_slope": slopes, "peak_mib_beside_rows": memory}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--clusters", type=int, default=309)
    parser.add_argument("--large", action="store_true", help="1 000 000 rows, 256 clusters")
    parser.add_argument("--scale", type=float, default=0.3, help="deviation of the logits")
    parser.add_argument("--iterations", type=int, default=50)
    parser.add_argument("--log-iterations", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    if options.large:
        options.rows, options.clusters = 1_000_000, 256

    torch.set_num_threads(options.threads)
    about = machine(numpy=np.__version__, pot=ot.__version__)
    x = make_rows(options.rows, options.clusters, options.scale)
    with threadpool_limits(options.threads):
        results = {"race": race(x, options), "growth": growth(x, options)}
    settings = {name: value for name, value in vars(options).items() if name != "output"}
    print(settings)
    printed = {k: v for k, v in results["race"].items() if k != "runs"} | results["growth"]
    for name, value in printed.items():
        print(f"{name}: {value}")
    options.output.parent.mkdir(parents=True, exist_ok=True)
    head = {
        "measured": datetime.now(UTC).isoformat(timespec="seconds"),
        "note": "a virtual machine shared with other work: ratios within one run count, seconds vary",
        "settings": settings,
        "machine": about,
    }
    options.output.write_text(json.dumps(head | results, indent=1) + "\n")


if __name__ == "__main__":
    main()
