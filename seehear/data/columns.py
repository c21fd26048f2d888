"""Videos and spans of a collection in columns: where there are millions, an object for each would fill the memory.

A `Video` or a `ClipRef` is made when it is asked for. `docs/scale.md` has the bytes that each takes.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from seehear.config import ClusterConfig
from seehear.data.clips import Video, make_ref
from seehear.types import ClipRef, Keys, one_piece, text_column

_AT_ONCE = 1 << 16
"""So many spans are made at once where all are gone through, and so many videos at most are kept once made."""
_OF_A_VIDEO = (
    "video_id", "path", "fingerprint", "width", "height", "clock_jumps", "audio_track", "size_bytes", "modified_ns",
    "text_cues",
)  # fmt: skip
_OF_A_SPAN = ("video", "start_seconds", "end_seconds")
_START, _END, _WITH_CUES, _ORDER = "start of all streams", "end of all streams", "with cues", "order of the ids"


class VideoTable(Sequence[Video]):
    """Videos in an order, each with an id of its own.

    Attributes:
        ids: their ids, a column of V texts.
        start_seconds, end_seconds: (V,) float64, the span in which every needed stream is there.
        with_cues: (V,) bool, whether text is looked at and something is said.
    """

    def __init__(
        self,
        ids: Sequence[str] | pa.ChunkedArray,
        start_seconds: np.ndarray,
        end_seconds: np.ndarray,
        with_cues: np.ndarray,
        make: Callable[[int], Video],
        order: np.ndarray | None = None,
    ) -> None:
        """`make` gives the video at a place; `order` is that of the ids' `Keys`, if it is known."""
        self.ids = text_column(ids)
        self.start_seconds, self.end_seconds, self.with_cues = start_seconds, end_seconds, with_cues
        self._make, self._order = make, order

    @cached_property
    def _keys(self) -> Keys:
        return Keys(self.ids, self._order)

    @classmethod
    def of(cls, videos: Iterable[Video]) -> VideoTable:
        """These videos, of those with one id the last; itself, if they are such a table already."""
        if isinstance(videos, VideoTable):
            return videos
        there = list({video.video_id: video for video in videos}.values())
        return cls(
            [v.video_id for v in there],
            np.array([v.start_seconds for v in there], dtype=np.float64),
            np.array([v.end_seconds for v in there], dtype=np.float64),
            np.array([bool(v.cues) for v in there], dtype=bool),
            there.__getitem__,
        )

    @classmethod
    def from_rows(cls, rows: pa.Table, streams: Sequence[str]) -> VideoTable:
        """What `Video.from_row` makes of each of a manifest's rows, all of which have these streams."""
        return cls.of_columns(cls.columns_of(rows, streams), streams)

    @classmethod
    def columns_of(cls, rows: pa.Table, streams: Sequence[str], *, sort: bool = False) -> pa.Table:
        """What `of_columns` takes, of a manifest's rows: columns in one piece, with `sort` the order of the ids too."""
        starts = [rows[f"{s}_start_seconds"].to_numpy() for s in streams]
        ends = [start + rows[f"{s}_duration_seconds"].to_numpy() for start, s in zip(starts, streams, strict=True)]
        columns = {name: _one_chunk(rows[name]) for name in cls.columns(streams) if name in rows.column_names}
        with_cues = np.zeros(len(rows), dtype=bool)
        if "text_cues" in columns:
            # "[]" is said of a video without a cue.
            with_cues = pc.greater(pc.fill_null(pc.utf8_length(columns["text_cues"]), 0), 2).to_numpy(
                zero_copy_only=False
            )
        made = {_START: np.maximum.reduce(starts), _END: np.minimum.reduce(ends), _WITH_CUES: with_cues.view(np.uint8)}
        if sort:
            made[_ORDER] = Keys(columns["video_id"]).order
        return pa.table(columns | {name: pa.array(x) for name, x in made.items()})

    @classmethod
    def of_columns(cls, table: pa.Table, streams: Sequence[str]) -> VideoTable:
        """The videos that `columns_of` put in columns, nothing of which is copied."""
        columns = {name: _one_chunk(table[name]) for name in cls.columns(streams) if name in table.column_names}
        start, end, with_cues = (table[name].to_numpy() for name in (_START, _END, _WITH_CUES))
        order = table[_ORDER].to_numpy() if _ORDER in table.column_names else None

        def make(place: int) -> Video:
            return Video.from_row({name: column[place].as_py() for name, column in columns.items()}, streams)

        return cls(columns["video_id"], start, end, with_cues.view(bool), make, order)

    @staticmethod
    def columns(streams: Sequence[str]) -> list[str]:
        """The columns of a manifest that `from_rows` needs; one that older manifests lack may be missing."""
        return [*_OF_A_VIDEO, *(f"{s}_{what}_seconds" for s in streams for what in ("start", "duration"))]

    def __len__(self) -> int:
        return len(self.ids)

    @overload
    def __getitem__(self, index: int) -> Video: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Video]: ...
    def __getitem__(self, index: int | slice) -> Video | Sequence[Video]:
        if isinstance(index, slice):
            return self.take(np.arange(len(self))[index])
        return self._make(range(len(self))[index])

    def __iter__(self) -> Iterator[Video]:
        return map(self._make, range(len(self)))

    @property
    def seconds(self) -> np.ndarray:
        """How long each one's span is, (V,) float64."""
        return self.end_seconds - self.start_seconds

    def id_of(self, place: int) -> str:
        """The id of the video at a place."""
        return str(self.ids[place])

    def iterate_ids(self) -> Iterator[str]:
        """All ids in order, a part of them at once as objects."""
        parts = (self.ids.slice(start, _AT_ONCE) for start in range(0, len(self), _AT_ONCE))
        return itertools.chain.from_iterable(part.to_pylist() for part in parts)

    def place(self, video_id: str) -> int:
        """Where a video stands; -1 if it is not there."""
        return self._keys.row(video_id)

    def places(self, video_ids: Sequence[str] | pa.ChunkedArray) -> np.ndarray:
        """Where videos stand, (len(video_ids),) int64; -1 for one that is not there."""
        return self._keys.rows(video_ids)

    def take(self, places: np.ndarray) -> VideoTable:
        """The videos at some places, each at most once, in this order."""
        make = self._make
        return VideoTable(
            self.ids.take(places), self.start_seconds[places], self.end_seconds[places], self.with_cues[places],
            lambda place: make(int(places[place])),
        )  # fmt: skip


class VideosById(Mapping[str, Video]):
    """Videos by their ids, in an order; of several with one id the last."""

    def __init__(self, videos: Iterable[Video]) -> None:
        self.table = VideoTable.of(videos)
        self._made: dict[str, Video] = {}

    def __len__(self) -> int:
        return len(self.table)

    def __iter__(self) -> Iterator[str]:
        return self.table.iterate_ids()

    def __getitem__(self, video_id: str) -> Video:
        video = self._made.get(video_id)
        if video is None:
            place = self.table.place(video_id)
            if place < 0:
                raise KeyError(video_id)
            if len(self._made) >= _AT_ONCE:
                self._made.clear()
            video = self._made[video_id] = self.table[place]
        return video

    def __contains__(self, video_id: object) -> bool:
        return isinstance(video_id, str) and self.table.place(video_id) >= 0


class ClipTable(Sequence[ClipRef]):
    """N spans of the videos of a table.

    Attributes:
        video: (N,) int32, the place of each one's video.
        start_seconds, end_seconds: (N,) float64
    """

    def __init__(self, videos: VideoTable, video: np.ndarray, start: np.ndarray, end: np.ndarray) -> None:
        self.videos, self.video, self.start_seconds, self.end_seconds = videos, video, start, end

    def __len__(self) -> int:
        return len(self.video)

    @overload
    def __getitem__(self, index: int) -> ClipRef: ...
    @overload
    def __getitem__(self, index: slice) -> ClipTable: ...
    def __getitem__(self, index: int | slice) -> ClipRef | ClipTable:
        if isinstance(index, slice):
            return ClipTable(self.videos, self.video[index], self.start_seconds[index], self.end_seconds[index])
        video_id = self.videos.id_of(int(self.video[index]))
        return make_ref(video_id, float(self.start_seconds[index]), float(self.end_seconds[index]))

    def __iter__(self) -> Iterator[ClipRef]:
        for part in self._parts():
            ids = self.videos.ids.take(part.video).to_pylist()
            yield from map(make_ref, ids, part.start_seconds.tolist(), part.end_seconds.tolist())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and len(self) == len(other) and all(map(ClipRef.__eq__, self, other))

    __hash__ = None  # type: ignore[assignment]

    def take(self, rows: np.ndarray) -> ClipTable:
        """Some rows, by their numbers or by a mask (N,)."""
        return ClipTable(self.videos, self.video[rows], self.start_seconds[rows], self.end_seconds[rows])

    @property
    def clip_ids(self) -> pa.ChunkedArray:
        """A column of the ids, made anew."""
        return pa.chunked_array(list(self.id_blocks()), pa.large_string())

    def id_blocks(self) -> Iterator[pa.Array]:
        """The ids in columns, of which only one is there at a time."""
        return (pa.array([ref.clip_id for ref in part], pa.large_string()) for part in self._parts())

    def _parts(self) -> Iterator[ClipTable]:
        return (self[start : start + _AT_ONCE] for start in range(0, len(self), _AT_ONCE))

    def columns(self) -> pa.Table:
        """The spans as a table, which `of_columns` takes without a copy."""
        return pa.table({name: pa.array(getattr(self, name)) for name in _OF_A_SPAN})

    @classmethod
    def of_columns(cls, videos: VideoTable, table: pa.Table) -> ClipTable:
        """Inverse of `columns`, for the same videos."""
        return cls(videos, *(table[name].to_numpy() for name in _OF_A_SPAN))


def _one_chunk(column: pa.ChunkedArray) -> pa.ChunkedArray | pa.Array:
    """A column in which a place is found at once."""
    texts = pa.types.is_string(column.type) or pa.types.is_large_string(column.type)
    return text_column(column) if texts else one_piece(column)


def cut(videos: VideoTable, cluster: ClusterConfig) -> ClipTable:
    """The spans that `seehear.data.clips.clip_refs` cuts, in columns."""
    needed = np.ceil(videos.seconds / cluster.max_span_seconds - 1e-6).astype(np.int64)
    counts = np.maximum(cluster.clips_per_video, needed)
    if counts.max(initial=0) <= 1:  # as in collections of clips: nothing need be copied
        return ClipTable(videos, np.arange(len(videos), dtype=np.int32), videos.start_seconds, videos.end_seconds)
    video = np.repeat(np.arange(len(videos), dtype=np.int32), counts)
    number = np.arange(len(video)) - np.repeat(np.cumsum(counts) - counts, counts)
    first, last, count = videos.start_seconds[video], videos.end_seconds[video], counts[video]
    step = (last - first) / count
    # The edges of numpy.linspace, to the bit: the last one is the end itself.
    start = number * step + first
    end = np.where(number + 1 == count, last, (number + 1) * step + first)
    return ClipTable(videos, video, start, end)
