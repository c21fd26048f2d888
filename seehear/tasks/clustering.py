"""How well clusters agree with given labels: scores, purity tables, and bringing the two together.

Measures are those of SeLaVi (Asano et al., 2020, section 4 and appendix A.4); the purity tables are those of
XDC (Alwassel et al., 2020, tables 6, 14 and 15). Nothing here chooses anything: labels are only compared.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_array
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from seehear.data.tables import read_table
from seehear.errors import DataError

METRICS = ("nmi", "ari", "accuracy", "mean_entropy_nats", "mean_max_purity")


@dataclass(frozen=True)
class ClusteringScores:
    """Agreement of a clustering with given labels."""

    nmi: float
    """Mutual information over the arithmetic mean of the two entropies (Eq. 8), 0 to 1."""
    ari: float
    """Adjusted Rand index (Eq. 9): 0 is chance, 1 is equality."""
    accuracy: float
    """Share of items whose cluster is matched to their class by the best one-to-one (Hungarian) matching.

    The numbers of clusters and classes may differ: items of clusters (or classes) left over count as wrong.
    """
    mean_entropy_nats: float
    """⟨H⟩, Eq. 10: entropy of the labels in a cluster; unweighted mean over the clusters with items."""
    mean_max_purity: float
    """⟨p_max⟩, Eq. 11: share of a cluster's most frequent label; unweighted mean over clusters with items."""
    n: int
    """Items compared."""
    k: int
    """Clusters with items among them."""
    classes: int
    """Different labels among them."""

    def as_dict(self) -> dict[str, float | int]:
        """The fields by name, for JSON."""
        return asdict(self)

    def as_text(self) -> str:
        """Two lines for a terminal: shares in per cent, the entropy in nats."""
        matching = "" if self.k == self.classes else " (matching is rectangular)"
        return (
            f"NMI {100 * self.nmi:.1f}  ARI {100 * self.ari:.1f}  accuracy {100 * self.accuracy:.1f}  "
            f"<H> {self.mean_entropy_nats:.2f} nats  <p_max> {100 * self.mean_max_purity:.1f}\n"
            f"{self.n} items, {self.k} clusters, {self.classes} classes{matching}"
        )


def clustering_scores(labels_true: Iterable[Any], labels_pred: Iterable[Any]) -> ClusteringScores:
    """Compare a clustering with labels, item by item; names or numbers on either side.

    Raises:
        DataError: no items, or not the same number on both sides.
    """
    _, true, _, predicted = _codes(labels_true, labels_pred)
    counts = _contingency(true, predicted)  # (clusters, classes)
    shares = counts / counts.sum(1, keepdims=True)
    entropies = -np.sum(shares * np.log(shares, where=shares > 0, out=np.zeros_like(shares)), axis=1)
    matched = counts[linear_sum_assignment(counts, maximize=True)].sum()
    return ClusteringScores(
        nmi=float(normalized_mutual_info_score(true, predicted)),
        ari=float(adjusted_rand_score(true, predicted)),
        accuracy=float(matched / len(true)),
        mean_entropy_nats=float(entropies.mean()),
        mean_max_purity=float(shares.max(1).mean()),
        n=len(true),
        k=counts.shape[0],
        classes=counts.shape[1],
    )


def nmi(a: Iterable[Any], b: Iterable[Any]) -> float:
    """Normalised mutual information (arithmetic mean) of two labellings of the same items, 0 to 1.

    Between the clusters of two rounds, 1 - nmi is the churn of the labels.
    """
    _, first, _, second = _codes(a, b)
    return float(normalized_mutual_info_score(first, second))


def mean_and_deviation(scores: Sequence[ClusteringScores]) -> dict[str, tuple[float, float]]:
    """Mean and standard deviation (n - 1; 0 for a single one) of each metric over heads or seeds."""
    if not scores:
        raise DataError("no scores to average")
    values = {name: [getattr(score, name) for score in scores] for name in METRICS}
    spread = 1 if len(scores) > 1 else 0
    return {name: (float(np.mean(v)), float(np.std(v, ddof=spread))) for name, v in values.items()}


@dataclass(frozen=True)
class ClusterRow:
    """One line of a purity table."""

    rank: int
    """From 1, the purest."""
    cluster: Any
    size: int
    purity: float
    """Share of the most frequent concept."""
    concepts: list[tuple[str, float]]
    """The most frequent concepts and their shares, falling."""

    def as_dict(self) -> dict[str, Any]:
        """The fields by name, for JSON."""
        return {**asdict(self), "concepts": [[name, share] for name, share in self.concepts]}

    def as_text(self) -> str:
        """As XDC prints it: `play cello(0.15), play trombone(0.11), ...`."""
        return ", ".join(f"{name}({share:.2f})" for name, share in self.concepts)


def purity_table(
    labels_true: Iterable[Any], labels_pred: Iterable[Any], top: int = 3, *, min_size: int = 1
) -> list[ClusterRow]:
    """All clusters by falling purity, with their `top` most frequent labels (XDC: 3 in table 6, 5 in 14, 15).

    Of equally pure clusters the larger comes first, then the lower number; equally frequent labels stand in
    alphabetical order. Clusters of fewer than `min_size` items, which are pure by chance, can be left out.

    Raises:
        DataError: no items, or not the same number on both sides.
    """
    names, true, clusters, predicted = _codes(labels_true, labels_pred)
    counts = _contingency(true, predicted)
    sizes = counts.sum(1)
    purities = counts.max(1) / sizes
    order = [c for c in np.lexsort((np.arange(len(sizes)), -sizes, -purities)) if sizes[c] >= min_size]
    rows = []
    for rank, c in enumerate(order, start=1):
        frequent = np.argsort(-counts[c], kind="stable")[:top]  # names are sorted, so ties are too
        concepts = [(str(names[i]), float(counts[c, i] / sizes[c])) for i in frequent if counts[c, i]]
        rows.append(ClusterRow(rank, clusters[c].item(), int(sizes[c]), float(purities[c]), concepts))
    return rows


def table_as_text(rows: Sequence[ClusterRow], ends: int | None = None) -> str:
    """A purity table in lines: rank, cluster, size, concepts; `ends` shows so many at the top and bottom."""
    cut = ends is not None and len(rows) > 2 * ends
    shown = [*rows[:ends], *rows[len(rows) - ends :]] if ends is not None and cut else list(rows)
    lines = [f"{'#':>4}  {'cluster':>7}  {'size':>6}  concepts"]
    for index, row in enumerate(shown):
        if cut and index == ends:
            lines.append(f"{'...':>4}")
        lines.append(f"{row.rank:>4}  {row.cluster!s:>7}  {row.size:>6}  {row.as_text()}")
    return "\n".join(lines)


def load_truth(
    path: str | Path,
    *,
    label_column: str = "label",
    id_columns: Sequence[str] = ("video_id", "video", "path"),
) -> dict[str, str]:
    """Labels by video from a table with a header: .csv, .tsv or .parquet.

    The first of `id_columns` that the table has identifies videos. Rows without a label are passed over.

    Raises:
        DataError: the file can't be read, lacks a column, has no labels, or gives one video two labels.
    """
    path = Path(path)
    columns = _read_columns(path)
    id_column = next((name for name in id_columns if name in columns), None)
    if id_column is None or label_column not in columns:
        wanted = label_column if id_column else " or ".join(id_columns)
        raise DataError(
            f"{path}: no column {wanted}; there are: {', '.join(columns) or 'none'}",
            "name the columns in the first line, e.g. `path,label`, or say which columns to take",
        )
    truth: dict[str, str] = {}
    clashes = []
    for key, label in zip(columns[id_column], columns[label_column], strict=True):
        if key in (None, "") or label in (None, ""):
            continue
        if truth.setdefault(str(key), str(label)) != str(label):
            clashes.append(f"{key} ({truth[str(key)]}, {label})")
    if clashes:
        raise DataError(
            f"{path}: {len(clashes)} videos have two labels: {_examples(clashes)}", "keep one line per video"
        )
    if not truth:
        raise DataError(f"{path}: no row has both a {id_column} and a {label_column}", "fill in the labels")
    return truth


def load_truth_of_rows(path: str | Path, rows: int, *, label_column: str = "label") -> dict[str, str]:
    """Labels by number of row ("0", "1", ...) for features that have no ids.

    The table names its rows in a column `row`, or it has exactly as many lines as there are rows, in their order.

    Raises:
        DataError: neither is so, or what `load_truth` raises.
    """
    path = Path(path)
    columns = _read_columns(path)
    if "row" in columns:
        return load_truth(path, label_column=label_column, id_columns=("row",))
    if label_column not in columns:
        raise DataError(
            f"{path}: no column {label_column}; there are: {', '.join(columns) or 'none'}",
            "name the columns in the first line, e.g. `row,label`",
        )
    if len(columns[label_column]) != rows:
        raise DataError(
            f"{path}: {len(columns[label_column])} lines for {rows} rows of features that have no ids",
            "give one line for each row in their order, or a column `row` with their numbers from 0",
        )
    truth = {str(row): str(label) for row, label in enumerate(columns[label_column]) if label not in (None, "")}
    if not truth:
        raise DataError(f"{path}: no row has a {label_column}", "fill in the labels")
    return truth


@dataclass(frozen=True)
class Match:
    """Predictions and truth of the videos that both sides know."""

    ids: list[str]
    """Ids as the predictions spell them, in their order."""
    y_true: list[str]
    y_pred: list[Any]
    unmatched_truth: list[str]
    unmatched_predictions: list[str]
    by: dict[str, int] = field(default_factory=dict)
    """How many videos were matched by `id`, and by which end of the path, with its extension or without."""

    def as_text(self) -> str:
        """What was matched and what was not, with examples."""
        lines = [f"{len(self.ids)} videos matched (" + ", ".join(f"{n} by {how}" for how, n in self.by.items()) + ")"]
        for side, left in (("truth", self.unmatched_truth), ("predictions", self.unmatched_predictions)):
            if left:
                lines.append(f"{len(left)} only in the {side}: {_examples(left)}")
        return "\n".join(lines)


def prevailing_cluster(videos: Sequence[str], clusters: Sequence[int], weights: Sequence[float]) -> dict[str, int]:
    """For each video the cluster that weighs most in it; of equal ones the smallest number."""
    found: dict[str, dict[int, float]] = {}
    for video, cluster, weight in zip(videos, clusters, weights, strict=True):
        of_video = found.setdefault(video, {})
        of_video[cluster] = of_video.get(cluster, 0.0) + weight
    return {video: max(sorted(of), key=lambda c: of[c]) for video, of in found.items()}


def match(truth: Mapping[str, str], predictions: Mapping[str, Any]) -> Match:
    """Join labels and predictions by video id.

    First by equal ids. What is left is matched by the ends of the two paths, from the longest to the bare
    file name, with and then without the extension, and only where that end occurs once among all ids on
    either side: an ambiguous name matches nothing.

    Raises:
        DataError: nothing matches; the message shows ids of both sides.
    """
    pairs = {key: key for key in predictions if key in truth}
    by = Counter({"id": len(pairs)} if pairs else {})
    depth = max((len(_parts(key)) for key in [*truth, *predictions]), default=0)
    taken = set(pairs)
    for parts in range(depth, 0, -1):
        for extension in (True, False):
            if len(pairs) == len(predictions):
                break
            theirs, ours = _unique_ends(truth, parts, extension), _unique_ends(predictions, parts, extension)
            name = "file name" if parts == 1 else f"last {parts} parts of the path"
            for end, key in ours.items():
                if key is None or key in pairs or (other := theirs.get(end)) is None or other in taken:
                    continue
                pairs[key] = other
                taken.add(other)
                by[name if extension else f"{name} without extension"] += 1
    if not pairs:
        raise DataError(
            f"no video is in both truth ({_examples(truth)}) and predictions ({_examples(predictions)})",
            "give the truth by video id, path or file name",
        )
    ids = [key for key in predictions if key in pairs]
    return Match(
        ids=ids,
        y_true=[truth[pairs[key]] for key in ids],
        y_pred=[predictions[key] for key in ids],
        unmatched_truth=[key for key in truth if key not in taken],
        unmatched_predictions=[key for key in predictions if key not in pairs],
        by=dict(by),
    )


def _parts(key: str) -> tuple[str, ...]:
    return PurePosixPath(key.replace("\\", "/")).parts


def _unique_ends(keys: Iterable[str], parts: int, extension: bool) -> dict[tuple[str, ...], str | None]:
    """The id for each end of a path; None for an end that several ids share."""
    found: dict[tuple[str, ...], str | None] = {}
    for key in keys:
        end = _parts(key)
        if len(end) < parts:
            continue
        end = end[-parts:] if extension else (*end[-parts:-1], PurePosixPath(end[-1]).stem)
        found[end] = None if end in found else key
    return found


def _examples(keys: Iterable[str], count: int = 3) -> str:
    keys = list(keys)
    return ", ".join(keys[:count]) + (", ..." if len(keys) > count else "")


def _read_columns(path: Path) -> dict[str, list[str | None]]:
    """Columns of a table by name, without the spaces around its cells."""
    table = read_table(path)
    return {name: [cell and cell.strip() for cell in table.column(name)] for name in table.names}


def _codes(a: Iterable[Any], b: Iterable[Any]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Sorted names and codes 0, 1, ... of two labellings of the same items."""
    first, second = (np.asarray(side if isinstance(side, np.ndarray) else list(side)) for side in (a, b))
    if first.shape != second.shape or first.ndim != 1 or not len(first):
        raise DataError(
            f"labels of shape {first.shape} and clusters of shape {second.shape} cannot be compared",
            "both need one entry for each of at least one item",
        )
    first_names, first_codes = np.unique(first, return_inverse=True)
    second_names, second_codes = np.unique(second, return_inverse=True)
    return first_names, first_codes, second_names, second_codes


def _contingency(true: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """(clusters, classes): how many items of each class are in each cluster."""
    shape = (int(predicted.max()) + 1, int(true.max()) + 1)
    return coo_array((np.ones(len(true), dtype=np.int64), (predicted, true)), shape=shape).toarray()
