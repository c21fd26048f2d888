"""The factors of a generalised data transformation: what can vary between two views of a clip.

A factor is one small class: which values it takes for a clip (`sample`), how a value acts on the decoded clip
(`act`), and, by the integer that stands for a value, which two values are equal.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from seehear.modalities import MODALITIES
from seehear.words.changes import shuffle_sentences, swap_words

if TYPE_CHECKING:
    from seehear.hypotheses.language import Hypotheses

Hypothesis = Literal["distinct", "invariant", "ignore"]
Pairs = Literal["cross", "within", "all"]


@dataclass(frozen=True)
class Span:
    """Where a clip may start, in steps of the frame grid: `first` <= start <= `last`."""

    first: int
    last: int
    rate_hz: float
    allowed: np.ndarray | None = None
    """The starts (n,) that count, ascending, if not all do: those at which something is said, where text is looked at,
    or of which there are features."""

    @property
    def starts(self) -> np.ndarray:
        """Every start that there is, (n,)."""
        return np.arange(self.first, self.last + 1) if self.allowed is None else self.allowed


@dataclass(frozen=True)
class View:
    """One transformation T of a clip, drawn and not yet carried out."""

    start: int
    """Where its window starts, on the frame grid."""
    codes: tuple[int, ...] = ()
    """The value of each factor of the specification, in its order; equal values have equal codes."""
    modality: str = ""
    speed: int = 1
    """Playback speed: the window is so many times as long, and every so-many-th frame is kept."""
    acts: tuple[tuple[str, int], ...] = ()
    """Factors that act on the decoded media and with which value, in the order of the specification."""


@dataclass(frozen=True)
class Factor:
    """One factor t_m of a transformation with its hypothesis; the base of all."""

    hypothesis: Hypothesis = "invariant"
    """distinct: c = 1 for equal values alone. invariant: c = 1. ignore: w = 0 between different values."""
    count: int = 2
    """K_m: how many values are sampled for each value of the factors before it."""

    name: ClassVar[str]
    letter: ClassVar[str]
    """The paper's letter, for pictures."""
    meaning: ClassVar[str]
    most: ClassVar[int | None] = None
    """How many values there are; None: any number."""
    changes: ClassVar[tuple[str, ...]] = ("video", "audio")
    """Streams that differ when the value does, and "text" if that does."""
    only: ClassVar[str | None] = None
    """The modality that alone is changed, if there is one: it varies below that and the pseudo-modality label, after
    the factor modality, and everything else has its first value."""

    def sample(self, view: View, span: Span, rng: np.random.Generator) -> list[tuple[int, View]]:
        """`count` values below a view of the factors before: each one's code, and the view that it makes."""
        raise NotImplementedError

    @staticmethod
    def act(frames: np.ndarray | None, sound: np.ndarray | None, value: int) -> tuple[Any, Any]:
        """Carry out a value that `sample` put into `View.acts`: frames (T, H, W, 3), sound (S,)."""
        return frames, sound

    @staticmethod
    def act_on_text(text: str, value: int) -> str:
        """Carry out a value that `sample` put into `View.acts` on what is said of the clip."""
        return text

    def worded(self, code: int, rank: int) -> str:
        """A value for pictures: by default the letter and its rank among the values that were sampled with it."""
        return f"{self.letter}{rank + 1}"

    def __matmul__(self, other: Factor | Hypotheses) -> Hypotheses:
        from seehear.hypotheses.language import Hypotheses  # which is made of factors, so it imports this module

        return Hypotheses((self,)) @ other

    def __str__(self) -> str:
        usual = type(self)().count
        return f"{self.name}={self.hypothesis}" + (f"*{self.count}" if self.count != usual else "")


@dataclass(frozen=True)
class Sample(Factor):
    """i: which clip of which video. As many are sampled as the batch holds."""

    hypothesis: Hypothesis = "distinct"
    count: int = 0
    name, letter, meaning = "sample", "i", "which video the clip is from"

    def sample(self, view: View, span: Span, rng: np.random.Generator) -> list[tuple[int, View]]:
        """The clip itself: the loader asks for one specification's tree under each clip of the batch."""
        return [(0, view)]

    def worded(self, code: int, rank: int) -> str:
        """Its number."""
        return f"clip {rank + 1}"


@dataclass(frozen=True)
class TimeShift(Factor):
    """τ: when in the video the clip starts."""

    name, letter, meaning = "time_shift", "τ", "when in the video the clip starts"
    changes = ("video", "audio", "text")

    def sample(self, view: View, span: Span, rng: np.random.Generator) -> list[tuple[int, View]]:
        """Starts drawn uniformly without repetition (with it where the video is too short to do without)."""
        starts = span.starts
        drawn = rng.choice(starts, self.count, replace=len(starts) < self.count)
        return [(int(s), replace(view, start=int(s))) for s in drawn]


@dataclass(frozen=True)
class Speed(Factor):
    """s: playback speed, 1, 2, 4 ... times as fast; the sound's pitch rises with it."""

    name, letter, meaning, most = "speed", "s", "how fast the clip is played: 1, 2, 4 times", 3

    def sample(self, view: View, span: Span, rng: np.random.Generator) -> list[tuple[int, View]]:
        """The `count` slowest speeds."""
        return [(i, replace(view, speed=2**i)) for i in range(self.count)]

    def worded(self, code: int, rank: int) -> str:
        """How many times as fast."""
        return f"{2**code}×"


@dataclass(frozen=True)
class Rotation(Factor):
    """o: frames turned by 0, 90, 180 or 270 degrees (RotNet)."""

    count: int = 4
    name, letter, meaning, most = "rotation", "o", "frames turned by 0, 90, 180, 270 degrees", 4
    changes = ("video",)

    def sample(self, view: View, span: Span, rng: np.random.Generator) -> list[tuple[int, View]]:
        """`count` different quarter turns, exhaustively where count is 4."""
        return [(v, _acted(view, self, v)) for v in _subset(4, self.count, rng)]

    @staticmethod
    def act(frames: np.ndarray | None, sound: np.ndarray | None, value: int) -> tuple[Any, Any]:
        """Turn the frames by `value` quarters."""
        return None if frames is None else np.rot90(frames, value, axes=(1, 2)), sound

    def worded(self, code: int, rank: int) -> str:
        """The angle."""
        return f"{90 * code}°"


@dataclass(frozen=True)
class Reversal(Factor):
    """r: time forwards or backwards, in frames and sound alike."""

    name, letter, meaning, most = "reversal", "r", "time runs forwards or backwards", 2

    def sample(self, view: View, span: Span, rng: np.random.Generator) -> list[tuple[int, View]]:
        """Both directions, or one drawn at random."""
        return [(v, _acted(view, self, v)) for v in _subset(2, self.count, rng)]

    @staticmethod
    def act(frames: np.ndarray | None, sound: np.ndarray | None, value: int) -> tuple[Any, Any]:
        """Flip the time axis of both if `value` is 1."""
        if not value:
            return frames, sound
        return None if frames is None else frames[::-1], None if sound is None else sound[::-1]

    def worded(self, code: int, rank: int) -> str:
        """The direction."""
        return "backwards" if code else "forwards"


@dataclass(frozen=True)
class Modalities(Factor):
    """m: what is seen of the clip. Every modality is sampled, always."""

    names: tuple[str, ...] = ("video", "audio")
    pairs: Pairs = "cross"
    """Pairs that the loss compares: of different modalities (the paper's choice), of one, or all."""
    count: int = 0
    name, letter, meaning = "modality", "m", "what is seen of the clip: its frames, its sound"

    def sample(self, view: View, span: Span, rng: np.random.Generator) -> list[tuple[int, View]]:
        """One view for each modality."""
        return [(list(MODALITIES).index(n), replace(view, modality=n)) for n in self.names]

    def worded(self, code: int, rank: int) -> str:
        """Its name."""
        return list(MODALITIES)[code]

    def __str__(self) -> str:
        names = "+".join(self.names)
        pairs = f", pairs={self.pairs}" if self.pairs != "cross" and len(self.names) > 1 else ""
        return f"{self.name}={self.hypothesis}" + (f":{names}" if names != "video+audio" else "") + pairs


@dataclass(frozen=True)
class Augment(Factor):
    """g: crop, flip and the other augmentations, drawn anew for each view."""

    count: int = 1
    name, letter, meaning = "augment", "g", "crop, flip, volume, masks: drawn anew each time"

    def sample(self, view: View, span: Span, rng: np.random.Generator) -> list[tuple[int, View]]:
        """No two draws are equal, so the codes are random numbers."""
        return [(int(rng.integers(2**62)), view) for _ in range(self.count)]


@dataclass(frozen=True)
class _OfText(Factor):
    """A change of the text alone: as it is written, or changed by a draw of its own.

    The value in `View.acts` is the seed of that draw.
    """

    most = 2
    changes = ("text",)
    only = "text"

    def sample(self, view: View, span: Span, rng: np.random.Generator) -> list[tuple[int, View]]:
        """As written and, of text, changed; a label tells which."""
        if view.modality not in ("text", "label"):
            return [(0, view)]
        changed = _acted(view, self, int(rng.integers(1, 2**31))) if view.modality == "text" else view
        return [(0, view), (1, changed)][: self.count]


@dataclass(frozen=True)
class SentenceOrder(_OfText):
    """h: the sentences of the text as they are written, or shuffled (appendix A.2.1)."""

    name, letter, meaning = "sentence_order", "h", "sentences as written or shuffled"

    @staticmethod
    def act_on_text(text: str, value: int) -> str:
        """Shuffle the sentences."""
        return shuffle_sentences(text, np.random.default_rng(value))

    def worded(self, code: int, rank: int) -> str:
        """Which of the two."""
        return "shuffled" if code else "as written"


@dataclass(frozen=True)
class WordOrder(_OfText):
    """w: the words of the text as they are written, or a tenth of them swapped (appendix A.2.1; Wei and Zou, 2019)."""

    name, letter, meaning = "word_order", "w", "words as written or some swapped"

    @staticmethod
    def act_on_text(text: str, value: int) -> str:
        """Swap words."""
        return swap_words(text, np.random.default_rng(value))

    def worded(self, code: int, rank: int) -> str:
        """Which of the two."""
        return "swapped" if code else "as written"


def _acted(view: View, factor: Factor, value: int) -> View:
    return replace(view, acts=(*view.acts, (factor.name, value)))


def _subset(values: int, count: int, rng: np.random.Generator) -> list[int]:
    return list(range(values)) if count >= values else sorted(int(v) for v in rng.choice(values, count, replace=False))


FACTORS: dict[str, type[Factor]] = {
    f.name: f for f in (Sample, TimeShift, Speed, Rotation, Reversal, Modalities, SentenceOrder, WordOrder, Augment)
}
"""Every factor by name, in the order in which the hierarchy samples them."""
