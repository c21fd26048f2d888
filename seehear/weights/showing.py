"""What a file of weights, a model folder or a run holds."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from seehear.engine.runfolder import RunFolder, open_run
from seehear.features.model import Model
from seehear.weights.description import describe
from seehear.weights.reading import read_weights


def show_weights(
    path: str | Path, *, audio_weights: str | Path | None = None, ignore: Sequence[str] = ()
) -> dict[str, Any]:
    """What a file of weights, a run or a model folder holds, as plain values: see `Weights` and `describe`.

    Raises as `read_weights` does.
    """
    folder = RunFolder(Path(path))
    if folder.imported:
        return json.loads(folder.provenance.read_text()) | {**describe(Model.load(path))}
    if folder.config.exists():
        open_run(path)
    return read_weights(path, audio_weights=audio_weights, ignore=ignore).as_dict()


def provenance(folder: RunFolder) -> dict[str, Any]:
    """What `import_weights` noted of where the weights are from; {} for a run's own."""
    return json.loads(folder.provenance.read_text()) if folder.imported else {}
