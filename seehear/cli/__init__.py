"""The command line: it assembles the rooms' functions into commands, prints, and turns errors into exit codes.

What a command does, and its options, are the function that the room declares (see `seehear.commands`); nothing of it is
repeated here. Help appears at once: no room imports torch before its function runs.
"""

from __future__ import annotations

import json
import os
import sys

from seehear import __version__, host, progress
from seehear.cli.assemble import chosen, parsed
from seehear.cli.help import group_overview, overview
from seehear.errors import SeehearError


def main(arguments: list[str] | None = None) -> None:
    """Entry point of `seehear`; exits with the codes of `seehear.errors`."""
    host.sleep_while_waiting()
    try:
        code = run(sys.argv[1:] if arguments is None else arguments)
    except SeehearError as error:
        print(f"seehear: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print("seehear: stopped", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:  # `seehear ... | head`
        sys.stderr.close()
        sys.exit(141)
    if code:
        sys.exit(code)


def run(words: list[str]) -> int:
    """Carry out one command and print its result; the exit code. Raises what the command raises."""
    if words == ["--version"]:
        print(f"seehear {__version__}")
        return 0
    if not words or words[0] in ("-h", "--help"):
        print(overview(), end="")
        return 0 if words else 2
    command, rest = chosen(words)
    if isinstance(command, str):
        print(group_overview(command), end="")
        return 0 if rest else 2
    given = parsed(command, rest)
    as_json = given.pop("json", False)
    try:
        with progress.shown():
            result = command.function(**given)
    except KeyboardInterrupt:
        # In parts and by an engine every block that is done lies on disk, whatever the command.
        in_blocks = given.get("part") or given.get("engine", "local") != "local"
        left = "finished blocks are kept: the same command goes on" if in_blocks else command.stopped
        print(f"seehear: stopped; {left}", file=sys.stderr)
        return 130
    if os.environ.get("RANK", "0") != "0":  # one of several processes of torchrun: the first one prints
        return 0
    if as_json and command.as_json is not None:
        print(json.dumps(command.as_json(result), indent=1, ensure_ascii=False))
    elif command.text is not None:
        print(command.text(result, given))
    return command.exit_code(result)
