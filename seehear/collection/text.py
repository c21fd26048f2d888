"""Clusters and edits in words, for a terminal, and as JSON."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from seehear.collection.results import Edit


def counted(count: int, word: str) -> str:
    """1 segment, 2 segments."""
    return f"{count} {word}" if count == 1 else f"{count} {word}s"


def of_edit(edit: Edit, given: Mapping[str, Any]) -> str:
    """What was done."""
    return edit.text


def edit_as_json(edit: Edit) -> dict[str, Any]:
    """An edit's values."""
    return dataclasses.asdict(edit)


def of_edits(edits: Sequence[Edit], given: Mapping[str, Any]) -> str:
    """A line an edit, the latest first; those that were taken back are in brackets."""
    if not edits:
        return "nobody has edited this run"
    width = max(len(e.author) for e in edits)
    lines = []
    for edit in edits:
        told = edit.text if edit.active else f"({edit.text})"
        lines.append(f"{edit.when[:16].replace('T', ' ')}  {edit.author:<{width}}  {told}")
    return "\n".join(lines)


def edits_as_json(edits: Sequence[Edit]) -> list[dict[str, Any]]:
    """The edits' values."""
    return [edit_as_json(edit) for edit in edits]


def of_clusters(found: Mapping[str, Any], given: Mapping[str, Any]) -> str:
    """A line a cluster, the largest first, then what is in conflict."""
    clusters = sorted(found["clusters"], key=lambda c: -c["segments"])
    width = max([len(c["id"]) for c in clusters] + [len("cluster")])
    lines = [f"{'cluster':<{width}}{'segments':>10}{'minutes':>9}{'confidence':>12}{'confirmed':>11}  name"]
    for c in clusters:
        minutes, confidence = c["seconds"] / 60, f"{c['confidence']:.2f}"
        cells = f"{c['id']:<{width}}{c['segments']:>10}{minutes:>9.1f}{confidence:>12}{c['confirmed']:>11}"
        lines.append(f"{cells}  {c['name'] or ''}".rstrip())
    if doubtful := sum(c.get("doubtful", 0) for c in clusters):
        lines.append(f"{counted(doubtful, 'segment')} may belong to no kind (column doubt of an export)")
    if found["rejected"]:
        lines.append(f"{counted(found['rejected'], 'segment')} rejected")
    lines += [f"in conflict: {text}" for text in found["conflicts"]]
    return "\n".join(lines)


def of_export(count: int, given: Mapping[str, Any]) -> str:
    """How many segments were written, and where."""
    return f"{counted(count, 'segment')}: {given['out']}"


def of_sample(rows: Sequence[Mapping[str, Any]], given: Mapping[str, Any]) -> str:
    """The segments drawn, a line each, or where they were written."""
    if given["out"] is not None:
        return f"{counted(len(rows), 'segment')}: {given['out']}"
    return "\n".join(f"{row['clip']}  {row['name'] or 'cluster ' + row['cluster']}" for row in rows)
