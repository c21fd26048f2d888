"""Labels of the segments of an index: by the run's clusters, or where it has none by clusters of the features."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from seehear.cluster.doubt import THRESHOLD
from seehear.data.clips import make_ref
from seehear.engine.runfolder import RunFolder
from seehear.features.bank import FeatureBank
from seehear.features.headlabels import exemplar_ranks
from seehear.features.model import LABELLING_OF, Model
from seehear.labelling.features import cluster_features
from seehear.search.layout import BY, Content, Labels


def label_content(content: Content, model: Model | None, run: RunFolder, model_sha: str) -> dict[str, str]:
    """Label a content by every labelling that there is; the key of each (see `Index.labels_key`).

    Features of the model are labelled by it. Those of another encoder (`model` None) have the labels that the run gave
    to the same spans, in its table of labels; where these are not all there, or the model has no clusters, the features
    are clustered. Doubtful segments come last among the examples of their clusters.
    """
    made = _by_model(content, model) if model is not None else _of_spans(content, run.labels)
    keys = {by: _key(by, model_sha) for by in made}
    if not made:
        made["both"], told = _by_features(content)
        keys["both"] = _key("both", told)
    content.labels, content.doubt = made, run_doubt(content, run)
    if content.doubt is not None:
        for labels in made.values():
            rows = np.flatnonzero(labels.cluster >= 0)
            doubtful = content.doubt[rows] >= THRESHOLD
            labels.rank[rows] = exemplar_ranks(labels.cluster[rows], labels.distance[rows], doubtful)
    return keys


def run_doubt(content: Content, run: RunFolder) -> np.ndarray | None:
    """The doubt (N,) float32 of each segment: that of the span in the run's labels which holds the segment's middle.

    Of several spans the one that begins last. Videos are known by their content, as their ids are others where they
    were scanned from another folder. NaN: the run has no such video or span, or does not say; None: of no segment.
    """
    if not run.labels.exists() or "doubt" not in pq.read_schema(run.labels).names:
        return None
    known = pq.read_table(run.manifest, columns=["video_id", "fingerprint"])
    of_id = dict(zip(known["video_id"].to_pylist(), known["fingerprint"].to_pylist(), strict=True))
    place_of = {video.identity.fingerprint: place for place, video in enumerate(content.videos)}
    table = pq.read_table(run.labels, columns=["video_id", "start_seconds", "end_seconds", "doubt"])
    place = np.array([place_of.get(of_id.get(i), -1) for i in table["video_id"].to_pylist()], dtype=np.int64)
    start, end, doubt = (table[n].to_numpy() for n in ("start_seconds", "end_seconds", "doubt"))
    order = np.lexsort((start, place))
    place, start, end, doubt = place[order], start[order], end[order], doubt[order]
    found = np.full(len(content.video), np.nan, dtype=np.float32)
    middle = (content.start_seconds + content.end_seconds) / 2
    first, last = (np.searchsorted(place, content.video, side) for side in ("left", "right"))
    for row in np.flatnonzero(last > first).tolist():
        at = first[row] + int(np.searchsorted(start[first[row] : last[row]], middle[row], "right")) - 1
        if at >= first[row] and middle[row] < end[at]:
            found[row] = doubt[at]
    return found if np.isfinite(found).any() else None


def _by_model(content: Content, model: Model) -> dict[str, Labels]:
    found = {by: _by_labelling(content, model, LABELLING_OF[by]) for by in BY}
    return {by: labels for by, labels in found.items() if labels is not None}


def _of_spans(content: Content, path: Path) -> dict[str, Labels]:
    """The run's labels of exactly these segments; none if it has not labelled every one of them."""
    if not path.exists():
        return {}
    table = pq.read_table(path)
    ids, starts, ends = (table[n].to_pylist() for n in ("video_id", "start_seconds", "end_seconds"))
    row_of = {_span(*key): row for row, key in enumerate(zip(ids, starts, ends, strict=True))}
    spans = zip(content.video.tolist(), content.start_seconds.tolist(), content.end_seconds.tolist(), strict=True)
    rows = [row_of.get(_span(content.videos[v].video_id, start, end)) for v, start, end in spans]
    if None in rows:
        return {}
    order = np.array(rows, dtype=np.int64)
    made = {}
    for by in BY:
        if f"cluster_{by}" in table.column_names:
            read = {n: table[f"{n}_{by}"].to_numpy()[order] for n in ("cluster", "confidence", "distance")}
            made[by] = _spread(len(order), np.arange(len(order)), read["cluster"], read["confidence"], read["distance"])
    return made


def _span(video_id: str, start: float, end: float) -> tuple[str, int, int]:
    return video_id, round(start * 1000), round(end * 1000)


def _key(*parts: str) -> str:
    return hashlib.blake2b("\0".join(parts).encode(), digest_size=8).hexdigest()


def _by_labelling(content: Content, model: Model, labelling: str) -> Labels | None:
    """The model's labels by one labelling, of the rows that have what it looks at; None if it has no such labelling.

    By several encoders, a row that lacks one stream has the label of the other alone: by heads as `seehear label` gives
    it, by centroids with the mean of the collection in the place of what is lacking.
    """
    parts = labelling.split("+")
    if not all(name in content.features for name in parts):
        return None
    there = np.stack([np.isfinite(content.features[name][:, 0]) for name in parts])
    rows = np.flatnonzero(there.any(0))
    if not len(rows):
        return None
    features = {name: np.array(content.features[name][rows]) for name in parts}
    if model.heads is None or model.clusters:
        for name, has in zip(parts, there[:, rows], strict=True):
            if not has.all():
                features[name][~has] = features[name][has].mean(0) if has.any() else 0.0
    # Labels depend on the features alone; the refs only need to be as many.
    refs = [make_ref(str(row), 0.0, 0.0) for row in rows]
    found = model.labels(FeatureBank(refs, features, np.ones(len(rows), dtype=bool)), labelling)
    if found is None:
        return None
    return _spread(len(content.video), rows, found["cluster"], found["confidence"], found["distance"])


def _by_features(content: Content) -> tuple[Labels, str]:
    """k-means of the features (see `seehear cluster`), and what names this clustering."""
    names = sorted(content.features)
    rows = np.flatnonzero(np.all([np.isfinite(content.features[n][:, 0]) for n in names], axis=0))
    if not len(rows):
        rows = np.flatnonzero(np.isfinite(content.features[names[0]][:, 0]))
        names = names[:1]
    bank = FeatureBank([], {n: np.array(content.features[n][rows]) for n in names}, np.ones(0, dtype=bool))
    x = bank.joined("+".join(names))
    k = cluster_count(len(rows))
    found = cluster_features(x, k)
    cluster = found.table["cluster"].to_numpy().astype(np.int32)
    confidence = found.table["confidence"].to_numpy()
    rank = found.table["exemplar_rank"].to_numpy().astype(np.float32)  # in the place of the distance: it orders alike
    digest = hashlib.blake2b(np.ascontiguousarray(x).tobytes(), digest_size=16).hexdigest()
    return _spread(len(content.video), rows, cluster, confidence, rank), f"{digest} k={k}"


def cluster_count(rows: int) -> int:
    """How many clusters so many segments are put in where no run says it: half the root of their number, 2 to 64."""
    return max(1, min(64, rows, max(2, round(rows**0.5 / 2))))


def _spread(count: int, rows: np.ndarray, cluster: np.ndarray, confidence: np.ndarray, distance: np.ndarray) -> Labels:
    """Labels of some rows among `count`; the others have none: cluster -1, confidence 0, rank 0."""
    made = Labels(
        np.full(count, -1, dtype=np.int32), np.zeros(count, dtype=np.float32),
        np.full(count, np.inf, dtype=np.float32), np.zeros(count, dtype=np.int32),
    )  # fmt: skip
    made.cluster[rows], made.confidence[rows], made.distance[rows] = cluster, confidence, distance
    made.rank[rows] = exemplar_ranks(cluster, distance)
    return made
