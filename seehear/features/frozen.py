"""Features of the clips of a data set by encoders that stay as they are, kept on disk from call to call.

How clips are drawn from a video, and how an encoder's last map becomes a feature, is a `Sampling`.
"""

from __future__ import annotations

import copy
import hashlib
import io
import json
import math
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seehear.data.cache import media_cache
from seehear.data.clips import centred_requests, clip_refs, plain_requests
from seehear.data.loader import ClipLoader, Failures, workers_of
from seehear.data.manifest import Manifest
from seehear.errors import DataError, UsageError
from seehear.features.bank import FeatureBank, mean_by_video
from seehear.features.extract import evaluation, extract
from seehear.features.model import LABELLING_OF, Model, usable_videos, weights_sha256
from seehear.files import write_atomic
from seehear.modalities import streams_of
from seehear.models import build_encoders
from seehear.models.adapter import OnBackbone
from seehear.settings import to_dict
from seehear.types import ClipRef

Pooling = Literal["mean", "max", "max2", "map"]
POOLINGS: tuple[Pooling, ...] = ("mean", "max", "max2", "map")
_CACHE_VERSION = 1


# A stop of this kind may not come again: what was extracted without these videos is not kept.
_TRANSIENT = frozenset({"timeout", "crashed", "permission", "missing", "unreadable", "changed"})


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
    """`mean` is the encoder's own feature; `max` is the maximum of its last map over time and space, `max2`
    are the maxima over its parts of 2 x 2 x 2 places (see `CoarseMap`); `map` is the last map of a spectrogram itself,
    pooled lightly over time (see `PooledMap`)."""
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


class CoarseMap(nn.Module):
    """An encoder whose feature is its last map, max-pooled by 2 in steps of 2 in time and space and flattened.

    (B, ...) to (B, D * places); `shape` is that of one input. SeLaVi's released retrieval: `MaxPool3d(2)` on layer 4,
    which for 32 frames of 112 pixels leaves 512 x 2 x 3 x 3 entries. A dimension of one place stays.
    """

    def __init__(self, encoder: nn.Module, shape: Sequence[int]) -> None:
        super().__init__()
        self.encoder = encoder
        self.train(encoder.training)
        device = next(encoder.parameters()).device
        with evaluation({"": self}):
            self.feature_dim = self(torch.zeros(1, *shape, device=device)).shape[1]

    def forward(self, x: Tensor) -> Tensor:
        maps: Tensor = self.encoder.feature_map(x)  # type: ignore[operator]
        size = [min(2, places) for places in maps.shape[2:]]
        pool = F.max_pool3d if len(size) == 3 else F.max_pool2d
        return pool(maps, size, stride=size).flatten(1)


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
    if sampling.pooling != "mean" and any(isinstance(encoder, OnBackbone) for encoder in model.encoders.values()):
        raise UsageError(
            f"pooling {sampling.pooling} is of an encoder's last map, and encoders of others give features",
            "leave it at mean",
        )
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
    elif sampling.pooling == "max2":
        clip, sound = model.config.clip, model.config.spectrogram
        shapes = {
            "video": (3, clip.frames, clip.crop_px, clip.crop_px), "audio": (1, sound.mel_bins, sound.frames),
        }  # fmt: skip
        streams = {name: streams_of((model.modalities[name],))[0] for name in encoders}
        encoders = {name: CoarseMap(encoder, shapes[streams[name]]) for name, encoder in encoders.items()}
    elif sampling.pooling == "map":
        shape = model.config.spectrogram.mel_bins, model.config.spectrogram.frames
        encoders = {name: PooledMap(encoder, *shape) for name, encoder in encoders.items()}
    with ClipLoader(
        videos, model.config, model.modalities, model.statistics, workers=workers_of(model.config),
        cache=media_cache(model.config), failures=failures, device=device,
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
    preprocessing = [to_dict(config)[part] for part in ("clip", "spectrogram")]
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


def untrained_model(model: Model) -> Model:
    """Untrained encoders of the same shape, their weights drawn as a run with this seed draws them."""
    encoders: dict[str, nn.Module] = dict(build_encoders(model.config.model, model.modalities, model.config.seed))
    for name, encoder in model.encoders.items():
        if isinstance(encoder, OnBackbone):  # what was trained is the adapter
            encoders[name] = copy.deepcopy(encoder)
            encoders[name].adapter.reset()  # type: ignore[operator, union-attr]
    return Model(model.config, model.modalities, encoders, model.statistics)
