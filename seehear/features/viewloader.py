"""Batches of features that are there already, in the place of decoded clips."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from seehear.config import Config
from seehear.data.clips import ClipRequest
from seehear.data.columns import ClipTable, VideosById
from seehear.data.loader import BATCHES_AHEAD, ClipLoader, Failures, prefetch
from seehear.data.views import Statistics
from seehear.features.viewplan import Needed, act_of
from seehear.hypotheses.factors import View
from seehear.types import Batch, Keys


class ViewLoader:
    """A `seehear.data.supply.Supply` whose encoders are given rows of banks; others of the run still see clips.

    Args:
        needed: by stream, with all rows that are to be had; clips of which one is missing are left out.
        views: what each encoder sees.
        live: decodes for the encoders whose streams are not in `needed`; None where there is none.
    """

    def __init__(
        self,
        needed: Mapping[str, Needed],
        refs: ClipTable,
        videos: VideosById,
        config: Config,
        views: Mapping[str, str],
        statistics: Statistics,
        failures: Failures,
        live: ClipLoader | None = None,
    ) -> None:
        self.config, self.videos, self.views = config, videos, dict(views)
        self.statistics, self.failures = statistics, failures
        self._needed, self._live = needed, live
        self._stored = {name: m for name, m in views.items() if m in needed}
        self._spans = Keys(refs.clip_ids)
        self._acts = {stream: {act: place for place, act in enumerate(of.acts)} for stream, of in needed.items()}

    def close(self) -> None:
        """End the decoding processes, if there are any."""
        if self._live is not None:
            self._live.close()

    def __enter__(self) -> ViewLoader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def statistics_of(self, modality: str) -> tuple[np.ndarray, np.ndarray]:
        """Mean and deviation (D,), float32, of the features of all plain clips."""
        of = self._needed[modality]
        rows = of.plain_rows[of.there].ravel()
        total, squares = np.zeros(of.bank.dim), np.zeros(of.bank.dim)
        for part in np.array_split(rows, max(1, len(rows) // 65536)):
            x = of.bank.take(part).astype(np.float64)
            total, squares = total + x.sum(0), squares + np.square(x).sum(0)
        mean = total / len(rows)
        std = np.sqrt(np.maximum(squares / len(rows) - mean**2, 0))
        return mean.astype(np.float32), std.astype(np.float32)

    # -- batches ----------------------------------------------------------------------------------------------------

    def batches(self, requests: Sequence[ClipRequest], batch_size: int) -> Generator[Batch, None, None]:
        """Batches of up to so many clips; a group without a clip that is there gives none."""
        groups = (requests[i : i + batch_size] for i in range(0, len(requests), batch_size))
        for batch in self.group_batches(groups):
            if batch:
                yield batch

    def group_batches(self, groups: Iterable[Sequence[ClipRequest]]) -> Generator[Batch, None, None]:
        """A batch for every group."""
        if self._live is None:
            return prefetch((self._batch(group) for group in groups), BATCHES_AHEAD)
        return self._beside_live(self._live, groups)

    def _beside_live(self, live: ClipLoader, groups: Iterable[Sequence[ClipRequest]]) -> Generator[Batch, None, None]:
        """Batches that are decoded, with the rows of the same clips."""
        asked: deque[list[ClipRequest]] = deque()

        def left() -> Iterator[list[ClipRequest]]:
            for group in groups:
                there = [r for r, ok in zip(group, self._there(group), strict=True) if ok]
                asked.append(there)
                yield [replace(r, views=tuple(v for v in r.views if v.modality in live.views)) for r in there]

        decoded = live.group_batches(left())
        try:
            for batch in decoded:
                group = asked.popleft()
                if not batch:
                    yield batch
                    continue
                ids = iter(batch.clip_ids)
                wanted = next(ids, None)
                matched = []
                for request in group:
                    if request.ref.clip_id == wanted:
                        matched.append(request)
                        wanted = next(ids, None)
                stored = self._batch(matched)
                batch.inputs |= stored.inputs
                batch.codes |= {name: codes for name, codes in stored.codes.items() if name not in batch.codes}
                yield batch
        finally:
            decoded.close()

    def to_inputs(self, batch: Batch, device: torch.device) -> Batch:
        """The batch on a device."""
        return batch.to(device) if self._live is None else self._live.to_inputs(batch, device)

    # -- rows -------------------------------------------------------------------------------------------------------

    def _there(self, requests: Sequence[ClipRequest]) -> np.ndarray:
        """Which requests have all of their features."""
        spans = self._spans.rows([r.ref.clip_id for r in requests])
        whole = spans >= 0
        for of in self._needed.values():
            whole &= of.there[spans]
        return whole

    def _batch(self, requests: Sequence[ClipRequest]) -> Batch:
        requests = [r for r, ok in zip(requests, self._there(requests), strict=True) if ok] if requests else []
        if not requests:
            return Batch([], {})
        ids = [r.ref.clip_id for r in requests]
        spans = self._spans.rows(ids)
        if requests[0].views:
            return self._of_views(ids, spans, requests)
        inputs = {}
        for view, (name, modality) in enumerate(self.views.items(), start=1):
            if name not in self._stored:
                continue
            of, rate = self._needed[modality], self.config.clip.frame_rate_hz
            seconds = [r.start_seconds if modality == "video" else r.audio_start_seconds for r in requests]
            starts = np.round(np.array(seconds) * rate).astype(np.int64)
            if requests[0].seed is None:
                rows = of.row_of_plain(spans, starts)
            else:
                numbers = [_draw(r, view, of.augmentations) for r in requests]
                rows = of.row_of_view(spans, starts, np.zeros_like(spans), np.array(numbers))
            inputs[name] = torch.from_numpy(of.bank.take(rows))
        return Batch(ids, inputs)

    def _of_views(self, ids: list[str], spans: np.ndarray, requests: Sequence[ClipRequest]) -> Batch:
        """One row for each view of each clip, in the input of the modality that it projects to."""
        codes: dict[str, list[tuple[int, ...]]] = {}
        wanted: dict[str, list[tuple[int, int, int, int]]] = {name: [] for name in self._stored}
        for span, request in zip(spans.tolist(), requests, strict=True):
            numbers = self._numbers(request)
            for view, number in zip(request.views, numbers, strict=True):
                codes.setdefault(view.modality, []).append(view.codes)
                if view.modality in wanted:
                    act = self._acts[view.modality][act_of(view, view.modality)]
                    wanted[view.modality].append((span, view.start, act, number))
        inputs: dict[str, Tensor] = {}
        for name, asked in wanted.items():
            of = self._needed[self.views[name]]
            rows = of.row_of_view(*np.array(asked, dtype=np.int64).T)
            inputs[name] = torch.from_numpy(of.bank.take(rows))
        factors = len(requests[0].views[0].codes)
        held = {name: torch.tensor(values, dtype=torch.int64).reshape(-1, factors) for name, values in codes.items()}
        return Batch(ids, inputs, held)

    def _numbers(self, request: ClipRequest) -> list[int]:
        """Which augmentation each view of a request is; of views that are else alike different ones, if there are."""
        most = self.config.bank.augmentations
        assert request.seed is not None
        order = np.random.default_rng([*request.seed, 1]).permutation(most).tolist()
        alike: dict[View, int] = {}
        numbers = []
        for view in request.views:
            same = replace(view, codes=())
            numbers.append(order[alike.get(same, 0) % most])
            alike[same] = alike.get(same, 0) + 1
        return numbers


def _draw(request: ClipRequest, view: int, augmentations: int) -> int:
    """Which augmentation one encoder is given of a clip."""
    if augmentations < 2:
        return 0
    assert request.seed is not None
    return int(np.random.default_rng([*request.seed, view]).integers(augmentations))
