"""Specifications and searches in words, for a terminal. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any


def listed(named: Mapping[str, Any]) -> str:
    """The list of specifications."""
    from seehear.hypotheses.pictures import listed as as_list

    return as_list(named)


def summaries(named: Mapping[str, Any]) -> dict[str, Any]:
    """The list for JSON."""
    from seehear.hypotheses.pictures import summary

    return {name: summary(spec, known) for name, (spec, known) in named.items()}


def shown(found: Any) -> str:
    """One specification with its tree and matrix."""
    from seehear.hypotheses.pictures import as_text

    return as_text(*found)


def data(found: Any) -> dict[str, Any]:
    """One specification for JSON."""
    from seehear.hypotheses.pictures import as_data

    return as_data(*found)


def of_search(result: Mapping[str, Any], given: Mapping[str, Any]) -> str:
    """The ranks of a search, and where its picture is."""
    from seehear.hypotheses.search_result import as_text

    return f"{as_text(result)}\npicture: {Path(given['out']) / 'results.html'}"
