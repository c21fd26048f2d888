"""Results of labelling in words, for a terminal. Imports no torch."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from seehear.errors import DataError
from seehear.metrics.text import clustering_table

if TYPE_CHECKING:
    import pyarrow as pa

    from seehear.cluster.stability import Stability
    from seehear.labelling.features import LabelledFeatures
    from seehear.parts import Written


def of_labels(table: Any, given: Mapping[str, Any]) -> str:
    """How many segments are in how many clusters, and which were labelled by one stream alone."""
    if given["part"] is not None or given["engine"] != "local":
        return of_segments(table, given)
    lines = []
    if "labelled_by" in table.column_names:
        by = table["labelled_by"].to_pylist()
        for modality, sense in (("video", "sight"), ("audio", "sound")):
            if modality in by:
                count = by.count(modality)
                lines.append(f"by {sense} alone, for want of the other: {count} segments (column labelled_by)")
    facts = json.loads((table.schema.metadata or {}).get(b"seehear.kinds", b"{}"))
    if "text" in facts:
        lines.append(facts["text"])
    if "doubt" in table.column_names and (count := _doubtful(table["doubt"].to_pylist())):
        lines.append(f"{count} segments are doubtful: few others look and sound like them (column doubt)")
    if given["plot"] is not None:
        lines.append(str(given["plot"]))
    clusters = len(set(table["cluster"].to_pylist()))
    return "\n".join([*lines, f"{table.num_rows} segments in {clusters} clusters: {given['out']}"])


def _doubtful(doubt: Sequence[float | None]) -> int:
    """How many segments belong to no kind, as it seems."""
    from seehear.cluster.doubt import THRESHOLD

    return sum(value is not None and value >= THRESHOLD for value in doubt)


def of_segments(table: pa.Table | Written, given: Mapping[str, Any]) -> str:
    """How many segments were written, and where."""
    if given["part"] is not None:
        return f"{table.num_rows} segments: part {given['part']} is done; when all are: seehear join {given['out']}"
    return f"{table.num_rows} segments: {given['out']}"


def of_features(result: LabelledFeatures, given: Mapping[str, Any]) -> str:
    """The estimate of a number of clusters, their sizes, and scores, as far as there are any."""
    lines: list[str] = []
    if result.estimate is not None:
        lines += [_estimate(result.estimate.table), result.estimate.as_text()]
        if given["plot"] is not None:
            lines.append(str(given["plot"]))
    if result.table is not None:
        out = "" if given["out"] is None else f": {given['out']}"
        sizes = sorted(result.facts["sizes"])
        lines.append(f"{result.table.num_rows} rows in {result.facts['k']} clusters of {sizes[0]} to {sizes[-1]}{out}")
        if not result.facts.get("converged", True):
            lines.append("the labels had not come to rest when the iterations ended")
    if result.scores:
        lines.append(clustering_table(result.scores))
    return "\n".join(lines)


def check_labelled(result: LabelledFeatures) -> int:
    """Exit code 0; raises `DataError` if there was no number of clusters to label with."""
    if result.unlabelled:
        raise DataError("no number of clusters could be estimated, so there are no labels", "choose one: -k 10")
    return 0


def _estimate(table: Sequence[Stability]) -> str:
    lines = [f"{'clusters':>8}{'stability':>11}{'without clusters':>18}{'steadier':>10}{'p':>7}"]
    for s in table:
        reference = f"{s.reference:.3f} ± {s.reference_sd:.3f}"
        lines.append(f"{s.k:>8}{s.stability:>11.3f}{reference:>18}{s.steadier:>9.1f}x{s.p_value:>7.2f}")
    return "\n".join(lines)
