"""Linear classifiers of windows of sound: a recording is classified by the mean of its windows' scores.

Patrick et al., "On Compositions of Transformations" (GDT), appendix A.10: a linear layer on frozen maps, for ESC-50
and DCASE2014. Alwassel et al. (XDC), section 6, after Korbar et al. (2018): a linear SVM on conv_5 features, for
DCASE2014.

Both are handed what every predictor is: training features, training classes, test features. Here a recording's
features are those of its windows (see `window_features`): arrays (N, W, D), with rows of NaN where a window is
missing. Features (N, D) count as one window each.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from seehear.transfer.classifiers import SVM_STRENGTHS, Answers, class_scores, folds_of, linear_svc, rare_classes

VALIDATION_SHARE = 0.1


def windows_of(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """All windows that there are, (R, D) float32, and the recording that each is of, (R,); from (N, W, D) or (N, D)."""
    x = x[:, None] if x.ndim == 2 else x
    there = ~np.isnan(x).any(axis=2)
    return x[there].astype(np.float32), np.nonzero(there)[0]


def mean_of_windows(scores: np.ndarray, recording: np.ndarray, count: int) -> np.ndarray:
    """The mean of the windows' scores (R, C) for each of `count` recordings, (count, C); zeros without any window."""
    sums = np.zeros((count, scores.shape[1]))
    np.add.at(sums, recording, scores)
    return sums / np.maximum(np.bincount(recording, minlength=count), 1)[:, None]


@dataclass(frozen=True)
class AudioLinear:
    """A linear layer on windows, trained by Adam with cross-entropy; softmax scores of the windows are averaged.

    Learning rate, weight decay and batch size are GDT's (appendix A.10). How long it trains is not said there: here
    as many steps as were best for a tenth of the training recordings, held out for that alone; then the layer is
    trained anew, on all of them. With a class of one recording nothing can be held out, and it trains `unheld_steps`.
    The layer starts from zeros, which needs no seed: the objective is convex.
    """

    learning_rate: float = 1e-4
    weight_decay: float = 5e-4
    batch_size: int = 512
    check_steps: int = 50
    """The held-out loss is looked at every so many steps."""
    patience: int = 10
    """So many looks without a better one end the search."""
    max_steps: int = 3000
    unheld_steps: int = 1000

    def __call__(self, train: np.ndarray, labels: np.ndarray, test: np.ndarray) -> Answers:
        names, codes = np.unique(labels, return_inverse=True)
        x, recording = windows_of(train)
        held = _held_out(codes)
        steps = self.unheld_steps if held is None else self._best_steps(x, recording, codes, held)
        layer = _Layer(x.shape[1], len(names), self)
        layer.train(x, codes[recording], steps)
        rows, of = windows_of(test)
        scores = mean_of_windows(layer.probabilities(rows), of, len(test))
        chosen = {"steps": steps, "held_out": 0 if held is None else int(held.sum())}
        return Answers({"accuracy": names[scores.argmax(axis=1)][None, :, None]}, chosen, scores[None], names)

    def _best_steps(self, x: np.ndarray, recording: np.ndarray, codes: np.ndarray, held: np.ndarray) -> int:
        """Steps after which the loss of the recordings `held` (N,) is least."""
        outside, inside = held[recording], ~held[recording]
        layer = _Layer(x.shape[1], int(codes.max()) + 1, self)
        best, best_loss, looks = self.check_steps, float("inf"), 0
        for steps in range(self.check_steps, self.max_steps + 1, self.check_steps):
            layer.train(x[inside], codes[recording[inside]], self.check_steps)
            loss = layer.loss(x[outside], codes[recording[outside]])
            looks += 1
            if loss < best_loss:
                best, best_loss, looks = steps, loss, 0
            if looks >= self.patience:
                break
        return best


class _Layer:
    """A linear layer (D to C) with its optimiser; going on training takes up where it stopped."""

    def __init__(self, dimensions: int, classes: int, settings: AudioLinear) -> None:
        self.weight = torch.zeros(classes, dimensions, requires_grad=True)
        self.bias = torch.zeros(classes, requires_grad=True)
        self.optimiser = torch.optim.Adam(
            [self.weight, self.bias], lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=True
        )
        self.batch_size = settings.batch_size
        self.rng = np.random.default_rng(0)
        self.order = np.empty(0, dtype=np.int64)

    def train(self, x: np.ndarray, codes: np.ndarray, steps: int) -> None:
        """So many steps on batches of the rows (R, D), in passes over random orders of them."""
        rows, targets = torch.from_numpy(x), torch.from_numpy(codes)
        for _ in range(steps):
            if not len(self.order):
                self.order = self.rng.permutation(len(rows))
            batch, self.order = torch.from_numpy(self.order[: self.batch_size]), self.order[self.batch_size :]
            loss = F.cross_entropy(self._logits(rows[batch]), targets[batch])
            self.optimiser.zero_grad()
            loss.backward()
            self.optimiser.step()

    @torch.no_grad()
    def loss(self, x: np.ndarray, codes: np.ndarray) -> float:
        return float(F.cross_entropy(self._logits(torch.from_numpy(x)), torch.from_numpy(codes)))

    @torch.no_grad()
    def probabilities(self, x: np.ndarray) -> np.ndarray:
        return self._logits(torch.from_numpy(x)).softmax(1).double().numpy()

    def _logits(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight, self.bias)


def _held_out(codes: np.ndarray) -> np.ndarray | None:
    """A tenth of the recordings, (N,) bool, one or more of every class; None if a class has but one."""
    counts = np.bincount(codes)
    if counts.min() < 2:
        return None
    rng, held = np.random.default_rng(0), np.zeros(len(codes), dtype=bool)
    for c, count in enumerate(counts):
        held[rng.permutation(np.flatnonzero(codes == c))[: max(1, round(VALIDATION_SHARE * count))]] = True
    return held


def svm_of_windows(train: np.ndarray, labels: np.ndarray, test: np.ndarray) -> Answers:
    """A linear SVM on standardised features of windows; a recording's scores are the mean of its windows' margins.

    C is that of `SVM_STRENGTHS` with the best cross-validated share of recordings within the training part, the
    smallest of equals; the windows of a recording stay together. Without two recordings of two classes C is 1.
    """
    from sklearn.model_selection import StratifiedKFold

    folds, strength = folds_of(labels), 1.0
    if folds >= 2:
        right = np.zeros(len(SVM_STRENGTHS))
        with rare_classes():
            parts = list(StratifiedKFold(folds).split(labels, labels))
        for fit, asked in parts:
            for i, c in enumerate(SVM_STRENGTHS):
                scores, names = _svm_scores(train[fit], labels[fit], train[asked], c)
                right[i] += (names[scores.argmax(axis=1)] == labels[asked]).sum()
        strength = SVM_STRENGTHS[int(right.argmax())]
    scores, names = _svm_scores(train, labels, test, strength)
    chosen = {"C": strength, "folds": folds if folds >= 2 else 0}
    return Answers({"accuracy": names[scores.argmax(axis=1)][None, :, None]}, chosen, scores[None], names)


def _svm_scores(
    train: np.ndarray, labels: np.ndarray, test: np.ndarray, strength: float
) -> tuple[np.ndarray, np.ndarray]:
    """Mean margins (N, C) of the test recordings' windows, and the classes (C,)."""
    x, recording = windows_of(train)
    svm = linear_svc(strength).fit(x, labels[recording])
    rows, of = windows_of(test)
    return mean_of_windows(class_scores(svm, rows), of, len(test)), svm.classes_
