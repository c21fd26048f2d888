"""3DRot: by how many quarters are the frames of this clip turned?

Jing and Tian, "Self-supervised spatiotemporal feature learning by video geometric transformations" (2018), after RotNet
(Gidaris et al., ICLR 2018): every clip is turned by 0, 90, 180 and 270 degrees, all its frames alike, and a linear
layer on the video encoder tells by how much. It is the baseline of GDT's table 2, whose own form of it is
`--hypotheses rotnet`.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seehear.config import Config
from seehear.hypotheses.factors import Augment, Modalities, Rotation, Sample
from seehear.hypotheses.language import Hypotheses
from seehear.methods.base import MakeEncoders, Method
from seehear.models.heads import precise
from seehear.models.video import undisturbed
from seehear.types import StepOutput

TURNS = 4


class RotationPrediction(Method):
    """A video encoder and a linear layer that learn how far each of a clip's copies is turned, by cross-entropy."""

    needs_features = False

    def __init__(self, config: Config, encoders: MakeEncoders | None = None) -> None:
        super().__init__(config, {"video": "video"}, encoders)
        factors = (Sample(), Rotation("distinct", TURNS), Modalities(names=("video",)), Augment())
        self.hypotheses = self.spec = Hypotheses(factors)
        generator = torch.Generator().manual_seed(config.seed * 1009 + 800)
        with undisturbed(generator):
            self.head = nn.Linear(int(self.encoders["video"].feature_dim), TURNS)  # type: ignore[arg-type]
        nn.init.normal_(self.head.weight, std=0.01, generator=generator)
        nn.init.zeros_(self.head.bias)

    def forward(self, inputs: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> StepOutput:
        """Mean cross-entropy over the rows of `inputs["video"]`.

        `targets["video"]` holds their codes, (rows, factors) int64, the number of quarter turns among them.
        """
        turns = targets["video"][:, self.spec.column("rotation")]
        logits = precise(self.head(self.encoders["video"](inputs["video"])))
        accuracy = (logits.argmax(1) == turns).float().mean()
        return StepOutput(F.cross_entropy(logits, turns), {"accuracy/rotation": accuracy})
