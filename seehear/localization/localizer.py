"""From the features of a video's snippets to the actions in it: G-TAD's training, its detections, and what names them.

G-TAD (`seehear.localization.gtad`) says how good each candidate segment is, whatever its class. Which class it has, a
linear classifier of single snippets says, with a class for background: a segment's probabilities are the mean of its
snippets'. The original takes classes of whole videos from another network instead.
"""

from __future__ import annotations

import hashlib
import io
import json
import pickle
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as safetensors_bytes
from torch import Tensor

from seehear.errors import DataError, RunError, UsageError
from seehear.features.bank import FeatureBank
from seehear.files import write_atomic
from seehear.hashes import check_hashes, write_hashes
from seehear.localization.annotations import Segment
from seehear.localization.gtad import CONTEXT, GTAD, gtad_loss
from seehear.localization.metrics import Detection, mean_average_precision, soft_nms, tiou

DESCRIPTION, WEIGHTS = "localizer.json", "localizer.safetensors"
CRITERION = "mAP@0.3:0.7"
"""What the number of epochs is chosen by."""
STRENGTHS = (0.001, 0.01, 0.1, 1.0, 10.0)
"""Values of C that the classifier of snippets chooses from, by cross-validation in so many folds."""
FOLDS = 5
_MOST_ROWS = 20_000  # of snippets that the classifier learns from


@dataclass(frozen=True)
class LocalizerSettings:
    """How actions are localised; what the paper or its code on THUMOS14 has stands in brackets."""

    stride_seconds: float = 0.5
    """Time from one snippet to the next, at most; a video's parts are equal (0.17: 5 frames)."""
    window: int = 256
    """Snippets that are looked at together; longer videos are cut into windows that overlap by half (256)."""
    longest: int | None = None
    """Candidates of up to so many snippets (64); by default a quarter more than the longest segment learnt from."""
    width: int = 256
    """Channels of the graph network (256)."""
    neighbours: int = 3
    """Semantic neighbours of a snippet (3)."""
    points: int = 16
    """Places at which a candidate is read, in its own features and in those of its neighbours (16)."""
    positive_tiou: float = 0.5
    """A candidate that overlaps a segment more than this is a good one (0.9; a coarse grid has few so good)."""
    batch_size: int = 2
    """Windows of a step (8). A dozen videos are but a dozen windows, and few steps teach little."""
    epochs: int = 20
    """Passes over the windows at most; how many are best is found out on held-out videos (10)."""
    learning_rate: float = 0.0004
    """Of Adam, a tenth of it from half of `epochs` on (0.00004)."""
    weight_decay: float = 0.0001
    """L2 regularisation of the weights (0.0001)."""
    held_out: float = 0.2
    """Share of the videos learnt from on which the number of epochs is chosen; 0 takes all `epochs`."""
    nms_sigma: float = 0.46
    """Soft-NMS multiplies scores by exp(-tIoU² / this) (0.46)."""
    segments: int = 200
    """Segments of a video that are kept (200)."""
    classes: int = 2
    """Classes that are claimed for each (2)."""
    seed: int = 0
    """Seed of first weights, order and held-out videos."""

    def check(self) -> None:
        """Raise `UsageError` for what cannot be."""
        positive = ("stride_seconds", "window", "width", "neighbours", "points", "batch_size", "epochs",
                    "learning_rate", "nms_sigma", "segments", "classes")  # fmt: skip
        for name in positive:
            if getattr(self, name) <= 0:
                raise UsageError(f"{name} must be above 0, not {getattr(self, name)}")
        if not 0 <= self.held_out < 1 or not 0 < self.positive_tiou < 1:
            raise UsageError("held_out is from 0 to below 1, positive_tiou between 0 and 1")
        if self.longest is not None and self.longest < 1:
            raise UsageError(f"longest must be 1 or more, not {self.longest}")


def localizer_settings(assignments: Sequence[str]) -> LocalizerSettings:
    """The settings with texts such as "epochs=30" applied; `UsageError` for what there is not."""
    kinds: dict[str, tuple[type, ...]] = {f.name: (int,) for f in fields(LocalizerSettings)}
    kinds |= {f.name: (int, float) for f in fields(LocalizerSettings) if f.type == "float"}
    kinds["longest"] = (int, type(None))
    values: dict[str, Any] = {}
    for text in assignments:
        name, _, value = text.partition("=")
        if name not in kinds:
            raise UsageError(f"there is no setting {name!r} of localisation", f"there are {', '.join(kinds)}")
        try:
            values[name] = yaml.safe_load(value)
        except yaml.YAMLError:
            values[name] = value
        if not isinstance(values[name], kinds[name]) or isinstance(values[name], bool):
            raise UsageError(f"{value!r} is no value for {name}")
    settings = LocalizerSettings(**values)
    settings.check()
    return settings


@dataclass(frozen=True)
class Snippets:
    """A video on a regular grid of time: `features` (T, D); snippet i covers [i, i + 1] * step + start, in seconds."""

    features: np.ndarray
    start_seconds: float
    step_seconds: float

    def __len__(self) -> int:
        return len(self.features)

    def spans(self, segments: Sequence[Segment]) -> np.ndarray:
        """Segments in units of snippets, (N, 2)."""
        seconds = np.array([(s.start_seconds, s.end_seconds) for s in segments]).reshape(-1, 2)
        return (seconds - self.start_seconds) / self.step_seconds

    def seconds(self, spans: np.ndarray) -> np.ndarray:
        """Inverse of `spans`."""
        return spans * self.step_seconds + self.start_seconds


def snippets_of(bank: FeatureBank, labelling: str) -> dict[str, Snippets]:
    """The snippets of each video of a bank whose rows are equal parts of videos.

    A part that could not be decoded has the features of the one before it, or of the first there is.
    """
    joined = bank.joined(labelling)
    rows: dict[str, list[int]] = {}
    for row, ref in enumerate(bank.refs):
        rows.setdefault(ref.video_id, []).append(row)
    found = {}
    for video_id, members in rows.items():
        members.sort(key=lambda row: bank.refs[row].start_seconds)
        refs = [bank.refs[row] for row in members]
        first, step = refs[0].start_seconds, refs[0].end_seconds - refs[0].start_seconds
        places = np.array([round((ref.start_seconds - first) / step) for ref in refs])
        filled = np.searchsorted(places, np.arange(places[-1] + 1), side="right") - 1
        found[video_id] = Snippets(joined[np.array(members)[filled]].astype(np.float32), first, step)
    return found


def window_starts(count: int, length: int) -> list[int]:
    """First snippets of the windows of a video: they overlap by half, and the last one ends with the video."""
    if count <= length:
        return [0]
    return [*range(0, count - length, max(1, length // 2)), count - length]


def candidates(length: int, durations: int) -> np.ndarray:
    """All candidates (d, t) of a window, as spans in snippets: (durations, length, 2)."""
    start = np.broadcast_to(np.arange(length), (durations, length))
    return np.stack([start, start + np.arange(1, durations + 1)[:, None]], axis=2).astype(np.float64)


@dataclass(frozen=True)
class Targets:
    """What `gtad_loss` wants of a window: `overlap` (D, T), `start` and `end` (T,)."""

    overlap: np.ndarray
    start: np.ndarray
    end: np.ndarray


def make_targets(spans: np.ndarray, length: int, durations: int, valid: int) -> Targets:
    """Targets of a window of `length` snippets, `valid` of which there are, for segments (N, 2) in its own time.

    A boundary's region reaches 1.5 snippets to either side of it.
    """
    everything = candidates(length, durations)
    overlap = tiou(everything.reshape(-1, 2), spans).max(axis=1, initial=0.0).reshape(durations, length)
    overlap[everything[..., 1] > valid] = -1.0

    def near(points: np.ndarray) -> np.ndarray:
        left = np.arange(length)[:, None]
        shared = np.minimum(left + 1, points[None] + 1.5) - np.maximum(left, points[None] - 1.5)
        return shared.clip(0).max(axis=1, initial=0.0)

    return Targets(overlap, near(spans[:, 0]), near(spans[:, 1]))


@dataclass(frozen=True)
class SnippetClassifier:
    """Logistic regression: softmax of features (T, D) @ `weight` (D, 1 + C) + `bias`; column 0 is background."""

    labels: list[str]
    weight: np.ndarray
    bias: np.ndarray

    def probabilities(self, features: np.ndarray) -> np.ndarray:
        """Of every class, background first: (T, 1 + C)."""
        logits = features @ self.weight + self.bias
        odds = np.exp(logits - logits.max(axis=1, keepdims=True))
        return np.asarray(odds / odds.sum(axis=1, keepdims=True))


def fit_classifier(
    features: Sequence[np.ndarray], segments: Sequence[np.ndarray], labels: Sequence[Sequence[str]], seed: int
) -> tuple[SnippetClassifier, dict[str, Any]]:
    """Learn what single snippets show; C of `STRENGTHS` is cross-validated, whole videos being left out.

    For each video its features (T, D), its segments (N, 2) in snippets, and their labels. A snippet has the class of
    each segment that holds its middle, or is background. At most 20 000 snippets, drawn at random.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV, GroupKFold

    known = sorted({label for of_video in labels for label in of_video})
    x, y, groups = [], [], []
    for video, (rows, spans, names) in enumerate(zip(features, segments, labels, strict=True)):
        middle = np.arange(len(rows)) + 0.5
        inside = (middle[:, None] >= spans[None, :, 0]) & (middle[:, None] < spans[None, :, 1])
        of_span = np.array([known.index(n) + 1 for n in names], dtype=np.int64)
        snippet, span = np.nonzero(inside)
        background = np.flatnonzero(~inside.any(axis=1))
        x += [rows[snippet], rows[background]]
        y += [of_span[span], np.zeros(len(background), dtype=np.int64)]
        groups.append(np.full(len(snippet) + len(background), video))
    rows, classes, group = np.concatenate(x), np.concatenate(y), np.concatenate(groups)
    drawn = np.random.default_rng(seed).permutation(len(rows))[:_MOST_ROWS]
    rows, classes, group = rows[drawn], classes[drawn], group[drawn]
    there = np.unique(classes)
    if len(there) < 2:
        raise DataError("every snippet shows the same", "there must be segments, and time without any")
    folds, strength = min(FOLDS, len(np.unique(group))), 1.0
    if folds > 1:
        grid = {"C": list(STRENGTHS)}
        search = GridSearchCV(LogisticRegression(max_iter=1000), grid, cv=GroupKFold(folds))
        strength = float(search.fit(rows, classes, groups=group).best_params_["C"])
    fitted = LogisticRegression(C=strength, max_iter=1000).fit(rows, classes)
    weight = np.zeros((rows.shape[1], 1 + len(known)))
    bias = np.full(1 + len(known), -1e9)  # a class without a snippet
    if len(there) == 2:  # one row of coefficients, for the second class
        weight[:, there[1]], bias[there] = fitted.coef_[0], [0.0, fitted.intercept_[0]]
    else:
        weight[:, there], bias[there] = fitted.coef_.T, fitted.intercept_
    return SnippetClassifier(known, weight, bias), {"C": strength, "folds": folds if folds > 1 else 0}


def span_means(values: np.ndarray, spans: np.ndarray) -> np.ndarray:
    """Means of rows (T, C) over spans (N, 2) whose ends are whole snippets: (N, C); zero for an empty one."""
    total = np.concatenate([np.zeros((1, values.shape[1])), np.cumsum(values, axis=0)])
    ends = spans.clip(0, len(values)).astype(np.int64)
    count = (ends[:, 1] - ends[:, 0])[:, None]
    return np.asarray((total[ends[:, 1]] - total[ends[:, 0]]) / np.maximum(count, 1))


def contrast(probabilities: np.ndarray, spans: np.ndarray) -> np.ndarray:
    """How much more probable the most contrasting class is within each span (N, 2) than beside it: (N,), 0 to 1.

    The outer-inner contrast of AutoLoc (Shou et al., ECCV 2018) on what `SnippetClassifier` says, (T, 1 + C): a score
    for sliding windows that needs no training of its own. Either side is half as long as the span.
    """
    actions = probabilities[:, 1:]
    margin = np.ceil(CONTEXT * (spans[:, 1] - spans[:, 0]))[:, None]
    wider = np.concatenate([spans[:, :1] - margin, spans[:, 1:] + margin], axis=1).clip(0, len(actions))
    inside, length = span_means(actions, spans), (spans[:, 1] - spans[:, 0])[:, None]
    whole, full = span_means(actions, wider), wider[:, 1:] - wider[:, :1]
    beside = (whole * full - inside * length) / np.maximum(full - length, 1)
    return np.asarray((inside - beside).max(axis=1).clip(0, 1))


@dataclass(frozen=True)
class Localizer:
    """All that turns snippets into detections: normalisation, G-TAD, and the classifier of snippets."""

    settings: LocalizerSettings
    mean: np.ndarray
    deviation: np.ndarray
    network: GTAD
    classifier: SnippetClassifier
    length: int
    """Snippets of a window."""
    durations: int
    """Snippets of the longest candidate."""
    chosen: dict[str, Any] = field(default_factory=dict)
    """What was chosen within the subset that was learnt from."""

    def detect(self, snippets: Snippets) -> list[Detection]:
        """Actions in a video, the best first: candidates judged by G-TAD, Soft-NMS, and the likeliest classes.

        A segment's score is the product of the two confidences of G-TAD and, after Soft-NMS, of a class's probability.
        """
        x = self._normalised(snippets)
        spans, scores = [], []
        for start, judged in self._judgements(x):
            confidence = judged.prod(axis=0)
            inside = candidates(self.length, self.durations)
            there = inside[..., 1] <= min(self.length, len(x) - start)
            spans.append(inside[there] + start)
            scores.append(confidence[there])
        return self._claims(snippets, x, np.concatenate(spans), np.concatenate(scores))

    def slide(self, snippets: Snippets) -> list[Detection]:
        """What the classifier of snippets finds without G-TAD: every candidate scored by `contrast`."""
        x = self._normalised(snippets)
        spans = candidates(len(x), min(self.durations, len(x)))
        spans = spans[spans[..., 1] <= len(x)]
        return self._claims(snippets, x, spans, contrast(self.classifier.probabilities(x), spans))

    def _normalised(self, snippets: Snippets) -> np.ndarray:
        return np.asarray((snippets.features - self.mean) / self.deviation, dtype=np.float32)

    def _judgements(self, x: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
        """Each window's first snippet, and the two confidences (2, D, T) of its candidates."""
        device = next(self.network.parameters()).device
        starts = window_starts(len(x), self.length)
        self.network.eval()
        with torch.inference_mode():
            for i in range(0, len(starts), self.settings.batch_size):
                some = starts[i : i + self.settings.batch_size]
                inputs, valid = _stack([x[s : s + self.length] for s in some], self.length, device)
                judged = self.network(inputs, valid).candidates.sigmoid().cpu().numpy()
                yield from zip(some, judged, strict=True)

    def _claims(self, snippets: Snippets, x: np.ndarray, spans: np.ndarray, scores: np.ndarray) -> list[Detection]:
        taken, kept = soft_nms(spans, scores, self.settings.nms_sigma, self.settings.segments)
        likely = span_means(self.classifier.probabilities(x), spans[taken])[:, 1:]
        seconds = snippets.seconds(spans[taken])
        found = [
            Detection(float(start), float(end), self.classifier.labels[c], float(score * of_class[c]))
            for (start, end), score, of_class in zip(seconds, kept, likely, strict=True)
            for c in of_class.argsort()[::-1][: self.settings.classes]
        ]
        return sorted(found, key=lambda d: -d.score)

    def save(self, folder: Path) -> None:
        """Write `localizer.json`, `localizer.safetensors` and `hashes.json` into a folder."""
        tensors = {f"network.{k}": v.detach().cpu().contiguous() for k, v in self.network.state_dict().items()}
        arrays = {"mean": self.mean, "deviation": self.deviation, "classifier.weight": self.classifier.weight,
                  "classifier.bias": self.classifier.bias}  # fmt: skip
        tensors |= {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in arrays.items()}
        write_atomic(folder / WEIGHTS, safetensors_bytes(tensors))
        description = {
            "format": "seehear-localizer", "version": 1, "settings": asdict(self.settings), "length": self.length,
            "durations": self.durations, "labels": self.classifier.labels, "chosen": self.chosen,
        }  # fmt: skip
        write_atomic(folder / DESCRIPTION, json.dumps(description, indent=1, ensure_ascii=False))
        write_hashes(folder, (DESCRIPTION, WEIGHTS))

    @classmethod
    def load(cls, folder: Path) -> Localizer:
        """Read what `save` wrote. Raises `RunError` if there is nothing or it is damaged (`seehear.hashes`)."""
        try:
            description = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
            check_hashes(folder)
            settings = LocalizerSettings(**description["settings"])
            tensors = load_file(folder / WEIGHTS)
            mean, deviation = tensors.pop("mean").numpy(), tensors.pop("deviation").numpy()
            parts = (tensors.pop(f"classifier.{name}").numpy() for name in ("weight", "bias"))
            classifier = SnippetClassifier(description["labels"], *parts)
            network = _network(settings, len(mean), description["length"], description["durations"])
            network.load_state_dict({k.removeprefix("network."): v for k, v in tensors.items()})
        except FileNotFoundError as error:
            missing = Path(error.filename).name
            raise RunError(
                f"{folder} holds no localiser ({missing} is missing)", "make one: seehear localize"
            ) from error
        except (ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
            raise RunError(f"the localiser in {folder} is damaged: {error}") from error
        return cls(
            settings, mean, deviation, network, classifier, description["length"], description["durations"],
            description["chosen"],
        )  # fmt: skip


def fit_localizer(
    videos: Mapping[str, Snippets],
    truth: Mapping[str, Sequence[Segment]],
    settings: LocalizerSettings,
    *,
    device: str | torch.device = "cpu",
    keep: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Localizer:
    """Learn from videos with their segments.

    With five videos or more some are held out first, and the number of epochs is the one, of ten or fewer along the
    way, whose detections in them have the best mean mAP over tIoU 0.3 to 0.7; then all videos are learnt from, for so
    long. With a folder `keep` the state is saved there after every epoch, and a training of the same things that was
    stopped goes on with the same bits. `progress(done, total)` counts epochs.

    Raises `DataError` if there is nothing to learn.
    """
    settings.check()
    if not any(truth[name] for name in videos):
        raise DataError("the videos to learn from have no segments", "are these the annotations of these videos?")
    names = [str(n) for n in np.random.default_rng(settings.seed).permutation(sorted(videos))]
    aside = max(1, round(settings.held_out * len(names))) if settings.held_out and len(names) >= 5 else 0
    held, rest = names[:aside], names[aside:]
    key = training_key(videos, truth, settings)
    chosen: dict[str, Any] = {"epochs": settings.epochs}
    done, total = 0, settings.epochs * (2 if aside else 1)

    def show(epoch: int) -> None:
        if progress is not None:
            progress(done + epoch, total)

    if aside and any(truth[n] for n in held) and any(truth[n] for n in rest):
        trial = _Training(videos, truth, rest, settings, torch.device(device))
        saved = SavedTraining(None if keep is None else keep / "trial.pt", key)
        history = saved.restore(trial)
        for epoch in range(trial.epochs + 1, settings.epochs + 1):
            trial.epoch()
            show(epoch)
            if epoch % max(1, settings.epochs // 10) == 0:
                found = {name: trial.localizer.detect(videos[name]) for name in held}
                scored = mean_average_precision(found, {name: truth[name] for name in held})
                history.append({"epochs": epoch, CRITERION: scored[CRITERION]})
            saved.save(trial, history)
        done = settings.epochs
        best = max(history, key=lambda point: point[CRITERION])
        chosen = {"epochs": best["epochs"], "held_out_videos": aside, "held_out": history}
    training = _Training(videos, truth, names, settings, torch.device(device))
    saved = SavedTraining(None if keep is None else keep / "training.pt", key)
    saved.restore(training)
    total = done + int(chosen["epochs"])
    for epoch in range(training.epochs + 1, int(chosen["epochs"]) + 1):
        training.epoch()
        saved.save(training, [])
        show(epoch)
    return replace(training.localizer, chosen={**chosen, **training.localizer.chosen})


def training_key(
    videos: Mapping[str, Snippets], truth: Mapping[str, Sequence[Segment]], settings: LocalizerSettings
) -> str:
    """A name of what is learnt from what: equal for equal features, segments and settings."""
    digest = hashlib.sha256(repr(settings).encode())
    for name in sorted(videos):
        digest.update(repr((name, truth[name])).encode())
        digest.update(np.ascontiguousarray(videos[name].features).tobytes())
    return digest.hexdigest()


class SavedTraining:
    """The state of a training in a file (None: nowhere), with the `training_key` of what it learns."""

    def __init__(self, path: Path | None, key: str) -> None:
        self.path, self.key = path, key

    def restore(self, training: _Training) -> list[dict[str, float]]:
        """Let the training go on from what was saved, if it is of the same things; the history that was saved too."""
        if self.path is None or not self.path.exists():
            return []
        try:
            state = torch.load(self.path, weights_only=True)
        except (OSError, RuntimeError, ValueError, EOFError, pickle.UnpicklingError):
            return []  # half of a file of a disk that was full: the training begins again
        if state.get("key") != self.key:
            return []
        training.restore(state["training"])
        return list(state["history"])

    def save(self, training: _Training, history: Sequence[Mapping[str, float]]) -> None:
        """Replace what was saved before."""
        if self.path is None:
            return
        buffer = io.BytesIO()
        torch.save({"key": self.key, "training": training.state(), "history": [dict(h) for h in history]}, buffer)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(self.path, buffer.getvalue())


class _Training:
    """A localiser that learns from the videos `names`, epoch by epoch."""

    def __init__(
        self,
        videos: Mapping[str, Snippets],
        truth: Mapping[str, Sequence[Segment]],
        names: Sequence[str],
        settings: LocalizerSettings,
        device: torch.device,
    ) -> None:
        names = sorted(names)
        everything = np.concatenate([videos[n].features for n in names])
        deviation = everything.std(axis=0, dtype=np.float64)
        mean, deviation = everything.mean(axis=0, dtype=np.float64), np.where(deviation > 1e-8, deviation, 1.0)
        spans = {n: videos[n].spans(truth[n]) for n in names}
        length = min(settings.window, max(len(videos[n]) for n in names))
        if settings.longest is None:
            durations = int(np.ceil(1.25 * max((s[:, 1] - s[:, 0]).max(initial=0) for s in spans.values())))
        else:
            durations = settings.longest
        durations = max(1, min(durations, length))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            network = _network(settings, everything.shape[1], length, durations).to(device)
        self._x = {n: np.asarray((videos[n].features - mean) / deviation, dtype=np.float32) for n in names}
        classifier, chosen = fit_classifier(
            list(self._x.values()), list(spans.values()), [[s.label for s in truth[n]] for n in names], settings.seed
        )
        self.localizer = Localizer(settings, mean, deviation, network, classifier, length, durations, chosen)
        self._windows = [(n, start) for n in names for start in window_starts(len(videos[n]), length)]
        self._targets = [
            make_targets(spans[n] - start, length, durations, min(length, len(videos[n]) - start))
            for n, start in self._windows
        ]
        self._optimizer = torch.optim.Adam(
            network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
        )
        self._rng = np.random.default_rng(settings.seed)
        self.epochs = 0
        """How many it has learnt."""

    def state(self) -> dict[str, Any]:
        """All that the next epoch depends on."""
        return {
            "network": self.localizer.network.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "random": self._rng.bit_generator.state,
            "epochs": self.epochs,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state`."""
        self.localizer.network.load_state_dict(state["network"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._rng.bit_generator.state = state["random"]
        self.epochs = int(state["epochs"])

    def epoch(self) -> float:
        """One pass over all windows in random order; the mean loss."""
        settings, network, length = self.localizer.settings, self.localizer.network, self.localizer.length
        device = next(network.parameters()).device
        rate = settings.learning_rate * (0.1 if self.epochs >= settings.epochs / 2 else 1.0)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        order, losses = self._rng.permutation(len(self._windows)), []
        network.train()
        for i in range(0, len(order), settings.batch_size):
            some = order[i : i + settings.batch_size]
            rows = [self._x[n][at : at + length] for n, at in (self._windows[j] for j in some)]
            inputs, valid = _stack(rows, length, device)
            wanted = [self._targets[j] for j in some]
            overlap, start, end = (
                torch.from_numpy(np.stack([getattr(w, part) for w in wanted])).float().to(device)
                for part in ("overlap", "start", "end")
            )
            parts = gtad_loss(network(inputs, valid), overlap, start, end, valid, settings.positive_tiou)
            loss = torch.stack(list(parts.values())).sum()
            self._optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            self._optimizer.step()
            losses.append(loss.item())
        self.epochs += 1
        return float(np.mean(losses))


def _network(settings: LocalizerSettings, inputs: int, length: int, durations: int) -> GTAD:
    return GTAD(
        inputs, length, durations, width=settings.width, heads=(2 * settings.width, max(1, settings.width // 2)),
        neighbours=settings.neighbours, points=(settings.points, settings.points),
    )  # fmt: skip


def _stack(rows: Sequence[np.ndarray], length: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Windows (t, D) of up to `length` snippets as (B, D, length), and which snippets there are (B, length)."""
    inputs = np.zeros((len(rows), length, rows[0].shape[1]), dtype=np.float32)
    valid = np.zeros((len(rows), length), dtype=bool)
    for i, row in enumerate(rows):
        inputs[i, : len(row)], valid[i, : len(row)] = row, True
    return torch.from_numpy(inputs).transpose(1, 2).to(device), torch.from_numpy(valid).to(device)
