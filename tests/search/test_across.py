"""Sight against sound: the fitted map against scikit-learn and plain loops, posteriors, ranks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.cross_decomposition import CCA

import seehear
from seehear.search.across import (
    Correlations,
    JointSpace,
    Posteriors,
    choose_correlations,
    choose_posteriors,
    fit_correlations,
    own_moment_ranks,
    own_moment_score,
)
from seehear.search.index import Index
from seehear.search.nearest import unit
from seehear.search.spaces import fit_spaces
from tests.search.made import copied


def pairs(rows: int = 400, seed: int = 0, common: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Two views, of 8 and 6 dimensions, of `common` hidden causes."""
    rng = np.random.default_rng(seed)
    mix = np.random.default_rng(1)
    hidden = rng.normal(size=(rows, common))
    x = hidden @ mix.normal(size=(common, 8)) + 0.5 * rng.normal(size=(rows, 8))
    y = hidden @ mix.normal(size=(common, 6)) + 0.5 * rng.normal(size=(rows, 6))
    return x.astype(np.float32), y.astype(np.float32)


def projected(made: Correlations, stream: str, x: np.ndarray) -> np.ndarray:
    return (unit(x) - made.arrays[f"mean.{stream}"]) @ made.arrays[f"map.{stream}"]


def test_without_a_ridge_the_map_is_scikit_learns_canonical_correlations():
    x, y = pairs()
    made = fit_correlations(x, y, 1e-9, 3)
    u, v = projected(made, "video", x), projected(made, "audio", y)
    theirs = CCA(n_components=3, scale=False, max_iter=5000, tol=1e-10).fit(unit(x), unit(y))
    tu, tv = theirs.transform(unit(x), unit(y))
    for i in range(3):
        ours = np.corrcoef(u[:, i], v[:, i])[0, 1]
        assert ours == pytest.approx(np.corrcoef(tu[:, i], tv[:, i])[0, 1], abs=1e-3)
        assert abs(np.corrcoef(u[:, i], tu[:, i])[0, 1]) > 0.99
        # Directions count as much as they are correlated.
        assert u[:, i].std() == pytest.approx(ours, abs=1e-3)


def test_a_ridge_is_what_the_formula_says():
    x, y = pairs(60)
    made = fit_correlations(x, y, 0.3, 2)
    a, b = unit(x).astype(float), unit(y).astype(float)
    a, b = a - a.mean(0), b - b.mean(0)

    def ridged(m: np.ndarray) -> np.ndarray:
        c = m.T @ m / len(m)
        return c + 0.3 * np.trace(c) / len(c) * np.eye(len(c))

    # The generalised eigenvalue problem whose solutions are canonical directions, by its eigenvalues r squared.
    cxy = a.T @ b / len(a)
    values = np.linalg.eigvals(np.linalg.solve(ridged(a), cxy) @ np.linalg.solve(ridged(b), cxy.T)).real
    r = np.sqrt(np.sort(values)[::-1][:2])
    maps = made.arrays["map.video"].astype(float), made.arrays["map.audio"].astype(float)
    assert np.allclose(np.diag(maps[0].T @ ridged(a) @ maps[0]), r**2, rtol=1e-3)
    assert np.allclose(np.diag(maps[0].T @ cxy @ maps[1]), r**3, rtol=1e-3)


def test_the_chosen_map_finds_the_own_moment_of_pairs_it_has_not_seen():
    x, y = pairs(600)
    made = choose_correlations(x[:500], y[:500], [f"v{i}" for i in range(500)])
    score = own_moment_score(made.rows("video", x[500:]), made.rows("audio", y[500:]))
    rng = np.random.default_rng(0)
    chance = own_moment_score(made.rows("video", x[500:]), made.rows("audio", y[500:][rng.permutation(100)]))
    assert score > 0.3 > 5 * chance / 2


def test_ranks_are_those_of_a_plain_loop():
    rng = np.random.default_rng(0)
    a, b = unit(rng.normal(size=(30, 5))), unit(rng.normal(size=(30, 5)))
    ranks = own_moment_ranks(a, b)
    for i in range(30):
        own = float(a[i] @ b[i])
        assert ranks[i] == 1 + sum(float(a[i] @ b[j]) > own + 1e-7 for j in range(30) if j != i)
    assert own_moment_score(a, a) == 1


def test_posteriors_are_those_of_the_heads(selavi_run):
    model = seehear.load(selavi_run)
    assert model.heads is not None
    x = np.random.default_rng(0).normal(size=(7, 32)).astype(np.float32)
    rows = Posteriors(model, "sqrt").rows("audio", x)
    for i in range(7):
        with torch.no_grad():
            p = [torch.softmax(model.heads.logits("audio", torch.from_numpy(x[i : i + 1]), h)[0], 0) for h in range(3)]
        expected = torch.cat(p).sqrt().numpy() / np.sqrt(3)
        assert np.allclose(rows[i], expected, atol=1e-4)
    y = np.random.default_rng(1).normal(size=(7, 32)).astype(np.float32)
    chosen = choose_posteriors(model, x, y)
    scores = {
        kind: own_moment_score(made.rows("video", x), made.rows("audio", y))
        for kind in ("sqrt", "log")
        for made in [Posteriors(model, kind, chosen.arrays or _means(model, x, y))]
    }
    assert scores[chosen.kind] == max(scores.values())


def _means(model, x, y):
    from seehear.search.across import head_log_p

    return {"mean.video": head_log_p(model, "video", x).mean(0), "mean.audio": head_log_p(model, "audio", y).mean(0)}


def test_the_joint_space_is_the_models_own(gdt_run):
    model = seehear.load(gdt_run)
    x = np.random.default_rng(0).normal(size=(5, 32)).astype(np.float32)
    made = JointSpace(model, {"video": "video", "audio": "audio"}).rows("video", x)
    with torch.no_grad():
        expected = model.projections["video"](torch.from_numpy(x)).numpy()
    assert np.allclose(made, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "words"), [("finished_run", "linear map"), ("gdt_run", "share"), ("selavi_run", "heads")]
)
def test_every_run_says_through_what_it_compares(name, words, request, tmp_path):
    assert words in Index.open_or_make(copied(request.getfixturevalue(name), tmp_path / "run")).across


def test_too_few_pairs_and_one_stream_give_no_way_across():
    x = np.random.default_rng(0).normal(size=(4, 8)).astype(np.float32)
    both = {"video": "video", "audio": "audio"}
    assert fit_spaces({"video": x, "audio": x}, both, None, (x, x, list("abcd"))).across is None
    assert fit_spaces({"video": x}, {"video": "video"}, None, None).across is None
