"""Copies in parts: blocks of originals, copied by any process, and the preparation that takes them in.

A part makes the copies, as files in the folder; its blocks say what became of each. Shards, tables and the journal are
written when the parts are joined.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from seehear.data import prepared
from seehear.data.manifest import Manifest
from seehear.data.scan_parts import manifest_file
from seehear.engines import Do, Engine, Task, Tell, Work, run
from seehear.files import writing
from seehear.media.pool import WorkerPool, available_cores
from seehear.media.recoding import Original, Recoding, recode
from seehear.parts import Part, PartFolder, Plan, Written, cut, digest_of
from seehear.preparing.journal import Done, Journal
from seehear.preparing.packing import loose_copy
from seehear.preparing.run import (
    Preparation,
    Shown,
    check_folder,
    check_settings,
    content_of,
    done_of,
    prepare,
    settings_of,
)

KIND = "prepare"
MOST_SECONDS, LEAST_SECONDS, BLOCKS = 1800.0, 60.0, 64
"""Footage of a block: so much that there are about `BLOCKS`, within these bounds."""
_DONE = pa.schema([
    ("video_id", pa.string()), ("source", pa.string()), ("settings", pa.string()), ("outcome", pa.string()),
    ("reason", pa.string()), ("detail", pa.string()), ("bytes", pa.int64()), ("fingerprint", pa.string()),
    ("start_seconds", pa.float64()), ("end_seconds", pa.float64()), ("seconds", pa.float64()),
    ("cpu_seconds", pa.float64()), ("modified_ns", pa.int64()),
])  # fmt: skip
"""The columns of a block: those of `Done`."""


def prepare_in_parts(
    source: str | Path | Manifest,
    out: str | Path,
    recoding: Recoding,
    *,
    part: Part | None,
    engine: Engine,
    shard_bytes: int | None,
    where: Sequence[str],
    workers: int | None,
    timeout_seconds: float,
    verify: bool,
    shown: Shown,
) -> Preparation | Written:
    """One part of what `seehear.preparing.run.prepare` does, or by an engine all of it; arguments as there.

    What an earlier preparation of the folder has made is not made again. Raises `UsageError` also for videos that would
    first have to be scanned.
    """
    check_settings(recoding, shard_bytes, timeout_seconds)
    folder = Path(out).absolute()
    source = manifest_file(source)
    check_folder(folder, source)
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / prepared.JOURNAL).touch()
    rows, settings = _missing(Manifest.load(source), folder, where, recoding), settings_of(recoding)
    plan = plan_of(rows, settings, {
        "manifest": str(Path(source).absolute()), "recoding": asdict(recoding), "shard_bytes": shard_bytes,
        "where": list(where), "timeout_seconds": timeout_seconds, "verify": verify,
    })  # fmt: skip
    parts = PartFolder.begin(folder, plan)
    asked = parts.asked(part)
    processes = workers if workers is not None else (1 if engine == "ray" else available_cores())
    work = Work(opened, (str(folder), recoding, processes, timeout_seconds), (str(folder), str(parts.path)), processes)
    tasks = (_task(n, [rows[i] for i in plan.block(n)]) for n in asked.todo)
    run(work, tasks, engine, asked.items, asked.done, lambda now, of: shown("prepare", now, of))
    if part is None:
        return finish(parts, folder, shown)
    tables = [parts.read(number) for number in asked.numbers]
    left_out = tuple(report for _, reports in tables for report in reports)
    return Written(str(out), sum(len(table) for table, _ in tables), asked.items, left_out, str(part))


def _missing(originals: Manifest, folder: Path, where: Sequence[str], recoding: Recoding) -> list[dict[str, Any]]:
    """The usable originals of which the journal of the folder does not say that they were copied like this."""
    for condition in where:
        originals = originals.where(condition)
    settings, known = settings_of(recoding), Journal(folder / prepared.JOURNAL).read()
    return [
        row for row in originals.usable_rows()
        if (done := known.get(row["video_id"])) is None
        or (done.source, done.settings, done.outcome) != (content_of(row), settings, prepared.PREPARED)
    ]  # fmt: skip


def plan_of(rows: Sequence[Mapping[str, Any]], settings: str, facts: Mapping[str, Any]) -> Plan:
    """The plan of copying these originals."""
    streams = ("video_duration_seconds", "audio_duration_seconds")
    seconds = np.array([max(0.1, *(row[name] or 0.0 for name in streams)) for row in rows])
    most = min(MOST_SECONDS, max(LEAST_SECONDS, float(seconds.sum()) / BLOCKS))
    named = ([row["video_id"], row["path"], content_of(row)] for row in rows)
    edges = cut(seconds, most) if rows else (0,)
    return Plan(KIND, digest_of({"settings": settings, "shard_bytes": facts["shard_bytes"]}, named), edges, facts)


def _task(number: int, block: Sequence[Mapping[str, Any]]) -> Task:
    name = f"block {number} ({block[0]['video_id']} to {block[-1]['video_id']})"
    return Task(name, len(block), (number, block), os.path.dirname(block[0]["path"]))


@contextmanager
def opened(folder: str, recoding: Recoding, processes: int, timeout_seconds: float) -> Iterator[Do]:
    """What copies the originals of a block, in processes that are kept from one block to the next."""
    parts, settings = PartFolder.open(folder), settings_of(recoding)
    with WorkerPool(processes, timeout_seconds=timeout_seconds) as pool:

        def do(payload: Any, tell: Tell) -> None:
            number, rows = payload
            items = (
                (i, (str(loose_copy(Path(folder), row["video_id"])), Original.from_row(row), recoding))
                for i, row in enumerate(rows)
            )
            found: dict[int, Done] = {}
            for outcome in pool.imap(recode, items, ordered=False):
                place = int(outcome.key)  # type: ignore[call-overload]
                found[place] = done_of(rows[place], outcome, settings)
                tell(len(found), len(rows))
            done = [found[i] for i in range(len(rows))]
            failed = [
                {"video_id": d.video_id, "path": row["path"], "reason": d.reason, "detail": d.detail}
                for d, row in zip(done, rows, strict=True)
                if d.outcome == prepared.FAILED
            ]
            parts.write(number, pa.Table.from_pylist([asdict(d) for d in done], schema=_DONE), failed)

        yield do


def finish(parts: PartFolder, folder: Path, shown: Shown) -> Preparation:
    """Take in what the parts made: journal, shards and tables, as one process would have left them.

    Every new copy is read; one that is not what its part made, or that failed for what may have been its machine's
    fault, is made now. Raises `DataError` as `PartFolder.check` does.
    """
    parts.check()
    facts = parts.plan.facts
    journal = Journal(folder / prepared.JOURNAL)
    known = journal.read()
    for table, _ in parts.blocks():
        known |= {row["video_id"]: Done(**row) for row in table.to_pylist()}
    journal.rewrite(known.values())
    recoding = Recoding(**{**facts["recoding"], "streams": tuple(facts["recoding"]["streams"])})
    made = prepare(
        Manifest.load(facts["manifest"]), folder, recoding, shard_bytes=facts["shard_bytes"], where=facts["where"],
        timeout_seconds=facts["timeout_seconds"], verify=facts.get("verify", False), shown=shown,
    )  # fmt: skip
    parts.remove()
    return made
