"""Map: the features of each encoder in the plane, drawn by page.js."""

from __future__ import annotations

from typing import Any

from seehear.report.content import Content, name_of
from seehear.report.section import Section


def gather(content: Content) -> dict[str, Any] | None:
    """The maps, and by what their points can be coloured; None without features."""
    if not content.maps:
        return None
    colours = [(f"cluster:{n}", f"{name_of(n).lower()} cluster") for n in content.run.labellings]
    if content.truth is not None:
        colours.insert(0, ("class", "class"))
    return {"maps": content.maps, "titles": {m.name: name_of(m.name) for m in content.maps}, "colours": colours}


SECTION = Section("map", "Map", gather)
