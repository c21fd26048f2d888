"""Contrastive learning over generalised data transformations (GDT; Patrick et al.): any valid specification.

`seehear.hypotheses` states what is compared and how; this file has the loss of Eq. 1 and the method around it.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seehear import dist
from seehear.config import Config
from seehear.hypotheses.language import Hypotheses, parse
from seehear.methods.base import MakeEncoders, Method
from seehear.modalities import MODALITIES
from seehear.models.heads import MLPHead, precise
from seehear.models.together import side_by_side
from seehear.types import StepOutput


def gdt_nce(
    embeddings: Tensor, codes: Tensor, spec: Hypotheses, temperature: float, *, detach_keys: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """The GDT-NCE loss (paper, Eq. 1): a joint softmax over every compared transformation of the batch.

        for T in batch, for T' in batch, T' != T, with c(T, T') w(T, T') = 1:
            loss -= log(exp(<f(T), f(T')> / rho) / sum over T'' != T of w(T, T'') exp(<f(T), f(T'')> / rho))

    divided by the number of such pairs, which makes the loss one pair's and is constant for a full batch.

    Args:
        embeddings: f of every transformation in the batch, (K, D), of unit length.
        codes: values of the factors of each, (K, factors) int64, on the same device.
        temperature: rho. Logits are divided by it.
        detach_keys: f(T') and f(T'') are constants: only f(T) has a gradient, as in the published code. The value
            is the same.

    Returns:
        The loss, a float32 scalar (0 if no pair is a positive), or a float64 one of float64 embeddings;
        -log p(T' | T) of every pair (K, K); and which pairs are positives, (K, K) bool.
    """
    with torch.autocast(embeddings.device.type, enabled=False):
        x = precise(embeddings)
        logits = x @ (x.detach() if detach_keys else x).T / temperature
        itself = torch.eye(len(x), dtype=torch.bool, device=x.device)
        compared = spec.compared(codes, codes) & ~itself
        positive = spec.contrast(codes, codes) & compared
        # A row that is compared with nothing has no positive either; any finite value keeps its gradient clean.
        some = compared.any(1, keepdim=True)
        normaliser = logits.masked_fill(~compared & some, -torch.inf).logsumexp(1, keepdim=True)
        surprise = normaliser - logits
        pairs = positive.sum().clamp_min(1)
        return torch.where(positive, surprise, 0.0).sum() / pairs, surprise, positive


class GDT(Method):
    """Encoders with projection heads, trained with `gdt_nce` on the transformations that a specification samples.

    Attributes:
        hypotheses: the specification (`config.gdt.hypotheses`).
        projections: one head for each encoder, to the space where modalities meet.
    """

    needs_features = False
    gathers = True

    def __init__(self, config: Config, encoders: MakeEncoders | None = None) -> None:
        self.spec = parse(config.gdt.hypotheses)
        super().__init__(config, {name: name for name in self.spec.encoded}, encoders)
        self.hypotheses = self.spec
        self.attracting = attracting_modalities(self.spec)
        generators = (torch.Generator().manual_seed(config.seed * 1009 + 500 + i) for i in range(len(self.encoders)))
        self.projections = nn.ModuleDict(
            {
                name: MLPHead(
                    int(encoder.feature_dim),  # type: ignore[arg-type]
                    config.gdt.dimensions,
                    dropout=config.gdt.dropout,
                    unit=True,
                    generator=generator,
                )
                for (name, encoder), generator in zip(self.encoders.items(), generators, strict=True)
            }
        )

    @property
    def fewest_clips(self) -> int:
        """Two, of which each has one row a modality: the heads normalise over rows, and one row has no variance."""
        return 2 if self.spec.transformations_per_sample < 2 * len(self.spec.modalities) else 1

    def forward(self, inputs: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> StepOutput:
        """Loss on the transformations of one batch, those of all processes together.

        `targets[modality]` holds the codes of the rows of `inputs[modality]`, (rows, factors) int64. A modality
        without an input is not compared. A process without a clip gives no inputs, and has the loss of the others.
        """
        if not inputs:
            return self._loss(*self._no_rows())
        told = {name: targets[name] for name in self.spec.modalities if name in inputs or not MODALITIES[name].encoder}
        work = {}
        for name in [n for n in told if n in self.encoders]:
            x = inputs[name]
            if name == "text" and self.training and len(x) == 1:
                # Of one row, as where but one clip has words, there is no variance.
                x, told[name] = x[:0], told[name][:0]
            work[name] = partial(self.encoders[name], x)
        features = side_by_side(work, [self.encoders[name] for name in work])
        # Heads draw at random (dropout), so in their order.
        embeddings = {
            name: self.projections[name](features[name]) if name in features else self._label_embeddings(codes)
            for name, codes in told.items()
        }
        return self._loss(embeddings, told)

    def _no_rows(self) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Embeddings and codes of no clip; of the type that those of the other processes have."""
        device = next(self.parameters()).device
        codes = torch.empty((0, len(self.spec.factors)), dtype=torch.int64, device=device)
        embeddings = {
            name: self.projections[name](torch.empty((0, int(self.encoders[name].feature_dim)), device=device))  # type: ignore[arg-type]
            if name in self.encoders
            else self._label_embeddings(codes)
            for name in self.spec.modalities
        }
        return embeddings, dict.fromkeys(embeddings, codes)

    def _loss(self, embeddings: Mapping[str, Tensor], codes: Mapping[str, Tensor]) -> StepOutput:
        """The loss on the rows of all processes, (K, D) and (K, factors), of which these are this process's."""
        # Every process has the whole loss and its own gradients in it; averaging gradients would divide by their
        # number, and so they are multiplied by it here. The value stays what it is.
        world = dist.world_size()
        x = dist.all_gather_rows(torch.cat(list(embeddings.values())))
        every = dist.all_gather_rows(torch.cat(list(codes.values())))
        settings = self.config.gdt
        loss, surprise, positive = gdt_nce(x, every, self.spec, settings.temperature, detach_keys=settings.detach_keys)
        scaled = loss * world - (loss * (world - 1)).detach()
        rows = rows_of_modalities({m: len(codes[m]) if m in codes else 0 for m in self.spec.modalities}, x.device)
        with torch.no_grad(), torch.autocast(x.device.type, enabled=False):
            parts = self._observe(x.detach(), every, surprise.detach(), positive, rows)
        return StepOutput(scaled, parts)

    def _label_embeddings(self, codes: Tensor) -> Tensor:
        """The pseudo-modality: one-hot vectors of the value of the factor that is told (paper, Eq. 3)."""
        values = codes[:, self.spec.column(self.spec.label_factor)]
        return F.one_hot(values, self.config.gdt.dimensions).float()

    def _observe(
        self, x: Tensor, codes: Tensor, surprise: Tensor, positive: Tensor, rows: Mapping[str, slice | Tensor]
    ) -> dict[str, Tensor]:
        """What to watch: loss and accuracy by pair of modalities, alignment and uniformity (Wang and Isola, 2020).

        Of pairs that may attract each other at all; 0 where a batch has none such. Nothing here waits for a GPU:
        sizes follow from those of the inputs, and never from what the codes hold.
        """
        parts: dict[str, Tensor] = {}
        found = {m: x[of] for m, of in rows.items()}
        for a, b in self.attracting:
            if not len(found[a]) or not len(found[b]):
                continue
            # One block at a time: each entry of the batch's matrices is looked at once.
            queries, keys = rows[a], rows[b]
            right, costs = positive[queries][:, keys], surprise[queries][:, keys]
            pairs = right.sum().clamp_min(1)
            parts[f"loss/{a}->{b}"] = costs.masked_fill(~right, 0).sum() / pairs
            # A row's best answer among the keys of that modality, counted for rows with a positive there.
            wrong = ~self.spec.compared(codes[queries], codes[keys])
            if a == b:
                wrong = wrong | torch.eye(len(found[a]), dtype=torch.bool, device=x.device)
            best = costs.masked_fill(wrong, torch.inf).argmin(1)
            parts[f"accuracy/{a}->{b}"] = right.gather(1, best[:, None]).sum() / right.any(1).sum().clamp_min(1)
            distances = (2 - 2 * (found[a] @ found[b].T)).clamp_min(0)
            parts[f"alignment/{a}->{b}"] = distances.masked_fill(~right, 0).sum() / pairs
        if "text" in found:
            parts["texts"] = x.new_full((), float(len(found["text"])))
        for name, of_modality in found.items():
            if MODALITIES[name].encoder and len(of_modality) > 1:
                parts[f"uniformity/{name}"] = torch.pdist(of_modality).square().mul(-2).exp().mean().log()
        return parts


def attracting_modalities(spec: Hypotheses) -> list[tuple[str, str]]:
    """Pairs of modalities, in their order, in which some transformation attracts another one of a few clips."""
    _, codes = spec.example()
    positive = spec.contrast(codes, codes) & spec.compared(codes, codes) & ~np.eye(len(codes), dtype=bool)
    column = codes[:, spec.column("modality")]
    of = {m: column == list(MODALITIES).index(m) for m in spec.modalities}
    return [(a, b) for a in of for b in of if positive[of[a]][:, of[b]].any()]


def rows_of_modalities(counts: Mapping[str, int], device: torch.device) -> dict[str, slice | Tensor]:
    """Which rows of the gathered ones are of each modality, given how many this process has of each, in their order."""
    if dist.world_size() == 1:
        ends = np.cumsum(list(counts.values())).tolist()
        return {name: slice(end - counts[name], end) for name, end in zip(counts, ends, strict=True)}
    of_processes = {name: dist.row_counts(count, device) for name, count in counts.items()}
    rows: dict[str, list[int]] = {name: [] for name in counts}
    start = 0
    for process in range(dist.world_size()):
        for name, of_process in of_processes.items():
            rows[name] += range(start, start + of_process[process])
            start += of_process[process]
    return {name: torch.tensor(found, dtype=torch.int64, device=device) for name, found in rows.items()}
