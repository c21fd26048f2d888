"""A comparison of runs in words, for a terminal. Imports no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from seehear.comparing.running import Compared, Comparison


def as_text(result: Comparison) -> str:
    """A line a run, the best first, and what the numbers mean."""
    width = max(3, *(len(r.run) for r in result.runs))
    labelled = result.labelled is not None
    head = f"{'run':<{width}}  {'method':<10}{'kinds':>14}{'shared':>8}{'agree':>7}{'predicted':>11}"
    head += f"{'stable':>8}{'fit':>6}"
    lines = [head + ("   NMI" if labelled else "")]
    lines += [_line(r, width) for r in result.runs]
    lines += [
        "",
        f"{result.clips} clips that all runs have. Ranked by shared: the bits that clusters by sight and clusters by",
        "sound have in common. agree: that as a share of all they hold. predicted: the same for clips held out, one",
        "modality told from the other. stable: clusters found again in other subsets. fit: clips whose sound goes with",
        "their sight.",
    ]
    if labelled:
        lines.append(
            f"NMI: agreement with the known classes of {result.labelled} clips, at as many clusters as classes."
        )
    if result.rank_correlation is not None:
        lines.append(
            f"Rank correlation of shared and NMI over these {len(result.runs)} runs: {result.rank_correlation:.2f}"
        )
    return "\n".join(lines)


def _line(r: Compared, width: int) -> str:
    found = r.found
    kinds = "none" if found.k is None else f"{found.k} ({found.low} to {found.high}{'+' if found.more else ''})"
    numbers = f"{found.shared_bits:>8.2f}{found.agreement:>7.2f}{found.predicted:>11.2f}{found.stability:>8.2f}"
    score = "" if r.nmi is None else f"{r.nmi:>6.2f}"
    return f"{r.run:<{width}}  {r.method:<10}{kinds:>14}{numbers}{found.of_a_kind:>6.2f}{score}"
