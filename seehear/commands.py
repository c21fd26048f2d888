"""A command: one function, of which the command line, the Python API and the documentation are made.

The public functions of a room (its `__init__`) are declared with `command`: `seehear.label` is what `seehear label`
runs. An option is a parameter with its type, default and a line in the docstring, and stands nowhere else. Options that
many functions share have their types and texts in `seehear.options`; `command` adds these texts to the docstring.

Importing this module, like importing a room, loads no torch.
"""

from __future__ import annotations

import dataclasses
import inspect
import sys
import textwrap
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

Function = TypeVar("Function", bound=Callable[..., Any])

GROUPS: dict[str, str] = {
    "start": "Start: from videos to a run",
    "look": "Look: what a run found",
    "organise": "Organise: name, correct and take out",
    "use": "Use: what was learnt, on tasks of your own",
    "compare": "Compare: scores, of this run and of others",
    "know": "Know: what there is, and what this machine has",
}
"""What a person is doing, in the order of `seehear --help`, with the title there."""


def plain(result: Any) -> Any:
    """The result itself, where it can be written as JSON."""
    return result


def aligned(rows: Mapping[str, str]) -> str:
    """Names and texts in two columns."""
    width = max(map(len, rows))
    return "\n".join(f"{name:<{width}}  {text}" for name, text in rows.items())


@dataclass(frozen=True)
class Command:
    """A public function with what the command line adds to it."""

    name: str
    """One word, or two for a command with subcommands: "label", "evaluate linear"."""
    function: Callable[..., Any]
    group: str
    example: str
    text: Callable[[Any, Mapping[str, Any]], str] | None
    """The result in words, given the arguments too; None prints nothing."""
    as_json: Callable[[Any], Any] | None
    """The result for `--json`; None: there is no such option."""
    exit_code: Callable[[Any], int]
    """The exit code by the result; may raise a `SeehearError` when all is printed."""
    options: type | None
    """A dataclass of options that several functions share; the function takes them as keywords."""
    python_only: frozenset[str]
    """Parameters that the command line does not have."""
    required: frozenset[str]
    """Options without which the command line does nothing, though Python may leave them out."""
    stopped: str
    """What Ctrl-C leaves behind and what to do then, for a command that doesn't save and say so itself."""

    @property
    def summary(self) -> str:
        """The first line of the documentation."""
        return (inspect.getdoc(self.function) or "").partition("\n")[0]

    @property
    def description(self) -> str:
        """The documentation without arguments, errors and what Python returns."""
        doc = inspect.getdoc(self.function) or ""
        told = doc.partition("\nArgs:")[0].partition("\nRaises:")[0].split("\n\n")
        return "\n\n".join(part for part in told if not part.lstrip().startswith(("Returns ", "Columns:"))).strip()

    def parameters(self) -> dict[str, inspect.Parameter]:
        """The parameters on the command line, with types instead of their names."""
        own = {n: p for n, p in inspect.signature(self.function).parameters.items() if n not in self.python_only}
        hints = _hints(self.function, self.options, own)
        return {
            name: p.replace(annotation=hints[name], default=p.empty if name in self.required else p.default)
            for name, p in own.items()
        }


def command(
    name: str,
    *,
    group: str,
    example: str,
    text: Callable[[Any, Mapping[str, Any]], str] | None = None,
    as_json: Callable[[Any], Any] | None = None,
    exit_code: Callable[[Any], int] = lambda _: 0,
    options: type | None = None,
    python_only: tuple[str, ...] = (),
    required: tuple[str, ...] = (),
    stopped: str = "give the same command again",
) -> Callable[[Function], Function]:
    """Declare a function as a command; see `Command` for the arguments. The function itself stays as it is."""
    assert group in GROUPS, group

    def declare(function: Function) -> Function:
        made: Any = function
        if options is not None:
            made.__signature__ = _with_options(inspect.signature(function), options)
        made.command = Command(
            name, function, group, example, text, as_json, exit_code, options, frozenset(python_only),
            frozenset(required), stopped,
        )  # fmt: skip
        made.__doc__ = _with_shared_texts(made.command)
        return function

    return declare


def commands_of(room: Any) -> list[Command]:
    """The commands that a module declares, in the order of their declaration."""
    found = [getattr(value, "command", None) for value in vars(room).values()]
    return [c for c in found if isinstance(c, Command) and c.function.__module__ == room.__name__]


def _with_options(signature: inspect.Signature, options: type) -> inspect.Signature:
    """The signature with the fields of a dataclass in the place of `**options`."""
    own = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
    shared = [
        inspect.Parameter(f.name, inspect.Parameter.KEYWORD_ONLY, default=f.default, annotation=f.type)
        for f in dataclasses.fields(options)
    ]
    return signature.replace(parameters=[*own, *shared])


def _hints(function: Callable[..., Any], options: type | None, names: Mapping[str, Any]) -> dict[str, Any]:
    """The types of these parameters. Others may name what is imported for type checkers alone."""
    found: dict[str, Any] = {}
    if options is not None:
        found |= typing.get_type_hints(options, vars(sys.modules[options.__module__]), include_extras=True)
    given = {n: a for n, a in inspect.get_annotations(function).items() if n in names}
    stub = type("_", (), {"__annotations__": given})
    return found | typing.get_type_hints(stub, function.__globals__, include_extras=True)


def _with_shared_texts(made: Command) -> str:
    """The docstring, with a line under Args for every parameter whose type brings its text along."""
    doc = inspect.getdoc(made.function) or ""
    lines = []
    for name, parameter in made.parameters().items():
        helps = [h for x in getattr(parameter.annotation, "__metadata__", ()) if (h := getattr(x, "help", None))]
        if helps and f"\n    {name}: " not in doc:
            lines += textwrap.wrap(
                f"{name}: {helps[0]}", 110, initial_indent=" " * 4, subsequent_indent=" " * 8, break_on_hyphens=False
            )
    if not lines:
        return doc
    head, args, rest = doc.partition("Args:\n")
    if not args:
        return f"{doc.rstrip()}\n\nArgs:\n" + "\n".join(lines) + "\n"
    own, gap, tail = rest.partition("\n\n")
    return f"{head}{args}{own.rstrip()}\n" + "\n".join(lines) + f"\n{gap and chr(10)}{tail}"
