"""How many clusters to learn with (XDC, table 2; SeLaVi, table A.2)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from seehear.studies.base import Arm, Column, Curve, Line, Picture, Question, Study, by_modality, evaluated
from seehear.studies.base import positive_numbers as check
from seehear.transfer.table import Published


class Clusters(Study):
    """The number of clusters k: what is learnt with few, and with many."""

    name = "clusters"
    paper = "XDC, table 2; with --method selavi SeLaVi, table A.2"
    remark = (
        "NMI at a run's own k depends on k: compare it at the number of classes, for which features are clustered "
        "anew. The XDC paper's numbers are accuracies after finetuning on other data."
    )
    rows = "clusters"
    values = ("4", "8", "16", "32", "64")
    about_values = "numbers of clusters"
    varies = ("cluster.k", "cluster.k_video", "cluster.k_audio")

    def arms(self, question: Question) -> list[Arm]:
        """One for each k."""
        check(question.values, self.about_values)
        return [Arm(f"k = {k}", question.method, (f"cluster.k={k}",), value=k) for k in question.values]

    def score(self, run: Path, question: Question, arm: Arm) -> dict[str, Any]:
        """Clusters at k and at the number of classes, and a linear classifier."""
        return {
            "own_k": evaluated(run),
            "k_classes": evaluated(run, k=question.classes),
            "linear": evaluated(run, "linear", data=question.data),
        }

    def columns(self, question: Question) -> list[Column]:
        """Of SeLaVi what its paper has; of others NMI at equal k and what a classifier makes of the features."""
        if question.method == "selavi":
            names = {"NMI": "nmi", "ARI": "ari", "accuracy": "accuracy", "⟨H⟩": "mean_entropy_nats",
                     "⟨p_max⟩": "mean_max_purity"}  # fmt: skip
            return [Column(title, ("own_k", "scores", "both", name)) for title, name in names.items()]
        return [
            *by_modality("NMI at k", "own_k", "scores", leaf="nmi"),
            *by_modality(f"NMI at {question.classes} classes", "k_classes", "scores", leaf="nmi"),
            *by_modality("linear", "linear", "scores", leaf="accuracy"),
        ]

    def source(self, question: Question) -> str:
        """That of the method."""
        return "SeLaVi, table A.2" if question.method == "selavi" else "XDC, table 2"

    def place(self, published: Published, question: Question) -> str | None:
        """Both papers name k in the place of the number."""
        of_selavi = question.method == "selavi"
        found = re.search(r"table A\.2: K = (\d+)" if of_selavi else r"table 2: k = (\d+)", published.source)
        return f"k = {found[1]}" if found and published.method == ("SeLaVi" if of_selavi else "XDC") else None

    def picture(self, question: Question, lines: Sequence[Line]) -> Picture:
        """Each column over k but the cost of knowing k."""
        columns = self.columns(question)
        shown = [i for i, c in enumerate(columns) if "nats" not in c.path[-1] and c.path[0] != "own_k"]
        shown = shown or [i for i, c in enumerate(columns) if c.path[-1] != "mean_entropy_nats"]
        curves = tuple(
            Curve(columns[i].title, tuple((line.x, line.values[i]) for line in lines if line.x and line.values[i]))
            for i in shown
        )
        return Picture("What is learnt with k clusters", "clusters", "score", curves, logarithmic=True)
