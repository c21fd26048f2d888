"""Searches: by a segment, by a stretch of a video, by a file that is dropped on the page."""

from __future__ import annotations

import contextlib
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Query, Request
from starlette.concurrency import run_in_threadpool

from seehear.app.api.common import PROBLEMS, Held
from seehear.app.api.models import By, SearchBy, SearchReply, SearchRequest
from seehear.app.api.reading import place_of
from seehear.app.session import Session
from seehear.errors import MediaError, UsageError
from seehear.media.formats import AUDIO_EXTENSIONS, VIDEO_EXTENSIONS

router = APIRouter(prefix="/api", tags=["searching"], responses=PROBLEMS)

if TYPE_CHECKING:
    from seehear.search.query import Answer

PICTURES = frozenset({"jpg", "jpeg", "png", "webp", "bmp", "gif"})
Time = Annotated[float | None, Query(ge=0, le=1e7, allow_inf_nan=False)]


@router.post("/search", summary="Moments like a segment or a stretch")
def search(held: Held, asked: SearchRequest) -> SearchReply:
    """The segments that are most like the query by sight, by sound, by both, or across from one to the other."""
    held.check_generation(asked.generation)
    if (asked.row is None) == (asked.video is None):
        raise UsageError("a search needs either a row or a video with start and end")
    options: dict[str, Any] = {
        "by": asked.by, "sound_weight": asked.sound_weight, "k": asked.k, "min_score": asked.min_score,
        "skip_same_video": asked.skip_same_video, "across_from": asked.across_from,
    }  # fmt: skip
    if asked.cluster is not None:
        with held.lock:
            view = held.view(asked.labelling)
        options["rows"] = view.clusters[place_of(view, asked.cluster)].rows
    searcher = held.searcher()
    with held.searching:
        if asked.row is not None:
            held.check_rows([asked.row])
            answer = searcher.like_segment(asked.row, **options)
        else:
            if asked.start is None or asked.end is None or asked.end <= asked.start:
                raise UsageError("a stretch needs a start and a later end")
            place = held.video_place(asked.video or "")
            video_id = held.index.segments.videos[place].video_id
            answer = searcher.like_stretch(video_id, asked.start, asked.end, **options)
    return _reply(held, answer)


@router.post("/search/file", summary="Moments like a file", openapi_extra={
    "requestBody": {"required": True, "content": {"application/octet-stream": {"schema": {
        "type": "string", "format": "binary"}}}},
})  # fmt: skip
async def search_file(
    held: Held,
    request: Request,
    name: Annotated[str, Query(max_length=1000)] = "",
    by: SearchBy = "both",
    sound_weight: Annotated[float, Query(ge=0, le=1)] = 0.5,
    k: Annotated[int, Query(ge=1, le=1000)] = 50,
    min_score: Annotated[float | None, Query(ge=0, le=1)] = None,
    start: Time = None,
    end: Time = None,
    across_from: Annotated[str | None, Query(pattern="^(sight|sound)$")] = None,
    cluster: Annotated[str | None, Query(max_length=1000)] = None,
    labelling: By = "both",
) -> SearchReply:
    """The body is the file: a video, sound or a picture of at most 200 MiB. It is deleted when it was looked at."""
    options: dict[str, Any] = {
        "by": by, "sound_weight": sound_weight, "k": k, "min_score": min_score, "start": start, "end": end,
        "across_from": across_from,
    }  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="seehear-query-") as folder:
        path = Path(folder) / f"query{ending_of(name)}"
        with open(path, "wb") as file:
            async for chunk in request.stream():
                await run_in_threadpool(file.write, chunk)
        return await run_in_threadpool(_like_file, held, path, cluster, labelling, options)


def ending_of(name: str) -> str:
    """The ending of a file's name with its dot, if it is one of a picture, of sound or of a video; else none."""
    found = re.search(r"\.([A-Za-z0-9-]{1,8})$", name)
    ending = found[1].lower() if found else ""
    return f".{ending}" if ending in PICTURES | AUDIO_EXTENSIONS | VIDEO_EXTENSIONS else ""


def _like_file(held: Session, path: Path, cluster: str | None, labelling: str, options: dict[str, Any]) -> SearchReply:
    if not path.stat().st_size:
        raise UsageError("the file is empty", "send the file itself as the body of the request")
    if cluster is not None:
        with held.lock:
            view = held.view(labelling)
        options["rows"] = view.clusters[place_of(view, cluster)].rows
    searcher = held.searcher()
    with held.searching, _named_query(path):
        return _reply(held, searcher.like_file(path, **options))


@contextlib.contextmanager
def _named_query(path: Path) -> Iterator[None]:
    """Let no error name the place where the file was kept."""
    try:
        yield
    except MediaError as error:
        raise MediaError("the file", error.reason, error.detail.replace(str(path), "the file"), error.remedy) from error


def _reply(held: Session, answer: Answer) -> SearchReply:
    return SearchReply(generation=held.generation, **answer.as_dict())
