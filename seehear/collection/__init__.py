"""Collection: the segments of a run in clusters that people name, correct and take out.

`collection` is what Python and the server use; `edits` checks what is asked for, `log` keeps it, `folding` and `state`
make of it what there is, `carry` brings it to another clustering; `learning` learns from it; `export` and `sampling`
take out; `pointing` reads segments as people write them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import Positional, arg

from seehear.collection import text
from seehear.commands import command, plain
from seehear.options import OutFile, Run, option

if TYPE_CHECKING:
    from pathlib import Path

    from seehear.collection.collection import Collection
    from seehear.collection.results import Edit

    By = Literal["both", "video", "audio"]
    OneCluster = str | int
    AnyCluster = str | int | None
    Clusters = Sequence[str | int]
    SegmentList = Sequence[str]
    OtherRun = str | Path | None
else:
    By = Annotated[
        Literal["both", "video", "audio"],
        option("Clusters by both together, by video (sight) or audio (sound) alone."),
    ]
    OneCluster = Annotated[Positional[str], option("Id or name of a cluster.", metavar="CLUSTER")]
    AnyCluster = Annotated[Positional[str | None], option("Id or name of a cluster.", metavar="[CLUSTER]")]
    Clusters = Annotated[Positional[tuple[str, ...]], option("Ids or names of clusters.", metavar="CLUSTER...")]
    SegmentList = Annotated[
        Positional[tuple[str, ...]],
        option(
            "Segments: VIDEO#t=start,end in seconds, or VIDEO for all of a video; by id, path or the end of one.",
            metavar="SEGMENT...",
        ),
    ]
    OtherRun = str | None

__all__ = ["Collection"]


def __getattr__(name: str) -> Any:
    if name == "Collection":
        from seehear.collection.collection import Collection

        return Collection
    raise AttributeError(f"module 'seehear.collection' has no attribute {name!r}")


@command(
    "clusters",
    group="organise",
    example="seehear clusters runs/a",
    text=text.of_clusters,
    as_json=plain,
)
def list_clusters(run: Run, *, by: By = "both") -> dict[str, Any]:
    """List the clusters of a run as people have named and changed them.

    Returns `revision`, `clusters` (id, name, segments, seconds, confidence, confirmed; doubtful where the run says it),
    `rejected` and `conflicts`.

    Raises:
        RunError: the run has no labels, or its edits cannot be read.
    """
    from seehear.collection.collection import Collection

    collection = Collection(run, by)
    return {
        "revision": collection.revision,
        "clusters": [
            {
                "id": c.id, "name": c.name, "segments": c.size, "seconds": round(c.seconds, 3),
                "confidence": round(c.confidence, 4), "confirmed": c.confirmed,
            }
            | ({} if collection.doubt is None else {"doubtful": c.doubtful})
            for c in collection.clusters
        ],
        "rejected": len(collection.rejected),
        "conflicts": [c.text for c in collection.conflicts],
    }  # fmt: skip


@command(
    "name",
    group="organise",
    example='seehear name runs/a 3 "chainsaw"',
    text=text.of_edit,
    as_json=text.edit_as_json,
)
def name_cluster(
    run: Run,
    cluster: AnyCluster = None,
    name: Annotated[Positional[str | None], arg(metavar="[NAME]")] = None,
    *,
    from_run: Annotated[OtherRun, arg(name="from", metavar="RUN")] = None,
    by: By = "both",
) -> Edit:
    """Name a cluster, or bring the names of another run over.

    Args:
        name: Its name; "" takes it away.
        from_run: Bring the names and decisions of this run over, such as of an earlier training on the same videos.

    Raises:
        UsageError: there is no such cluster, or another one has that name.
        RunError: the run has no labels, or its edits cannot be read.
    """
    from seehear.collection.collection import Collection
    from seehear.errors import UsageError

    if (from_run is None) == (cluster is None or name is None):
        raise UsageError("give a cluster and its name, or --from", f'`seehear name {run} 3 "chainsaw"`')
    if from_run is not None:
        if cluster is not None:
            raise UsageError("--from brings all names over: leave the cluster out")
        return Collection(run, by).adopt(from_run)
    assert cluster is not None
    return Collection(run, by).name(cluster, name)


@command(
    "merge",
    group="organise",
    example="seehear join runs/a 3 7 --into chainsaw",
    text=text.of_edit,
    as_json=text.edit_as_json,
)
def merge_clusters(
    run: Run,
    clusters: Clusters,
    *,
    into: Annotated[str | None, arg(metavar="CLUSTER")] = None,
    by: By = "both",
) -> Edit:
    """Put clusters together.

    Args:
        into: The cluster whose id and name stay; by default the largest of them, those with names before others.

    Raises:
        UsageError: there is no such cluster.
        RunError: the run has no labels, or its edits cannot be read.
    """
    from seehear.collection.collection import Collection

    return Collection(run, by).merge(clusters, into)


@command(
    "split",
    group="organise",
    example="seehear split runs/a 3",
    text=text.of_edit,
    as_json=text.edit_as_json,
)
def split_cluster(run: Run, cluster: OneCluster, *, parts: int = 2, by: By = "both") -> Edit:
    """Part a cluster by clustering its segments anew: 3 becomes 3.1, 3.2 ...

    Args:
        parts: Number of parts.

    Raises:
        UsageError: there is no such cluster, or it cannot be parted.
        RunError: the run has no labels, or its edits cannot be read.
    """
    from seehear.collection.collection import Collection

    return Collection(run, by).split(cluster, parts)


@command(
    "move",
    group="organise",
    example="seehear move runs/a clips/a.mp4#t=2,4 --to chainsaw",
    text=text.of_edit,
    as_json=text.edit_as_json,
)
def move_segments(
    run: Run,
    segments: SegmentList,
    *,
    to: Annotated[str | None, arg(metavar="CLUSTER")] = None,
    new: Annotated[str | None, arg(metavar="NAME")] = None,
    by: By = "both",
) -> Edit:
    """Say that segments belong to a cluster, or to a new one.

    Args:
        to: The cluster.
        new: Make a new cluster of this name for them; "" gives it none.

    Raises:
        UsageError: there is no such segment or cluster.
        RunError: the run has no labels, or its edits cannot be read.
    """
    from seehear.errors import UsageError

    if (to is None) == (new is None):
        raise UsageError("give --to CLUSTER or --new NAME")
    collection, rows = _pointed(run, by, segments)
    return collection.move(rows, to if new is None else new, new=new is not None)


@command(
    "reject",
    group="organise",
    example="seehear reject runs/a clips/a.mp4",
    text=text.of_edit,
    as_json=text.edit_as_json,
)
def reject_segments(run: Run, segments: SegmentList, *, by: By = "both") -> Edit:
    """Take segments out of all clusters.

    Raises:
        UsageError: there is no such segment.
        RunError: the run has no labels, or its edits cannot be read.
    """
    collection, rows = _pointed(run, by, segments)
    return collection.reject(rows)


@command(
    "restore",
    group="organise",
    example="seehear restore runs/a clips/a.mp4",
    text=text.of_edit,
    as_json=text.edit_as_json,
)
def restore_segments(run: Run, segments: SegmentList, *, by: By = "both") -> Edit:
    """Put rejected segments back where they were.

    Raises:
        UsageError: there is no such segment, or it is in place.
        RunError: the run has no labels, or its edits cannot be read.
    """
    collection, rows = _pointed(run, by, segments)
    return collection.restore(rows)


@command(
    "propagate",
    group="organise",
    example="seehear propagate runs/a",
    text=text.of_edit,
    as_json=text.edit_as_json,
)
def propagate_names(run: Run, *, min_probability: Annotated[float, arg(metavar="P")] = 0.9, by: By = "both") -> Edit:
    """Learn from names and answers, and move what nobody decided to the clusters that it is likely of.

    Args:
        min_probability: Move what is at least so likely of another named cluster.

    Raises:
        UsageError: fewer than two clusters have names, or nothing is so likely.
        RunError: the run has no labels, or its edits cannot be read.
    """
    from seehear.collection.collection import Collection

    return Collection(run, by).propagate(min_probability)


@command(
    "undo",
    group="organise",
    example="seehear undo runs/a",
    text=text.of_edit,
    as_json=text.edit_as_json,
)
def undo_edit(run: Run, *, by: By = "both") -> Edit:
    """Take the last edit back; again takes back the one before.

    Raises:
        UsageError: there is none.
        RunError: the run has no labels, or its edits cannot be read.
    """
    from seehear.collection.collection import Collection

    return Collection(run, by).undo()


@command(
    "redo",
    group="organise",
    example="seehear redo runs/a",
    text=text.of_edit,
    as_json=text.edit_as_json,
)
def redo_edit(run: Run, *, by: By = "both") -> Edit:
    """Make the edit again that was taken back last.

    Raises:
        UsageError: there is none.
        RunError: the run has no labels, or its edits cannot be read.
    """
    from seehear.collection.collection import Collection

    return Collection(run, by).redo()


@command(
    "edits",
    group="organise",
    example="seehear edits runs/a",
    text=text.of_edits,
    as_json=text.edits_as_json,
)
def list_edits(run: Run, *, limit: int | None = None, by: By = "both") -> list[Edit]:
    """List the edits of a run, the latest first.

    Args:
        limit: List so many at most.

    Raises:
        RunError: the run has no labels, or its edits cannot be read.
    """
    from seehear.collection.collection import Collection

    return Collection(run, by).history(limit)


@command(
    "export",
    group="organise",
    example="seehear export runs/a --format csv --out segments.csv",
    text=text.of_export,
    required=("format", "out"),
)
def export_collection(
    run: Run,
    *,
    format: Literal["csv", "parquet", "jsonl", "m3u", "edl", "label-studio", "fiftyone"] = "csv",
    out: OutFile = None,
    named: bool = False,
    by: By = "both",
) -> int:
    """Write all segments with clusters and names for other tools.

    Returns how many were written.

    Args:
        format: Tables (csv, parquet, jsonl), a playlist (m3u), an edit list (edl), or tasks of an annotation tool.
        out: The file.
        named: Write segments of named clusters alone.

    Raises:
        UsageError: the format cannot hold so much.
        RunError: the run has no labels, or its edits cannot be read.
    """
    from seehear.collection.collection import Collection
    from seehear.errors import UsageError
    from seehear.files import check_destination

    if out is None:
        raise UsageError("--out is missing", "name the file to write")
    check_destination(out)
    return Collection(run, by).export(format, out, named=named)


@command(
    "sample",
    group="organise",
    example="seehear sample runs/a -n 500 --balanced --out sample.csv",
    text=text.of_sample,
    as_json=plain,
)
def sample_collection(
    run: Run,
    *,
    n: Annotated[int, arg(aliases=("-n",))] = 100,
    balanced: bool = False,
    videos: bool = False,
    seed: int = 0,
    out: OutFile = None,
    by: By = "both",
) -> list[dict[str, Any]]:
    """Draw segments that differ from each other.

    Args:
        n: How many.
        balanced: As many of each cluster, as far as it has them.
        videos: Draw videos: one segment of each.
        seed: Seed of the draw.
        out: A .csv, .parquet or .jsonl file, with the columns of an export.

    Raises:
        UsageError: an option that cannot be.
        RunError: the run has no labels, or its edits cannot be read.
    """
    from seehear.collection.collection import Collection
    from seehear.files import check_ending

    check_ending(out, ".csv", ".parquet", ".jsonl")
    collection = Collection(run, by)
    return collection.write_sample(collection.sample(n, balanced, seed=seed, videos=videos), out)


def _pointed(run: str | Path, by: By, segments: Sequence[str]) -> tuple[Collection, Any]:
    """A run's collection, and the rows of segments as people write them."""
    from seehear.collection.collection import Collection
    from seehear.collection.pointing import pointed

    collection = Collection(run, by)
    return collection, pointed(collection.index.segments, segments)
