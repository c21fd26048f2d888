"""Self-labelling of videos by optimal transport (SeLaVi): Asano, Patrick, Rupprecht and Vedaldi, NeurIPS 2020.

Heads on both encoders give every clip probabilities of K clusters; a clip's sight and its sound are views of
one thing and share their labels. Training alternates with clustering, in which the labels are the optimal
transport plan of the averaged log-probabilities (Eqs. 3 and 6) to clusters of given sizes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seehear import dist
from seehear.cluster.alignment import Alignment, align, alignment_cost
from seehear.cluster.marginals import make_marginals, match_marginals, shrunk, uniform
from seehear.cluster.sinkhorn import Transport, sinkhorn
from seehear.config import Config, OptimConfig
from seehear.errors import TrainingError, UsageError
from seehear.features.bank import FeatureBank, view_name
from seehear.features.kinds import Count
from seehear.hypotheses.factors import Augment, Factor, Modalities, Sample, TimeShift
from seehear.hypotheses.language import Hypotheses
from seehear.methods.base import MakeEncoders, Method
from seehear.methods.deepcluster import cluster_features
from seehear.models.heads import MLPHead, cluster_heads
from seehear.models.together import side_by_side
from seehear.types import Labelling, StepOutput

BLOCK_ROWS = 4096
_SETTLING = 0.1
"""Of the last round, before the first transport where kinds are counted."""


class SeLaVi(Method):
    """Encoders with H clustering heads each, or what its ablations leave of them (`config.selavi.variant`).

    The labellings are `head0` to `head{H-1}`; head h of every source learns labelling h.

    Attributes:
        marginals: the share of clips that each cluster of each head may take, (H, K) float64, in the order that
            the last clustering gave it (R*, Eqs. 4 and 5).
        clusterings: how many clusterings there have been, a scalar int64.
        crossed: whether each source learns the other's clusters alone, a scalar bool; only where kinds are counted.
    """

    marginals: Tensor
    clusterings: Tensor
    crossed: Tensor

    def __init__(self, config: Config, encoders: MakeEncoders | None = None) -> None:
        settings = config.selavi
        super().__init__(config, {name: name for name in settings.encoders}, encoders)
        if config.final is not None and settings.variant == "concatenation":
            raise UsageError(
                "the final stage trains the video encoder alone, and the heads of selavi.variant=concatenation "
                "need both encoders",
                "leave final out, or take another variant",
            )
        generator = torch.Generator().manual_seed(config.seed * 1009 + 700)
        self.heads = self.cluster_heads = cluster_heads(config, self._dims, generator)
        k = config.cluster.k
        shares = [make_marginals(settings.shares or settings.marginals, k, generator) for _ in range(settings.heads)]
        self.register_buffer("marginals", torch.stack(shares))
        self.register_buffer("clusterings", torch.zeros((), dtype=torch.int64))
        self._shares: Tensor | None = None  # of the heads that the next round begins with; None: equal ones
        if config.cluster.auto:
            self.count = Count(config.rounds)
            self.register_buffer("crossed", torch.zeros((), dtype=torch.bool))
        self._labelling = None
        if settings.labelling_views == 2:
            self._labelling = two_views(settings.encoders, config.augment.temporal_jitter)
        self.hypotheses = self._labelling if settings.views == 2 else None
        self.labels_from_training = settings.labels_from == "training" and dist.world_size() == 1
        self.label_smoothing = 0.0

    @property
    def _dims(self) -> dict[str, int]:
        return {name: int(encoder.feature_dim) for name, encoder in self.encoders.items()}  # type: ignore[arg-type]

    @property
    def fewest_clips(self) -> int:
        """Two, of which each has one row: the heads normalise over rows, and one row has no variance."""
        return 2 if self.config.selavi.views == 1 else 1

    @property
    def labelling_hypotheses(self) -> Hypotheses | None:
        """The two augmentations that heads are decorrelated by (section 3.3), drawn anew for each clustering."""
        return self._labelling

    @property
    def labellings(self) -> tuple[str, ...]:
        """The labellings, one for each head."""
        return tuple(f"head{h}" for h in range(self.heads.count))

    def relabel_epochs(self, epochs: int, left: int = 0) -> Sequence[float]:
        """t_j = E (j/M)^p for j = 1 to M (appendix A.2: inverse quadratic); the last one is after the last step.

        With the one before the first step, t_0, there are M + 1. Where kinds are counted (`cluster.auto`) it is so in
        the last round alone, after a tenth of it: new heads have to learn the labels that a round begins with first.
        """
        settings = self.config.selavi
        m = settings.clusterings
        times = [epochs * (j / m) ** settings.power for j in range(1, m + 1)]
        if not self.config.cluster.auto:
            return times
        return [] if left else [epochs * _SETTLING + (1 - _SETTLING) * t for t in times]

    def start_round(self, classes: Mapping[str, int], optim: OptimConfig, generator: torch.Generator) -> None:
        """Heads carry over: clusters of successive clusterings are the same ones.

        Where kinds are counted they do not, as each round has its own clusters; then new heads begin.
        """
        self.label_smoothing = optim.label_smoothing
        if self.config.cluster.auto:
            k, device = classes["head0"], self.marginals.device
            self.heads = self.cluster_heads = cluster_heads(self.config, self._dims, generator, k).to(device)
            shares = uniform(k) if self._shares is None else self._shares
            self.marginals = shares.to(device).expand(self.heads.count, k).clone()

    # -- training ---------------------------------------------------------------------------------------------------

    def forward(self, inputs: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> StepOutput:
        """Eq. 1 with one-hot q: cross-entropy averaged over sources, heads, views and clips.

        The rows of `inputs` are clip 0 view 0, clip 0 view 1, clip 1 view 0 ...; `targets["head0"]` has a row a clip.
        """
        seen = {name: encoder for name, encoder in self.encoders.items() if name in inputs}
        features = side_by_side({n: partial(encoder, inputs[n]) for n, encoder in seen.items()}, list(seen.values()))
        smoothing = self.label_smoothing if self.training else 0.0
        parts: dict[str, Tensor] = {}
        losses = []
        for source, x in self.heads.inputs(features).items():
            labels = torch.stack([targets[labelling] for labelling in self.labellings])
            mine = self._heads_of(source)
            labels = labels[mine].repeat_interleave(len(x) // labels.shape[1], dim=1).flatten()
            logits = self.heads.all_logits(source, x)[mine].flatten(0, 1)
            losses.append(F.cross_entropy(logits, labels, label_smoothing=smoothing))
            parts[f"loss/{source}"] = losses[-1].detach()
            parts[f"accuracy/{source}"] = (logits.argmax(1) == labels).float().mean()
        kept: dict[str, Tensor] = {}
        if self.labels_from_training:
            views = self.config.selavi.views
            kept = {view_name(n, v): x[v::views].detach() for n, x in features.items() for v in range(views)}
        return StepOutput(torch.stack(losses).mean(), parts, kept)

    def _heads_of(self, source: str) -> slice:
        """The heads by which a source learns: all, or those that hold the other modality's clusters."""
        if self.count is None or not bool(self.crossed):
            return slice(None)
        return slice(0 if source == "video" else 1, None, 2)

    # -- clustering -------------------------------------------------------------------------------------------------

    def first_labels(self, bank: FeatureBank, seed: int, left: int) -> dict[str, Labelling]:
        """By `assign`; where kinds are counted by k-means, for the heads begin anew (`start_round`).

        Before the last round sight learns what sounds alike and sound what looks alike, as in XDC: even heads hold the
        clusters of the sound, odd ones those of the sight. In the last one all heads learn clusters of both together,
        as many as kinds are counted; from the sizes of these the marginals are estimated (`shrunk`).
        """
        if self.count is None:
            return self.assign(bank, seed)
        self.count.measure(bank, seed, left)
        self.clusterings += 1
        k, sources = self.config.cluster.k, ["+".join(self.encoders)]
        if left and self.heads.count > 1 and self.config.selavi.variant == "multimodal":
            sources = ["audio", "video"]
        elif not left:
            kinds = self.count.told()
            k = k if kinds is None or kinds.k is None else kinds.k
        self.crossed.fill_(len(sources) > 1)
        made = {}
        for head, labelling in enumerate(self.labellings):
            source = sources[head % len(sources)]
            made[labelling] = cluster_features(bank, source, k, self.config.cluster, seed + head, self.marginals.device)
        sizes = torch.from_numpy(made["head0"].sizes)
        self._shares = None if left else shrunk(dist.all_reduce_sum(sizes))
        return {name: replace(labels, watched=name == "head0") for name, labels in made.items()}

    def assign(self, bank: FeatureBank, seed: int) -> dict[str, Labelling]:
        """Optimal transport of every head's log-probabilities; each process passes its own clips.

        Where the bank holds two views, a random half of the heads sees the first and the rest the second
        (section 3.3). The first clustering sets the statistics of the heads' batch normalisation and aligns
        the audio heads to the video heads.
        """
        generator = torch.Generator().manual_seed(seed)
        views = self.views_of_heads(bank, generator)
        modes = [(m, m.training) for m in self.heads.modules()]
        self.heads.eval()
        try:
            with torch.no_grad():
                first = int(self.clusterings) == 0
                if first:
                    self._settle_norms(bank)
                aligned = self._align(bank, views, generator) if first else []
                made = [self._transport(bank, head, views[head]) for head in range(self.heads.count)]
        except ValueError as error:
            raise TrainingError(
                f"the clips cannot be labelled: {error}", "lower optim.base_lr or set optim.clip_gradient_norm"
            ) from error
        finally:
            for module, mode in modes:
                module.training = mode
        self.clusterings += 1
        return self._labellings(made, aligned)

    def views_of_heads(self, bank: FeatureBank, generator: torch.Generator) -> list[int]:
        """Which view each head is clustered on; all on the first where there is one."""
        count = self.heads.count
        if view_name(next(iter(self.encoders)), 1) not in bank.features:
            return [0] * count
        second = set(torch.randperm(count, generator=generator)[: count // 2].tolist())
        return [int(head in second) for head in range(count)]

    def log_p(self, bank: FeatureBank, head: int, view: int = 0) -> Tensor:
        """Eq. 6: one head's log-probabilities, averaged over the sources; (N, K) float32."""
        device = self.marginals.device
        result = torch.empty(len(bank), self.heads.clusters, device=device)
        for rows, inputs in self._blocks(bank, view):
            result[rows] = self.heads.log_p(inputs, head)
        return result

    def _blocks(self, bank: FeatureBank, view: int) -> Iterator[tuple[slice, dict[str, Tensor]]]:
        """The inputs of the heads for blocks of a bank's clips, on the heads' device."""
        for start in range(0, len(bank), BLOCK_ROWS):
            rows = slice(start, min(start + BLOCK_ROWS, len(bank)))
            features = {
                name: torch.from_numpy(np.array(bank.features[view_name(name, view)][rows])).to(self.marginals.device)
                for name in self.encoders
            }
            yield rows, self.heads.inputs(features)

    def _transport(self, bank: FeatureBank, head: int, view: int) -> tuple[Transport, Tensor, Tensor]:
        """The labels of one head, how surprising each is (N,), and the clusters' masses before, (K,) of sum 1."""
        settings = self.config.selavi
        log_p = self.log_p(bank, head, view)
        masses = torch.zeros(self.heads.clusters, dtype=torch.float64, device=log_p.device)
        for block in log_p.split(BLOCK_ROWS):
            # q of Eq. 3 without a constraint on the clusters: how large each is by itself.
            masses += (settings.strength * block).softmax(1).double().sum(0)
        masses = dist.all_reduce_sum(masses)
        masses = masses / masses.sum().clamp_min(1e-300)
        self.marginals[head] = match_marginals(self.marginals[head], masses)
        # The working copy is freed before the next head's is made.
        plan = sinkhorn(
            log_p.clone(), self.asked(head, masses), strength=settings.strength, tolerance=settings.tolerance,
            overwrite=True,
        )  # fmt: skip
        surprise = -log_p.gather(1, plan.labels[:, None])[:, 0]
        return plan, surprise, masses

    def asked(self, head: int, masses: Tensor) -> Tensor:
        """The shares that a clustering asks for, (K,): a head's marginals, so far as they do not follow its masses."""
        follow = self.config.selavi.follow
        return (1 - follow) * self.marginals[head] + follow * masses

    def _labellings(
        self, made: Sequence[tuple[Transport, Tensor, Tensor]], aligned: Sequence[Alignment]
    ) -> dict[str, Labelling]:
        labellings = {}
        k = self.heads.clusters
        for head, (plan, surprise, masses) in enumerate(made):
            total = torch.tensor([float(surprise.double().sum()), float(len(surprise))], dtype=torch.float64)
            energy, clips = dist.all_reduce_sum(total.to(surprise.device)).tolist()
            facts: dict[str, Any] = {}
            if head == 0:
                p, asked = masses.clamp_min(1e-300), self.asked(head, masses)
                facts = {
                    "mass_entropy": float(-(p * p.log()).sum()),
                    "marginals": [round(float(x), 6) for x in asked],
                    "masses": [round(float(x), 6) for x in plan.masses / plan.masses.sum()],
                    "marginal_correlation": _correlation(asked, plan.masses.double()),
                    "sinkhorn_iterations": [plan.iterations for plan, _, _ in made],
                    "sinkhorn_converged": [plan.converged for plan, _, _ in made],
                    "marginal_error": max(plan.marginal_error for plan, _, _ in made),
                }
                if aligned:
                    facts["alignment_cost_before"] = [a.cost_before for a in aligned]
                    facts["alignment_cost_after"] = [a.cost_after for a in aligned]
            labellings[f"head{head}"] = Labelling(
                labels=plan.labels.cpu().numpy(),
                distances=surprise.cpu().numpy(),
                centroids=torch.zeros(k, 0),
                transform={},
                objective=energy / max(clips, 1.0),
                reseeded=0,
                facts=facts,
                watched=head == 0,
            )
        return labellings

    def _settle_norms(self, bank: FeatureBank) -> None:
        """Set the running statistics of the heads' batch normalisation to those of all clips.

        Those of untrained heads are not those of their activations. Mean and variance of W x + b follow from
        the mean and covariance of x, which are measured once for all heads of a source.
        """
        for source, heads in self.heads.of.items():
            assert isinstance(heads, nn.ModuleList)
            sums: Tensor | None = None
            for _, inputs in self._blocks(bank, 0):
                x = inputs[source].double()
                # [1 x]^T [1 x] holds the count, the sums and the products.
                x = torch.cat([torch.ones_like(x[:, :1]), x], 1)
                sums = x.T @ x if sums is None else sums + x.T @ x
            if sums is None:
                dim = int(heads[0].layers[1].in_features)  # type: ignore[union-attr, index]
                sums = torch.zeros(dim + 1, dim + 1, dtype=torch.float64, device=self.marginals.device)
            sums = dist.all_reduce_sum(sums)
            mean = sums[0, 1:] / sums[0, 0]
            covariance = sums[1:, 1:] / sums[0, 0] - mean[:, None] * mean[None, :]
            for head in heads:
                assert isinstance(head, MLPHead)
                linear, norm = head.layers[1], head.layers[2]
                assert isinstance(linear, nn.Linear) and isinstance(norm, nn.modules.batchnorm._BatchNorm)
                weight = linear.weight.double()
                norm.running_mean.copy_(weight @ mean + linear.bias.double())  # type: ignore[union-attr]
                variance = ((weight @ covariance) * weight).sum(1).clamp_min(0)
                norm.running_var.copy_(variance)  # type: ignore[union-attr]

    def _align(self, bank: FeatureBank, views: Sequence[int], generator: torch.Generator) -> list[Alignment]:
        """Permute the outputs of the audio heads so that they agree with the video heads' (Eq. 7)."""
        settings = self.config.selavi
        if settings.alignment == "none" or settings.variant != "multimodal":
            return []
        found = []
        for head in range(self.heads.count):
            shape = (len(bank), self.heads.clusters)
            p = {source: torch.empty(shape, device=self.marginals.device) for source in self.heads.sources}
            for rows, inputs in self._blocks(bank, views[head]):
                for source, x in inputs.items():
                    p[source][rows] = self.heads.logits(source, x, head).softmax(1)
            cost = alignment_cost(p["audio"], p["video"])
            alignment = align(cost, settings.alignment, generator=generator)
            last = self.heads.of["audio"][head].layers[-1]  # type: ignore[index]
            last.weight.copy_(last.weight[alignment.permutation])
            last.bias.copy_(last.bias[alignment.permutation])
            found.append(alignment)
        return found


def two_views(modalities: Sequence[str], temporal_jitter: bool) -> Hypotheses:
    """Each clip of a batch seen twice: at two moments of its span, or augmented twice if clips do not move."""
    second: Factor = TimeShift("invariant", 2) if temporal_jitter else Augment("invariant", 2)
    spec = Sample() @ second @ Modalities(names=tuple(modalities))
    return (spec if isinstance(second, Augment) else spec @ Augment()).checked()


def _correlation(a: Tensor, b: Tensor) -> float | None:
    """Pearson's; None where one of them does not vary."""
    a, b = a - a.mean(), b - b.mean()
    scale = float(a.norm() * b.norm())
    return float((a * b).sum()) / scale if scale > 1e-12 else None
