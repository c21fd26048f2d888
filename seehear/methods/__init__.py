"""Methods by name: what is learnt. Importing this package does not import torch."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import TYPE_CHECKING

from seehear.commands import aligned, command, plain
from seehear.errors import UsageError

if TYPE_CHECKING:
    from seehear.config import Config
    from seehear.methods.base import MakeEncoders, Method

METHODS: dict[str, str] = {
    "xdc": "cross-modal deep clustering: the clusters of one modality supervise the encoder of the other",
    "sdc": "single-modality deep clustering: each encoder learns its own clusters (DeepCluster)",
    "mdc": "multi-head deep clustering: each encoder learns its own clusters and the other's",
    "cdc": "concatenation deep clustering: both encoders learn the clusters of the joined features",
    "same-modality": "XDC between two encoders of one modality, for video and for sound side by side",
    "same-modality-video": "the same with two video encoders alone",
    "same-modality-audio": "the same with two audio encoders alone",
    "gdt": "contrastive learning over generalised transformations: state what to be invariant or distinctive to",
    "selavi": "self-labelling by optimal transport: one clustering that can be read off sight, sound or both",
    "avts": "synchronisation: are these frames and this sound of one video, and of one time (AVTS)?",
    "rotation": "rotation prediction: by how many quarters are the frames of this clip turned (3DRot)?",
    "supervised": "baseline: learn the classes given in a column of the table of videos",
    "scratch": "baseline: untrained encoders",
}
"""Every method with what it does in one line."""


@command(
    "methods", group="know", example="seehear methods", text=lambda rows, _: aligned(rows), as_json=plain,
)  # fmt: skip
def list_methods() -> dict[str, str]:
    """List the methods.

    Returns what each learns, by name.
    """
    return METHODS


def check_method(name: str) -> None:
    """Raise `UsageError` with the likeliest names if there is no such method."""
    if name == "finetune":
        raise UsageError("finetuning is a command of its own", "seehear finetune --help")
    if name not in METHODS:
        close = difflib.get_close_matches(name, METHODS, n=3, cutoff=0.4)
        remedy = f"did you mean {' or '.join(close)}?" if close else f"there are {', '.join(METHODS)}"
        raise UsageError(f"there is no method {name!r}", remedy)


def build_method(
    config: Config, classes_of: Mapping[str, str] | None = None, encoders: MakeEncoders | None = None
) -> Method:
    """The method that `config.method` names. `classes_of` (video id to class) is for `supervised` alone.

    `encoders` makes its encoders, in the place of new ones of our own.
    """
    check_method(config.method)
    if config.method == "supervised":
        from seehear.methods.supervised import Supervised

        return Supervised(config, classes_of or {}, encoders)
    if config.method == "scratch":
        from seehear.methods.supervised import Scratch

        return Scratch(config, encoders)
    if config.method == "gdt":
        from seehear.methods.gdt import GDT

        return GDT(config, encoders)
    if config.method == "avts":
        from seehear.methods.avts import AVTS

        return AVTS(config, encoders)
    if config.method == "rotation":
        from seehear.methods.rotation import RotationPrediction

        return RotationPrediction(config, encoders)
    if config.method == "selavi":
        from seehear.methods.selavi import SeLaVi

        return SeLaVi(config, encoders)
    from seehear.methods.deepcluster import DeepClustering

    return DeepClustering(config, encoders)
