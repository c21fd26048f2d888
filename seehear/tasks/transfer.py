"""Frozen features put to the test: extraction and cache, the split, classifiers, and scores with intervals.

Whatever answers for the test videos is given their features and never their classes: those are read by
`known_classes` when all answers are there, and only to count the right ones.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seehear import config as configuration
from seehear.data.clips import centred_requests, clip_refs, plain_requests
from seehear.data.loader import ClipLoader, Failures
from seehear.data.manifest import Manifest
from seehear.errors import DataError, UsageError
from seehear.features.bank import FeatureBank, mean_by_video
from seehear.features.extract import evaluation, extract
from seehear.features.model import LABELLING_OF, Model, usable_videos, weights_sha256
from seehear.files import write_atomic
from seehear.tasks import metrics
from seehear.tasks.pretrain import media_cache, workers_of
from seehear.types import ClipRef

Pooling = Literal["mean", "max", "map"]
POOLINGS: tuple[Pooling, ...] = ("mean", "max", "map")
TRAIN, TEST = "train", "test"

FOLDS = 5
NEIGHBOURS = (1, 3, 5, 10, 20, 50)
"""Numbers of neighbours that `vote_of_neighbours` chooses from."""
LINEAR_STRENGTHS = (0.001, 0.01, 0.1, 1.0, 10.0)
"""Values of C that `logistic_regression` chooses from."""
SVM_STRENGTHS = (0.0001, 0.001, 0.01, 0.1, 1.0)
"""Values of C that `linear_svm` chooses from."""
FEW_SHOT_SVM_STRENGTH = 1.0

_CACHE_VERSION = 1
# A stop of this kind may not come again: what was extracted without these videos is not kept.
_TRANSIENT = frozenset({"timeout", "crashed", "permission", "missing", "unreadable", "changed"})


# ---------------------------------------------------------------- features


@dataclass(frozen=True)
class Sampling:
    """Which clips of a video are embedded, and how the encoder's last map becomes a feature."""

    clips: int = 10
    """Equal parts that a video is cut into."""
    averaged: int = 1
    """Evenly spaced clips of every part, averaged."""
    max_span_seconds: float = math.inf
    """Parts longer than this are cut further."""
    pooling: Pooling = "mean"
    """`mean` is the encoder's own feature; `max` is the maximum of its last map over time and space; `map` is the
    last map of a spectrogram itself, pooled lightly over time (see `PooledMap`)."""
    centred: bool = False
    """Frames and sound both lie around the middle of their part (of which there is one clip), instead of starting
    together. For a dense grid: each video is decoded once, if it fits the media cache."""

    def check(self) -> None:
        """Raise `UsageError` for what cannot be."""
        if self.clips < 1:
            raise UsageError(f"a video has at least one clip, not {self.clips}")
        if self.pooling not in POOLINGS:
            raise UsageError(f"there is no pooling {self.pooling!r}", f"choose one of {', '.join(POOLINGS)}")


@dataclass(frozen=True)
class Extracted:
    """Features of every clip, the reports of videos that failed, and whether they come from the cache."""

    bank: FeatureBank
    failures: list[dict[str, Any]] = field(default_factory=list)
    reused: bool = False


class MaxPooled(nn.Module):
    """An encoder whose feature is the maximum of its last map over all places: (B, ...) to (B, D)."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.feature_dim = encoder.feature_dim
        self.train(encoder.training)

    def forward(self, x: Tensor) -> Tensor:
        maps: Tensor = self.encoder.feature_map(x)  # type: ignore[operator]
        return maps.flatten(2).amax(dim=2)


class PooledMap(nn.Module):
    """An audio encoder whose feature is its last map, max-pooled over time by 3 in steps of 2 and flattened.

    (B, 1, mel_bins, frames) to (B, D * Q' * P''); GDT, appendix A.10: a kernel of (1, 3), a stride of (1, 2), no
    padding. A map of fewer than 3 places in time is pooled to one.
    """

    def __init__(self, encoder: nn.Module, mel_bins: int, frames: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.train(encoder.training)
        device = next(encoder.parameters()).device
        with evaluation({"": self}):
            self.feature_dim = self(torch.zeros(1, 1, mel_bins, frames, device=device)).shape[1]

    def forward(self, x: Tensor) -> Tensor:
        maps: Tensor = self.encoder.feature_map(x)  # type: ignore[operator]
        return F.max_pool2d(maps, (1, min(3, maps.shape[3])), stride=(1, 2)).flatten(1)


def clip_features(
    model: Model,
    manifest: Manifest,
    sampling: Sampling,
    *,
    cache: Path | None = None,
    device: str | torch.device = "cpu",
    progress: Callable[[int, int], None] | None = None,
) -> Extracted:
    """Features of the clips of every usable video, from the folder `cache` if they are there.

    An entry's name is a hash of the weights, the preprocessing, the videos' contents and ids, the sampling and
    the kind of device; an entry that is damaged is made anew. Where the folder cannot be written, nothing is
    kept. Raises `DataError` if no clip can be decoded or a feature is not finite.
    """
    sampling.check()
    key = features_key(model, manifest, sampling, torch.device(device).type)
    path = None if cache is None else cache / f"{key}.npz"
    found = None if path is None else _load_features(path, key)
    if found is not None:
        return found
    videos = usable_videos(manifest, tuple(dict.fromkeys(model.modalities.values())))
    spans = replace(model.config.cluster, clips_per_video=sampling.clips, max_span_seconds=sampling.max_span_seconds)
    failures = Failures()
    encoders = {name: encoder.to(device) for name, encoder in model.encoders.items()}
    if sampling.pooling == "max":
        encoders = {name: MaxPooled(encoder) for name, encoder in encoders.items()}
    elif sampling.pooling == "map":
        shape = model.config.spectrogram.mel_bins, model.config.spectrogram.frames
        encoders = {name: PooledMap(encoder, *shape) for name, encoder in encoders.items()}
    with ClipLoader(
        videos, model.config, model.modalities, model.statistics, workers=workers_of(model.config),
        cache=media_cache(model.config), failures=failures,
    ) as loader:  # fmt: skip
        refs = clip_refs(videos, spans)
        if sampling.centred:
            loader.fill_cache()  # the clips of a dense grid overlap
            requests = centred_requests(refs, loader.videos, model.config.clip)
        else:
            requests = plain_requests(refs, loader.videos, model.config.clip, sampling.averaged)
        bank = extract(
            encoders, loader, requests, device=torch.device(device), batch_size=model.config.optim.batch_size,
            progress=progress,
        )  # fmt: skip
    if not len(bank):
        raise DataError("not one clip could be decoded")
    if not all(np.isfinite(x).all() for x in bank.features.values()):
        raise DataError("the encoders give features that are not finite", "was the run's training sound?")
    extracted = Extracted(bank, failures.reports)
    if path is not None and not any(report["reason"] in _TRANSIENT for report in failures.reports):
        _save_features(path, key, extracted)
    return extracted


def features_key(model: Model, manifest: Manifest, sampling: Sampling, device_type: str = "cpu") -> str:
    """The name of what these weights make of these videos: hexadecimal, as long as half a SHA-256.

    Classes and splits have no part in it.
    """
    config = model.config
    preprocessing = [configuration.to_dict(config)[part] for part in ("clip", "spectrogram")]
    parts = {
        "version": _CACHE_VERSION,
        "weights": weights_sha256(model.encoders),
        "modalities": model.modalities,
        "preprocessing": [*preprocessing, model.statistics.to_dict()],
        "videos": manifest.fingerprint(),
        "sampling": asdict(sampling),
        "device": device_type,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


def _save_features(path: Path, key: str, extracted: Extracted) -> None:
    bank = extracted.bank
    arrays: dict[str, Any] = {
        "key": np.array(key),
        "failures": np.array(json.dumps(extracted.failures)),
        "clip_id": np.array(bank.clip_ids),
        "video_id": np.array([r.video_id for r in bank.refs]),
        "seconds": np.array([(r.start_seconds, r.end_seconds) for r in bank.refs]),
    }
    arrays |= {f"feature.{name}": x for name, x in bank.features.items()}
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    try:
        path.parent.mkdir(exist_ok=True)
        write_atomic(path, buffer.getvalue())
    except OSError:
        return  # a run on a read-only or full disk can be scored all the same


def _load_features(path: Path, key: str) -> Extracted | None:
    """What `_save_features` wrote (a zip file, so every array has a checksum), or None."""
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        clips = (arrays["clip_id"].tolist(), arrays["video_id"].tolist(), arrays["seconds"].tolist())
        refs = [ClipRef(c, v, start, end) for c, v, (start, end) in zip(*clips, strict=True)]
        features = {n.removeprefix("feature."): x for n, x in arrays.items() if n.startswith("feature.")}
        if str(arrays["key"]) != key or not features or any(len(x) != len(refs) for x in features.values()):
            return None
        failures = json.loads(str(arrays["failures"]))
    except (OSError, ValueError, KeyError, EOFError, NotImplementedError, zipfile.BadZipFile, zlib.error):
        return None
    return Extracted(FeatureBank(refs, features, np.ones(len(refs), dtype=bool)), failures, reused=True)


def video_features(bank: FeatureBank) -> dict[str, dict[str, np.ndarray]]:
    """For video, audio and both the mean feature (D,) of each video over its clips, by video id.

    For `both` the two features of a clip are scaled to unit length and joined, as `FeatureBank.joined` does.
    """
    found: dict[str, dict[str, np.ndarray]] = {}
    for modality, labelling in LABELLING_OF.items():
        if not all(n in bank.features for n in labelling.split("+")):
            continue
        found[modality] = mean_by_video([r.video_id for r in bank.refs], bank.joined(labelling))
    return found


def window_features(bank: FeatureBank) -> dict[str, dict[str, np.ndarray]]:
    """For each encoder the features (W, D) of all clips of each video, by video id; rows of NaN where one is missing.

    W is the same for every video.
    """
    rows: dict[str, list[int]] = {}
    for row, ref in enumerate(bank.refs):
        rows.setdefault(ref.video_id, []).append(row)
    most = max(map(len, rows.values()))
    return {
        name: {
            video_id: np.pad(np.asarray(x[of]), ((0, most - len(of)), (0, 0)), constant_values=np.nan)
            for video_id, of in rows.items()
        }
        for name, x in bank.features.items()
    }


# ---------------------------------------------------------------- the split


@dataclass(frozen=True)
class Split:
    """What may be known before scoring: the training videos with their classes, the test videos without.

    `train` maps ids to classes. `missing` counts, for "train" and "test", the videos that are left out:
    `unusable` (rejected by the scan), `undecodable` (failed later) and `unlabelled` (for "test" known at
    scoring only).
    """

    train: dict[str, str]
    test: list[str]
    missing: dict[str, dict[str, int]]
    other: int
    """Usable videos of neither split."""

    @property
    def train_labels(self) -> np.ndarray:
        return np.array(list(self.train.values()))


def make_split(
    manifest: Manifest,
    label_column: str = "label",
    split_column: str = "split",
    decoded: Iterable[str] | None = None,
) -> Split:
    """Sort the videos by the table's split column ("train", "test"); classes are read of the training rows alone.

    `decoded` are the ids of the videos that have features; without it, of all usable ones. Raises `UsageError`
    if a column is missing and `DataError` if a part is empty or the training part has but one class.
    """
    for column in (split_column, label_column):
        if column not in manifest.extra_columns:
            names = ", ".join(manifest.extra_columns) or "no other"
            raise UsageError(f"the table has no column {column!r}", f"besides path it has: {names}")
    splits, usable = manifest.by_id(split_column), manifest.by_id("usable")
    there = {i for i, u in usable.items() if u} if decoded is None else set(decoded)
    missing = {
        part: {
            "unusable": sum(s == part and not usable[i] for i, s in splits.items()),
            "undecodable": sum(s == part and usable[i] and i not in there for i, s in splits.items()),
            "unlabelled": 0,
        }
        for part in (TRAIN, TEST)
    }
    classes = {i: c for i, c in classes_of(manifest, label_column, split_column, TRAIN).items() if i in there}
    train = {i: classes[i] for i in sorted(classes) if classes[i]}
    test = sorted(i for i in there if splits[i] == TEST)
    missing[TRAIN]["unlabelled"] = len(classes) - len(train)
    if not train or not test:
        raise _no_videos(TEST if train else TRAIN, missing, split_column)
    if len(set(train.values())) < 2:
        raise DataError(f"all training videos have the same {label_column}", "a classifier needs two classes or more")
    return Split(train, test, missing, other=sum(usable[i] and s not in (TRAIN, TEST) for i, s in splits.items()))


def _no_videos(part: str, missing: Mapping[str, Mapping[str, int]], split_column: str) -> DataError:
    """Why a part is empty: the table has no such rows, or none that can be used."""
    left_out = ", ".join(f"{count} {why}" for why, count in missing[part].items() if count)
    if not left_out:
        return DataError(f"no videos with {split_column} {TRAIN} and {TEST}", "add such a column, or name it")
    return DataError(
        f"not one video with {split_column} {part} can be used: {left_out}",
        "`seehear scan` tells what is wrong with each file; --modality video or audio asks for less",
    )


def classes_of(manifest: Manifest, label_column: str, split_column: str, part: str) -> dict[str, str]:
    """The classes of the rows of one part alone, by video id; "" for none."""
    rows = manifest.where(f"{split_column}={part}")
    return {i: c or "" for i, c in rows.by_id(label_column).items()}


# ---------------------------------------------------------------- answers and scores


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


@dataclass(frozen=True)
class Score:
    """A share of right answers with a 95 % interval over test videos, and its deviation over repetitions."""

    value: float
    low: float
    high: float
    sd: float | None = None

    def as_dict(self) -> dict[str, float]:
        return {name: value for name, value in asdict(self).items() if value is not None}


def score(answers: Answers, truth: np.ndarray) -> dict[str, Score]:
    """The share of test videos with a right answer, for each setting; and how well the classes are ranked.

    `truth` (N,) are the true classes; videos without one ("") do not count. With several repetitions the
    value is their mean and `sd` their sample deviation. Of answers with scores there are also "top-5" (of more than
    five classes) and the metrics of `seehear.tasks.metrics.ranking`. Raises `DataError` if no test video has a class.
    """
    known = truth != ""
    if not known.any():
        raise DataError("no test video has a class", "fill in the column of classes")
    found = {}
    for setting, classes in answers.classes.items():
        correct = (classes[:, known] == truth[known][None, :, None]).any(axis=2)
        found[setting] = score_of(correct)
    if answers.scores is not None and answers.ranked is not None:
        found |= _ranking_scores(answers.scores[:, known], metrics.indicators(truth[known], answers.ranked))
    return found


def _ranking_scores(scores: np.ndarray, truth: np.ndarray) -> dict[str, Score]:
    """Scores by the ranking (S, N, C) of classes; `truth` (N, C) says which each video has."""
    found = {}
    if truth.shape[1] > metrics.TOP_K:
        hits = np.stack([metrics.top_k_hits(truth, of, metrics.TOP_K) for of in scores])
        found[f"top-{metrics.TOP_K}"] = score_of(hits)
    runs = [metrics.ranking(truth, of) for of in scores]
    for name in metrics.RANKING:
        if all(name in run for run in runs):
            values = np.array([[run[name][end] for end in ("value", "low", "high")] for run in runs])
            value, low, high = values.mean(axis=0).tolist()
            found[name] = Score(value, low, high, float(values[:, 0].std(ddof=1)) if len(runs) > 1 else None)
    return found


def ranking_chance(train_labels: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """What one who sees no test video scores by "top-5" (the five commonest training classes) and by rankings."""
    known = truth[truth != ""]
    classes, counts = np.unique(train_labels, return_counts=True)
    commonest = classes[np.argsort(-counts, kind="stable")[: metrics.TOP_K]]
    shares = metrics.indicators(known, classes).mean(axis=0)
    shares = shares[(shares > 0) & (shares < 1)]
    return {
        f"top-{metrics.TOP_K}": float(np.isin(known, commonest).mean()),
        "mAP": float(shares.mean()) if len(shares) else 0.0,
        "AUC": 0.5,
        "d'": 0.0,
    }


def score_of(correct: np.ndarray) -> Score:
    """The score of (S, N) right or wrong (or shares in between): S repetitions, N test videos."""
    runs = correct.mean(axis=1)
    low, high = bootstrap(correct.mean(axis=0))
    return Score(float(runs.mean()), low, high, float(runs.std(ddof=1)) if len(runs) > 1 else None)


def bootstrap(values: np.ndarray, draws: int = 1000, level: float = 0.95, seed: int = 0) -> tuple[float, float]:
    """Percentile interval of the mean of `values` (N,), its rows drawn anew with replacement (Efron, 1979)."""
    rng = np.random.default_rng(seed)
    means = [values[rng.integers(len(values), size=len(values))].mean() for _ in range(draws)]
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def chance_accuracy(train_labels: np.ndarray, truth: np.ndarray, uniform: bool = False) -> float:
    """The accuracy of one who sees no test video: always the commonest training class, or any one (`uniform`)."""
    known = truth[truth != ""]
    classes, counts = np.unique(train_labels, return_counts=True)
    if uniform:
        return float(np.isin(known, classes).mean() / len(classes))
    return float((known == classes[counts.argmax()]).mean())


# ---------------------------------------------------------------- classifiers


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
