"""Labels by SeLaVi, its relatives and baselines (SeLaVi, tables 2 and 3)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from seehear.studies.base import MODALITIES, Arm, Column, Line, Question, Scores, Study, evaluated, one_of
from seehear.transfer.table import Published

_SELAVI = ("optim.epochs=70",)
ARMS: dict[str, tuple[str, tuple[str, ...]]] = {
    "selavi": ("selavi", _SELAVI),
    "selavi, strict marginals": ("selavi", (*_SELAVI, "selavi.follow=0")),
    "selavi, no alignment": ("selavi", (*_SELAVI, "selavi.alignment=none")),
    "selavi, uniform marginals": ("selavi", (*_SELAVI, "selavi.marginals=uniform")),
    "selavi, heads not decorrelated": ("selavi", (*_SELAVI, "selavi.decorrelated=false")),
    "xdc": ("xdc", ()),
    "concatenation": ("selavi", ("selavi.variant=concatenation", "selavi.marginals=uniform", "selavi.heads=1",
                                 "optim.epochs=140")),
    "frames": ("selavi", (*_SELAVI, "selavi.variant=frames", "selavi.marginals=uniform")),
    "supervised": ("supervised", ("rounds=1", "optim.epochs=40")),
}  # fmt: skip
"""Method and settings by row. SeLaVi and its relatives see each clip as often as XDC does: 70 epochs of two views, or
140 of one (of the recipe `small`)."""
BASELINES = {
    "untrained": "k-means, untrained encoders",
    "raw": "k-means, pixels and spectrograms",
    "chance": "chance",
}
SCORES = {
    "NMI": "nmi",
    "ARI": "ari",
    "accuracy": "accuracy",
    "⟨H⟩": "mean_entropy_nats",
    "⟨p_max⟩": "mean_max_purity",
}
_TABLE_3 = {
    "a": "frames, video",
    "b": "concatenation, both",
    "d": "selavi, no alignment, both",
    "e": "selavi, uniform marginals, both",
    "f": "selavi, heads not decorrelated, both",
}
_TABLE_2 = {"SeLaVi": "selavi", "XDC": "xdc", "supervised": "supervised"}


class Labelling(Study):
    """Labels for a collection: SeLaVi, what each part of it is worth, and k-means on the features of others."""

    name = "labelling"
    paper = "SeLaVi, tables 2 and 3"
    remark = (
        "As many clusters as classes, of the videos learnt from. Classes are used for scoring alone, but for "
        "`supervised`, whose encoders learnt them: k-means on its features says what perfect features would give. "
        "The paper's numbers are of VGG-Sound."
    )
    rows = "labels"
    values = ("selavi", "xdc", "concatenation", "frames", "supervised")
    about_values = "rows"
    takes_method = False
    varies = ("cluster.k", "selavi.variant")

    def arms(self, question: Question) -> list[Arm]:
        """The named rows, with as many clusters as there are classes."""
        one_of(question.values, ARMS)
        return [
            Arm(row, ARMS[row][0], (*ARMS[row][1], f"cluster.k={question.classes}"), value=row, baselines=row == "xdc")
            for row in question.values
        ]

    def score(self, run: Path, question: Question, arm: Arm) -> dict[str, Any]:
        """The labels against the classes; those of `supervised` are k-means on its features."""
        k = question.classes if arm.name == "supervised" else None
        return {"clusters": evaluated(run, k=k, baselines=arm.baselines)}

    def columns(self, question: Question) -> list[Column]:
        """The paper's five scores; a line is of one modality, so that paths end in it."""
        return [Column(title, ("clusters", "scores", "{modality}", leaf)) for title, leaf in SCORES.items()]

    def lines(self, question: Question, scores: Mapping[str, Sequence[Scores]]) -> list[Line]:
        """A line for what each row's labels are read off, then for what needs no training."""
        found = []
        for modality in MODALITIES:
            columns = [Column(c.title, tuple(modality if k == "{modality}" else k for k in c.path))
                       for c in self.columns(question)]  # fmt: skip
            for place, arm in enumerate(self.arms(question)):
                line = self.line(f"{arm.name}, {modality}", scores.get(arm.name, ()), columns)
                found += [(place, line)] if any(line.values) else []
            runs = [run["clusters"]["baselines"] for run in scores.get("xdc", ()) if "baselines" in run["clusters"]]
            for place, (group, title) in enumerate(BASELINES.items(), len(ARMS)):
                paths = [Column(c.title, (group, modality, c.path[-1])) for c in columns]
                line = self.line(f"{title}, {modality}", runs, paths)
                found += [(place, line)] if any(line.values) else []
        return [line for _, line in sorted(found, key=lambda item: item[0])]

    def place(self, published: Published, question: Question) -> str | None:
        """Table 2 by method and modality; table 3, of half as many epochs, by letter."""
        if published.data != "vggsound":
            return None
        if published.source.startswith("SeLaVi, table 2"):
            return f"{_TABLE_2.get(published.method, published.method)}, {published.modality}"
        found = re.match(r"SeLaVi, table 3\((\w)\): (.*), 100 epochs", published.source)
        return _TABLE_3.get(found[1], f"selavi, {found[2]} (100 epochs)") if found else None
