"""seehear: learn from unlabelled videos that have sound, and put what was learnt to work.

    import seehear

    seehear.scan("videos/")                                    # which files can be used, and why not the others
    seehear.pretrain("videos/", out="runs/a", method="xdc")    # learn
    model = seehear.load("runs/a")
    model.embed("more_videos/")                                # features of both modalities
    seehear.label("runs/a", "more_videos/", modality="both")   # clusters, confidence, exemplars
    seehear.evaluate("runs/a", labels="truth.csv")             # clusters against known classes
    seehear.finetune("runs/a", "table.csv", "runs/b")          # learn given classes
    seehear.predict("runs/b", "more_videos/")                  # and name them
    seehear.report("runs/a")                                   # runs/a/report.html

Importing this package imports no torch; the functions do when they are called.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from seehear.api import (
        choose_k,
        cluster_features,
        detect,
        evaluate,
        export_weights,
        finetune,
        import_weights,
        label,
        load,
        localize,
        predict,
        pretrain,
        report,
        scan,
        show_weights,
    )
    from seehear.config import Config

_PLACES = {
    "scan": "seehear.api",
    "pretrain": "seehear.api",
    "load": "seehear.api",
    "label": "seehear.api",
    "cluster_features": "seehear.api",
    "choose_k": "seehear.api",
    "evaluate": "seehear.api",
    "finetune": "seehear.api",
    "predict": "seehear.api",
    "localize": "seehear.api",
    "detect": "seehear.api",
    "report": "seehear.api",
    "show_weights": "seehear.api",
    "import_weights": "seehear.api",
    "export_weights": "seehear.api",
    "Config": "seehear.config",
}

__all__ = [
    "Config",
    "__version__",
    "choose_k",
    "cluster_features",
    "detect",
    "evaluate",
    "export_weights",
    "finetune",
    "import_weights",
    "label",
    "load",
    "localize",
    "predict",
    "pretrain",
    "report",
    "scan",
    "show_weights",
]


def __getattr__(name: str) -> Any:
    if name in _PLACES:
        return getattr(importlib.import_module(_PLACES[name]), name)
    raise AttributeError(f"module 'seehear' has no attribute {name!r}")
