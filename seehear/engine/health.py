"""Signs of collapse. They watch and report in plain words; they never change the run."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from sklearn.metrics import normalized_mutual_info_score

from seehear.types import Assignment, Labelling


def effective_rank(features: np.ndarray, limit: int = 4096) -> float:
    """Exponential of the entropy of the singular values, 1 to D (RankMe, Garrido et al. 2023, eq. 1).

    `features` has shape (N, D); at most `limit` evenly spread rows are used.
    """
    rows = features[np.unique(np.linspace(0, len(features) - 1, min(limit, len(features))).astype(int))]
    singular = torch.linalg.svdvals(torch.from_numpy(np.asarray(rows, dtype=np.float64)))
    p = (singular / singular.sum().clamp_min(1e-300)).clamp_min(1e-12)
    return float(torch.exp(-(p * p.log()).sum()))


def size_entropy(sizes: np.ndarray) -> float:
    """Entropy of the distribution of clips over clusters, in nats; log(k) when all are equally large."""
    p = sizes[sizes > 0] / sizes.sum()
    return float(-(p * np.log(p)).sum())


def labelling_health(labelling: Labelling, now: Assignment, before: Assignment | None, name: str) -> dict[str, Any]:
    """What is logged of one clustering; its churn is the NMI with the labels of the same clips a round ago."""
    sizes = np.bincount(now.labels[name], minlength=labelling.k)
    churn = None
    if before is not None and name in before.labels:
        common = [c for c in now.clip_ids if c in before]
        churn = float(normalized_mutual_info_score(before.of(name, common), now.of(name, common)))
    return {
        "k": labelling.k,
        "sizes": sizes.tolist(),
        "entropy": size_entropy(sizes),
        "empty": int((sizes == 0).sum()),
        "reseeded": labelling.reseeded,
        "objective": labelling.objective,
        "churn_nmi": churn,
    }


def collapse_warnings(name: str, health: dict[str, Any]) -> list[str]:
    """Plain words for a clustering that has lost its clusters."""
    sizes, k = np.array(health["sizes"]), health["k"]
    total = int(sizes.sum())
    warnings = []
    if k > 1 and sizes.max() > 0.5 * total and total >= 2 * k:
        warnings.append(
            f"collapse: one {name} cluster holds {sizes.max() / total:.0%} of all clips. "
            "Try cluster.uniform_sampling=true, fewer clusters or a lower learning rate."
        )
    if k > 1 and np.exp(health["entropy"]) < 0.25 * min(k, total):
        warnings.append(
            f"collapse: the {k} {name} clusters are as uneven as {np.exp(health['entropy']):.1f} equal ones would be."
        )
    return warnings


def rank_warnings(name: str, rank: float, dim: int) -> list[str]:
    """Plain words for features that have lost their dimensions."""
    if rank < min(3.0, dim / 2):
        return [
            f"collapse: the {name} features span {rank:.1f} of {dim} dimensions: the encoder gives nearly the "
            "same answer for every clip. Try a lower learning rate."
        ]
    return []
