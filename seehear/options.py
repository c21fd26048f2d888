"""Options that commands share: each has its type, its spelling and its text here, and nowhere else.

For type checkers the names mean what Python callers may give; on the command line there are texts alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import Positional, UseAppendAction, arg
from tyro.constructors import PrimitiveConstructorSpec

from seehear.errors import UsageError

Modality = Literal["video", "audio", "both"]


def option(text: str, *, metavar: str | None = None, name: str | None = None) -> Any:
    """The text of an option, with its spelling where that is not the parameter's name."""
    return arg(help=text, metavar=metavar, name=name)


def numbers(text: str) -> tuple[int, ...]:
    """Numbers parted by commas. Raises `ValueError`."""
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise ValueError(f"{text!r} is no list of numbers; write it like 1,5,20") from None


def number_span(text: str) -> list[int]:
    """The numbers of "2-20" or "2,4,8". Raises `UsageError`."""
    first, dash, last = text.partition("-")
    if dash and first.isdecimal() and last.isdecimal() and int(first) <= int(last):
        return list(range(int(first), int(last) + 1))
    try:
        if dash:
            raise ValueError(f"{text!r} is no range of numbers")
        return list(numbers(text))
    except ValueError as error:
        raise UsageError(str(error).partition(";")[0], "write it like 2-20 or 2,4,8") from None


_number_list = PrimitiveConstructorSpec(
    nargs=1,
    metavar="N,N",
    instance_from_str=lambda given: numbers(given[0]),
    is_instance=lambda x: isinstance(x, tuple) and all(isinstance(n, int) for n in x),
    str_from_instance=lambda x: [",".join(map(str, x))],
)

if TYPE_CHECKING:
    from seehear.data.manifest import Manifest

    Run = str | Path
    Runs = Sequence[str | Path]
    Backbone = str | Path
    MediaSource = str | Path
    Videos = str | Path | Manifest
    OwnOrNewVideos = str | Path | Manifest | None
    File = str | Path
    OutFile = str | Path | None
    Settings = Iterable[str]
    Where = Iterable[str]
    NumberList = Sequence[int]
else:
    Run = Annotated[Positional[str], option("Folder of a finished run.", metavar="RUN")]
    Runs = Annotated[Positional[tuple[str, ...]], option("Folders of finished runs.", metavar="RUN")]
    Backbone = Annotated[
        Positional[str],
        option("Folder of a finished run, or untrained:RECIPE, or features in a .parquet or .npz file.", metavar="RUN"),
    ]
    Videos = Annotated[
        Positional[str],
        option(
            "A folder (any depth), a glob, a file, a CSV or Parquet with a `path` column, or a manifest of "
            "`seehear scan`, or the address of prepared shards.",
            metavar="VIDEOS",
        ),
    ]
    MediaSource = Videos
    OwnOrNewVideos = Annotated[
        Positional[str | None],
        option("Videos as for `seehear scan`, or its manifest; the run's own by default.", metavar="[VIDEOS]"),
    ]
    File = str
    OutFile = str | None
    Settings = Annotated[
        UseAppendAction[tuple[str, ...]],
        option("Change a setting; may be given often.", metavar="SECTION.FIELD=VALUE", name="set"),
    ]
    Where = Annotated[
        UseAppendAction[tuple[str, ...]],
        option(
            "Use only the rows of the table with this value, e.g. split=train; may be given often.",
            metavar="COLUMN=VALUE",
        ),
    ]
    NumberList = Annotated[tuple[int, ...], _number_list]

Workers = Annotated[int | None, option("Decoding processes; one a core by default.")]
Device = Annotated[str, option("auto, cpu, cuda or cuda:N.")]
Every = Annotated[
    float | None, option("Length of a segment in seconds; by default a video is one segment.", name="every")
]
Seed = Annotated[int | None, option("Seed of every random choice; the configuration's by default.")]
LabelColumn = Annotated[str, option("Column of a table with the classes.")]
SplitColumn = Annotated[str, option("Column of a table with train or test, or with the numbers of folds.")]
PartOf = Annotated[
    str | None,
    option(
        "Do this part of the work alone, such as 3/8; `seehear join OUT` joins them all.", metavar="I/N", name="part"
    ),
]
EngineName = Annotated[
    Literal["local", "ray"], option("What does the work: this machine, or those of a Ray cluster.", name="engine")
]
Quiet = Annotated[bool, option("Print nothing but results and errors.")]
