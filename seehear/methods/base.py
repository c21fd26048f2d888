"""What a method is: encoders, a loss on a batch and, if it needs pseudo-labels, how it makes them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from seehear.config import Config, OptimConfig
from seehear.features.bank import FeatureBank
from seehear.features.kinds import Count
from seehear.hypotheses.language import Hypotheses
from seehear.models import build_encoders
from seehear.models.adapter import OnBackbone
from seehear.models.heads import ClusterHeads
from seehear.types import Labelling, StepOutput

MakeEncoders = Callable[[Mapping[str, str]], Mapping[str, nn.Module]]
"""Gives encoders by name for what each of them sees, in the place of new ones of our own."""


class Method(nn.Module, ABC):
    """Base of all methods.

    `modalities` maps each encoder's name to what it sees ("video" or "audio"); the data layer draws an
    independent view for every encoder. `encoders` holds the modules by the same names.
    """

    modalities: dict[str, str]
    trains = True
    """Whether there is anything to train; False for the untrained baseline."""
    needs_features = True
    """Whether `assign` looks at features."""
    hypotheses: Hypotheses | None = None
    """Which transformations of each clip a step needs; None: one view for each encoder."""
    gathers = False
    """Whether the loss is one over the clips of all processes. They then call `forward` together at every step, a
    process without a clip with neither inputs nor targets."""
    labels_from_training = False
    """Whether the labels within a round are made from the features that training leaves in `StepOutput`."""

    @property
    def fewest_clips(self) -> int:
        """Clips that a process must have to take a step; a step that one of them cannot take is left out by all."""
        return 1

    @property
    def labelling_hypotheses(self) -> Hypotheses | None:
        """Which transformations of each clip labels are made from; by default those of a step."""
        return self.hypotheses

    def __init__(self, config: Config, modalities: Mapping[str, str], encoders: MakeEncoders | None = None) -> None:
        """`encoders` makes them; by default they are new ones, as `config.model` says."""
        super().__init__()
        self.config = config
        self.modalities = dict(modalities)
        made = encoders(self.modalities) if encoders else build_encoders(config.model, self.modalities, config.seed)
        self.encoders = nn.ModuleDict(made)
        self.projections = nn.ModuleDict()
        """Heads into a space that modalities share, if the method has one; kept in the trained model."""
        self.count: Count | None = None
        """What rounds measure of the number of kinds, if the method has rounds and `cluster.auto` is set."""
        self.cluster_heads: ClusterHeads | None = None
        """Heads that label clips themselves, if the method has them; kept in the trained model."""

    @abstractmethod
    def forward(self, inputs: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> StepOutput:
        """Loss on one batch.

        `inputs[encoder]` is that encoder's input; encoders without an input are left out of the loss.
        `targets[labelling]` holds class numbers of shape (B,), or with `hypotheses` `targets[modality]` the
        codes of the transformations in `inputs[modality]`, (rows, factors).
        """

    def assign(self, bank: FeatureBank, seed: int) -> dict[str, Labelling] | None:
        """New pseudo-labels from the features of all clips (every process passes its own share).

        Returns None when the method needs none.
        """
        return None

    def first_labels(self, bank: FeatureBank, seed: int, left: int) -> dict[str, Labelling] | None:
        """The pseudo-labels that a round begins with, after which `left` more follow; by default those of `assign`."""
        return self.assign(bank, seed)

    def begin_epoch(self, epoch: int, epochs: int) -> None:
        """Called when an epoch of a round, from 0, of so many begins, and again when a resumed run goes on within it.

        For a curriculum; what a method sets here is no part of its state.
        """

    def relabel_epochs(self, epochs: int, left: int = 0) -> Sequence[float]:
        """When within a round of so many epochs, after which `left` more follow, `assign` is asked again.

        In fractional epochs, ascending. Heads and optimiser carry over. A time equal to `epochs` is after the last
        step.
        """
        return ()

    def validated(self) -> dict[str, float]:
        """What there is to log of a validation besides means over its batches; every process asks for it then."""
        return {}

    def parameter_groups(self) -> list[dict[str, Any]]:
        """What the optimiser is given: groups of `params`, each with its `lr_factor`, a multiple of the rate.

        Encoders of others that are trained have a group of their own.
        """
        tuned = [p for e in self.encoders.values() if isinstance(e, OnBackbone) for p in e.backbone.parameters()]
        if not tuned:
            return [{"params": list(self.parameters()), "lr_factor": 1.0}]
        apart = {id(p) for p in tuned}
        return [
            {"params": [p for p in self.parameters() if id(p) not in apart], "lr_factor": 1.0},
            {"params": tuned, "lr_factor": self.config.model.encoder_lr},
        ]

    def start_round(self, classes: Mapping[str, int], optim: OptimConfig, generator: torch.Generator) -> None:
        """Make ready for new labels: `classes[labelling]` is their number; `optim` holds the round's settings."""
