"""Kinds of a bank: counted, trained with some to spare, and clips that belong to none."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from seehear.cluster.doubt import companions
from seehear.cluster.kinds import Measured, numbers_to_try, verdict
from seehear.errors import UsageError
from seehear.features.bank import FeatureBank
from seehear.features.kinds import Count, FinalKinds, clusters_to_begin, final_kinds, measured, sampled
from seehear.types import ClipRef
from tests.cluster.test_kinds import views


def bank_of(sight: torch.Tensor, sound: torch.Tensor) -> FeatureBank:
    refs = [ClipRef(f"v{i}#t=0,1", f"v{i}", 0.0, 1.0) for i in range(len(sight))]
    return FeatureBank(refs, {"video": 3 * sight.numpy(), "audio": sound.numpy()}, np.ones(len(sight), dtype=bool))


@pytest.fixture(scope="module")
def of_four() -> FeatureBank:
    """Four kinds of 20 clips; those numbered 0 and 41 have the sound of another kind."""
    sight, sound, _ = views([20, 20, 20, 20], seed=1)
    swapped = sound.clone()
    swapped[[0, 41]] = sound[[30, 70]]
    return bank_of(sight, swapped)


def test_what_a_bank_shares_is_measured_without_its_doubtful_clips(of_four):
    found = measured(of_four, 0)
    assert found.rows == 78
    assert verdict([found]).k == 4
    assert measured(of_four.take(np.arange(5)), 0) is None


def of(ks: tuple[int, ...], best: int, p_value: float = 0.01, matched: int | None = None) -> Measured:
    """What is shared grows up to the best number and no further, what is matched up to `matched`; all grows on."""
    shared = np.log(np.minimum(ks, best))
    draws = np.array([0.98, 1.0, 1.02])
    numbers = np.stack([shared, np.log(ks)], axis=1)[:, None] * draws[None, :, None]
    return Measured(ks, numbers, p_value, 50, np.minimum(ks, matched)[:, None] * draws if matched else None)


def test_measurements_stand_for_as_much_as_each_other_and_those_that_tell_nothing_for_nothing():
    ks = tuple(numbers_to_try(200))
    assert [verdict([of(ks, best)]).k for best in (3, 5, 9)] == [3, 5, 9]
    three = [of(ks, 4), of(ks, 6), of(ks, 6)]
    together = verdict(three)
    # By hand: the mean over all of s(k) − 2/3 A all(k), with one A for all.
    shared, everything = (np.mean([m.numbers[..., i].mean(1) for m in three], axis=0) for i in (0, 1))
    by_hand = shared - 2 / 3 * (shared / everything).max() * everything
    assert 4 <= together.k == ks[int(by_hand.argmax())] <= 6
    np.testing.assert_allclose([s.score for s in together.table], by_hand, atol=1e-12)
    assert verdict([of(ks, 3, p_value=0.5), of(ks, 6)]).k == 6
    assert verdict([of(ks, 3, p_value=0.5)]).k is None
    assert [s.k for s in verdict([of(ks[:10], 6), of(ks, 6)]).table] == list(ks[:10])


def test_the_range_is_of_both_measures():
    ks = tuple(numbers_to_try(200))
    alone, alike, apart = (verdict([of(ks, 5, matched=m)]) for m in (None, 5, 9))
    for found in (alone, alike):
        assert (found.k, found.low, found.high) == (5, 5, 5)
    # By hand: 9 clusters are matched by 9, all ks up to it wholly, so that B is 1, and 9 − 0.6 · 9 is the most.
    assert (apart.k, apart.low, apart.high) == (5, 5, 9)
    assert [s.matched for s in apart.table[6:9]] == pytest.approx([8, 9, 9])
    assert alone.table[0].matched is None
    # Of several measurements the last one's counts, at the numbers that all have tried.
    assert verdict([of(ks, 5, matched=9), of(ks, 5, matched=5)]).high == 5
    assert verdict([of(ks[:10], 5), of(ks, 5, matched=9)]).high == 9


def test_rounds_but_the_first_third_are_put_together_and_are_part_of_the_state(of_four):
    count = Count(4)
    assert count.told() is None
    random = np.random.default_rng(0)
    two = bank_of(*views([40, 40], seed=3)[:2])
    nothing = bank_of(*(torch.from_numpy(random.standard_normal((60, 6))).float() for _ in "ab"))
    for left, bank in ((3, two), (2, of_four), (1, nothing)):
        count.measure(bank, 0, left)
    assert count.told().k == 4  # of three rounds the first is left out, and the last tells nothing
    assert count.told().subsets == 4
    again = Count(4)
    again.load_state_dict(count.state_dict())
    assert again.told() == count.told()
    more = measured(of_four, 1)
    assert count.told(more).subsets == 4 + 8


def test_a_sample_is_spread_over_the_bank_and_has_rows_of_length_one(of_four):
    sight, sound = sampled(of_four, 8)
    assert len(sight) == len(sound) == 8
    rows = [0, 11, 23, 34, 45, 56, 68, 79]
    whole = torch.from_numpy(of_four.features["video"])
    assert torch.allclose(sight, torch.nn.functional.normalize(whole[rows], dim=1))
    assert torch.allclose(sound.norm(dim=1), torch.ones(8))
    assert len(sampled(of_four, 1000)[0]) == 80


def test_the_end_of_a_run_tells_the_number_its_range_and_who_is_sure(of_four):
    found = final_kinds(of_four, 0, None)
    assert found.k == 4
    assert [ref.video_id for ref in found.sure(of_four).refs] == [f"v{i}" for i in range(80) if i not in (0, 41)]
    facts = found.facts(4)
    assert (facts["clusters"], facts["k"]) == (4, 4)
    assert facts["low"] <= 4 <= facts["high"]
    assert "the labels have 6 clusters" in found.facts(6)["text"]
    nobody = FinalKinds(None, None, None)
    assert nobody.sure(of_four) is of_four
    assert nobody.facts(3) == {
        "clusters": 3, "text": "too few clips to say how many kinds there are: 3 clusters", "k": None, "low": None,
        "high": None, "more": False,
    }  # fmt: skip


def test_clips_of_others_are_doubted_as_those_of_the_collection_are(of_four):
    sight, sound = sampled(of_four, 1000)
    known = companions(sight, sound)
    whole = known.doubt(sight, sound).doubt
    # Row by row, in another order: each is known as itself.
    order = torch.tensor([41, 3, 0, 79])
    assert np.allclose(known.doubt(sight[order], sound[order]).doubt, whole[order.numpy()])
    # Decoded anew it is the same clip still, and no neighbour of its own.
    anew = [torch.nn.functional.normalize(x[[41]] + 1e-3, dim=1) for x in (sight, sound)]
    assert known.doubt(*anew).doubt[0] == pytest.approx(whole[41], abs=0.02)
    # What differs more is another clip, which has the first one as a neighbour.
    other = [torch.nn.functional.normalize(x[[41]] + 0.05, dim=1) for x in (sight, sound)]
    assert known.doubt(*other).doubt[0] < whole[41] - 0.1


def test_the_first_round_has_more_clusters_than_kinds_are_likely_but_no_more_than_can_be():
    assert [clusters_to_begin(n) for n in (3, 10, 60, 348, 10**6)] == [2, 4, 10, 24, 128]


def test_one_modality_cannot_be_counted():
    bank = bank_of(*views([5, 5])[:2])
    del bank.features["audio"]
    with pytest.raises(UsageError, match="sight and sound agree"):
        measured(bank, 0)
