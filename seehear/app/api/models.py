"""What the interface takes and gives. A row is a segment's number in the index of one generation."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from seehear.collection.results import Edit

By = Literal["both", "video", "audio"]
"""A labelling: by sight and sound, by sight, by sound."""
SearchBy = Literal["both", "sight", "sound", "across"]
Number = Annotated[float, Field(allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Row = Annotated[int, Field(ge=0, le=2**31)]
Text = Annotated[str, Field(max_length=1000)]


class Problem(BaseModel):
    """What went wrong, for people (`detail`, `remedy`) and for programs (`kind`)."""

    detail: str
    remedy: str | None = None
    kind: str


class RunInfo(BaseModel):
    """What is looked at."""

    name: str
    method: str
    labellings: list[str]
    by: str
    """The labelling that is shown first."""
    segments: int
    videos: int
    seconds: float
    across: str | None
    """Through what sight and sound are compared, in words; none if they cannot be."""
    generation: str
    revision: int
    indexed_every: float | None
    """Seconds of a segment; none where the index has the run's own clips."""
    left_out: int
    """Videos that could not be indexed."""
    version: str
    read_only: bool


class ClusterInfo(BaseModel):
    """A group of segments."""

    id: str
    name: str | None
    size: int
    seconds: float
    confidence: float
    confirmed: int
    doubtful: int
    """Segments that may belong to no kind; 0 also where the run says nothing of that."""
    exemplars: list[int]
    """Rows of the best examples, at most 12."""
    hue: int
    """Of its colour, 0 to 359; stays with the id."""


class Step(BaseModel):
    """An edit that can be taken back or done again."""

    id: str
    text: str


class ConflictInfo(BaseModel):
    """Something that was said of an earlier clustering and could not be carried over by itself."""

    text: str


class Clusters(BaseModel):
    revision: int
    generation: str
    clusters: list[ClusterInfo]
    rejected: int
    doubtful: int | None
    """Segments of all clusters that may belong to no kind; none where the run says nothing of that."""
    conflicts: list[ConflictInfo]
    undo: Step | None
    redo: Step | None


class Rows(BaseModel):
    total: int
    rows: list[int]


class SegmentInfo(BaseModel):
    """A stretch of a video."""

    row: int
    video: str
    title: str
    start: float
    end: float
    cluster: str | None
    name: str | None
    confidence: float
    confirmed: bool
    rejected: bool
    doubt: float | None
    """How far it is from all that it could be of a kind with: 0 for what is usual and where a person decided, 1 for as
    far as a segment with the sound of another."""
    doubtful: bool
    """Whether the segment may belong to no kind."""
    has_video: bool
    has_audio: bool


class SegmentList(BaseModel):
    segments: list[SegmentInfo]


class Map(BaseModel):
    """Positions of all segments in [-1, 1]; `cluster` has places in `ids`, -1 for none."""

    generation: str
    x: list[float]
    y: list[float]
    cluster: list[int]
    ids: list[str]
    confidence: list[float]


class VideoInfo(BaseModel):
    video: str
    title: str
    seconds: float
    segments: int


class VideoList(BaseModel):
    total: int
    videos: list[VideoInfo]


class TimelineSegment(BaseModel):
    row: int
    start: float
    end: float
    cluster: str | None
    name: str | None
    confidence: float


class VideoDetail(BaseModel):
    """A video with its segments in the order of time."""

    video: str
    title: str
    seconds: float
    start: float
    playable: bool
    """Whether browsers play the file itself; else stretches of it are to be had."""
    why_not: str | None
    has_video: bool
    has_audio: bool
    segments: list[TimelineSegment]


class Changes(BaseModel):
    """Whether there is something new: asked often."""

    revision: int
    generation: str


class EditRequest(BaseModel):
    """An edit; which fields it needs depends on its kind.

    name: cluster, text (none takes the name away). merge: clusters, into. split: cluster, parts. move: rows, and `to`
    or new (and name for it). reject, restore: rows. answer: row or rows, cluster, yes. propagate: min_probability.
    undo, redo: expected, the id of the edit that is meant.
    """

    model_config = ConfigDict(extra="forbid")

    generation: str
    kind: Literal["name", "merge", "split", "move", "reject", "restore", "answer", "propagate", "undo", "redo"]
    cluster: Text | None = None
    clusters: list[Text] | None = None
    text: Text | None = None
    into: Text | None = None
    parts: Annotated[int, Field(ge=2, le=100)] = 2
    rows: list[Row] | None = None
    row: Row | None = None
    to: Text | None = None
    new: bool = False
    name: Text | None = None
    yes: bool | None = None
    min_probability: Share = 0.9
    expected: Text | None = None


class EditMade(BaseModel):
    id: str
    text: str
    kind: str
    cluster: str | None
    """The cluster that it made or that is left, if it is about one."""


class EditReply(BaseModel):
    revision: int
    edit: EditMade
    undo: Step | None
    redo: Step | None


class EditList(BaseModel):
    edits: list[Edit]


class OtherCluster(BaseModel):
    cluster: str
    name: str | None
    probability: float


class QuestionInfo(BaseModel):
    """Is this segment of that cluster?"""

    row: int
    cluster: str
    name: str | None
    probability: float
    others: list[OtherCluster]


class Review(BaseModel):
    questions: list[QuestionInfo]
    answered: int
    unsure: int


class SearchRequest(BaseModel):
    """A search by a segment (`row`) or by a stretch of a video (`video`, `start`, `end`)."""

    model_config = ConfigDict(extra="forbid")

    generation: str
    row: Row | None = None
    video: Text | None = None
    start: Number | None = None
    end: Number | None = None
    by: SearchBy = "both"
    across_from: Literal["sight", "sound"] | None = None
    sound_weight: Share = 0.5
    k: Annotated[int, Field(ge=1, le=1000)] = 50
    min_score: Share | None = None
    cluster: Text | None = None
    labelling: By = "both"
    """Of which `cluster` is one."""
    skip_same_video: bool = False


class HitInfo(BaseModel):
    row: int
    score: float
    similarity: float


class SearchReply(BaseModel):
    """Moments like the query, the likest first; `through` says how they were compared."""

    generation: str
    hits: list[HitInfo]
    by: str
    through: str
    nothing_like_it: bool
    cut_off: float
    exact: bool
    recall: float | None
    notes: list[str]
    """What else a person should know."""


class Twin(BaseModel):
    """One of several copies; without `video` and times if only another of them is indexed."""

    video: str | None
    title: str
    start: float | None
    end: float | None


class Duplicates(BaseModel):
    groups: list[list[Twin]]
    compared: int
    left_out: int
    """Videos that could not be opened."""


class Wave(BaseModel):
    """The least and the greatest sample of each part of a stretch."""

    peaks: list[tuple[float, float]]
    seconds: float
