"""The page's templates: every value escaped, every section with its template, and all of them in the wheel."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import jinja2
import pytest

from seehear.report import sections
from seehear.report.sections import SECTIONS
from seehear.report.templates import environment

ROOT = Path(__file__).resolve().parents[2]
REPORT = ROOT / "seehear" / "report"
PARTS = sorted(path for ending in ("html", "css", "js") for path in REPORT.rglob(f"*.{ending}"))


def test_values_are_escaped_and_a_value_that_nobody_gave_is_an_error():
    made = environment()
    assert made.autoescape is True
    assert made.from_string("{{ x }}").render(x="<b>\"&'") == "&lt;b&gt;&#34;&amp;&#39;"
    with pytest.raises(jinja2.UndefinedError):
        made.from_string("{{ x }}").render()


def test_only_the_whole_page_puts_in_what_is_safe_already():
    safe = {p.name: re.findall(r"[\w.]+(?=\s*\|\s*safe)", p.read_text()) for p in PARTS if p.suffix == ".html"}
    assert {name: found for name, found in safe.items() if found} == {
        "page.html": ["style", "section.body", "data", "thumbs", "script"]
    }
    assert not any("autoescape" in p.read_text() for p in PARTS)


def test_a_section_is_a_module_and_a_template_of_the_same_name():
    folder = REPORT / "sections"
    modules = {p.stem for p in folder.glob("*.py")} - {"__init__"}
    assert modules == {p.stem for p in folder.glob("*.html")} == {s.key for s in SECTIONS}
    assert len(SECTIONS) == len(modules)
    for section in SECTIONS:
        assert getattr(sections, section.key).SECTION is section
        environment().get_template(f"{section.key}.html")


def test_no_module_of_the_report_has_html_of_its_own():
    found = {p.name: re.findall(r"</?[a-z]+[ >]", p.read_text()) for p in REPORT.rglob("*.py")}
    assert {name: tags for name, tags in found.items() if tags} == {}


def test_templates_styles_and_scripts_are_in_the_wheel(tmp_path):
    """An installation that left one out would fail when the first page is made."""
    # Not imported here: it puts packages of its own on this process's path.
    if importlib.util.find_spec("setuptools") is None:
        pytest.skip("setuptools is not installed")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(ROOT / "seehear", tmp_path / "seehear", ignore=shutil.ignore_patterns("__pycache__"))
    build = "from setuptools import build_meta; print(build_meta.build_wheel('dist'))"
    done = subprocess.run([sys.executable, "-c", build], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    assert len(PARTS) >= 16
    assert {str(path.relative_to(ROOT)) for path in PARTS} <= names
