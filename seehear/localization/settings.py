"""Settings of localisation, and whole ones by name: ours for few videos, and those of G-TAD's published code.

What its code has is read from github.com/frostinassiky/gtad: THUMOS14 in `master`, ActivityNet-1.3 in commit f9afd44.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import yaml

from seehear.errors import UsageError

FORMS = ("own", "published")
"""What `network`, `loss` and `windows` may be."""


@dataclass(frozen=True)
class LocalizerSettings:
    """How actions are localised; what the paper or its code on THUMOS14 has stands in brackets."""

    stride_seconds: float = 0.5
    """Time from one snippet to the next, at most; a video's parts are equal (0.17: 5 frames)."""
    window: int = 256
    """Snippets that are looked at together; longer videos are cut into windows that overlap by half (256)."""
    longest: int | None = None
    """Candidates of up to so many snippets (64); by default a quarter more than the longest segment learnt from."""
    width: int = 256
    """Channels of the graph network (256)."""
    neighbours: int = 3
    """Semantic neighbours of a snippet (3)."""
    points: int = 16
    """Places at which a candidate is read, in its own features and in those of its neighbours (16)."""
    positive_tiou: float = 0.5
    """A candidate that overlaps a segment more than this is a good one (0.9; a coarse grid has few so good)."""
    batch_size: int = 2
    """Windows of a step (8). A dozen videos are but a dozen windows, and few steps teach little."""
    epochs: int = 20
    """Passes over the windows at most; how many are best is found out on held-out videos (10)."""
    learning_rate: float = 0.0004
    """Of Adam, a tenth of it from half of `epochs` on (0.00004)."""
    weight_decay: float = 0.0001
    """L2 regularisation of the weights (0.0001)."""
    held_out: float = 0.2
    """Share of the videos learnt from on which the number of epochs is chosen; 0 takes all `epochs`."""
    nms_sigma: float = 0.46
    """Soft-NMS multiplies scores by exp(-tIoU² / this) (0.46)."""
    segments: int = 200
    """Segments of a video that are kept (200)."""
    classes: int = 2
    """Classes that are claimed for each (2)."""
    network: str = "own"
    """own, or published: sub-graphs of 2L - 1 snippets, and padding seen like any snippet (`gtad.alignment_matrix`)."""
    loss: str = "own"
    """own: means over groups; or published: drawn candidates, and counts of classes with something added."""
    windows: str = "own"
    """own: every window and all candidates in the video; or published: windows that hold most of a segment, candidates
    that end before the window does, Soft-NMS in each window and then over all."""
    regression_weight: float = 10.0
    """Of the regression in the loss (1)."""
    classification_weight: float = 1.0
    """Of the classification in the loss (10)."""
    added_counts: int = 0
    """Added to the number of good candidates and to that of the others, for the published loss (10)."""
    context_points: int | None = None
    """Places at which the neighbours of a candidate are read, if not `points` (16)."""
    kernel: int = 3
    """Side of the two convolutions over the map of candidates (3)."""
    clip_gradient: float = 1.0
    """Gradients are scaled down to this norm; 0 leaves them (1)."""
    standardise: bool = True
    """Scale features to mean 0 and deviation 1 before the network sees them (no)."""
    rescale: bool = False
    """Interpolate every video to `window` snippets, whatever its length (ActivityNet's code)."""
    boundaries: bool = False
    """Only candidates that begin and end where the network sees a start and an end (ActivityNet's code)."""
    longest_detected: int | None = None
    """Longer candidates, in snippets, are learnt from but never claimed (59)."""
    seed: int = 0
    """Seed of first weights, order and held-out videos."""

    def check(self) -> None:
        """Raise `UsageError` for what cannot be."""
        positive = ("stride_seconds", "window", "width", "neighbours", "points", "batch_size", "epochs",
                    "learning_rate", "nms_sigma", "segments", "classes")  # fmt: skip
        for name in ("network", "loss", "windows"):
            if getattr(self, name) not in FORMS:
                raise UsageError(f"{name} is {' or '.join(FORMS)}, not {getattr(self, name)!r}")
        for name in positive:
            if getattr(self, name) <= 0:
                raise UsageError(f"{name} must be above 0, not {getattr(self, name)}")
        if not 0 <= self.held_out < 1 or not 0 < self.positive_tiou < 1:
            raise UsageError("held_out is from 0 to below 1, positive_tiou between 0 and 1")
        for name in ("longest", "longest_detected", "context_points"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UsageError(f"{name} must be 1 or more, not {value}")
        for name in ("regression_weight", "classification_weight", "added_counts", "clip_gradient", "weight_decay"):
            if getattr(self, name) < 0:
                raise UsageError(f"{name} must not be negative, and is {getattr(self, name)}")
        if self.kernel < 1 or self.kernel % 2 == 0:
            raise UsageError(f"kernel must be odd, not {self.kernel}")
        if self.added_counts and self.loss == "own":
            raise UsageError("added_counts is of the published loss", "set loss=published")


def small() -> LocalizerSettings:
    """Ours, for a dozen videos and more: large steps and strict overlaps would teach too little."""
    return LocalizerSettings()


def gtad_thumos() -> LocalizerSettings:
    """G-TAD's published code on THUMOS14, whose defaults the XDC paper took (section 7): a feature every 5 frames."""
    return LocalizerSettings(
        stride_seconds=5 / 30, longest=64, positive_tiou=0.9, batch_size=8, epochs=10, learning_rate=0.00004,
        held_out=0.0, network="published", loss="published", windows="published", regression_weight=1.0,
        classification_weight=10.0, added_counts=10, standardise=False, longest_detected=59,
    )  # fmt: skip


def gtad_activitynet() -> LocalizerSettings:
    """G-TAD's published code on ActivityNet-1.3: every video is 100 snippets, and a segment may be as long as it."""
    return LocalizerSettings(
        window=100, longest=100, points=32, context_points=4, positive_tiou=0.9, batch_size=16, epochs=10,
        learning_rate=0.004, held_out=0.0, nms_sigma=0.8, segments=100, network="published", loss="published",
        windows="published", kernel=1, clip_gradient=0.0, standardise=False, rescale=True, boundaries=True,
    )  # fmt: skip


RECIPES: dict[str, Callable[[], LocalizerSettings]] = {
    f.__name__.replace("_", "-"): f for f in (small, gtad_thumos, gtad_activitynet)
}
"""Whole settings by name."""


def localizer_settings(assignments: Sequence[str], recipe: str = "small") -> LocalizerSettings:
    """The settings of a recipe with texts such as "epochs=30" applied; `UsageError` for what there is not."""
    if recipe not in RECIPES:
        raise UsageError(f"there is no recipe {recipe!r} of localisation", f"there are {', '.join(RECIPES)}")
    kinds: dict[str, tuple[type, ...]] = {f.name: _KINDS[str(f.type)] for f in fields(LocalizerSettings)}
    values: dict[str, Any] = {}
    for text in assignments:
        name, _, value = text.partition("=")
        if name not in kinds:
            raise UsageError(f"there is no setting {name!r} of localisation", f"there are {', '.join(kinds)}")
        try:
            values[name] = yaml.safe_load(value)
        except yaml.YAMLError:
            values[name] = value
        if not isinstance(values[name], kinds[name]) or (isinstance(values[name], bool) and bool not in kinds[name]):
            raise UsageError(f"{value!r} is no value for {name}")
    settings = replace(RECIPES[recipe](), **values)
    settings.check()
    return settings


_KINDS: dict[str, tuple[type, ...]] = {
    "int": (int,), "float": (int, float), "str": (str,), "bool": (bool,), "int | None": (int, type(None)),
}  # fmt: skip
