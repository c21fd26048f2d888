"""How tests run a command in their own process."""

from __future__ import annotations

from typing import Any

import pytest

from seehear.cli import main


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[Any, str, str]:
    """Exit code, standard output and standard error of a command."""
    code: Any = 0
    try:
        main([str(a) for a in arguments])
    except SystemExit as error:
        code = error.code
    captured = capsys.readouterr()
    return code, captured.out, captured.err
