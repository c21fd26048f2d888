"""What people say of the collection: edits, their history, the review, what is exported."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Query
from fastapi.responses import FileResponse
from starlette.background import BackgroundTask

from seehear.app.api.common import PROBLEMS, Held, Labelling
from seehear.app.api.models import (
    Duplicates,
    EditList,
    EditMade,
    EditReply,
    EditRequest,
    OtherCluster,
    QuestionInfo,
    Review,
    Twin,
)
from seehear.app.api.reading import read_only, step_of
from seehear.app.session import ReadOnlyError
from seehear.app.workshop import WORKERS
from seehear.collection.collection import Collection
from seehear.collection.export import ENDINGS, Format
from seehear.errors import UsageError

router = APIRouter(prefix="/api", tags=["editing"], responses=PROBLEMS)

Value = TypeVar("Value")


@router.post("/edits", summary="Make an edit, take one back, or do it again")
def edit(held: Held, by: Labelling, asked: EditRequest) -> EditReply:
    """Rows and clusters are those of `generation`; with `expected`, undo and redo refuse if another came between."""
    held.check_generation(asked.generation)
    if read_only(held):
        raise ReadOnlyError("the run folder cannot be written to, so no edit can be kept")
    if asked.rows is not None:
        held.check_rows(asked.rows)
    with held.lock:
        collection = held.collection(by)
        before = set(collection.ids)
        made = _EDITS[asked.kind](collection, asked)
        return EditReply(
            revision=collection.revision,
            edit=EditMade(id=made.id, text=made.text, kind=made.kind, cluster=_about(collection, before, asked)),
            undo=step_of(collection.undoable),
            redo=step_of(collection.redoable),
        )


@router.get("/edits", summary="Edits, the last one first")
def edits(held: Held, by: Labelling, limit: Annotated[int, Query(ge=1, le=1000)] = 100) -> EditList:
    """Who did what, when, and whether it still holds."""
    with held.lock:
        found = held.collection(by).history(limit)
    return EditList(edits=found)


@router.get("/review", summary="What to ask a person next")
def review(
    held: Held,
    by: Labelling,
    cluster: Annotated[str | None, Query(max_length=1000)] = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 20,
) -> Review:
    """Questions about segments, the most uncertain first."""
    with held.lock:
        collection = held.collection(by)
        questions = collection.review(limit=limit, cluster=cluster)
        names = {one.id: one.name for one in collection.clusters}
        answered = int(collection.confirmed.sum())
    return Review(
        questions=[
            QuestionInfo(
                row=int(one.row), cluster=one.cluster, name=names.get(one.cluster), probability=float(one.probability),
                others=[
                    OtherCluster(cluster=other, name=names.get(other), probability=float(share))
                    for other, share in one.others
                ],
            )
            for one in questions
        ],
        answered=answered,
        unsure=len(questions),
    )  # fmt: skip


@router.get("/duplicates", summary="Copies among the videos")
def duplicates(held: Held) -> Duplicates:
    """Groups of videos that are copies of each other. The first asking opens all files, and may take long."""
    from seehear.search.duplicates import find_duplicates

    with held.comparing:
        found = find_duplicates(held.index, workers=WORKERS)
    place = {title: number for number, title in enumerate(held.media.titles)}
    groups = [
        [
            Twin(
                video=held.media.ids[place[copy.video_id]] if copy.indexed else None, title=copy.video_id,
                start=copy.start_seconds, end=copy.end_seconds,
            )
            for copy in group
        ]
        for group in found.groups
    ]  # fmt: skip
    return Duplicates(groups=groups, compared=found.compared, left_out=len(found.left_out))


@router.get("/export", summary="The collection as a file", response_class=FileResponse)
def export(held: Held, by: Labelling, format: Format) -> FileResponse:
    """Labels and names of all segments, to download; formats as of `seehear export`."""
    folder = tempfile.TemporaryDirectory(prefix="seehear-export-")
    try:
        out = Path(folder.name) / f"{held.run.resolve().name}{ENDINGS[format]}"
        with held.lock:
            held.collection(by).export(format, out)
    except BaseException:
        folder.cleanup()
        raise
    return FileResponse(
        out, filename=out.name, media_type="application/octet-stream", background=BackgroundTask(folder.cleanup)
    )


def _about(collection: Collection, before: set[str], asked: EditRequest) -> str | None:
    """The cluster that an edit made, or that is left of those it put together, or that it is about."""
    there = [cluster.id for cluster in collection.clusters]
    if new := [cluster for cluster in there if cluster not in before]:
        return new[0]
    for named in [asked.into, asked.to, asked.cluster, *(asked.clusters or ())]:
        if named is not None and named in there:
            return named
    return None


def _needed(asked: EditRequest, name: str) -> Any:
    value = getattr(asked, name)
    if value is None:
        raise UsageError(f"{asked.kind} needs {name!r}")
    return value


def _rows(asked: EditRequest) -> Sequence[int]:
    rows = asked.rows if asked.rows is not None else None if asked.row is None else [asked.row]
    if not rows:
        raise UsageError(f"{asked.kind} needs rows")
    return rows


def _move(collection: Collection, asked: EditRequest) -> Any:
    return collection.move(_rows(asked), asked.name if asked.new else _needed(asked, "to"), new=asked.new)


def _answer(collection: Collection, asked: EditRequest) -> Any:
    rows, cluster, yes = _rows(asked), _needed(asked, "cluster"), _needed(asked, "yes")
    if yes and len(rows) > 1:
        return collection.move(rows, cluster)  # to say yes is to place a segment there: one edit for all
    return [collection.answer(row, cluster, yes) for row in rows][-1]


_EDITS: Mapping[str, Callable[[Collection, EditRequest], Any]] = {
    "name": lambda c, a: c.name(_needed(a, "cluster"), a.text),
    "merge": lambda c, a: c.merge(_needed(a, "clusters"), into=a.into),
    "split": lambda c, a: c.split(_needed(a, "cluster"), parts=a.parts),
    "move": _move,
    "reject": lambda c, a: c.reject(_rows(a)),
    "restore": lambda c, a: c.restore(_rows(a)),
    "answer": _answer,
    "propagate": lambda c, a: c.propagate(min_probability=a.min_probability),
    "undo": lambda c, a: c.undo(expected=a.expected),
    "redo": lambda c, a: c.redo(expected=a.expected),
}
