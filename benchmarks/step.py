"""CPU time of a bare training step of the small recipes: of another checkout, and by each way of executing encoders.

    python benchmarks/step.py                                  # plain and fast beside auto
    python benchmarks/step.py --against ../seehear-before      # another checkout beside this one, too
    python benchmarks/step.py --threads 2                      # encoders side by side

Forward, backward and SGD on batches that lie ready in memory. Contestants run in processes of their own, by turns; a
round's ratio is that of its own medians, and the median of those is printed. `bare-host` is auto without what
`seehear.host` does for a process. Raw results go to `benchmarks/results/step.json`.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULTS = Path(__file__).parent / "results" / "step.json"
METHODS = ("xdc", "gdt", "selavi")


def measure(execution: str, steps: int, threads: int, host: bool) -> dict[str, float]:
    """Median CPU milliseconds of a step of each method, by whatever `seehear` is on the path."""
    if host:
        try:
            from seehear.host import keep_freed_memory, sleep_while_waiting
        except ImportError:  # of an earlier checkout
            pass
        else:
            sleep_while_waiting()
            keep_freed_memory()
    import torch

    from seehear.methods import build_method
    from seehear.recipes import small, small_gdt, small_selavi

    torch.set_num_threads(threads)
    found = {}
    for method_name, recipe in zip(METHODS, (small, small_gdt, small_selavi), strict=True):
        config = replace(recipe(), method=method_name)
        if hasattr(config.model, "execution"):
            config = replace(config, model=replace(config.model, execution=execution))
        torch.manual_seed(0)
        method: Any = build_method(config, None)
        rows, k = config.optim.batch_size, config.cluster.k
        spec = method.hypotheses
        views = 1 if spec is None else spec.transformations_per_sample // len(spec.modalities)
        clip = (config.clip.frames, config.clip.crop_px, config.clip.crop_px)
        spectrogram = (config.spectrogram.mel_bins, config.spectrogram.frames)
        inputs = {
            "video": torch.randn(rows * views, *clip, 3).permute(0, 4, 1, 2, 3),
            "audio": torch.randn(rows * views, 1, *spectrogram),
        }
        labellings = getattr(method, "labellings", ())
        targets = {name: torch.randint(k, (rows,)) for name in labellings}
        if method_name == "gdt":
            codes = torch.zeros(rows * views, len(spec.factors), dtype=torch.int64)
            codes[:, 0] = torch.arange(rows * views) // views
            targets = {"video": codes, "audio": codes}
        method.start_round(dict.fromkeys(labellings, k), config.optim, torch.Generator().manual_seed(0))
        method.train()
        optimiser = torch.optim.SGD(
            method.parameter_groups(), lr=1e-3, momentum=0.9, nesterov=True, weight_decay=1e-4, fused=True
        )
        spent = []
        for _ in range(steps + 2):
            began = time.process_time()
            optimiser.zero_grad(set_to_none=True)
            method(inputs, targets).loss.backward()
            optimiser.step()
            spent.append(1e3 * (time.process_time() - began))
        found[method_name] = statistics.median(spent[2:])
    return found


def in_a_process(package: Path, execution: str, host: bool, steps: int, threads: int) -> dict[str, float]:
    """`measure` of a checkout."""
    environment = {**os.environ, "PYTHONPATH": str(package), "OMP_NUM_THREADS": str(threads)}
    environment |= {"CUDA_VISIBLE_DEVICES": ""}
    environment.pop("OMP_WAIT_POLICY", None)
    command = [sys.executable, __file__, "--measure", execution, "--steps", str(steps), "--threads", str(threads)]
    command += ["--host"] if host else []
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", type=Path, help="another checkout of seehear")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=8, help="steps of each method a round")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    parser.add_argument("--host", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(options.measure, options.steps, options.threads, options.host)))
        return
    from support import machine, ratio

    contestants = {name: (ROOT, name, True) for name in ("auto", "plain", "fast")}
    contestants["bare-host"] = (ROOT, "auto", False)
    if options.against:
        contestants["before"] = (options.against.resolve(), "auto", True)
    about = machine()
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in contestants}
    for _ in range(options.rounds):
        for name, (package, execution, host) in contestants.items():
            runs[name].append(in_a_process(package, execution, host, options.steps, options.threads))
    about["load_average_after"] = list(os.getloadavg())
    ratios: dict[str, dict[str, float]] = {}
    for name, each in runs.items():
        medians = {m: statistics.median(run[m] for run in each) for m in METHODS}
        ratios[name] = {
            m: statistics.median(own[m] / run[m] for own, run in zip(runs["auto"], each, strict=True)) for m in METHODS
        }
        print(f"{name:<10}" + "".join(f"{m} {medians[m]:7.1f} ms, auto / it {ratios[name][m]:.2f}   " for m in METHODS))
    for m in METHODS:
        ratio(f"bare step, {m} small", ratios["plain"][m], "as executed here over the modules as they stand")
    if options.against:
        for m in METHODS:
            ratio(f"bare step, {m} small, before", ratios["before"][m], "this checkout over the other")
    options.output.write_text(
        json.dumps(
            {
                "measured": datetime.now(UTC).isoformat(timespec="seconds"),
                "settings": {"rounds": options.rounds, "steps": options.steps, "threads": options.threads},
                "machine": about,
                "auto_over": ratios,
                "cpu_milliseconds": runs,
            },
            indent=1,
        )
        + "\n"
    )


if __name__ == "__main__":
    main()
