"""Labels by clustering heads (SeLaVi): those of one head, or of what all heads agree on."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping

import numpy as np
import torch
from torch import Tensor

from seehear.cluster.consensus import consensus
from seehear.models.heads import ClusterHeads

_BLOCK_ROWS = 8192
Adapt = Callable[[Tensor], Tensor]
"""Probabilities (N, K) to others."""


def exemplar_ranks(labels: np.ndarray, distances: np.ndarray, outliers: np.ndarray | None = None) -> np.ndarray:
    """1 for the row of the least distance in its cluster, 2 for the next; (N,) int32.

    Rows that `outliers` (N,) marks are no examples, however close: they come last in their clusters.
    """
    last = np.zeros(len(labels), dtype=bool) if outliers is None else outliers
    order = np.lexsort((distances, last, labels))
    ranks = np.empty(len(labels), dtype=np.int32)
    starts = np.searchsorted(labels[order], labels[order])
    ranks[order] = np.arange(len(labels)) - starts + 1
    return ranks


def log_p(heads: ClusterHeads, inputs: Mapping[str, Tensor], head: int) -> Tensor:
    """One head's log-probabilities (N, K), averaged over the inputs (Eq. 6); float32 on the CPU.

    A row of an input that is not a number is one that the clip lacks, and counts for nothing.
    """
    device = next(heads.parameters()).device
    rows = len(next(iter(inputs.values())))
    found = []
    with torch.inference_mode():
        for start in range(0, rows, _BLOCK_ROWS):
            part = {name: x[start : start + _BLOCK_ROWS].to(device) for name, x in inputs.items()}
            each = [heads.logits(source, x, head).log_softmax(1) for source, x in part.items()]
            found.append(torch.stack(each).nanmean(0).cpu())
    return torch.cat(found)


def head_rows(
    heads: ClusterHeads, inputs: Mapping[str, Tensor], head: int = 0, adapt: Adapt | None = None
) -> dict[str, np.ndarray]:
    """Cluster, distance, confidence and the labels of the other heads of every row (N, D) of the heads' inputs.

    The cluster is the largest entry of log P, averaged over the inputs (SeLaVi, Eq. 6). The distance is −log p of
    it, in nats, p being softmax of log P. The confidence is 1 − H(p)/log K: 1 if one cluster is certain, 0 if
    all are equally likely. Of `others` (N, H - 1) int32 `ranked` makes the agreement, which is 1 where there is no
    other head. `adapt` may change p.
    """
    p = log_p(heads, inputs, head).softmax(1)
    rows = posterior_rows(p if adapt is None else adapt(p))
    others = _labels(heads, inputs, [h for h in range(heads.count) if h != head])
    if not others:
        return rows | {"agreement": np.ones(len(p), dtype=np.float32)}
    return rows | {"others": np.stack(others, axis=1).astype(np.int32)}


def ranked(rows: Mapping[str, np.ndarray], outliers: np.ndarray | None = None) -> dict[str, np.ndarray]:
    """What is said of labels among all rows: exemplar rank, and of a head the agreement, in the place of `others`.

    `outliers` are those of `exemplar_ranks`.

    The agreement is the share of the other heads that give the row to the cluster which most of that cluster's rows,
    among these, have by this head.
    """
    found = {name: x for name, x in rows.items() if name not in ("others", "agreement")}
    found["rank"] = exemplar_ranks(rows["cluster"], rows["distance"], outliers)
    if "agreement" in rows:
        found["agreement"] = rows["agreement"]
    if "others" in rows:
        chosen = rows["cluster"]
        most = max(int(chosen.max(initial=0)), int(rows["others"].max(initial=0))) + 1
        agreeing = []
        for other in rows["others"].T:
            counts = np.zeros((most, most), dtype=np.int64)
            np.add.at(counts, (other, chosen), 1)
            agreeing.append(counts.argmax(1)[other] == chosen)
        found["agreement"] = np.mean(agreeing, axis=0).astype(np.float32)
    return found


def consensus_names(heads: ClusterHeads, inputs: Mapping[str, Tensor]) -> np.ndarray:
    """What each cluster of each head is called in the consensus of all heads on these rows, (H, K) int64.

    See `seehear.cluster.consensus`. A cluster of a head in which no row falls gets a name that is left over.
    """
    found = consensus(np.stack(_labels(heads, inputs, range(heads.count)), axis=1), heads.clusters)
    names = np.empty((heads.count, heads.clusters), dtype=np.int64)
    for head, of in enumerate(found.relabelled):
        left = iter([name for name in range(heads.clusters) if name not in of.values()])
        names[head] = [of[k] if k in of else next(left) for k in range(heads.clusters)]
    return names


def consensus_rows(
    heads: ClusterHeads, inputs: Mapping[str, Tensor], names: np.ndarray, adapt: Adapt | None = None
) -> dict[str, np.ndarray]:
    """What `head_rows` gives, of all heads together: p is the mean over heads, their clusters named by `names` (H, K).

    The agreement is the share of heads whose own cluster has the name of the row's. `adapt` may change p.
    """
    p = torch.zeros(len(next(iter(inputs.values()))), heads.clusters)
    named = []
    for head in range(heads.count):
        of_head = log_p(heads, inputs, head)
        p.index_add_(1, torch.from_numpy(names[head]), of_head.softmax(1) / heads.count)
        named.append(names[head][of_head.argmax(1).numpy()])
    rows = posterior_rows(p if adapt is None else adapt(p))
    return rows | {"agreement": (np.stack(named) == rows["cluster"]).mean(0).astype(np.float32)}


def posterior_rows(p: Tensor) -> dict[str, np.ndarray]:
    """Labels of rows of probabilities (N, K).

    Cluster (the most probable), distance (−log p of it, in nats) and confidence (1 − H(p)/log K).
    """
    entropy = -torch.xlogy(p, p).sum(1)
    confidence = (1 - entropy / max(math.log(p.shape[1]), 1e-12)).clamp(0, 1).numpy()
    most, chosen = p.max(1)
    cluster, distance = chosen.numpy().astype(np.int32), -most.clamp_min(1e-38).log().numpy()
    return {"cluster": cluster, "distance": distance, "confidence": confidence}


def _labels(heads: ClusterHeads, inputs: Mapping[str, Tensor], of: Iterable[int]) -> list[np.ndarray]:
    """The cluster of every row by some of the heads, each (N,) int64."""
    return [log_p(heads, inputs, head).argmax(1).numpy() for head in of]
