"""Which features of a bank a run needs: plain clips to label by, and the moments and views that training draws from."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from seehear.config import Config
from seehear.data.clips import Moments, evenly_spaced_starts
from seehear.data.columns import ClipTable, VideosById
from seehear.features.viewbank import Act, ViewBank, draws, keys_of, microseconds, video_number, view_texts
from seehear.hypotheses.factors import FACTORS, View
from seehear.hypotheses.language import Hypotheses


def act_of(view: View, stream: str) -> Act:
    """What a view asks of a stream, without what does not change it."""
    acts = ((name, value) for name, value in view.acts if value and stream in FACTORS[name].changes)
    return Act(view.speed, tuple(sorted(acts)))


def acts_of(specs: Iterable[Hypotheses | None], stream: str) -> list[Act]:
    """All that views of a stream may be like, under specifications of a method; None is the clip as it is."""
    found: dict[Act, None] = {}
    for spec in specs:
        speeds = range(spec["speed"].count) if spec is not None and "speed" in spec else (0,)
        changing = [f for f in spec.factors if stream in f.changes and f.name in _VALUES] if spec is not None else []
        for speed, *values in itertools.product(speeds, *(range(_VALUES[f.name]) for f in changing)):
            acts = tuple((f.name, v) for f, v in zip(changing, values, strict=True))
            found[act_of(View(0, speed=2**speed, acts=acts), stream)] = None
    return list(found)


_VALUES = {"rotation": 4, "reversal": 2}
"""Factors that act on decoded clips, and how many values each has."""


@dataclass
class Needed:
    """What a run needs of one stream's bank, for N spans.

    Moments and plain starts are on the frame grid; where a span has fewer than others, its last one is repeated.
    """

    stream: str
    bank: ViewBank
    acts: list[Act]
    augmentations: int
    """Of each act; 0 where nothing is drawn: then they are the plain ones."""
    plain: np.ndarray
    """(N, P) int64: starts of the clips that are labelled by."""
    moments: np.ndarray
    """(N, J) int64: starts of the clips that are trained on; J is 0 for what is not trained."""
    plain_keys: np.ndarray
    """(N, P, 1)."""
    moment_keys: np.ndarray
    """(N, J, V), V acts times augmentations, the latter changing first."""
    plain_rows: np.ndarray = field(init=False)
    moment_rows: np.ndarray = field(init=False)
    there: np.ndarray = field(init=False)
    """(N,) bool: spans all of whose features are there."""

    def __post_init__(self) -> None:
        self.look()

    def look(self) -> None:
        """Find in the bank what is there; -1 stands for what is not."""
        self.plain_rows, self.moment_rows = self.bank.find(self.plain_keys), self.bank.find(self.moment_keys)
        self.plain_rows = self.plain_rows[..., 0]
        self.there = np.logical_and((self.plain_rows >= 0).all(1), (self.moment_rows >= 0).all((1, 2)))

    def missing(self) -> np.ndarray:
        """The keys that there are not, each once."""
        keys = [self.plain_keys[..., 0][self.plain_rows < 0], self.moment_keys[self.moment_rows < 0]]
        return np.unique(np.concatenate(keys))

    def row_of_plain(self, spans: np.ndarray, starts: np.ndarray) -> np.ndarray:
        """Rows of the plain clips nearest to these starts (B,) of spans (B,); -1 where there is none."""
        return _nearest(self.plain, self.plain_rows[..., None], spans, starts, np.zeros_like(spans))

    def row_of_view(self, spans: np.ndarray, starts: np.ndarray, acts: np.ndarray, numbers: np.ndarray) -> np.ndarray:
        """Rows of the views nearest to these starts, of so-many-th acts and augmentations, each (B,)."""
        column = acts if not self.augmentations else acts * self.augmentations + numbers
        return _nearest(self.moments, self.moment_rows, spans, starts, column)


def _nearest(
    there: np.ndarray, rows: np.ndarray, spans: np.ndarray, starts: np.ndarray, column: np.ndarray
) -> np.ndarray:
    place = np.abs(there[spans] - starts[:, None]).argmin(1)
    found: np.ndarray = rows[spans, place, column]
    return found


def needed(
    config: Config,
    stream: str,
    bank: ViewBank,
    refs: ClipTable,
    videos: VideosById,
    specs: Sequence[Hypotheses | None],
) -> Needed:
    """What a run needs of a bank. `specs` are those of its steps and labels; none where nothing is trained."""
    clip, rate = config.clip, config.clip.frame_rate_hz
    moments = Moments.kept(config)
    assert moments is not None
    fastest = max((spec.fastest for spec in specs if spec is not None), default=1)
    middle = None in specs and not config.augment.temporal_jitter
    plain, drawn, numbers = [], [], []
    for ref in refs:
        video = videos[ref.video_id]
        numbers.append(video_number(video, stream))
        starts = evenly_spaced_starts(ref, video, config.cluster.averaged_clips, clip)
        plain.append([round(start * rate) for start in starts])
        of_span = set() if middle and len(specs) == 1 else set(moments.of(ref, video, clip, fastest).tolist())
        if middle:
            of_span.add(round(evenly_spaced_starts(ref, video, 1, clip)[0] * rate))
        drawn.append(sorted(of_span) if specs else [])
    width = max(map(len, drawn))
    filled = [starts + starts[-1:] * (width - len(starts)) for starts in drawn]
    at_plain, at_moments = (np.array(x, dtype=np.int64).reshape(len(refs), -1) for x in (plain, filled))
    augmentations = config.bank.augmentations if draws(config, stream) else 0
    acts = acts_of(specs, stream) or [Act()]
    of = np.array(numbers, dtype=np.uint64)
    names = list(itertools.chain.from_iterable(view_texts(config, stream, acts, augmentations)))
    return Needed(
        stream, bank, acts, augmentations, at_plain, at_moments,
        keys_of(of, microseconds(at_plain, rate), [Act().text]),
        keys_of(of, microseconds(at_moments, rate), names),
    )  # fmt: skip
