"""Kinds: how many a run has counted in its clips, as a picture and in words."""

from __future__ import annotations

import base64
from typing import Any

from seehear.cluster.kinds import range_text
from seehear.features.kinds import kinds_of_facts
from seehear.labelling.kinds_picture import kinds_svg
from seehear.report.content import Content
from seehear.report.section import Section
from seehear.report.sections.clusters import thumb


def gather(content: Content) -> dict[str, Any] | None:
    """The numbers that were compared, and the most doubtful clips.

    None for a run that has not counted kinds, or had too few clips to.
    """
    try:
        kinds = kinds_of_facts(content.run.kinds)
    except (KeyError, TypeError):  # of another version of seehear
        return None
    if kinds is None:
        return None
    # As an image: the picture's styles are its own and must not reach the page's figures.
    picture = "data:image/svg+xml;base64," + base64.b64encode(kinds_svg(kinds).encode()).decode()
    return {
        "k": kinds.k,
        "may_be": range_text(kinds.low, kinds.high, kinds.more),
        "clusters": content.run.kinds.get("clusters", kinds.k),
        "first": kinds.table[0].k,
        "text": kinds.as_text(),
        "table": kinds.table,
        "picture": picture,
        "doubtful": int(content.run.doubtful.sum()),
        "thumbs": [thumb(content, i) for i in content.doubted() if i in content.thumbnails.items],
        "side_px": content.thumbnails.quality.side_px,
    }


SECTION = Section("kinds", "Kinds", gather)
