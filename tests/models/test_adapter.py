"""The residual adapter against its formula by hand, and what is trained of an encoder with one on top."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from seehear.models.adapter import OnBackbone, ResidualAdapter


def by_hand(adapter: ResidualAdapter, x: np.ndarray) -> np.ndarray:
    """z + W2 relu(norm(W1 z)) in numpy, row by row."""
    w = {name: t.double().numpy() for name, t in adapter.state_dict().items()}
    rows = []
    for row in x:
        z = (row - w["mean"]) / w["std"]
        hidden = w["inner.weight"] @ z + w["inner.bias"]
        normed = (hidden - hidden.mean()) / np.sqrt(hidden.var() + 1e-5) * w["norm.weight"] + w["norm.bias"]
        rows.append(z + w["outer.weight"] @ np.maximum(normed, 0) + w["outer.bias"])
    return np.array(rows)


def test_it_is_its_formula_and_nothing_at_the_start() -> None:
    generator = torch.Generator().manual_seed(3)
    adapter = ResidualAdapter(5, generator=generator)
    x = np.random.default_rng(0).normal(2.0, 3.0, (7, 5))
    mean, std = x.mean(0), x.std(0)
    std[2] = 0.0  # a dimension that does not vary
    adapter.standardise(torch.from_numpy(mean), torch.from_numpy(std))
    z = (x - mean) / np.where(std > 0, std, 1)
    found = adapter(torch.from_numpy(x).float()).detach().numpy()
    np.testing.assert_allclose(found, z, atol=1e-5)
    nn.init.normal_(adapter.outer.weight, generator=generator)
    nn.init.normal_(adapter.norm.bias, generator=generator)
    found = adapter(torch.from_numpy(x).float()).detach().numpy()
    np.testing.assert_allclose(found, by_hand(adapter, x), atol=1e-4)
    assert np.abs(found - z).max() > 0.1
    adapter.reset()
    np.testing.assert_allclose(adapter(torch.from_numpy(x).float()).detach().numpy(), z, atol=1e-5)


def test_the_same_generator_gives_the_same_weights_and_leaves_torchs_own() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    one, other = (ResidualAdapter(4, generator=torch.Generator().manual_seed(1)) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("tuned", [False, True])
def test_a_backbone_learns_only_if_it_is_tuned(tuned: bool) -> None:
    backbone = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    whole = OnBackbone(backbone, ResidualAdapter(4), tuned=tuned).train()
    nn.init.ones_(whole.adapter.outer.weight)
    before = {name: x.clone() for name, x in backbone.state_dict().items()}
    whole(torch.randn(6, 3, generator=torch.Generator().manual_seed(0))).square().sum().backward()
    assert whole.adapter.inner.weight.grad is not None
    assert (backbone[0].weight.grad is not None) == tuned and backbone.training == tuned
    assert all(torch.equal(before[name], x) for name, x in backbone.state_dict().items()) == (not tuned)
    whole.tune(not tuned)
    assert backbone.training != tuned and backbone[0].weight.requires_grad != tuned
