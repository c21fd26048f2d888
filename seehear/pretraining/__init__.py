"""Pretraining: a folder of videos in, a run folder with a model and labels out.

`run` does it from end to end; `plan` makes the configuration of recipe, options and settings.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, cast

from tyro.conf import Positional, arg

from seehear.commands import command
from seehear.errors import UsageError
from seehear.options import OutFile, Quiet, Seed, Settings, Where, option

if TYPE_CHECKING:
    from seehear.config import Config
    from seehear.data.manifest import Manifest
    from seehear.features.model import Model

    Source = str | Path | Manifest | None
    WeightsFile = str | Path | None
else:
    Source = Annotated[
        Positional[str | None],
        option(
            "A folder, glob, CSV or Parquet with a `path` column, or a manifest of `seehear scan`.", metavar="[VIDEOS]"
        ),
    ]
    WeightsFile = str | None


@command(
    "pretrain",
    group="start",
    example="seehear pretrain VIDEOS --method xdc --out runs/a",
    python_only=("config",),
    stopped="the same command with --resume RUN in place of the videos goes on from what was saved last",
)
def pretrain(
    videos: Source = None,
    out: OutFile = None,
    *,
    method: str | None = None,
    recipe: str | None = None,
    hypotheses: Annotated[
        str | None, option("gdt: what to be distinctive or invariant to; see `seehear hypotheses`.", metavar="SPEC")
    ] = None,
    seed: Seed = None,
    clusters: Annotated[int | Literal["auto"] | None, arg(metavar="N|auto")] = None,
    heads: int | None = None,
    settings: Settings = (),
    where: Where = (),
    video_weights: WeightsFile = None,
    audio_weights: WeightsFile = None,
    video_encoder: str | None = None,
    audio_encoder: str | None = None,
    tune_encoders: bool = False,
    resume: OutFile = None,
    resume_if_there: bool = False,
    quiet: Quiet = False,
    config: Config | None = None,
) -> Model:
    """Learn from videos: a model, labels for every video, and all that the run was.

    Returns the trained model. Under torchrun only the first process has it to return; the others return None.

    Args:
        out: Folder of the new run.
        method: What is learnt; see `seehear methods` (default xdc).
        recipe: A named configuration; see `seehear recipes` (default small, or frozen on encoders of others).
        clusters: Number of clusters, short for --set cluster.k=N; or auto: the number of kinds that sight and sound
            agree on, counted as training goes on.
        heads: Clustering heads of selavi; short for --set selavi.heads=N.
        video_weights: Start the video encoder from this file of published or own weights.
        audio_weights: Start the audio encoder from this file.
        video_encoder: Build on this encoder of others instead, KIND:PLACE as in run:runs/b; it stays as it is.
        audio_encoder: The same for sound.
        tune_encoders: Train these encoders too.
        resume: Go on with the run in this folder; needs nothing else.
        resume_if_there: Go on with the run in --out if it was begun with these settings, else begin it: one command for
            every start, as torchrun's restarts and schedulers' requeues give it.
        config: A whole configuration, in the place of a recipe and changes.

    Raises:
        UsageError: a setting or method is wrong.
        DataError: no usable video.
        RunError: `out` holds another run, or is in use, or the disk is full.
        TrainingError: training cannot go on.
        Interrupted: a signal came; the state is saved.
    """
    from seehear.pretraining.plan import make_config

    changes = (method, recipe, hypotheses, seed, clusters, heads, tuple(settings), tuple(where), video_weights,
               audio_weights, video_encoder, audio_encoder, tune_encoders)  # fmt: skip
    changed = any(x not in (None, (), False) for x in changes)
    if resume is not None:
        if changed or resume_if_there or any(x is not None for x in (videos, out, config)):
            raise UsageError("--resume takes everything from the run folder", f"seehear pretrain --resume {resume}")
        config, folder = make_config(), resume
    elif videos is None or out is None:
        raise UsageError("pretraining needs videos and --out", "seehear pretrain VIDEOS --out runs/a")
    else:
        if config is not None and changed:
            raise UsageError("a whole config and changes of a recipe contradict each other", "give one of the two")
        config, folder = config or make_config(
            method=method, recipe=recipe, seed=seed, settings=settings, hypotheses=hypotheses,
            clusters=clusters, heads=heads, where=list(where), video_weights=video_weights,
            audio_weights=audio_weights, video_encoder=video_encoder, audio_encoder=audio_encoder,
            tune_encoders=tune_encoders,
        ), out  # fmt: skip
    from seehear import dist
    from seehear.features.model import Model
    from seehear.pretraining.run import pretrain as run

    finished = run(videos, folder, config, resume=resume is not None, resume_if_there=resume_if_there, quiet=quiet)
    return Model.load(finished) if dist.launched_rank() == 0 else cast("Model", None)


def load(run: str | Path) -> Model:
    """The trained model of a run folder: see `seehear.features.model.Model`."""
    from seehear.features.model import Model

    return Model.load(run)
