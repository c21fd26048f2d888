"""Signs of collapse. They watch and report in plain words; they never change the run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from scipy.sparse import csr_array
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


def mean_pairwise_nmi(labellings: Sequence[np.ndarray]) -> float:
    """Mean over all pairs of labellings (N,) of the mutual information over the mean of the two entropies."""
    clips = len(labellings[0])
    sizes = [int(labels.max()) + 1 for labels in labellings]
    starts = np.concatenate([[0], np.cumsum(sizes)])
    # A row of ones at a clip's clusters: the product with itself counts every pair of clusters at once.
    columns = np.stack([labels + start for labels, start in zip(labellings, starts[:-1], strict=True)], 1)
    ones = csr_array(
        (np.ones(columns.size), columns.ravel(), np.arange(clips + 1) * len(labellings)), shape=(clips, int(starts[-1]))
    )
    p = (ones.T @ ones / clips).tocoo()
    marginal = np.asarray(ones.sum(0)).ravel() / clips
    of = np.repeat(np.arange(len(labellings)), sizes)
    entropies = -np.bincount(of, marginal * np.log(np.where(marginal > 0, marginal, 1)), minlength=len(labellings))
    terms = p.data * np.log(p.data / (marginal[p.row] * marginal[p.col]))
    information = np.zeros((len(labellings),) * 2)
    np.add.at(information, (of[p.row], of[p.col]), terms)
    a, b = np.triu_indices(len(labellings), 1)
    mean = (entropies[a] + entropies[b]) / 2
    return float(np.where(mean > 0, information[a, b] / np.where(mean > 0, mean, 1), 1.0).mean())


def labelling_health(labelling: Labelling, now: Assignment, before: Assignment | None, name: str) -> dict[str, Any]:
    """What is logged of one clustering; its churn is the NMI with the labels of the same clips a round ago."""
    sizes = np.bincount(now.labels[name], minlength=labelling.k)
    churn = None
    if before is not None and name in before.labels:
        rows = before.rows(now.clip_ids)
        there = rows >= 0
        churn = float(normalized_mutual_info_score(before.labels[name][rows[there]], now.labels[name][there]))
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


def round_health(
    labellings: Mapping[str, Labelling],
    now: Assignment,
    before: Assignment | None,
    features: Mapping[str, np.ndarray],
) -> tuple[dict[str, Any], list[str], str]:
    """Health of new clusters and of the features (N, D), by encoder, that they were made from.

    Returns what is logged of them, warnings, and the clusterings in a line.
    """
    values: dict[str, Any] = {}
    warnings = []
    watched = {name: labelling for name, labelling in labellings.items() if labelling.watched}
    for name, labelling in watched.items():
        health = labelling_health(labelling, now, before, name)
        values[f"clusters/{name}"] = {**health, **labelling.facts}
        warnings += collapse_warnings(name, health)
    if len(watched) < len(labellings):
        values["nmi_between_heads"] = mean_pairwise_nmi(list(now.labels.values()))
    for name, rows in features.items():
        if not len(rows):  # a process may have no clip
            continue
        rank = effective_rank(rows)
        values[f"effective_rank/{name}"] = rank
        warnings += rank_warnings(name, rank, rows.shape[1])
    return values, warnings, "; ".join(f"{name}: {_size_words(values[f'clusters/{name}'])}" for name in watched)


def _size_words(health: Mapping[str, Any]) -> str:
    """A clustering in a line: its number of clusters, the range of their sizes, what has changed."""
    sizes, churn = health["sizes"], health["churn_nmi"]
    same = "" if churn is None else f", NMI {churn:.2f} with the round before"
    return f"{health['k']} clusters of {min(sizes)} to {max(sizes)} clips{same}"
