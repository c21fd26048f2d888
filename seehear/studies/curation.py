"""Curated against uncurated videos, in random parts of several sizes (XDC, table 4)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from seehear.data.manifest import Manifest
from seehear.studies.base import Arm, Column, Curve, Line, Picture, Question, Study, as_number, by_modality, evaluated
from seehear.studies.base import positive_numbers as check
from seehear.transfer.table import Published


class Curation(Study):
    """Curated against uncurated videos: what is learnt from random parts of each, of several sizes."""

    name = "curation"
    paper = "XDC, table 4"
    remark = (
        "Curated are the training videos of the data that features are scored on; shares are of the smaller of both "
        "collections, so that both sides learn from as many. The paper has 1, 16 and 65 million videos of Instagram, "
        "and finetunes on other data."
    )
    rows = "learnt from"
    values = ("0.25", "0.5", "1")
    about_values = "shares of the smaller collection up to 1, or numbers of videos above it"
    needs_uncurated = True
    varies = ("data.sample",)

    def arms(self, question: Question) -> list[Arm]:
        """Both collections at each size."""
        check(question.values, self.about_values, whole=False)
        sizes = dict.fromkeys(self._size(question, value) for value in question.values)
        return [
            Arm(f"{kind}, {size} videos", question.method, (f"data.sample={size}",), str(size), kind == "uncurated")
            for size in sizes
            for kind in ("curated", "uncurated")
        ]

    def _size(self, question: Question, value: str) -> int:
        """How many videos a value stands for: two at least, for `data.sample=1` is all of them."""
        assert question.uncurated is not None
        amount = as_number(value) or 0.0
        curated = len(Manifest.load(question.data).where("split=train").usable_rows())
        smaller = min(curated, len(Manifest.load(question.uncurated).usable_rows()))
        return max(2, min(round(amount * smaller) if amount <= 1 else int(amount), smaller))

    def score(self, run: Path, question: Question, arm: Arm) -> dict[str, Any]:
        """A linear classifier and retrieval on the labelled data."""
        return {name: evaluated(run, name, data=question.data) for name in ("linear", "retrieval")}

    def columns(self, question: Question) -> list[Column]:
        """Accuracy and the first hit."""
        return [
            *by_modality("linear", "linear", "scores", leaf="accuracy"),
            *by_modality("R@1", "retrieval", "scores", leaf="R@1"),
        ]

    def place(self, published: Published, question: Question) -> str | None:
        """Lines of their own: nobody else has 65 million videos."""
        found = re.match(r"XDC, table 4: (\w+) videos", published.source)
        if not found:
            return None
        kind = {"IG-Kinetics": "curated", "IG-Random": "uncurated"}[published.pretraining]
        return f"{kind}, {found[1]} videos ({published.pretraining})"

    def picture(self, question: Question, lines: Sequence[Line]) -> Picture:
        """The classifier's accuracy over the number of videos."""
        curves = []
        for kind in ("curated", "uncurated"):
            of_kind = [line for line in lines if line.name.startswith(f"{kind}, ")]
            for i, column in enumerate(self.columns(question)[:3]):
                points = tuple((float(line.name.split()[1]), line.values[i]) for line in of_kind if line.values[i])
                curves += [Curve(f"{kind}: {column.title}", points)] if points else []
        return Picture("Curated against uncurated videos", "videos learnt from", "accuracy", tuple(curves), True)
