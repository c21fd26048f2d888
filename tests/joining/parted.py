"""What the tests of parts share: small blocks, and the commands that one process and parts are compared by."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import seehear

SMALL = "import seehear.features.blocks as b; b.LEAST_BATCHES = 1"
"""Python that makes blocks so small that the collection has several: of 8 clips."""


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks as `SMALL` makes them, and of 5 videos of an index."""
    monkeypatch.setattr("seehear.features.blocks.LEAST_BATCHES", 1)
    monkeypatch.setattr("seehear.search.embedding.PART_VIDEOS", 5)


def work(kind: str, run: Path, manifest: Path, out: Path, **options: Any) -> Any:
    """Do what a command does, over the videos of a manifest; `scan` over the folder of the manifest."""
    options = {"workers": 0, **options}
    if kind == "scan":
        return seehear.scan(manifest.parent / "videos", out=out, **options)
    if kind == "embed":
        return seehear.embed(run, manifest, out=out, every_seconds=0.5, **options)
    if kind == "label":
        return seehear.label(run, manifest, out=out, every_seconds=1.0, **options)
    if kind == "prepare":
        return seehear.prepare(manifest, out=out, short_side=36, audio_rate=8000, fps=7.5, **options)
    return seehear.build_index(run, manifest, every_seconds=0.5, **options)
