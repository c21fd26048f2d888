"""A scan in parts: blocks of the files of a source, looked at by any process, and the manifest that joins them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from seehear.data.manifest import Manifest
from seehear.data.scanning import (
    known_rows,
    manifest_of,
    probe_into,
    refuse_rejected,
    row_settings,
    scan_info,
    table_of,
    unchanged,
)
from seehear.data.sources import Candidate, find, storable
from seehear.engines import Do, Engine, Task, Tell, Work, nearest_seen, run
from seehear.errors import UsageError
from seehear.files import check_destination
from seehear.media.pool import WorkerPool, available_cores
from seehear.media.remote import address
from seehear.parts import Part, PartFolder, Plan, cut, digest_of

MOST_FILES, LEAST_FILES, BLOCKS = 512, 8, 64
"""Files of a block: so many that there are about `BLOCKS`, within these bounds."""
KIND = "scan"


def scan_in_parts(
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    part: Part | None,
    engine: Engine = "local",
    need: Sequence[str],
    min_seconds: float,
    audio_track: int | None = None,
    silence_dbfs: float = -60.0,
    timeout_seconds: float = 120.0,
    workers: int | None = None,
    strict: bool = False,
    progress: Callable[[int, int], None],
) -> Manifest:
    """Do one part of a scan, or all of it by an engine; arguments otherwise as of `seehear.data.scanning.scan`.

    The manifest of the part's files, in which copies are not marked yet, or with an engine that of all. Raises what
    `scan` raises, and `DataError` if the parts that are there are of other files or settings.
    """
    settings = row_settings(need, min_seconds, silence_dbfs, audio_track)
    check_destination(out)
    previous = Manifest.load(out) if os.path.exists(out) else None
    found = find(source)
    info, extra = scan_info(source, settings, found), found.extra_columns
    candidates = found.candidates
    named = ([c.video_id, storable(c.path), *(c.extra.get(name) for name in extra)] for c in candidates)
    most = min(MOST_FILES, max(LEAST_FILES, -(-len(candidates) // BLOCKS)))
    plan = Plan(
        KIND, digest_of(settings | {"columns": extra}, named), cut(np.ones(len(candidates)), most),
        {"info": info, "extra_columns": extra, "strict": strict},
    )  # fmt: skip
    folder = PartFolder.begin(out, plan)
    asked = folder.asked(part)
    blocks = {n: [candidates[i] for i in plan.block(n)] for n in asked.todo}
    known = unchanged(previous, settings, [c for block in blocks.values() for c in block])
    processes = workers if workers is not None else (1 if engine == "ray" else available_cores())
    work = Work(
        opened, (os.fspath(Path(out).absolute()), dict(settings), extra, processes, timeout_seconds),
        (os.fspath(folder.path.absolute()),), processes,
    )  # fmt: skip
    run(work, _tasks(blocks, known), engine, asked.items, asked.done, progress)
    if part is None:
        return finish(folder, Path(out))
    tables = [table for table, _ in folder.blocks(asked.numbers)]
    return Manifest(pa.concat_tables(tables) if tables else table_of([], [], extra), info)


def manifest_file(source: str | Path | Manifest) -> str | Path:
    """`source`, if it is the file of a manifest: that of which other work in parts is made. Else `UsageError`."""
    if isinstance(source, Manifest) or not Manifest.is_manifest(source):
        given = "what was given" if isinstance(source, Manifest) else os.fspath(source)
        raise UsageError(
            f"{given} is no file of a manifest, and every part would have to scan it",
            "scan first, also in parts: `seehear scan VIDEOS --out clips.parquet`, then give clips.parquet",
        )
    return source


def _tasks(blocks: Mapping[int, Sequence[Candidate]], known: Mapping[str, dict[str, Any]]) -> Iterator[Task]:
    for number, block in blocks.items():
        rows = {c.path: known[c.path] for c in block if c.path in known}
        name = f"block {number} ({block[0].video_id} to {block[-1].video_id})"
        yield Task(name, len(block), (number, list(block), rows), seen(block[0].path))


def seen(path: str) -> str:
    """What a machine must see to look at a file: it or the folder it is in, of one on a server nothing of its own."""
    return os.sep if address(path) is not None else nearest_seen(path)


@contextmanager
def opened(
    out: str, settings: Mapping[str, Any], extra: Sequence[str], processes: int, timeout_seconds: float
) -> Iterator[Do]:
    """What looks at the files of a block, in processes that are kept from one block to the next."""
    folder = PartFolder.open(out)
    with WorkerPool(processes, timeout_seconds=timeout_seconds) as pool:

        def do(payload: Any, tell: Tell) -> None:
            number, block, known = payload
            rows = known_rows(block, known)
            probe_into(rows, block, settings, pool, tell)
            folder.write(number, table_of(block, rows, extra))

        yield do


def finish(folder: PartFolder, out: Path) -> Manifest:
    """The manifest of all parts, written to `out`; the parts are deleted then. Raises `DataError` as `check` does."""
    folder.check()
    facts = folder.plan.facts
    table = pa.concat_tables([table for table, _ in folder.blocks()])
    manifest = manifest_of(table, facts["info"], facts["extra_columns"], False)
    manifest.save(out)
    folder.remove()
    if facts["strict"]:
        refuse_rejected(manifest)
    return manifest
