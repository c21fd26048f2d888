"""Finetuning: pretrained encoders, each with a linear classifier of its own, learn given classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seehear.config import Config
from seehear.features.bank import FeatureBank
from seehear.methods.base import MakeEncoders
from seehear.methods.deepcluster import SupervisedHeads
from seehear.methods.several import ClassSets
from seehear.methods.supervised import given_classes
from seehear.models.adapter import OnBackbone
from seehear.types import Labelling

LABELLING = "label"


class Finetune(SupervisedHeads):
    """Learn the classes of videos by cross-entropy, with encoders that were pretrained.

    With `data.label_separator` a video may have several classes, and each is learnt by itself.

    Encoders share no weights and no classifier, so that several in one run are several finetunings side by side:
    the gradient of one does not depend on the other. `config.finetune.freeze` trains the classifiers alone (XDC
    paper, table 5, "fc"): the encoders then stay in evaluation mode, and not a bit of them changes.

    Args:
        config: settings; the encoders' weights are drawn anew, and loaded by the caller.
        modalities: the encoders by name and what each sees.
        class_names: the classes in the order of their numbers.
        classes_of: the class of each training video by its id.
    """

    needs_features = False

    def __init__(
        self,
        config: Config,
        modalities: Mapping[str, str],
        class_names: Sequence[str],
        classes_of: Mapping[str, str],
        encoders: MakeEncoders | None = None,
    ) -> None:
        super().__init__(config, modalities, dict.fromkeys(modalities, (LABELLING,)), encoders)
        self.class_names = self.labels = list(class_names)
        self.classes_of = dict(classes_of)
        if config.data.label_separator is not None:
            self.class_sets = ClassSets(classes_of.values(), config.data.label_separator)
            self.labels = self.class_sets.sets
        if config.finetune.freeze:
            self.encoders.requires_grad_(False)

    def train(self, mode: bool = True) -> Finetune:
        """Training or evaluation mode; frozen encoders are always in the latter."""
        super().train(mode)
        if self.config.finetune.freeze:
            self.encoders.eval()
        return self

    def assign(self, bank: FeatureBank, seed: int) -> dict[str, Labelling]:
        """The given classes."""
        return {LABELLING: given_classes(bank, self.classes_of, self.labels)}

    def features(self, encoder: str, x: Tensor) -> Tensor:
        """The encoder's features (B, D); without gradients where encoders are frozen."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.config.finetune.freeze):
            found: Tensor = self.encoders[encoder](x)
        return found

    def seen_by_heads(self, features: Tensor) -> Tensor:
        """Features (B, D) with dropout in training, if there is any."""
        return F.dropout(features, self.config.finetune.dropout, self.training)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """A group for each encoder and each classifier: sound, and what is new, may learn at rates of their own."""
        settings, base_lr = self.config.finetune, self.config.optim.base_lr
        groups = []
        for encoder, modality in self.modalities.items():
            own = settings.audio_lr if modality == "audio" and settings.audio_lr is not None else base_lr
            new = own if settings.classifier_lr is None else settings.classifier_lr
            module = self.encoders[encoder]
            if isinstance(module, OnBackbone):
                slow = own / base_lr * self.config.model.encoder_lr
                groups.append({"params": list(module.backbone.parameters()), "lr_factor": slow})
                module = module.adapter
            groups.append({"params": list(module.parameters()), "lr_factor": own / base_lr})
            groups.append({"params": list(self.classifier(encoder).parameters()), "lr_factor": new / base_lr})
        return groups

    def classifier(self, encoder: str) -> nn.Module:
        """The linear layer from an encoder's features to the classes."""
        return self.heads[f"{encoder}<-{LABELLING}"]


class Probabilities(nn.Module):
    """An encoder with its classifier: inputs to the probability of each class, (B, ...) to (B, C) float32.

    Of `several` classes each has a probability of its own (a sigmoid); otherwise they add up to one.

    Its `feature_dim` is C, so that `seehear.features.extract.extract` averages the probabilities of a video's clips
    as it averages features.
    """

    def __init__(self, encoder: nn.Module, classifier: nn.Module, classes: int, several: bool = False) -> None:
        super().__init__()
        self.encoder, self.classifier, self.several = encoder, classifier, several
        self.feature_dim = classes

    def forward(self, x: Tensor) -> Tensor:
        logits = self.classifier(self.encoder(x)).float()
        return logits.sigmoid() if self.several else F.softmax(logits, dim=1)
