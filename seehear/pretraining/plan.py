"""The configuration of a pretraining: a recipe, changed by options and settings. Imports no torch."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from seehear.config import Config
from seehear.errors import UsageError
from seehear.hypotheses.language import parse
from seehear.methods import check_method
from seehear.recipes import recipe as named_recipe
from seehear.settings import with_settings


def make_config(
    *,
    method: str | None = None,
    recipe: str | None = None,
    seed: int | None = None,
    settings: Iterable[str] = (),
    hypotheses: str | None = None,
    clusters: int | Literal["auto"] | None = None,
    heads: int | None = None,
    where: Sequence[str] = (),
    video_weights: str | Path | None = None,
    audio_weights: str | Path | None = None,
    video_encoder: str | None = None,
    audio_encoder: str | None = None,
    tune_encoders: bool = False,
    usual: str | None = None,
) -> Config:
    """A recipe with changes; `settings` are texts such as "cluster.k=32", which the other arguments abbreviate.

    Without a name the recipe is `usual`, by default `small`, or `archive` where kinds are counted; on encoders of
    others that stay as they are it is `frozen`. Such encoders say themselves what clips are.

    Raises `UsageError` for what there is not or what does not go together.
    """
    short = {
        "method": method,
        "seed": seed,
        "model.video_weights": None if video_weights is None else str(video_weights),
        "model.audio_weights": None if audio_weights is None else str(audio_weights),
        "model.video_encoder": video_encoder,
        "model.audio_encoder": audio_encoder,
        "model.tune_encoders": tune_encoders or None,
        "cluster.k": None if clusters == "auto" else clusters,
        "cluster.auto": None if clusters is None else clusters == "auto",
        "selavi.heads": heads,
        "data.where": list(where) or None,
        "gdt.hypotheses": hypotheses,
    }
    named = [f"{name}={value if name == 'method' else json.dumps(value)}" for name, value in short.items()
             if value is not None]  # fmt: skip
    first = [text for text in named if text.startswith(("method=", "seed="))]
    config = in_rounds(_with_changes(recipe, usual, [*first, *settings, *named[len(first) :]]))
    check_method(config.method)
    if heads is not None and config.method != "selavi":
        raise UsageError(f"--heads is of selavi, and the method is {config.method}", "add --method selavi")
    if hypotheses is not None and config.method != "gdt":
        raise UsageError(f"--hypotheses is of gdt, not of {config.method}", "add --method gdt")
    if config.method == "gdt":
        parse(config.gdt.hypotheses)
    config.check()
    check_text(config)
    return config


def in_rounds(config: Config) -> Config:
    """SeLaVi in rounds where kinds are counted, as counting takes encoders that have learnt something.

    A recipe of one round gets six short ones, half of its epochs, and a long one, which is `last_round` if that is set.
    Anything else stays.
    """
    if not config.cluster.auto or config.method != "selavi" or config.rounds > 1 or config.optim.epochs < 12:
        return config
    optim = config.optim
    short = optim.epochs // 12
    warmup = min(optim.warmup_epochs, short / 3)
    last = config.last_round or replace(optim, epochs=optim.epochs - 6 * short)
    return replace(config, rounds=7, optim=replace(optim, epochs=short, warmup_epochs=warmup), last_round=last)


def _with_changes(recipe: str | None, usual: str | None, changes: Sequence[str]) -> Config:
    """A recipe with changes, on encoders of others if they name any."""
    told = with_settings(named_recipe("small"), changes)
    usual = usual or ("archive" if told.cluster.auto else "small")
    method = told.method  # which may have its own form of the recipe
    config = with_settings(named_recipe(recipe or usual, method), changes)
    model = config.model
    if not (model.video_encoder or model.audio_encoder):
        return config
    from seehear.encoders import pinned
    from seehear.pretraining.foreign import fitted, open_backbones, specs_of

    chosen = recipe or (usual if model.tune_encoders else "frozen")
    config = with_settings(fitted(named_recipe(chosen, method), open_backbones(config)), changes)
    exact = {f"{stream}_encoder": pinned(spec) for stream, spec in specs_of(config).items()}
    return replace(config, model=replace(config.model, **exact))  # type: ignore[arg-type]


def looks_at_text(config: Config) -> bool:
    """Whether a run with these settings has a text encoder."""
    return config.method == "gdt" and "text" in parse(config.gdt.hypotheses).modalities


def check_text(config: Config) -> None:
    """Raise `UsageError` for settings of text that contradict the hypotheses, or that nothing would look at."""
    if not looks_at_text(config):
        for name in ("text_column", "subtitle_language"):
            if getattr(config.data, name) is not None:
                raise UsageError(
                    f"data.{name} is of text, which this run does not look at",
                    "--method gdt --hypotheses video-text looks at it",
                )
        return
    if config.data.text_column is not None and config.data.subtitle_language is not None:
        raise UsageError("data.text_column and data.subtitle_language name two sources of text", "leave one out")
    spec = parse(config.gdt.hypotheses)
    ordered = [f.name for f in spec.factors if f.only == "text" and f.count > 1]
    if ordered and config.model.text == "mlp":
        raise UsageError(
            f"the text encoder mlp does not see the order of words, which {' and '.join(ordered)} is about",
            "--set model.text=transformer",
        )
    if config.data.text_column is not None and "time_shift" in spec and spec["time_shift"].hypothesis == "distinct":
        raise UsageError(
            "a caption says the same of every moment of a video, so text cannot be distinctive to time_shift "
            "(lemma 3: equal data would have to be told apart)",
            "state time_shift as invariant, or read subtitles: leave data.text_column out",
        )
