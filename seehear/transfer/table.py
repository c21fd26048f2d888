"""Saved evaluations of several runs side by side, seeds averaged, with what the papers published.

A row is a group of runs that differ in their seed alone; a block of columns is one evaluation (protocol, data set,
options), with a column for each modality and metric.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from html import escape
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import numpy as np
from scipy.stats import ttest_ind_from_stats

from seehear.data.manifest import Manifest
from seehear.engine.runfolder import RunFolder
from seehear.errors import DataError, UsageError
from seehear.files import check_destination, write_result
from seehear.settings import to_dict
from seehear.transfer.evaluations import OWN_CLASSES, Evaluation, data_name, in_words, load_all
from seehear.transfer.protocols import PROTOCOLS

Format = Literal["text", "csv", "html", "latex"]
PROTOCOL_ORDER = ("finetune", "fc-only", *PROTOCOLS, "localization", "clustering")
IN_UNITS = frozenset({"d'", "mean_entropy_nats"})
"""Metrics that are no shares; all others are shown in per cent."""
LESS_IS_BETTER = frozenset({"mean_entropy_nats"})
SIGNIFICANCE = 0.05


# What a run learnt does not depend on these.
_MACHINERY = ("seed", "device", "threads", "compile", "checkpoint_minutes", "keep_checkpoints", "log_steps")
_MACHINERY_OF_DATA = (
    "workers", "decoder", "decode_timeout_seconds", "cache_gib", "cache_folder", "max_failed_share", "stream_gib",
    "stream_patience_seconds",
)  # fmt: skip


@dataclass(frozen=True)
class Published:
    """A number of a paper."""

    method: str
    architecture: str
    pretraining: str
    data: str
    protocol: str
    modality: str
    metric: str
    percent: float
    source: str

    @property
    def row(self) -> str:
        about = ", ".join(part for part in (self.architecture, self.pretraining) if part and part != "none")
        return f"{self.method} ({about})" if about else self.method


def published() -> list[Published]:
    """The numbers in published.csv, as printed in the papers."""
    text = resources.files("seehear.transfer").joinpath("published.csv").read_text(encoding="utf-8")
    return [Published(**{**row, "percent": float(row["percent"])}) for row in csv.DictReader(io.StringIO(text))]  # type: ignore[arg-type]


@dataclass(frozen=True)
class Cell:
    """One number of one group: the values of its runs, one a seed."""

    values: tuple[float, ...]
    lows: tuple[float, ...] = ()
    """Lower ends of the intervals over test videos, where there are such."""
    highs: tuple[float, ...] = ()

    @property
    def mean(self) -> float:
        return float(np.mean(self.values))

    @property
    def sd(self) -> float | None:
        """Sample deviation over seeds; None for one."""
        return float(np.std(self.values, ddof=1)) if len(self.values) > 1 else None


@dataclass(frozen=True)
class Block:
    """One evaluation for all groups: `cells` by (group, modality, metric)."""

    protocol: str
    data: str
    options: str
    """Those of the command that were given."""
    columns: tuple[tuple[str, str], ...]
    cells: Mapping[tuple[str, str, str], Cell]
    published: tuple[Published, ...] = ()

    @property
    def title(self) -> str:
        where = "the runs' own classes" if self.data == OWN_CLASSES else self.data
        return f"{self.protocol} · {where}" + (f" ({self.options})" if self.options else "")

    def by_modality(self) -> Iterator[tuple[str, Block]]:
        """The block in parts that fit a page: a title and the columns of one modality."""
        for modality in dict.fromkeys(m for m, _ in self.columns):
            cells = {key: cell for key, cell in self.cells.items() if key[1] == modality}
            columns = tuple(column for column in self.columns if column[0] == modality)
            of_papers = tuple(p for p in self.published if p.modality == modality)
            yield f"{self.title} · {modality}", replace(self, columns=columns, cells=cells, published=of_papers)

    def groups(self) -> list[str]:
        return list(dict.fromkeys(group for group, _, _ in self.cells))

    def standing_out(self, modality: str, metric: str) -> str | None:
        """The group that is better than every other beyond noise, or None.

        Two seeds at least on both sides, a Welch t-test over seeds with p below 0.05 against each other group, and a
        mean outside the mean 95 % interval over test videos of each other group.
        """
        cells = {group: cell for (group, m, s), cell in self.cells.items() if (m, s) == (modality, metric)}
        if len(cells) < 2 or any(len(cell.values) < 2 for cell in cells.values()):
            return None
        sign = -1 if metric in LESS_IS_BETTER else 1
        best = max(cells, key=lambda group: sign * cells[group].mean)
        others = [cell for group, cell in cells.items() if group != best]
        return best if all(_beyond_noise(cells[best], cell, sign) for cell in others) else None


def _beyond_noise(one: Cell, other: Cell, sign: int) -> bool:
    assert one.sd is not None
    assert other.sd is not None
    if sign * (one.mean - other.mean) <= 0:
        return False
    edge = other.highs if sign > 0 else other.lows
    if edge and sign * (one.mean - float(np.mean(edge))) <= 0:
        return False
    if one.sd == other.sd == 0:
        return True  # a test of two constants is not defined
    sizes = len(one.values), len(other.values)
    test = ttest_ind_from_stats(one.mean, one.sd, sizes[0], other.mean, other.sd, sizes[1], equal_var=False)
    return bool(test.pvalue < SIGNIFICANCE)


@dataclass(frozen=True)
class Table:
    """Blocks side by side, and what there is to say of them."""

    blocks: tuple[Block, ...]
    runs: Mapping[str, tuple[str, ...]]
    """The runs of each group."""
    notes: tuple[str, ...] = ()


@dataclass
class _Run:
    """A run with what it learnt from, to be grouped."""

    path: str
    evaluations: list[Evaluation]
    seed: int
    settings: dict[str, Any] = field(default_factory=dict)
    """All that it learnt by, but the seed."""


def make_table(runs: Sequence[str | Path], data: str | Path | None = None) -> Table:
    """The saved evaluations of `runs`, of the data set `data` alone if it is given.

    Of the same evaluation saved twice for a run (from two copies of the data) the later one counts. Raises `RunError`
    for a folder that is no run, `DataError` if there is no evaluation at all.
    """
    notes: list[str] = []
    opened = [_open(str(run), None if data is None else str(data), notes) for run in dict.fromkeys(map(str, runs))]
    groups = _grouped(opened, notes)
    by_key: dict[tuple[str, str, str], dict[str, Evaluation]] = {}
    for run in opened:
        for evaluation in sorted(run.evaluations, key=lambda e: str(e.record["date_utc"])):
            by_key.setdefault(_key(evaluation), {})[run.path] = evaluation
    if not by_key:
        wanted = "--data TABLE.csv" if data is None else f"--data {data}"
        raise DataError(
            "there are no saved evaluations" + ("" if data is None else f" on {data}"),
            "\n     ".join(["make them first:", *(f"seehear evaluate linear {run.path} {wanted}" for run in opened)]),
        )
    order = sorted(by_key, key=lambda k: (_place(k[0]), k[1], k[2]))
    kinds = [(protocol, name) for protocol, name, _ in order]
    blocks = []
    for key in order:
        found, (protocol, name, options) = by_key[key], key
        told = in_words(json.loads(options)) or ("no options" if kinds.count((protocol, name)) > 1 else "")
        blocks.append(_block(protocol, name, told, found, groups))
        example = next(iter(found.values()))
        lacking = [run.path for members in groups.values() for run in members if run.path not in found]
        if lacking:
            runs_of = lacking[0] if len(lacking) == 1 else f"{len(lacking)} runs"
            others = "" if len(lacking) == 1 else f" (also for: {_few(lacking[1:])})"
            notes.append(f"{runs_of} without {blocks[-1].title}: {example.command(lacking[0])}{others}")
    return Table(tuple(blocks), {g: tuple(r.path for r in members) for g, members in groups.items()}, tuple(notes))


def _few(names: Sequence[str], most: int = 3) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _open(path: str, data: str | None, notes: list[str]) -> _Run:
    folder = RunFolder(Path(path))
    config = folder.load_config()
    evaluations, damaged = load_all(path)
    notes += [f"{file} cannot be read and is left out" for file in damaged]
    if data is not None:
        evaluations = [e for e in evaluations if e.data == data_name(data)]
    settings = to_dict(config)
    for name in _MACHINERY:
        settings.pop(name)
    for name in _MACHINERY_OF_DATA:
        settings["data"].pop(name)
    settings["model"].pop("execution")
    if folder.manifest.is_file():
        manifest = Manifest.load(folder.manifest)
        # Each seed draws its own part of the videos; what they are drawn from is the same.
        content = manifest.info.get("sample", {}).get("fingerprint") or manifest.fingerprint()
        settings["videos"] = {"source": str(manifest.info.get("source", "")), "content": content}
    return _Run(path, evaluations, config.seed, settings)


def _grouped(runs: Sequence[_Run], notes: list[str]) -> dict[str, list[_Run]]:
    """Runs by the name of their group; of several with the same seed the first counts."""
    alike: dict[str, list[_Run]] = {}
    for run in runs:
        # The folder that the videos lay in makes no difference, their content does.
        key = {**run.settings, "videos": run.settings.get("videos", {}).get("content")}
        members = alike.setdefault(json.dumps(key, sort_keys=True), [])
        first = next((member for member in members if member.seed == run.seed), None)
        if first is None:
            members.append(run)
        else:
            notes.append(f"{run.path} is left out: it has the settings and the seed of {first.path}")
    members_of = list(alike.values())
    titles = [f"{members[0].settings['method']} {members[0].settings['recipe']}" for members in members_of]
    named: dict[str, list[_Run]] = {}
    for title, members in zip(titles, members_of, strict=True):
        rivals = [other[0] for t, other in zip(titles, members_of, strict=True) if t == title]
        told = _differences(members[0], rivals) if len(rivals) > 1 else ""
        name = f"{title}, {told}" if told else title
        named[name if name not in named else f"{name} ({members[0].path})"] = members
    return named


def _differences(run: _Run, rivals: Sequence[_Run], limit: int = 4) -> str:
    """The settings of a run in which its rivals are not all the same."""
    flat = [_flat(rival.settings) for rival in rivals]
    own = _flat(run.settings)
    names = [n for n in own if any(other.get(n) != own[n] for other in flat)]
    shown = [n for n in names if n != "videos.content" and "weights" not in n] or names
    return " ".join(f"{n}={own[n]}" for n in shown[:limit]) + (" ..." if len(shown) > limit else "")


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in values.items():
        found |= _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return found


def _key(evaluation: Evaluation) -> tuple[str, str, str]:
    return evaluation.protocol, evaluation.data, json.dumps(dict(evaluation.options), sort_keys=True)


def _place(protocol: str) -> int:
    return PROTOCOL_ORDER.index(protocol) if protocol in PROTOCOL_ORDER else len(PROTOCOL_ORDER)


def _block(
    protocol: str, name: str, options: str, found: Mapping[str, Evaluation], groups: Mapping[str, Sequence[_Run]]
) -> Block:
    cells: dict[tuple[str, str, str], Cell] = {}
    scores = {path: evaluation.scores() for path, evaluation in found.items()}
    for group, members in groups.items():
        columns = dict.fromkeys((m, s) for r in members for m, of in scores.get(r.path, {}).items() for s in of)
        for modality, metric in columns:
            there = [scores[r.path][modality][metric] for r in members if metric in _of(scores, r.path, modality)]
            ends = [[s[end] for s in there if end in s] for end in ("low", "high")]
            cells[group, modality, metric] = Cell(tuple(float(s["value"]) for s in there), *map(tuple, ends))
    columns = dict.fromkeys((modality, metric) for _, modality, metric in cells)
    of_papers = [
        p for p in published() if (p.protocol, p.data) == (protocol, name) and (p.modality, p.metric) in columns
    ]
    return Block(protocol, name, options, tuple(columns), cells, tuple(of_papers))


def _of(scores: Mapping[str, Mapping[str, Any]], path: str, modality: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = scores.get(path, {}).get(modality, {})
    return found


def write_table(runs: Sequence[str | Path], data: str | Path | None, format: Format, out: str | Path | None) -> str:
    """What `seehear.evaluate_table` does: the table of some runs as text, written to `out` if that is given."""
    if not runs:
        raise UsageError("a table needs runs", "seehear evaluate table RUN RUN ...")
    if out is not None:
        check_destination(out)
    text = render(make_table(runs, data), format)
    if out is not None:
        write_result(Path(out), text + "\n")
    return text


def render(table: Table, format: Format) -> str:
    """The table as text, CSV (a line a number), HTML (a page) or LaTeX (tabulars)."""
    return {"text": _text, "csv": _csv, "html": _html, "latex": _latex}[format](table)


def shown(value: float, metric: str) -> str:
    """A value as tables have it: shares in per cent, with one place; other units with two."""
    return f"{value:.2f}" if metric in IN_UNITS else f"{100 * value:.1f}"


def cell_text(cell: Cell, metric: str, seeds: int) -> str:
    """Mean and deviation over seeds, or a value and its interval; the number of seeds if it is not the row's."""
    text = shown(cell.mean, metric)
    if cell.sd is not None:
        text += f" ± {shown(cell.sd, metric)}"
    elif cell.lows and cell.highs:
        text += f" [{shown(cell.lows[0], metric)}, {shown(cell.highs[0], metric)}]"
    return text if len(cell.values) == seeds else f"{text} (n={len(cell.values)})"


@dataclass(frozen=True)
class _Line:
    """A row of a block: its name, number of seeds, texts of the cells, and which of them stand out."""

    name: str
    seeds: str
    texts: tuple[str, ...]
    marked: frozenset[int] = frozenset()
    published: bool = False


def _lines(block: Block) -> list[_Line]:
    best = {i: block.standing_out(*column) for i, column in enumerate(block.columns)}
    lines = []
    for group in block.groups():
        cells = [block.cells.get((group, *column)) for column in block.columns]
        seeds = max(len(cell.values) for cell in cells if cell is not None)
        texts = tuple(
            "" if cell is None else cell_text(cell, metric, seeds)
            for cell, (_, metric) in zip(cells, block.columns, strict=True)
        )
        lines.append(_Line(group, str(seeds), texts, frozenset(i for i, name in best.items() if name == group)))
    rows: dict[tuple[str, str], dict[tuple[str, str], float]] = {}
    for p in block.published:
        rows.setdefault((p.row, p.source), {})[p.modality, p.metric] = p.percent
    for (name, source), numbers in rows.items():
        texts = tuple(_as_printed(numbers.get(column)) for column in block.columns)
        lines.append(_Line(f"{name}; {source}", "published", texts, published=True))
    return lines


def _as_printed(percent: float | None) -> str:
    return "" if percent is None else f"{percent:.1f}"


def _legend(table: Table) -> list[str]:
    lines = ["Per cent, unless nats or d'. Mean ± sample deviation over seeds; of one seed the 95 % interval over test "
             "videos, which holds nothing of what another seed would change."]  # fmt: skip
    if any(block.standing_out(*column) for block in table.blocks for column in block.columns):
        lines.append(
            "Marked: better than every other group, by Welch's t-test over seeds (p < 0.05) and beyond the others' "
            "intervals over test videos. Published numbers are compared with none."
        )
    if any(block.published for block in table.blocks):
        lines.append("Published: as the papers print it, with their encoders, data and finetuning; for reference.")
    return lines


def _parts(table: Table) -> Iterator[tuple[str, Block]]:
    """Titles and blocks, one for each evaluation and modality."""
    for block in table.blocks:
        yield from block.by_modality()


def _text(table: Table) -> str:
    parts = []
    for title, block in _parts(table):
        lines = _lines(block)
        head = ["", "seeds", *(metric for _, metric in block.columns)]
        rows = [
            [line.name, line.seeds, *(f"{t} *" if i in line.marked else t for i, t in enumerate(line.texts))]
            for line in lines
        ]
        widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
        body = ["  ".join(c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(r, widths, strict=True)))
                for r in [head, *rows]]  # fmt: skip
        parts.append("\n".join([title, *(line.rstrip() for line in body)]))
    legend = [line.replace("Marked:", "*") for line in _legend(table)]
    return "\n\n".join([*parts, "\n".join([*legend, *table.notes])])


def _csv(table: Table) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    head = "group protocol data options modality metric mean sd seeds low high stands_out source"
    writer.writerow(head.split())
    for block in table.blocks:
        for (group, modality, metric), cell in block.cells.items():
            single = len(cell.values) == 1 and cell.lows and cell.highs
            ends = (cell.lows[0], cell.highs[0]) if single else ("", "")
            stands_out = block.standing_out(modality, metric) == group
            about = (group, block.protocol, block.data, block.options, modality, metric)
            writer.writerow(
                [*about, cell.mean, "" if cell.sd is None else cell.sd, len(cell.values), *ends, int(stands_out), ""]
            )
        for p in block.published:
            value = p.percent if p.metric in IN_UNITS else round(p.percent / 100, 6)
            about = (p.row, block.protocol, block.data, "", p.modality, p.metric)
            writer.writerow([*about, value, "", "", "", "", 0, p.source])
    return out.getvalue().rstrip("\n")


def _html(table: Table) -> str:
    parts = []
    for title, block in _parts(table):
        head = "".join(f"<th>{escape(metric)}</th>" for _, metric in block.columns)
        rows = []
        for line in _lines(block):
            cells = "".join(
                f"<td><b>{escape(t)}</b></td>" if i in line.marked else f"<td>{escape(t)}</td>"
                for i, t in enumerate(line.texts)
            )
            kind = ' class="published"' if line.published else ""
            rows.append(f"<tr{kind}><th>{escape(line.name)}</th><td>{escape(line.seeds)}</td>{cells}</tr>")
        parts.append(
            f"<h2>{escape(title)}</h2><table><thead><tr><th></th><th>seeds</th>{head}</tr></thead>"
            f"<tbody>{''.join(rows)}</tbody></table>"
        )
    notes = "".join(f"<p>{escape(line)}</p>" for line in [*_legend(table), *table.notes])
    style = (
        "body{font:15px/1.5 system-ui,sans-serif;margin:2rem}table{border-collapse:collapse}"
        "th,td{padding:.25rem .9rem .25rem 0;text-align:left;border-bottom:1px solid #ccc;font-weight:400}"
        "b{font-weight:700}.published{color:#666}"
    )
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>Evaluations</title>'
        f"<style>{style}</style></head><body>{''.join(parts)}{notes}</body></html>"
    )


def _latex(table: Table) -> str:
    parts = []
    for title, block in _parts(table):
        head = " & ".join(["", "seeds", *(_tex(metric) for _, metric in block.columns)])
        rows, ruled = [], False
        for line in _lines(block):
            texts = (rf"\textbf{{{_tex(t)}}}" if i in line.marked else _tex(t) for i, t in enumerate(line.texts))
            row = " & ".join([_tex(line.name), _tex(line.seeds), *texts]) + r" \\"
            rows.append(rf"\hline {row}" if line.published and not ruled else row)
            ruled = ruled or line.published
        columns = "l" + "r" * (len(block.columns) + 1)
        parts.append(
            "\n".join(
                [f"% {title}", rf"\begin{{tabular}}{{{columns}}}", rf"\hline {head} \\ \hline", *rows,
                 r"\hline \end{tabular}"]
            )
        )  # fmt: skip
    return "\n\n".join([*parts, "\n".join(f"% {line}" for line in [*_legend(table), *table.notes])])


_TEX = {"\\": r"\textbackslash{}", "±": r"$\pm$", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
        "<": r"\textless{}", ">": r"\textgreater{}", "·": r"$\cdot$",
        **{c: rf"\{c}" for c in "&%$#_{}"}}  # fmt: skip


def _tex(text: str) -> str:
    return "".join(_TEX.get(c, c) for c in text)
