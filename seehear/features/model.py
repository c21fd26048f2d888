"""A trained model: encoders with the preprocessing that they need and the clusters that they led to."""

from __future__ import annotations

import copy
import hashlib
import itertools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as safetensors_bytes
from torch import Tensor, nn

from seehear.cluster.kmeans import assign
from seehear.cluster.preprocess import FeatureTransform
from seehear.config import Config, DataConfig
from seehear.data.cache import MediaCache
from seehear.data.clips import Video, make_ref, plain_requests
from seehear.data.columns import VideoTable
from seehear.data.loader import ClipLoader, Failures
from seehear.data.manifest import Manifest
from seehear.data.sources import FileList
from seehear.data.views import Statistics
from seehear.encoders import read_encoder, without_place
from seehear.encoders.base import ForeignEncoder
from seehear.engines import Tell, within
from seehear.errors import DataError, RunError, UsageError
from seehear.features.bank import FeatureBank
from seehear.features.extract import calibrate_batchnorm, extract
from seehear.features.headlabels import Adapt, consensus_names, consensus_rows, head_rows, ranked
from seehear.features.texts import Texts
from seehear.files import new_folder, write_atomic
from seehear.hashes import HASHES, check_hashes, write_hashes
from seehear.modalities import MODALITIES, streams_of
from seehear.models import build_encoder
from seehear.models.adapter import OnBackbone, ResidualAdapter
from seehear.models.heads import ClusterHeads, MLPHead, cluster_heads
from seehear.settings import from_dict, load_config, to_dict
from seehear.types import ClipRef, Labelling

_CONFIG, _WEIGHTS, _BACKBONES = "config.json", "model.safetensors", "encoders"
LABELLING_OF = {"video": "video", "audio": "audio", "both": "video+audio"}
"""The labelling that each choice of `--modality` asks for."""


@dataclass(frozen=True)
class Clusters:
    """Centroids (k, D) of a labelling and the transform of features that precedes them."""

    centroids: Tensor
    transform: dict[str, Tensor]

    def assign(self, features: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Cluster, distance to its centroid and confidence of each row of (N, D), each (N,).

        The confidence is 1 - d1 / d2 with the distances to the nearest and the second nearest centroid: 0 on
        the border between two clusters, 1 on a centroid.
        """
        x = FeatureTransform.from_state(self.transform).apply(torch.from_numpy(np.asarray(features)))
        return nearest_centroids(x, self.centroids)


def nearest_centroids(x: Tensor, centroids: Tensor) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cluster, distance and confidence of rows in the clustered space, each (N,): see `Clusters.assign`."""
    labels, nearest, second = assign(x, centroids)
    d1, d2 = nearest.clamp_min(0).sqrt(), second.clamp_min(0).sqrt()
    confidence = torch.where(d2 > 0, 1 - d1 / d2.clamp_min(1e-12), torch.zeros_like(d1))
    return labels.numpy(), d1.numpy(), confidence.numpy()


class Model:
    """Encoders by name (`modalities` says what each sees), their settings, and clusters by labelling."""

    def __init__(
        self,
        config: Config,
        modalities: Mapping[str, str],
        encoders: Mapping[str, nn.Module],
        statistics: Statistics,
        clusters: Mapping[str, Clusters] | None = None,
        projections: Mapping[str, nn.Module] | None = None,
        heads: ClusterHeads | None = None,
        classifiers: Mapping[str, nn.Module] | None = None,
        class_names: Sequence[str] = (),
        texts: Texts | None = None,
    ) -> None:
        self.config = config
        self.modalities = dict(modalities)
        self.encoders = nn.ModuleDict(encoders).eval()
        self.statistics = statistics
        self.clusters = dict(clusters or {})
        self.projections = nn.ModuleDict(projections or {}).eval()
        """Heads into the space that the encoders share (GDT); empty where there is none."""
        self.heads = heads.eval() if heads is not None else None
        """Heads that label clips themselves (SeLaVi)."""
        self.classifiers = nn.ModuleDict(classifiers or {}).eval()
        """For each encoder the linear layer to `class_names` (finetuned runs); empty where there is none."""
        self.class_names = list(class_names)
        self.texts = texts
        """The text encoder, which looks at no video and so is none of `encoders`."""

    def save(self, folder: Path) -> None:
        """Write `config.json`, `model.safetensors` and `hashes.json`: all of them appear, or none.

        Encoders of others stand in `encoders/`, a folder each; the rest of the model is in `model.safetensors`.
        Replaces an earlier model. Raises `UsageError` if there is something else in `folder`.
        """
        backbones = {n: e.backbone for n, e in self.encoders.items() if isinstance(e, OnBackbone)}
        apart = tuple(f"{name}.backbone." for name in backbones)
        own = {k: v for k, v in self.encoders.state_dict().items() if not k.startswith(apart)}
        tensors = {f"encoders.{k}": v.detach().cpu().contiguous() for k, v in own.items()}
        tensors |= {f"projections.{k}": v.detach().cpu().contiguous() for k, v in self.projections.state_dict().items()}
        if self.heads is not None:
            tensors |= {f"heads.{k}": v.detach().cpu().contiguous() for k, v in self.heads.state_dict().items()}
        tensors |= {f"classifiers.{k}": v.detach().cpu().contiguous() for k, v in self.classifiers.state_dict().items()}
        tensors |= self.texts.tensors() if self.texts is not None else {}
        for name, clusters in self.clusters.items():
            tensors[f"clusters.{name}.centroids"] = clusters.centroids.contiguous()
            tensors |= {f"clusters.{name}.transform.{k}": v.contiguous() for k, v in clusters.transform.items()}
        description = {
            "format": "seehear-model",
            "version": 1,
            "modalities": self.modalities,
            "statistics": self.statistics.to_dict(),
            "config": to_dict(self.config),
            **({"classes": self.class_names} if self.class_names else {}),
            **({"texts": self.texts.description()} if self.texts is not None else {}),
        }
        with new_folder(folder, replacing=(_CONFIG, _WEIGHTS, HASHES, _BACKBONES)) as temporary:
            for name, backbone in backbones.items():
                (temporary / _BACKBONES / name).mkdir(parents=True)
                cast(ForeignEncoder, backbone).write(temporary / _BACKBONES / name)
            written = [path for path in (temporary / _BACKBONES).rglob("*") if path.is_file()]
            # As bytes: the library's own writing reports a full disk as something else than an OSError.
            write_atomic(temporary / _WEIGHTS, safetensors_bytes(tensors))
            write_atomic(temporary / _CONFIG, json.dumps(description, indent=1))
            write_hashes(temporary, (_CONFIG, _WEIGHTS, *sorted(str(p.relative_to(temporary)) for p in written)))

    @classmethod
    def load(cls, path: str | Path) -> Model:
        """Read a model folder, or the model of a run folder.

        Raises `RunError` if there is none, or its files are not those that were written (`seehear.hashes`).
        """
        folder = Path(path)
        folder = folder / "model" if (folder / "model" / _CONFIG).exists() else folder
        check_hashes(folder)
        try:
            description = json.loads((folder / _CONFIG).read_text())
            config = from_dict(description["config"])
            tensors = load_file(folder / _WEIGHTS)
            texts = Texts.restore(config, description.get("texts"), tensors)
        except FileNotFoundError as error:
            remedy = "give the folder of a run"
            if (Path(path) / "config.yaml").exists():
                method = load_config(Path(path) / "config.yaml").method
                remedy = f"finish it: `seehear {'finetune' if method == 'finetune' else 'pretrain'} --resume {path}`"
            raise RunError(f"{path} holds no trained model ({Path(error.filename).name} is missing)", remedy) from error
        except (ValueError, KeyError, SafetensorError) as error:
            raise RunError(f"the model in {folder} is damaged: {error}") from error
        encoders: dict[str, nn.Module] = {}
        projections, classifiers = {}, {}
        class_names = description.get("classes", [])
        for name, modality in description["modalities"].items():
            encoder: Any = _encoder(folder / _BACKBONES / name, modality, config, _under(f"encoders.{name}.", tensors))
            encoders[name] = encoder
            if projected := _under(f"projections.{name}.", tensors):
                head = MLPHead(int(encoder.feature_dim), config.gdt.dimensions, unit=True)
                head.load_state_dict(projected)
                projections[name] = head
            if classifier := _under(f"classifiers.{name}.", tensors):
                classifiers[name] = nn.Linear(int(encoder.feature_dim), len(class_names))
                classifiers[name].load_state_dict(classifier)
        heads = None
        if of_heads := _under("heads.", tensors):
            heads = cluster_heads(config, {name: int(encoder.feature_dim) for name, encoder in encoders.items()})  # type: ignore[arg-type]
            heads.load_state_dict(of_heads)
        return cls(
            config,
            description["modalities"],
            encoders,
            Statistics.from_dict(description["statistics"]),
            _clusters_from(tensors),
            projections,
            heads,
            classifiers,
            class_names,
            texts,
        )

    def subset(self, stream: str) -> Model:
        """The part of the model that one stream, "video" or "audio", is enough for.

        SeLaVi's heads for frames stay, as those of its variant `frames`; for sound alone it has no variant. Raises
        `UsageError` if no encoder is left.
        """
        names = [name for name, modality in self.modalities.items() if MODALITIES[modality].stream == stream]
        if not names:
            raise UsageError(f"this model has no encoder of {stream}", f"it has {', '.join(self.encoders)}")
        config, heads = self.config, None
        if self.heads is not None and stream == "video" and "video" in self.heads.sources:
            config = replace(config, selavi=replace(config.selavi, variant="frames"))
            heads = cluster_heads(config, {name: int(self.encoders[name].feature_dim) for name in names})  # type: ignore[arg-type]
            heads.load_state_dict({k: v for k, v in self.heads.state_dict().items() if k.startswith("of.video.")})
        return Model(
            config,
            {name: self.modalities[name] for name in names},
            {name: self.encoders[name] for name in names},
            self.statistics,
            {name: clusters for name, clusters in self.clusters.items() if set(name.split("+")) <= set(names)},
            {name: head for name, head in self.projections.items() if name in names},
            heads,
            {name: layer for name, layer in self.classifiers.items() if name in names},
            self.class_names,
            self.texts,
        )

    def shareable(self) -> Model:
        """This model without what its settings say of a machine and its data: paths, conditions, columns."""
        config = self.config
        shared = copy.copy(self)
        shared.config = replace(
            config,
            model=replace(
                config.model,
                video_weights=None,
                audio_weights=None,
                text_vectors=None,
                video_encoder=without_place(config.model.video_encoder),
                audio_encoder=without_place(config.model.audio_encoder),
            ),
            finetune=replace(config.finetune, run="", data=""),
            data=DataConfig(label_separator=config.data.label_separator),
        )
        return shared

    def save_pretrained(self, folder: str | Path) -> Path:
        """Write the model into a new folder to give away, whole or not at all; `from_pretrained` reads it.

        What `shareable` leaves out is not in it. Raises `UsageError` if there is something in `folder` already.
        """
        with new_folder(Path(folder)) as temporary:
            self.shareable().save(temporary)
        return Path(folder)

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> Model:
        """The model of a folder that `save_pretrained` wrote; `load` by another name."""
        return cls.load(folder)

    @property
    def cluster_counts(self) -> dict[str, int]:
        """Clusters of each labelling that the encoders allow."""
        if self.heads is None or self.clusters:
            return {name: len(clusters.centroids) for name, clusters in self.clusters.items()}
        names = [n for n in LABELLING_OF.values() if all(part in self.encoders for part in n.split("+"))]
        return dict.fromkeys(names, self.heads.clusters)

    def labels(
        self,
        bank: FeatureBank,
        labelling: str,
        head: int = 0,
        *,
        names: np.ndarray | None = None,
        adapt: Adapt | None = None,
    ) -> dict[str, np.ndarray] | None:
        """`label_rows` of a whole bank, with what is said of a row among all: its exemplar rank, a head's agreement."""
        rows = self.label_rows(bank, labelling, head, names=names, adapt=adapt)
        return None if rows is None else ranked(rows)

    def label_rows(
        self,
        bank: FeatureBank,
        labelling: str,
        head: int = 0,
        *,
        names: np.ndarray | None = None,
        adapt: Adapt | None = None,
    ) -> dict[str, np.ndarray] | None:
        """Labels of every row of a bank by one labelling; None if the model has none of this name.

        By the nearest centroid (`cluster_rows`), or where the model has heads by one of them (`head_rows`), or with
        `names`, those of `consensus_names`, by all (`consensus_rows`), whose probabilities `adapt` may change. Raises
        `UsageError` for a head that there is not.
        """
        parts = labelling.split("+")
        if not all(name in bank.features for name in parts):
            return None
        if (head or names is not None) and (self.heads is None or not 0 <= head < self.heads.count):
            heads = self.heads.count if self.heads is not None else 0
            there = f"this model has {heads}, from 0 on" if heads else "only --method selavi trains heads that label"
            raise UsageError(f"there is no head {head}", there)
        if labelling in self.clusters:
            return cluster_rows(bank, labelling, self.clusters[labelling])
        inputs = self._head_inputs(bank, parts)
        if self.heads is None or not inputs:
            return None
        if names is not None:
            return consensus_rows(self.heads, inputs, names, adapt)
        return head_rows(self.heads, inputs, head, adapt)

    def consensus_names(self, bank: FeatureBank) -> np.ndarray:
        """The names of the heads' clusters in their consensus on this bank, (H, K); see `consensus_names`."""
        inputs = self._head_inputs(bank, list(bank.features))
        if self.heads is None or not inputs:
            raise UsageError("there is no consensus without heads", "only --method selavi trains heads that label")
        return consensus_names(self.heads, inputs)

    def _head_inputs(self, bank: FeatureBank, names: Sequence[str]) -> dict[str, Tensor]:
        if self.heads is None:
            return {}
        return self.heads.inputs({name: torch.from_numpy(np.asarray(bank.features[name])) for name in names})

    def project(self, bank: FeatureBank) -> dict[str, np.ndarray]:
        """Features of a bank in the space that the encoders share: for each encoder (N, dimensions), of unit length.

        Raises `UsageError` if the model has no such space.
        """
        if not self.projections:
            raise UsageError(
                f"a model trained by {self.config.method} has no space that its encoders share",
                "sight and sound can be compared after --method gdt",
            )
        with torch.inference_mode():
            return {
                name: self.projections[name](torch.from_numpy(np.asarray(features))).numpy()
                for name, features in bank.features.items()
                if name in self.projections
            }

    def set_clusters(self, labellings: Mapping[str, Labelling]) -> None:
        """Keep the centroids of these labellings, so that new videos can be labelled."""
        self.clusters = {n: Clusters(x.centroids, x.transform) for n, x in labellings.items()}

    def embed(
        self,
        source: str | Path | Manifest,
        *,
        every_seconds: float | None = None,
        modalities: Sequence[str] = ("video", "audio"),
        workers: int = 0,
        cache: MediaCache | None = None,
        device: str | torch.device = "cpu",
        failures: Failures | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> pa.Table:
        """Features of videos, one row a segment.

        `source` is whatever `seehear.scan` takes, or its result. A segment is a whole video (or one of the
        equal parts that `cluster.max_span_seconds` cuts it into), or with `every_seconds` one of that length.
        The clip in its middle is embedded, or the mean of several (`cluster.averaged_clips`). Columns:
        `video_id`, `start_seconds`, `end_seconds`, and a list of float32 for each encoder. Videos that fail
        are in `failures`. Raises `DataError` if nothing is left.
        """
        needed = self.streams(modalities)
        manifest = source if isinstance(source, Manifest) else self.scan(source, needed)
        blocks = self.embed_blocks(
            manifest, every_seconds=every_seconds, modalities=modalities, workers=workers, cache=cache, device=device,
            failures=failures, progress=progress,
        )  # fmt: skip
        tables = list(blocks)
        if not sum(table.num_rows for table in tables):
            raise DataError("not one clip could be decoded")
        return pa.concat_tables(tables)

    def streams(self, modalities: Sequence[str]) -> tuple[str, ...]:
        """The streams that videos need for the encoders of `modalities`. Raises `UsageError` if there is no such one.

        A model of one modality asks no more of the videos than it looks at.
        """
        needed = streams_of(tuple(m for m in self.modalities.values() if m in modalities))
        if not needed:
            raise UsageError(f"this model has no encoder of {' or '.join(modalities)}")
        return needed

    def embed_blocks(
        self, manifest: Manifest, *, failures: Failures | None = None, progress: Tell | None = None, **options: Any
    ) -> Iterator[pa.Table]:
        """What `embed` gives, in the blocks in which it is computed (`seehear.features.blocks`), one at a time.

        `options` are every_seconds, modalities, workers, cache and device, as there. A table may be empty.
        """
        from seehear.features.blocks import Embedder, block_edges, clips_of

        with Embedder(self, **options) as embedder:
            rows = usable_rows(manifest, embedder.streams)
            clips = clips_of(rows, embedder.streams, self.config, embedder.every_seconds)
            done, total = np.concatenate([[0], np.cumsum(clips)]).astype(int), int(clips.sum())
            for first, end in itertools.pairwise(block_edges(clips, self.config)):
                block = rows.slice(first, end - first).to_pylist()
                tell = None if progress is None else within(progress, done[first], done[end] - done[first], total)
                yield bank_table(embedder.bank(block, Failures() if failures is None else failures, tell))

    def scan(self, source: str | Path | FileList, streams: Sequence[str], **options: Any) -> Manifest:
        """`seehear.data.scanning.scan` for these streams, as this model needs videos: their length, the sound track.

        `options` are those of that function.
        """
        from seehear.data.scanning import scan

        return scan(
            source, need=tuple(streams), min_seconds=self.config.clip.seconds,
            audio_track=self.config.data.audio_track, **options,
        )  # fmt: skip

    def extract(
        self,
        videos: Sequence[Video],
        refs: Sequence[ClipRef],
        *,
        modalities: Sequence[str] = ("video", "audio"),
        workers: int = 0,
        cache: MediaCache | None = None,
        device: str | torch.device = "cpu",
        failures: Failures | None = None,
        progress: Callable[[int, int], None] | None = None,
        calibrate: bool = False,
    ) -> FeatureBank:
        """Features of the given spans, by the encoders of `modalities`.

        `calibrate` first measures batch normalisation's statistics on them, as the first round of a run may do.
        Raises `DataError` if a feature is not finite.
        """
        views = {name: m for name, m in self.modalities.items() if m in modalities}
        if not views:
            raise UsageError(f"this model has no encoder of {' or '.join(modalities)}")
        encoders = {name: self.encoders[name].to(device) for name in views}
        with ClipLoader(
            videos, self.config, views, self.statistics, workers=workers, cache=cache, failures=failures,
            device=device,
        ) as loader:  # fmt: skip
            requests = plain_requests(refs, loader.videos, self.config.clip, self.config.cluster.averaged_clips)
            if calibrate:
                calibrate_batchnorm(encoders, loader, requests, device=torch.device(device))
            bank = extract(
                encoders,
                loader,
                requests,
                device=torch.device(device),
                batch_size=self.config.optim.batch_size,
                progress=progress,
            )
        if bank.not_finite():
            raise DataError("the encoders give features that are not finite", "was the run's training sound?")
        return bank


def _encoder(folder: Path, modality: str, config: Config, tensors: Mapping[str, Tensor]) -> nn.Module:
    """An encoder of a model: one of ours, or where `folder` holds one of others, the adapter on top of it."""
    if not folder.is_dir():
        own = build_encoder(modality, config.model, torch.Generator())
        own.load_state_dict(tensors)
        return own
    backbone = read_encoder(folder)
    adapter = ResidualAdapter(backbone.feature_dim)
    adapter.load_state_dict(_under("adapter.", tensors))
    return OnBackbone(backbone, adapter, tuned=config.model.tune_encoders)


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {k[len(prefix) :]: v for k, v in tensors.items() if k.startswith(prefix)}


def weights_sha256(module: nn.Module) -> str:
    """SHA-256 of all weights and buffers, their names, types and shapes; where they lie has no part in it."""
    digest = hashlib.sha256()
    for part in module.modules():
        if isinstance(part, ForeignEncoder):  # whose weights may be no tensors of a module
            digest.update(part.content().encode())
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def usable_rows(manifest: Manifest, streams: Sequence[str], columns: Sequence[str] | None = None) -> pa.Table:
    """The manifest's usable rows that have these streams, of its columns all or some; `DataError` if there is none.

    A manifest that was scanned for one stream may hold videos without the other.
    """
    table, usable = manifest.table, manifest.table["usable"]
    for stream in streams:
        usable = pc.and_(usable, pc.is_valid(table[f"{stream}_duration_seconds"]))
    if columns is not None:
        table = table.select([name for name in columns if name in table.column_names])
    if not pc.all(usable, min_count=0).as_py():
        table = table.filter(usable)
    if not table.num_rows:
        raise DataError(f"no usable video\n{manifest.summary_text()}", "see the reasons above")
    return table


def usable_videos(manifest: Manifest, modalities: Sequence[str]) -> list[Video]:
    """The videos of `usable_rows`, with the span in which the streams of `modalities` overlap."""
    return list(video_table(manifest, modalities))


def video_table(manifest: Manifest, modalities: Sequence[str]) -> VideoTable:
    """`usable_videos` in columns."""
    streams = streams_of(tuple(modalities))
    return VideoTable.from_rows(usable_rows(manifest, streams, VideoTable.columns(streams)), streams)


def segments(video: Video, every_seconds: float) -> list[ClipRef]:
    """A video cut every so many seconds; a rest shorter than half of that joins the last segment."""
    if every_seconds <= 0:
        raise UsageError("segments need a length above zero")
    count = max(1, round(video.seconds / every_seconds))
    edges = [video.start_seconds + i * every_seconds for i in range(count)] + [video.end_seconds]
    return [make_ref(video.video_id, start, end) for start, end in itertools.pairwise(edges)]


def bank_table(bank: FeatureBank) -> pa.Table:
    """A feature bank as a table: video_id, start_seconds, end_seconds and a list of float32 for each encoder."""
    columns: dict[str, Any] = {
        "video_id": pa.array([r.video_id for r in bank.refs], pa.string()),
        "start_seconds": pa.array([r.start_seconds for r in bank.refs], pa.float64()),
        "end_seconds": pa.array([r.end_seconds for r in bank.refs], pa.float64()),
    }
    for name, features in bank.features.items():
        flat = pa.array(np.ascontiguousarray(features, dtype=np.float32).reshape(-1))
        columns[name] = pa.FixedSizeListArray.from_arrays(flat, features.shape[1])
    return pa.table(columns)


def table_bank(table: pa.Table) -> FeatureBank:
    """Inverse of `bank_table`."""
    names = [n for n in table.column_names if n not in ("video_id", "start_seconds", "end_seconds")]
    keys = zip(*(table[c].to_pylist() for c in ("video_id", "start_seconds", "end_seconds")), strict=True)
    refs = [make_ref(video_id, start, end) for video_id, start, end in keys]
    features = {}
    for name in names:
        column = table[name].combine_chunks()
        width = column.type.list_size if pa.types.is_fixed_size_list(column.type) else -1
        features[name] = np.array(column.flatten()).reshape(len(refs), width)
    return FeatureBank(refs, features, np.ones(len(refs), dtype=bool))


def cluster_rows(bank: FeatureBank, labelling: str, clusters: Clusters) -> dict[str, np.ndarray]:
    """Cluster, distance to its centroid and confidence of every row of a bank."""
    labels, distances, confidence = clusters.assign(bank.joined(labelling))
    return {"cluster": labels.astype(np.int32), "distance": distances, "confidence": confidence}


def _clusters_from(tensors: Mapping[str, Tensor]) -> dict[str, Clusters]:
    names = {k.split(".")[1] for k in tensors if k.startswith("clusters.")}
    found = {}
    for name in names:
        prefix = f"clusters.{name}.transform."
        transform = {k[len(prefix) :]: v for k, v in tensors.items() if k.startswith(prefix)}
        found[name] = Clusters(tensors[f"clusters.{name}.centroids"], transform)
    return found
