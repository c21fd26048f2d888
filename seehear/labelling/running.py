"""How common each cluster is, followed while videos arrive, and labels that take it into account.

A head's probabilities hold what was common when it learnt. Where other kinds come in later, Bayes' rule says how
they change (M. Saerens, P. Latinne, C. Decaestecker, "Adjusting the outputs of a classifier to new a priori
probabilities", 2002): p'(k|x) is proportional to p(k|x) π'(k) / π(k), and the new shares π' are the mean of p', found
by expectation maximisation. Here the shares so far count as much as the run's own clips did, so that a handful of
videos does not upset them, and shares that last are found after some calls.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from seehear.errors import DataError, UsageError
from seehear.files import write_result

_TOLERANCE = 1e-9
_ITERATIONS = 1000
_SMALLEST_SHARE = 1e-6
"""No cluster is ever ruled out."""


@dataclass
class RunningMarginals:
    """Shares of the clusters, each (K,) of sum 1: `trained` among the run's own clips, `shares` of late.

    `weight` is how many clips the shares so far count as. `of` says whose they are (weights, modality, head).
    """

    trained: Tensor
    shares: Tensor
    weight: float
    of: str

    @classmethod
    def begin(cls, p: Tensor, of: str) -> RunningMarginals:
        """From the probabilities (N, K) of the run's own clips."""
        shares = p.double().mean(0)
        return cls(shares, shares, float(len(p)), of)

    def update(self, p: Tensor) -> Tensor:
        """Probabilities (N, K) of new clips as the shares change them, and the shares as these clips change them."""
        p = p.double()
        before, trained = self.shares, self.trained.clamp_min(_SMALLEST_SHARE)
        for _ in range(_ITERATIONS):
            adapted = p * (self.shares.clamp_min(_SMALLEST_SHARE) / trained)
            adapted /= adapted.sum(1, keepdim=True)
            shares = (self.weight * before + adapted.sum(0)) / (self.weight + len(p))
            change = float((shares - self.shares).abs().max())
            self.shares = shares
            if change < _TOLERANCE:
                break
        return adapted.float()

    def save(self, path: Path) -> None:
        """Write as JSON, whole or not at all."""
        values = {
            "format": "seehear-running-marginals",
            "of": self.of,
            "trained": self.trained.tolist(),
            "shares": self.shares.tolist(),
            "weight": self.weight,
        }
        write_result(path, json.dumps(values, indent=1))

    @classmethod
    def load(cls, path: Path, of: str) -> RunningMarginals:
        """Read what `save` wrote. `DataError` if it is none, `UsageError` if it is of something else than `of`."""
        try:
            values = json.loads(path.read_text())
            trained, shares = (torch.tensor(values[name], dtype=torch.float64) for name in ("trained", "shares"))
            sound = values["format"] == "seehear-running-marginals" and trained.shape == shares.shape
            weight = float(values["weight"])
            whole = all(bool((x >= 0).all()) and abs(float(x.sum()) - 1) < 1e-6 for x in (trained, shares))
            if not (sound and whole and weight > 0):
                raise ValueError("its numbers are no shares of clusters")
        except (ValueError, KeyError, TypeError) as error:
            remedy = "name a file that is not there yet"
            raise DataError(f"{path} holds no running marginals: {error}", remedy) from error
        if values["of"] != of:
            raise UsageError(
                f"the marginals in {path} are of {values['of']}, not of {of}", "take a file of their own for each"
            )
        return cls(trained, shares, weight, of)
