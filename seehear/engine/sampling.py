"""Which clips a run trains on and validates on, in which order, and which of them each process takes.

What is drawn for a place in the order depends on seed, stage, epoch and that place alone, not on the process.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np

from seehear import dist
from seehear.config import Config
from seehear.data.clips import (
    ClipRequest,
    Video,
    clip_refs,
    epoch_order,
    held_out,
    plain_requests,
    training_requests,
    transformation_requests,
)
from seehear.engine.schedule import Stage
from seehear.errors import DataError
from seehear.hypotheses.language import Hypotheses
from seehear.types import Assignment, ClipRef


def split(
    videos: Mapping[str, Video], config: Config, validation: Collection[str] | None
) -> tuple[list[ClipRef], list[ClipRef]]:
    """Spans to train on and spans that are held out: of the videos `validation`, or of those that a hash chooses.

    Where text is looked at, spans in which nothing is said are none of both. Raises `DataError` if there is nothing to
    train on.
    """
    refs = [r for r in clip_refs(list(videos.values()), config.cluster) if not videos[r.video_id].silent(r)]
    hashed = (i for i in videos if held_out(i, config.data.validation_share))
    out = frozenset(hashed if validation is None else validation)
    train = [r for r in refs if r.video_id not in out]
    if not train:
        raise DataError("no video is left to train on", "lower data.validation_share or add videos")
    return train, [r for r in refs if r.video_id in out]


def epoch_requests(
    stage: Stage,
    refs: Sequence[ClipRef],
    videos: Mapping[str, Video],
    hypotheses: Hypotheses | None,
    assignment: Assignment | None,
    epoch: int,
) -> list[list[ClipRequest]]:
    """The requests of an epoch for every process, as many for each: only whole steps, but at least one.

    Raises `DataError` if there are more processes than clips.
    """
    optim, world = stage.config.optim, dist.world_size()
    seed = (stage.config.seed, stage.index, epoch)
    length = optim.clips_per_epoch or len(refs)
    if length < world:
        raise DataError(
            f"{length} clips an epoch cannot be shared by {world} processes",
            "start fewer processes, raise optim.clips_per_epoch or add videos",
        )
    labellings = None
    if stage.config.cluster.uniform_sampling and assignment:
        ids = [r.clip_id for r in refs]
        labellings = [assignment.of(name, ids) for name in assignment.labels]
    order = epoch_order(len(refs), length, seed, labellings)
    per_step = optim.batch_size * world
    # A last, small step would weigh its clips more; they come again in the next epoch's order.
    order = order[: max(length // per_step * per_step, min(length, per_step) // world * world)]
    clip = stage.config.clip
    if hypotheses is not None:
        requests = transformation_requests(refs, order, videos, clip, hypotheses, seed)
    else:
        requests = training_requests(refs, order, videos, clip, stage.config.augment, seed)
    size = optim.batch_size if len(order) >= per_step else max(1, len(order) // world)
    steps = [requests[i : i + size * world] for i in range(0, len(requests), size * world)]
    return [[r for step in steps for r in step[rank * size : (rank + 1) * size]] for rank in range(world)]


def validation_steps(
    stage: Stage,
    refs: Sequence[ClipRef],
    videos: Mapping[str, Video],
    hypotheses: Hypotheses | None,
    *,
    whole_steps: bool,
) -> list[Sequence[ClipRequest]]:
    """This process's share, which may be none, of every step of validation.

    Of each held-out span the middle clip, or the same transformations of it in every epoch. With `whole_steps` clips
    beyond the last whole step are left out, if there is one: a contrastive loss depends on the number of clips.
    """
    clip = stage.config.clip
    per_step = stage.config.optim.batch_size * dist.world_size()
    if hypotheses is None:
        requests = plain_requests(refs, videos, clip)
    else:
        whole = len(refs) // per_step * per_step if whole_steps else 0
        order = np.arange(whole or len(refs))
        requests = transformation_requests(refs, order, videos, clip, hypotheses, (stage.config.seed,))
    return [dist.share(requests[i : i + per_step]) for i in range(0, len(requests), per_step)]
