"""Studies: a question of the papers, asked of one's own videos by one command, with the paper's numbers beside."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import Positional, arg

from seehear.commands import command
from seehear.errors import UsageError
from seehear.options import OutFile, Quiet, Settings, option
from seehear.studies import text

if TYPE_CHECKING:
    Labelled = str | Path | None
    Seeds = Sequence[int]
    Values = Sequence[str]
else:
    Labelled = Annotated[
        Positional[str | None],
        option("A table with the columns path, label and split, or NAME:PATH of a data set.", metavar="[DATA]"),
    ]
    Seeds = Annotated[tuple[int, ...], arg(metavar="N N")]
    Values = Annotated[tuple[str, ...], arg(metavar="VALUE VALUE")]


@command(
    "study",
    group="compare",
    example="seehear study clusters table.csv --out studies/clusters",
    text=text.of_study,
    as_json=text.as_json,
    exit_code=text.exit_code,
)
def study(
    name: Annotated[
        Positional[str | None], option("Which study; without one they are listed.", metavar="[NAME]")
    ] = None,
    data: Labelled = None,
    *,
    out: OutFile = None,
    recipe: str = "small",
    method: str | None = None,
    seeds: Seeds = (0, 1, 2),
    values: Values = (),
    uncurated: OutFile = None,
    settings: Settings = (),
    jobs: int = 1,
    quiet: Quiet = False,
) -> dict[str, Any]:
    """Ask a question of the papers on videos with classes: all runs that it takes, and a table beside the paper's.

    Runs learn from the training split, without labels; the test split is for scores alone, and nothing is chosen by
    them. Started again with the same options a study goes on where it stood; more seeds and values may be asked for.
    Each run has one thread, unless --set threads=N says otherwise.

    Returns `rows`, each with its `scores` by column (one a seed) and the `published` numbers beside them, and
    `failures`, the runs that failed; the folder `out` gets `table.md`, `table.csv`, `scores.json` and, where there is a
    curve, `curve.svg`. Without a name, what studies there are.

    Args:
        out: Folder of the study; its runs lie in runs/.
        recipe: A named configuration that all runs start from.
        method: What is learnt, in studies that vary something else.
        seeds: Seeds of the runs: each row is done with each of them.
        values: What is varied, in the place of the study's own; see `seehear study`.
        uncurated: curation: videos that nobody chose, to be compared with the data's own.
        jobs: Runs at a time.

    Raises:
        UsageError: there is no such study, or an option or setting is wrong.
        DataError: the data has no classes, no split, or no usable video.
        RunError: `out` holds another study, or is in use.
        Interrupted: a signal came; what is under way is saved.
    """
    if name is None:
        from seehear.studies.named import STUDIES

        return {
            known: {"summary": s.summary, "paper": s.paper, "values": list(s.values), "about_values": s.about_values,
                    "needs_uncurated": s.needs_uncurated}
            for known, s in STUDIES.items()
        }  # fmt: skip
    from seehear.studies.named import study_of

    study_of(name)
    if data is None or out is None:
        raise UsageError(
            "a study needs videos with classes and --out", f"seehear study {name} table.csv --out studies/{name}"
        )
    from seehear.studies.carrying import run_study

    return run_study(
        name, data, out, recipe=recipe, method=method, seeds=tuple(seeds), values=tuple(map(str, values)),
        uncurated=uncurated, settings=tuple(settings), jobs=jobs, quiet=quiet,
    )  # fmt: skip
