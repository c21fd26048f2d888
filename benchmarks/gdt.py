"""What GDT's loss costs: beside a plain evaluation of Eq. 1, and beside the encoders in a whole training step.

The loss: `gdt_nce`, forward and backward, on the transformations of `--samples` clips (4 of each), against Eq. 1
as a double loop over transformations in Python, pair by pair. The loop is timed on `--anchors` transformations
drawn at random, all others being their keys, and its time is scaled up to all anchors (`scaled` in the results);
both must agree on these anchors' loss. The peak of memory is that of a process which does nothing else.

The step: a whole one (zeroing, forward, loss, what is observed, backward, norm of the gradients, optimiser) with
the 8 transformations a clip of row m and the recipe small-gdt, against forward and backward of the same encoders
on the same inputs with the sum of their features as loss. The contestants take turns, in an order that turns round
each time, so that a busy machine slows all alike; ratios are those of median CPU seconds. What glibc hands back to
the system must be faulted in again, and who pays for that is chance: with its default settings a step came out 7 %
*cheaper* than the views that are a part of it. So the step is measured in a process whose heap keeps its pages
(`HEAP`), the loss in an ordinary one, as its users have it (it takes half as long in the other); each call follows an
unmeasured one of the same contestant, and page faults are in the results. How far the measurement can be trusted shows
in `views alone, again`, the same work once more, whose ratio should be 1.

    python benchmarks/gdt.py --threads 1
"""

from __future__ import annotations

import argparse
import json
import math
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from support import machine
from torch import Tensor, nn

from seehear.hypotheses.language import Hypotheses, parse
from seehear.methods.gdt import GDT, gdt_nce
from seehear.pretraining.plan import make_config

RESULTS = Path(__file__).parent / "results" / "gdt.json"
ROW_OF_LOSS, ROW_OF_STEP = "l", "m"
TEMPERATURE = 0.07
HEAP = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**36), "MALLOC_TOP_PAD_": str(2**26)}
"""For glibc: nothing is handed back, and the heap grows in large pieces."""


def take_turns(works: dict[str, Callable[[], Any]], repeats: int) -> tuple[dict[str, list[dict[str, float]]], Any]:
    """Measurements of each, and what each returned last."""
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in works}
    last: dict[str, Any] = {}
    for repeat in range(repeats):
        for name in list(works) if repeat % 2 else list(works)[::-1]:
            works[name]()
            before, wall = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
            last[name] = works[name]()
            wall, after = time.perf_counter() - wall, resource.getrusage(resource.RUSAGE_SELF)
            user, system = after.ru_utime - before.ru_utime, after.ru_stime - before.ru_stime
            runs[name].append(
                {
                    "cpu_seconds": user + system,
                    "user_seconds": user,
                    "system_seconds": system,
                    "wall_seconds": wall,
                    "page_faults": after.ru_minflt - before.ru_minflt,
                }
            )
    return runs, last


def median(runs: list[dict[str, float]]) -> float:
    return statistics.median(run["cpu_seconds"] for run in runs)


# -- the loss ---------------------------------------------------------------------------------------------------


def make_batch(samples: int, dimensions: int) -> tuple[Tensor, Tensor, Hypotheses]:
    """Unit vectors (K, D) that know a little of their clip, with the codes (K, factors) of their transformations."""
    spec = parse(ROW_OF_LOSS)
    _, codes = spec.example(samples)
    random = torch.Generator().manual_seed(0)
    clip = torch.arange(samples).repeat_interleave(spec.transformations_per_sample)
    own = torch.randn(samples, dimensions, generator=random)
    x = own[clip] + torch.randn(len(clip), dimensions, generator=random)
    return F.normalize(x, dim=1), torch.from_numpy(codes), spec


def ours(x: Tensor, codes: Tensor, spec: Hypotheses) -> float:
    loss, _, _ = gdt_nce(x.clone().requires_grad_(), codes, spec, TEMPERATURE)
    loss.backward()
    return float(loss.detach())


def pair_by_pair(x: Tensor, codes: Tensor, spec: Hypotheses, anchors: list[int]) -> float:
    """Eq. 1 for these anchors as it is written: the sum of -log p over their positives."""
    leaf = x.clone().requires_grad_()
    rows, values = list(leaf), codes.tolist()
    hypotheses = [factor.hypothesis for factor in spec.factors]
    modality = spec.column("modality")
    loss = torch.zeros(())
    for i in anchors:
        normaliser, positives = torch.zeros(()), []
        for j in range(len(rows)):
            equal = [a == b for a, b in zip(values[i], values[j], strict=True)]
            ignored = any(h == "ignore" and not e for h, e in zip(hypotheses, equal, strict=True))
            if i == j or ignored or equal[modality]:
                continue
            similarity = rows[i] @ rows[j] / TEMPERATURE
            normaliser = normaliser + similarity.exp()
            if all(e for h, e in zip(hypotheses, equal, strict=True) if h == "distinct"):
                positives.append(similarity)
        for similarity in positives:
            loss = loss - (similarity.exp() / normaliser).log()
    loss.backward()  # type: ignore[no-untyped-call]
    return float(loss.detach())


def peak_mib(samples: int, dimensions: int) -> float | None:
    """Memory that forward and backward take beyond what is held before; None where Linux does not tell.

    Not by `ru_maxrss`: a new process begins with its parent's.
    """

    def field(name: str) -> float:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(name))

    x, codes, spec = make_batch(samples, dimensions)
    ours(*make_batch(4, dimensions))  # what torch loads at its first call is not the loss's
    try:
        Path("/proc/self/clear_refs").write_text("5")
        before = field("VmRSS")
        ours(x, codes, spec)
        return field("VmHWM") - before
    except OSError:
        return None


def race_of_the_loss(options: argparse.Namespace) -> dict[str, Any]:
    x, codes, spec = make_batch(options.samples, options.dimensions)
    drawn = torch.randperm(len(x), generator=torch.Generator().manual_seed(1))[: options.anchors].tolist()
    works: dict[str, Callable[[], Any]] = {
        "seehear": lambda: ours(x, codes, spec),
        "pair by pair": lambda: pair_by_pair(x, codes, spec, drawn),
    }
    runs, last = take_turns(works, options.repeats)
    loops = last["pair by pair"]
    _, surprise, positive = gdt_nce(x, codes, spec, TEMPERATURE)
    expected = float(torch.where(positive, surprise, 0.0)[drawn].sum())
    if not math.isclose(loops, expected, rel_tol=1e-4):
        raise SystemExit(f"the loop's loss of the anchors is {loops}, ours {expected}")
    scaled = median(runs["pair by pair"]) * len(x) / len(drawn)
    command = [sys.executable, __file__, "--peak", "--samples", str(options.samples)]
    command += ["--dimensions", str(options.dimensions), "--threads", str(options.threads)]
    peak = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return {
        "embeddings": list(x.shape),
        "specification": str(spec),
        "median_cpu_seconds": {
            "seehear": median(runs["seehear"]),
            "pair by pair, the drawn anchors": median(runs["pair by pair"]),
            "pair by pair, scaled": scaled,
        },
        "pair_by_pair_over_seehear": scaled / median(runs["seehear"]),
        "loss_of_the_drawn_anchors": {"seehear": expected, "pair by pair": loops},
        "peak_mib": peak,
        "mib_of_one_float32_matrix": len(x) ** 2 * 4 / 2**20,
        "runs": runs,
    }


# -- the step ---------------------------------------------------------------------------------------------------


def race_of_the_step(options: argparse.Namespace) -> dict[str, Any]:
    settings = [f"gdt.hypotheses={ROW_OF_STEP}", f"optim.batch_size={options.batch_size}"]
    config = make_config(method="gdt", recipe="small", settings=settings)
    clip, spectrogram = config.clip, config.spectrogram
    method = GDT(config).train()
    _, every = method.spec.example(options.batch_size)
    codes, column = torch.from_numpy(every), method.spec.column("modality")
    # Codes of modalities are their places in the registry, "video" before "audio".
    targets = {
        name: codes[codes[:, column] == value]
        for name, value in zip(method.spec.encoded, codes[:, column].unique(), strict=True)
    }
    random = torch.Generator().manual_seed(0)
    shapes = {
        "video": (3, clip.frames, clip.crop_px, clip.crop_px),
        "audio": (1, spectrogram.mel_bins, spectrogram.frames),
    }
    inputs = {name: torch.randn(len(rows), *shapes[name], generator=random) for name, rows in targets.items()}
    optimiser = torch.optim.SGD(method.parameters(), lr=0.01, momentum=0.9, nesterov=True, weight_decay=1e-4)

    def whole() -> None:
        output = method(inputs, targets)
        optimiser.zero_grad(set_to_none=True)
        output.loss.backward()
        nn.utils.clip_grad_norm_(method.parameters(), float("inf"))
        optimiser.step()

    def views_alone() -> None:
        method.encoders.zero_grad(set_to_none=True)
        total = torch.zeros(())
        for name, x in inputs.items():
            total = total + method.encoders[name](x).sum()
        total.backward()  # type: ignore[no-untyped-call]

    works = {"whole step": whole, "views alone": views_alone, "views alone, again": views_alone}
    runs, _ = take_turns(works, options.steps)
    seconds = {name: median(each) for name, each in runs.items()}
    return {
        "specification": str(method.spec),
        "transformations_per_sample": method.spec.transformations_per_sample,
        "inputs": {name: list(x.shape) for name, x in inputs.items()},
        "median_cpu_seconds": seconds,
        "over_views_alone": {name: each / seconds["views alone"] for name, each in seconds.items()},
        "median_page_faults": {n: statistics.median(run["page_faults"] for run in each) for n, each in runs.items()},
        "user_seconds_over_views_alone": {
            name: statistics.median(run["user_seconds"] for run in each)
            / statistics.median(run["user_seconds"] for run in runs["views alone"])
            for name, each in runs.items()
        },
        "runs": runs,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=768)
    parser.add_argument("--dimensions", type=int, default=256)
    parser.add_argument("--anchors", type=int, default=12)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--peak", action="store_true", help="print the loss's peak of memory in MiB, nothing else")
    parser.add_argument("--step", action="store_true", help="print the step's measurements, nothing else")
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args()

    torch.set_num_threads(options.threads)
    if options.peak:
        print(json.dumps(peak_mib(options.samples, options.dimensions)))
        return
    if options.step:
        print(json.dumps(race_of_the_step(options)))
        return
    about = machine()
    results = {"loss": race_of_the_loss(options)}
    command = [sys.executable, *sys.argv, "--step"]
    # glibc reads its settings when a process starts.
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=os.environ | HEAP)
    results["step"] = json.loads(done.stdout)
    about["load_average_at_the_end"] = list(os.getloadavg())
    settings = {name: value for name, value in vars(options).items() if name not in ("output", "peak", "step")}
    print(settings)
    for part, found in results.items():
        for name, value in found.items():
            if name != "runs":
                print(f"{part}: {name}: {value}")
    head = {
        "measured": datetime.now(UTC).isoformat(timespec="seconds"),
        "note": "a virtual machine shared with other work: ratios within one run count, seconds vary",
        "settings": settings,
        "machine": about,
    }
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(head | results, indent=1) + "\n")


if __name__ == "__main__":
    main()
