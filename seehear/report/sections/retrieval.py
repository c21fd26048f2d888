"""Cross-modal retrieval: how often a held-out clip's sound finds its frames and the other way."""

from __future__ import annotations

from typing import Any

from seehear.report.content import Content
from seehear.report.curves import arrows
from seehear.report.gather import heads, number
from seehear.report.section import Section


def gather(content: Content) -> dict[str, Any] | None:
    """A row for each pair of modalities, at the last validation; None for a method that contrasts no pairs."""
    epochs = content.run.metrics.epochs
    last = epochs[-1] if epochs else {}
    pairs = [pair for pair in heads([last], "validation_accuracy") if "->" in pair]
    if not pairs or not heads([last], "alignment"):
        return None
    return {"rows": [(arrows(pair), number(last.get(f"validation_accuracy/{pair}"))) for pair in pairs]}


SECTION = Section("retrieval", "Cross-modal retrieval", gather)
