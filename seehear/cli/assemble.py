"""The commands of all rooms by name, and their arguments read by tyro from the functions' own signatures."""

from __future__ import annotations

import difflib
import functools
import importlib
import inspect
from typing import Any

import tyro

from seehear.commands import GROUPS, Command, commands_of
from seehear.errors import UsageError
from seehear.options import option

ROOMS = (
    "seehear.data",
    "seehear.preparing",
    "seehear.pretraining",
    "seehear.report",
    "seehear.app",
    "seehear.labelling",
    "seehear.search",
    "seehear.joining",
    "seehear.collection",
    "seehear.transfer",
    "seehear.comparing",
    "seehear.localization",
    "seehear.studies",
    "seehear.weights",
    "seehear.encoders",
    "seehear.hypotheses",
    "seehear.methods",
    "seehear.recipes",
    "seehear.profiling",
    "seehear.doctor",
)
"""Modules that declare commands. A new command in one of them needs no word here."""
ALONE = {"encoders": "encoders list", "hypotheses": "hypotheses list"}
"""What the first word of two means without a second one."""


@functools.cache
def all_commands() -> dict[str, Command]:
    """Every command by its name, in the order of the help."""
    found = [command for room in ROOMS for command in commands_of(importlib.import_module(room))]
    found.sort(key=lambda command: list(GROUPS).index(command.group))  # stable: rooms keep their order
    return {command.name: command for command in found}


def subcommands(word: str) -> list[Command]:
    """The commands of two words that begin with this one."""
    return [command for name, command in all_commands().items() if name.startswith(f"{word} ")]


def chosen(words: list[str]) -> tuple[Command | str, list[str]]:
    """The command that is meant, and its arguments; the first word of two if there is no second one.

    Options may stand before the second word, as in `seehear evaluate --json clustering RUN`. Raises `UsageError` with
    the likeliest names if there is no such command.
    """
    commands, first, rest = all_commands(), words[0], words[1:]
    if first in commands:
        return commands[first], rest
    names = {command.name.partition(" ")[2] for command in subcommands(first)}
    if not names:
        raise UsageError(f"there is no command {first!r}", _close(first, {name.partition(" ")[0] for name in commands}))
    if first not in ALONE or any(word in names for word in rest):
        if not rest or rest[0] in ("-h", "--help"):
            return first, rest
        place = next((i for i, word in enumerate(rest) if word in names), None)
        if place is None or (place and not rest[0].startswith("-")):
            raise UsageError(f"there is no {rest[0]!r} of {first}", _close(rest[0], names))
        return commands[f"{first} {rest[place]}"], rest[:place] + rest[place + 1 :]
    if rest and not rest[0].startswith("-"):
        raise UsageError(f"there is no {rest[0]!r} of {first}", _close(rest[0], names))
    return (first, rest) if rest and rest[0] in ("-h", "--help") else (commands[ALONE[first]], rest)


def parsed(command: Command, words: list[str]) -> dict[str, Any]:
    """The arguments of a command by parameter, and `json` if it has that; help and mistakes exit as tyro does."""
    parameters = list(command.parameters().values())
    if command.as_json is not None:
        parameters.append(
            inspect.Parameter("json", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=_json_option())
        )

    def collect(**given: Any) -> dict[str, Any]:
        return given

    collect.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    collect.__annotations__ = {p.name: p.annotation for p in parameters}
    collect.__doc__ = command.function.__doc__
    description = f"{command.description}\n\nExample: {command.example}"
    found: dict[str, Any] = tyro.cli(collect, prog=f"seehear {command.name}", description=description, args=words)
    return found


def _json_option() -> Any:
    from typing import Annotated

    return Annotated[bool, option("Print JSON.")]


def _close(word: str, names: set[str]) -> str:
    close = difflib.get_close_matches(word, sorted(names), n=3, cutoff=0.5)
    return f"did you mean {' or '.join(close)}?" if close else f"there are: {', '.join(sorted(names))}"
