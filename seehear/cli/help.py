"""Help for all commands together: grouped by what a person is doing, each with a line and an example."""

from __future__ import annotations

import textwrap

from seehear.cli.assemble import all_commands, subcommands
from seehear.commands import GROUPS, Command


def overview() -> str:
    """What `seehear --help` prints."""
    lines = [
        "usage: seehear COMMAND [OPTIONS]",
        "",
        "Learn from unlabelled videos that have sound, and put what was learnt to work.",
        "",
        "`seehear COMMAND --help` says what a command takes; `seehear --version` prints the version.",
    ]
    for group, title in GROUPS.items():
        commands = [command for command in all_commands().values() if command.group == group]
        if commands:
            lines += ["", title]
        for command in commands:
            lines += _entry(command)
    return "\n".join(lines) + "\n"


def group_overview(word: str) -> str:
    """What `seehear WORD --help` prints for the first word of commands of two."""
    lines = [f"usage: seehear {word} SUBCOMMAND [OPTIONS]", ""]
    for command in subcommands(word):
        lines += _entry(command)
    return "\n".join(lines) + "\n"


def _entry(command: Command) -> list[str]:
    text = textwrap.wrap(command.summary, 110, initial_indent=" " * 6, subsequent_indent=" " * 6)
    return [f"  {command.name}", *text, f"      $ {command.example}"]
