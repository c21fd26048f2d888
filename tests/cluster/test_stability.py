"""The estimate of the number of clusters: right on blobs, silent where there are none."""

from __future__ import annotations

import json
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from sklearn.metrics import adjusted_rand_score

from seehear.cluster.stability import Estimate, adjusted_rand, estimate_k
from seehear.errors import DataError
from seehear.labelling.stability_picture import stability_svg
from tests.cluster.test_balanced import blobs

FEW = {"subsamples": 4, "references": 19}


@pytest.fixture(scope="module")
def of_four() -> Estimate:
    return estimate_k(blobs([50, 40, 30, 30], columns=6)[0], range(2, 6), **FEW)


@pytest.fixture(scope="module")
def of_none() -> Estimate:
    stretched = torch.randn(150, 6, generator=torch.Generator().manual_seed(0)) * torch.linspace(4, 1, 6)
    return estimate_k(stretched, range(2, 5), **FEW)


def test_blobs_are_counted(of_four):
    assert of_four.k == 4
    best = of_four.table[2]
    assert (best.k, best.stability) == (4, pytest.approx(1.0, abs=0.02))
    assert best.p_value == pytest.approx(0.05)
    assert best.steadier > 10
    assert best.steadier == max(s.steadier for s in of_four.table)
    assert of_four.as_text().startswith("estimate: 4 clusters")


def test_one_gaussian_gives_no_claim_though_cuts_of_it_are_stable(of_none):
    assert of_none.table[0].stability > 0.6  # what stability alone would take for two clusters
    assert of_none.k is None
    assert of_none.also == ()
    assert of_none.as_text().startswith("no estimate")


@pytest.mark.parametrize("seed", [1, 2])
def test_rows_all_over_a_sphere_give_no_claim(seed):
    # With references scaled to length 1 these did.
    x = torch.nn.functional.normalize(torch.randn(120, 5, generator=torch.Generator().manual_seed(seed)), dim=1)
    assert estimate_k(x, [2, 3], **FEW).k is None


def test_rows_that_are_all_alike_give_no_claim():
    assert estimate_k(torch.ones(50, 3), [2, 3], subsamples=2, references=3).k is None


def test_too_few_references_cannot_be_certain():
    found = estimate_k(blobs([50, 50])[0], [2], subsamples=3, references=5)
    assert found.k is None
    assert found.table[0].p_value == pytest.approx(1 / 6)


def test_the_same_seed_gives_the_same_and_many_rows_are_thinned():
    x = blobs([150, 150])[0]
    first, second = (estimate_k(x, [2, 3], subsamples=3, references=2, most_rows=80, seed=5) for _ in range(2))
    assert first == second
    assert first.rows == 80
    assert json.loads(json.dumps(first.as_dict()))["table"][0]["k"] == 2


def test_any_algorithm_can_be_asked():
    asked = []

    def halves(x: torch.Tensor, k: int, seed: int) -> torch.Tensor:
        asked.append((len(x), k))
        return (x[:, 0] > 0).long()

    found = estimate_k(torch.randn(50, 2), [2], cluster=halves, subsamples=3, references=2)
    assert asked == [(40, 2)] * 9
    assert found.table[0].stability == 1.0


def test_the_index_is_the_known_one():
    rng = np.random.default_rng(0)
    for a, b in [(rng.integers(0, 5, 200), rng.integers(0, 3, 200)), (np.arange(9), np.arange(9))]:
        assert adjusted_rand(a, b) == pytest.approx(adjusted_rand_score(a, b))
    assert adjusted_rand(np.zeros(5, dtype=int), np.zeros(5, dtype=int)) == 1.0


def test_what_cannot_be_is_refused():
    x = blobs([10, 10])[0]
    with pytest.raises(ValueError, match="at least 2"):
        estimate_k(x, [1, 2])
    with pytest.raises(ValueError, match="and below 1"):
        estimate_k(x, [2], share=0.3)
    with pytest.raises(DataError, match="at most 16 clusters"):
        estimate_k(x, [17])
    with pytest.raises(DataError, match="not finite"):
        estimate_k(torch.full((20, 2), torch.nan), [2])


def test_the_picture_shows_every_number_and_the_verdict(of_four, of_none):
    for estimate in (of_four, of_none):
        picture = ElementTree.fromstring(stability_svg(estimate))
        text = " ".join("".join(picture.itertext()).split())
        assert "An estimate from 150 rows" in text
        dots = [e for e in picture.iter() if e.tag.endswith("circle")]
        marks = [e for e in picture.iter() if e.get("class") == "mark"]
        assert len(dots) == len(estimate.table)
        assert len(marks) == (estimate.k is not None)
