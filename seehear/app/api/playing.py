"""The media of the index: files as they are, and what is made of stretches of them."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi import Path as PathPart
from fastapi.responses import Response, StreamingResponse
from starlette.concurrency import run_in_threadpool

from seehear.app import makers
from seehear.app.api.common import PROBLEMS, Generation, Held
from seehear.app.api.models import Wave
from seehear.app.makers import Stretch
from seehear.app.media import OpenFile, media_type, why_not_playable
from seehear.app.ranges import http_date, part_of
from seehear.app.session import NotFoundError, Session
from seehear.app.workshop import Job, Maker

router = APIRouter(prefix="/media", tags=["media"], responses=PROBLEMS)

Start = Annotated[float, Query(ge=0, le=1e7, allow_inf_nan=False, description="Seconds")]
End = Annotated[float, Query(gt=0, le=1e7, allow_inf_nan=False, description="Seconds")]

SegmentRow = Annotated[int, PathPart(ge=0, le=2**31)]

_LOOK_SECONDS = 1.0  # how often it is looked whether the client still waits
_FOREVER = "private, max-age=31536000, immutable"
_ASK_AGAIN = "private, no-cache"


@router.api_route("/videos/{video}", methods=["GET", "HEAD"], summary="A file", response_class=Response)
def file(held: Held, request: Request, video: str) -> Response:
    """The file itself, if browsers play it, whole or in part (one range)."""
    it = held.index.segments.videos[held.video_place(video)]
    if (why_not := why_not_playable(it)) is not None:
        raise NotFoundError(why_not, f"ask for a part of it: /media/videos/{video}/stretch?start=...&end=...")
    return _sent(request, held.media.open(str(it.path), it.identity), media_type(it), _ASK_AGAIN)


@router.get("/videos/{video}/stretch", summary="A copy of a stretch", response_class=Response)
async def stretch(held: Held, request: Request, video: str, start: Start, end: End) -> Response:
    """Up to 30 s as a small H.264 and AAC MP4, which every browser plays; made when it is first asked for."""
    of = held.stretch(held.video_place(video), start, end, makers.COPY_SECONDS)
    return await _made(
        held, request, of, makers.copy, ".mp4", "video/mp4" if of.has_video else "audio/mp4", urgent=True
    )


@router.get("/videos/{video}/wave.json", summary="Peaks of a stretch's sound", response_model=Wave)
async def video_wave(held: Held, request: Request, video: str, start: Start, end: End) -> Response:
    """Of up to 300 s."""
    of = held.stretch(held.video_place(video), start, end, makers.DRAWN_SECONDS)
    return await _made(held, request, of, makers.wave, ".json", "application/json", urgent=True)


@router.get("/videos/{video}/spectrogram.png", summary="A stretch's spectrogram", response_class=Response)
async def video_spectrogram(held: Held, request: Request, video: str, start: Start, end: End) -> Response:
    """Log-mel, 40 Hz to 8 kHz, low tones at the bottom; of up to 300 s."""
    of = held.stretch(held.video_place(video), start, end, makers.DRAWN_SECONDS)
    return await _made(held, request, of, makers.spectrogram, ".png", "image/png", urgent=True)


@router.get("/segments/{row}/strip.jpg", summary="A segment's moving thumbnail", response_class=Response)
async def strip(held: Held, request: Request, row: SegmentRow, generation: Generation = None) -> Response:
    """Eight frames side by side, each 160 by 120 pixels."""
    return await _made_of_row(held, request, row, generation, makers.strip, ".jpg", "image/jpeg", float("inf"))


@router.get("/segments/{row}/sound.m4a", summary="A segment's sound", response_class=Response)
async def sound(held: Held, request: Request, row: SegmentRow, generation: Generation = None) -> Response:
    """AAC, at most 30 s."""
    return await _made_of_row(
        held, request, row, generation, makers.sound, ".m4a", "audio/mp4", makers.COPY_SECONDS, urgent=True
    )


@router.get("/segments/{row}/wave.json", summary="Peaks of a segment's sound", response_model=Wave)
async def wave(held: Held, request: Request, row: SegmentRow, generation: Generation = None) -> Response:
    """The least and the greatest sample of up to 600 parts."""
    return await _made_of_row(
        held, request, row, generation, makers.wave, ".json", "application/json", makers.DRAWN_SECONDS
    )


@router.get("/segments/{row}/spectrogram.png", summary="A segment's spectrogram", response_class=Response)
async def spectrogram(held: Held, request: Request, row: SegmentRow, generation: Generation = None) -> Response:
    """Log-mel, 40 Hz to 8 kHz, low tones at the bottom."""
    return await _made_of_row(
        held, request, row, generation, makers.spectrogram, ".png", "image/png", makers.DRAWN_SECONDS
    )


async def _made_of_row(
    held: Session, request: Request, row: SegmentRow, generation: str | None, maker: Maker, ending: str, kind: str,
    longest_seconds: float, *, urgent: bool = False,
) -> Response:  # fmt: skip
    held.check_generation(generation)
    of = held.stretch_of_row(row, longest_seconds)
    # Rows mean the same as long as the index does; without its name they may mean others tomorrow.
    cache = _ASK_AGAIN if generation is None else _FOREVER
    return await _made(held, request, of, maker, ending, kind, urgent=urgent, cache=cache)


async def _made(
    held: Session, request: Request, of: Stretch, maker: Maker, ending: str, kind: str, *, urgent: bool = False,
    cache: str = _ASK_AGAIN,
) -> Response:  # fmt: skip
    """What `maker` makes of a stretch, from the cache or made now."""
    key = f"{maker.__name__}\0{of.key}"
    ask: Callable[[], Job | Path] = lambda: _ask(held, key, ending, maker, of, urgent)  # noqa: E731
    found = await run_in_threadpool(ask)
    path = found if isinstance(found, Path) else await _waited_for(held, request, found)
    if path is None:
        return Response(status_code=499)  # nobody is there to read it
    etag = f'"{hashlib.blake2b(key.encode("utf-8", "surrogateescape"), digest_size=12).hexdigest()}"'
    return await run_in_threadpool(lambda: _sent(request, _opened(path, etag), kind, cache))


def _ask(held: Session, key: str, ending: str, maker: Maker, of: Stretch, urgent: bool) -> Job | Path:
    """What is there of `key`, or the job that makes it of a file that is what was scanned."""
    path = held.workshop.cache.path(key, ending)
    if not path.exists():
        held.media.check(of.path, of.identity)
    return held.workshop.ask(key, ending, maker, of, urgent=urgent)


async def _waited_for(held: Session, request: Request, job: Job) -> Path | None:
    """What a job made; None when the client went away before. Raises what the making raises."""
    made = asyncio.wrap_future(job.future)
    made.add_done_callback(lambda future: future.cancelled() or future.exception())  # whoever went away asks no more
    try:
        while True:
            # `wait` does not cancel what it waits for: others may wait for the same.
            done, _ = await asyncio.wait({made}, timeout=_LOOK_SECONDS)
            if done:
                return made.result()
            if await request.is_disconnected():
                return None
    finally:
        held.workshop.leave(job)


def _opened(path: Path, etag: str) -> OpenFile:
    file = open(path, "rb")  # noqa: SIM115 - closed when it was sent
    size = file.seek(0, 2)
    return OpenFile(file, size, path.stat().st_ctime, etag)


def _sent(request: Request, opened: OpenFile, kind: str, cache: str) -> Response:
    """A file or a part of it as the request wants it."""
    part = part_of(request.method, request.headers, opened.size, opened.etag, opened.modified)
    headers = {"etag": opened.etag, "last-modified": http_date(opened.modified), "cache-control": cache} | part.headers
    if request.method == "HEAD" or part.status in (304, 416):
        opened.file.close()
        return Response(status_code=part.status, headers=headers, media_type=kind)
    return StreamingResponse(opened.chunks(part.first, part.length), part.status, headers, media_type=kind)
