"""The index on disk: generations of arrays, of which `current.json` names one.

A generation is a folder that is written whole and never changed, but for what is computed on first use (`map.*.npy`,
`nearest.*`). A reader has its arrays mapped; so the generation before stays until the next one is made.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, overload

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from seehear.errors import RunError
from seehear.files import is_temporary, new_folder, whole_file, write_atomic, writing
from seehear.media.identity import Identity
from seehear.search.segments import IndexedVideo

FORMAT, VERSION = "seehear-index", 1
_CURRENT, _FACTS, _VIDEOS = "current.json", "facts.json", "videos.parquet"
_PREFIX = "generation-"
_VIDEOS_AT_ONCE = 1 << 14
BY = ("both", "video", "audio")
"""What a labelling may be by."""
_VIDEO_COLUMNS: dict[str, pa.DataType] = {
    "video_id": pa.string(),
    "path": pa.string(),
    "fingerprint": pa.string(),
    "size_bytes": pa.int64(),
    "modified_ns": pa.int64(),
    "start_seconds": pa.float64(),
    "end_seconds": pa.float64(),
    "container": pa.string(),
    "video_codec": pa.string(),
    "audio_codec": pa.string(),
    "audio_track": pa.int32(),
    "clock_jumps": pa.bool_(),
}


@dataclass
class Labels:
    """Labels of N segments by one clustering."""

    cluster: np.ndarray
    """(N,) int32; -1 where the segment has nothing that this clustering looks at."""
    confidence: np.ndarray
    """(N,) float32 in 0..1."""
    distance: np.ndarray
    """(N,) float32: to the centroid; by heads -log p."""
    rank: np.ndarray
    """(N,) int32: 1 for the best example of its cluster."""


@dataclass
class Content:
    """What a generation holds, before it is written or as it is read."""

    videos: Sequence[IndexedVideo]
    video: np.ndarray
    """(N,) int32: the place in `videos`."""
    start_seconds: np.ndarray
    end_seconds: np.ndarray
    features: dict[str, np.ndarray]
    """By encoder (N, D) float32, NaN in rows whose video lacks the stream."""
    space: dict[str, np.ndarray] = field(default_factory=dict)
    """Unit rows (N, D) float32; zeros where the stream is lacking."""
    has: dict[str, np.ndarray] = field(default_factory=dict)
    """For "video" and "audio", where they are indexed, the rows that have features of it: (N,) bool."""
    maps: dict[str, np.ndarray] = field(default_factory=dict)
    """What made `space` of `features`: see `seehear.search.spaces`."""
    labels: dict[str, Labels] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    doubt: np.ndarray | None = None
    """(N,) float32: how much each segment is in doubt of belonging to any kind (`seehear.cluster.doubt`), NaN where
    nothing is said of it; None: nothing is said of any."""


class StoredVideos(Sequence[IndexedVideo]):
    """The videos of a generation, made one by one as they are asked for: there may be very many."""

    def __init__(self, table: pa.Table) -> None:
        self._columns = {name: table.column(name) for name in table.column_names}
        self._length = table.num_rows
        self._made: dict[int, IndexedVideo] = {}

    def __len__(self) -> int:
        return self._length

    @overload
    def __getitem__(self, index: int) -> IndexedVideo: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[IndexedVideo]: ...
    def __getitem__(self, index: int | slice) -> IndexedVideo | Sequence[IndexedVideo]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(self._length))]
        place = index + self._length if index < 0 else index
        if not 0 <= place < self._length:
            raise IndexError(index)
        if place not in self._made:
            row = {name: column[place].as_py() for name, column in self._columns.items()}
            self._made[place] = _video(row)
        return self._made[place]

    def __iter__(self) -> Iterator[IndexedVideo]:
        return (self[i] for i in range(self._length))

    def column(self, name: str) -> list[Any]:
        """One column of all videos, without making them: video_id, fingerprint ..."""
        values: list[Any] = self._columns[name].to_pylist()
        return values


def _video(row: Mapping[str, Any]) -> IndexedVideo:
    return IndexedVideo(
        row["video_id"], Path(row["path"]), Identity(row["fingerprint"], row["size_bytes"], row["modified_ns"]),
        row["start_seconds"], row["end_seconds"], row["container"] or "", row["video_codec"], row["audio_codec"],
        row["audio_track"] or 0, bool(row["clock_jumps"]),
    )  # fmt: skip


def _video_row(video: IndexedVideo) -> dict[str, Any]:
    return {
        "video_id": video.video_id,
        "path": str(video.path),
        "fingerprint": video.identity.fingerprint,
        "size_bytes": video.identity.size_bytes,
        "modified_ns": video.identity.modified_ns,
        "start_seconds": video.start_seconds,
        "end_seconds": video.end_seconds,
        "container": video.container,
        "video_codec": video.video_codec,
        "audio_codec": video.audio_codec,
        "audio_track": video.audio_track,
        "clock_jumps": video.clock_jumps,
    }


def index_folder(run: str | Path) -> Path:
    """Where the index of a run lies."""
    return Path(run) / "index"


def generation_folder(folder: Path, name: str) -> Path:
    """Where a generation of this name lies in an index folder."""
    return folder / f"{_PREFIX}{name}"


def current_generation(folder: Path) -> Path | None:
    """The folder of the generation that is in force; None if there is none.

    Raises `RunError` if `current.json` is damaged or of a newer version.
    """
    try:
        note = json.loads((folder / _CURRENT).read_bytes())
        if note["format"] != FORMAT:
            raise ValueError(f"its format is {note['format']}")
        version, name = int(note["version"]), str(note["generation"])
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise RunError(f"{folder / _CURRENT} is damaged: {error}", "delete the folder and index again") from error
    if version > VERSION:
        raise RunError(f"{folder} was written by a newer seehear (format {version})", "update seehear, or index again")
    return generation_folder(folder, name)


def write_generation(
    folder: Path, content: Content, name: str, also: Callable[[Path, Content], None] | None = None
) -> Path:
    """Write a generation, put it in force and remove those before the last one. Returns its folder.

    `also` writes further files into the folder, and may note something in `content.facts`.
    """
    made = generation_folder(folder, name)
    before = _readable_current(folder)
    if not (made / _FACTS).exists():
        with new_folder(made) as temporary:
            if also is not None:
                also(temporary, content)
            _write(temporary, content)
    note = {"format": FORMAT, "version": VERSION, "generation": name}
    write_atomic(folder / _CURRENT, json.dumps(note, indent=1))
    for old in folder.glob(f"{_PREFIX}*"):
        if old not in (made, before) and not is_temporary(old):
            shutil.rmtree(old, ignore_errors=True)
    return made


def _readable_current(folder: Path) -> Path | None:
    with contextlib.suppress(RunError):
        return current_generation(folder)
    return None


def _write(folder: Path, content: Content) -> None:
    schema = pa.schema(list(_VIDEO_COLUMNS.items()))
    videos = iter(content.videos)
    tables = [schema.empty_table()]
    while rows := [_video_row(video) for video in itertools.islice(videos, _VIDEOS_AT_ONCE)]:
        tables.append(pa.Table.from_pylist(rows, schema=schema))
    table = pa.concat_tables(tables).combine_chunks()
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    write_atomic(folder / _VIDEOS, sink.getvalue().to_pybytes())
    for name, array in _arrays(content).items():
        write_array(folder / f"{name}.npy", array)
    write_atomic(folder / _FACTS, json.dumps(content.facts, indent=1))


def _arrays(content: Content) -> dict[str, np.ndarray]:
    """Every array of a generation by the name of its file."""
    found: dict[str, np.ndarray] = {
        "segments.video": content.video.astype(np.int32),
        "segments.start": content.start_seconds.astype(np.float64),
        "segments.end": content.end_seconds.astype(np.float64),
    }
    found |= {f"features.{name}": np.asarray(x, dtype=np.float32) for name, x in content.features.items()}
    found |= {f"space.{name}": np.asarray(x, dtype=np.float32) for name, x in content.space.items()}
    found |= {f"has.{name}": np.asarray(x, dtype=bool) for name, x in content.has.items()}
    found |= {f"fitted.{name}": np.asarray(x, dtype=np.float32) for name, x in content.maps.items()}
    for by, labels in content.labels.items():
        found[f"labels.{by}.cluster"] = labels.cluster.astype(np.int32)
        found[f"labels.{by}.confidence"] = labels.confidence.astype(np.float32)
        found[f"labels.{by}.distance"] = labels.distance.astype(np.float32)
        found[f"labels.{by}.rank"] = labels.rank.astype(np.int32)
    if content.doubt is not None:
        found["labels.doubt"] = content.doubt.astype(np.float32)
    return found


def write_array(path: Path, array: np.ndarray) -> None:
    """Write an array to an .npy file, whole or not at all, without a copy of it in memory."""
    with writing(path), whole_file(path) as file:
        np.lib.format.write_array(file, np.ascontiguousarray(array), allow_pickle=False)


def read_generation(folder: Path) -> Content:
    """What a generation holds; its arrays are mapped, not read. Raises `RunError` if it is damaged."""
    remedy = "delete its folder `index` and index again"
    try:
        facts = json.loads((folder / _FACTS).read_bytes())
        videos = StoredVideos(pq.read_table(folder / _VIDEOS))
        arrays = {p.name.removesuffix(".npy"): p for p in folder.glob("*.npy")}
        read = {name: _mapped(path) for name, path in arrays.items() if not name.startswith("map.")}
        labels = {
            by: Labels(*(read[f"labels.{by}.{what}"] for what in ("cluster", "confidence", "distance", "rank")))
            for by in BY
            if f"labels.{by}.cluster" in read
        }
        content = Content(
            videos, read["segments.video"], read["segments.start"], read["segments.end"],
            _under("features.", read), _under("space.", read), _under("has.", read), _under("fitted.", read), labels,
            facts, read.get("labels.doubt"),
        )  # fmt: skip
        _check_lengths(content)
    except (OSError, ValueError, KeyError, pa.ArrowException) as error:
        raise RunError(f"the index in {folder} is damaged: {error}", remedy) from error
    return content


def _mapped(path: Path) -> np.ndarray:
    x: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    return x


def _under(prefix: str, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name.removeprefix(prefix): x for name, x in arrays.items() if name.startswith(prefix)}


def _check_lengths(content: Content) -> None:
    rows = len(content.video)
    of_rows = [content.start_seconds, content.end_seconds, *content.features.values(), *content.space.values()]
    of_rows += [labels.cluster for labels in content.labels.values()]
    of_rows += [] if content.doubt is None else [content.doubt]
    if any(len(x) != rows for x in of_rows):
        raise ValueError("its arrays differ in length")
    if rows and not 0 <= int(content.video.min()) <= int(content.video.max()) < len(content.videos):
        raise ValueError("segments of videos that it does not list")
