"""The result of a search over hypotheses: ranks, the effect of each factor, and tables of them."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from seehear.files import write_atomic
from seehear.hypotheses.factors import Hypothesis

ABSENT = "absent"
CRITERIA: dict[str, str] = {
    "retrieval": "R@1 of video by audio among the held-out clips; without labels",
    "labels": "accuracy of a linear classifier on the held-out part of the training split",
}
"""What a search can go by, and how it is measured."""


@dataclass
class Trial:
    """One specification with its pretraining and its scores."""

    specification: str
    choices: dict[str, str]
    """The hypothesis of each factor that is searched over, or "absent"."""
    run: str
    """Its run folder."""
    state: Literal["waiting", "complete", "pruned"] = "waiting"
    epochs: int = 0
    """After how many it was scored last."""
    score: float = math.nan
    low: float = math.nan
    high: float = math.nan
    """The ends of the score's 95 % interval over held-out clips."""
    chance: float = math.nan
    by_epochs: dict[int, float] = field(default_factory=dict)
    details: dict[str, float] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The searched factors in a few words."""
        stated = (f"{factor} {choice}" for factor, choice in self.choices.items() if choice != ABSENT)
        return ", ".join(stated) or "none of them"


def common_epochs(trials: Sequence[Trial]) -> int:
    """After how many epochs, at most, every trial was scored; 0 if there is no such number."""
    return max(set.intersection(*(set(t.by_epochs) for t in trials)), default=0) if trials else 0


def effects(trials: Sequence[Trial], factors: Sequence[str]) -> dict[str, dict[str, dict[str, float]]]:
    """For each factor and hypothesis about it the `mean` score of the `trials` that have it, and their number.

    `against_absent` is the mean difference to the trials without the factor that are equal in all others, over
    `pairs` of them. Scores are those after as many epochs as every trial has.
    """
    epochs = common_epochs(trials)
    score = {tuple(t.choices.values()): t.by_epochs.get(epochs, t.score) for t in trials}
    found: dict[str, dict[str, dict[str, float]]] = {}
    if not trials:
        return found
    for place, factor in enumerate(factors):
        found[factor] = {}
        for choice in (ABSENT, *get_args(Hypothesis)):
            having = {key: value for key, value in score.items() if key[place] == choice}
            if not having:
                continue
            entry = {"mean": float(np.mean(list(having.values()))), "trials": len(having)}
            without = {key: (*key[:place], ABSENT, *key[place + 1 :]) for key in having}
            pairs = [having[key] - score[other] for key, other in without.items() if other in score]
            if choice != ABSENT and pairs:
                entry |= {"against_absent": float(np.mean(pairs)), "pairs": len(pairs)}
            found[factor][choice] = entry
    return found


def _signed(value: float) -> str:
    return f"{round(value, 3) + 0.0:+.3f}"


def as_text(result: Mapping[str, Any]) -> str:
    """A table of the trials, the best first, and the factors' effects."""
    trials = [Trial(**t) for t in result["trials"]]
    width = max([len("specification"), *(len(t.name) for t in trials)])
    lines = [
        f"{CRITERIA[result['criterion']]}: {result['held_out_clips']} clips, {result['epochs']} epochs, "
        f"{len(trials)} of {result['specifications']} specifications ({result['sampler']})",
        f"{'':>3}  {'specification':<{width}}  {'score':>6}  {'95 % interval':>13}  {'chance':>6}  {'epochs':>6}",
    ]
    lines += [
        f"{rank:>3}  {t.name:<{width}}  {t.score:>6.3f}  {f'{t.low:.3f}-{t.high:.3f}':>13}  {t.chance:>6.3f}  "
        f"{t.epochs:>6}{'  pruned' if t.state == 'pruned' else ''}"
        for rank, t in enumerate(trials, 1)
    ]
    for factor, choices in result["effects"].items():
        words = [
            f"{choice} {entry['mean']:.3f}"
            + (f" ({_signed(entry['against_absent'])} over {entry['pairs']:.0f})" if "pairs" in entry else "")
            for choice, entry in choices.items()
        ]
        lines.append(f"{factor}: " + ", ".join(words))
    if result["effects"]:
        lines.append(
            f"(factors: mean score after {result['effects_epochs']} epochs; in brackets the mean difference to absent, "
            "over as many pairs that are equal in all else)"
        )
    return "\n".join(lines)


def as_csv(trials: Sequence[Trial], factors: Sequence[str]) -> str:
    """A line for each trial, the best first."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    details = sorted({name for t in trials for name in t.details})
    head = ["rank", *factors, "score", "low", "high", "chance", "epochs", "state", *details, "specification", "run"]
    writer.writerow(head)
    for rank, t in enumerate(trials, 1):
        numbers = [t.score, t.low, t.high, t.chance, t.epochs, t.state, *(t.details.get(n, "") for n in details)]
        writer.writerow([rank, *t.choices.values(), *numbers, t.specification, t.run])
    return buffer.getvalue()


_STYLE = """
:root { color-scheme: light dark; --ground: #f7f6f2; --ink: #1c1d21; --soft: #5a5e68; --line: #dddbd3;
  --tone: #2456b8; }
@media (prefers-color-scheme: dark) {
  :root { --ground: #141518; --ink: #ececee; --soft: #a7abb5; --line: #363942; --tone: #84aef8; }
}
body { margin: 0 auto; max-width: 900px; padding: 24px 16px; background: var(--ground); color: var(--ink);
  font: 16px/1.45 system-ui, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.1rem; margin: 2rem 0 .5rem; } p { color: var(--soft); max-width: 70ch; }
.row { display: grid; grid-template-columns: minmax(9rem, 18rem) 1fr 4.5rem; gap: 0 1rem; align-items: center;
  padding: .35rem 0; border-top: 1px solid var(--line); font-variant-numeric: tabular-nums; }
.row b { text-align: right; } .row small { color: var(--soft); }
.track { position: relative; height: 16px; }
.track i { position: absolute; top: 7px; height: 2px; background: var(--tone); opacity: .45; }
.track u { position: absolute; top: 3px; width: 6px; height: 6px; margin-left: -5px; border: 2px solid var(--tone);
  border-radius: 50%; background: var(--tone); }
.pruned u { background: var(--ground); }
.track s { position: absolute; top: 0; bottom: 0; border-left: 1px dashed var(--soft); }
@media (max-width: 560px) {
  .row { grid-template-columns: 1fr 4.5rem; }
  .row .track { grid-row: 2; grid-column: 1 / 3; }
}
"""


def as_html(result: Mapping[str, Any]) -> str:
    """A page of its own: the score of each specification with its interval, and those of each hypothesis."""
    trials = [Trial(**t) for t in result["trials"]]
    top = max([t.high for t in trials if math.isfinite(t.high)], default=1.0) or 1.0

    def at(value: float) -> str:
        return f"{100 * min(max(value / top, 0.0), 1.0):.2f}%"

    def row(name: str, under: str, score: float, shown: str, marks: str, kind: str = "") -> str:
        return (
            f'<div class="row {kind}"><span>{escape(name)}<br><small>{escape(under)}</small></span>'
            f'<span class="track">{marks}<u style="left:{at(score)}"></u></span><b>{escape(shown)}</b></div>'
        )

    rows = []
    for t in trials:
        marks = f'<s style="left:{at(t.chance)}"></s><i style="left:{at(t.low)};width:{at(t.high - t.low)}"></i>'
        under = f"after {t.epochs} epochs" + (", pruned" if t.state == "pruned" else "")
        rows.append(row(t.name, under, t.score, f"{t.score:.3f}", marks, t.state))
    parts = []
    for factor, choices in result["effects"].items():
        parts.append(f"<h2>{escape(factor.replace('_', ' '))}, after {result['effects_epochs']} epochs</h2>")
        for choice, entry in choices.items():
            number = int(entry["trials"])
            under = f"mean of {number} specification{'' if number == 1 else 's'}"
            if "pairs" in entry:
                under += f"; {_signed(entry['against_absent'])} against absent, all else equal"
            parts.append(row(choice, under, entry["mean"], f"{entry['mean']:.3f}", ""))
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f"<title>Which hypotheses suit these videos</title><style>{_STYLE}</style></head><body>"
        "<h1>Which hypotheses suit these videos</h1>"
        f"<p>{escape(CRITERIA[result['criterion']])}: {result['held_out_clips']} clips. Lines are 95 % intervals over "
        f"these clips, dashes are chance; the scale ends at {top:.2f}. {len(trials)} of {result['specifications']} "
        f"specifications, by {escape(result['sampler'])}, one run each: another seed would move the scores too.</p>"
        f"<h2>Specifications</h2>{''.join(rows)}{''.join(parts)}</body></html>\n"
    )


def write_results(folder: Path, result: Mapping[str, Any], trials: Sequence[Trial]) -> None:
    write_atomic(folder / "results.csv", as_csv(trials, result["factors"]))
    write_atomic(folder / "results.html", as_html(result))
    write_atomic(folder / "results.json", json.dumps(result, indent=1, ensure_ascii=False))
