"""The family of methods on one collection (XDC, table 1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from seehear.methods import METHODS
from seehear.studies.base import Arm, Column, Line, Question, Scores, Study, by_modality, evaluated, one_of
from seehear.transfer.table import Published

PUBLISHED = {
    "xdc": "XDC", "sdc": "SDC", "mdc": "MDC", "cdc": "CDC", "same-modality": "same-modality XDC",
    "supervised": "supervised", "scratch": "scratch",
}  # fmt: skip
"""What table 1 calls a method."""
BASELINES = {"untrained": "untrained encoders", "raw": "raw pixels, spectrograms", "chance": "chance"}


class Methods(Study):
    """Methods side by side: how well each finds the classes, and what a classifier makes of its features."""

    name = "methods"
    paper = "XDC, table 1"
    remark = "The paper pretrains on Kinetics-400 and finetunes on other data; here nothing is finetuned."
    rows = "method"
    values = ("xdc", "cdc", "mdc", "sdc", "same-modality")
    about_values = "methods"
    takes_method = False

    def arms(self, question: Question) -> list[Arm]:
        """One for each method; baselines are scored with XDC, or with the first."""
        one_of(question.values, METHODS)
        first = "xdc" if "xdc" in question.values else question.values[0]
        return [Arm(name, name, value=name, baselines=name == first) for name in question.values]

    def score(self, run: Path, question: Question, arm: Arm) -> dict[str, Any]:
        """Clusters at the run's own k and at the number of classes, and a linear classifier."""
        with_baselines: dict[str, Any] = {"baselines": arm.baselines}
        return {
            "own_k": evaluated(run, **with_baselines),
            "k_classes": evaluated(run, k=question.classes, **with_baselines),
            "linear": evaluated(run, "linear", data=question.data, **with_baselines),
        }

    def columns(self, question: Question) -> list[Column]:
        """NMI at both numbers of clusters, and accuracies."""
        return [
            *by_modality("NMI", "own_k", "scores", leaf="nmi"),
            *by_modality(f"NMI at {question.classes} classes", "k_classes", "scores", leaf="nmi"),
            *by_modality("linear", "linear", "scores", leaf="accuracy"),
        ]

    def lines(self, question: Question, scores: Mapping[str, Sequence[Scores]]) -> list[Line]:
        """The methods, then what needs no training."""
        return [*super().lines(question, scores), *self.baseline_lines(question, scores, BASELINES)]

    def place(self, published: Published, question: Question) -> str | None:
        """The numbers of table 1, each method's beside ours; of the others' lines there are none of ours."""
        if not published.source.startswith("XDC, table 1:"):
            return None
        return next((ours for ours, theirs in PUBLISHED.items() if theirs == published.method), published.method)
