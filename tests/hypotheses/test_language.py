"""The language of transformations against plain loops and the paper's own table."""

from __future__ import annotations

import itertools
import math
import subprocess
import sys

import numpy as np
import pytest

from seehear.errors import UsageError
from seehear.hypotheses.factors import (
    FACTORS,
    Augment,
    Factor,
    Modalities,
    Reversal,
    Rotation,
    Sample,
    SentenceOrder,
    Span,
    Speed,
    TimeShift,
    View,
)
from seehear.hypotheses.language import NAMED, Hypotheses, enumerate_specifications, parse, rows

HYPOTHESES = ("distinct", "invariant", "ignore")
SPAN = Span(0, 400, 30.0)


def drawn(spec, samples=3, seed=0):
    """Views and codes (K, factors) of a batch of so many clips."""
    rng = np.random.default_rng(seed)
    views = [v for i in range(samples) for v in spec.views(f"v{i}", 7 * i, SPAN, rng)]
    return views, np.array([v.codes for v in views], dtype=np.int64)


def loop_contrast(spec, a, b):
    """Eq. 2 for two rows of codes: a product over the factors."""
    c = 1
    for factor, x, y in zip(spec.factors, a, b, strict=True):
        c *= int(x == y) if factor.hypothesis == "distinct" else 1
    return c


def loop_weight(spec, a, b):
    """w of Eq. 1 for two different transformations."""
    for factor, x, y in zip(spec.factors, a, b, strict=True):
        if factor.hypothesis == "ignore" and x != y:
            return 0
        if factor.name == "modality" and len(factor.names) > 1:
            if factor.pairs == "cross" and x == y:
                return 0
            if factor.pairs == "within" and x != y:
                return 0
    return 1


def random_specification(rng):
    """Any product of factors, valid or not, in the order of the hierarchy."""
    factors: list[Factor] = [Sample(str(rng.choice(HYPOTHESES)))]
    for kind, most in ((TimeShift, 3), (Speed, 3), (Rotation, 4), (Reversal, 2)):
        if rng.random() < 0.4:
            # Fewer values than there are would be drawn at random, clip by clip.
            factors.append(kind(str(rng.choice(HYPOTHESES)), most if most > 2 and rng.random() < 0.2 else 2))
    if any(f.name == "rotation" for f in factors):
        factors = [Rotation(f.hypothesis, 4) if f.name == "rotation" else f for f in factors]
    names = [("video",), ("audio",), ("video", "audio"), ("video", "audio", "motion")][rng.integers(4)]
    pairs = str(rng.choice(["cross", "within", "all"]))
    factors.append(Modalities(str(rng.choice(HYPOTHESES)), names=names, pairs=pairs))
    factors.append(Augment("invariant", int(rng.integers(1, 3))))
    return Hypotheses(tuple(factors))


# -- text ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMED)
def test_a_specification_reads_back_what_it_writes(name):
    spec = parse(name)
    assert parse(str(spec)) == spec
    assert str(parse(str(spec))) == str(spec)
    assert parse(f"  {NAMED[name].text} ") == spec


def test_random_specifications_read_back_what_they_write():
    rng = np.random.default_rng(0)
    kept = 0
    for _ in range(300):
        spec = random_specification(rng)
        try:
            again = parse(str(spec))
        except UsageError:
            continue
        kept += 1
        assert str(again) == str(spec)
        assert again.signature() == spec.signature()
    assert kept > 40


def test_the_three_ways_to_make_one_agree():
    by_text = parse("reversal=distinct, sample=distinct, time_shift=invariant*3")
    by_product = Sample() @ TimeShift("invariant", 3) @ Reversal("distinct") @ Modalities() @ Augment()
    assert by_text == by_product == Hypotheses(by_product.factors)
    assert Sample() @ (Modalities() @ Augment()) == Sample() @ Modalities() @ Augment()
    assert ("reversal" in by_text, "speed" in by_text) == (True, False)
    assert by_text["time_shift"] == TimeShift("invariant", 3)


@pytest.mark.parametrize(
    ("text", "message", "remedy"),
    [
        ("simclr-vide", "no specification 'simclr-vide'", "simclr-video"),
        ("qqqqqq", "no specification", "seehear hypotheses"),
        ("sample=distinct, tme_shift=distinct", "no factor 'tme_shift'", "time_shift"),
        ("sample=distinct, zzzz=distinct", "no factor 'zzzz'", "reversal"),
        ("sample=distint", "no hypothesis 'distint' (for sample)", "distinct"),
        ("sample=8", "no hypothesis '8'", "ignore"),
        ("sample=distinct, reversal", "'reversal' in", "sample=distinct"),
        ("sample=distinct, sample=distinct", "sample is stated twice", "once"),
        ("sample=distinct, pairs=all, pairs=cross", "pairs is stated twice", "once"),
        ("sample=distinct, pairs=both", "pairs are cross, within or all, not 'both'", ""),
        ("sample=distinct, modality=invariant:video+smell", "not video+smell", ""),
        ("sample=distinct, modality=invariant:video+video", "each once", ""),
        ("sample=distinct, modality=invariant*3", "number of values", ""),
        ("sample=distinct, reversal=distinct*two", "number of values", ""),
        ("sample=distinct, reversal=distinct*²", "number of values", ""),
        ("sample=distinct, reversal=distinct:video", "reversal takes no names (video)", "modality="),
        ("sample=distinct, reversal=invariant*3", "reversal has 2 values, not 3", ""),
        ("sample=distinct, rotation=invariant*0", "rotation has 4 values, not 0", ""),
        ("sample=distinct, time_shift=invariant*0", "time_shift has any number of values, not 0", ""),
        ("sample=distinct, time_shift=distinct*1", "time_shift is stated as distinct but sampled once", "*2"),
        ("sample=distinct, reversal=ignore*1", "reversal is stated as ignore but sampled once", "leave it out"),
        ("sample=distinct, rotation=distinct", "rotation does not change audio", "leave audio out"),
        ("sample=distinct, modality=invariant:video", "no transformation has a positive", "augment=invariant*2"),
        ("sample=distinct, modality=distinct", "pairs of one modality are not compared", "modality=invariant"),
        ("sample=distinct, pairs=within", "within its modality", "augment=invariant*2"),
        ("sample=invariant", "every pair that is compared is a positive", "sample=distinct"),
        ("sample=distinct, time_shift=ignore", "every pair that is compared is a positive", "time_shift"),
        ("sample=ignore, pairs=within", "w = 0 everywhere", "ignore fewer factors"),
        ("sample=distinct, augment=ignore*2, modality=invariant:video", "w = 0 everywhere", "pairs=all"),
        ("sample=distinct, modality=invariant:video+label", "none besides sample", "rotation"),
        ("sample=ignore, rotation=distinct, reversal=distinct, modality=invariant:video+label",
         "there are rotation, reversal", "exactly one"),
        ("sample=ignore, time_shift=distinct, modality=invariant:video+label",
         "time_shift has no fixed set of values", "speed or rotation or reversal"),
        ("sample=ignore, rotation=distinct, modality=invariant:label", "no modality is left to learn", ""),
    ],
)  # fmt: skip
def test_what_cannot_be_learnt_is_refused_with_the_reason(text, message, remedy):
    with pytest.raises(UsageError) as error:
        parse(text)
    assert message in error.value.message
    assert remedy in (error.value.remedy or "")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (Sample() @ Reversal() @ Reversal() @ Modalities(), "reversal is stated twice"),
        (Reversal() @ Sample() @ Modalities(), "sample comes first"),
        (Sample() @ Reversal(), "modality is missing"),
        (Sample() @ Reversal("variant") @ Modalities(), "no hypothesis 'variant'"),
        (Sample() @ Modalities(pairs="some"), "pairs are cross"),
        (Sample() @ Modalities(names=()), "modalities are some of"),
    ],
)
def test_a_product_made_in_python_is_checked_like_text(spec, message):
    with pytest.raises(UsageError, match=message):
        spec.checked()


# -- what follows from the hypotheses -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMED)
def test_contrast_and_weights_are_the_products_over_the_factors(name):
    spec = parse(name)
    _, codes = drawn(spec)
    c, w = spec.contrast(codes, codes), spec.compared(codes, codes)
    for i, j in itertools.product(range(len(codes)), repeat=2):
        assert c[i, j] == loop_contrast(spec, codes[i], codes[j])
        if i != j:
            assert w[i, j] == loop_weight(spec, codes[i], codes[j])
    assert np.array_equal(spec.contrast(codes[:2], codes), c[:2])


def test_the_contrast_of_any_product_is_an_equivalence_relation_and_checked_finds_what_a_loop_finds():
    rng = np.random.default_rng(1)
    verdicts = []
    for _ in range(150):
        spec = random_specification(rng)
        _, codes = drawn(spec, samples=2)
        if len(codes) > 48:
            continue
        c = spec.contrast(codes, codes)
        assert c.diagonal().all()
        assert np.array_equal(c, c.T)
        assert not ((c.astype(int) @ c.astype(int) > 0) & ~c).any()  # whoever shares a third shares each other

        positives, negatives = [0] * len(codes), 0
        for i, j in itertools.permutations(range(len(codes)), 2):
            if loop_weight(spec, codes[i], codes[j]):
                positives[i] += loop_contrast(spec, codes[i], codes[j])
                negatives += not loop_contrast(spec, codes[i], codes[j])
        # Lemma 3: a modality that a factor does not change shows equal data for values that must be told apart.
        streams = {"video": "video", "audio": "audio", "motion": "video"}
        seen = all(
            streams[m] in f.changes for f in spec.factors if f.hypothesis == "distinct" for m in spec.encoded
        )  # fmt: skip
        learnable = all(positives) and negatives > 0 and seen
        try:
            spec.checked()
        except UsageError:
            accepted = False
        else:
            accepted = True
        assert accepted == learnable, spec
        verdicts.append(learnable)
    assert 20 < sum(verdicts) < len(verdicts) - 20


@pytest.mark.parametrize("name", NAMED)
def test_a_clip_has_the_product_of_the_counts_of_transformations(name):
    spec = parse(name)
    # Below each modality the product of all counts, but for factors that change another one alone.
    below = {
        m: [f.count for f in spec.factors if f.name not in ("sample", "modality") and f.only in (None, m)]
        for m in spec.modalities
    }
    views, codes = drawn(spec)
    assert spec.transformations_per_sample == sum(map(math.prod, below.values())) == len(views) / 3
    assert {v.modality for v in views} == set(spec.modalities)
    assert codes.shape == (len(views), len(spec.factors))


@pytest.mark.parametrize("name", NAMED)
def test_exactly_k_of_the_later_factors_share_the_values_of_the_first(name):
    spec = parse(name)
    if any(f.only for f in spec.factors):
        pytest.skip("below text there are more than below the others: another test counts them")
    _, codes = drawn(spec)
    counts = [1, *(len(f.names) if f.name == "modality" else f.count for f in spec.factors[1:])]
    for m in range(1, len(counts) + 1):
        groups: dict[tuple[int, ...], int] = {}
        for row in codes:
            groups[tuple(row[:m])] = groups.get(tuple(row[:m]), 0) + 1
        assert set(groups.values()) == {int(np.prod(counts[m:]))}


@pytest.mark.parametrize("hypothesis", ["distinct", "invariant"])
def test_order_varies_below_text_alone_and_after_the_modality(hypothesis):
    spec = parse(f"modality=invariant:video+text, sentence_order={hypothesis}, word_order={hypothesis}")
    views, _ = drawn(spec)
    names = [f.name for f in spec.factors]
    for clip in (views[:5], views[5:10], views[10:]):
        held = [(v.modality, v.codes[names.index("sentence_order")], v.codes[names.index("word_order")]) for v in clip]
        assert held == [("video", 0, 0), ("text", 0, 0), ("text", 0, 1), ("text", 1, 0), ("text", 1, 1)]
        assert [[name for name, _ in v.acts] for v in clip] == [
            [], [], ["word_order"], ["sentence_order"], ["sentence_order", "word_order"]
        ]  # fmt: skip
        # One shuffle of the sentences below which words are swapped or not; each swap is drawn for itself.
        assert clip[3].acts[0] == clip[4].acts[0]
        assert clip[2].acts[0] != clip[4].acts[1]


def test_a_text_out_of_order_repels_or_attracts_its_video():
    for hypothesis, held in (("distinct", False), ("invariant", True)):
        spec = parse(f"modality=invariant:video+text, sentence_order={hypothesis}")
        _, codes = drawn(spec, samples=1)
        assert spec.compared(codes, codes)[0].tolist() == [False, True, True]
        assert spec.contrast(codes, codes)[0].tolist() == [True, True, held]


def test_a_label_can_tell_whether_sentences_were_shuffled():
    spec = parse("sample=ignore, modality=invariant:video+text+label, sentence_order=distinct")
    assert spec.label_factor == "sentence_order"
    views, codes = drawn(spec, samples=1)
    column = spec.column("sentence_order")
    assert [(v.modality, row[column]) for v, row in zip(views, codes, strict=True)] == [
        ("video", 0), ("text", 0), ("text", 1), ("label", 0), ("label", 1)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("sentence_order=distinct", "changes text alone, which is not among"),
        ("word_order=invariant, modality=invariant:video+audio", "changes text alone, which is not among"),
        ("sentence_order=ignore, modality=invariant:video+text", "have no positive"),
        ("word_order=invariant*3, modality=invariant:video+text", "word_order has 2 values, not 3"),
        ("word_order=distinct*1, modality=invariant:video+text", "sampled once"),
        ("reversal=distinct, modality=invariant:video+text", "does not change text"),
        ("rotation=distinct, modality=invariant:video+text", "does not change text"),
        ("modality=invariant:text, augment=invariant*2", "nothing of a video"),
        ("modality=invariant:text+label, word_order=distinct", "nothing of a video"),
    ],
)
def test_what_cannot_be_learnt_of_text_is_refused(text, why):
    with pytest.raises(UsageError, match=why):
        parse(text)


def test_order_of_words_is_sampled_after_the_modality():
    with pytest.raises(UsageError, match="sampled after modality"):
        (Sample() @ SentenceOrder() @ Modalities(names=("video", "text"))).checked()


def test_moments_of_a_video_may_be_told_apart_by_what_is_said():
    assert parse("time_shift=distinct, modality=invariant:video+text").transformations_per_sample == 4


def test_values_do_to_views_what_their_codes_say():
    spec = parse("sample=distinct, time_shift=distinct*3, speed=distinct, reversal=distinct, modality=invariant")
    views, codes = drawn(spec)
    for view, row in zip(views, codes, strict=True):
        code = dict(zip((f.name for f in spec.factors), row, strict=True))
        assert view.start == code["time_shift"]
        assert view.speed == 2 ** code["speed"]
        assert view.acts == (("reversal", code["reversal"]),)
        assert view.codes == tuple(row)
    assert spec.fastest == 2
    assert parse("l").fastest == 1


def test_time_shifts_are_distinct_starts_as_far_as_the_video_allows():
    rng = np.random.default_rng(0)
    for _ in range(50):
        starts = [code for code, _ in TimeShift("distinct", 4).sample(View(0), Span(3, 6, 1.0), rng)]
        assert sorted(starts) == [3, 4, 5, 6]
    starts = [code for code, _ in TimeShift("distinct", 4).sample(View(0), Span(3, 4, 1.0), rng)]
    assert set(starts) <= {3, 4}
    assert len(starts) == 4


def test_equal_clips_are_one_sample_whatever_their_place_in_the_batch():
    spec = parse("e")
    rng = np.random.default_rng(0)
    codes = np.array([v.codes for name in "aba" for v in spec.views(name, 0, SPAN, rng)])
    assert spec.contrast(codes, codes)[0].tolist() == [True, True, False, False, True, True]


def test_starts_may_be_restricted():
    span = Span(0, 100, 30.0, np.array([3, 50, 51]))
    starts = [code for code, _ in TimeShift("distinct", 3).sample(View(0), span, np.random.default_rng(0))]
    assert sorted(starts) == [3, 50, 51]


def test_draws_depend_on_the_generator_alone():
    spec = parse("sample=distinct, time_shift=distinct, rotation=invariant*2, modality=invariant, augment=invariant*2")
    assert drawn(spec, seed=3)[0] == drawn(spec, seed=3)[0]
    assert drawn(spec, seed=3)[0] != drawn(spec, seed=4)[0]


def test_quarter_turns_and_reversal_act_on_plain_arrays():
    frames = np.arange(2 * 3 * 4 * 3).reshape(2, 3, 4, 3)
    turned, sound = Rotation.act(frames, np.arange(3), 1)
    assert turned.shape == (2, 4, 3, 3)
    assert np.array_equal(turned[:, 0], frames[:, :, -1])  # the right edge comes to the top
    assert np.array_equal(sound, np.arange(3))
    frames_back, sound_back = Reversal.act(frames, np.arange(3), 1)
    assert np.array_equal(frames_back[0], frames[1])
    assert sound_back.tolist() == [2, 1, 0]
    assert Reversal.act(frames, None, 0)[0] is frames
    assert Reversal.act(None, None, 1) == (None, None)


# -- the paper ----------------------------------------------------------------------------------------------------

# Table 1: data sample, time reversal, time shift, modalities, accuracy, recall at 5 (v distinctive, i invariant).
TABLE_1 = """
a v . . V  47.1 32.5
b v i . V  39.5 31.9
c v . i V  46.9 34.5
d v i i V  46.6 33.4
e v . . AV 56.9 49.3
f v i . AV 56.1 49.7
g v . i AV 57.2 45.2
h v i i AV 56.6 44.8
i v i v AV 57.5 46.8
j v v i AV 57.0 46.2
k v . v AV 58.0 50.2
l v v . AV 58.2 50.2
m v v v AV 60.0 47.8
"""


@pytest.mark.parametrize("line", TABLE_1.split("\n")[1:-1], ids=lambda line: line[0])
def test_the_rows_of_table_1_are_what_the_paper_states(line):
    name, sample, reversal, shift, modalities, accuracy, recall = line.split()
    spec = parse(name)
    for factor, letter in (("sample", sample), ("reversal", reversal), ("time_shift", shift)):
        if letter == ".":
            assert factor not in spec
        else:
            assert spec[factor].hypothesis == {"v": "distinct", "i": "invariant"}[letter]
    assert spec.modalities == {"V": ("video",), "AV": ("video", "audio")}[modalities]
    assert spec["modality"].hypothesis == spec["augment"].hypothesis == "invariant"
    assert spec.pairs == ("cross" if modalities == "AV" else "all")
    assert (NAMED[name].accuracy, NAMED[name].recall5) == (float(accuracy), float(recall))


def test_the_rows_are_thirteen_and_all_different():
    assert rows() == list("abcdefghijklm")
    assert len({parse(name).signature() for name in rows()}) == 13


def test_the_study_case_samples_four_transformations_a_clip():
    """K = 4 K_i (paper, section 3.1), and rotation prediction 8 K_i (appendix A.2)."""
    assert parse("k").transformations_per_sample == 4
    assert parse("rotnet").transformations_per_sample == 8


def test_names_that_mean_the_same_are_the_same():
    assert parse("cross-modal") == parse("e")
    assert parse("simclr-video") == parse("npid") == parse("a")


# -- enumeration --------------------------------------------------------------------------------------------------


def test_enumeration_finds_every_row_and_no_two_that_are_equal():
    found = enumerate_specifications(["time_shift", "reversal"])
    signatures = [spec.signature() for spec in found]
    assert len(set(signatures)) == len(found)
    assert {parse(name).signature() for name in "efghijklm"} <= set(signatures)
    for spec in found:
        assert parse(str(spec)).signature() == spec.signature()
    # Of the 16 choices 3 are no learning problem: where shifts are ignored, clips are not compared with each other,
    # and only a distinct direction leaves a negative.
    assert len(found) == 13
    assert {
        s["reversal"].hypothesis for s in found if "time_shift" in s and s["time_shift"].hypothesis == "ignore"
    } == {"distinct"}


def test_enumeration_prunes_specifications_that_compare_the_same():
    # Of one modality all pairs are pairs within it, and none crosses: three ways to say one thing.
    many = enumerate_specifications(["reversal"], ("video",), ("cross", "within", "all"))
    assert [s.signature() for s in many] == [s.signature() for s in enumerate_specifications(["reversal"], ("video",))]
    # A second augmentation is drawn only where there is no other positive.
    counts = {s["reversal"].hypothesis if "reversal" in s else None: s["augment"].count for s in many}
    assert counts == {None: 2, "distinct": 2, "invariant": 1, "ignore": 2}


def test_enumeration_knows_its_factors():
    with pytest.raises(UsageError, match="mirror, sample"):
        enumerate_specifications(["reversal", "mirror", "sample"])
    with pytest.raises(UsageError, match="sentence_order"):
        enumerate_specifications(["reversal", "sentence_order"])
    assert len(enumerate_specifications(["sentence_order"], ("video", "text"))) == 3  # absent, distinct, invariant
    heard = enumerate_specifications(["rotation"], ("audio",))
    assert {s["rotation"].hypothesis for s in heard if "rotation" in s} <= {"invariant", "ignore"}  # lemma 3


def test_every_factor_says_what_it_is():
    for name, kind in FACTORS.items():
        factor = kind()
        assert factor.name == name
        assert factor.meaning
        assert factor.letter
        assert factor.worded(0, 0)


def test_no_torch_is_imported():
    code = "import sys, seehear.hypotheses, seehear.hypotheses.pictures\nassert 'torch' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).returncode == 0
