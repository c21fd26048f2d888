"""A section of the page: a function that gathers its values, and a template that shows them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from seehear.report.content import Content


@dataclass(frozen=True)
class Section:
    """One entry of the page's navigation with what stands there."""

    key: str
    """The section's anchor; its template is `KEY.html`."""
    title: str
    gather: Callable[[Content], Mapping[str, Any] | None]
    """The values of the template by name; None where the run has nothing to show here."""
