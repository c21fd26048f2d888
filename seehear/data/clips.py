"""Which windows of which videos are used: the spans that are labelled and the clips drawn from them."""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from seehear.config import AugmentConfig, ClipConfig, ClusterConfig, Config
from seehear.hypotheses.factors import Span, View
from seehear.hypotheses.language import Hypotheses
from seehear.media.identity import Identity
from seehear.types import ClipRef
from seehear.words.cues import Cue, from_cell

# A sampler's and an augmentation's draws must differ though they share seed, round and epoch.
_ORDER_STREAM, _SAMPLE_STREAM = 0, 1


@dataclass(frozen=True)
class Video:
    """A usable row of the manifest, reduced to what decoding needs."""

    video_id: str
    path: str
    fingerprint: str
    start_seconds: float
    """Earliest time at which every needed stream is there."""
    end_seconds: float
    """Latest such time."""
    width: int
    height: int
    clock_jumps: bool = False
    """Whether the clock of the file does (`seehear.media.clock`)."""
    audio_track: int = 0
    """The number of its sound track, from 0."""
    size_bytes: int | None = None
    """Size and time of the last change when it was scanned, by which it is known again; None where not noted."""
    modified_ns: int | None = None
    cues: tuple[Cue, ...] = ()
    """What is said of it, where a run looks at text (`seehear.data.captions`)."""

    @property
    def identity(self) -> Identity:
        """What tells whether its file still holds what was scanned."""
        return Identity(self.fingerprint, self.size_bytes, self.modified_ns)

    @property
    def seconds(self) -> float:
        return self.end_seconds - self.start_seconds

    def silent(self, ref: ClipRef) -> bool:
        """Whether text is looked at and nothing is said in a span of this video."""
        return bool(self.cues) and not any(cue.overlaps(ref.start_seconds, ref.end_seconds) for cue in self.cues)

    @classmethod
    def from_row(cls, row: Mapping[str, Any], modalities: Sequence[str]) -> Video:
        """A video of a manifest row; its span is where all of `modalities` ("video", "audio") overlap."""
        spans = [
            (row[f"{m}_start_seconds"], row[f"{m}_start_seconds"] + row[f"{m}_duration_seconds"]) for m in modalities
        ]
        return cls(
            video_id=row["video_id"],
            path=row["path"],
            fingerprint=row["fingerprint"],
            start_seconds=max(s for s, _ in spans),
            end_seconds=min(e for _, e in spans),
            width=row["width"] or 0,
            height=row["height"] or 0,
            clock_jumps=bool(row.get("clock_jumps")),
            audio_track=row.get("audio_track") or 0,  # manifests of older versions know of the first one alone
            size_bytes=row.get("size_bytes"),
            modified_ns=row.get("modified_ns"),
            cues=from_cell(row.get("text_cues")),
        )


@dataclass(frozen=True)
class ClipRequest:
    """One clip to be decoded and viewed."""

    ref: ClipRef
    start_seconds: float
    """Where its frames start."""
    audio_start_seconds: float
    """Where its sound starts."""
    seed: tuple[int, ...] | None
    """Seeds this clip's augmentation; None: the plain centre view."""
    views: tuple[View, ...] = ()
    """Generalised transformations of this clip; without any, each encoder gets one view of it."""


def clip_refs(videos: Sequence[Video], cluster: ClusterConfig) -> list[ClipRef]:
    """Cut every video into equal spans, at least `clips_per_video` and none longer than `max_span_seconds`."""
    refs = []
    for video in videos:
        count = max(cluster.clips_per_video, math.ceil(video.seconds / cluster.max_span_seconds - 1e-6))
        edges = np.linspace(video.start_seconds, video.end_seconds, count + 1)
        for start, end in itertools.pairwise(edges):
            refs.append(make_ref(video.video_id, float(start), float(end)))
    return refs


def make_ref(video_id: str, start_seconds: float, end_seconds: float) -> ClipRef:
    """A reference whose id is the media fragment of its span, in milliseconds."""
    return ClipRef(f"{video_id}#t={start_seconds:.3f},{end_seconds:.3f}", video_id, start_seconds, end_seconds)


def held_out(video_id: str, share: float) -> bool:
    """Whether a video belongs to the validation part.

    Decided by a hash of its id, so that it stays where it is when other videos come or go.
    """
    digest = hashlib.blake2b(video_id.encode("utf-8", "surrogateescape"), digest_size=8).digest()
    return int.from_bytes(digest, "big") < share * 2**64


def evenly_spaced_starts(ref: ClipRef, video: Video, count: int, clip: ClipConfig) -> list[float]:
    """Starts, in seconds, of `count` clips whose centres divide a span evenly, on the frame grid."""
    first, last = _grid_limits(video.start_seconds, video.end_seconds, clip.seconds, clip)
    starts = []
    for number in range(count):  # numpy takes ten times as long for the few numbers of a span
        centre = ref.start_seconds + (number + 0.5) * (ref.end_seconds - ref.start_seconds) / count
        index = round((centre - clip.seconds / 2) * clip.frame_rate_hz)
        starts.append(min(max(index, first), last) / clip.frame_rate_hz)
    return starts


def _grid_limits(start: float, end: float, seconds: float, clip: ClipConfig) -> tuple[int, int]:
    """First and last grid index at which `seconds` fit into [start, end]; equal if only one or none does."""
    first = math.ceil(start * clip.frame_rate_hz - 1e-6)
    return first, max(first, math.floor((end - seconds) * clip.frame_rate_hz + 1e-6))


def first_grid_index(video: Video, clip: ClipConfig) -> int:
    """First index of the frame grid within a video's usable span."""
    return _grid_limits(video.start_seconds, video.end_seconds, clip.seconds, clip)[0]


def random_start(ref: ClipRef, video: Video, seconds: float, clip: ClipConfig, rng: np.random.Generator) -> float:
    """Start of a window of `seconds` drawn uniformly from a span (temporal jittering), on the frame grid."""
    first, last = _start_limits(ref, video, seconds, clip)
    return int(rng.integers(first, last + 1)) / clip.frame_rate_hz


def _start_limits(ref: ClipRef, video: Video, seconds: float, clip: ClipConfig) -> tuple[int, int]:
    """First and last grid index at which a window of `seconds` of a span may start."""
    first, last = _grid_limits(ref.start_seconds, ref.end_seconds, seconds, clip)
    # A span shorter than the window borrows from its neighbours within the video.
    limits = _grid_limits(video.start_seconds, video.end_seconds, seconds, clip)
    return min(max(first, limits[0]), limits[1]), min(max(last, limits[0]), limits[1])


@dataclass(frozen=True)
class Moments:
    """Where clips of some streams begin: at so many moments of each span, as features are kept of no others."""

    count: int
    streams: tuple[str, ...]

    @classmethod
    def kept(cls, config: Config) -> Moments | None:
        """Those of a run whose encoders of others stay as they are; None where all clips are decoded."""
        model = config.model
        if model.tune_encoders or config.method == "finetune":
            return None
        given = {"video": model.video_encoder, "audio": model.audio_encoder}
        streams = tuple(stream for stream, spec in given.items() if spec)
        return cls(config.bank.moments, streams) if streams else None

    def of(self, ref: ClipRef, video: Video, clip: ClipConfig, fastest: int = 1) -> np.ndarray:
        """The moments of a span on the frame grid, ascending: the middles of equal parts of all starts that there are.

        As many as differ, (n,) int64, at which clips played `fastest` times as fast have room, too.
        """
        first, last = _start_limits(ref, video, clip.seconds * fastest, clip)
        starts = last - first + 1
        n = min(self.count, starts)
        return first + ((np.arange(n) + 0.5) * starts / n).astype(np.int64)


def epoch_order(
    count: int, length: int, seed: Sequence[int], labellings: Sequence[np.ndarray] | None = None
) -> np.ndarray:
    """Indices of the clips of an epoch, (length,).

    Passes over random permutations of `count` clips, cut at `length`. With `labellings` (each (count,)),
    draws are uniform over clusters instead, the labellings taking turns (DeepCluster's sampler; a clip has
    as many labels as there are labellings, so no single draw can be uniform for all).
    """
    rng = np.random.default_rng([*seed, _ORDER_STREAM])
    if labellings is None:
        passes = [rng.permutation(count) for _ in range(math.ceil(length / count))]
        return np.concatenate(passes)[:length]
    members = [_members(labels) for labels in labellings]
    order = np.empty(length, dtype=np.int64)
    for i in range(length):
        clusters = members[i % len(members)]
        cluster = clusters[rng.integers(len(clusters))]
        order[i] = cluster[rng.integers(len(cluster))]
    return order


def _members(labels: np.ndarray) -> list[np.ndarray]:
    """The rows of each cluster that has any, in order."""
    order = np.argsort(labels, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(labels[order])) + 1)


def training_requests(
    refs: Sequence[ClipRef],
    order: np.ndarray,
    videos: Mapping[str, Video],
    clip: ClipConfig,
    augment: AugmentConfig,
    seed: Sequence[int],
    first: int = 0,
    moments: Moments | None = None,
) -> list[ClipRequest]:
    """Requests for the clips of an epoch, or of its part `order` that begins at position `first`.

    Draws depend on `seed` and the position alone, not on the process. Where there are `moments`, clips of their streams
    begin at these.
    """

    def drawn(stream: str, seconds: float, ref: ClipRef, video: Video, rng: np.random.Generator) -> float:
        if moments is None or stream not in moments.streams:
            return random_start(ref, video, seconds, clip, rng)
        there = moments.of(ref, video, clip)
        return int(there[rng.integers(len(there))]) / clip.frame_rate_hz

    requests = []
    for position, index in enumerate(order, first):
        ref = refs[index]
        video = videos[ref.video_id]
        sample_seed = (*seed, _SAMPLE_STREAM, position)
        rng = np.random.default_rng([*sample_seed, 0])
        if not augment.temporal_jitter:
            start = audio_start = evenly_spaced_starts(ref, video, 1, clip)[0]
        elif augment.independent_jitter:
            start = drawn("video", clip.frames_seconds, ref, video, rng)
            audio_start = drawn("audio", clip.audio_seconds, ref, video, rng)
        else:
            both = moments.streams[0] if moments is not None else "video"
            start = audio_start = drawn(both, clip.seconds, ref, video, rng)
        requests.append(ClipRequest(ref, start, audio_start, sample_seed))
    return requests


def transformation_requests(
    refs: Sequence[ClipRef],
    order: np.ndarray,
    videos: Mapping[str, Video],
    clip: ClipConfig,
    hypotheses: Hypotheses,
    seed: Sequence[int],
    first: int = 0,
    moments: Moments | None = None,
) -> list[ClipRequest]:
    """As `training_requests`, with the transformations that a specification samples below each clip.

    Where there are `moments`, all begin at these: different starts are then different features.
    """
    requests = []
    for position, index in enumerate(order, first):
        ref = refs[index]
        sample_seed = (*seed, _SAMPLE_STREAM, position)
        rng = np.random.default_rng([*sample_seed, 0])
        first, last = _start_limits(ref, videos[ref.video_id], clip.seconds * hypotheses.fastest, clip)
        if moments is None:
            allowed = _starts_with_words(videos[ref.video_id], first, last, clip)
        else:
            allowed = moments.of(ref, videos[ref.video_id], clip, hypotheses.fastest)
        span = Span(first, last, clip.frame_rate_hz, allowed)
        start = int(rng.integers(first, last + 1)) if span.allowed is None else int(rng.choice(span.allowed))
        views = hypotheses.views(ref.clip_id, start, span, rng)
        seconds = start / clip.frame_rate_hz
        requests.append(ClipRequest(ref, seconds, seconds, sample_seed, tuple(views)))
    return requests


def _starts_with_words(video: Video, first: int, last: int, clip: ClipConfig) -> np.ndarray | None:
    """The starts from `first` to `last` at which something is said within a clip; None where that is no matter.

    It is none where text is not looked at or has no times, and where nothing is said at any of them.
    """
    timed = [
        (c.start_seconds, c.end_seconds)
        for c in video.cues
        if c.start_seconds is not None and c.end_seconds is not None
    ]
    if not timed or len(timed) < len(video.cues):
        return None
    begins = np.arange(first, last + 1) / clip.frame_rate_hz
    spoken = np.zeros(len(begins), dtype=bool)
    for start, end in timed:
        spoken |= (begins < end) & (begins + clip.seconds > start)
    return first + np.flatnonzero(spoken) if spoken.any() else None


def plain_requests(
    refs: Sequence[ClipRef], videos: Mapping[str, Video], clip: ClipConfig, count: int = 1
) -> list[ClipRequest]:
    """Requests for `count` evenly spaced clips of every span, not augmented; for one, the clip in its middle."""
    return [
        ClipRequest(ref, start, start, None)
        for ref in refs
        for start in evenly_spaced_starts(ref, videos[ref.video_id], count, clip)
    ]


def centred_requests(refs: Sequence[ClipRef], videos: Mapping[str, Video], clip: ClipConfig) -> list[ClipRequest]:
    """A request for every span whose frames and sound both lie around its middle, not augmented.

    In training frames and sound start together; where the sound is longer, its middle is then not that of the frames.
    """

    def start(ref: ClipRef, seconds: float) -> float:
        video = videos[ref.video_id]
        first, last = _grid_limits(video.start_seconds, video.end_seconds, seconds, clip)
        middle = (ref.start_seconds + ref.end_seconds) / 2
        return min(max(round((middle - seconds / 2) * clip.frame_rate_hz), first), last) / clip.frame_rate_hz

    return [ClipRequest(ref, start(ref, clip.frames_seconds), start(ref, clip.audio_seconds), None) for ref in refs]
