"""Generalised data transformations: what a representation should be distinctive or invariant to, or ignore.

A specification is a product of factors, each with a hypothesis (Patrick et al., "Multi-modal self-supervision
from generalized data transformations"):

    >>> spec = Sample() @ TimeShift("distinct") @ Reversal("invariant") @ Modalities()
    >>> spec.transformations_per_sample
    8

A factor is one small class: which values it takes for a clip (`sample`), how a value acts on the decoded clip
(`act`), and, by the integer that stands for a value, which two values are equal. From the hypotheses follow
the contrast c(T, T') (Eq. 2: the product over distinctive factors of whether the values are equal) and the
weight w(T, T') of Eq. 1 (0 where an ignored factor differs, and between equal modalities by default).
A specification that gives no learning signal is refused when it is made, with the reason.

This module imports no torch; codes and masks are arrays, and the same code serves tensors.
"""

from __future__ import annotations

import difflib
import hashlib
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, get_args

import numpy as np

from seehear.errors import UsageError
from seehear.hypotheses.factors import FACTORS, Augment, Factor, Hypothesis, Modalities, Pairs, Sample, Span, View
from seehear.modalities import MODALITIES


@dataclass(frozen=True)
class Hypotheses:
    """A specification: factors in the order of the sampling tree, each with its hypothesis.

    Made with `@`, by `parse`, or from a tuple; `checked()` raises `UsageError` for one that cannot be learnt from.
    """

    factors: tuple[Factor, ...]

    def __matmul__(self, other: Factor | Hypotheses) -> Hypotheses:
        more = other.factors if isinstance(other, Hypotheses) else (other,)
        return Hypotheses(self.factors + more)

    def __str__(self) -> str:
        return ", ".join(map(str, self.factors))

    def __getitem__(self, name: str) -> Factor:
        return next(f for f in self.factors if f.name == name)

    def __contains__(self, name: str) -> bool:
        return any(f.name == name for f in self.factors)

    @property
    def modalities(self) -> tuple[str, ...]:
        """Names of the modalities, "label" among them if it is one."""
        found = self["modality"]
        assert isinstance(found, Modalities)
        return found.names

    @property
    def pairs(self) -> Pairs:
        """Which modalities are compared: "all" where there is one alone."""
        found = self["modality"]
        assert isinstance(found, Modalities)
        return found.pairs if len(found.names) > 1 else "all"

    @property
    def encoded(self) -> tuple[str, ...]:
        """The modalities that have an encoder."""
        return tuple(m for m in self.modalities if MODALITIES[m].encoder)

    @property
    def transformations_per_sample(self) -> int:
        """The product of K_m below a sample; a factor that changes one modality alone multiplies only that."""
        shared = [f.count for f in self.factors if f.only is None and f.name not in ("sample", "modality")]
        return int(np.prod(shared)) * sum(self._values_of(m) for m in self.modalities)

    def _values_of(self, modality: str) -> int:
        """How many values those factors have below a modality that change one alone."""
        counts = [f.count for f in self.factors if f.only is not None and modality in (f.only, "label")]
        return int(np.prod(counts))

    @property
    def fastest(self) -> int:
        """The highest playback speed: so many times as long must a video be."""
        return 2 ** (self["speed"].count - 1) if "speed" in self else 1

    @property
    def label_factor(self) -> str:
        """The factor whose value the pseudo-modality "label" tells: the distinctive one."""
        found = [f.name for f in self.factors if f.hypothesis == "distinct" and f.name not in ("sample", "modality")]
        told = [f.name for f in FACTORS.values() if f.most is not None]
        if len(found) == 1 and found[0] not in told:
            raise UsageError(
                f"{found[0]} has no fixed set of values, so the pseudo-modality label cannot tell them",
                f"state {' or '.join(told)} as distinct instead",
            )
        if len(found) != 1:
            raise UsageError(
                "the pseudo-modality label tells the value of one distinctive factor, and there "
                + (f"are {', '.join(found)}" if found else "is none besides sample"),
                f"state exactly one of {', '.join(told)} as distinct",
            )
        return found[0]

    def column(self, name: str) -> int:
        """Where a factor's code stands in `View.codes`."""
        return [f.name for f in self.factors].index(name)

    # -- sampling -------------------------------------------------------------------------------------------------

    def views(self, clip_id: str, start: int, span: Span, rng: np.random.Generator) -> list[View]:
        """The transformations of one clip: the leaves of the sampling tree below it, K in all.

        Args:
            clip_id: of the sample; clips of equal id are one value of the factor `sample`.
            start: where the clip starts when no factor says otherwise.
        """
        leaves = [View(start)]
        for factor in self.factors:
            grown = []
            for leaf in leaves:
                for code, view in factor.sample(leaf, span, rng):
                    if factor.name == "sample":
                        digest = hashlib.blake2b(clip_id.encode("utf-8", "surrogateescape"), digest_size=8).digest()
                        code = int.from_bytes(digest, "big") >> 1
                    grown.append(replace(view, codes=(*view.codes, code)))
            leaves = grown
        return leaves

    def example(self, samples: int = 2) -> tuple[list[View], np.ndarray]:
        """Views of a few made-up clips and their codes (K, factors): what pictures and checks look at."""
        rng = np.random.default_rng(0)
        span = Span(0, 10_000, 30.0)
        views = [v for i in range(samples) for v in self.views(f"clip{i}", 5 * i, span, rng)]
        return views, np.array([v.codes for v in views], dtype=np.int64)

    def signature(self) -> bytes:
        """Equal for specifications that see and compare the same, and so give the same loss on every batch."""
        views, codes = self.example()
        w = self.compared(codes, codes) & ~np.eye(len(codes), dtype=bool)
        seen = repr([(v.modality, v.speed, v.acts, [v.start == u.start for u in views]) for v in views])
        return seen.encode() + np.packbits(self.contrast(codes, codes) & w).tobytes() + np.packbits(w).tobytes()

    # -- the loss's two matrices ----------------------------------------------------------------------------------

    def contrast(self, a: Any, b: Any) -> Any:
        """c(T, T') of Eq. 2 for codes a (n, factors) and b (m, factors): booleans (n, m), arrays or tensors."""
        c = _everywhere(a, b)
        for column, factor in enumerate(self.factors):
            if factor.hypothesis == "distinct":
                c = c & (a[:, None, column] == b[None, :, column])
        return c

    def compared(self, a: Any, b: Any) -> Any:
        """w(T, T') of Eq. 1 for codes as in `contrast`, but for T = T', which the loss leaves out itself."""
        w = _everywhere(a, b)
        for column, factor in enumerate(self.factors):
            equal = a[:, None, column] == b[None, :, column]
            if factor.hypothesis == "ignore":
                w = w & equal
            if factor.name == "modality" and self.pairs != "all":
                w = w & (equal if self.pairs == "within" else ~equal)
        return w

    def checked(self) -> Hypotheses:
        """The specification itself; raises `UsageError` if it is not a valid learning problem, saying why.

        The contrast of a product of factors is an equivalence relation whatever the hypotheses (lemma 4), so
        what can go wrong is: a factor that is stated but never varies, one that does not change what a modality
        shows (lemma 3: then equal data would have to be told apart), and pairs without a positive or a negative.
        """
        self._check_factors()
        _, codes = self.example()
        other = ~np.eye(len(codes), dtype=bool)
        w = self.compared(codes, codes) & other
        c = self.contrast(codes, codes)
        lonely = ~(c & w).any(1) & ~self._only_repels(codes)
        if not w.any():
            raise UsageError(
                f"{self}: no two transformations are compared (w = 0 everywhere)",
                "ignore fewer factors, or set pairs=all",
            )
        if lonely.any():
            raise UsageError(f"{self}: {self._why_lonely(int(lonely.sum()), len(codes))}", self._remedy_lonely())
        if not (~c & w).any():
            raise UsageError(
                f"{self}: every pair that is compared is a positive, so a constant representation is perfect",
                self._remedy_agreeing(),
            )
        return self

    def _only_repels(self, codes: np.ndarray) -> np.ndarray:
        """Which need no positive: a text that was changed, to be told from what it was, is there to repel."""
        found = np.zeros(len(codes), dtype=bool)
        for column, factor in enumerate(self.factors):
            if factor.only is not None and factor.hypothesis == "distinct":
                found |= codes[:, column] > 0
        return found

    def _check_factors(self) -> None:
        names = [f.name for f in self.factors]
        twice = sorted({n for n in names if names.count(n) > 1})
        if twice:
            raise UsageError(f"{', '.join(twice)} is stated twice", "state each factor once")
        if names[:1] != ["sample"]:
            raise UsageError(f"{self}: the factor sample comes first", "begin with sample=distinct")
        if "modality" not in names:
            raise UsageError(
                f"{self}: the factor modality is missing", "add modality=invariant, or modality=invariant:video"
            )
        stated = self["modality"]
        assert isinstance(stated, Modalities)
        unknown = [n for n in stated.names if n not in MODALITIES]
        if unknown or not stated.names or len(set(stated.names)) < len(stated.names):
            raise UsageError(f"modalities are some of {', '.join(MODALITIES)}, each once, not {'+'.join(stated.names)}")
        if stated.pairs not in get_args(Pairs):
            raise UsageError(f"pairs are cross, within or all, not {stated.pairs!r}")
        for factor in self.factors:
            if factor.hypothesis not in get_args(Hypothesis):
                raise UsageError(f"there is no hypothesis {factor.hypothesis!r}", "distinct, invariant or ignore")
            if isinstance(factor, (Sample, Modalities)):
                continue
            if factor.count < 1 or (factor.most is not None and factor.count > factor.most):
                raise UsageError(f"{factor.name} has {factor.most or 'any number of'} values, not {factor.count}")
            if factor.count == 1 and factor.hypothesis != "invariant":
                raise UsageError(
                    f"{factor.name} is stated as {factor.hypothesis} but sampled once, so that no two transformations "
                    "of a clip differ in it",
                    f"sample it twice ({factor.name}={factor.hypothesis}*2), or leave it out",
                )
            if factor.only is not None:
                self._check_factor_of_one(factor)
            elif factor.hypothesis == "distinct":
                self._check_that_all_change(factor)
        if "label" in self.modalities:
            self.label_factor  # noqa: B018 - raises if there is no one factor for it
        if not self.encoded:
            raise UsageError(f"{self}: no modality is left to learn")
        if all(MODALITIES[m].stream is None for m in self.encoded):
            raise UsageError(
                f"{self}: nothing of a video is looked at", "add video or audio: modality=invariant:video+text"
            )

    def _check_that_all_change(self, factor: Factor) -> None:
        for modality in self.encoded:
            if (MODALITIES[modality].stream or modality) not in factor.changes:
                raise UsageError(
                    f"{factor.name} does not change {modality}, so {modality} cannot be distinctive to it "
                    "(lemma 3: equal data would have to be told apart)",
                    f"state {factor.name} as invariant or ignore, or leave {modality} out",
                )

    def _check_factor_of_one(self, factor: Factor) -> None:
        names = [f.name for f in self.factors]
        if factor.only not in self.modalities:
            raise UsageError(
                f"{factor.name} changes {factor.only} alone, which is not among the modalities",
                f"add it: modality=invariant:video+{factor.only}",
            )
        if names.index(factor.name) < names.index("modality"):
            raise UsageError(
                f"{factor.name} changes {factor.only} alone, so it is sampled after modality", "state it later"
            )

    def _why_lonely(self, lonely: int, total: int) -> str:
        share = "no transformation has" if lonely == total else f"{lonely} of {total} transformations have no"
        positive = " a positive" if lonely == total else " positive"
        if self.pairs == "cross" and self["modality"].hypothesis == "distinct":
            reason = "modality is distinct, and pairs of one modality are not compared"
        else:
            reason = "no second transformation has the same values of the distinctive factors ("
            reason += ", ".join(f.name for f in self.factors if f.hypothesis == "distinct") + ")"
            if self.pairs == "within":
                reason += " within its modality"
        return f"{share}{positive}: {reason}"

    def _remedy_lonely(self) -> str:
        if self.pairs == "cross" and self["modality"].hypothesis == "distinct":
            return "modality=invariant"
        return "sample the augmentation twice (augment=invariant*2), or state another factor as invariant"

    def _remedy_agreeing(self) -> str:
        ignored = [f.name for f in self.factors if f.hypothesis == "ignore"]
        if ignored and any(f.hypothesis == "distinct" for f in self.factors):
            return f"what is distinct differs only where {' and '.join(ignored)} does, which is ignored: ignore less"
        return "state a factor as distinct: sample=distinct is the usual one"


def _everywhere(a: Any, b: Any) -> Any:
    """True, of shape (n, m), in the arrays' own library."""
    return (a[:, None, 0] == a[:, None, 0]) & (b[None, :, 0] == b[None, :, 0])


def parse(text: str) -> Hypotheses:
    """A specification from text: a name in `NAMED`, or `factor=hypothesis` joined by commas.

    `*n` after a hypothesis sets how many values are sampled, `:a+b` after that of modality names the
    modalities, and `pairs=cross|within|all` says which of them are compared. What is left out is not varied;
    `modality` and `augment` are added as invariant. Raises `UsageError` with a suggestion.
    """
    text = text.strip()
    if text in NAMED:
        text = NAMED[text].text
    elif "=" not in text:
        close = difflib.get_close_matches(text, NAMED, n=3, cutoff=0.4)
        remedy = f"did you mean {' or '.join(close)}?" if close else "`seehear hypotheses` lists the named ones"
        raise UsageError(f"there is no specification {text!r}", remedy)
    made: dict[str, Factor] = {}
    pairs: str | None = None
    for part in text.split(","):
        name, separator, value = (s.strip() for s in part.partition("="))
        if not separator:
            raise UsageError(f"{part.strip()!r} in {text!r} is not factor=hypothesis", "for example sample=distinct")
        if name in made or (name == "pairs" and pairs is not None):
            raise UsageError(f"{name} is stated twice", "state each factor once")
        if name == "pairs":
            pairs = value
            continue
        if name not in FACTORS:
            close = difflib.get_close_matches(name, [*FACTORS, "pairs"], n=1, cutoff=0.4)
            remedy = f"did you mean {close[0]}?" if close else f"there are {', '.join(FACTORS)}"
            raise UsageError(f"there is no factor {name!r}", remedy)
        made[name] = _factor(name, value)
    made.setdefault("sample", Sample())
    modality = made.setdefault("modality", Modalities())
    made.setdefault("augment", Augment())
    if pairs is not None:
        made["modality"] = replace(modality, pairs=pairs)  # type: ignore[call-arg]
    return Hypotheses(tuple(made[name] for name in FACTORS if name in made)).checked()


def _factor(name: str, value: str) -> Factor:
    kind = FACTORS[name]
    value, _, names = value.partition(":")
    value, starred, number = value.partition("*")
    hypothesis = value.strip()
    if hypothesis not in get_args(Hypothesis):
        close = difflib.get_close_matches(hypothesis, get_args(Hypothesis), n=1, cutoff=0.4)
        remedy = f"did you mean {close[0]}?" if close else "distinct, invariant or ignore"
        raise UsageError(f"there is no hypothesis {hypothesis!r} (for {name})", remedy)
    settings: dict[str, Any] = {"hypothesis": hypothesis}
    if starred:
        if not number.strip().isdecimal() or kind in (Sample, Modalities):
            raise UsageError(f"{name}={value}*{number}: the number of values cannot be set so")
        settings["count"] = int(number)
    if names:
        if kind is not Modalities:
            raise UsageError(f"{name} takes no names ({names})", "modality=invariant:video+audio does")
        settings["names"] = tuple(n.strip() for n in names.split("+"))
    return kind(**settings)


@dataclass(frozen=True)
class Named:
    """A specification with a name, its meaning, and what the paper reports for it."""

    text: str
    meaning: str
    accuracy: float | None = None
    """HMDB-51 accuracy after finetuning (GDT, table 1), per cent."""
    recall5: float | None = None
    """HMDB-51 video retrieval, recall at 5 (GDT, table 1), per cent."""


def _row(reversal: str, shift: str, video_only: bool = False) -> str:
    # The paper's dot: the effect takes no part, as if it had not been sampled.
    words = {"v": "distinct", "i": "invariant"}
    parts = ["sample=distinct"]
    parts += [f"time_shift={words[shift]}"] if shift in words else []
    parts += [f"reversal={words[reversal]}"] if reversal in words else []
    parts.append("modality=invariant:video" if video_only else "modality=invariant")
    # One modality and no other invariance: positives are two augmentations of a clip.
    parts += ["augment=invariant*2"] if video_only and len(parts) == 2 else []
    return ", ".join(parts)


NAMED: dict[str, Named] = {
    "a": Named(_row(".", ".", True), "SimCLR on video: two augmentations of a clip agree", 47.1, 32.5),
    "b": Named(_row("i", ".", True), "SimCLR on video, invariant to time reversal", 39.5, 31.9),
    "c": Named(_row(".", "i", True), "SimCLR on video, invariant to time shift", 46.9, 34.5),
    "d": Named(_row("i", "i", True), "SimCLR on video, invariant to both", 46.6, 33.4),
    "e": Named(_row(".", "."), "sight and sound of a clip agree", 56.9, 49.3),
    "f": Named(_row("i", "."), "sight and sound of a clip agree, forwards or backwards alike", 56.1, 49.7),
    "g": Named(_row(".", "i"), "sight and sound of a clip agree, whenever in the video", 57.2, 45.2),
    "h": Named(_row("i", "i"), "sight and sound of a clip agree, whenever and in whichever direction", 56.6, 44.8),
    "i": Named(_row("i", "v"), "tells moments of a video apart, not its direction", 57.5, 46.8),
    "j": Named(_row("v", "i"), "tells forwards from backwards, not moments apart", 57.0, 46.2),
    "k": Named(_row(".", "v"), "tells moments of a video apart", 58.0, 50.2),
    "l": Named(_row("v", "."), "tells forwards from backwards", 58.2, 50.2),
    "m": Named(_row("v", "v"), "tells moments and directions apart", 60.0, 47.8),
    "cross-modal": Named(_row(".", "."), "row (e) by its other name (table A.1)", 56.9, 49.3),
    "within-modal": Named(
        "sample=distinct, modality=invariant, pairs=within, augment=invariant*2",
        "each modality by itself, two augmentations a clip (table A.1)", 32.9,
    ),
    "all-pairs": Named(
        "sample=distinct, modality=invariant, pairs=all, augment=invariant*2",
        "within and across modalities at once",
    ),
    "simclr-video": Named(_row(".", ".", True), "row (a) by its other name", 47.1, 32.5),
    "simclr-audio": Named(
        "sample=distinct, modality=invariant:audio, augment=invariant*2", "SimCLR on sound alone"
    ),
    "npid": Named(
        "sample=distinct, modality=invariant:video, augment=invariant*2",
        "instance discrimination without a memory bank: SimCLR's loss (appendix A.2)",
    ),
    "pirl-rotation": Named(
        "sample=distinct, rotation=invariant, modality=invariant:video",
        "a clip agrees with itself turned (PIRL; appendix A.2)",
    ),
    "rotnet": Named(
        "sample=ignore, rotation=distinct, modality=invariant:video+label",
        "predict the rotation: the label as a pseudo-modality (Eq. 3)",
    ),
    "arrow-of-time": Named(
        "sample=ignore, reversal=distinct, modality=invariant:video+label",
        "predict the direction of time: the label as a pseudo-modality",
    ),
    "speednet": Named(
        "sample=ignore, speed=distinct, modality=invariant:video+label",
        "predict the playback speed: the label as a pseudo-modality",
    ),
    "same-rotation": Named(
        "sample=invariant, rotation=distinct, modality=invariant:video",
        "clips turned by the same amount agree, whichever they are (appendix A.2)",
    ),
    "motion": Named(
        "sample=distinct, modality=invariant:video+audio+motion", "three modalities: frame differences join"
    ),
    "video-text": Named(
        "sample=distinct, modality=invariant:video+text", "frames and words of a clip agree (appendix A.2.1)"
    ),
    "video-text-any-order": Named(
        "sample=distinct, modality=invariant:video+text, sentence_order=invariant, word_order=invariant",
        "frames and words agree, whatever the order of sentences and words (appendix A.2.1)",
    ),
    "video-text-order": Named(
        "sample=distinct, modality=invariant:video+text, sentence_order=distinct, word_order=distinct",
        "frames agree with words in their order, and not with those in another (appendix A.2.1)",
    ),
}  # fmt: skip
"""Rows (a) to (m) of the paper's table 1, and what its appendix and other systems reduce to."""


def rows() -> list[str]:
    """The names of the rows of the paper's table 1."""
    return [name for name in NAMED if len(name) == 1]


def enumerate_specifications(
    factors: Sequence[str], modalities: tuple[str, ...] = ("video", "audio"), pairs: Sequence[Pairs] = ("cross",)
) -> list[Hypotheses]:
    """Every valid specification in which each of `factors` is absent, distinct, invariant or ignored.

    Specifications that give the same loss on every batch are kept once: `signature` tells them apart.
    """
    unknown = [f for f in factors if f not in FACTORS or f in ("sample", "modality", "augment")]
    unknown += [f for f in factors if f in FACTORS and FACTORS[f].only not in (None, *modalities)]
    if unknown:
        raise UsageError(f"there is no such factor to search over: {', '.join(unknown)}")
    found: dict[bytes, Hypotheses] = {}
    for chosen in itertools.product(("absent", *get_args(Hypothesis)), repeat=len(factors)):
        for pair in pairs:
            made = {n: FACTORS[n](hypothesis=h) for n, h in zip(factors, chosen, strict=True) if h != "absent"}
            base: dict[str, Factor] = {"sample": Sample(), **made, "modality": Modalities(names=modalities, pairs=pair)}
            # Without another positive, the augmentation gives one.
            for augmentations in (1, 2):
                base["augment"] = Augment(count=augmentations)
                try:
                    spec = Hypotheses(tuple(base[n] for n in FACTORS if n in base)).checked()
                except UsageError:
                    continue
                found.setdefault(spec.signature(), spec)
                break
    return list(found.values())
