"""Work in parts: cut into blocks that any process of any machine may do, and whose files one process joins.

A *plan* is made of a list of items in their order (the files of a source, the videos of a manifest) and of what is to
be done with them: every process that is given the same makes the same plan. It cuts the list into *blocks* of items
that follow each other; whoever does a block finds the same. Its result is a file, written whole: what is lost when a
process dies is the block that it was at. A *part* i/n is every n-th block from the i-th on.

The files lie beside the result, in `RESULT.parts`. This module knows nothing of what the blocks hold.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from seehear.errors import DataError, UsageError
from seehear.files import is_temporary, remove_leftovers, write_atomic, writing

FORMAT, VERSION = "seehear-parts", 1
_PLAN = "plan.json"
_NOTE = b"seehear.block"
_NAME = re.compile(r"block-(\d{6,})\.parquet")


@dataclass(frozen=True)
class Part:
    """The `number`-th of `count` parts, from 1."""

    number: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Part:
        """The part that "3/8" names. Raises `UsageError`."""
        match = re.fullmatch(r"(\d+)/(\d+)", text.strip())
        if match is None or not 1 <= int(match[1]) <= int(match[2]):
            raise UsageError(f"there is no part {text!r}", "parts are 1/8, 2/8 and so on to 8/8")
        return cls(int(match[1]), int(match[2]))

    def blocks(self, count: int) -> range:
        """The numbers of its blocks, of so many."""
        return range(self.number - 1, count, self.count)

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"


@dataclass(frozen=True)
class Plan:
    """What is done to which items."""

    kind: str
    """The command: scan, embed, label, index."""
    digest: str
    """Names the items in their order and the settings on which results depend (`digest_of`)."""
    edges: tuple[int, ...]
    """Block b holds the items from edges[b] on, up to edges[b + 1]; ascending from 0 to the number of items."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What else joining the blocks needs to know, as JSON can hold it."""

    @property
    def count(self) -> int:
        """The number of blocks."""
        return len(self.edges) - 1

    @property
    def items(self) -> int:
        """The number of items."""
        return self.edges[-1]

    def block(self, number: int) -> range:
        """The places of a block's items in the list."""
        return range(self.edges[number], self.edges[number + 1])


@dataclass(frozen=True)
class Asked:
    """Blocks that are asked for, and what is there of them."""

    numbers: range
    todo: list[int]
    """Those that are not there."""
    items: int
    done: int
    """Items of those that are there."""


@dataclass(frozen=True)
class Written:
    """What a command wrote, where it is not handed over: a file with all rows, or the blocks of one part."""

    path: str
    num_rows: int
    """Rows of the file, or of these blocks."""
    items: int
    """Files or videos that were looked at."""
    left_out: tuple[dict[str, Any], ...] = ()
    """A report for each file that failed: video_id, path, reason and detail."""
    part: str | None = None
    """Which part it is; None: all of it, joined."""


def digest_of(settings: Mapping[str, Any], *columns: Iterable[Any]) -> str:
    """Names settings, which JSON can hold, and columns of values, in their order."""
    digest = hashlib.blake2b(json.dumps(settings, sort_keys=True).encode(), digest_size=16)
    for column in columns:
        digest.update(b"\1")
        for value in column:
            digest.update(f"{value}\0".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def cut(weights: np.ndarray, most_weight: float) -> tuple[int, ...]:
    """The edges of blocks of items (N,): each ends with the item by which its weight reaches `most_weight`.

    Weights are above zero. Without items there is one block, an empty one.
    """
    total = np.concatenate([[0.0], np.cumsum(weights, dtype=np.float64)])
    edges = [0]
    while edges[-1] < len(weights):
        reached = np.searchsorted(total, total[edges[-1]] + most_weight, side="left")
        edges.append(int(min(max(reached, edges[-1] + 1), len(weights))))
    return tuple(edges) if len(edges) > 1 else (0, 0)


def parts_of(result: str | os.PathLike[str]) -> Path:
    """The folder of the parts of a result."""
    result = Path(result)
    return result.with_name(f"{result.name}.parts")


class PartFolder:
    """The blocks of one plan on disk. Several processes, also of several machines, may write to it at once."""

    def __init__(self, path: Path, plan: Plan) -> None:
        self.path, self.plan = path, plan

    @classmethod
    def begin(cls, result: str | os.PathLike[str], plan: Plan) -> PartFolder:
        """The folder for the parts of a result: made, or found with the same plan.

        Raises `DataError` if it was begun with another plan, `DestinationError` if it cannot be written.
        """
        path = parts_of(result)
        with writing(path):
            path.mkdir(parents=True, exist_ok=True)
        if (path / _PLAN).exists():
            begun = cls.open(result)
            begun.check_same(plan)
            return begun
        remove_leftovers(path)
        content = {
            "format": FORMAT, "version": VERSION, "kind": plan.kind, "digest": plan.digest, "edges": plan.edges,
            "facts": dict(plan.facts),
        }  # fmt: skip
        write_atomic(path / _PLAN, json.dumps(content))
        return cls(path, plan)

    @classmethod
    def open(cls, result: str | os.PathLike[str]) -> PartFolder:
        """The folder that `begin` made for a result. Raises `DataError` if there is none, or it is damaged."""
        path = parts_of(result)
        try:
            content = json.loads((path / _PLAN).read_bytes())
            if content["format"] != FORMAT:
                raise ValueError(f"its format is {content['format']}")
            if content["version"] > VERSION:
                raise DataError(f"{path} was written by a newer seehear", "update seehear")
            plan = Plan(content["kind"], content["digest"], tuple(content["edges"]), content["facts"])
        except FileNotFoundError as error:
            remedy = f"make them with --out {result} and --part 1/N, 2/N ... of `seehear scan`, `embed` or `label`"
            if Path(result).exists():
                remedy = f"{result} is there: its parts were joined already, or it never had any"
            raise DataError(f"there are no parts of {result}", remedy) from error
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"{path / _PLAN} is damaged: {error}", f"delete {path} and make the parts anew") from error
        return cls(path, plan)

    def check_same(self, plan: Plan) -> None:
        """Raise `DataError` if this folder is of another plan than the one at hand."""
        if self.plan.kind != plan.kind:
            raise DataError(
                f"{self.path} holds parts of `seehear {self.plan.kind}`, not of `{plan.kind}`", "choose another --out"
            )
        if self.plan.digest != plan.digest:
            counts = "" if self.plan.items == plan.items else f" ({self.plan.items} items then, {plan.items} now)"
            raise DataError(
                f"{self.path} was begun for other files or with other settings{counts}",
                "give the same files and settings as then (a table that lists the files stays the same while a folder "
                "may not), or delete that folder to begin anew",
            )

    def file_of(self, block: int) -> Path:
        """Where a block is written."""
        return self.path / f"block-{block:06d}.parquet"

    def has(self, block: int) -> bool:
        """Whether a block is there; one that is damaged or of another plan is not."""
        note = _note_of(self.file_of(block))
        return note is not None and self._is_own(note) and note["block"] == block

    def asked(self, part: Part | None) -> Asked:
        """The blocks of a part, or all."""
        numbers = range(self.plan.count) if part is None else part.blocks(self.plan.count)
        todo = [number for number in numbers if not self.has(number)]
        items, left = (sum(len(self.plan.block(number)) for number in of) for of in (numbers, todo))
        return Asked(numbers, todo, items, items - left)

    def _is_own(self, note: Mapping[str, Any]) -> bool:
        return bool(note["digest"] == self.plan.digest and note["kind"] == self.plan.kind)

    def write(self, block: int, table: pa.Table, left_out: Sequence[Mapping[str, Any]] = ()) -> None:
        """Write what a block came to, whole or not at all, with the reports of files that failed."""
        note = {"kind": self.plan.kind, "digest": self.plan.digest, "block": block, "left_out": list(left_out)}
        metadata = {**(table.schema.metadata or {}), _NOTE: json.dumps(note).encode()}
        sink = pa.BufferOutputStream()
        # Else the items of lists come back under another name, and the joined file has other bytes.
        pq.write_table(
            table.replace_schema_metadata(metadata), sink, write_page_checksum=True, use_compliant_nested_type=False
        )
        write_atomic(self.file_of(block), sink.getvalue().to_pybytes())

    def read(self, block: int) -> tuple[pa.Table, list[dict[str, Any]]]:
        """The table of a block, and the reports. Raises `DataError` if it is damaged."""
        path = self.file_of(block)
        try:
            table = pq.read_table(path, partitioning=None, page_checksum_verification=True)
            note = json.loads(table.schema.metadata[_NOTE])
        except (OSError, ValueError, KeyError, TypeError, pa.ArrowException) as error:
            raise DataError(f"{path} is damaged: {error}", "delete it, and do its part again") from error
        return table.replace_schema_metadata(None), note["left_out"]

    def rows(self) -> int:
        """How many rows all blocks have, without reading them. Raises `DataError` if one is damaged."""
        count = 0
        for number in range(self.plan.count):
            try:
                count += pq.read_metadata(self.file_of(number)).num_rows
            except (OSError, pa.ArrowException) as error:
                raise DataError(f"{self.file_of(number)} is damaged: {error}", "do its part again") from error
        return count

    def blocks(self, numbers: Iterable[int] | None = None) -> Iterator[tuple[pa.Table, list[dict[str, Any]]]]:
        """These blocks, or all, one after the other in the order of the list."""
        for number in range(self.plan.count) if numbers is None else numbers:
            yield self.read(number)

    def check(self) -> None:
        """Raise `DataError`, which names them, unless every block is there once and nothing else is.

        A block that is there twice, that is of another list of files or other settings, or that cannot be read.
        """
        notes = {p: _note_of(p) for p in sorted(self.path.iterdir()) if p.suffix == ".parquet" and not is_temporary(p)}
        damaged = [p.name for p, note in notes.items() if note is None]
        foreign = [p.name for p, note in notes.items() if note is not None and not self._is_own(note)]
        own = {p: note["block"] for p, note in notes.items() if note is not None and self._is_own(note)}
        twice = [f"{p.name} is block {block}" for p, block in own.items() if p != self.file_of(block)]
        missing = [block for block in range(self.plan.count) if not self.file_of(block).exists()]
        for found, what, remedy in (
            (foreign, "blocks of other files or other settings", "delete these files, and do their parts again"),
            (twice, "the same block twice, or under another's name", "delete these files, and do their parts again"),
            (damaged, "blocks that cannot be read", "do their parts again"),
            (
                missing,
                f"{len(missing)} of {self.plan.count} blocks missing",
                f"do the parts again that did not end (i/n has the blocks i - 1, i - 1 + n, i - 1 + 2n ...): they do "
                f"what is missing{_parts_lacking(missing, self.plan.count)}",
            ),
        ):
            if found:
                raise DataError(f"{self.path} has {what}: {_listed(found)}", remedy)

    def remove(self) -> None:
        """Delete the folder: what it held is in the result."""
        shutil.rmtree(self.path, ignore_errors=True)


def _note_of(path: Path) -> dict[str, Any] | None:
    """What is noted in a block; None if it is not there or no block."""
    try:
        note: dict[str, Any] = json.loads((pq.read_schema(path).metadata or {})[_NOTE])
    except (OSError, ValueError, KeyError, pa.ArrowException):
        return None
    return note


def _parts_lacking(missing: Sequence[int], count: int) -> str:
    """The part that would have them all, if they are those of one part."""
    if len(missing) < 2:
        return ""
    step = missing[1] - missing[0]
    part = Part(missing[0] % step + 1, step)
    return f"; these are part {part}" if list(part.blocks(count)) == list(missing) else ""


def _listed(found: Sequence[Any], most: int = 10) -> str:
    more = f" and {len(found) - most} more" if len(found) > most else ""
    return ", ".join(str(x) for x in found[:most]) + more


def part_asked(part: Part | str | None, engine: str, out: str | Path | None) -> Part | None:
    """The part that is asked for. Raises `UsageError` for what does not go together."""
    if part is None and engine == "local":
        return None
    if engine not in ("local", "ray"):
        raise UsageError(f"there is no engine {engine!r}", "choose local or ray")
    if part is not None and engine != "local":
        raise UsageError("a part is what one process does", "leave out --part: Ray shares the work out itself")
    if out is None:
        raise UsageError("parts lie beside the result, and there is none", "add --out FILE")
    return Part.parse(part) if isinstance(part, str) else part
