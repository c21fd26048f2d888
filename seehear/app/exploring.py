"""From a folder of videos to a run that can be shown, without a question: what is chosen, and the steps.

What is chosen, and why:

| what | value |
|---|---|
| method and recipe | XDC with the recipe `archive`, which learns on a laptop |
| clusters | the kinds that sight and sound agree on, counted while it learns |
| rounds, epochs | those of the recipe; fewer for so many hours that a core would see over `MOST_VISITS` clips |
| segments | 2 s in the index |
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from seehear.engine.runfolder import RunFolder
from seehear.errors import DataError, Interrupted, RunError
from seehear.files import check_destination, user_cache_folder

if TYPE_CHECKING:
    from seehear.config import Config
    from seehear.data.manifest import Manifest
    from seehear.progress import Progress

FEWEST_VIDEOS = 12
"""Fewer usable videos teach nothing."""
MOST_VISITS = 300_000
"""Clips that a core passes through the encoders in learning: about an hour."""
GPU_CORES = 64
"""A GPU counts as so many cores."""
SEGMENT_SECONDS = 2.0
_VISITS_PER_SECOND = 80.0  # of `small` on one core, docs/results.md; `archive` takes a twentieth more
_STEPS = 4
_SAME_SHARE = 0.5  # of a run's videos that must be among those given for the run to be of them


@dataclass(frozen=True)
class Choice:
    """What a collection is learnt with."""

    rounds: int
    epochs: int
    clips: int
    """In an epoch."""

    @property
    def visits(self) -> int:
        """Clips that are passed through the encoders."""
        return self.clips * self.rounds * self.epochs

    @property
    def settings(self) -> tuple[str, ...]:
        """As `seehear pretrain --set` takes them."""
        return "cluster.auto=true", f"rounds={self.rounds}", f"optim.epochs={self.epochs}"


def choose(clips: int, cores: int, *, rounds: int, epochs: int) -> Choice:
    """How to learn where a recipe has these rounds and epochs of so many clips."""
    most = MOST_VISITS * cores
    # Rounds first, down to four: later rounds refine what the first ones found. Then epochs.
    rounds = max(min(4, rounds), min(rounds, most // max(1, clips * epochs)))
    epochs = max(min(2, epochs), min(epochs, most // max(1, clips * rounds)))
    return Choice(rounds, epochs, clips)


def default_folder(videos: str | Path) -> Path:
    """Where the run of these videos is put: runs/NAME, by the name of their folder or table."""
    path = Path(os.path.abspath(str(videos)))
    name = path.stem if path.is_file() else path.name
    return Path("runs") / (re.sub(r"[^\w.-]+", "-", name).strip("-.") or "videos")


def prepare(
    videos: str | Path, out: str | Path | None = None, *, workers: int | None = None, settings: Iterable[str] = ()
) -> Path:
    """Scan, learn, label and index; the folder of the run. Goes on where an earlier call was stopped.

    Raises:
        DataError: there are fewer than `FEWEST_VIDEOS` usable videos.
        DestinationError: the folder cannot be written.
        RunError: the folder holds a run of other videos, or is in use.
        Interrupted: a signal came; what was done is kept.
    """
    from seehear.progress import Progress

    folder = RunFolder(Path(out) if out is not None else default_folder(videos))
    check_destination(folder.path, folder=True)
    if not folder.config.exists() or not folder.begun:
        folder.check_new()
    with Progress(quiet=None) as progress, _same_command():
        progress.note(f"1 of {_STEPS}: looking at the videos")
        manifest = _scanned(videos, workers, settings, progress)
        if folder.begun:
            _check_same(folder, manifest, progress)
        else:
            _check_enough(manifest)
        _learn(folder, manifest, settings, progress)
        progress.note(f"3 of {_STEPS}: making the index of segments of {SEGMENT_SECONDS:g} s")
        _index(folder, manifest, workers, progress)
        progress.note(f"{_STEPS} of {_STEPS}: opening the page; next time: seehear serve {folder.path}")
    return folder.path


def _recipe(settings: Iterable[str]) -> Config:
    from seehear.pretraining.plan import make_config

    return make_config(usual="archive", settings=settings)


def _scanned(videos: str | Path, workers: int | None, settings: Iterable[str], progress: Progress) -> Manifest:
    """The videos, only those looked at that are new or have changed since an earlier call."""
    from seehear.data.manifest import Manifest
    from seehear.data.scanning import scan
    from seehear.pretraining.run import needed_streams, shortest_usable_seconds

    config = _recipe(settings)
    if Manifest.is_manifest(videos):
        manifest = Manifest.load(videos)
    else:
        name = hashlib.blake2b(os.path.abspath(str(videos)).encode("utf-8", "surrogateescape"), digest_size=12)
        kept = user_cache_folder() / "explore" / f"{name.hexdigest()}.parquet"
        manifest = scan(
            videos, out=kept, need=needed_streams(config), workers=workers,
            min_seconds=config.data.min_seconds or shortest_usable_seconds(config),
            audio_track=config.data.audio_track, progress=progress.shown("scan", "files"),
        )  # fmt: skip
    progress.note(manifest.summary_text())
    return manifest


def _check_enough(manifest: Manifest) -> None:
    usable = len(manifest.usable_rows())
    if usable < FEWEST_VIDEOS:
        raise DataError(
            f"{usable} usable videos are too few to learn from: there must be {FEWEST_VIDEOS}",
            "add videos; why files cannot be used is above, and in a table: seehear scan VIDEOS --out clips.parquet",
        )


def _check_same(folder: RunFolder, manifest: Manifest, progress: Progress) -> None:
    """Raise `RunError` if the run is of other videos; say what came and went."""
    from seehear.data.manifest import Manifest as Table

    run = set(Table.load(folder.manifest).usable().column("fingerprint"))
    here = set(manifest.usable().column("fingerprint"))
    both = len(run & here)
    if both < len(run) * _SAME_SHARE:
        raise RunError(
            f"{folder.path} holds a run of other videos: {both} of its {len(run)} are among these",
            "choose another --out, or remove that folder",
        )
    if len(run) > both:
        progress.note(f"{_videos(len(run) - both)} of the run gone from here")
    if len(here) > both:
        progress.note(f"{_videos(len(here) - both)} new: put into the index, labelled as the run has learnt")


def _learn(folder: RunFolder, manifest: Manifest, settings: Iterable[str], progress: Progress) -> None:
    """Train, which labels the videos at its end, and write their labels as a table too."""
    import seehear
    from seehear.data.clips import clip_refs
    from seehear.features.model import usable_videos
    from seehear.media.pool import available_cores
    from seehear.pretraining.run import needed_streams, pretrain

    if folder.finished:
        progress.note(f"2 of {_STEPS}: learnt already")
    else:
        recipe = _recipe(settings)
        spans = len(clip_refs(usable_videos(manifest, needed_streams(recipe)), recipe.cluster))
        cores = available_cores() + (GPU_CORES if _has_gpu() else 0)
        usable = len(manifest.usable_rows())
        chosen = choose(recipe.optim.clips_an_epoch(spans), cores, rounds=recipe.rounds, epochs=recipe.optim.epochs)
        minutes = chosen.visits / (_VISITS_PER_SECOND * cores) / 60
        progress.note(
            f"2 of {_STEPS}: learning from {usable} videos, {chosen.rounds} rounds of {chosen.epochs} epochs: about "
            f"{max(1, round(minutes))} min of computing"
        )
        # Whoever gives a number of clusters wants that.
        given = any(text.startswith("cluster.k=") for text in settings)
        config = _recipe([*chosen.settings, *(["cluster.auto=false"] if given else []), *settings])
        pretrain(manifest, folder.path, config, resume=folder.begun, quiet=progress.quiet)
    table = folder.path / "labels.csv"
    if not table.exists():
        seehear.label(folder.path, out=table)


def _videos(count: int) -> str:
    return "1 video is" if count == 1 else f"{count} videos are"


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def _index(folder: RunFolder, manifest: Manifest, workers: int | None, progress: Progress) -> None:
    from seehear.search.building import build_index

    made = build_index(folder.path, manifest, every_seconds=SEGMENT_SECONDS, workers=workers)
    progress.note(f"{made['segments']} segments of {made['videos']} videos")


@contextmanager
def _same_command() -> Iterator[None]:
    """Let an interruption say how to go on from here."""
    try:
        yield
    except Interrupted as error:
        raise Interrupted(error.message, "give the same command again to go on") from error
