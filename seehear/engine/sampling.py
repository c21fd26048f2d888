"""Which clips a run trains on and validates on, in which order, and which of them each process takes.

What is drawn for a place in the order depends on seed, stage, epoch and that place alone, not on the process.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from seehear import dist
from seehear.config import Config
from seehear.data.clips import (
    ClipRequest,
    Moments,
    Video,
    epoch_order,
    held_out,
    plain_requests,
    training_requests,
    transformation_requests,
)
from seehear.data.columns import ClipTable, VideosById, VideoTable, cut
from seehear.engine.schedule import Stage
from seehear.errors import DataError
from seehear.hypotheses.language import Hypotheses
from seehear.types import Assignment, ClipRef


def spans_of(videos: VideoTable, config: Config) -> ClipTable:
    """All spans of a run's videos, which are there once a machine."""
    table = dist.once_a_machine("the spans of the videos", lambda: cut(videos, config.cluster).columns())
    return ClipTable.of_columns(videos, table)


def split(
    videos: VideosById, config: Config, validation: Collection[str] | None
) -> tuple[ClipTable, ClipTable, ClipTable]:
    """All spans, and of these the first, to train on, and the last, of videos that are held out; there once a machine.

    Held out are the videos `validation`, or those that a hash chooses. Where text is looked at, spans in which nothing
    is said are left out. Raises `DataError` if there is nothing to train on.
    """
    table = dist.once_a_machine("who trains and who is held out", lambda: _split(videos, config, validation))
    spans, training = ClipTable.of_columns(videos.table, table), int(np.searchsorted(table["held_out"].to_numpy(), 1))
    if not training:
        raise DataError("no video is left to train on", "lower data.validation_share or add videos")
    return spans, spans[:training], spans[training:]


def _split(videos: VideosById, config: Config, validation: Collection[str] | None) -> pa.Table:
    """The columns of all spans, those that are held out last, which the column `held_out` says of them."""
    table = videos.table
    refs = cut(table, config.cluster)
    asked = np.flatnonzero(table.with_cues[refs.video])
    if len(asked):
        spoken = np.ones(len(refs), dtype=bool)
        spoken[asked] = [not videos[ref.video_id].silent(ref) for ref in refs.take(asked)]
        refs = refs.take(spoken)
    if validation is None:
        out = np.fromiter((held_out(i, config.data.validation_share) for i in videos), bool, len(videos))
    else:
        places = table.places(list(validation))
        out = np.zeros(len(table), dtype=bool)
        out[places[places >= 0]] = True
    last = out[refs.video].view(np.uint8)
    order = np.argsort(last, kind="stable")
    return refs.take(order).columns().append_column("held_out", pa.array(last[order]))


def labelled_among(refs: ClipTable, assignment: Assignment | None) -> ClipTable:
    """The clips that have labels, if there are any labels; one that could not be decoded has none this round."""
    if assignment is None:
        return refs

    def absent() -> np.ndarray:
        found = [assignment.rows(pa.chunked_array([ids])) < 0 for ids in refs.id_blocks()]
        return np.flatnonzero(np.concatenate(found or [np.zeros(0, dtype=bool)]))

    rows = dist.once_a_machine("clips without labels", lambda: pa.table({"row": absent()}))["row"].to_numpy()
    if not len(rows):
        return refs
    table = dist.once_a_machine("clips with labels", lambda: refs.take(np.delete(np.arange(len(refs)), rows)).columns())
    return ClipTable.of_columns(refs.videos, table)


@dataclass(frozen=True)
class Steps:
    """The steps of an epoch that are left, each over so many places in the order of its clips.

    A place is what every process counts alike, whatever the number of processes: the state of a run holds places.
    """

    begin: int
    """The place where the first step begins."""
    size: int
    """Places of a step, shared out to the processes in contiguous blocks."""
    end: int
    """The place after the last step."""
    make: Callable[[int, int], list[ClipRequest]]
    """The requests of the places from the one number up to the other."""

    @property
    def last(self) -> int:
        """The place where the last step of the epoch begins."""
        return max(0, self.end - self.size)

    def after(self, place: int) -> Iterator[int]:
        """The places where steps after the one at `place` begin."""
        return iter(range(place + self.size, self.end, self.size))

    def requests(self, begin: int, end: int) -> Iterator[list[ClipRequest]]:
        """This process's share of every step between two places, made as they are asked for."""
        each, number = self.size // dist.world_size(), dist.rank()
        for place in range(begin, end, self.size):
            yield self.make(place + each * number, place + each * (number + 1))


def epoch_steps(
    stage: Stage,
    refs: Sequence[ClipRef],
    videos: Mapping[str, Video],
    hypotheses: Hypotheses | None,
    assignment: Assignment | None,
    epoch: int,
    done: int = 0,
    fewest: int = 1,
) -> Steps:
    """The steps of an epoch after the first `done` places of its order: only whole steps, but at least one an epoch.

    The order depends on seed, stage and epoch alone. Where processes were more or fewer before, the steps from `done`
    on are those of the processes that there are now.

    Raises `DataError` if a step would have fewer than `fewest` clips for each process.
    """
    optim, world = stage.config.optim, dist.world_size()
    seed = (stage.config.seed, stage.index, epoch)
    length = optim.clips_an_epoch(len(refs))
    if min(length // world, optim.batch_size) < fewest:
        raise DataError(
            f"{length} clips an epoch cannot be shared by {world} processes in steps of {optim.batch_size} each"
            + (f", of which they need {fewest}" if fewest > 1 else ""),
            "start fewer processes, raise optim.batch_size or optim.clips_per_epoch, or add videos",
        )

    def in_order() -> pa.Table:
        labellings = None
        if stage.config.cluster.uniform_sampling and assignment:
            ids = refs.clip_ids if isinstance(refs, ClipTable) else [r.clip_id for r in refs]
            labellings = [assignment.of(name, ids) for name in assignment.labels]
        return pa.table({"clip": epoch_order(len(refs), length, seed, labellings)})

    order = dist.once_a_machine("the order of an epoch", in_order)["clip"].to_numpy()
    # A last, small step would weigh its clips more; they come again in the next epoch's order.
    size = optim.batch_size * world
    if length < size and not done:
        size = length // world * world
    end = done + max(0, length - done) // size * size
    clip, moments = stage.config.clip, Moments.kept(stage.config)

    def make(begin: int, stop: int) -> list[ClipRequest]:
        part = order[begin:stop]
        if hypotheses is not None:
            return transformation_requests(refs, part, videos, clip, hypotheses, seed, begin, moments)
        return training_requests(refs, part, videos, clip, stage.config.augment, seed, begin, moments)

    return Steps(done, size, end, make)


def validation_steps(
    stage: Stage,
    refs: Sequence[ClipRef],
    videos: Mapping[str, Video],
    hypotheses: Hypotheses | None,
    *,
    whole_steps: bool,
) -> Iterator[list[ClipRequest]]:
    """This process's share, which may be none, of every step of validation, made as they are asked for.

    Of each held-out span the middle clip, or the same transformations of it in every epoch. With `whole_steps` clips
    beyond the last whole step are left out, if there is one: a contrastive loss depends on the number of clips.
    """
    clip = stage.config.clip
    per_step = stage.config.optim.batch_size * dist.world_size()
    whole = len(refs) // per_step * per_step if whole_steps and hypotheses is not None else 0
    count = whole or len(refs)
    for begin in range(0, count, per_step):
        mine = dist.share(range(begin, min(begin + per_step, count)))
        if hypotheses is None:
            yield plain_requests([refs[place] for place in mine], videos, clip)
        else:
            seed = (stage.config.seed,)
            first = mine[0] if mine else 0
            yield transformation_requests(
                refs, np.array(mine, dtype=int), videos, clip, hypotheses, seed, first, Moments.kept(stage.config)
            )
