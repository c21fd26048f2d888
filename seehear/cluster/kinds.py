"""How many kinds are there? An estimate from what sight and sound agree on, without labels.

A kind is something that is seen as well as heard. So the rows of each modality are clustered by themselves, with the
same number of clusters, and the two labellings are compared. Up to the number of kinds each further cluster tells kinds
apart that both modalities tell apart, and raises what the labellings share. Beyond it the clusters cut kinds in pieces,
by what only one modality knows: a cut through the voices of dogs is not a cut through their pictures.

Of two labellings a and b of n rows, with mutual information I, the mean H of their entropies, and E the expectation of
I if the rows of b were shuffled (all in nats), let

    shared = I − E        of        all = H − E.

Their ratio is the adjusted mutual information (AMI). It alone would favour two clusters that agree perfectly over nine
that agree nearly so, since every further kind brings errors too. What is looked for is the k with the largest

    score(k) = shared(k) − w · A · all(k)        with A, the largest AMI of any k, and w = 2/3:

a further cluster is worth it if of the information that it adds at least w · A is shared. Equally well, it is the AMI
in excess of w · A, times the information. Measured against A the same rule holds for encoders that agree well and for
those that agree badly. All is done on several random subsets of the rows, which tell what is certain.

Information counts a kind by its rows, so that rare ones hardly raise it. What else the number could be is therefore
asked of a second measure too, to which all kinds are alike. Of each two clusters, one by each modality, that are each
other's most similar, take the share of rows that they have in common (their Jaccard index). Let matched(k) be the sum
of these shares, and B the largest matched(k) / k of any k. Then

    matched(k) − v · B · k        with v = 0.6

is what should be largest. The range is of numbers that one or the other measure cannot tell from its best.

Nothing is assumed of the sizes of kinds or the form of clusters beyond what k-means wants. What both modalities know of
clips beyond their kind (a level of a game that sounds as it looks) is a kind to this rule.

References: N. Vinh, J. Epps, J. Bailey, "Information theoretic measures for clusterings comparison: variants,
properties, normalization and correction for chance" (2010), for the AMI; agreement of two views as a criterion of their
clusters: S. Becker, G. Hinton, "Self-organizing neural network that discovers surfaces in random-dot stereograms"
(1992); the rule above and its weight are ours.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from sklearn.metrics import mutual_info_score
from sklearn.metrics.cluster import contingency_matrix, expected_mutual_information
from torch import Tensor

from seehear.cluster.kmeans import kmeans
from seehear.errors import DataError

WEIGHT = 2 / 3
"""Of the best agreement: how much of what a further cluster tells must be shared. Chosen on collections for
development, docs/research/labels.md; from 0.6 to 0.8 next to nothing changes."""
LEVEL = 0.01
"""How often rows that share nothing may be said to have kinds."""
_ERRORS = 1.5
"""Subsets of four fifths of the rows have much in common: collections of other clips differ more. With this factor on
their standard deviation the range held the true number in 19 of 20 collections for development."""
_WEIGHT_MATCHED = 0.6
"""v: what a further cluster must add to the second measure."""
_SHUFFLES = 99
_ROWS_A_CLUSTER = 3
"""A subset has at least so many rows for each cluster that is asked about. With four, twelve kinds of five clips each
were beyond what was compared."""
_FEWEST_ROWS = 16


@dataclass(frozen=True)
class Shared:
    """One number of clusters; means over the subsets."""

    k: int
    shared: float
    """Nats that both labellings share, beyond chance."""
    all: float
    """Nats that a labelling holds on average, beyond what chance would share."""
    agreement: float
    """Adjusted mutual information: 0 is chance, 1 is equality."""
    score: float
    """What is to be largest, in nats."""
    behind: float
    """By how much the score is below the best."""
    behind_by_chance: float
    """What it may be by chance: 1.5 standard deviations of `behind` over the subsets."""
    matched: float | None = None
    """How many clusters of one modality are the other's too, in parts; None where it was not kept."""


@dataclass(frozen=True)
class Kinds:
    """The number of kinds, with what it could be as well."""

    k: int | None
    """None: sight and sound share no more than shuffled rows would."""
    low: int | None
    """The smallest number of clusters that cannot be told from the best, by the score or by what is matched."""
    high: int | None
    """The largest of them; see `more`."""
    p_value: float
    """Share of data sets (shuffled ones and this one) that agree as well at any number."""
    table: tuple[Shared, ...]
    rows: int
    """Rows used."""
    subsets: int

    @property
    def more(self) -> bool:
        """Whether it may be more than any number that was compared: there are too few rows to tell."""
        return self.high is not None and self.high == self.table[-1].k

    def as_dict(self) -> dict[str, Any]:
        """The fields by name, and `more`, for JSON."""
        return asdict(self) | {"more": self.more}

    def as_text(self) -> str:
        """The verdict in one sentence."""
        if self.k is None:
            return (
                f"no number of kinds: sight and sound share no more than they would by chance (p = {self.p_value:.2f})"
            )
        best = next(s for s in self.table if s.k == self.k)
        could = range_text(self.low, self.high, self.more)
        number = f"{self.k} kinds ({could})" if could else f"{self.k} kinds"
        return f"{number}: there sight and sound agree by {best.agreement:.2f} of 1"


def range_text(low: int | None, high: int | None, more: bool) -> str:
    """What a number may be as well, in words; nothing if it can be no other."""
    if low == high:
        return "it may be more" if more else ""
    return f"it may be {low} to {high}{', or more' if more else ''}"


def shared_information(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    """`shared` and `all` of two labellings (n,), in nats: I − E and (H(a) + H(b))/2 − E. Their ratio is the AMI."""
    table = contingency_matrix(a, b)
    chance = float(expected_mutual_information(table, len(a)))
    information = float(mutual_info_score(None, None, contingency=table))
    return information - chance, (_entropy(table.sum(1)) + _entropy(table.sum(0))) / 2 - chance


def matched_clusters(a: np.ndarray, b: np.ndarray) -> float:
    """The Jaccard indices of all pairs of clusters of a and b (n,) that are each other's most similar, summed.

    From 0 to the number of clusters, which it is if both labellings are one.
    """
    common = contingency_matrix(a, b)
    similar = common / (common.sum(1, keepdims=True) + common.sum(0, keepdims=True) - common)
    to_b, to_a = similar.argmax(1), similar.argmax(0)
    rows = np.flatnonzero(to_a[to_b] == np.arange(len(to_b)))
    return float(similar[rows, to_b[rows]].sum())


def numbers_to_try(rows: int, most: int = 100) -> list[int]:
    """Numbers of clusters from 2 up to `most`, or as many as the rows allow: all to 16, then a tenth more each."""
    last, found = min(most, int(0.8 * rows) // _ROWS_A_CLUSTER), [2]
    while (following := max(found[-1] + 1, round(found[-1] * 1.1))) <= last:
        found.append(following)
    return found


@dataclass(frozen=True)
class Measured:
    """What clusters by two modalities share at each of several numbers, in several subsets of the rows."""

    ks: tuple[int, ...]
    numbers: np.ndarray
    """(ks, subsets, 2) float64: `shared` and `all`."""
    p_value: float
    rows: int
    matched: np.ndarray | None = None
    """(ks, subsets) float64: what `matched_clusters` says; None where it was not kept."""


def measure_kinds(
    first: Tensor,
    second: Tensor,
    ks: Sequence[int] | None = None,
    *,
    weight: float = WEIGHT,
    subsets: int = 8,
    share: float = 0.8,
    most_rows: int = 1000,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Measured:
    """Measure what clusters by the features of two modalities share, at every number of them that is compared.

    Args:
        first, second: rows (N, D₁) and (N, D₂) of the same clips, float32 on the CPU, prepared as they will be
            clustered (scaled to length 1).
        ks: numbers of clusters to compare, at least 2; by default those of `numbers_to_try`, up to 40 and on to
            twice the best of those before.
        weight: w, 0 to 1.
        subsets: random subsets of the rows, each clustered anew.
        share: of the rows, in each subset.
        most_rows: of more rows so many are drawn at random first.
        seed: of every draw.

    Complexity:
        2 · subsets · len(ks) runs of k-means on at most share · most_rows rows.

    Raises:
        DataError: too few rows, rows that are not finite, or modalities that do not have as many.
        ValueError: settings out of range.
    """
    if not 0 < weight < 1 or subsets < 2 or not 0.5 <= share < 1:
        raise ValueError(
            f"weight={weight}, subsets={subsets} and share={share} must be in (0, 1), from 2 and in [.5, 1)"
        )
    x = [first, second]
    _check(x)
    random = np.random.default_rng(seed)
    if len(first) > most_rows:
        chosen = torch.from_numpy(np.sort(random.choice(len(first), most_rows, replace=False)))
        x = [each[chosen] for each in x]
    rows = len(x[0])
    size = int(share * rows)
    wanted = sorted(set(ks)) if ks is not None else numbers_to_try(rows)
    if not wanted or wanted[0] < 2 or wanted[-1] > size:
        raise DataError(
            f"{rows} rows cannot be asked about {wanted[-1] if wanted else 2} kinds", "compare fewer, or give more rows"
        )
    chosen_rows = [np.sort(random.choice(rows, size, replace=False)) for _ in range(subsets)]
    numbers: list[np.ndarray] = []
    matched: list[list[float]] = []
    pairs: list[tuple[np.ndarray, np.ndarray]] = []
    for at, k in enumerate(wanted):
        labels = [_labelled(x, chosen, k, random) for chosen in chosen_rows]
        pairs.append(labels[0])
        numbers.append(np.array([shared_information(*pair) for pair in labels]))
        matched.append([matched_clusters(*pair) for pair in labels])
        if progress:
            progress(at + 1, len(wanted))
        best = wanted[int(_scores(np.stack(numbers), weight).mean(1).argmax())]
        if ks is None and k >= max(40, 2 * best):
            break
    return Measured(tuple(wanted[: len(numbers)]), np.stack(numbers), _p_value(pairs, random), rows, np.array(matched))


def estimate_kinds(
    first: Tensor, second: Tensor, ks: Sequence[int] | None = None, *, weight: float = WEIGHT, **options: Any
) -> Kinds:
    """Estimate the number of kinds from the features of two modalities.

    Arguments, complexity and errors are those of `measure_kinds`, by whose measurement alone it is decided.
    """
    return verdict([measure_kinds(first, second, ks, weight=weight, **options)], weight)


def verdict(measured: Sequence[Measured], weight: float = WEIGHT) -> Kinds:
    """The number of kinds that several measurements of one collection point to together.

    Each stands for as much as any other, subset for subset, at the numbers that all of them have tried first; those in
    which nothing is shared stand for nothing, unless all are such. Rows, p-value and what is matched, the second
    measure of the range, are those of the last one.
    """
    telling = [m for m in measured if m.p_value <= LEVEL + 1e-9] or list(measured)
    count = min(len(m.ks) for m in telling)
    ks = telling[-1].ks[:count]
    numbers = np.concatenate([m.numbers[:count] for m in telling], axis=1)
    scores = _scores(numbers, weight)
    means, subsets = scores.mean(1), scores.shape[1]
    best = int(means.argmax())
    behind, errors = _behind(scores)
    last, good = telling[-1], behind <= errors
    matched: list[float | None] = [None] * count
    if last.matched is not None:
        good |= np.less_equal(*_behind(_matched_scores(last.matched[:count], ks)))
        matched = last.matched[:count].mean(1).tolist()
    like = np.array(ks)[good]
    shared, everything = numbers.mean(1).T
    agreement = _agreement(shared, everything)
    columns = (v.tolist() for v in (shared, everything, agreement, means, behind, errors))
    table = tuple(Shared(*row) for row in zip(ks, *columns, matched, strict=True))
    if last.p_value > LEVEL + 1e-9:
        return Kinds(None, None, None, last.p_value, table, last.rows, subsets)
    return Kinds(ks[best], int(like.min()), int(like.max()), last.p_value, table, last.rows, subsets)


def _check(x: Sequence[Tensor]) -> None:
    if len(x[0]) != len(x[1]):
        raise DataError(
            f"{len(x[0])} rows of one modality and {len(x[1])} of the other", "both need a row for every clip"
        )
    if len(x[0]) < _FEWEST_ROWS:
        raise DataError(f"{len(x[0])} rows are too few to say how many kinds there are", "choose a number")
    if not all(bool(each.isfinite().all()) for each in x):
        raise DataError("rows to cluster are not finite", "leave out the rows with NaN or infinity")


def _labelled(
    x: Sequence[Tensor], chosen: np.ndarray, k: int, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    rows = torch.from_numpy(chosen)
    one, two = (kmeans(each[rows], k, restarts=2, seed=int(random.integers(2**31))).labels.numpy() for each in x)
    return one, two


def _scores(numbers: np.ndarray, weight: float) -> np.ndarray:
    """Scores (ks, subsets) of `shared` and `all` (ks, subsets, 2)."""
    shared, everything = numbers.mean(1).T
    return numbers[..., 0] - weight * _agreement(shared, everything).max() * numbers[..., 1]


def _matched_scores(matched: np.ndarray, ks: Sequence[int]) -> np.ndarray:
    """The same by the second measure, of `matched` (ks, subsets)."""
    clusters = np.array(ks)[:, None]
    return matched - _WEIGHT_MATCHED * (matched.mean(1, keepdims=True) / clusters).max() * clusters


def _behind(scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """By how much scores (ks, subsets) are below those of the best, and what that may be by chance; both (ks,)."""
    behind = scores[scores.mean(1).argmax()] - scores
    return behind.mean(1), _ERRORS * behind.std(1, ddof=1)


def _agreement(shared: np.ndarray, everything: np.ndarray) -> np.ndarray:
    return shared / np.maximum(everything, 1e-12)


def _p_value(pairs: Sequence[tuple[np.ndarray, np.ndarray]], random: np.random.Generator) -> float:
    """Share of data sets that agree as well at any k: shuffled ones, and the one at hand.

    `pairs` are the two labellings of the same rows at each k. One shuffle serves all k, so that looking at many of them
    makes nothing certain.
    """

    def agreement(a: np.ndarray, b: np.ndarray, chance: float, most: float) -> float:
        return (_information(a, b) - chance) / max(most, 1e-12)

    known = []
    for a, b in pairs:
        # Neither chance nor what all holds depends on how the rows are paired.
        shared, everything = shared_information(a, b)
        known.append((a, b, _information(a, b) - shared, everything))
    found = max(agreement(*of_k) for of_k in known)
    reach = 1
    for _ in range(_SHUFFLES):
        order = random.permutation(len(pairs[0][0]))
        reach += max(agreement(a, b[order], chance, most) for a, b, chance, most in known) >= found
    return reach / (_SHUFFLES + 1)


def _information(a: np.ndarray, b: np.ndarray) -> float:
    """Mutual information of two labellings by small integers, in nats; many times faster than the library's."""
    width = int(b.max()) + 1
    joint = np.bincount(a * width + b, minlength=(int(a.max()) + 1) * width).reshape(-1, width)
    return _entropy(joint.sum(1)) + _entropy(joint.sum(0)) - _entropy(joint.ravel())


def _entropy(counts: np.ndarray) -> float:
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log(shares)).sum())
