"""A folder of good, bad and double videos, scanned."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import seehear
from tests.corpus import make_broken, make_video
from tests.joining.parted import small_blocks  # noqa: F401 - a fixture
from tests.search.conftest import selavi_run  # noqa: F401 - a fixture


@pytest.fixture(scope="session")
def mixed(collection: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder `videos` of the collection's 24, broken ones, a long one and copies; its manifest.parquet beside it."""
    root = tmp_path_factory.mktemp("mixed")
    videos = root / "videos"
    shutil.copytree(collection.parent / "clips", videos)
    make_broken(videos)
    make_video(videos / "long.mp4", seconds=9)
    names = sorted(p.name for p in (collection.parent / "clips").iterdir())
    shutil.copy(videos / names[3], videos / "a copy.mp4")
    shutil.copy(videos / names[3], videos / "zz copy.mp4")
    seehear.scan(videos, out=root / "manifest.parquet", workers=0)
    return root / "manifest.parquet"
