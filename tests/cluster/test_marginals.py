"""Marginals: positive, of sum 1, and given to the clusters so that the energy is least."""

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor

from seehear.cluster.marginals import gaussian, given, make_marginals, match_marginals, shrunk, uniform, zipf


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def energy(q: Tensor, r: Tensor) -> float:
    """What of Eq. 4 depends on the permutation."""
    return float(-(q * r.log()).sum())


def test_kinds() -> None:
    torch.testing.assert_close(uniform(4), torch.full((4,), 0.25, dtype=torch.float64))
    torch.testing.assert_close(zipf(3), torch.tensor([6 / 11, 3 / 11, 2 / 11], dtype=torch.float64))
    torch.testing.assert_close(zipf(5, 0), uniform(5))
    torch.testing.assert_close(given([3, 1]), torch.tensor([0.75, 0.25], dtype=torch.float64))
    assert float(given([1e308, 1e308]).sum()) == 1
    drawn = gaussian(20_000, generator())
    assert float((drawn * 20_000).mean()) == pytest.approx(1, abs=1e-9)
    assert float((drawn * 20_000).std()) == pytest.approx(0.1, rel=0.03)
    assert torch.equal(drawn, gaussian(20_000, generator()))
    assert not torch.equal(drawn, gaussian(20_000, generator(1)))
    torch.testing.assert_close(gaussian(7, generator(), sd=0), uniform(7))


@pytest.mark.parametrize("k", [1, 2, 309])
def test_all_are_positive_and_of_sum_one(k: int) -> None:
    for r in (uniform(k), zipf(k, 2), gaussian(k, generator()), gaussian(k, generator(), sd=5), given([0.1] * k)):
        assert r.shape == (k,) and r.dtype == torch.float64
        assert float(r.min()) > 0
        assert float(r.sum()) == pytest.approx(1, abs=1e-12)


def test_a_setting_names_them() -> None:
    assert torch.equal(make_marginals("uniform", 5, generator()), uniform(5))
    assert torch.equal(make_marginals("zipf", 5, generator()), zipf(5))
    assert torch.equal(make_marginals("gaussian", 5, generator()), gaussian(5, generator()))
    for values in ([1.0, 3.0], (1, 3), np.array([1.0, 3.0]), torch.tensor([1.0, 3.0])):
        torch.testing.assert_close(make_marginals(values, 2, generator()), given([1, 3]))
    with pytest.raises(ValueError, match="normal"):
        make_marginals("normal", 5, generator())
    with pytest.raises(ValueError, match="2 marginals are given for 5"):
        make_marginals([1, 2], 5, generator())


@pytest.mark.parametrize("wrong", [[], [[1.0]], [1.0, 0.0], [1.0, -1.0], [float("nan")], [float("inf")]])
def test_what_are_no_shares(wrong: list) -> None:
    with pytest.raises(ValueError, match="marginals"):
        given(wrong)


def test_wrong_settings() -> None:
    for make in (uniform, zipf, lambda k: gaussian(k, generator())):
        with pytest.raises(ValueError, match="0 clusters"):
            make(0)
    with pytest.raises(ValueError, match="sd"):
        gaussian(3, generator(), sd=-1)
    with pytest.raises(ValueError, match="exponent"):
        zipf(3, float("nan"))


@pytest.mark.parametrize("k", range(1, 7))
def test_the_match_has_the_least_energy_of_all_permutations(k: int) -> None:
    for seed in range(8):
        random = generator(seed)
        r = given(torch.rand(k, generator=random) + 0.01)
        q = torch.randint(0, 50, (k,), generator=random).double()
        q = q / q.sum().clamp_min(1)
        matched = match_marginals(r, q)
        assert torch.equal(matched.sort().values, r.sort().values)
        least = min(energy(q, r[list(order)]) for order in itertools.permutations(range(k)))
        assert energy(q, matched) == pytest.approx(least, abs=1e-12)


def test_the_largest_share_goes_to_the_largest_cluster() -> None:
    r = torch.tensor([0.1, 0.2, 0.3, 0.4])
    assert torch.equal(match_marginals(r, torch.tensor([7, 90, 1, 30])), torch.tensor([0.2, 0.4, 0.1, 0.3]))
    r, q = gaussian(100, generator(), 0.3), torch.rand(100, generator=generator(1))
    matched = match_marginals(r, q)
    assert torch.equal(matched.argsort(), q.argsort())
    assert float(torch.corrcoef(torch.stack([matched, q.double()]))[0, 1]) > 0.9
    assert torch.equal(match_marginals(matched, q), matched)
    assert torch.equal(match_marginals(r, torch.zeros(100)), r.sort().values)


@pytest.mark.parametrize(
    ("r", "q", "said"),
    [
        ([0.5, 0.5], [1.0], "must both be"),
        ([0.5, 0.0], [1.0, 1.0], "positive"),
        ([0.5, 0.5], [1.0, -1.0], "at least 0"),
        ([0.5, 0.5], [1.0, float("nan")], "at least 0"),
    ],
)
def test_what_cannot_be_matched(r: list[float], q: list[float], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        match_marginals(torch.tensor(r), torch.tensor(q))


def test_shares_of_sizes_are_shrunk_by_what_chance_would_make_of_equal_ones() -> None:
    # 90 rows, three kinds: chance has the variance 30 · 2/3 = 20; (20² + 0² + 20²)/3 = 266.7 is there.
    believed = 1 - 20 / (800 / 3)
    expected = torch.tensor([30 + believed * 20, 30.0, 30 - believed * 20], dtype=torch.float64) / 90
    assert torch.allclose(shrunk([50, 30, 10]), expected)
    # 33, 30 and 27 differ by less than chance makes: equal.
    assert torch.allclose(shrunk([33, 30, 27]), uniform(3))
    assert torch.allclose(shrunk(torch.tensor([7, 7])), uniform(2))
    assert float(shrunk([100, 100, 0])[2]) > 0


def test_of_many_deals_of_equal_kinds_shrunk_shares_are_nearer_to_equal_than_the_sizes() -> None:
    random = np.random.default_rng(0)
    deals = random.multinomial(120, np.full(6, 1 / 6), size=200)
    far = [np.abs(shrunk(sizes).numpy() - 1 / 6).sum() for sizes in deals]
    assert np.mean(far) < 0.35 * np.mean(np.abs(deals / 120 - 1 / 6).sum(1))
