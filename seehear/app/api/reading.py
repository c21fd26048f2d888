"""What there is: the run, its clusters, segments, videos, the map."""

from __future__ import annotations

import hashlib
import os
import re
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter, Query
from fastapi.responses import Response

import seehear
from seehear.app.api.common import PROBLEMS, Generation, Held, Labelling, quick_json, rounded
from seehear.app.api.models import (
    Changes,
    ClusterInfo,
    Clusters,
    ConflictInfo,
    Map,
    Rows,
    RunInfo,
    SegmentInfo,
    SegmentList,
    Step,
    TimelineSegment,
    VideoDetail,
    VideoInfo,
    VideoList,
)
from seehear.app.media import why_not_playable
from seehear.app.session import NotFoundError, Session, View
from seehear.engine.runfolder import RunFolder
from seehear.errors import UsageError

router = APIRouter(prefix="/api", tags=["reading"], responses=PROBLEMS)

MOST_SEGMENTS = 500
"""Segments that one request tells about."""
EXEMPLARS = 12
_GOLDEN_DEGREES = 137.508


@router.get("/run", summary="What is looked at")
def run_info(held: Held) -> RunInfo:
    """The run, its labellings, and how much there is of it."""
    with held.lock:
        revision = held.collection(held.by).revision
        index, facts = held.index, held.index.facts
    segments = index.segments
    folder = RunFolder(held.run)
    return RunInfo(
        name=held.run.resolve().name,
        method=folder.load_config().method,
        labellings=held.labellings,
        by=held.by,
        segments=len(segments),
        videos=len(segments.videos),
        seconds=float((segments.end_seconds - segments.start_seconds).sum()),
        across=index.across,
        generation=index.generation,
        revision=revision,
        indexed_every=facts.get("every_seconds"),
        left_out=len(facts.get("left_out") or ()),
        version=seehear.__version__,
        read_only=read_only(held),
    )


@router.get("/changes", summary="Whether there is something new")
def changes(held: Held, by: Labelling) -> Changes:
    """The last revision of the edits, by anyone, and the generation of the index."""
    with held.lock:
        return Changes(revision=held.collection(by).revision, generation=held.generation)


@router.get("/clusters", summary="All clusters")
def clusters(held: Held, by: Labelling) -> Clusters:
    """The clusters in the collection's order, with their best examples."""
    with held.lock:
        view = held.view(by)
        collection = view.collection
        undo, redo, conflicts = collection.undoable, collection.redoable, list(collection.conflicts)
    return Clusters(
        revision=view.revision,
        generation=held.generation,
        clusters=[
            ClusterInfo(
                id=cluster.id,
                name=cluster.name,
                size=int(cluster.size),
                seconds=round(float(cluster.seconds), 3),
                confidence=_finite(cluster.confidence),
                confirmed=int(cluster.confirmed),
                doubtful=int(cluster.doubtful),
                exemplars=[int(row) for row in cluster.rows[:EXEMPLARS]],
                hue=hue_of(cluster.id),
            )
            for cluster in view.clusters
        ],
        rejected=int(view.rejected.sum()),
        doubtful=None if view.doubt is None else int(view.doubtful.sum()),
        conflicts=[ConflictInfo(text=conflict.text) for conflict in conflicts],
        undo=step_of(undo),
        redo=step_of(redo),
    )


@router.get("/rows", summary="Segments that fulfil all conditions", response_model=Rows)
def rows(
    held: Held,
    by: Labelling,
    cluster: Annotated[str | None, Query(max_length=1000)] = None,
    named: Literal["yes", "no"] | None = None,
    video: Annotated[str | None, Query(max_length=100)] = None,
    min_confidence: Annotated[float | None, Query(ge=0, le=1)] = None,
    max_confidence: Annotated[float | None, Query(ge=0, le=1)] = None,
    text: Annotated[str | None, Query(max_length=1000)] = None,
    state: Literal["confirmed", "open", "rejected"] | None = None,
    doubtful: Literal["yes", "no"] | None = None,
    order: Literal["example", "surest", "unsurest", "doubt", "time"] = "example",
) -> Response:
    """Numbers of all segments that fulfil what is given. `text` is looked for in titles and names.

    Rejected segments are left out unless `state` asks for them; they are not doubtful, nor is what a person placed. In
    the order `doubt` the most doubtful come first, and those of which nothing is said last.
    """
    with held.lock:
        view = held.view(by)
    keep = view.rejected.copy() if state == "rejected" else ~view.rejected
    if state in ("confirmed", "open"):
        keep &= view.confirmed == (state == "confirmed")
    if cluster is not None:
        keep &= view.place == place_of(view, cluster)
    if named is not None:
        keep &= _by_place(view, [(c.name is not None) == (named == "yes") for c in view.clusters], named == "no")
    if min_confidence is not None:
        keep &= view.confidence >= min_confidence
    if max_confidence is not None:
        keep &= view.confidence <= max_confidence
    if doubtful is not None:
        keep &= view.doubtful == (doubtful == "yes")
    segments = held.index.segments
    if video is not None:
        keep &= np.asarray(segments.video) == held.video_place(video)
    if text is not None and (sought := text.strip().casefold()):
        names = _by_place(view, [sought in (c.name or "").casefold() for c in view.clusters], False)
        titles = np.array([sought in title.casefold() for title in held.media.titles], bool)
        keep &= names | titles[np.asarray(segments.video)]
    found = np.flatnonzero(keep)
    if order == "example":
        found = found[np.lexsort((view.order[found], view.place[found]))]
    elif order == "doubt":
        if view.doubt is not None:  # of a run without doubts the order of time stays
            found = found[np.argsort(-view.doubt[found], kind="stable")]
    elif order != "time":
        sure = view.confidence[found]
        found = found[np.argsort(-sure if order == "surest" else sure, kind="stable")]
    return quick_json({"total": len(found), "rows": found.tolist()})


@router.get("/segments", summary="What is known of some segments")
def segment_list(
    held: Held, by: Labelling, rows: Annotated[str, Query(pattern=r"^\d{1,10}(,\d{1,10})*$", max_length=6000)],
    generation: Generation = None,
) -> SegmentList:  # fmt: skip
    """Videos, times, clusters and states of up to 500 rows, parted by commas, in the order given."""
    wanted = [int(part) for part in rows.split(",")]
    if len(wanted) > MOST_SEGMENTS:
        raise UsageError(f"{len(wanted)} segments at once are too many", f"ask for up to {MOST_SEGMENTS}")
    held.check_generation(generation)
    held.check_rows(wanted)
    with held.lock:
        view = held.view(by)
    return SegmentList(segments=[segment_info(held, view, row) for row in wanted])


@router.get("/map", summary="Positions of all segments", response_model=Map)
def positions(held: Held, by: Labelling) -> Response:
    """Where segments lie on a plane on which like ones are near each other. The first asking may take a while."""
    with held.lock:
        view = held.view(by)
        index = view.collection.index
    with held.drawing:  # not under the session's lock: edits need not wait for it
        where = index.map(by)
    return quick_json({
        "generation": index.generation,
        "x": rounded(where[:, 0]),
        "y": rounded(where[:, 1]),
        "cluster": view.place.tolist(),
        "ids": [cluster.id for cluster in view.clusters],
        "confidence": rounded(view.confidence, 3),
    })  # fmt: skip


@router.get("/videos", summary="The videos")
def videos(
    held: Held,
    text: Annotated[str | None, Query(max_length=1000)] = None,
    offset: Annotated[int, Query(ge=0)] = 0,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
) -> VideoList:
    """Videos whose titles hold `text`, some at a time."""
    media, segments = held.media, held.index.segments
    sought = (text or "").strip().casefold()
    places = [place for place, title in enumerate(media.titles) if sought in title.casefold()]
    counts = np.bincount(np.asarray(segments.video), minlength=len(media.ids))
    some = [(place, segments.videos[place]) for place in places[offset : offset + limit]]
    found = [
        VideoInfo(
            video=media.ids[place], title=media.titles[place], segments=int(counts[place]),
            seconds=round(video.end_seconds - video.start_seconds, 3),
        )
        for place, video in some
    ]  # fmt: skip
    return VideoList(total=len(places), videos=found)


@router.get("/videos/{video}", summary="One video with its segments")
def video_detail(held: Held, by: Labelling, video: str) -> VideoDetail:
    """A video, whether browsers play it, and the clusters of its segments along time."""
    place = held.video_place(video)
    with held.lock:
        view = held.view(by)
    segments, it = held.index.segments, held.index.segments.videos[place]
    own = np.flatnonzero(np.asarray(segments.video) == place)
    own = own[np.argsort(segments.start_seconds[own], kind="stable")]
    timeline = []
    for row in own.tolist():
        cluster = view.cluster_at(row)
        timeline.append(TimelineSegment(
            row=row, start=float(segments.start_seconds[row]), end=float(segments.end_seconds[row]),
            cluster=cluster and cluster.id, name=cluster and cluster.name, confidence=_finite(view.confidence[row]),
        ))  # fmt: skip
    why_not = why_not_playable(it)
    return VideoDetail(
        video=video, title=held.media.titles[place], seconds=it.end_seconds, start=it.start_seconds,
        playable=why_not is None, why_not=why_not, has_video=it.video_codec is not None,
        has_audio=it.audio_codec is not None, segments=timeline,
    )  # fmt: skip


def segment_info(held: Session, view: View, row: int) -> SegmentInfo:
    """What is known of a segment."""
    segments = held.index.segments
    place = int(segments.video[row])
    video, cluster = segments.videos[place], view.cluster_at(row)
    return SegmentInfo(
        row=row, video=held.media.ids[place], title=held.media.titles[place],
        start=float(segments.start_seconds[row]), end=float(segments.end_seconds[row]),
        cluster=cluster and cluster.id, name=cluster and cluster.name, confidence=_finite(view.confidence[row]),
        confirmed=bool(view.confirmed[row]), rejected=bool(view.rejected[row]),
        doubt=None if view.doubt is None or np.isnan(view.doubt[row]) else round(float(view.doubt[row]), 4),
        doubtful=bool(view.doubtful[row]),
        has_video=video.video_codec is not None, has_audio=video.audio_codec is not None,
    )  # fmt: skip


def step_of(edit: Any) -> Step | None:
    """An edit to take back or do again, in short."""
    return None if edit is None else Step(id=edit.id, text=edit.text)


def place_of(view: View, cluster: str) -> int:
    """A cluster's place by its id; `NotFoundError` if there is none."""
    for place, one in enumerate(view.clusters):
        if one.id == cluster:
            return place
    raise NotFoundError(f"there is no cluster {cluster!r}", "another edit may have merged it: reload")


def hue_of(cluster: str) -> int:
    """A hue in degrees that stays with a cluster's id: neighbouring numbers lie far apart, parts of one near it."""
    first, *parts = re.findall(r"\d{1,9}", cluster.partition("@")[0]) or [""]
    if first == "":
        return int.from_bytes(hashlib.blake2b(cluster.encode(), digest_size=4).digest(), "big") % 360
    return round(int(first) * _GOLDEN_DEGREES + 215 + sum(25 * int(part) for part in parts)) % 360


def read_only(held: Session) -> bool:
    """Whether edits cannot be kept."""
    return not os.access(held.run, os.W_OK)


def _by_place(view: View, values: list[bool], of_none: bool) -> np.ndarray:
    """A value for every segment by its cluster's; `of_none` for those without a cluster."""
    found: np.ndarray = np.array([*values, of_none], bool)[view.place]  # -1 takes the last
    return found


def _finite(value: Any) -> float:
    number = float(value)
    return round(number, 4) if np.isfinite(number) else 0.0
