"""The number of kinds by what two modalities agree on: right where it is known, silent where they share nothing."""

from __future__ import annotations

import json
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from sklearn.metrics import adjusted_mutual_info_score
from torch import Tensor

from seehear.cluster.kinds import (
    Kinds,
    estimate_kinds,
    matched_clusters,
    measure_kinds,
    numbers_to_try,
    range_text,
    shared_information,
)
from seehear.errors import DataError
from seehear.labelling.kinds_picture import kinds_svg


def views(sizes: list[int], parts: int = 1, spread: float = 0.15, seed: int = 0) -> tuple[Tensor, Tensor, np.ndarray]:
    """Sight and sound of kinds with these sizes; by sound each kind falls into `parts`, unknown to sight."""
    random = np.random.default_rng(seed)
    kinds = np.repeat(np.arange(len(sizes)), sizes)
    sight = random.standard_normal((len(sizes), 8))[kinds]
    sound = random.standard_normal((len(sizes), 8))[kinds]
    sound += 0.5 * random.standard_normal((len(sizes), parts, 8))[kinds, random.integers(parts, size=len(kinds))]
    noisy = [x + spread * random.standard_normal(x.shape) for x in (sight, sound)]
    first, second = (torch.nn.functional.normalize(torch.from_numpy(x).float(), dim=1) for x in noisy)
    return first, second, kinds


@pytest.fixture(scope="module")
def of_six() -> Kinds:
    return estimate_kinds(*views([25, 25, 20, 15, 10, 8], parts=2)[:2], subsets=5)


def test_clusters_that_sound_alone_knows_are_no_kinds(of_six):
    assert of_six.k == 6  # k-means on the sound alone would say 12
    assert of_six.low <= 6 <= of_six.high < 12
    assert of_six.p_value == pytest.approx(1 / 100)
    assert of_six.as_text().startswith("6 kinds")


def test_two_groups_that_agree_perfectly_do_not_hide_the_kinds_within():
    # As of two collections put together: two clusters agree fully, eight nearly so.
    sight, sound, kinds = views([15] * 8, spread=0.25, seed=3)
    apart = torch.tensor([[-6.0], [6.0]])[torch.from_numpy(kinds % 2)]
    first, second = (torch.cat([x, apart], dim=1) for x in (sight, sound))
    found = estimate_kinds(first, second, subsets=4)
    assert found.table[0].agreement == pytest.approx(1, abs=1e-6)
    assert found.table[0].agreement > max(s.agreement for s in found.table[1:]) - 1e-6
    assert found.k in (7, 8, 9)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_modalities_that_share_nothing_have_no_kinds(seed):
    # Each has four clear clusters, and there are many numbers at which they could agree by chance.
    first, second, _ = views([30, 30, 30, 30])
    order = torch.randperm(120, generator=torch.Generator().manual_seed(seed))
    found = estimate_kinds(first, second[order], subsets=3)
    assert (found.k, found.low, found.high) == (None, None, None)
    assert found.p_value > 0.01
    assert found.as_text().startswith("no number of kinds")
    ElementTree.fromstring(kinds_svg(found))


def test_rows_that_are_all_alike_have_no_kinds():
    found = estimate_kinds(torch.ones(40, 3), torch.ones(40, 4), subsets=2)
    assert (found.k, found.p_value) == (None, 1.0)
    ElementTree.fromstring(kinds_svg(found))


def test_shared_information_of_labellings_by_hand_and_by_another_library():
    a = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    shared, everything = shared_information(a, 1 - a)
    # The tables that shuffling can give, n of the first four on the diagonal, with their hypergeometric chances.
    chances = {0: 1 / 70, 1: 16 / 70, 2: 36 / 70, 3: 16 / 70, 4: 1 / 70}
    information = {
        n: sum(2 * c / 8 * np.log((c / 8) / 0.25) for c in (n, 4 - n) if c) for n in chances
    }  # two cells of each count, rows and columns of 4
    expected = sum(chances[n] * information[n] for n in chances)
    assert shared == pytest.approx(np.log(2) - expected)
    assert everything == pytest.approx(np.log(2) - expected)
    random = np.random.default_rng(0)
    a, b = random.integers(5, size=90), random.integers(7, size=90)
    b = np.where(random.random(90) < 0.5, a, b)
    shared, everything = shared_information(a, b)
    assert shared / everything == pytest.approx(adjusted_mutual_info_score(a, b), abs=1e-9)


def test_the_score_is_what_its_formula_says(of_six):
    best = max(s.agreement for s in of_six.table)
    for s in of_six.table:
        assert s.agreement == pytest.approx(s.shared / s.all)
        assert s.score == pytest.approx(s.shared - 2 / 3 * best * s.all)
    top = max(of_six.table, key=lambda s: s.score)
    assert top.k == of_six.k
    assert [s.behind for s in of_six.table] == pytest.approx([top.score - s.score for s in of_six.table])
    like = [s.k for s in of_six.table if s.behind <= s.behind_by_chance]
    # And by the second measure, from what the same estimate has measured.
    matched = measure_kinds(*views([25, 25, 20, 15, 10, 8], parts=2)[:2], subsets=5).matched
    ks = [s.k for s in of_six.table]
    most = max(np.mean(row) / k for k, row in zip(ks, matched, strict=True))
    scores = np.array([row - 0.6 * most * k for k, row in zip(ks, matched, strict=True)])
    behind = scores[scores.mean(1).argmax()] - scores
    like += [k for k, row in zip(ks, behind, strict=True) if row.mean() <= 1.5 * row.std(ddof=1)]
    assert (of_six.low, of_six.high) == (min(like), max(like))
    assert [s.matched for s in of_six.table] == pytest.approx([np.mean(row) for row in matched])


def test_matched_clusters_by_hand_and_as_a_plain_loop():
    a = np.array([0, 0, 0, 0, 1, 1, 2, 2])
    b = np.array([1, 1, 1, 0, 0, 0, 2, 3])
    # a's 0 and b's 1 have 3 rows of 4 in common, a's 1 and b's 0 two of 3, a's 2 and b's 2 (or 3) one of 2.
    assert matched_clusters(a, b) == pytest.approx(3 / 4 + 2 / 3 + 1 / 2)
    assert matched_clusters(a, a) == 3
    random = np.random.default_rng(0)
    a, b = random.integers(6, size=70), random.integers(9, size=70)
    b = np.where(random.random(70) < 0.6, a, b)
    sets = [[set(np.flatnonzero(x == c)) for c in np.unique(x)] for x in (a, b)]
    similar = [[len(p & q) / len(p | q) for q in sets[1]] for p in sets[0]]
    total = 0.0
    for i, row in enumerate(similar):
        j = row.index(max(row))
        column = [r[j] for r in similar]
        total += row[j] if column.index(max(column)) == i else 0.0
    assert matched_clusters(a, b) == pytest.approx(total)


def test_the_estimate_depends_on_nothing_but_rows_and_seed():
    first, second, _ = views([15, 15, 15])
    told: list[tuple[int, int]] = []
    one = estimate_kinds(first, second, [2, 3, 4, 5], subsets=3, seed=7, progress=lambda *now: told.append(now))
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert one == estimate_kinds(first, second, [5, 4, 3, 2], subsets=3, seed=7)
    assert one.k == 3
    assert json.loads(json.dumps(one.as_dict()))["table"][1]["k"] == 3


def test_more_rows_than_asked_for_are_drawn_from():
    found = estimate_kinds(*views([40, 40, 40, 40])[:2], [2, 3, 4, 5, 6], subsets=3, most_rows=80)
    assert (found.rows, found.k) == (80, 4)


def test_numbers_to_try():
    assert numbers_to_try(100) == [*range(2, 17), 18, 20, 22, 24, 26]
    assert numbers_to_try(16) == [2, 3, 4]
    assert 12 in numbers_to_try(60)  # twelve kinds of five clips each
    assert max(numbers_to_try(10**6)) <= 100


def test_a_number_at_the_end_of_what_was_compared_may_be_more():
    first, second, _ = views([12] * 8)
    cut_short = estimate_kinds(first, second, [2, 3, 4, 5, 6], subsets=4)
    assert cut_short.high == 6 and cut_short.more
    assert "or more)" in cut_short.as_text() or "(it may be more)" in cut_short.as_text()
    assert cut_short.as_dict()["more"] is True
    whole = estimate_kinds(first, second, [2, 4, 6, 8, 10, 14, 20], subsets=4)
    assert whole.k == 8 and not whole.more and "more" not in whole.as_text()


@pytest.mark.parametrize(
    ("low", "high", "more", "text"),
    [
        (3, 3, False, ""),
        (3, 3, True, "it may be more"),
        (2, 5, False, "it may be 2 to 5"),
        (2, 5, True, "it may be 2 to 5, or more"),
    ],
)
def test_a_range_in_words(low, high, more, text):
    assert range_text(low, high, more) == text


def test_the_picture_is_valid_and_names_every_number(of_six):
    picture = ElementTree.fromstring(kinds_svg(of_six))
    titles = [e.text for e in picture.iter("{http://www.w3.org/2000/svg}title")]
    assert [int(t.split()[0]) for t in titles] == [s.k for s in of_six.table]
    assert picture.get("aria-label") == of_six.as_text()


def test_the_band_of_the_picture_is_open_where_it_may_be_more(of_six):
    def band(kinds: Kinds) -> tuple[float, list[str]]:
        picture = ElementTree.fromstring(kinds_svg(kinds))
        found = next(e for e in picture.iter("{http://www.w3.org/2000/svg}rect") if e.get("class") == "band found")
        texts = [e.text for e in picture.iter("{http://www.w3.org/2000/svg}text")]
        return float(found.get("x")) + float(found.get("width")) - float(picture.get("width")), texts

    ends, texts = band(of_six)
    assert ends < -24 and "or more" not in texts
    ends, texts = band(replace(of_six, high=of_six.table[-1].k))
    assert ends == 0 and "or more" in texts


def test_what_cannot_be_estimated_is_refused():
    first, second, _ = views([10, 10])
    with pytest.raises(DataError, match="20 rows of one modality and 19"):
        estimate_kinds(first, second[:-1])
    with pytest.raises(DataError, match="too few"):
        estimate_kinds(first[:10], second[:10])
    with pytest.raises(DataError, match="cannot be asked about 30"):
        estimate_kinds(first, second, [2, 30])
    with pytest.raises(DataError, match="not finite"):
        estimate_kinds(first.clone().fill_(torch.nan), second)
    with pytest.raises(ValueError, match="weight=1"):
        estimate_kinds(first, second, weight=1)
