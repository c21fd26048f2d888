"""Read a run folder into plain data: no HTML, no pictures, nothing that fails because one file is missing.

Every part of a run is optional except that there must be *something* to look at. A run that is still going,
was killed, or whose method has no clusters gives the parts that it has.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from seehear.cluster.doubt import THRESHOLD
from seehear.data.manifest import Manifest
from seehear.engine.runfolder import RunFolder
from seehear.errors import RunError
from seehear.media.identity import ANY_CONTENT, Identity
from seehear.transfer.evaluations import Evaluation, load_all

LABELLINGS = ("video", "audio", "both")


@dataclass(frozen=True)
class Video:
    """One row of the manifest."""

    video_id: str
    path: str
    usable: bool = True
    reason: str = ""
    detail: str = ""
    duration_seconds: float = 0.0
    label: str | None = None
    identity: Identity = ANY_CONTENT
    """What tells whether the file is still the one that was scanned."""
    clock_jumps: bool = False
    audio_track: int = 0


@dataclass(frozen=True)
class Clip:
    """One labelled window of a video."""

    video_id: str
    start_seconds: float
    end_seconds: float


@dataclass(frozen=True)
class Labelling:
    """The clusters of one labelling; arrays run along `Run.clips`, and -1 stands for "no cluster"."""

    name: str
    cluster: np.ndarray
    confidence: np.ndarray
    distance: np.ndarray
    rank: np.ndarray
    agreement: np.ndarray
    """The share of other heads that agree; not a number for a method without heads."""

    def clusters(self) -> list[int]:
        """The numbers of the clusters that have at least one clip, in order."""
        return [int(c) for c in np.unique(self.cluster) if c >= 0]

    def members(self, cluster: int) -> np.ndarray:
        """Indices of the cluster's clips, the closest to the centroid first."""
        rows = np.flatnonzero(self.cluster == cluster)
        return rows[np.argsort(self.rank[rows], kind="stable")]


@dataclass(frozen=True)
class Failure:
    """A video that could be probed but failed while the run went on."""

    video_id: str
    path: str
    reason: str
    detail: str
    when: str


@dataclass
class Metrics:
    """The lines of metrics.jsonl by kind; kinds that we do not know are left out."""

    steps: list[dict[str, Any]] = field(default_factory=list)
    epochs: list[dict[str, Any]] = field(default_factory=list)
    rounds: list[dict[str, Any]] = field(default_factory=list)
    warnings: list[dict[str, Any]] = field(default_factory=list)
    end: dict[str, Any] | None = None

    @property
    def step_count(self) -> int:
        """Steps of training that were taken, as far as is written down."""
        last = max((number(record.get("step")) or 0 for record in self.steps), default=0)
        return int(number((self.end or {}).get("steps")) or last)

    def __bool__(self) -> bool:
        return bool(self.steps or self.epochs or self.rounds or self.warnings or self.end)


@dataclass
class Run:
    """All that the report needs of one run folder."""

    folder: Path
    config: dict[str, Any] = field(default_factory=dict)
    config_text: str = ""
    env: dict[str, Any] = field(default_factory=dict)
    videos: list[Video] = field(default_factory=list)
    sample: dict[str, Any] = field(default_factory=dict)
    """Of a run on a random part of its videos how many were `drawn`, and `of` how many."""
    failures: list[Failure] = field(default_factory=list)
    metrics: Metrics = field(default_factory=Metrics)
    clips: list[Clip] = field(default_factory=list)
    labellings: dict[str, Labelling] = field(default_factory=dict)
    doubt: np.ndarray | None = None
    """Along `clips`, not a number where nothing can be said; None: nothing is said of any (`seehear.cluster.doubt`)."""
    kinds: dict[str, Any] = field(default_factory=dict)
    """How many kinds were counted: what `kinds.json` holds."""
    weights: dict[str, np.ndarray] = field(default_factory=dict)
    evaluations: list[Evaluation] = field(default_factory=list)
    """What `seehear evaluate` and `finetune` kept; files that hold none are passed over."""

    @cached_property
    def doubtful(self) -> np.ndarray:
        """Along `clips`: those that may belong to no kind, as far as the run says so."""
        return np.zeros(len(self.clips), dtype=bool) if self.doubt is None else self.doubt >= THRESHOLD

    @cached_property
    def paths(self) -> dict[str, str]:
        """The path of each video, by its id."""
        return {video.video_id: video.path for video in self.videos}

    @cached_property
    def by_id(self) -> dict[str, Video]:
        """The videos by their ids."""
        return {video.video_id: video for video in self.videos}

    def locate(self, path: str) -> Path:
        """Where a manifest path lies now: as written, or under a data folder named in the settings."""
        given = Path(path)
        if given.is_absolute() or given.exists():
            return given
        data = self.config.get("data")
        folders = list(_strings(data)) if isinstance(data, Mapping) else []
        for folder in [*folders, str(self.folder), str(self.folder.parent)]:
            if (Path(folder) / given).exists():
                return Path(folder) / given
        return given

    def setting(self, *keys: str, default: Any = None) -> Any:
        """A nested setting, or `default` where there is none."""
        value: Any = self.config
        for key in keys:
            if not isinstance(value, Mapping) or key not in value:
                return default
            value = value[key]
        return value


def gather(folder: str | Path) -> Run:
    """Read what there is in a run folder; RunError if it is none, or one with nothing to look at yet."""
    root = Path(folder)
    if not root.is_dir():
        raise RunError(f"{root} is not a folder", "give the folder that `seehear pretrain` wrote")
    if not any((root / name).exists() for name in ("config.yaml", "metrics.jsonl", "labels.parquet")):
        raise RunError(
            f"{root} is not a run folder: it has no config.yaml, metrics.jsonl or labels.parquet",
            "give the folder that `seehear pretrain` wrote",
        )
    RunFolder(root).check_trained("`seehear weights show` says what they are")
    run = Run(folder=root)
    run.config, run.config_text = _read_yaml(root / "config.yaml")
    run.env = _read_json(root / "env.json")
    run.metrics = read_metrics(root / "metrics.jsonl")
    run.videos = _read_manifest(root / "manifest.parquet")
    run.sample = Manifest.info_of(root / "manifest.parquet").get("sample", {})
    run.failures = _read_failures(root / "failures.jsonl")
    run.clips, run.labellings, run.doubt = _read_labels(root / "labels.parquet")
    run.kinds = _read_json(RunFolder(root).kinds)
    run.weights = _read_stems(root / "model" / "model.safetensors")
    run.evaluations, _ = load_all(root)
    if not run.metrics and not run.labellings:
        raise RunError(
            f"{root} has nothing to show yet: no metrics and no labels",
            "let the run train for a while (or resume it), then ask again",
        )
    return run


def read_metrics(path: Path) -> Metrics:
    """Read metrics.jsonl; a line that is not whole JSON (a run killed while it wrote) is passed over."""
    metrics = Metrics()
    by_kind = {
        "step": metrics.steps,
        "epoch": metrics.epochs,
        "round": metrics.rounds,
        "warning": metrics.warnings,
    }
    for record in _json_lines(path):
        kind = record.get("kind")
        if kind == "end":
            metrics.end = record
        elif kind in by_kind:
            by_kind[kind].append(record)
    return metrics


def feature_names(folder: Path) -> list[str]:
    """Encoders that have a column in features.parquet."""
    path = folder / "features.parquet"
    if not path.exists():
        return []
    schema = _schema(path)
    return [f.name for f in schema if pa.types.is_fixed_size_list(f.type) or pa.types.is_list(f.type)]


def read_features(folder: Path, name: str, limit: int) -> tuple[list[Clip], np.ndarray, int]:
    """At most `limit` evenly spaced rows of one encoder's features: (their clips, values, rows in all)."""
    path = folder / "features.parquet"
    table = _table(path, ["video_id", "start_seconds", "end_seconds", name])
    total = table.num_rows
    if total > limit:
        rows = np.unique(np.linspace(0, total - 1, limit).round().astype(np.int64))
        table = table.take(pa.array(rows))
    column = table.column(name).combine_chunks()
    values = column.flatten().to_numpy(zero_copy_only=False)
    return _clips(table), values.reshape(table.num_rows, -1).astype(np.float32), total


def number(value: Any) -> float | None:
    """`value` as a finite float, or None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


def heads(records: Iterable[Mapping[str, Any]], prefix: str) -> list[str]:
    """The names after `prefix/` that occur in the records, in order of first sight."""
    found: dict[str, None] = {}
    for record in records:
        for key in record:
            if key.startswith(prefix + "/"):
                found[key[len(prefix) + 1 :]] = None
    return list(found)


def _strings(values: Mapping[str, Any]) -> Iterable[str]:
    for value in values.values():
        if isinstance(value, str):
            yield value
        elif isinstance(value, Sequence):
            yield from (item for item in value if isinstance(item, str))


def _json_lines(path: Path) -> Iterable[dict[str, Any]]:
    if not path.exists():
        return
    with path.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            try:
                record = json.loads(line)
            except ValueError:
                continue
            if isinstance(record, dict):
                yield record


def _read_yaml(path: Path) -> tuple[dict[str, Any], str]:
    if not path.exists():
        return {}, ""
    text = path.read_text(encoding="utf-8", errors="replace")
    try:
        loaded = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise RunError(f"{path} is damaged: {error}", "restore it from a copy of the run folder") from error
    return (loaded if isinstance(loaded, dict) else {}), text


def _read_json(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        loaded = json.loads(path.read_text(encoding="utf-8", errors="replace"))
    except ValueError:
        return {}
    return loaded if isinstance(loaded, dict) else {}


def _schema(path: Path) -> pa.Schema:
    try:
        return pq.read_schema(path)
    except (pa.ArrowException, OSError) as error:
        raise RunError(f"{path} is damaged: {error}", "restore it, or train again") from error


def _table(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    try:
        return pq.read_table(path, columns=list(columns) if columns else None)
    except (pa.ArrowException, OSError) as error:
        raise RunError(f"{path} is damaged: {error}", "restore it, or train again") from error


def _clips(table: pa.Table) -> list[Clip]:
    columns = [table.column(c).to_pylist() for c in ("video_id", "start_seconds", "end_seconds")]
    return [Clip(str(v), float(s or 0.0), float(e or 0.0)) for v, s, e in zip(*columns, strict=True)]


def _read_manifest(path: Path) -> list[Video]:
    if not path.exists():
        return []
    table = _table(path)
    have = set(table.column_names)

    def column(name: str, default: Any) -> list[Any]:
        return table.column(name).to_pylist() if name in have else [default] * table.num_rows

    names = (
        "video_id", "path", "usable", "reason", "detail", "video_duration_seconds", "label",
        "clock_jumps", "audio_track", "fingerprint", "size_bytes", "modified_ns",
    )  # fmt: skip
    defaults = ("", "", True, "", "", 0.0, None, None, None, None, None, None)
    columns = [column(name, default) for name, default in zip(names, defaults, strict=True)]
    return [
        Video(
            str(i),
            str(p),
            bool(u),
            str(r or ""),
            str(d or ""),
            number(s) or 0.0,
            None if x is None else str(x),
            Identity(*identity),
            bool(jumps),
            track or 0,
        )
        for i, p, u, r, d, s, x, jumps, track, *identity in zip(*columns, strict=True)
    ]


def _read_failures(path: Path) -> list[Failure]:
    found: dict[tuple[str, str], Failure] = {}
    for record in _json_lines(path):
        when = ", ".join(f"{key} {record[key]}" for key in ("round", "epoch") if record.get(key) is not None)
        video_id, file, reason, detail = (
            str(record.get(key) or "") for key in ("video_id", "path", "reason", "detail")
        )
        failure = Failure(video_id, file, reason, detail, when)
        found.setdefault((failure.video_id or failure.path, failure.reason), failure)
    return list(found.values())


def _read_labels(path: Path) -> tuple[list[Clip], dict[str, Labelling], np.ndarray | None]:
    if not path.exists():
        return [], {}, None
    table = _table(path)
    clips = _clips(table)
    labellings = {}
    names = [c.removeprefix("cluster_") for c in table.column_names if c.startswith("cluster_")]
    for name in sorted(names, key=lambda n: (LABELLINGS.index(n) if n in LABELLINGS else 99, n)):
        cluster = _array(table, f"cluster_{name}", -1).astype(np.int64)
        distance = _array(table, f"distance_{name}", np.nan).astype(np.float64)
        rank = _array(table, f"rank_{name}", np.nan)
        # Without ranks the distance orders the clips; without both, the order in the file does.
        order = np.where(np.isnan(rank), np.where(np.isnan(distance), np.inf, distance), rank)
        confidence = _array(table, f"confidence_{name}", np.nan).astype(np.float64)
        if (cluster >= 0).any():
            agreement = _array(table, f"agreement_{name}", np.nan).astype(np.float64)
            labellings[name] = Labelling(name, cluster, confidence, distance, order, agreement)
    doubt = _array(table, "doubt", np.nan)
    return clips, labellings, doubt if np.isfinite(doubt).any() else None


def _array(table: pa.Table, name: str, missing: float) -> np.ndarray:
    if name not in table.column_names:
        return np.full(table.num_rows, missing, dtype=np.float64)
    values = table.column(name).to_pylist()
    return np.array([missing if v is None else v for v in values], dtype=np.float64)


def _read_stems(path: Path) -> dict[str, np.ndarray]:
    """First-layer weights only: the rest of the model is not looked at, so it is not read."""
    if not path.exists():
        return {}
    from safetensors import SafetensorError, safe_open

    from seehear.hashes import check_hashes

    check_hashes(path.parent)
    wanted = ("video.stem.0.weight", "video.stem.3.weight", "audio.conv1.weight", "audio.stem.0.weight")
    try:
        with safe_open(path, framework="pt") as file:
            keys = [key for key in file.keys() if key.endswith(wanted)]  # noqa: SIM118 (not a mapping)
            return {key: file.get_tensor(key).float().numpy() for key in sorted(keys)}
    except (SafetensorError, OSError) as error:
        raise RunError(f"{path} is damaged: {error}", "restore it, or train again") from error
