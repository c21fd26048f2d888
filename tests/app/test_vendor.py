"""The libraries that the pages use are the files that vendor.json names, each with its licence."""

from __future__ import annotations

import hashlib
import json
import re
import runpy
from pathlib import Path

import pytest

STATIC = Path(__file__).resolve().parents[2] / "seehear" / "app" / "static"
VENDOR = STATIC / "vendor"
TOOL = Path(__file__).resolve().parents[2] / "tools" / "vendor.py"


def test_every_vendored_file_has_the_checksum_of_the_manifest() -> None:
    manifest = json.loads((VENDOR / "vendor.json").read_text())
    named = {file["file"]: file["sha256"] for library in manifest["libraries"] for file in library["files"]}
    found = {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in VENDOR.iterdir() if p.name != "vendor.json"}
    assert found == named


def test_every_library_has_version_licence_and_integrity() -> None:
    for library in json.loads((VENDOR / "vendor.json").read_text())["libraries"]:
        assert re.fullmatch(r"\d+\.\d+\.\d+", library["version"]) and library["licence"]
        assert re.fullmatch(r"sha512-[A-Za-z0-9+/]{86}==", library["integrity"])
        assert any("LICENSE" in file["file"] for file in library["files"])


def test_the_tool_notices_a_changed_a_missing_and_an_unknown_file(tmp_path: Path) -> None:
    tool = runpy.run_path(str(TOOL))
    manifest = json.loads((VENDOR / "vendor.json").read_text())
    for file in VENDOR.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    tool["differences"].__globals__["VENDOR"] = tmp_path
    assert tool["differences"](manifest) == []
    (tmp_path / "htm.js").write_text("alert(1)")
    (tmp_path / "preact.js").unlink()
    (tmp_path / "more.js").write_text("")
    assert [line.split(" ")[0] for line in tool["differences"](manifest)] == ["preact.js", "htm.js", "more.js"]


@pytest.mark.parametrize("file", sorted(STATIC.glob("**/*.js")), ids=lambda p: p.name)
def test_scripts_import_files_that_are_there_and_are_not_long(file: Path) -> None:
    text = file.read_text()
    for path in re.findall(r"""\b(?:import|export)\b[\w\s{},*$]*?from\s*["']([^"']+)["']""", text):
        assert path.startswith("."), f"{file.name} imports {path}, which a browser cannot resolve"
        assert (file.parent / path).resolve().is_file()
    assert text.count("\n") <= 600
    if file.parent != VENDOR:
        assert "innerHTML" not in text and "eval(" not in text
