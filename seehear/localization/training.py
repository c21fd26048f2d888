"""G-TAD's training on the snippets of annotated videos, and how far it has come, kept on disk."""

from __future__ import annotations

import hashlib
import io
import pickle
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from seehear.errors import DataError
from seehear.files import write_atomic
from seehear.localization.annotations import Segment
from seehear.localization.gtad import Judgement, gtad_loss, published_loss
from seehear.localization.localizer import (
    Localizer,
    Snippets,
    build_network,
    fit_classifier,
    fitted,
    stack,
    windows_of,
)
from seehear.localization.metrics import mean_average_precision
from seehear.localization.settings import LocalizerSettings

CRITERION = "mAP@0.3:0.7"
"""What the number of epochs is chosen by."""


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
    videos = {name: fitted(snippets, settings) for name, snippets in videos.items()}
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
        if settings.windows == "published":
            length = settings.window
        if settings.longest is None:
            durations = int(np.ceil(1.25 * max((s[:, 1] - s[:, 0]).max(initial=0) for s in spans.values())))
        else:
            durations = settings.longest
        durations = max(1, min(durations, length))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            network = build_network(settings, everything.shape[1], length, durations).to(device)
        x = {n: np.asarray((videos[n].features - mean) / deviation, dtype=np.float32) for n in names}
        self._x = x if settings.standardise else {n: videos[n].features for n in names}
        classifier, chosen = fit_classifier(
            list(x.values()), list(spans.values()), [[s.label for s in truth[n]] for n in names], settings.seed
        )
        self.localizer = Localizer(settings, mean, deviation, network, classifier, length, durations, chosen)
        published = settings.windows == "published"
        windows = {n: windows_of(spans[n], len(videos[n]), length, durations, published) for n in names}
        self._windows = [(n, start) for n in names for start, _ in windows[n]]
        self._targets = [targets for n in names for _, targets in windows[n]]
        if not self._windows:
            raise DataError(
                f"no window of {length} snippets holds a segment as a whole", "longer ones: --set window=N, or --stride"
            )
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
            inputs, valid = stack(rows, length, device)
            wanted = [self._targets[j] for j in some]
            overlap, start, end = (
                torch.from_numpy(np.stack([getattr(w, part) for w in wanted])).float().to(device)
                for part in ("overlap", "start", "end")
            )
            loss = self._loss(network(inputs, valid), overlap, start, end, valid)
            self._optimizer.zero_grad()
            loss.backward()
            if settings.clip_gradient:
                torch.nn.utils.clip_grad_norm_(network.parameters(), settings.clip_gradient)
            self._optimizer.step()
            losses.append(loss.item())
        self.epochs += 1
        return float(np.mean(losses))

    def _loss(self, judged: Judgement, overlap: Tensor, start: Tensor, end: Tensor, valid: Tensor) -> Tensor:
        settings = self.localizer.settings
        weights = (settings.regression_weight, settings.classification_weight)
        if settings.loss == "published":
            draws = torch.from_numpy(self._rng.random((2, *overlap.shape))).to(overlap)
            parts = published_loss(
                judged, overlap, start, end, draws, settings.positive_tiou, weights, settings.added_counts
            )
        else:
            parts = gtad_loss(judged, overlap, start, end, valid, settings.positive_tiou, weights)
        return torch.stack(list(parts.values())).sum()
