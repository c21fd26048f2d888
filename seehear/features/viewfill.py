"""The extraction into banks: what is missing is decoded once and shown to the encoders, whatever asked for it."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import nn

from seehear import dist
from seehear.config import Config
from seehear.data.clips import ClipRequest
from seehear.data.columns import ClipTable, VideosById
from seehear.data.loader import ClipLoader, Failures, Part, transformed
from seehear.data.views import Statistics
from seehear.features.viewbank import Act, ViewBank
from seehear.features.viewplan import Needed
from seehear.hypotheses.factors import View

FLUSH_SECONDS, FLUSH_BYTES = 30.0, 256 * 2**20
"""What is extracted is written so often, or when it is so much: that is lost at most when a process is killed."""
AT_ONCE = 16
"""Clips of a span that an encoder sees at once. Those of other spans never join them: what a span's features are in
their last bits depends on nothing else."""


@dataclass
class _Span:
    """What is to be extracted of one span: by stream keys, starts, acts, and whether each is augmented."""

    request: ClipRequest
    rows: dict[str, list[tuple[bytes, int, Act, bool]]] = field(default_factory=dict)


def fill(
    needed: Mapping[str, Needed],
    encoders: Mapping[str, nn.Module],
    refs: ClipTable,
    videos: VideosById,
    config: Config,
    failures: Failures,
    *,
    device: torch.device,
    workers: int,
    progress: Callable[[int, int], None],
) -> int:
    """Extract what is missing in the banks, by stream, and look at them again. Returns how many spans it took.

    Every process of a machine takes its share. Videos that cannot be decoded are noted in `failures`; their rows stay
    missing. `progress` may raise to stop: what was extracted until then is kept.
    """
    missing = {stream: of.missing() for stream, of in needed.items()}
    here = _spans(needed, missing, refs)
    mine = _share(here)
    if mine:
        banks = {stream: of.bank for stream, of in needed.items()}
        # Small groups: a span may have many windows, which the decoding processes hold ready.
        one = replace(config, optim=replace(config.optim, batch_size=1))
        with ClipLoader(
            videos.table, one, {stream: stream for stream in needed}, Statistics.stated(config), workers=workers,
            cache=None, failures=failures, device_views=False,
        ) as loader:  # fmt: skip
            models = {stream: encoders[stream].to(device).eval() for stream in needed}
            _extract(mine, loader, models, banks, device, progress)
    dist.barrier("the features of the encoders")
    for of in needed.values():
        if here:
            of.bank.open()
            of.look()
    return len(here)


def _spans(needed: Mapping[str, Needed], missing: Mapping[str, np.ndarray], refs: ClipTable) -> list[_Span]:
    """The spans of which something is missing, each key in the first that has it."""
    left = {stream: set(keys.tolist()) for stream, keys in missing.items()}
    some = np.zeros(len(refs), dtype=bool)
    for of in needed.values():
        some |= ~of.there
    found = []
    for place in np.flatnonzero(some):
        rows = {stream: list(_of_span(of, int(place), left[stream])) for stream, of in needed.items()}
        windows = {
            View(start, modality=stream, speed=act.speed): None
            for stream, of_stream in rows.items()
            for _, start, act, _ in of_stream
        }
        if windows:
            request = ClipRequest(refs[int(place)], 0.0, 0.0, (0,), tuple(windows))
            found.append(_Span(request, {stream: of for stream, of in rows.items() if of}))
    return found


def _of_span(of: Needed, place: int, left: set[bytes]) -> Iterator[tuple[bytes, int, Act, bool]]:
    """What of `left` a span has: taken out of it."""
    every = max(1, of.augmentations)
    entries = [(key, start, 0, False) for key, start in zip(of.plain_keys[place, :, 0], of.plain[place], strict=True)]
    for start, keys in zip(of.moments[place], of.moment_keys[place], strict=True):
        entries += [(key, start, column // every, of.augmentations > 0) for column, key in enumerate(keys)]
    for key, start, act, drawn in entries:
        name = bytes(key)
        if name in left:
            left.remove(name)
            yield name, int(start), of.acts[act], drawn


def _share(spans: Sequence[_Span]) -> Sequence[_Span]:
    """This process's share among those of its machine: each machine may have a cache of its own."""
    hosts = dist.all_gather_objects((socket.gethostname(), dist.rank()))
    own = [rank for host, rank in hosts if host == socket.gethostname()]
    return spans[own.index(dist.rank()) :: len(own)]


def _extract(
    spans: Sequence[_Span],
    loader: ClipLoader,
    models: Mapping[str, nn.Module],
    banks: Mapping[str, ViewBank],
    device: torch.device,
    progress: Callable[[int, int], None],
) -> None:
    by_request = {id(span.request): span for span in spans}
    made: dict[str, list[tuple[list[bytes], np.ndarray]]] = {stream: [] for stream in models}
    written = time.monotonic()

    def flush() -> None:
        for stream, parts in made.items():
            if parts:
                keys = np.array([key for names, _ in parts for key in names], dtype="S24")
                banks[stream].add(keys, np.concatenate([x for _, x in parts]))
                parts.clear()

    places = {id(span.request): place for place, span in enumerate(spans, 1)}
    try:
        progress(0, len(spans))
        for request, media in loader.media([span.request for span in spans]):
            for stream, rows in by_request[id(request)].rows.items():
                made[stream] += _features(rows, stream, media, loader, models[stream], device)
            size = sum(x.nbytes for parts in made.values() for _, x in parts)
            if time.monotonic() - written > FLUSH_SECONDS or size > FLUSH_BYTES:
                flush()
                written = time.monotonic()
            progress(places[id(request)], len(spans))
    finally:
        flush()


def _features(
    rows: Sequence[tuple[bytes, int, Act, bool]],
    stream: str,
    media: Mapping[Part, np.ndarray],
    loader: ClipLoader,
    model: nn.Module,
    device: torch.device,
) -> Iterator[tuple[list[bytes], np.ndarray]]:
    """Keys and features of a span's rows, plain ones apart from augmented ones."""
    rate = loader.config.clip.frame_rate_hz
    for drawn in (False, True):
        of = [row for row in rows if row[3] == drawn]
        for part in (of[i : i + AT_ONCE] for i in range(0, len(of), AT_ONCE)):
            arrays = [
                transformed(media[stream, start / rate, act.speed], stream, View(start, speed=act.speed, acts=act.acts))
                for _, start, act, _ in part
            ]
            # What is drawn follows from what the row is, whatever run it was made for.
            rngs = [np.random.default_rng(np.frombuffer(key.ljust(24, b"\0"), ">u8").tolist()) if drawn else None
                    for key, *_ in part]  # fmt: skip
            with torch.inference_mode():
                found = model(loader.inputs_of(stream, arrays, rngs, device)).float().cpu().numpy()
            yield [key for key, *_ in part], found
