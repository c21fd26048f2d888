"""Deep clustering: SDC, MDC, CDC, XDC and XDC within one modality (Alwassel et al., NeurIPS 2020).

One iteration clusters the features of every clip with k-means and trains the encoders to predict the
clusters. The members of the family differ in one thing only, whose clusters supervise whom: `VARIANTS`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seehear import dist
from seehear.cluster.kmeans import kmeans
from seehear.cluster.preprocess import FeatureTransform
from seehear.config import ClusterConfig, Config, OptimConfig
from seehear.features.bank import FeatureBank
from seehear.features.kinds import Count
from seehear.methods.base import MakeEncoders, Method
from seehear.methods.several import ClassSets, multilabel_loss
from seehear.models.heads import precise
from seehear.models.together import side_by_side
from seehear.types import Labelling, StepOutput


@dataclass(frozen=True)
class Variant:
    """One member of the family."""

    modalities: dict[str, str]
    """Encoders by name and what each sees."""
    supervision: dict[str, tuple[str, ...]]
    """For each encoder the labellings that it learns to predict, one head each. A labelling is named after the
    encoders whose features are clustered; `a+b` stands for their concatenation, each scaled to unit length."""


_BOTH = {"video": "video", "audio": "audio"}

VARIANTS: dict[str, Variant] = {
    "sdc": Variant(
        _BOTH,
        {"video": ("video",), "audio": ("audio",)},
    ),
    "mdc": Variant(
        _BOTH,
        {"video": ("video", "audio"), "audio": ("audio", "video")},
    ),
    "cdc": Variant(
        _BOTH,
        {"video": ("video+audio",), "audio": ("video+audio",)},
    ),
    "xdc": Variant(
        _BOTH,
        {"video": ("audio",), "audio": ("video",)},
    ),
    "same-modality": Variant(
        {"video": "video", "video2": "video", "audio": "audio", "audio2": "audio"},
        {"video": ("video2",), "video2": ("video",), "audio": ("audio2",), "audio2": ("audio",)},
    ),
    "same-modality-video": Variant(
        {"video": "video", "video2": "video"},
        {"video": ("video2",), "video2": ("video",)},
    ),
    "same-modality-audio": Variant(
        {"audio": "audio", "audio2": "audio"},
        {"audio": ("audio2",), "audio2": ("audio",)},
    ),
}


class SupervisedHeads(Method):
    """Encoders with linear heads that learn labellings by cross-entropy: the training half of the family.

    `supervision` maps each encoder to the labellings that it predicts. The loss is the sum over encoders and
    heads; a head's name in the log is `encoder<-labelling`.

    With `class_sets` labels are numbers of sets of classes, a head has an output for each class, and the loss is
    `multilabel_loss`; an accuracy is then the share of clips whose likeliest class is one of theirs.
    """

    def __init__(
        self,
        config: Config,
        modalities: Mapping[str, str],
        supervision: Mapping[str, tuple[str, ...]],
        encoders: MakeEncoders | None = None,
    ) -> None:
        super().__init__(config, modalities, encoders)
        self.supervision = dict(supervision)
        self.heads = nn.ModuleDict()
        self.label_smoothing = 0.0
        self.class_sets: ClassSets | None = None
        self._validation: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}

    def start_round(self, classes: Mapping[str, int], optim: OptimConfig, generator: torch.Generator) -> None:
        """Replace every head by a new one; encoders carry over (paper, section 3.1)."""
        self.label_smoothing = optim.label_smoothing
        device = next(self.parameters()).device
        for encoder, labellings in self.supervision.items():
            for labelling in labellings:
                outputs = classes[labelling] if self.class_sets is None else len(self.class_sets.names)
                head = nn.Linear(int(self.encoders[encoder].feature_dim), outputs)  # type: ignore[arg-type]
                nn.init.normal_(head.weight, std=0.01, generator=generator)
                nn.init.zeros_(head.bias)
                self.heads[f"{encoder}<-{labelling}"] = head.to(device)

    def features(self, encoder: str, x: Tensor) -> Tensor:
        """An encoder's features (B, D) of its input, without random draws."""
        found: Tensor = self.encoders[encoder](x)
        return found

    def seen_by_heads(self, features: Tensor) -> Tensor:
        """What heads see of features (B, D)."""
        return features

    def forward(self, inputs: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> StepOutput:
        """Sum of the losses of all heads whose encoder has an input."""
        parts: dict[str, Tensor] = {}
        losses = []
        seen = [encoder for encoder in self.supervision if encoder in inputs]
        work = {encoder: partial(self.features, encoder, inputs[encoder]) for encoder in seen}
        for encoder, found in side_by_side(work, [self.encoders[e] for e in seen]).items():
            features = self.seen_by_heads(found)
            labellings = self.supervision[encoder]
            for labelling in labellings:
                name = f"{encoder}<-{labelling}"
                logits = precise(self.heads[name](features))
                target = targets[labelling]
                smoothing = self.label_smoothing if self.training else 0.0
                if self.class_sets is None:
                    losses.append(F.cross_entropy(logits, target, label_smoothing=smoothing))
                    right = logits.argmax(1) == target
                else:
                    truth = self.class_sets.members.to(logits.device)[target]
                    losses.append(multilabel_loss(logits, truth, smoothing))
                    right = truth.gather(1, logits.argmax(1, keepdim=True))[:, 0]
                    if not self.training:
                        pair = (truth.cpu().numpy(), logits.detach().cpu().numpy())
                        self._validation.setdefault(name, []).append(pair)
                parts[f"loss/{name}"] = losses[-1].detach()
                parts[f"accuracy/{name}"] = right.float().mean()
        return StepOutput(torch.stack(losses).sum(), parts)

    def validated(self) -> dict[str, float]:
        """Mean average precision over the classes that some held-out clip has, by head, where clips have several."""
        if self.class_sets is None:
            return {}
        from seehear.metrics.classification import average_precision  # which brings scikit-learn

        seen, self._validation = self._validation, {}
        found = {}
        for encoder, labellings in self.supervision.items():
            for name in (f"{encoder}<-{labelling}" for labelling in labellings):
                pairs = [pair for share in dist.all_gather_objects(seen.get(name, [])) for pair in share]
                if pairs:
                    truth, scores = (np.concatenate(parts) for parts in zip(*pairs, strict=True))
                    with_clips = truth.any(axis=0)
                    found[f"mAP/{name}"] = float(average_precision(truth[:, with_clips], scores[:, with_clips]).mean())
        return found


class DeepClustering(SupervisedHeads):
    """SDC, MDC, CDC, XDC or same-modality XDC, by its name in `VARIANTS`."""

    def __init__(self, config: Config, encoders: MakeEncoders | None = None) -> None:
        self.variant = VARIANTS[config.method]
        super().__init__(config, self.variant.modalities, self.variant.supervision, encoders)
        if config.cluster.auto:
            self.count = Count(config.rounds)

    @property
    def labellings(self) -> tuple[str, ...]:
        """The labellings that training needs, each once."""
        return tuple(dict.fromkeys(name for names in self.supervision.values() for name in names))

    def first_labels(self, bank: FeatureBank, seed: int, left: int) -> dict[str, Labelling]:
        """Those of `assign`; where kinds are counted, what a round's features tell of their number is kept too."""
        if self.count is not None:
            self.count.measure(bank, seed, left)
        return self.assign(bank, seed)

    def assign(self, bank: FeatureBank, seed: int) -> dict[str, Labelling]:
        """Cluster what the variant's heads learn."""
        settings, device = self.config.cluster, next(self.parameters()).device
        return {
            name: cluster_features(bank, name, clusters_of(name, self.modalities, settings), settings, seed, device)
            for name in self.labellings
        }


def clusters_of(labelling: str, modalities: Mapping[str, str], cluster: ClusterConfig) -> int:
    """k of a labelling: that of its modality if one is set, else `cluster.k`."""
    per_modality = {"video": cluster.k_video, "audio": cluster.k_audio}
    return per_modality.get(modalities.get(labelling, "")) or cluster.k


def cluster_features(
    bank: FeatureBank,
    labelling: str,
    k: int,
    settings: ClusterConfig,
    seed: int,
    device: torch.device | str = "cpu",
) -> Labelling:
    """k-means as the settings say on the features that `labelling` names, computed on `device`."""
    x = resident(torch.from_numpy(bank.joined(labelling)), torch.device(device))
    transform = FeatureTransform(l2=settings.l2, pca_dim=settings.pca_dim, whiten=settings.whiten)
    transform.fit(x)
    clustered = transform.apply(x)
    result = kmeans(
        clustered, k, init=settings.init, iterations=settings.iterations, restarts=settings.restarts, seed=seed,
        device=device,
    )  # fmt: skip
    return Labelling(
        labels=result.labels.cpu().numpy(),
        distances=result.squared_distances.clamp(min=0).sqrt().cpu().numpy(),
        centroids=result.centroids.cpu(),
        transform=transform.state(),
        objective=result.objective,
        reseeded=result.reseeded,
    )


def resident(x: Tensor, device: torch.device) -> Tensor:
    """Rows on a GPU with room for four times as many; else they stay, and are copied block by block as they are read.

    Clustering makes a transformed copy of them. All processes decide alike, as they sum up on one kind of device.
    """
    if device.type != "cuda":
        return x
    room = torch.cuda.mem_get_info(device)[0]
    return x if dist.any_of(4 * x.nbytes > room) else x.to(device)
