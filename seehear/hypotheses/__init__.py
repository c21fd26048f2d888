"""Hypotheses of GDT: what a representation should be distinctive or invariant to, or ignore.

`factors` has what can vary between two views of a clip, `language` the specifications made of factors, `pictures`
draws them; `search` tries specifications on a collection, and `search_result` has what it found.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import Positional, arg

from seehear.commands import command, plain
from seehear.hypotheses import text
from seehear.options import File, LabelColumn, OutFile, Quiet, Seed, Settings, SplitColumn, Videos, Where, option

if TYPE_CHECKING:
    from collections.abc import Sequence

    Factors = str | Sequence[str]
    Specification = str
else:
    Factors = Annotated[str, arg(metavar="FACTOR,FACTOR")]
    Specification = Annotated[
        Positional[str], option('A name from the list, or "factor=hypothesis, ...".', metavar="SPEC")
    ]


@command(
    "hypotheses list", group="know", example="seehear hypotheses", text=lambda named, _: text.listed(named),
    as_json=lambda named: text.summaries(named),
)  # fmt: skip
def list_hypotheses() -> dict[str, Any]:
    """List the named specifications of gdt, with the number of transformations of a clip and the paper's results.

    Returns by name the specification and what is known of it.
    """
    from seehear.hypotheses.language import NAMED, parse

    return {name: (parse(name), named) for name, named in NAMED.items()}


@command(
    "hypotheses show", group="know", example="seehear hypotheses show l --svg l.svg",
    text=lambda found, _: text.shown(found), as_json=lambda found: text.data(found),
)  # fmt: skip
def show_hypotheses(specification: Specification, *, svg: OutFile = None) -> Any:
    """Show what a specification of gdt samples and compares: its factors, the sampling tree and the pairs.

    Returns the specification and what is known of it.

    Args:
        svg: Write the sampling tree and the pairs as a picture to this .svg file too.

    Raises:
        UsageError: there is no such factor or hypothesis, or nothing could be learnt from it; the reason is said.
    """
    from pathlib import Path

    from seehear.files import check_ending, write_result
    from seehear.hypotheses.language import NAMED, parse
    from seehear.hypotheses.pictures import as_svg

    check_ending(svg, ".svg")
    spec, named = parse(specification), NAMED.get(specification.strip())
    if svg is not None:
        write_result(Path(svg), as_svg(spec, named))
    return spec, named


@command(
    "search-hypotheses",
    group="compare",
    example="seehear search-hypotheses VIDEOS --criterion retrieval --epochs 10 --out searches/a",
    text=text.of_search,
    as_json=plain,
)
def search_hypotheses(
    videos: Videos,
    out: File,
    *,
    criterion: Literal["retrieval", "labels"],
    factors: Factors = "time_shift,reversal",
    sampler: Literal["grid", "tpe", "halving"] = "grid",
    budget: int | None = None,
    epochs: int | None = None,
    recipe: str = "small",
    seed: Seed = None,
    settings: Settings = (),
    where: Where = (),
    label_column: LabelColumn = "label",
    split_column: SplitColumn = "split",
    quiet: Quiet = False,
) -> dict[str, Any]:
    """Try short pretrainings of gdt over every valid combination of some factors, and rank them.

    Started again with the same options it goes on where it stood.

    Returns `trials` (best first), `effects` of the
    factors and what was asked for; `results.json`, `results.csv`, `results.html` and the study lie in `out`.

    Args:
        out: Folder of the search; its runs lie in runs/.
        criterion: retrieval: how often held-out sound finds its frames first; labels: a linear classifier.
        factors: Which to state as distinct, invariant or ignore, or leave out.
        sampler: grid tries all; tpe proposes what looks best (Optuna); halving stops the worse half early.
        budget: How many specifications at most; by default all that differ.
        epochs: Of each pretraining; warm-up and decay shrink with it. The recipe's by default.
        recipe: A named configuration of gdt.
        label_column: labels: column with the classes.
        split_column: labels: only rows with train in this column are looked at, if there is one.

    Raises:
        UsageError: an argument is wrong, or Optuna is not installed.
        DataError: there is no usable video, or none held out.
        RunError: `out` holds a search for something else.
        Interrupted: a signal came; the trial under way is saved.
    """
    from seehear.hypotheses.search import make_search_config
    from seehear.hypotheses.search import search_hypotheses as search

    names = factors.split(",") if isinstance(factors, str) else factors
    config = make_search_config(recipe=recipe, seed=seed, epochs=epochs, settings=settings, where=tuple(where))
    return search(
        videos, out, config, factors=tuple(name.strip() for name in names if name.strip()), criterion=criterion,
        sampler=sampler, budget=budget, label_column=label_column, split_column=split_column, quiet=quiet,
    )  # fmt: skip
