"""What holds the project together: pins, version, direction of imports, and how fast the command line starts."""

from __future__ import annotations

import ast
import importlib.metadata
import os
import re
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def name_of(requirement: str) -> str:
    found = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert found, requirement
    return normal(found[0])


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    rows = [line.split("==") for line in lines if line.strip() and not line.startswith("#")]
    return {normal(name): version.strip() for name, version in rows}


def required() -> set[str]:
    """Names of all direct dependencies, those of the extras and of the build included, but torchvision.

    That is in no set-up of ours: a pin of it would decide which torch is installed.
    """
    project = PROJECT["project"]
    lists = [project["dependencies"], PROJECT["build-system"]["requires"], *project["optional-dependencies"].values()]
    return {name_of(requirement) for requirements in lists for requirement in requirements} - {"torchvision"}


def run_python(code: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def here() -> list[str]:
    """Where this environment's packages lie, without the folder that Ray adds to the path for its own."""
    return [sysconfig.get_path(name) for name in ("purelib", "platlib")]


class TestPins:
    def test_every_direct_dependency_has_an_exact_pin(self):
        assert required() <= pins().keys()

    def test_every_installed_dependency_of_a_dependency_has_one_too(self):
        unpinned, waiting, seen = set(), sorted(required()), set()
        while waiting:
            name = waiting.pop()
            if name in seen:
                continue
            seen.add(name)
            found = next(iter(importlib.metadata.distributions(name=name, path=here())), None)
            if found is None:
                continue
            requires = found.requires or []
            if name == "torch":  # its GPU builds pin NVIDIA's packages themselves
                requires = [r for r in requires if not re.match(r"(nvidia|cuda|triton)", r)]
            if name not in pins():
                unpinned.add(name)
            waiting += [name_of(r) for r in requires if "extra ==" not in r]
        assert not unpinned

    def test_what_is_installed_here_is_what_is_pinned_where_the_set_up_made_the_environment(self):
        if not (Path(sys.prefix) / ".setup").exists():
            pytest.skip("this environment was not made by `make setup`")
        found = importlib.metadata.distributions(path=here())
        installed = {normal(d.metadata["Name"]): d.version.split("+")[0] for d in found}
        differing = {name: (installed[name], version) for name, version in pins().items() if name in installed}
        assert {name: both for name, both in differing.items() if both[0] != both[1]} == {}

    def test_pins_are_sorted_and_unique(self):
        lines = (ROOT / "constraints.txt").read_text().splitlines()
        names = [normal(line.split("==")[0]) for line in lines if line.strip() and not line.startswith("#")]
        assert len(names) == len(set(names))
        assert names == sorted(names)

    @pytest.mark.parametrize("name", ["torchvision", "torchaudio"])
    def test_packages_that_would_replace_torch_are_absent(self, name):
        assert name not in pins()


class TestVersion:
    def test_it_stands_in_one_place(self):
        import seehear

        assert PROJECT["project"]["dynamic"] == ["version"]
        assert PROJECT["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "seehear.__version__"}
        assert re.fullmatch(r"\d+\.\d+\.\d+", seehear.__version__)

    def test_the_changelog_knows_it_or_what_is_coming(self):
        import seehear

        changelog = (ROOT / "CHANGELOG.md").read_text()
        assert "## [Unreleased]" in changelog or f"## [{seehear.__version__}]" in changelog


class TestStart:
    def test_help_imports_no_torch(self):
        code = (
            "import sys\nfrom seehear.cli import main\n"
            "try:\n    main(['--help'])\nexcept SystemExit as end:\n    assert not end.code\n"
            "heavy = {'torch', 'scipy', 'sklearn', 'av', 'pyarrow', 'numpy'} & sys.modules.keys()\n"
            "assert 'torch' not in heavy, heavy\nprint('loaded:', sorted(heavy))"
        )
        assert "pretrain" in run_python(code)

    @pytest.mark.parametrize(
        "module", ["seehear", "seehear.cli.assemble", "seehear.recipes", "seehear.media.decode", "seehear.media.pool"]
    )
    def test_module_imports_no_torch(self, module):
        run_python(f"import sys, {module}\nassert 'torch' not in sys.modules")


def test_imports_point_one_way(monkeypatch):
    pytest.importorskip("importlinter", reason="import-linter is not installed (extra `lint`)")
    from importlinter.api import read_configuration
    from importlinter.cli import EXIT_STATUS_SUCCESS, lint_imports

    monkeypatch.chdir(ROOT)
    assert read_configuration()["contracts_options"]
    assert lint_imports(no_cache=True) == EXIT_STATUS_SUCCESS


MODULES = sorted((ROOT / "seehear").rglob("*.py"))


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_modules_and_functions_can_be_read_in_one_sitting(path):
    """No module over 600 lines; no function over 60, docstring apart, unless that gives the reason ("Long because")."""
    source = path.read_text()
    assert source.count("\n") <= 600
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef):
            doc = ast.get_docstring(node) or ""
            lines = node.end_lineno - node.lineno + 1
            if doc:
                lines -= node.body[0].end_lineno - node.body[0].lineno + 1
            assert lines <= 60 or "Long because" in doc, f"{node.name} has {lines} lines"
