"""A gathered run to one HTML page: the sections that have something to show, in one file that needs nothing else."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from seehear.report.content import Content
from seehear.report.data import page_data
from seehear.report.header import header
from seehear.report.section import Section
from seehear.report.sections import SECTIONS
from seehear.report.templates import asset, environment


@dataclass(frozen=True)
class Rendered:
    """A section that has something to show."""

    key: str
    title: str
    body: str


def render(content: Content, sections: Sequence[Section] = SECTIONS) -> str:
    """The whole page as HTML."""
    script = asset("page.js")
    return (
        environment()
        .get_template("page.html")
        .render(
            policy=_policy(script),
            title=f"{content.run.folder.resolve().name} · seehear report",
            style=asset("tokens.css") + asset("style.css"),
            header=header(content),
            sections=[found for section in sections if (found := render_section(section, content)) is not None],
            version=str(content.run.env.get("seehear_version", "")),
            list_limit=content.list_limit,
            data=script_json(page_data(content)),
            thumbs=script_json({str(k): t.base64 for k, t in content.thumbnails.items.items() if t.base64}),
            script=script,
        )
    )


def render_section(section: Section, content: Content) -> Rendered | None:
    """One section, or None where the run has nothing for it."""
    values = section.gather(content)
    if values is None:
        return None
    template = environment().get_template(f"{section.key}.html")
    return Rendered(section.key, section.title, template.render(values))


def script_json(value: Any) -> str:
    """JSON that can stand in a script element: no `<` can end it, no `&` can be read as an entity."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for mark in "<>&\u2028\u2029":
        text = text.replace(mark, f"\\u{ord(mark):04x}")
    return text


def _policy(script: str) -> str:
    """Only this very script may run, and nothing may be fetched: blob: is for thumbnails made on the page."""
    # The element begins with a line break.
    digest = base64.b64encode(hashlib.sha256(f"\n{script}".encode()).digest()).decode()
    return (
        f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; img-src data:; "
        "media-src data: blob:; base-uri 'none'; form-action 'none'"
    )
