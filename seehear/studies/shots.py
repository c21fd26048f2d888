"""A few labels a class on frozen features (GDT, table 2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from seehear.studies.base import (
    MODALITIES,
    Arm,
    Column,
    Curve,
    Line,
    Picture,
    Question,
    Scores,
    Study,
    as_number,
    by_modality,
    evaluated,
)
from seehear.studies.base import positive_numbers as check
from seehear.transfer.table import Published

_PUBLISHED = {"GDT": "gdt", "3DRot": "rotation", "random": "untrained encoders"}


class Shots(Study):
    """A few labels a class: what a classifier learns from one, five and twenty, on frozen features."""

    name = "shots"
    paper = "GDT, table 2"
    remark = (
        "A linear SVM on the training videos that are drawn, ten times; the deviation is over seeds of the "
        "pretraining. 1-NN stands in scores.json. The paper pretrains on Kinetics-400 and has other data. To train "
        "encoders on so many labels: seehear finetune RUN --data TABLE --shots N."
    )
    rows = "method"
    values = ("1", "5", "20")
    about_values = "numbers of labelled videos a class"

    def arms(self, question: Question) -> list[Arm]:
        """GDT and rotation prediction, or the method that is asked for."""
        check(question.values, self.about_values)
        names = [question.method] if question.method else ["gdt", "rotation"]
        return [Arm(name, name, baselines=name == names[0]) for name in names]

    def score(self, run: Path, question: Question, arm: Arm) -> dict[str, Any]:
        """1-NN and a linear SVM for each number of shots."""
        shots = [int(float(value)) for value in question.values]
        options: dict[str, Any] = {"data": question.data, "shots": shots, "baselines": arm.baselines}
        return {"few_shot": evaluated(run, "few-shot", **options)}

    def columns(self, question: Question) -> list[Column]:
        """The SVM's accuracy with so many shots, by modality."""
        shots = [int(float(value)) for value in question.values]
        return [c for n in shots for c in by_modality(f"SVM@{n}", "few_shot", "scores", leaf=f"SVM@{n}")]

    def lines(self, question: Question, scores: Mapping[str, Sequence[Scores]]) -> list[Line]:
        """The methods, then untrained encoders and chance."""
        titles = {"untrained": "untrained encoders", "chance": "chance"}
        return [*super().lines(question, scores), *self.baseline_lines(question, scores, titles)]

    def place(self, published: Published, question: Question) -> str | None:
        """The few-shot half of table 2."""
        if published.source != "GDT, table 2" or published.protocol != "few-shot":
            return None
        return _PUBLISHED.get(published.method, published.method)

    def picture(self, question: Question, lines: Sequence[Line]) -> Picture:
        """The SVM's accuracy over the number of shots."""
        curves = []
        for line in lines:
            for m, modality in enumerate(MODALITIES):
                points = tuple(
                    (as_number(value) or 0.0, line.values[3 * i + m])
                    for i, value in enumerate(question.values)
                    if line.values[3 * i + m]
                )
                curves += [Curve(f"{line.name}, {modality}", points)] if points else []
        return Picture("A few labels a class", "labelled videos a class", "accuracy", tuple(curves), logarithmic=True)
