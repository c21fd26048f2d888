"""Audio-visual temporal synchronisation (AVTS): do these frames and this sound belong together, in time too?

Korbar, Tran and Torresani, "Cooperative learning of audio and video models from self-supervised synchronization",
NeurIPS 2018: a contrastive loss with a margin over pairs in sync and pairs out of sync, which are of different videos
first (easy), and later of other times of one video, too (hard). Every clip is seen and heard at two moments; both
encoders end in heads to one space, where distances are Euclidean.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from seehear import dist
from seehear.config import ClipConfig, Config
from seehear.hypotheses.factors import Augment, Modalities, Sample, Span, TimeShift, View
from seehear.hypotheses.language import Hypotheses
from seehear.methods.base import MakeEncoders, Method
from seehear.models.heads import MLPHead, precise
from seehear.types import StepOutput


@dataclass(frozen=True)
class TwoMoments(TimeShift):
    """Two starts of a clip's window at least `apart_seconds` apart; in a video too short for that, its two ends."""

    apart_seconds: float = 1.0

    def sample(self, view: View, span: Span, rng: np.random.Generator) -> list[tuple[int, View]]:
        """A uniform draw among all pairs of starts that are so far apart."""
        apart, width = steps_apart(self.apart_seconds, span.rate_hz), span.last - span.first
        if span.allowed is not None:
            there = span.allowed
            pairs = np.argwhere(there[None, :] - there[:, None] >= apart)
            pair = pairs[rng.integers(len(pairs))] if len(pairs) else (0, -1)
            starts = [int(there[place]) for place in pair]
        elif width < apart:
            starts = [span.first, span.last]
        else:
            # The earlier start leaves so many later ones; a pair is drawn by its number.
            numbers = np.cumsum(np.arange(width - apart + 1, 0, -1))
            drawn = int(rng.integers(numbers[-1]))
            earlier = int(np.searchsorted(numbers, drawn, side="right"))
            later = earlier + apart + (int(numbers[earlier]) - 1 - drawn)
            starts = [span.first + earlier, span.first + later]
        if rng.integers(2):
            starts.reverse()
        return [(s, replace(view, start=s)) for s in starts]


def steps_apart(seconds: float, rate_hz: float) -> int:
    """The fewest steps of the frame grid that take so long."""
    return math.ceil(seconds * rate_hz - 1e-6)


def two_moments(clip: ClipConfig, gap_seconds: float) -> Hypotheses:
    """What a step sees of a clip: two moments, each in frames and in sound, whose windows have a gap between them."""
    moments = TwoMoments("distinct", apart_seconds=clip.seconds + gap_seconds)
    return Hypotheses((Sample(), moments, Modalities(), Augment()))


def avts_loss(
    video: Tensor,
    audio: Tensor,
    video_codes: Tensor,
    audio_codes: Tensor,
    *,
    apart: int,
    margin: float,
    hard_share: float,
) -> tuple[Tensor, dict[str, Tensor]]:
    """The contrastive loss over pairs of seen and heard moments (paper, section 3.1):

        E = mean over pairs of  y d^2 + (1 - y) max(margin - d, 0)^2,    d = || f_v - f_a ||

    y is 1 for a pair in sync: one clip at one time. Half of the pairs are in sync, and of the others `hard_share` are
    hard: one clip at times at least `apart` steps apart. The rest are easy: different clips. The paper draws pairs;
    here a moment that is seen goes with all such sounds of the batch in equal shares, which is what draws come to in
    the mean. Where one kind of negative is missing for a moment, the other takes its share.

    Args:
        video, audio: embeddings (N, D) and (M, D).
        video_codes, audio_codes: (N, 2) and (M, 2) int64: which clip, and when it starts in steps of the frame grid.
        margin: in the units of the embeddings; paper: 0.99.

    Returns:
        The loss, a float32 scalar (0 without a pair; float64 for float64 embeddings); and for the log, as far as there
        are such pairs, the mean distances "distance/in-sync", "distance/easy" and "distance/hard", and
        "accuracy/easy" and "accuracy/hard": how often a moment's own sound is nearer than such another.
    """
    with torch.autocast(video.device.type, enabled=False):
        x, y = precise(video), precise(audio)
        # Without the shortcut by products, which loses small distances.
        distance = torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist")
        same = video_codes[:, None, 0] == audio_codes[None, :, 0]
        steps = (video_codes[:, None, 1] - audio_codes[None, :, 1]).abs()
        kinds = {"in-sync": same & (steps == 0), "easy": ~same, "hard": same & (steps >= apart)}
        hinge = (margin - distance).clamp_min(0).square()
        halves = _by_row(distance.square(), kinds["in-sync"]), _negatives(hinge, kinds, hard_share)
        loss = torch.stack([half.sum() / max(len(half), 1) for half in halves]).sum() / 2
        return loss, _observe(distance.detach(), kinds)


def _by_row(values: Tensor, mask: Tensor) -> Tensor:
    """Means of rows over `mask`, (N, M) to (rows that have an entry,)."""
    count = mask.sum(1)
    return (values * mask).sum(1)[count > 0] / count[count > 0]


def _negatives(hinge: Tensor, kinds: Mapping[str, Tensor], hard_share: float) -> Tensor:
    """For every moment that has any negative, its mean hinge over both kinds in their shares."""
    there = torch.stack([kinds["easy"].any(1), kinds["hard"].any(1)], dim=1)
    share = torch.tensor([1 - hard_share, hard_share], dtype=hinge.dtype, device=hinge.device) * there
    total = share.sum(1, keepdim=True)
    means = torch.stack([(hinge * kinds[k]).sum(1) / kinds[k].sum(1).clamp_min(1) for k in ("easy", "hard")], dim=1)
    found = (means * share / total.clamp_min(1e-12)).sum(1)
    return found[total[:, 0] > 0]


def _observe(distance: Tensor, kinds: Mapping[str, Tensor]) -> dict[str, Tensor]:
    if not distance.numel():
        return {}
    parts = {f"distance/{kind}": distance[mask].mean() for kind, mask in kinds.items() if mask.any()}
    own = distance.masked_fill(~kinds["in-sync"], torch.inf).amin(1)
    for kind in ("easy", "hard"):
        asked = kinds[kind] & kinds["in-sync"].any(1, keepdim=True)
        if asked.any():
            parts[f"accuracy/{kind}"] = (own[:, None] < distance)[asked].float().mean()
    return parts


class AVTS(Method):
    """A video and an audio encoder with heads to one space, trained with `avts_loss`, easy negatives first.

    Attributes:
        heads: one for each encoder, to embeddings of `config.avts.dimensions`.
        hard_share: the share of hard negatives in the epoch under way.
    """

    needs_features = False
    gathers = True

    def __init__(self, config: Config, encoders: MakeEncoders | None = None) -> None:
        super().__init__(config, {"video": "video", "audio": "audio"}, encoders)
        settings = config.avts
        self.hypotheses = self.spec = two_moments(config.clip, settings.gap_seconds)
        self.hard_share = 0.0
        generators = (torch.Generator().manual_seed(config.seed * 1009 + 700 + i) for i in range(2))
        self.heads = nn.ModuleDict(
            {
                name: MLPHead(
                    int(encoder.feature_dim),  # type: ignore[arg-type]
                    settings.dimensions,
                    unit=settings.unit,
                    generator=generator,
                )
                for (name, encoder), generator in zip(self.encoders.items(), generators, strict=True)
            }
        )

    def begin_epoch(self, epoch: int, epochs: int) -> None:
        """Easy negatives alone for the first `avts.easy_share` of a round's epochs, then hard ones, too."""
        settings = self.config.avts
        self.hard_share = settings.hard_share if epoch >= round(settings.easy_share * epochs) else 0.0

    def forward(self, inputs: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> StepOutput:
        """Loss on the moments of one batch, those of all processes together.

        `targets[modality]` holds the codes of the rows of `inputs[modality]`, (rows, factors) int64. A process without
        a clip gives no inputs, and has the loss of the others.
        """
        columns = [self.spec.column("sample"), self.spec.column("time_shift")]
        device = next(self.parameters()).device
        embeddings, codes = {}, {}
        for name, head in self.heads.items():
            if name in inputs:
                x, told = self.encoders[name](inputs[name]), targets[name][:, columns]
            else:
                x = torch.empty((0, int(self.encoders[name].feature_dim)), device=device)  # type: ignore[arg-type]
                told = torch.empty((0, 2), dtype=torch.int64, device=device)
            embeddings[name] = dist.all_gather_rows(head(x))
            codes[name] = dist.all_gather_rows(told)
        settings, clip = self.config.avts, self.config.clip
        loss, parts = avts_loss(
            embeddings["video"],
            embeddings["audio"],
            codes["video"],
            codes["audio"],
            apart=steps_apart(clip.seconds + settings.gap_seconds, clip.frame_rate_hz),
            margin=settings.margin,
            hard_share=self.hard_share,
        )
        # Every process has the whole loss and its own gradients in it, which averaging would divide by their number.
        world = dist.world_size()
        return StepOutput(loss * world - (loss * (world - 1)).detach(), parts)
