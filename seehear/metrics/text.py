"""Scores of clusterings as tables for a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_COLUMNS = (("nmi", "NMI"), ("ari", "ARI"), ("accuracy", "accuracy"), ("mean_entropy_nats", "entropy"),
            ("mean_max_purity", "purity"), ("k", "clusters"))  # fmt: skip


def clustering_table(result: Mapping[str, Any]) -> str:
    """A row for each modality, baseline, degradation and summary of heads of a result."""
    lines = [f"{result['videos']} videos with a known class"]
    unmatched = result["unmatched"]
    if any(unmatched.values()):
        lines[0] += f" ({unmatched['truth']} classes without a video, {unmatched['run']} videos without a class)"
    lines.append(f"{'':<20}" + "".join(f"{title:>10}" for _, title in _COLUMNS))
    groups = {"": result["scores"], **result.get("baselines", {})}
    degraded = result.get("degraded", {"scores": {}, "failures": []})
    groups |= {f"1/{factor}": scores for factor, scores in degraded["scores"].items()}
    for group, scores in groups.items():
        for modality, score in scores.items():
            cells = "".join(
                f"{score[key]:>10}" if isinstance(score[key], int) else f"{score[key]:>10.3f}" for key, _ in _COLUMNS
            )
            lines.append(f"{(group + ' ' + modality).strip():<20}{cells}")
    for modality, of_heads in result.get("heads", {}).items():
        for part, title in (("mean", "heads' mean"), ("sd", "heads' sd")):
            cells = "".join(f"{of_heads[key][part]:>10.3f}" for key, _ in _COLUMNS if key in of_heads)
            lines.append(f"{modality + ', ' + title:<20}{cells}")
    return "\n".join(lines + failure_lines(degraded["failures"]))


def purity_tables(result: Mapping[str, Any]) -> str:
    """Clusters ranked by purity, as in tables 6, 14 and 15 of the XDC paper."""
    lines = []
    for modality, rows in result["purity"].items():
        lines.append(f"\n{modality} clusters by purity")
        for row in rows:
            concepts = ", ".join(f"{name}({share:.2f})" for name, share in row["concepts"])
            lines.append(f"{row['rank']:>4}  cluster {row['cluster']:<4} {row['size']:>5} videos  {concepts}")
    return "\n" + "\n".join(lines)


def failure_lines(reports: Any) -> list[str]:
    """A line for each video that failed."""
    return [f"left out: {f['path']}: {f['reason']}: {f['detail']}" for f in reports]
