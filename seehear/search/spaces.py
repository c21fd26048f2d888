"""From features to the rows that are compared: by sight, by sound, and in the space that both share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from seehear.features.model import Model
from seehear.modalities import MODALITIES
from seehear.search.across import (
    LEAST_PAIRS,
    Across,
    Correlations,
    JointSpace,
    Posteriors,
    choose_correlations,
    choose_posteriors,
)
from seehear.search.nearest import unit

STREAMS = ("video", "audio")
_BLOCK_ROWS = 65_536


def encoders_of(modalities: Mapping[str, str]) -> dict[str, str]:
    """The encoder that each stream is searched by: that of its own name, or the first that sees something of it."""
    found: dict[str, str] = {}
    for stream in STREAMS:
        names = [name for name, modality in modalities.items() if MODALITIES[modality].stream == stream]
        if names:
            found[stream] = stream if stream in names else names[0]
    return found


@dataclass(frozen=True)
class Spaces:
    """What features of either stream become."""

    encoders: dict[str, str]
    """The encoder of each stream that there is."""
    centres: dict[str, np.ndarray]
    """By stream the mean (D,) of the collection's unit features, which is taken off first."""
    across: Across | None

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """What was measured and fitted, to be kept with the index."""
        fitted = {} if self.across is None else {f"across.{n}": a for n, a in self.across.arrays.items()}
        return {f"centre.{stream}": centre for stream, centre in self.centres.items()} | fitted

    def rows(self, stream: str, features: np.ndarray) -> np.ndarray:
        """Features (N, D) to unit rows of the space of that stream; zeros where a feature is not a number."""
        return by_blocks(lambda x: unit(unit(x) - self.centres[stream]), features)

    def across_rows(self, stream: str, features: np.ndarray) -> np.ndarray:
        """Features (N, D) to unit rows of the joint space; zeros where a feature is not a number."""
        assert self.across is not None
        across = self.across
        return by_blocks(lambda x: across.rows(stream, x), features)


def by_blocks(make, features: np.ndarray) -> np.ndarray:  # type: ignore[no-untyped-def]
    """Rows made of features block by block, zeros for rows that are not finite."""
    made: np.ndarray | None = None
    for start in range(0, len(features), _BLOCK_ROWS):
        block = np.asarray(features[start : start + _BLOCK_ROWS], dtype=np.float32)
        there = np.isfinite(block).all(axis=1)
        if there.any():
            rows = make(block[there])
            if made is None:
                made = np.zeros((len(features), rows.shape[1]), dtype=np.float32)
            made[start : start + len(block)][there] = rows
    return np.zeros((len(features), 1), dtype=np.float32) if made is None else made


def fit_spaces(
    features: Mapping[str, np.ndarray],
    encoders: dict[str, str],
    model: Model | None,
    pairs: tuple[np.ndarray, np.ndarray, Sequence[str]] | None,
) -> Spaces:
    """The spaces of a collection with these features.

    `model` is the one whose encoders made them, None where it was another. `pairs` are features of sight (N, D) and
    sound (N, E) of the same moments, and their videos' ids: what a map between the two is fitted on.
    """
    centres = {}
    for stream, name in encoders.items():
        x = features[name]
        there = np.flatnonzero(np.isfinite(x).all(axis=1))
        some = there[np.unique(np.linspace(0, max(len(there) - 1, 0), min(len(there), 100_000)).astype(int))]
        centres[stream] = unit(np.asarray(x[some])).mean(0) if len(some) else np.zeros(x.shape[1], dtype=np.float32)
    return Spaces(encoders, centres, _across(encoders, model, pairs))


def _across(
    encoders: dict[str, str],
    model: Model | None,
    pairs: tuple[np.ndarray, np.ndarray, Sequence[str]] | None,
) -> Across | None:
    if len(encoders) < 2:
        return None
    if model is not None and all(name in model.projections for name in encoders.values()):
        return JointSpace(model, encoders)
    if pairs is None or len(pairs[0]) < LEAST_PAIRS:
        return None
    if model is not None and model.heads is not None and set(STREAMS) <= set(model.heads.sources):
        return choose_posteriors(model, pairs[0], pairs[1])
    return choose_correlations(*pairs)


def restore_spaces(
    encoders: dict[str, str], arrays: Mapping[str, np.ndarray], across: str | None, model: Model | None
) -> Spaces:
    """The spaces of an index as they were fitted; `across` is `across_kind` of them.

    Without the model (None), its joint space or its heads are not there: `across` of the result is then None.
    """
    centres = {stream: np.asarray(arrays[f"centre.{stream}"]) for stream in encoders}
    fitted = {n.removeprefix("across."): np.asarray(a) for n, a in arrays.items() if n.startswith("across.")}
    made: Across | None = None
    if across == "correlations":
        made = Correlations(fitted)
    elif across == "joint" and model is not None:
        made = JointSpace(model, encoders)
    elif across in ("sqrt", "log") and model is not None:
        made = Posteriors(model, across, fitted)
    return Spaces(encoders, centres, made)


def across_kind(across: Across | None) -> str | None:
    """By what name the kind of a joint space is kept."""
    if isinstance(across, Posteriors):
        return across.kind
    if isinstance(across, JointSpace):
        return "joint"
    return None if across is None else "correlations"
