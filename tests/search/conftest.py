"""Tiny runs of the methods that compare sight with sound in their own ways."""

from __future__ import annotations

from pathlib import Path

import pytest

import seehear
from tests.conftest import TINY_SETTINGS


@pytest.fixture(scope="session")
def gdt_run(collection: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished GDT run on the collection."""
    out = tmp_path_factory.mktemp("runs") / "gdt"
    seehear.pretrain(collection, out, method="gdt", settings=TINY_SETTINGS, quiet=True)
    return out


@pytest.fixture(scope="session")
def selavi_run(collection: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished SeLaVi run of three heads on the collection."""
    out = tmp_path_factory.mktemp("runs") / "selavi"
    settings = [*TINY_SETTINGS, "rounds=1", "cluster.k=4", "selavi.heads=3", "selavi.clusterings=3", "optim.epochs=2"]
    seehear.pretrain(collection, out, method="selavi", settings=settings, quiet=True)
    return out


@pytest.fixture(params=["finished_run", "gdt_run", "selavi_run"])
def any_run(request: pytest.FixtureRequest) -> Path:
    """A finished run of each of the three methods."""
    found: Path = request.getfixturevalue(request.param)
    return found
