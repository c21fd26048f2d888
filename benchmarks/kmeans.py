"""CPU seconds of seehear's k-means beside faiss, scikit-learn's Lloyd and the bare matrix products.

All start from the same centroids and do the same number of iterations, each followed by a last assignment of
all rows; faiss is told to use all rows (by default it takes 256 a centroid). The contestants take turns, so
that a busy machine slows all alike; medians of CPU seconds and their ratios are printed, and all measurements
are written as JSON.

    python benchmarks/kmeans.py --rows 100000 --columns 512 --clusters 256 --threads 1
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import faiss
import numpy as np
import sklearn
import torch
from sklearn.cluster import KMeans
from support import machine, ratio
from threadpoolctl import threadpool_limits

from seehear.cluster.kmeans import kmeans

RESULTS = Path(__file__).parent / "results" / "kmeans.json"


def make_rows(rows: int, columns: int) -> torch.Tensor:
    """Rows of length 1 spread over 16 dimensions and a little beyond: Lloyd's iterations take long on them."""
    random = torch.Generator().manual_seed(0)
    x = torch.randn(rows, 16, generator=random) @ torch.randn(16, columns, generator=random)
    x = x + torch.randn(rows, columns, generator=random)
    return x / x.norm(dim=1, keepdim=True)


def contestants(x: torch.Tensor, start: torch.Tensor, iterations: int) -> dict[str, Callable[[], float]]:
    """Each does the whole work and returns its objective."""
    k, columns = start.shape

    def ours() -> float:
        result = kmeans(x, k, init=start, iterations=iterations)
        if result.iterations != iterations:
            raise SystemExit(f"converged after {result.iterations} iterations: ask for fewer, or more rows")
        if result.reseeded:
            raise SystemExit("a cluster ran empty, so that the work is not the same: take other rows")
        return result.objective

    def with_faiss() -> float:
        model = faiss.Kmeans(columns, k, niter=iterations, max_points_per_centroid=len(x))
        model.train(x.numpy(), init_centroids=start.numpy())
        squared, _ = model.index.search(x.numpy(), 1)
        return float(squared.sum(dtype=np.float64))

    def with_scikit_learn() -> float:
        model = KMeans(k, init=start.numpy(), n_init=1, max_iter=iterations, tol=0, algorithm="lloyd")
        return float(model.fit(x.numpy()).inertia_)

    def products_alone() -> float:
        out = torch.empty(4096, k)
        for _ in range(iterations + 1):
            for block in x.split(4096):
                torch.mm(block, start.T, out=out[: len(block)])
        return float("nan")

    return {
        "seehear": ours,
        "faiss": with_faiss,
        "scikit-learn": with_scikit_learn,
        "products alone": products_alone,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--columns", type=int, default=512)
    parser.add_argument("--clusters", type=int, default=256)
    parser.add_argument("--iterations", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args()

    torch.set_num_threads(options.threads)
    faiss.omp_set_num_threads(options.threads)
    about = machine(**{"faiss": faiss.__version__, "scikit-learn": sklearn.__version__, "numpy": np.__version__})
    x = make_rows(options.rows, options.columns)
    # From k-means++ no cluster runs empty: each contestant would mend that in its own way.
    start = kmeans(x, options.clusters, seed=1, iterations=0).centroids
    runs: dict[str, list[dict[str, float]]] = {}
    with threadpool_limits(options.threads):
        for repeat in range(options.repeats + 1):
            for name, work in contestants(x, start, options.iterations).items():
                cpu, wall = time.process_time(), time.perf_counter()
                objective = work()
                cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
                if repeat:  # the first round warms up
                    runs.setdefault(name, []).append({"cpu_seconds": cpu, "wall_seconds": wall, "objective": objective})

    medians = {name: statistics.median(run["cpu_seconds"] for run in each) for name, each in runs.items()}
    ratios = {name: medians["seehear"] / median for name, median in medians.items()}
    settings = {name: value for name, value in vars(options).items() if name != "output"}
    print(f"{settings}\n{'':<16}CPU s   seehear / it   objective")
    for name, median in medians.items():
        print(f"{name:<16}{median:5.2f}   {ratios[name]:12.2f}   {runs[name][0]['objective']:.6e}")
    ratio("k-means", ratios["faiss"], "seehear over faiss, equal objective")
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(
        json.dumps(
            {
                "measured": datetime.now(UTC).isoformat(timespec="seconds"),
                "settings": settings,
                "machine": about,
                "median_cpu_seconds": medians,
                "seehear_over": ratios,
                "runs": {
                    name: [{k: v if v == v else None for k, v in run.items()} for run in each]
                    for name, each in runs.items()
                },
            },
            indent=1,
        )
        + "\n"
    )


if __name__ == "__main__":
    main()
