"""The configuration of a pretraining: a recipe, changed by options and settings. Imports no torch."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from seehear.config import Config
from seehear.errors import UsageError
from seehear.hypotheses.language import parse
from seehear.methods import check_method
from seehear.recipes import recipe as named_recipe
from seehear.settings import with_settings


def make_config(
    *,
    method: str | None = None,
    recipe: str = "small",
    seed: int | None = None,
    settings: Iterable[str] = (),
    hypotheses: str | None = None,
    clusters: int | None = None,
    heads: int | None = None,
    where: Sequence[str] = (),
    video_weights: str | Path | None = None,
    audio_weights: str | Path | None = None,
) -> Config:
    """A recipe with changes; `settings` are texts such as "cluster.k=32", which the other arguments abbreviate.

    Raises `UsageError` for what there is not or what does not go together.
    """
    short = {
        "method": method,
        "seed": seed,
        "model.video_weights": None if video_weights is None else str(video_weights),
        "model.audio_weights": None if audio_weights is None else str(audio_weights),
        "cluster.k": clusters,
        "selavi.heads": heads,
        "data.where": list(where) or None,
        "gdt.hypotheses": hypotheses,
    }
    named = [f"{name}={value if name == 'method' else json.dumps(value)}" for name, value in short.items()
             if value is not None]  # fmt: skip
    first = [text for text in named if text.startswith(("method=", "seed="))]
    config = with_settings(named_recipe(recipe, method), [*first, *settings, *named[len(first) :]])
    check_method(config.method)
    if heads is not None and config.method != "selavi":
        raise UsageError(f"--heads is of selavi, and the method is {config.method}", "add --method selavi")
    if hypotheses is not None and config.method != "gdt":
        raise UsageError(f"--hypotheses is of gdt, not of {config.method}", "add --method gdt")
    if config.method == "gdt":
        parse(config.gdt.hypotheses)
    config.check()
    return config
