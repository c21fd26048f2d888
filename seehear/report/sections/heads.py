"""Heads: what clustering heads made of the marginals, how far they agree and how sure their labels are."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from seehear.report.content import Content, labelled_by_heads, name_of
from seehear.report.curves import series, tone
from seehear.report.figures import Chart, Series, plots
from seehear.report.gather import Labelling, Run, number
from seehear.report.section import Section


def gather(content: Content) -> dict[str, Any] | None:
    """Charts over clusterings and a row for each head; None for a method without clustering heads."""
    run = content.run
    rounds = [record for record in run.metrics.rounds if "nmi_between_heads" in record]
    if not labelled_by_heads(run) or not rounds:
        return None
    first, last = (record.get("clusters/head0") or {} for record in (rounds[0], rounds[-1]))
    charts = [*_over_clusterings(rounds), *_marginals(last), *_of_labels(run)]
    return {"plots": plots(charts), "rows": _rows(first, last)}


def _over_clusterings(rounds: Sequence[Mapping[str, Any]]) -> list[Chart]:
    return [
        Chart(
            "Agreement between heads",
            [series(rounds, "nmi_between_heads", "mean NMI", "tone-0", x="clustering")],
            "clustering",
            "mean over pairs: at 1 all heads give the same clusters",
            from_zero=True,
            top=1.0,
            whole_x=True,
        ),
        Chart(
            "Evenness before the marginals",
            [series([_mass(r) for r in rounds], "evenness", "head 0", "tone-0", x="clustering")],
            "clustering",
            "entropy of the masses ÷ ln k: far below 1 the marginals hold up what would collapse",
            from_zero=True,
            top=1.0,
            whole_x=True,
        ),
    ]


def _mass(record: Mapping[str, Any]) -> dict[str, Any]:
    """A clustering's number with the evenness of head 0's masses before the marginals."""
    entry = record.get("clusters/head0") or {}
    entropy, k = number(entry.get("mass_entropy")), number(entry.get("k")) or 0
    even = entropy / math.log(k) if entropy is not None and k > 1 else None
    return {"clustering": record.get("clustering"), "evenness": even}


def _marginals(last: Mapping[str, Any]) -> list[Chart]:
    """The shares that the last clustering asked for beside those that it gave."""
    asked, given = (np.asarray(last.get(name) or [], dtype=float) for name in ("marginals", "masses"))
    if not len(asked) or len(asked) != len(given):
        return []
    order, places = np.argsort(-asked), np.arange(1, len(asked) + 1).tolist()
    return [
        Chart(
            "Marginals and what was assigned",
            [
                Series("asked for", places, (100 * asked[order]).tolist(), "tone-0"),
                Series("assigned", places, (100 * given[order]).tolist(), "tone-1", dashed=True),
            ],
            "cluster, the largest first",
            "share of the clips in percent, head 0, last clustering",
            from_zero=True,
            whole_x=True,
        )
    ]


def _of_labels(run: Run) -> list[Chart]:
    """How many of the labels are at least so sure, and so agreed upon."""
    names = list(run.labellings)
    charts = []
    for title, key, note in (
        ("Confidence", "confidence", "1 − entropy ÷ ln k of the labels"),
        ("Heads that agree", "agreement", "share of the other heads that give the same cluster"),
    ):
        curves = [_survival(labelling, key, tone(n, names)) for n, labelling in run.labellings.items()]
        charts.append(Chart(title, curves, f"{key} of at least", f"share of clips; {note}", from_zero=True, top=1.0))
    return charts


def _survival(labelling: Labelling, key: str, tone: str) -> Series:
    """The share of clips whose value is at least x."""
    values = np.asarray(getattr(labelling, key), dtype=float)
    values = values[np.isfinite(values)]
    grid = np.linspace(0, 1, 51)
    shares = [float((values >= x - 1e-9).mean()) for x in grid] if len(values) else []
    return Series(name_of(labelling.name), grid.tolist() if shares else [], shares, tone)


def _rows(first: Mapping[str, Any], last: Mapping[str, Any]) -> list[tuple[int, str, int, str]]:
    """For each head the cost that alignment saved, and how the last transport ended."""
    before, after = first.get("alignment_cost_before") or [], first.get("alignment_cost_after") or []
    iterations, converged = last.get("sinkhorn_iterations") or [], last.get("sinkhorn_converged") or []
    rows = []
    for head, count in enumerate(iterations):
        aligned = f"{before[head]:.4g} → {after[head]:.4g}" if head < len(before) and head < len(after) else ""
        ended = "" if head >= len(converged) else "converged" if converged[head] else "stopped at its limit"
        rows.append((head, aligned, count, ended))
    return rows


SECTION = Section("heads", "Heads", gather)
