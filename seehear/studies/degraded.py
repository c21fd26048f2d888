"""Labels when frames lose resolution (SeLaVi, Fig. 2 and appendix A.5)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from seehear.studies.base import Arm, Column, Curve, Line, Picture, Question, Scores, Study, as_number, evaluated
from seehear.studies.base import positive_numbers as check
from seehear.transfer.table import Published

MODALITIES = ("video", "both")
"""Sound stays as it is."""


class Degraded(Study):
    """Frames of less resolution: which labels last when one modality is worth little."""

    name = "degraded"
    paper = "SeLaVi, figure 2 (without numbers) and table 2 (undegraded)"
    remark = (
        "The clusters are those of the run, of the videos learnt from (the paper: of its smaller validation sets); "
        "their frames are scaled down by the factor and up again by nearest neighbour, their sound is left as it is."
    )
    rows = "labels"
    values = ("1", "4", "8", "16")
    about_values = "factors by which frames lose resolution"

    def arms(self, question: Question) -> list[Arm]:
        """SeLaVi and XDC, or the method that is asked for; each with as many clusters as classes."""
        check(question.values, self.about_values)
        k = f"cluster.k={question.classes}"
        return [Arm(name, name, (k,)) for name in ([question.method] if question.method else ["selavi", "xdc"])]

    def score(self, run: Path, question: Question, arm: Arm) -> dict[str, Any]:
        """The same clusters at each factor."""
        return {"clusters": evaluated(run, degrade=[int(float(value)) for value in question.values])}

    def columns(self, question: Question) -> list[Column]:
        """NMI and accuracy, by frames alone and with the sound."""
        return [
            Column(f"{title}, {m}", ("clusters", "degraded", "scores", "{factor}", m, leaf))
            for title, leaf in (("NMI", "nmi"), ("accuracy", "accuracy"))
            for m in MODALITIES
        ]

    def lines(self, question: Question, scores: Mapping[str, Sequence[Scores]]) -> list[Line]:
        """A line for each method and factor."""
        found = []
        for arm in self.arms(question):
            for value in question.values:
                factor = str(int(float(value)))
                columns = [Column(c.title, tuple(factor if key == "{factor}" else key for key in c.path))
                           for c in self.columns(question)]  # fmt: skip
                line = self.line(f"{arm.name}, 1/{factor}", scores.get(arm.name, ()), columns, value)
                found += [line] if any(line.values) else []
        return found

    def place(self, published: Published, question: Question) -> str | None:
        """Only what is not degraded has a number."""
        ours = {"SeLaVi": "selavi", "XDC": "xdc"}.get(published.method)
        plain = re.match("SeLaVi, table 2($|,)", published.source) and published.modality in MODALITIES
        return f"{ours}, 1/1" if ours and plain and published.metric in ("nmi", "accuracy") else None

    def picture(self, question: Question, lines: Sequence[Line]) -> Picture:
        """NMI over the factor."""
        curves = []
        for arm in self.arms(question):
            of_arm = [line for line in lines if line.name.startswith(f"{arm.name}, ")]
            for i, modality in enumerate(MODALITIES):
                points = tuple((line.x, line.values[i]) for line in of_arm if line.x and line.values[i])
                curves += [Curve(f"{arm.name}, {modality}", points)] if points else []
        ticks = tuple(f"1/{value}" for value in sorted(question.values, key=lambda v: as_number(v) or 0))
        return Picture("Labels of frames that lost resolution", "resolution", "NMI", tuple(curves), True, ticks)
