"""GDT under each of its hypotheses (GDT, tables 1 and A.1)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from seehear.studies.base import Arm, Column, Line, Question, Scores, Study, evaluated
from seehear.transfer.table import Published

COLUMNS = {
    "linear, video": ("linear", "scores", "video", "accuracy"),
    "linear, audio": ("linear", "scores", "audio", "accuracy"),
    "video R@1": ("retrieval", "scores", "video", "R@1"),
    "video R@5": ("retrieval", "scores", "video", "R@5"),
    "audio R@1": ("retrieval", "scores", "audio", "R@1"),
    "audio to video: class R@1": ("retrieval", "cross_modal_classes", "audio->video", "R@1"),
    "own clip R@1": ("retrieval", "cross_modal", "audio->video", "recall", "R@1"),
    "own clip R@10": ("retrieval", "cross_modal", "audio->video", "recall", "R@10"),
}


class Hypotheses(Study):
    """GDT's hypotheses: what it learns when time, its direction and sound are made to matter or not."""

    name = "hypotheses"
    paper = "GDT, tables 1 and A.1"
    remark = "The paper pretrains on Kinetics-400; its accuracies are after finetuning, its retrieval is on HMDB51."
    rows = "row"
    values = (*"abcdefghijklm", "within-modal", "all-pairs", "simclr-audio")
    about_values = "specifications of `seehear hypotheses`"
    takes_method = False
    varies = ("gdt.hypotheses",)

    def arms(self, question: Question) -> list[Arm]:
        """One for each specification; baselines are scored with row e, or with the first."""
        first = "e" if "e" in question.values else question.values[0]
        return [
            Arm(spec, "gdt", (f"gdt.hypotheses={spec}",), value=spec, baselines=spec == first)
            for spec in question.values
        ]

    def score(self, run: Path, question: Question, arm: Arm) -> dict[str, Any]:
        """A linear classifier and retrieval, three clips a video."""
        options: dict[str, Any] = {"data": question.data, "clips": 3, "baselines": arm.baselines}
        return {name: evaluated(run, name, **options) for name in ("linear", "retrieval")}

    def columns(self, question: Question) -> list[Column]:
        """Classification and retrieval, by one modality and across."""
        return [Column(title, path) for title, path in COLUMNS.items()]

    def lines(self, question: Question, scores: Mapping[str, Sequence[Scores]]) -> list[Line]:
        """The specifications, then what needs no training."""
        titles = {"untrained": "untrained encoders", "chance": "chance"}
        return [*super().lines(question, scores), *self.baseline_lines(question, scores, titles)]

    def place(self, published: Published, question: Question) -> str | None:
        """Table 1 goes by letters; table A.1 compares within with across modalities (100 epochs alone)."""
        if found := re.match(r"GDT, table 1\((\w)\)", published.source):
            return found[1]
        found = re.match(r"GDT, table A\.1: (\w+)-modal, 100 epochs", published.source)
        return {"within": "within-modal", "cross": "e"}[found[1]] if found else None
