"""Where the time of a run went: shares of decoding, waiting for data, computing, extracting and clustering.

    python benchmarks/run_profile.py RUN [--out benchmarks/results/run_profile.json]

Reads the metrics that the run itself wrote, so it measures the path that users take.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from seehear.engine.runlog import read_metrics


def profile(run: Path) -> dict[str, float]:
    """Seconds of each part of a run, the epochs' waiting share and clips a second."""
    records = read_metrics(run / "metrics.jsonl")
    kinds = {kind: [r for r in records if r["kind"] == kind] for kind in ("prepare", "epoch", "round", "end")}

    def total(kind: str, name: str) -> float:
        return sum(r.get(name, 0.0) for r in kinds[kind])

    parts = {
        "decode once": total("prepare", "seconds_decode"),
        "statistics": total("prepare", "seconds_statistics"),
        "wait for data": total("epoch", "seconds_data"),
        "compute": total("epoch", "seconds_compute"),
        "validate": total("epoch", "seconds_validation"),
        "extract features": total("round", "seconds_extract"),
        "cluster": total("round", "seconds_cluster"),
    }
    whole = kinds["end"][-1]["seconds"] if kinds["end"] else records[-1]["seconds"]
    training = parts["wait for data"] + parts["compute"]
    return {
        **parts,
        "other": whole - sum(parts.values()),
        "whole": whole,
        "waiting share of an epoch": parts["wait for data"] / training,
        "training clips per second": total("epoch", "clips") / training,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, nargs="?")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    if arguments.run is None:
        print("run_profile.py reads a finished run: python benchmarks/run_profile.py RUN")
        return
    found = profile(arguments.run)
    for name, value in found.items():
        share = f"{value / found['whole']:8.1%}" if name not in list(found)[-3:] else ""
        print(f"{name:<28}{value:10.3f}{share}")
    if arguments.out:
        environment = json.loads((arguments.run / "env.json").read_text())
        arguments.out.write_text(json.dumps({"environment": environment, "seconds": found}, indent=1))


if __name__ == "__main__":
    main()
