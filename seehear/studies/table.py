"""The table of a study: our lines with the paper's numbers beside them, as Markdown and as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from seehear.studies.base import Column, Line, Question, Study
from seehear.transfer.table import IN_UNITS, Published, published


@dataclass(frozen=True)
class Row:
    """A line of the table: ours, the paper's, or both."""

    line: Line
    published: dict[str, tuple[Published, ...]]
    """By the head of the column."""


@dataclass(frozen=True)
class StudyTable:
    """All that is written of a study."""

    study: Study
    source: str
    """Where the published numbers are from."""
    columns: tuple[Column, ...]
    papers: tuple[str, ...]
    """The heads of the columns with published numbers."""
    rows: tuple[Row, ...]


def head_of(number: Published) -> str:
    """The head of the column that a published number stands in."""
    return f"paper: {number.data} {number.protocol}, {number.modality} {number.metric}"


def make_table(study: Study, question: Question, lines: Sequence[Line]) -> StudyTable:
    """Our lines, each with the published numbers that belong to it; those that belong to none stand below."""
    beside: dict[str, dict[str, list[Published]]] = {}
    for number in published():
        if (place := study.place(number, question)) is not None:
            beside.setdefault(place, {}).setdefault(head_of(number), []).append(number)
    columns = tuple(study.columns(question))
    heads = tuple(dict.fromkeys(head for of_place in beside.values() for head in of_place))
    empty = tuple(() for _ in columns)
    ours = {line.name for line in lines}
    everything = [*lines, *(Line(place, empty) for place in beside if place not in ours)]
    rows = tuple(
        Row(line, {head: tuple(found) for head, found in beside.get(line.name, {}).items()}) for line in everything
    )
    return StudyTable(study, study.source(question), columns, heads, rows)


def cell(values: Sequence[float]) -> str:
    """Mean and sample deviation over seeds."""
    if not values:
        return ""
    spread = f" ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else ""
    return f"{np.mean(values):.3f}{spread}"


def published_cell(numbers: Sequence[Published], told: bool) -> str:
    """Numbers as they are printed, with what was pretrained on where the column has several."""
    texts = [f"{n.percent:.1f} ({n.pretraining})" if told else f"{n.percent:.1f}" for n in numbers]
    return ", ".join(dict.fromkeys(texts))


def _several(table: StudyTable, head: str) -> bool:
    """Whether the numbers of a column are of encoders with several pretrainings."""
    return len({n.pretraining for row in table.rows for n in row.published.get(head, ())}) > 1


def cells(table: StudyTable) -> list[list[str]]:
    """The texts of the table, its head first."""
    told = {head: _several(table, head) for head in table.papers}
    body = [
        [
            row.line.name,
            str(row.line.seeds) if row.line.seeds else "",
            *map(cell, row.line.values),
            *(published_cell(row.published.get(head, ()), told[head]) for head in table.papers),
        ]
        for row in table.rows
    ]
    return [[table.study.rows, "seeds", *(c.title for c in table.columns), *table.papers], *body]


def as_text(table: StudyTable) -> str:
    """The table in columns, for a terminal: ours, then what the paper has."""
    head, *body = cells(table)
    ours = 2 + len(table.columns)
    parts = [_aligned([row[:ours] for row in [head, *body] if row is head or any(row[2:ours])])]
    if table.papers:
        texts = [[row[0], *row[ours:]] for row in [head, *body] if row is head or any(row[ours:])]
        parts.append(_aligned([[row[0], *(t.removeprefix("paper: ") for t in row[1:])] for row in texts]))
        parts[-1] = f"published ({table.source}), as printed, in per cent unless nats:\n{parts[-1]}"
    return "\n\n".join(parts)


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["  ".join(c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True)))
             for row in rows]  # fmt: skip
    return "\n".join(line.rstrip() for line in lines)


def as_markdown(table: StudyTable, notes: Sequence[str]) -> str:
    """The page: what is asked, the table, how it may be read, and which runs failed."""
    head, *body = cells(table)
    lines = ["| " + " | ".join(text.replace("|", "\\|") for text in row) + " |" for row in [head, *body]]
    lines.insert(1, "|---" * len(head) + "|")
    legend = "Ours: mean ± sample deviation over seeds; a difference below it says nothing."
    if table.papers:
        legend += f" Paper: {table.source}, as printed, in per cent unless nats."
    parts = [f"# {table.study.summary}", "\n".join(lines), f"{legend} {table.study.remark}"]
    parts += ["\n".join(f"- {note}" for note in notes)] if notes else []
    return "\n\n".join(parts) + "\n"


def as_csv(table: StudyTable) -> str:
    """A line a number: row, column, mean, sd, seeds, pretraining and source; the last two of papers alone."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["row", "column", "mean", "sd", "seeds", "pretraining", "source"])
    for row in table.rows:
        for column, values in zip(table.columns, row.line.values, strict=True):
            if values:
                sd = float(np.std(values, ddof=1)) if len(values) > 1 else ""
                writer.writerow([row.line.name, column.title, float(np.mean(values)), sd, len(values), "", ""])
        for head in table.papers:
            for number in row.published.get(head, ()):
                value = number.percent if number.metric in IN_UNITS else round(number.percent / 100, 6)
                writer.writerow([row.line.name, head, value, "", "", number.pretraining, number.source])
    return out.getvalue()


def as_data(table: StudyTable) -> list[dict[str, object]]:
    """The rows for JSON."""
    return [
        {
            "row": row.line.name,
            "seeds": row.line.seeds,
            "scores": {c.title: list(v) for c, v in zip(table.columns, row.line.values, strict=True) if v},
            "published": [
                {"column": head, "percent": n.percent, "pretraining": n.pretraining, "source": n.source}
                for head, numbers in row.published.items()
                for n in numbers
            ],
        }
        for row in table.rows
    ]
