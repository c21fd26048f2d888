"""An index in parts: features of blocks of videos, made by any process, and the generation that is made of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seehear.data.loader import ClipLoader, Failures, worker_count
from seehear.data.manifest import Manifest
from seehear.data.scan_parts import manifest_file
from seehear.engine.device import choose_device
from seehear.engine.runfolder import model_sha256
from seehear.engines import Do, Engine, Task, Tell, Work, run
from seehear.errors import DataError
from seehear.features.model import Model
from seehear.parts import Part, PartFolder, Plan, digest_of
from seehear.search.embedding import (
    Embedded,
    Known,
    ToEmbed,
    alike_videos,
    cut_into_parts,
    embed_part,
    embedded_of,
    known_features,
    loader_of,
    part_table,
    video_key,
)
from seehear.search.layout import index_folder
from seehear.search.segments import IndexedVideo

KIND = "index"
Block = tuple[tuple[str, ...], list[IndexedVideo]]
"""Videos and the streams that are embedded of all of them."""


@dataclass(frozen=True)
class How:
    """How blocks are made, in any process."""

    run: str
    every_seconds: float
    processes: int
    device: str


def blocks_of(
    run_folder: str | Path, model: Model, videos: Sequence[IndexedVideo], every_seconds: float
) -> list[Block]:
    """The videos that the index in force has no features of, in blocks as one process would embed them."""
    known = known_features(index_folder(run_folder), model_sha256(run_folder), every_seconds, in_force_alone=True).found
    missing = [video for video in {video_key(v): v for v in videos}.values() if video_key(video) not in known]
    return [
        (streams, block)
        for streams, alike in alike_videos(model, missing)
        for block in cut_into_parts(alike, every_seconds)
    ]


def plan_of(
    run_folder: str | Path, manifest: str, blocks: Sequence[Block], every_seconds: float, exact_up_to: int
) -> Plan:
    """The plan of these blocks of the videos of a manifest."""
    edges = [0]
    for _, videos in blocks:
        edges.append(edges[-1] + len(videos))
    named = ([video_key(v), v.video_id, v.path] for _, videos in blocks for v in videos)
    settings = {"model": model_sha256(run_folder), "every_seconds": every_seconds}
    facts = {"manifest": manifest, "every_seconds": every_seconds, "exact_up_to": exact_up_to}
    return Plan(KIND, digest_of(settings, named), tuple(edges), facts)


def embed_in_parts(
    run_folder: str | Path,
    model: Model,
    manifest: str | Path | Manifest | None,
    videos: Sequence[IndexedVideo],
    *,
    part: Part | None,
    engine: Engine,
    every_seconds: float,
    exact_up_to: int,
    workers: int | None,
    device: str,
    progress: Tell,
) -> dict[str, Any]:
    """Embed one part of the videos of a manifest, or by an engine all; how many videos and segments that was.

    Raises `UsageError` for videos that would first have to be scanned.
    """
    source = manifest_file(Path(run_folder) / "manifest.parquet" if manifest is None else manifest)
    name = str(Path(source).absolute())
    blocks = blocks_of(run_folder, model, videos, every_seconds)
    plan = plan_of(run_folder, name, blocks, every_seconds, exact_up_to)
    place = index_folder(run_folder)
    folder = PartFolder.begin(place, plan)
    asked = folder.asked(part)
    processes = 1 if engine == "ray" and workers is None else worker_count(workers)
    how = How(str(Path(run_folder).absolute()), every_seconds, processes, device)
    work = Work(opened, (how,), (how.run, str(folder.path.absolute())), processes, device)
    tasks = (
        Task(
            f"block {n} ({blocks[n][1][0].video_id} to {blocks[n][1][-1].video_id})", len(blocks[n][1]),
            (n, *blocks[n]), str(blocks[n][1][0].path.parent),
        )
        for n in asked.todo
    )  # fmt: skip
    run(work, tasks, engine, asked.items, asked.done, progress)
    segments = sum(len(folder.read(n)[0]) for n in asked.numbers) if part is not None else 0
    return {"part": None if part is None else str(part), "videos": asked.items, "segments": segments}


@contextmanager
def opened(how: How) -> Iterator[Do]:
    """What embeds the videos of a block, by a model that is loaded once."""
    folder = PartFolder.open(index_folder(how.run))
    asked = ToEmbed(Model.load(how.run), how.every_seconds, how.processes, choose_device(how.device), lambda *_: None)
    loaders: dict[tuple[str, ...], ClipLoader] = {}

    def do(payload: Any, tell: Tell) -> None:
        number, streams, videos = payload
        if streams not in loaders:
            loaders[streams] = loader_of(asked, streams, Failures(limit=1_000_000))
        table, failures = part_table(embed_part(asked, loaders[streams], videos, tell)[0])
        folder.write(number, table, [{"key": key, "failure": failure} for key, failure in failures.items()])

    try:
        yield do
    finally:
        for loader in loaders.values():
            loader.close()


def joined(folder: PartFolder, run_folder: str | Path, model: Model, videos: Sequence[IndexedVideo]) -> Known:
    """What the parts and the index in force hold of these videos, all of which are there.

    Raises `DataError` as `PartFolder.check` does, and if videos, model or index changed since the parts were begun.
    """
    folder.check()
    facts = folder.plan.facts
    every_seconds = float(facts["every_seconds"])
    blocks = blocks_of(run_folder, model, videos, every_seconds)
    folder.check_same(plan_of(run_folder, facts["manifest"], blocks, every_seconds, facts["exact_up_to"]))
    known = known_features(index_folder(run_folder), model_sha256(run_folder), every_seconds, in_force_alone=True)
    for table, notes in folder.blocks():
        try:
            found: dict[str, Embedded] = embedded_of(table, {note["key"]: note["failure"] for note in notes})
        except (KeyError, ValueError) as error:
            raise DataError(f"a block of {folder.path} is damaged: {error}", "do its part again") from error
        known.found |= found
    return known
