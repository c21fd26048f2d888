"""Classifiers on frozen features: logistic regression, linear SVM, nearest neighbours, few-shot.

Each is given the features and classes of training videos and the features of test videos, and never a test class.
Every choice is made within the training part.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from seehear.errors import UsageError
from seehear.methods.several import classes_in, indicators_of
from seehear.metrics.classification import average_precision
from seehear.transfer.split import Split

FOLDS = 5
NEIGHBOURS = (1, 3, 5, 10, 20, 50)
"""Numbers of neighbours that `vote_of_neighbours` chooses from."""
LINEAR_STRENGTHS = (0.001, 0.01, 0.1, 1.0, 10.0)
"""Values of C that `logistic_regression` chooses from."""
SVM_STRENGTHS = (0.0001, 0.001, 0.01, 0.1, 1.0)
"""Values of C that `linear_svm` chooses from."""
FEW_SHOT_SVM_STRENGTH = 1.0


@dataclass(frozen=True)
class Answers:
    """What a protocol says of the test videos.

    `classes` maps each setting ("accuracy", "R@5", ...) to an array (S, N, A): S repetitions, N test videos, A
    answers each, of which one has to be right. `chosen` says what was chosen within the training part. A classifier
    that ranks the classes gives `scores` (S, N, C), larger for the likelier, of the `ranked` classes (C,).
    """

    classes: dict[str, np.ndarray]
    chosen: dict[str, Any] = field(default_factory=dict)
    scores: np.ndarray | None = None
    ranked: np.ndarray | None = None


Predictor = Callable[[np.ndarray, np.ndarray, np.ndarray], Answers]
"""Training features (M, D), their classes (M,) and test features (N, D) to answers."""


def answer(predictor: Predictor, features: Mapping[str, Mapping[str, np.ndarray]], split: Split) -> dict[str, Answers]:
    """Answers for video, audio and both. `features` are those of `video_features`."""
    return {
        modality: predictor(
            np.stack([feature[i] for i in split.train]), split.train_labels, np.stack([feature[i] for i in split.test])
        )
        for modality, feature in features.items()
    }


def logistic_regression(train: np.ndarray, labels: np.ndarray, test: np.ndarray) -> Answers:
    """Logistic regression on standardised features, its strength cross-validated within the training part.

    With a class of one video nothing can be left out, and C is 1.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    pipeline = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    folds = min(FOLDS, int(np.unique(labels, return_counts=True)[1].min()))
    if folds < 2:
        return _answers(pipeline.fit(train, labels), test, {"C": 1.0, "folds": 0})
    search = GridSearchCV(pipeline, {"logisticregression__C": list(LINEAR_STRENGTHS)}, cv=folds)
    search.fit(train, labels)
    return _answers(search, test, {"C": search.best_params_["logisticregression__C"], "folds": folds})


def logistic_of_several(separator: str) -> Predictor:
    """Logistic regression of each class by itself, for videos with several: labels are texts parted by `separator`.

    Features are standardised. One strength for all classes is chosen of `LINEAR_STRENGTHS` by the mean average
    precision in 5-fold cross-validation within the training part. The answer is the likeliest class; scores are
    probabilities.
    """

    def predict(train: np.ndarray, labels: np.ndarray, test: np.ndarray) -> Answers:
        names = sorted({name for text in labels for name in classes_in(text, separator)})
        truth = indicators_of(labels, names, separator)
        chosen, folds = 1.0, min(FOLDS, len(train) // 2)
        if folds >= 2:
            of_fold = np.random.default_rng(0).permutation(len(train)) % folds
            precision = {c: _held_out_precision(train, truth, of_fold, c) for c in LINEAR_STRENGTHS}
            chosen = max(LINEAR_STRENGTHS, key=lambda c: precision[c])
        scores = _logistic_scores(train, truth, test, chosen)
        ranked = np.array(names)
        likeliest = ranked[scores.argmax(axis=1)]
        picked = {"C": chosen, "folds": folds if folds >= 2 else 0}
        return Answers({"accuracy": likeliest[None, :, None]}, picked, scores[None], ranked)

    return predict


def _held_out_precision(x: np.ndarray, truth: np.ndarray, of_fold: np.ndarray, strength: float) -> float:
    """Mean average precision over the classes of rows that were held out in turn."""
    scores = np.zeros(truth.shape)
    for fold in range(int(of_fold.max()) + 1):
        out = of_fold == fold
        scores[out] = _logistic_scores(x[~out], truth[~out], x[out], strength)
    return float(average_precision(truth, scores).mean())


def _logistic_scores(train: np.ndarray, truth: np.ndarray, test: np.ndarray, strength: float) -> np.ndarray:
    """Probabilities (N, C) of rows (N, D) after learning from rows (M, D) with classes (M, C) bool.

    Minimises C sum(log loss) + |w|^2 / 2 for each class, which are independent, all at once; the bias is free.
    """
    import torch
    from torch.nn.functional import binary_cross_entropy_with_logits

    mean, std = train.mean(axis=0), train.std(axis=0)
    std = np.where(std > 0, std, 1.0)
    x, y = (torch.from_numpy(a) for a in ((train - mean).astype(np.float64) / std, truth.astype(np.float64)))
    weight = torch.zeros(y.shape[1], x.shape[1], dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(y.shape[1], dtype=torch.float64, requires_grad=True)
    solver = torch.optim.LBFGS(
        [weight, bias], max_iter=1000, tolerance_grad=1e-8, tolerance_change=1e-12, line_search_fn="strong_wolfe"
    )

    def cost() -> torch.Tensor:
        solver.zero_grad()
        loss = binary_cross_entropy_with_logits(x @ weight.T + bias, y, reduction="sum")
        total = (strength * loss + weight.square().sum() / 2) / (strength * len(x))
        total.backward()
        return total

    solver.step(cost)
    rows = torch.from_numpy((test - mean).astype(np.float64) / std)
    return (rows @ weight.detach().T + bias.detach()).sigmoid().numpy()


def linear_svm(train: np.ndarray, labels: np.ndarray, test: np.ndarray) -> Answers:
    """A linear SVM on standardised features; C of `SVM_STRENGTHS` cross-validated within the training part.

    Without two videos of two classes nothing can be left out, and C is 1.
    """
    from sklearn.model_selection import GridSearchCV

    folds = folds_of(labels)
    if folds < 2:
        return _answers(linear_svc(1.0).fit(train, labels), test, {"C": 1.0, "folds": 0})
    search = GridSearchCV(linear_svc(1.0), {"linearsvc__C": list(SVM_STRENGTHS)}, cv=folds)
    with rare_classes():
        search.fit(train, labels)
    return _answers(search, test, {"C": search.best_params_["linearsvc__C"], "folds": folds})


def vote_of_neighbours(train: np.ndarray, labels: np.ndarray, test: np.ndarray) -> Answers:
    """The commonest class of the k nearest training videos by cosine similarity.

    k is that of `NEIGHBOURS` with the best cross-validated accuracy within the training part, the smallest of
    equals; 1 unless two classes have two videos.
    """
    from sklearn.model_selection import GridSearchCV
    from sklearn.neighbors import KNeighborsClassifier

    folds, k = folds_of(labels), 1
    if folds >= 2:
        smallest = len(labels) - math.ceil(len(labels) / folds)
        grid = {"n_neighbors": [n for n in NEIGHBOURS if n <= smallest]}
        search = GridSearchCV(KNeighborsClassifier(metric="cosine"), grid, cv=folds)
        with rare_classes():
            k = int(search.fit(train, labels).best_params_["n_neighbors"])
    voters = KNeighborsClassifier(k, metric="cosine").fit(train, labels)
    return _answers(voters, test, {"k": k, "folds": folds if folds >= 2 else 0})


def _answers(classifier: Any, test: np.ndarray, chosen: dict[str, Any]) -> Answers:
    """What a fitted classifier of scikit-learn says of the rows (N, D), with its score for each class."""
    scores = class_scores(classifier, test)
    return Answers({"accuracy": classifier.predict(test)[None, :, None]}, chosen, scores[None], classifier.classes_)


def class_scores(classifier: Any, rows: np.ndarray) -> np.ndarray:
    """A fitted classifier's score of each class for rows (N, D), (N, C): probabilities, or distances to the margin."""
    if hasattr(classifier, "predict_proba"):
        return np.asarray(classifier.predict_proba(rows))
    margins = classifier.decision_function(rows)
    return margins if margins.ndim == 2 else np.stack([-margins, margins], axis=1)


@dataclass(frozen=True)
class FewShot:
    """n training videos of every class, drawn anew for each seed: 1-NN (cosine) and a linear SVM (C = 1).

    1-NN: Patrick et al., "On Compositions of Transformations" (GDT), appendix A.10; the SVM: its table 2. With
    a seed the videos of fewer shots are among those of more. A class with fewer videos gives all it has, which
    `chosen` counts.
    """

    shots: tuple[int, ...] = (1, 5, 20)
    seeds: int = 10

    def check(self) -> None:
        """Raise `UsageError` for what cannot be."""
        if not self.shots or min(self.shots) < 1 or self.seeds < 1:
            raise UsageError("few-shot learning needs one shot and one seed at least")

    def __call__(self, train: np.ndarray, labels: np.ndarray, test: np.ndarray) -> Answers:
        from sklearn.neighbors import KNeighborsClassifier

        self.check()
        found: dict[str, list[np.ndarray]] = {}
        for seed in range(self.seeds):
            orders = draw_orders(labels, seed)
            for n in self.shots:
                rows = np.concatenate([order[:n] for order in orders])
                x, y = train[rows], labels[rows]
                nearest = KNeighborsClassifier(1, metric="cosine").fit(x, y)
                found.setdefault(few_shot_setting("1-NN", n), []).append(nearest.predict(test))
                svm = linear_svc(FEW_SHOT_SVM_STRENGTH).fit(x, y)
                found.setdefault(few_shot_setting("SVM", n), []).append(svm.predict(test))
        sizes = np.unique(labels, return_counts=True)[1]
        fewer = {f"classes_below_{n}": int((sizes < n).sum()) for n in self.shots if (sizes < n).any()}
        names = sorted(found, key=lambda name: name.startswith("SVM"))  # stable: all of 1-NN first
        return Answers({name: np.stack(found[name])[:, :, None] for name in names}, fewer)


def few_shot_setting(classifier: str, shots: int) -> str:
    """The name of a setting of `FewShot`, such as "1-NN@5"."""
    return f"{classifier}@{shots}"


def draw_orders(labels: np.ndarray, seed: int) -> list[np.ndarray]:
    """For each class, sorted by name, its rows in random order."""
    rng = np.random.default_rng(seed)
    return [rng.permutation(np.flatnonzero(labels == c)) for c in np.unique(labels)]


def linear_svc(strength: float) -> Any:
    """A linear SVM on standardised features, not yet fitted."""
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import LinearSVC

    return make_pipeline(StandardScaler(), LinearSVC(C=strength, dual="auto", max_iter=10_000, random_state=0))


def folds_of(labels: np.ndarray) -> int:
    """Folds of cross-validation, so many that two classes at least are in every one; rarer ones need not be."""
    return min(FOLDS, int(np.sort(np.unique(labels, return_counts=True)[1])[-2]))


@contextmanager
def rare_classes() -> Iterator[None]:
    """No warning of scikit-learn that a class has fewer rows than there are folds."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The least populated class", category=UserWarning)
        yield
