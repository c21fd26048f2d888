"""Studies in words, for a terminal. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def of_study(result: Mapping[str, Any], given: Mapping[str, Any]) -> str:
    """The table of a study and what failed, or the list of studies."""
    if "study" not in result:
        return listed(result)
    lines = [result["text"], "", result["remark"]]
    for failure in result["failures"]:
        lines.append(f"failed: {failure['row']}, seed {failure['seed']} ({failure['run']}): {failure['message']}")
        lines += [f"  -> {failure['remedy']}"] if failure["remedy"] else []
    return "\n".join([*lines, f"table: {result['folder']}/table.md"])


def listed(studies: Mapping[str, Any]) -> str:
    """Each study with what it asks, what it varies and the table that it stands beside."""
    lines = []
    for name, about in studies.items():
        varied = f"{about['about_values']}: {' '.join(about['values'])}"
        needs = "  needs --uncurated VIDEOS" if about["needs_uncurated"] else ""
        lines += [name, f"    {about['summary']}", f"    {varied}", f"    beside {about['paper']}{needs}"]
    return "\n".join(lines)


def as_json(result: Mapping[str, Any]) -> dict[str, Any]:
    """The result without its text."""
    return {name: value for name, value in result.items() if name != "text"}


def exit_code(result: Mapping[str, Any]) -> int:
    """That of the first run that failed."""
    failures = result.get("failures", ())
    return int(failures[0]["exit_code"]) if failures else 0
