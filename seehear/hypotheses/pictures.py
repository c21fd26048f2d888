"""A specification to look at: the tree that it samples and which pairs it compares, as text and as SVG.

The picture is figure 1 of the GDT paper for any specification: A, the tree of transformations below two clips; B, the
matrix of c(T, T') where w(T, T') = 1. Each row of the matrix stands beside the leaf that it belongs to.
"""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np

from seehear.errors import UsageError
from seehear.hypotheses.factors import Factor, Modalities
from seehear.hypotheses.language import Hypotheses, Named

SAMPLES = 2
MOST_LEAVES = 64
"""More transformations than these are not drawn; nobody could read them."""
ATTRACT, REPEL, APART = "1", "0", "·"
_COMPARED = {"cross": "of different modalities", "within": "of one modality", "all": "of any two modalities"}


@dataclass(frozen=True)
class Node:
    """A value in the sampling tree."""

    text: str
    first: int
    """Number of the first leaf below it."""
    last: int
    children: tuple[Node, ...]


def levels(spec: Hypotheses) -> list[int]:
    """The factors that branch, by their place in the specification; sample and modality always count."""
    shown = ("sample", "modality")
    return [i for i, f in enumerate(spec.factors) if f.count > 1 or f.name in shown]


def tree(spec: Hypotheses) -> list[Node]:
    """The transformations of `SAMPLES` clips, a node for each value of each level."""
    _, codes = spec.example(SAMPLES)
    return _grow(spec, levels(spec), codes, 0, len(codes))


def _grow(spec: Hypotheses, depths: list[int], codes: np.ndarray, first: int, end: int) -> list[Node]:
    if not depths:
        return []
    column, nodes = codes[first:end, depths[0]], []
    borders = [first, *(first + 1 + np.flatnonzero(column[1:] != column[:-1])), end]
    for rank, (a, b) in enumerate(itertools.pairwise(borders)):
        text = spec.factors[depths[0]].worded(int(codes[a, depths[0]]), rank)
        nodes.append(Node(text, int(a), int(b) - 1, tuple(_grow(spec, depths[1:], codes, int(a), int(b)))))
    return nodes


def matrix(spec: Hypotheses) -> list[str]:
    """A row for each transformation of `SAMPLES` clips, a character for each pair: `ATTRACT`, `REPEL` or `APART`."""
    _, codes = spec.example(SAMPLES)
    w = spec.compared(codes, codes) & ~np.eye(len(codes), dtype=bool)
    cells = np.where(w, np.where(spec.contrast(codes, codes), ATTRACT, REPEL), APART)
    return ["".join(row) for row in cells]


def values_of(factor: Factor) -> str:
    """How many values of a factor are sampled, or which."""
    if isinstance(factor, Modalities):
        return "+".join(factor.names)
    return "the batch" if factor.name == "sample" else str(factor.count)


def in_words(spec: Hypotheses) -> list[str]:
    """What attracts and what is compared, in sentences."""
    told: dict[str, list[str]] = {"distinct": [], "invariant": [], "ignore": []}
    for factor in spec.factors:
        told[factor.hypothesis].append(factor.name)
    agree = f"agree in {_joined(told['distinct'])}" if told["distinct"] else "are compared"
    whatever = f", whatever their {_joined(told['invariant'])}" if told["invariant"] else ""
    lines = [f"Two transformations attract if they {agree}{whatever}, and repel otherwise."]
    conditions = [_COMPARED[spec.pairs]] if len(spec.modalities) > 1 else []
    conditions += [f"of equal {_joined(told['ignore'])}"] if told["ignore"] else []
    lines.append(f"Compared are {'transformations ' + ' and '.join(conditions) if conditions else 'all'}.")
    return lines


def sizes(spec: Hypotheses, batch_size: int) -> str:
    """K of a clip and of a batch."""
    counts = [len(f.names) if isinstance(f, Modalities) else f.count for f in spec.factors if f.name != "sample"]
    k = spec.transformations_per_sample
    factors = [str(n) for n in counts if n > 1]
    product = f"{' · '.join(factors)} = {k}" if len(factors) > 1 and not any(f.only for f in spec.factors) else str(k)
    return f"K = {product} transformations a clip; {batch_size * k} in a batch of {batch_size} clips"


def result_of(named: Named) -> str:
    """The numbers that the paper reports for a named specification, or nothing."""
    parts = [] if named.accuracy is None else [f"accuracy {named.accuracy} %"]
    parts += [] if named.recall5 is None else [f"recall at 5 {named.recall5} %"]
    return f"HMDB-51 in the paper: {', '.join(parts)}" if parts else ""


def summary(spec: Hypotheses, named: Named | None) -> dict[str, Any]:
    """A specification in short, for scripts."""
    return {
        "specification": str(spec),
        "meaning": named.meaning if named else None,
        "transformations_per_sample": spec.transformations_per_sample,
        "hmdb_accuracy": named.accuracy if named else None,
        "hmdb_recall_at_5": named.recall5 if named else None,
    }


def listed(specs: Mapping[str, tuple[Hypotheses, Named]]) -> str:
    """A line for each specification: name, K, the paper's numbers, meaning."""
    lines = [f"{'name':<14} {'K':>3} {'HMDB':>6} {'r@5':>6}  meaning"]
    for name, (spec, named) in specs.items():
        numbers = ("" if x is None else f"{x:.1f}" for x in (named.accuracy, named.recall5))
        cells = " ".join(f"{n:>6}" for n in numbers)
        lines.append(f"{name:<14} {spec.transformations_per_sample:>3} {cells}  {named.meaning}")
    note = "K: transformations a clip. HMDB, r@5: accuracy and retrieval on HMDB-51 in the paper, per cent."
    return "\n".join([*lines, "", note])


def as_text(spec: Hypotheses, named: Named | None = None, batch_size: int = 32) -> str:
    """All of it, for a terminal."""
    head = ("factor", "hypothesis", "values", "meaning")
    rows = [head, *((f.name, f.hypothesis, values_of(f), f.meaning) for f in spec.factors)]
    widths = [max(len(row[i]) for row in rows) for i in range(3)]
    lines = [str(spec)]
    if named is not None:
        lines += [line for line in (named.meaning, result_of(named)) if line]
    lines.append("")
    lines += ["  ".join([*(cell.ljust(w) for cell, w in zip(row, widths, strict=False)), row[3]]) for row in rows]
    lines += ["", *in_words(spec), sizes(spec, batch_size), ""]
    lines += _tree_and_matrix(spec)
    return "\n".join(line.rstrip() for line in lines)


def _tree_and_matrix(spec: Hypotheses) -> list[str]:
    cells = matrix(spec)
    if len(cells) > MOST_LEAVES:
        return [f"{len(cells)} transformations of {SAMPLES} clips are too many to draw"]
    drawn: list[tuple[str, int | None]] = []
    for node in tree(spec):
        _branch(node, "", "", drawn)
    width, digits = max(len(text) for text, _ in drawn), len(str(len(cells)))
    number = [f"{i + 1:>{digits}}" for i in range(len(cells))]
    per_clip = len(cells) // SAMPLES

    def spread(row: list[str]) -> str:
        return "   ".join(" ".join(row[i : i + per_clip]) for i in range(0, len(row), per_clip))

    lines = [" " * (width + digits + 4) + spread(number)]
    for text, leaf in drawn:
        row = "" if leaf is None else f"{number[leaf]}  {spread([c.rjust(digits) for c in cells[leaf]])}"
        lines.append(f"{text:<{width}}  {row}")
    return [*lines, "", f"{ATTRACT} attract   {REPEL} repel   {APART} not compared"]


def _branch(node: Node, before: str, below: str, drawn: list[tuple[str, int | None]]) -> None:
    drawn.append((before + node.text, None if node.children else node.first))
    for child in node.children:
        end = child is node.children[-1]
        _branch(child, below + ("└─ " if end else "├─ "), below + ("   " if end else "│  "), drawn)


def as_data(spec: Hypotheses, named: Named | None = None) -> dict[str, Any]:
    """All of it, for scripts; `matrix` is of the transformations of `SAMPLES` clips, named in `transformations`."""
    leaves: list[list[str]] = []

    def walk(nodes: tuple[Node, ...] | list[Node], path: list[str]) -> None:
        for node in nodes:
            walk(node.children, [*path, node.text])
            if not node.children:
                leaves.append([*path, node.text])

    walk(tree(spec), [])
    return {
        **summary(spec, named),
        "factors": [
            {"name": f.name, "hypothesis": f.hypothesis, "values": values_of(f), "meaning": f.meaning}
            for f in spec.factors
        ],
        "pairs": spec.pairs,
        "transformations": leaves,
        "matrix": matrix(spec),
    }


_STYLE = """
 .ground{fill:#fff} text{font:13px system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif;fill:#1c1d21}
 .title{font-size:16px;font-weight:600} .soft{fill:#5a5e68} .middle{text-anchor:middle} .end{text-anchor:end}
 .small{font-size:11px} .link{fill:none;stroke:#9aa0ac;stroke-width:1.2}
 .node{fill:#f1f0ec;stroke:#c9c6bb} .cell{stroke:#fff}
 .c1{fill:#2456b8} .c0{fill:#f3c9a8} .cx{fill:#efeeea}
 .t1{fill:#fff;font-weight:600} .t0{fill:#5c2a06} .tx{fill:#8b8f98} .cut{stroke:#1c1d21;stroke-width:1.5}
 @media (prefers-color-scheme: dark){
 .ground{fill:#16171b} text{fill:#ececee} .soft{fill:#a7abb5} .link{stroke:#6a6f7b}
 .node{fill:#282b32;stroke:#464a55} .cell{stroke:#16171b}
 .c1{fill:#84aef8} .c0{fill:#6b3a17} .cx{fill:#23252b}
 .t1{fill:#10131a} .t0{fill:#ffd3b0} .tx{fill:#7f8490} .cut{stroke:#ececee}}
"""
_CELL, _LEVEL, _NODE, _EDGE = 24, 116, 88, 24


def as_svg(spec: Hypotheses, named: Named | None = None, batch_size: int = 32) -> str:
    """All of it as a picture that follows the light or dark scheme of its reader and has its own ground.

    Raises `UsageError` if there are more than `MOST_LEAVES` transformations.
    """
    cells, depths, nodes = matrix(spec), levels(spec), tree(spec)
    if len(cells) > MOST_LEAVES:
        raise UsageError(f"{len(cells)} transformations of {SAMPLES} clips are too many to draw")
    words = [*([named.meaning] if named else []), *in_words(spec), sizes(spec, batch_size)]
    words += [result_of(named)] if named and result_of(named) else []
    side = _CELL * len(cells)
    left = _EDGE + _LEVEL * len(depths) + 30
    width = max(left + side + _EDGE, 640)
    # Letters are as wide as this on average in the fonts of `_STYLE`, the widest of them taken.
    head = textwrap.wrap(str(spec), int((width - 2 * _EDGE) / 9.2))
    words = [line for said in words for line in textwrap.wrap(said, int((width - 2 * _EDGE) / 7))]
    above = 34 + 21 * len(head) + 20 * len(words)
    top = above + 62
    height = top + side + 48
    parts: list[str] = []

    def text(x: float, y: float, said: str, kind: str = "") -> None:
        parts.append(f'<text x="{x:g}" y="{y:g}"' + (f' class="{kind}"' if kind else "") + f">{escape(said)}</text>")

    for i, line in enumerate(head):
        text(_EDGE, 36 + 21 * i, line, "title")
    for i, line in enumerate(words):
        text(_EDGE, 36 + 21 * len(head) + 20 * i, line, "soft")
    for depth, column in enumerate(depths):
        factor, x = spec.factors[column], _EDGE + _LEVEL * depth + _NODE / 2
        text(x, above + 28, f"{factor.letter}  {factor.name}", "middle")
        text(x, above + 44, factor.hypothesis, "middle small soft")
    for node in nodes:
        _draw(node, 0, top, parts)
    _draw_matrix(cells, left, top, parts)
    legend = ((ATTRACT, "attract"), (REPEL, "repel"), (APART, "not compared"))
    for i, (mark, said) in enumerate(legend):
        x, kind = _EDGE + 130 * i, mark if mark != APART else "x"
        parts.append(f'<rect class="c{kind}" x="{x}" y="{top + side + 16}" width="20" height="20" rx="3"/>')
        text(x + 10, top + side + 30, mark, f"middle t{kind}")
        text(x + 28, top + side + 31, said)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" width="{width:g}" '
        f'height="{height:g}" role="img" aria-label="{escape(str(spec))}"><style>{_STYLE}</style>'
        f'<rect class="ground" width="100%" height="100%"/>{"".join(parts)}</svg>\n'
    )


def _draw(node: Node, depth: int, top: float, parts: list[str]) -> float:
    """Draw a node and what is below it; returns the height of its middle."""
    x = _EDGE + _LEVEL * depth
    y = top + _CELL * (node.first + node.last + 1) / 2
    for child in node.children:
        below = _draw(child, depth + 1, top, parts)
        turn = x + _NODE + (_LEVEL - _NODE) / 2
        parts.append(f'<path class="link" d="M{x + _NODE} {y:g}H{turn:g}V{below:g}H{x + _LEVEL}"/>')
    parts.append(f'<rect class="node" x="{x}" y="{y - 10:g}" width="{_NODE}" height="20" rx="10"/>')
    parts.append(f'<text class="middle" x="{x + _NODE / 2:g}" y="{y + 4.5:g}">{escape(node.text)}</text>')
    return y


def _draw_matrix(cells: list[str], left: float, top: float, parts: list[str]) -> None:
    side = _CELL * len(cells)
    for i, row in enumerate(cells):
        middle = _CELL * (i + 0.5)
        number = f'class="small soft {{}}">{i + 1}</text>'
        parts.append(f'<text x="{left - 8:g}" y="{top + middle + 4:g}" ' + number.format("end"))
        parts.append(f'<text x="{left + middle:g}" y="{top - 6:g}" ' + number.format("middle"))
        for j, mark in enumerate(row):
            kind, x, y = mark if mark != APART else "x", left + _CELL * j, top + _CELL * i
            parts.append(f'<rect class="cell c{kind}" x="{x:g}" y="{y:g}" width="{_CELL}" height="{_CELL}"/>')
            parts.append(f'<text class="middle t{kind}" x="{x + 12:g}" y="{y + 16.5:g}">{mark}</text>')
    for clip in range(1, SAMPLES):
        at = side * clip / SAMPLES
        parts.append(f'<path class="cut" d="M{left:g} {top + at:g}h{side}M{left + at:g} {top:g}v{side}"/>')


def _joined(names: list[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else names[0]
