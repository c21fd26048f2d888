"""The baselines of the XDC paper: `supervised` pretraining on known classes, and `scratch`, no training at all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from seehear.config import Config
from seehear.errors import DataError
from seehear.features.bank import FeatureBank
from seehear.methods.base import MakeEncoders, Method
from seehear.methods.deepcluster import SupervisedHeads
from seehear.methods.several import ClassSets
from seehear.types import Labelling, StepOutput

_BOTH = {"video": "video", "audio": "audio"}


class Supervised(SupervisedHeads):
    """Both encoders learn the given classes of the videos; `classes_of` maps video ids to class names.

    With `data.label_separator` a name may be several, and each class is learnt by itself (`ClassSets`).
    """

    needs_features = False

    def __init__(self, config: Config, classes_of: Mapping[str, str], encoders: MakeEncoders | None = None) -> None:
        super().__init__(config, _BOTH, {"video": ("label",), "audio": ("label",)}, encoders)
        self.classes_of = dict(classes_of)
        if config.data.label_separator is not None:
            self.class_sets = ClassSets(classes_of.values(), config.data.label_separator)
            self.class_names, self.labels = self.class_sets.names, self.class_sets.sets
        else:
            self.class_names = self.labels = sorted(set(classes_of.values()))
        if len(self.class_names) < 2:
            raise DataError(
                f"supervised pretraining needs at least two classes, and column {config.data.label_column!r} "
                f"has {len(self.class_names)}",
                "give a CSV or Parquet with a label column, or name it: --set data.label_column=...",
            )

    def assign(self, bank: FeatureBank, seed: int) -> dict[str, Labelling]:
        """The given classes, as a labelling named `label`."""
        return {"label": given_classes(bank, self.classes_of, self.labels)}


def given_classes(bank: FeatureBank, classes_of: Mapping[str, str], class_names: Sequence[str]) -> Labelling:
    """The classes of a bank's clips by their videos' ids, numbered as in `class_names`."""
    number = {name: i for i, name in enumerate(class_names)}
    labels = np.array([number[classes_of[r.video_id]] for r in bank.refs], dtype=np.int64)
    return Labelling(
        labels=labels,
        distances=np.zeros(len(labels), dtype=np.float32),
        centroids=torch.zeros(len(class_names), 0),
        transform={},
        objective=0.0,
        reseeded=0,
    )


class Scratch(Method):
    """Untrained encoders: the lower bound that every pretraining is measured against."""

    trains = False

    def __init__(self, config: Config, encoders: MakeEncoders | None = None) -> None:
        super().__init__(config, _BOTH, encoders)

    def forward(self, inputs: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> StepOutput:
        raise NotImplementedError("scratch is not trained")
