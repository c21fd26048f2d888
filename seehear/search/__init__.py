"""Search: an index of a collection's segments, and queries by sight, by sound, by both and across them.

`index` opens it, `building` makes it (`embedding` the features, `publishing` all that is made of them), `layout` is its
form on disk; `query` searches it (`queryfile` embeds files, `nearest` finds rows, `calibration` says what a similarity
means, `across` compares sight with sound), `duplicates` finds copies, `maps` lays all out on a plane.
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import Positional, arg

from seehear.commands import command, plain
from seehear.options import Device, EngineName, OutFile, OwnOrNewVideos, PartOf, Run, Workers, option
from seehear.search import text as words

if TYPE_CHECKING:
    from seehear.search.duplicates import Duplicates
    from seehear.search.found import Found

    Query = str | Path | None
else:
    Query = Annotated[
        Positional[str | None],
        option("A video, a sound or a picture; or VIDEO_ID#t=START,END of an indexed video.", metavar="[QUERY]"),
    ]


@command(
    "index",
    group="look",
    example="seehear index runs/a VIDEOS --every 2",
    text=words.of_index,
    as_json=plain,
    stopped="what is embedded is kept: the same command goes on",
)
def build_index(
    run: Run,
    videos: OwnOrNewVideos = None,
    *,
    every_seconds: Annotated[float, option("Length of a segment in seconds.", name="every")] = 2.0,
    features: OutFile = None,
    column: str | None = None,
    exact_up_to: int = 1_000_000,
    workers: Workers = None,
    device: Device = "auto",
    part: PartOf = None,
    engine: EngineName = "local",
) -> dict[str, Any]:
    """Make every segment of some videos searchable, and keep that in the run.

    Only videos that are new or have changed are embedded; those that are gone leave. If it is stopped or killed, the
    same command goes on. Over many machines, by parts or an engine: that needs a manifest of the videos, and
    `seehear join RUN/index` joins the parts.

    Returns generation, videos, segments, embedded, kept, gone (videos), left_out, every_seconds, across,
    recall (None where every segment is compared), seconds; of a part, part, videos and segments.

    Args:
        features: Index these features of another encoder (.parquet or .npy, as for `seehear cluster`) instead.
        column: The column of that table: audio is searched by sound, any other by sight; video and audio by default.
        exact_up_to: From so many segments on compare a query with the likeliest alone; of fewer with every one.

    Raises:
        UsageError: the run has no videos of its own, or an option is wrong.
        RunError: the run is not finished, or another process is indexing.
        DataError: there is no usable video, or the features cannot be used.
    """
    from seehear.parts import part_asked
    from seehear.search.building import build_index as build

    asked = part_asked(part, engine, run)
    return build(
        run, videos, every_seconds=every_seconds, features=features, column=column, exact_up_to=exact_up_to,
        workers=workers, device=device, part=asked, engine=engine,
    )  # fmt: skip


@command(
    "search",
    group="look",
    example="seehear search runs/a query.mp4 --by sound --from 12.5 --to 15",
    text=words.of_found,
    as_json=lambda found: found.as_dict(),
)
def search(
    run: Run,
    query: Query = None,
    *,
    text: Annotated[
        str | None, option("Search by these words, in a run that learnt from text.", metavar="WORDS")
    ] = None,
    by: Literal["sight", "sound", "both", "across"] = "both",
    sound_weight: float = 0.5,
    start: Annotated[float | None, option("Take of the query what comes after so many seconds.", name="from")] = None,
    end: Annotated[float | None, option("Take of the query what comes before so many seconds.", name="to")] = None,
    k: Annotated[int, arg(aliases=("-k",))] = 20,
    min_score: float | None = None,
    across_from: Literal["sight", "sound"] | None = None,
) -> Found:
    """Find the segments that are most like a video, a sound or a picture, and say how sure that is.

    A run without an index gets one of its own clips first, from the features that training left.

    Args:
        by: What is compared. across: what is seen in the query with what is heard here, or the other way round.
        sound_weight: By both, how much the sound counts, from 0 to 1.
        k: So many segments.
        min_score: Leave out segments with a lower score (0 to 1; .5 is as likely alike as not).
        across_from: Whether to go across from the query's sight or sound; from its sight if it has both.

    Raises:
        UsageError: the query or the collection has nothing to compare so, or an option is wrong.
        RunError: the run is not finished, or its index is damaged.
        DataError: there is no such file or video, or it cannot be used.
    """
    from seehear.search.found import search_run

    return search_run(
        run, query, text=text, by=by, sound_weight=sound_weight, start=start, end=end, k=k, min_score=min_score,
        across_from=across_from,
    )  # fmt: skip


@command(
    "duplicates",
    group="look",
    example="seehear duplicates runs/a",
    text=words.of_duplicates,
    as_json=lambda found: found.as_dict(),
)
def find_duplicates(run: Run, *, workers: Workers = None) -> Duplicates:
    """Find videos that are copies of each other, in another size, format, bit rate or volume.

    Looks at every indexed video once; a second call looks at new ones alone.

    Raises:
        RunError: the run is not finished, or its index is damaged.
    """
    from seehear.search.found import duplicates_of_run

    return duplicates_of_run(run, workers)


class _CallableModule(ModuleType):
    """Importing this package puts it in the place of the function `seehear.search`, so it does the same when called."""

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        return search(*arguments, **options)


sys.modules[__name__].__class__ = _CallableModule
