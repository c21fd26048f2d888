"""The demo runs commands in its own process: what they print, and how they end, comes through."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from seehear import __version__, cli
from seehear.errors import Interrupted

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


@pytest.fixture(scope="module")
def demo() -> Iterator[ModuleType]:
    sys.path.insert(0, str(EXAMPLES))
    try:
        import demo

        yield demo
    finally:
        sys.path.remove(str(EXAMPLES))


def test_output_is_returned_or_goes_on(demo, capsys):
    assert demo.seehear("--version", capture=True) == f"seehear {__version__}\n"
    assert capsys.readouterr().out == "\n$ seehear --version\n"
    assert demo.seehear("--version") == ""
    assert capsys.readouterr().out == f"\n$ seehear --version\nseehear {__version__}\n"


def test_a_command_that_fails_ends_the_demo_with_its_code(demo, tmp_path, capsys):
    arguments = ["--videos", str(tmp_path), "--out", str(tmp_path / "demo")]
    assert demo.main(arguments) == 3
    said = capsys.readouterr().err
    assert "demo: failed with exit code 3: seehear scan" in said


@pytest.mark.parametrize("code", [130, Interrupted.exit_code])
def test_a_command_that_was_stopped_stops_the_demo(demo, tmp_path, monkeypatch, capsys, code):
    def stopped(words: list[str]) -> None:
        sys.exit(code)

    monkeypatch.setattr(demo, "main_of_seehear", stopped)
    (tmp_path / "videos").mkdir()
    assert demo.main(["--videos", str(tmp_path / "videos"), "--out", str(tmp_path / "demo")]) == 130
    assert "run it again to go on" in capsys.readouterr().err


def test_the_demo_takes_the_real_command_line(demo):
    assert demo.main_of_seehear is cli.main
