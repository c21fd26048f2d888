"""Settings: the commands that make this run and this page again."""

from __future__ import annotations

import shlex
from typing import Any

from seehear.report.content import Content
from seehear.report.gather import Run
from seehear.report.section import Section


def gather(content: Content) -> dict[str, Any]:
    """Commands, settings and versions."""
    run = content.run
    versions = "\n".join(f"{key}: {value}" for key, value in sorted(run.env.items()) if key != "command")
    return {"commands": "\n".join(_commands(run)), "config": run.config_text, "versions": versions}


def _commands(run: Run) -> list[str]:
    command = run.env.get("command")
    if isinstance(command, list):
        command = shlex.join(str(part) for part in command)
    lines = []
    if run.env.get("commit"):
        lines.append(f"git checkout {run.env['commit']}")
    elif run.env.get("seehear_version"):
        lines.append(f"pip install seehear=={run.env['seehear_version']}")
    if command:
        lines.append(str(command))
    return [*lines, f"seehear report {shlex.quote(str(run.folder))}"]


SECTION = Section("settings", "Settings", gather)
