"""From the features of a video's snippets to the actions in it: G-TAD's detections, and what names them.

G-TAD (`seehear.localization.gtad`) says how good each candidate segment is, whatever its class. Which class it has, a
linear classifier of single snippets says, with a class for background: a segment's probabilities are the mean of its
snippets'. The original takes classes of whole videos from another network instead.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as safetensors_bytes
from torch import Tensor

from seehear.errors import DataError, RunError
from seehear.features.bank import FeatureBank
from seehear.files import write_atomic
from seehear.hashes import check_hashes, write_hashes
from seehear.localization.annotations import Segment
from seehear.localization.gtad import CONTEXT, GTAD
from seehear.localization.metrics import Detection, soft_nms, tiou
from seehear.localization.settings import LocalizerSettings

DESCRIPTION, WEIGHTS = "localizer.json", "localizer.safetensors"
STRENGTHS = (0.001, 0.01, 0.1, 1.0, 10.0)
"""Values of C that the classifier of snippets chooses from, by cross-validation in so many folds."""
FOLDS = 5
_MOST_ROWS = 20_000  # of snippets that the classifier learns from


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


def rescaled(snippets: Snippets, count: int) -> Snippets:
    """The video on a grid of `count` snippets, its features interpolated linearly between their middles."""
    there = len(snippets)
    at = ((np.arange(count) + 0.5) * there / count - 0.5).clip(0, there - 1)
    low = np.floor(at).astype(np.int64)
    high, share = np.minimum(low + 1, there - 1), (at - low)[:, None].astype(np.float32)
    features = snippets.features[low] * (1 - share) + snippets.features[high] * share
    return Snippets(features, snippets.start_seconds, snippets.step_seconds * there / count)


def fitted(snippets: Snippets, settings: LocalizerSettings) -> Snippets:
    """A video as the network is to see it: `rescaled`, if it is to be."""
    return rescaled(snippets, settings.window) if settings.rescale else snippets


def window_starts(count: int, length: int, published: bool = False) -> list[int]:
    """First snippets of the windows of a video: they overlap by half, and the last one ends with the video.

    In the published code it ends with the last whole half; what is left behind it is seen if it is more than a fifth
    of a window.
    """
    if count <= length:
        return [0]
    if published:
        half = max(1, length // 2)
        starts = [i * half for i in range((count + half - length) // half)]
        return starts if count - length - starts[-1] <= length // 5 else [*starts, count - length]
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


def windows_of(
    spans: np.ndarray, count: int, length: int, durations: int, published: bool = False
) -> list[tuple[int, Targets]]:
    """First snippets of the windows of a video of `count` snippets that are learnt from, and their targets.

    In the published code these are the windows that hold more than 0.9 of a segment, and segments are cut at a window's
    ends before overlaps are measured; snippets behind the video's end are judged too.
    """
    if not published:
        return [
            (start, make_targets(spans - start, length, durations, min(length, count - start)))
            for start in window_starts(count, length)
        ]
    found = []
    for start in window_starts(count, length, published):
        own = spans - start
        inside = (own.clip(0, length) @ [-1, 1]) / np.maximum(own @ [-1, 1], 1e-9)
        if inside.max(initial=0.0) > 0.9:
            found.append((start, make_targets(own[inside > 0], length, durations, length, cut=True)))
    return found


def make_targets(spans: np.ndarray, length: int, durations: int, valid: int, cut: bool = False) -> Targets:
    """Targets of a window of `length` snippets, `valid` of which there are, for segments (N, 2) in its own time.

    A boundary's region reaches 1.5 snippets to either side of it. With `cut` overlaps are those with what lies of a
    segment in the window.
    """
    everything = candidates(length, durations)
    overlap = (
        tiou(everything.reshape(-1, 2), spans.clip(0, length) if cut else spans)
        .max(axis=1, initial=0.0)
        .reshape(durations, length)
    )
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


def bounded(nodes: np.ndarray, durations: int) -> np.ndarray:
    """Which candidates of a window begin at a start and end at an end, by the nodes' confidences (2, T): (D, T).

    A snippet is a start, or an end, that is surer than both beside it or more than half as sure as the surest one. The
    first snippet of a window is always a start and its last one an end (published code on ActivityNet, after BMN).
    """
    length = nodes.shape[1]
    may = np.zeros(nodes.shape, dtype=bool)
    middle = nodes[:, 1:-1]
    peak = (middle > nodes[:, :-2]) & (middle > nodes[:, 2:])
    may[:, 1:-1] = peak | (middle > 0.5 * nodes.max(axis=1, keepdims=True))
    may[0, 0] = may[1, -1] = True
    end = np.arange(length)[None] + np.arange(1, durations + 1)[:, None]
    return np.asarray(may[0][None] & (end < length) & may[1][np.minimum(end, length - 1)])


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
        snippets = fitted(snippets, self.settings)
        x = self._normalised(snippets)
        spans, scores = [], []
        published = self.settings.windows == "published"
        for start, judged, nodes in self._judgements(x if self.settings.standardise else snippets.features):
            confidence = judged.prod(axis=0)
            inside = candidates(self.length, self.durations)
            if published:
                there = (inside[..., 1] < self.length) & (inside[..., 0] < len(x) - start)
            else:
                there = inside[..., 1] <= min(self.length, len(x) - start)
            if self.settings.boundaries:
                there &= bounded(nodes, self.durations)
            if self.settings.longest_detected is not None:
                there[self.settings.longest_detected :] = False
            found, judgement = inside[there] + start, confidence[there]
            if published:
                taken, judgement = soft_nms(found, judgement, self.settings.nms_sigma, self.settings.segments)
                found = found[taken]
            spans.append(found)
            scores.append(judgement)
        return self._claims(snippets, x, np.concatenate(spans), np.concatenate(scores))

    def slide(self, snippets: Snippets) -> list[Detection]:
        """What the classifier of snippets finds without G-TAD: every candidate scored by `contrast`."""
        snippets = fitted(snippets, self.settings)
        x = self._normalised(snippets)
        spans = candidates(len(x), min(self.durations, len(x)))
        spans = spans[spans[..., 1] <= len(x)]
        return self._claims(snippets, x, spans, contrast(self.classifier.probabilities(x), spans))

    def _normalised(self, snippets: Snippets) -> np.ndarray:
        return np.asarray((snippets.features - self.mean) / self.deviation, dtype=np.float32)

    def _judgements(self, x: np.ndarray) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        """Each window's first snippet, the two confidences (2, D, T) of its candidates, and its nodes' (2, T)."""
        device = next(self.network.parameters()).device
        starts = window_starts(len(x), self.length, self.settings.windows == "published")
        self.network.eval()
        with torch.inference_mode():
            for i in range(0, len(starts), self.settings.batch_size):
                some = starts[i : i + self.settings.batch_size]
                inputs, valid = stack([x[s : s + self.length] for s in some], self.length, device)
                judged = self.network(inputs, valid)
                nodes = torch.stack([judged.start, judged.end], dim=1).sigmoid().cpu().numpy()
                yield from zip(some, judged.candidates.sigmoid().cpu().numpy(), nodes, strict=True)

    def _claims(self, snippets: Snippets, x: np.ndarray, spans: np.ndarray, scores: np.ndarray) -> list[Detection]:
        taken, kept = soft_nms(spans, scores, self.settings.nms_sigma, self.settings.segments)
        segments = spans[taken].clip(0, len(x))
        likely = span_means(self.classifier.probabilities(x), segments)[:, 1:]
        seconds = snippets.seconds(segments)
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
            network = build_network(settings, len(mean), description["length"], description["durations"])
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


def build_network(settings: LocalizerSettings, inputs: int, length: int, durations: int) -> GTAD:
    """A new network for features of `inputs` dimensions, windows of `length` and candidates of up to `durations`."""
    return GTAD(
        inputs, length, durations, width=settings.width, heads=(2 * settings.width, max(1, settings.width // 2)),
        neighbours=settings.neighbours, points=(settings.points, settings.context_points or settings.points),
        kernel=settings.kernel, published=settings.network == "published",
    )  # fmt: skip


def stack(rows: Sequence[np.ndarray], length: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Windows (t, D) of up to `length` snippets as (B, D, length), and which snippets there are (B, length)."""
    inputs = np.zeros((len(rows), length, rows[0].shape[1]), dtype=np.float32)
    valid = np.zeros((len(rows), length), dtype=bool)
    for i, row in enumerate(rows):
        inputs[i, : len(row)], valid[i, : len(row)] = row, True
    return torch.from_numpy(inputs).transpose(1, 2).to(device), torch.from_numpy(valid).to(device)
