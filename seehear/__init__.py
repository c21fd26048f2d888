"""seehear: learn from unlabelled videos that have sound, and put what was learnt to work.

    import seehear

    seehear.scan("videos/")                                    # which files can be used, and why not the others
    seehear.pretrain("videos/", out="runs/a", method="xdc")    # learn
    model = seehear.load("runs/a")
    model.embed("more_videos/")                                # features of both modalities
    seehear.label("runs/a", "more_videos/", modality="both")   # clusters, confidence, exemplars
    seehear.evaluate("runs/a", labels="truth.csv")             # clusters against known classes
    seehear.report("runs/a")                                   # runs/a/report.html

Importing this package imports no torch; the functions do when they are called.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from seehear.api import choose_k, cluster_features, evaluate, label, load, pretrain, report, scan
    from seehear.config import Config

_PLACES = {
    "scan": "seehear.api",
    "pretrain": "seehear.api",
    "load": "seehear.api",
    "label": "seehear.api",
    "cluster_features": "seehear.api",
    "choose_k": "seehear.api",
    "evaluate": "seehear.api",
    "report": "seehear.api",
    "Config": "seehear.config",
}

__all__ = [
    "Config",
    "__version__",
    "choose_k",
    "cluster_features",
    "evaluate",
    "label",
    "load",
    "pretrain",
    "report",
    "scan",
]


def __getattr__(name: str) -> Any:
    if name in _PLACES:
        return getattr(importlib.import_module(_PLACES[name]), name)
    raise AttributeError(f"module 'seehear' has no attribute {name!r}")
