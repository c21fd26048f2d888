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
    from seehear.app import explore, serve
    from seehear.collection import (
        Collection,
        export_collection,
        list_clusters,
        list_edits,
        merge_clusters,
        move_segments,
        name_cluster,
        propagate_names,
        redo_edit,
        reject_segments,
        restore_segments,
        sample_collection,
        split_cluster,
        undo_edit,
    )
    from seehear.comparing import compare
    from seehear.config import Config
    from seehear.data import scan
    from seehear.doctor import examine
    from seehear.encoders import fetch_encoder, list_encoders, show_encoder
    from seehear.hypotheses import list_hypotheses, search_hypotheses, show_hypotheses
    from seehear.joining import join_parts
    from seehear.labelling import choose_k, cluster_features, embed, label, label_features
    from seehear.localization import detect, localize
    from seehear.methods import list_methods
    from seehear.preparing import prepare
    from seehear.pretraining import load, pretrain
    from seehear.profiling import profile
    from seehear.recipes import show_recipes
    from seehear.search import build_index, find_duplicates
    from seehear.studies import study
    from seehear.transfer import (
        evaluate,
        evaluate_audio_linear,
        evaluate_clustering,
        evaluate_few_shot,
        evaluate_finetune,
        evaluate_knn,
        evaluate_linear,
        evaluate_retrieval,
        evaluate_svm,
        evaluate_table,
        finetune,
        predict,
    )
    from seehear.weights import export_weights, import_weights, show_weights

_HOMES = {
    "seehear.data": ("scan",),
    "seehear.preparing": ("prepare",),
    "seehear.pretraining": (
        "load",
        "pretrain",
    ),
    "seehear.labelling": (
        "choose_k",
        "cluster_features",
        "embed",
        "label",
        "label_features",
    ),
    "seehear.collection": (
        "Collection",
        "export_collection",
        "list_clusters",
        "list_edits",
        "merge_clusters",
        "move_segments",
        "name_cluster",
        "propagate_names",
        "redo_edit",
        "reject_segments",
        "restore_segments",
        "sample_collection",
        "split_cluster",
        "undo_edit",
    ),
    "seehear.transfer": (
        "evaluate",
        "evaluate_audio_linear",
        "evaluate_clustering",
        "evaluate_few_shot",
        "evaluate_finetune",
        "evaluate_knn",
        "evaluate_linear",
        "evaluate_retrieval",
        "evaluate_svm",
        "evaluate_table",
        "finetune",
        "predict",
    ),
    "seehear.comparing": ("compare",),
    "seehear.localization": (
        "detect",
        "localize",
    ),
    "seehear.studies": ("study",),
    "seehear.weights": (
        "export_weights",
        "import_weights",
        "show_weights",
    ),
    "seehear.encoders": (
        "fetch_encoder",
        "list_encoders",
        "show_encoder",
    ),
    "seehear.hypotheses": (
        "list_hypotheses",
        "search_hypotheses",
        "show_hypotheses",
    ),
    "seehear.joining": ("join_parts",),
    "seehear.methods": ("list_methods",),
    "seehear.recipes": ("show_recipes",),
    "seehear.profiling": ("profile",),
    "seehear.doctor": ("examine",),
    "seehear.config": ("Config",),
    "seehear.report": ("report",),
    "seehear.app": (
        "explore",
        "serve",
    ),
    "seehear.search": (
        "build_index",
        "find_duplicates",
        "search",
    ),
}
"""Where the public names live. A room is imported when one of its names is asked for."""
_PLACES = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "Collection",
    "Config",
    "__version__",
    "build_index",
    "choose_k",
    "cluster_features",
    "compare",
    "detect",
    "embed",
    "evaluate",
    "evaluate_audio_linear",
    "evaluate_clustering",
    "evaluate_few_shot",
    "evaluate_finetune",
    "evaluate_knn",
    "evaluate_linear",
    "evaluate_retrieval",
    "evaluate_svm",
    "evaluate_table",
    "examine",
    "explore",
    "export_collection",
    "export_weights",
    "fetch_encoder",
    "find_duplicates",
    "finetune",
    "import_weights",
    "join_parts",
    "label",
    "label_features",
    "list_clusters",
    "list_edits",
    "list_encoders",
    "list_hypotheses",
    "list_methods",
    "load",
    "localize",
    "merge_clusters",
    "move_segments",
    "name_cluster",
    "predict",
    "prepare",
    "pretrain",
    "profile",
    "propagate_names",
    "redo_edit",
    "reject_segments",
    "report",
    "restore_segments",
    "sample_collection",
    "scan",
    "search",
    "search_hypotheses",
    "serve",
    "show_encoder",
    "show_hypotheses",
    "show_recipes",
    "show_weights",
    "split_cluster",
    "study",
    "undo_edit",
]


def __getattr__(name: str) -> Any:
    if name in _PLACES:
        return getattr(importlib.import_module(_PLACES[name]), name)
    raise AttributeError(f"module 'seehear' has no attribute {name!r}")
