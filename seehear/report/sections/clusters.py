"""Clusters: a tab for each labelling, a card for each of its clusters."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from seehear.report import figures
from seehear.report.content import Content, display_name, labelled_by_heads, name_of
from seehear.report.gather import Clip, Labelling
from seehear.report.section import Section

MEANS = {
    "video": "what the picture encoder groups: clips that look alike to it",
    "audio": "what the sound encoder groups: clips that sound alike to it",
    "both": "clustered on picture and sound features joined",
}
MEANS_OF_HEADS = {
    "video": "the labels as read off the picture alone",
    "audio": "the same clusters as read off the sound alone",
    "both": "the same clusters as read off picture and sound together",
}
"""For a method whose labels are its heads'."""
SORTS = (("size", "size"), ("tight", "tightness"), ("confidence", "confidence"), ("id", "number"))
SHOWS = (("all", "all clusters"), ("sure", "confidence ≥ 0.5"), ("unsure", "confidence < 0.5"))
SHOWS_OF_DOUBTS = (("doubtful", "with doubtful clips"),)
SHOWS_OF_CLASSES = (("pure", "purity ≥ 0.5"), ("mixed", "purity < 0.5"))
CONCEPTS = 3
"""Classes that a card names; the table below has more."""
SHARP_PX = 112
"""A thumbnail of this side is drawn at its own size."""


def gather(content: Content) -> dict[str, Any] | None:
    """A panel for each labelling; None for a run without clusters."""
    labellings = content.run.labellings
    if not labellings:
        return None
    known, doubts = bool(content.scores), content.run.doubt is not None
    shows = [*SHOWS, *(SHOWS_OF_DOUBTS if doubts else ()), *(SHOWS_OF_CLASSES if known else ())]
    return {
        "by_heads": labelled_by_heads(content.run),
        "thumbnail_note": _thumbnail_note(content),
        "known_classes": known,
        "sorts": [("purity", "purity"), *SORTS] if known else SORTS,
        "shows": shows,
        "doubts": doubts,
        "panels": [_panel(content, labelling) for labelling in labellings.values()],
        "side_px": content.thumbnails.quality.side_px,
    }


def thumb(content: Content, index: int, more: str = "") -> dict[str, Any]:
    """The values of the macro `thumb`: a clip of which there is a picture, with what is said of it."""
    run, item = content.run, content.thumbnails.items[index]
    clip, doubtful = run.clips[index], bool(run.doubtful[index])
    parts = [display_name(run, clip.video_id), _span(clip), more, "may belong to no kind" if doubtful else ""]
    return {
        "index": index,
        "text": ", ".join(part for part in parts if part),
        "doubtful": doubtful,
        "problem": "" if item.base64 else item.problem,
        "has_sound": item.has_sound,
    }


def _thumbnail_note(content: Content) -> str:
    made = content.thumbnails
    if not made.items and not made.dropped:
        return ""
    quality = made.quality
    note = f"Pictures are {quality.side_px} px at {quality.frame_rate_hz:g} frames a second"
    limit = f"to keep the page under {content.size_budget_bytes / 1e6:.3g} MB"
    if made.dropped:
        note += f"; {made.dropped:,} of {made.dropped + len(made.items):,} were left out {limit}"
    elif quality.side_px < SHARP_PX:
        note += f", {limit}"
    return f"{note}."


def _panel(content: Content, labelling: Labelling) -> dict[str, Any]:
    """What stands under one tab."""
    scores = content.scores.get(labelling.name)
    numbers = labelling.clusters()
    rows = {c: labelling.members(c) for c in numbers}
    if scores is not None:
        numbers.sort(key=lambda c: (-(scores.rows[c].purity if c in scores.rows else -1), c))
    else:
        numbers.sort(key=lambda c: (-len(rows[c]), c))
    means = (MEANS_OF_HEADS if labelled_by_heads(content.run) else MEANS).get(labelling.name, "")
    largest = max(len(members) for members in rows.values())
    return {
        "name": labelling.name,
        "title": name_of(labelling.name),
        "means": means[:1].upper() + means[1:],
        "cards": [_card(content, labelling, c, rows[c], largest) for c in numbers],
        "ranked": None if scores is None else [scores.rows[c] for c in numbers if c in scores.rows],
    }


def _card(content: Content, labelling: Labelling, cluster: int, rows: np.ndarray, largest: int) -> dict[str, Any]:
    scores = content.scores.get(labelling.name)
    row = scores.rows.get(cluster) if scores else None
    confidence, distance = _mean(labelling.confidence[rows]), _mean(labelling.distance[rows])
    best = content.best(labelling, cluster)
    sure = {i: labelling.confidence[i] for i in best if i in content.thumbnails.items}
    thumbs = [thumb(content, i, f"confidence {x:.2f}" if math.isfinite(x) else "") for i, x in sure.items()]
    numbers = (
        f"confidence {confidence:.2f}" if confidence is not None else "",
        f"mean distance {figures.short(distance)}" if distance is not None else "",
    )
    return {
        "cluster": cluster,
        "size": len(rows),
        "share": len(rows) / largest,
        "purity": row.purity if row is not None else None,
        "concepts": row.concepts[:CONCEPTS] if row is not None else [],
        "words": " ".join(name for name, _ in row.concepts).lower() if row is not None else "",
        "confidence": f"{confidence:.4f}" if confidence is not None else "",
        "distance": f"{distance:.6g}" if distance is not None else "",
        "doubtful": int(content.run.doubtful[rows].sum()),
        "thumbs": thumbs,
        "left_out": bool(best) and not thumbs,
        "numbers": " · ".join(text for text in numbers if text),
    }


def _mean(values: np.ndarray) -> float | None:
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if finite.size else None


def _span(clip: Clip) -> str:
    return f"{clip.start_seconds:.1f}–{clip.end_seconds:.1f} s"


SECTION = Section("clusters", "Clusters", gather)
