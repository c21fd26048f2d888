"""Results of localisation in words, for a terminal. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from seehear.metrics.text import failure_lines

if TYPE_CHECKING:
    import pyarrow as pa


def of_localizer(result: Mapping[str, Any], given: Mapping[str, Any]) -> str:
    """The scores of a new localiser, and where it is."""
    return f"{scores_table(result)}\nlocaliser: {given['out']}"


def of_detections(table: pa.Table, given: Mapping[str, Any]) -> str:
    """How many detections were written, and where."""
    return f"{table.num_rows} detections: {given['out']}"


def scores_table(result: Mapping[str, Any]) -> str:
    """What was done with which videos, then a row for each setting."""
    modality, missing = result["modality"], result["missing"]
    chosen = result["chosen"][modality]
    lines = [
        f"{result['protocol']}: {result['description']} ({modality}, every {result['stride_seconds']:g} s at most)",
        f"learnt from {result['train_videos']} videos with {result['train_segments']} segments in "
        f"{chosen['epochs']} epochs",
    ]
    lines += [
        f"left out of {part}: " + ", ".join(f"{n} {why.replace('_', ' ')}" for why, n in counts.items() if n)
        for part, counts in missing.items()
        if any(counts.values())
    ]
    if result["scores"]:
        groups = result.get("baselines", {})
        lines.append(f"tested once on {result['test_videos']} videos with {result['test_segments']} segments")
        head = "".join(f"{group.replace('_', ' '):>18}" for group in groups)
        lines.append(f"{'':<14}{'score':>8}{'95 % interval':>16}{head}")
        for setting, score in result["scores"][modality].items():
            cells = f"{setting:<14}{score['value']:>8.3f}{score['low']:>10.3f}-{score['high']:.3f}"
            lines.append(cells + "".join(f"{g[modality][setting]['value']:>18.3f}" for g in groups.values()))
        if result["unknown_classes"]:
            lines.append(f"classes of the test subset never learnt: {', '.join(result['unknown_classes'])}")
    else:
        lines.append("no test subset, so nothing is scored")
    return "\n".join(lines + failure_lines(result.get("failures", [])))
