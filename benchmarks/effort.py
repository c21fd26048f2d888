"""How much effort names save: a person who names clusters against one who labels clips, both simulated.

    python benchmarks/effort.py TABLE.csv RUN [RUN ...] --name vizdoom_actions [--answers 60] [--orders 10]
    python benchmarks/effort.py --plot

TABLE.csv has the columns path and label; the runs were trained on videos of it. Truth is used for answers, and to score
all videos of a run after each answer; nothing else sees it. Two ways of working are compared, at equal numbers of
answers:

- Naming, by `seehear.Collection` as the browser does it. The person looks at the best example of each cluster, the
  largest cluster first, and says what it is (one answer; clusters of one name are merged). Then come the one-key
  questions of `review`: "is this X?" yes is one answer, no and another name are two. Scored are the names that
  `predictions` gives every video.
- Labelling: clips drawn at random get their label, one answer each, and a linear classifier (logistic regression on the
  unit features of both streams) learns from them; on the features of the run, and on those of untrained encoders of the
  same shape. Its regularisation is the best of four by the truth itself, which no person could choose. The mean of
  several orders; clips that were labelled count as right.

Results are added to benchmarks/results/effort.json, a set of data and a run each; --plot draws them into
docs/images/effort.svg, and prints a table in Markdown.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import warnings
from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from seehear.collection.collection import Collection
from seehear.collection.learning import joined
from seehear.data.cache import media_cache
from seehear.data.clips import clip_refs
from seehear.data.loader import workers_of
from seehear.data.manifest import Manifest
from seehear.data.truth import load_truth, match
from seehear.features.frozen import untrained_model
from seehear.features.model import Model, usable_videos

RESULTS = Path(__file__).parent / "results" / "effort.json"
PICTURE = Path(__file__).parents[1] / "docs" / "images" / "effort.svg"
STRENGTHS = (1.0, 10.0, 100.0, 1000.0)


def copied(run: Path, folder: Path) -> Path:
    """The run without checkpoints and without what people said of it: the simulated person starts from nothing."""
    ignored = shutil.ignore_patterns("checkpoints", "tensorboard", "edits", "assignments")
    return Path(shutil.copytree(run, folder / run.name, ignore=ignored))


def truth_of(collection: Collection, table: Path) -> np.ndarray:
    """The class of each segment, (N,) texts."""
    ids = [collection.index.segments.video_of(row).video_id for row in range(len(collection.index.segments))]
    matched = match(load_truth(table), dict.fromkeys(ids))
    known = dict(zip(matched.ids, matched.y_true, strict=True))
    return np.array([known[i] for i in ids])


def named(collection: Collection, count: int) -> np.ndarray:
    """What every segment is called by now, (N,) texts; "" before there are names."""
    ids, p = collection.predictions()
    if not ids:
        return np.full(count, "", dtype=object)
    names = dict(zip(collection.ids, collection.names, strict=True))
    return np.array([names[i] for i in ids], dtype=object)[p.argmax(axis=1)]


def naming(collection: Collection, truth: np.ndarray, answers: int) -> list[tuple[int, float]]:
    """Numbers of answers, with the share of segments that are called right after them."""
    curve: list[tuple[int, float]] = []
    given = 0

    def note() -> None:
        curve.append((given, float((named(collection, len(truth)) == truth).mean())))

    for cluster in sorted(collection.clusters, key=lambda c: -c.size):
        name = str(truth[cluster.rows[0]])
        if name in collection.names:
            collection.merge([cluster.id, name], into=name)
        else:
            collection.name(cluster.id, name)
        given += 1
        note()
    while given < answers and (questions := collection.review(1)):
        asked, right = questions[0], str(truth[questions[0].row])
        if collection.cluster(asked.cluster).name == right:
            collection.answer(asked.row, asked.cluster, True)
            given += 1
        else:
            collection.move([asked.row], right, new=right not in collection.names)
            given += 2
        note()
    return curve


def labelling(x: np.ndarray, truth: np.ndarray, answers: list[int], order: np.ndarray) -> list[float]:
    """The share of segments that are right when the first so many of an order are labelled, for each number."""
    found = []
    for count in answers:
        chosen = order[:count]
        labels = truth[chosen]
        best = 0.0
        for strength in STRENGTHS if len(set(labels.tolist())) > 1 else ():
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)
                guess = LogisticRegression(C=strength, max_iter=300).fit(x[chosen], labels).predict(x)
            guess[chosen] = labels
            best = max(best, float((guess == truth).mean()))
        if not best:
            best = float((truth == labels[0]).mean())
        found.append(best)
    return found


def untrained_features(run: Path, video_ids: list[str]) -> np.ndarray:
    """Unit features of both streams by untrained encoders of the run's shape, (N, D), in the order of the videos."""
    model = untrained_model(Model.load(run))
    videos = usable_videos(Manifest.load(run / "manifest.parquet"), tuple(dict.fromkeys(model.modalities.values())))
    bank = model.extract(
        videos, clip_refs(videos, model.config.cluster), workers=workers_of(model.config),
        cache=media_cache(model.config), calibrate=True,
    )  # fmt: skip
    row = {ref.video_id: number for number, ref in enumerate(bank.refs)}
    return bank.joined("+".join(model.modalities))[[row[i] for i in video_ids]]


def evenly(answers: int) -> list[int]:
    """Numbers of answers at which labelling is scored."""
    return sorted({*range(2, min(answers, 20) + 1, 2), *range(20, answers + 1, 5)})


def mean_curve(x: np.ndarray, truth: np.ndarray, answers: int, orders: int) -> dict[str, Any]:
    """The mean over random orders, with the lowest and the highest."""
    counts = evenly(answers)
    runs = np.array(
        [labelling(x, truth, counts, np.random.default_rng(seed).permutation(len(truth))) for seed in range(orders)]
    )
    rounded: Callable[[np.ndarray], list[float]] = lambda a: np.round(a, 4).tolist()  # noqa: E731
    return {
        "answers": counts,
        "accuracy": rounded(runs.mean(0)),
        "low": rounded(runs.min(0)),
        "high": rounded(runs.max(0)),
    }


def simulate(table: Path, run: Path, answers: int, orders: int) -> dict[str, Any]:
    """All curves of one run."""
    with tempfile.TemporaryDirectory() as folder:
        copy = copied(run, Path(folder))
        collection = Collection(copy)
        truth = truth_of(collection, table)
        of_clusters = max(collection.clusters, key=lambda c: c.size).size
        curve = naming(collection, truth, answers)
        x = joined(dict(collection.index.space), "both")
        ids = [collection.index.segments.video_of(row).video_id for row in range(len(truth))]
        untrained = untrained_features(copy, ids)
    classes = len(set(truth.tolist()))
    reached = next((n for n, share in curve if share >= 0.95), None)
    within = [share for n, share in curve if n <= 2 * classes]
    return {
        "segments": len(truth), "classes": classes, "largest_cluster": of_clusters,
        "answers_to_95_percent": reached, "accuracy_at_2_a_class": round(within[-1], 4),
        "naming": {"answers": [n for n, _ in curve], "accuracy": [round(s, 4) for _, s in curve]},
        "labelling, pretrained features": mean_curve(x, truth, answers, orders),
        "labelling, untrained features": mean_curve(untrained, truth, answers, orders),
    }  # fmt: skip


# ---------------------------------------------------------------- the picture

_STYLE = """
 .ground{fill:#fff} text{font:13px system-ui,sans-serif;fill:#1c1d21} .title{font-size:15px;font-weight:600}
 .soft{fill:#5f636d} .middle{text-anchor:middle} .end{text-anchor:end} .grid{stroke:#e4e2da}
 .mark{stroke:#8a8e98;stroke-dasharray:3 3} .curve{stroke-width:2;fill:none}
 .naming{stroke:#2456b8} .pretrained{stroke:#b4581a} .untrained{stroke:#8a8e98}
 .band{stroke:none;opacity:.16} .band.pretrained{fill:#b4581a} .band.untrained{fill:#8a8e98}
 @media (prefers-color-scheme: dark){
 .ground{fill:#16171b} text{fill:#ececee} .soft{fill:#a7abb5} .grid{stroke:#33363e}
 .naming{stroke:#84aef8} .pretrained{stroke:#e29a62} .untrained{stroke:#9a9ea8}
 .band.pretrained{fill:#e29a62} .band.untrained{fill:#9a9ea8}}
"""
KINDS = {
    "naming": ("naming", "clusters are named, then one-key questions answered"),
    "labelling, pretrained features": ("pretrained", "random clips labelled, classifier on learnt features"),
    "labelling, untrained features": ("untrained", "random clips labelled, classifier on untrained features"),
}
METHODS = {"xdc": "XDC", "gdt": "GDT", "selavi": "SeLaVi"}
_WIDE, _HIGH, _LEFT, _GAP, _TOP, _ROW = 250, 190, 56, 28, 112, 262


def picture(results: dict[str, dict[str, Any]]) -> str:
    """A row for each set of data, a column for each method."""
    methods = [m for m in METHODS if any(m in found for found in results.values())]
    width = _LEFT + len(methods) * (_WIDE + _GAP) + 4
    height = _TOP + len(results) * _ROW - 8
    parts = ['<text class="title" x="24" y="30">Share of videos named right, by the number of answers given</text>']
    for i, (kind, words) in enumerate(KINDS.values()):
        line = 52 + 17 * i
        parts.append(f'<path class="curve {kind}" d="M24 {line - 4}h26"/><text x="58" y="{line}">{words}</text>')
    for row, (name, found) in enumerate(results.items()):
        for column, method in enumerate(methods):
            if method in found:
                place = (_LEFT + column * (_WIDE + _GAP), _TOP + row * _ROW)
                title = f"{METHODS[method]}, {name} ({found[method]['classes']} classes)"
                parts += _panel(title, found[method], *place, named=column == 0)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'role="img" aria-label="Share of videos named right, by the number of answers given"><style>{_STYLE}</style>'
        f'<rect class="ground" width="100%" height="100%"/>{"".join(parts)}</svg>\n'
    )


def _panel(title: str, result: dict[str, Any], left: float, top: float, *, named: bool) -> list[str]:
    most = max(result[kind]["answers"][-1] for kind in KINDS if kind != "naming")

    def points(answers: list[int], shares: list[float]) -> str:
        kept = [(n, s) for n, s in zip(answers, shares, strict=True) if n <= most]
        return "L".join(f"{left + n / most * _WIDE:.1f} {top + 16 + (1 - s) * _HIGH:.1f}" for n, s in kept)

    base = top + 16 + _HIGH
    parts = [f'<text class="middle" x="{left + _WIDE / 2}" y="{top + 4}">{escape(title)}</text>']
    for tenth in range(0, 11, 2):
        y = base - tenth / 10 * _HIGH
        parts.append(f'<path class="grid" d="M{left} {y:.1f}h{_WIDE}"/>')
        if named:
            parts.append(f'<text class="soft end" x="{left - 8}" y="{y + 4:.1f}">{10 * tenth} %</text>')
    for n in range(0, most + 1, 20):
        parts.append(f'<text class="soft middle" x="{left + n / most * _WIDE:.1f}" y="{base + 18}">{n}</text>')
    mark = left + 2 * result["classes"] / most * _WIDE
    parts.append(f'<path class="mark" d="M{mark:.1f} {top + 16}V{base}"/>')
    parts.append(f'<text class="soft" x="{mark + 5:.1f}" y="{base - 8}">2 a class</text>')
    for kind, (tone, _) in reversed(KINDS.items()):
        curve = result[kind]
        if "low" in curve:
            there = points(curve["answers"], curve["high"]).split("L")
            back = points(curve["answers"], curve["low"]).split("L")[::-1]
            parts.append(f'<path class="band {tone}" d="M{"L".join(there + back)}Z"/>')
        parts.append(f'<path class="curve {tone}" d="M{points(curve["answers"], curve["accuracy"])}"/>')
    return parts


def as_markdown(results: dict[str, dict[str, Any]]) -> str:
    """A line for each set of data and method: the share that is right at two answers a class, and answers to 95 %."""
    lines = [
        "| data | method | naming | random clips, learnt features | the same, untrained | naming: answers to 95 % |",
        "|---|---|---|---|---|---|",
    ]
    for name, found in results.items():
        for method in [m for m in METHODS if m in found]:
            result = found[method]
            budget = 2 * result["classes"]
            cells = [f"{np.interp(budget, result[k]['answers'], result[k]['accuracy']):.3f}" for k in list(KINDS)[1:]]
            reached = result["answers_to_95_percent"] or f"more than {result['naming']['answers'][-1]}"
            shown = f"{result['accuracy_at_2_a_class']:.3f}"
            lines.append(f"| `{name}` | {METHODS[method]} | {shown} | {cells[0]} | {cells[1]} | {reached} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("table", type=Path, nargs="?")
    parser.add_argument("runs", type=Path, nargs="*")
    parser.add_argument("--name", help="of the set of data; by default the table's folder")
    parser.add_argument("--answers", type=int, default=60)
    parser.add_argument("--orders", type=int, default=10)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--plot", action="store_true", help="draw what there is")
    given = parser.parse_args()
    results = json.loads(given.results.read_text()) if given.results.exists() else {}
    for run in given.runs:
        method = Model.load(run).config.method
        name = given.name or given.table.parent.name
        result = simulate(given.table, run, given.answers, given.orders)
        results.setdefault(name, {})[method] = result
        given.results.write_text(json.dumps(results, indent=1) + "\n")
        told = {k: result[k] for k in ("classes", "answers_to_95_percent", "accuracy_at_2_a_class")}
        print(name, method, told, flush=True)
    if given.plot:
        PICTURE.write_text(picture(results), encoding="utf-8")
        print(as_markdown(results))


if __name__ == "__main__":
    main()
