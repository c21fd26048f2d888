"""Rules for a number of clusters that others proposed, to compare ours with; each is (sight, sound) to k.

`sight` and `sound` are rows of unit length (N, D). Rules that know one set of features take both joined.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import torch
from scipy.cluster.hierarchy import linkage
from scipy.linalg import eigh
from sklearn.cluster import HDBSCAN
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import adjusted_mutual_info_score, silhouette_score
from sklearn.mixture import GaussianMixture
from sklearn.neighbors import kneighbors_graph

from seehear.cluster.doubt import doubts
from seehear.cluster.kinds import estimate_kinds, numbers_to_try
from seehear.cluster.kmeans import kmeans
from seehear.cluster.stability import estimate_k

Rule = Callable[[np.ndarray, np.ndarray], int]
MOST = 40


def joined(sight: np.ndarray, sound: np.ndarray) -> np.ndarray:
    """Both side by side, of unit length."""
    return np.concatenate([sight, sound], axis=1) / 2**0.5


def labels_of(x: np.ndarray, k: int, seed: int = 0, restarts: int = 3) -> np.ndarray:
    """k-means."""
    return kmeans(torch.from_numpy(x), k, restarts=restarts, seed=seed).labels.numpy()


def sight_and_sound(sight: np.ndarray, sound: np.ndarray) -> int:
    """Ours: `seehear.cluster.kinds`."""
    return estimate_kinds(torch.from_numpy(sight), torch.from_numpy(sound)).k or 1


def sure_clips(sight: np.ndarray, sound: np.ndarray) -> int:
    """The same without the clips of no kind, as `seehear label --clusters auto` has it."""
    keep = ~doubts(torch.from_numpy(sight), torch.from_numpy(sound)).outliers
    return sight_and_sound(sight[keep], sound[keep])


def agreement(sight: np.ndarray, sound: np.ndarray) -> int:
    """The number at which clusters by sight and by sound have the largest AMI, without a word on how much they say."""
    ks = _numbers(sight)
    return ks[int(np.argmax([adjusted_mutual_info_score(labels_of(sight, k), labels_of(sound, k)) for k in ks]))]


def silhouette(sight: np.ndarray, sound: np.ndarray) -> int:
    """The largest mean silhouette (Rousseeuw 1987)."""
    x = joined(sight, sound)
    ks = _numbers(x)
    return ks[int(np.argmax([silhouette_score(x, labels_of(x, k)) for k in ks]))]


def eigengap(sight: np.ndarray, sound: np.ndarray) -> int:
    """The largest gap among the smallest eigenvalues of the normalised Laplacian of ten nearest neighbours."""
    graph = kneighbors_graph(joined(sight, sound), 10, mode="connectivity").toarray()
    graph = np.maximum(graph, graph.T)
    degree = graph.sum(1)
    laplacian = np.eye(len(graph)) - graph / np.sqrt(np.outer(degree, degree))
    values = eigh(laplacian, eigvals_only=True, subset_by_index=[0, min(MOST, len(graph) - 1)])
    return int(np.argmax(np.diff(values)[1:])) + 2


def bic(sight: np.ndarray, sound: np.ndarray) -> int:
    """The smallest BIC of a Gaussian mixture with diagonal covariances, on ten principal components."""
    x = PCA(10, random_state=0).fit_transform(joined(sight, sound))
    ks = _numbers(x)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        fits = [GaussianMixture(k, covariance_type="diag", reg_covar=1e-5, random_state=0).fit(x) for k in ks]
    return ks[int(np.argmin([fit.bic(x) for fit in fits]))]


def hdbscan(sight: np.ndarray, sound: np.ndarray) -> int:
    """Clusters of HDBSCAN with at least five rows each (Campello, Moulavi and Sander 2013)."""
    return int(HDBSCAN(min_cluster_size=5, copy=True).fit(joined(sight, sound)).labels_.max()) + 1


def ward(sight: np.ndarray, sound: np.ndarray) -> int:
    """Where the cost of the next merge of Ward's tree rises most, as a ratio."""
    heights = linkage(joined(sight, sound), "ward")[::-1, 2][: MOST + 1]
    return int(np.argmax(heights[:-1] / heights[1:])) + 2 if len(heights) > 1 else 1


def stability(sight: np.ndarray, sound: np.ndarray) -> int:
    """`seehear cluster --choose-k`: k-means found again in other subsamples, against data without clusters."""
    x = torch.from_numpy(joined(sight, sound))
    return estimate_k(x, numbers_to_try(len(x), MOST), subsamples=5, references=19).k or 1


RULES: dict[str, Rule] = {
    "sight and sound": sight_and_sound,
    "and sure clips": sure_clips,
    "largest AMI": agreement,
    "silhouette": silhouette,
    "eigengap": eigengap,
    "BIC": bic,
    "HDBSCAN": hdbscan,
    "Ward's gap": ward,
}
SLOW_RULES: dict[str, Rule] = {"stability": stability}


def _numbers(x: np.ndarray) -> list[int]:
    return numbers_to_try(len(x), MOST)
