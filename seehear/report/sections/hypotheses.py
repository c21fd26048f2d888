"""Hypotheses: the specification of a GDT run in words and as a picture."""

from __future__ import annotations

import base64
from typing import Any

from seehear.errors import UsageError
from seehear.hypotheses.factors import FACTORS
from seehear.hypotheses.language import NAMED, Hypotheses, parse
from seehear.hypotheses.pictures import as_svg
from seehear.report.content import Content
from seehear.report.gather import number
from seehear.report.section import Section

ASKS = {
    "distinct": "is told apart",
    "invariant": "makes no difference",
    "ignore": "is left open: what differs in it is not compared",
}
"""What each hypothesis about a factor asks of a representation."""
COMPARED = {"cross": "of different modalities", "within": "of one modality", "all": "of any modality"}


def gather(content: Content) -> dict[str, Any] | None:
    """A row for each factor; None for another method."""
    run = content.run
    text = run.setting("gdt", "hypotheses")
    if run.setting("method") != "gdt" or not isinstance(text, str):
        return None
    try:
        spec = parse(text)
    except UsageError:  # of another version of seehear
        return {"text": text, "spec": None}
    return {
        "text": text,
        "spec": spec,
        "named": "=" not in text,
        "names": " and ".join(spec.modalities),
        "compared": COMPARED[spec.pairs] if len(spec.modalities) > 1 else f"of {spec.modalities[0]}",
        "rows": [
            (f.name.replace("_", " "), FACTORS[f.name].meaning, f.hypothesis, ASKS[f.hypothesis]) for f in spec.factors
        ],
        "picture": _picture(spec, text, int(number(run.setting("optim", "batch_size")) or 32)),
    }


def _picture(spec: Hypotheses, text: str, batch_size: int) -> str:
    """A data URI; "" for more transformations than can be drawn."""
    try:
        svg = as_svg(spec, NAMED.get(text), batch_size)
    except UsageError:
        return ""
    # As an image: the picture's styles are its own and must not reach the page's figures.
    return "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()


SECTION = Section("hypotheses", "Hypotheses", gather)
