"""The page's templates: Jinja2, with every value escaped where it is put in."""

from __future__ import annotations

import functools
from importlib import resources

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

PACKAGES = ("seehear.report", "seehear.report.sections")
"""Where templates lie: the page and what sections share, and a template beside each section's module."""


@functools.cache
def environment() -> Environment:
    """The environment that all templates are rendered in.

    A value that a template asks for and nobody gave is an error, not an empty place.
    """
    made = Environment(
        loader=ChoiceLoader([PackageLoader(package, "") for package in PACKAGES]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"thousands": thousands, "fixed": fixed, "plural": plural}
    return made


def asset(name: str) -> str:
    """The text of a file that the page takes whole, such as `style.css`."""
    return resources.files("seehear.report").joinpath(name).read_text(encoding="utf-8")


def thousands(value: float) -> str:
    """A whole number with its thousands parted."""
    return f"{value:,.0f}"


def fixed(value: float, places: int) -> str:
    """A number with so many digits after the point."""
    return f"{value:.{places}f}"


def plural(count: int, word: str) -> str:
    """`1 clip`, `2 clips`."""
    return f"{count:,} {word}{'' if count == 1 else 's'}"
