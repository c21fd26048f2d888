"""SeLaVi's heads in one product against the same heads one by one."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from seehear.models.heads import ClusterHeads

K, DIM, HEADS = 6, 7, 4


def heads_for(dropout: float = 0.0) -> ClusterHeads:
    random = torch.Generator().manual_seed(5)
    heads = ClusterHeads({"video": DIM}, K, HEADS, dropout=dropout, generator=random)
    for norm in heads.modules():
        if isinstance(norm, nn.BatchNorm1d):
            for value, low, high in ((norm.weight, 0.5, 1.5), (norm.bias, -1.0, 1.0), (norm.running_var, 0.5, 2.0)):
                assert isinstance(value, Tensor)
                nn.init.uniform_(value, low, high, generator=random)
    return heads.double()


@pytest.mark.parametrize("training", [True, False])
def test_all_heads_at_once_are_each_by_itself(training: bool) -> None:
    """Answers, gradients and the norms' statistics after three steps, in float64."""
    together = heads_for().train(training)
    alone = copy.deepcopy(together)
    random = torch.Generator().manual_seed(1)
    for _ in range(3):
        x = torch.randn(9, DIM, generator=random, dtype=torch.float64)
        x1, x2 = x.clone().requires_grad_(), x.clone().requires_grad_()
        found = together.all_logits("video", x1)
        expected = torch.stack([alone.logits("video", x2, head) for head in range(HEADS)])
        assert found.shape == (HEADS, 9, K) and found.dtype == torch.float64
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)
        weights = torch.randn(HEADS, 9, K, generator=random)
        (found * weights).sum().backward()
        (expected * weights).sum().backward()
        torch.testing.assert_close(x1.grad, x2.grad, rtol=1e-9, atol=1e-12)
    own = dict(alone.named_parameters())
    for name, parameter in together.named_parameters():
        torch.testing.assert_close(parameter.grad, own[name].grad, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(dict(together.named_buffers()), dict(alone.named_buffers()), rtol=1e-12, atol=1e-14)
    tracked = [m.num_batches_tracked for m in together.modules() if isinstance(m, nn.BatchNorm1d)]
    assert [int(n) for n in tracked if n is not None] == [3 * training] * HEADS


def test_with_dropout_every_head_loses_others_of_its_input() -> None:
    """A hidden entry of a head is known from its answer where the last layer passes it on alone."""
    heads = heads_for(dropout=0.5).train()
    for head in heads._heads("video"):
        first, norm, last = head.layers[1], head.layers[2], head.layers[5]
        with torch.no_grad():
            first.weight.zero_().fill_diagonal_(1)  # type: ignore[operator, union-attr]
            first.bias.zero_()  # type: ignore[operator, union-attr]
            last.weight.zero_().fill_diagonal_(1)  # type: ignore[operator, union-attr]
            last.bias.zero_()  # type: ignore[operator, union-attr]
            norm.weight.fill_(1)  # type: ignore[operator, union-attr]
            norm.bias.fill_(10)  # type: ignore[operator, union-attr]
    torch.manual_seed(0)
    kept = heads.all_logits("video", torch.randn(400, DIM, dtype=torch.float64)) != 0
    shares = kept.double().mean((1, 2))
    assert ((shares - 0.5).abs() < 0.05).all()  # the second dropout, exactly
    assert not torch.equal(kept[0], kept[1])
    # In evaluation nothing is lost: the answers are those of the heads one by one.
    heads.eval()
    x = torch.randn(8, DIM, dtype=torch.float64)
    expected = torch.stack([heads.logits("video", x, head) for head in range(HEADS)])
    torch.testing.assert_close(heads.all_logits("video", x), expected, rtol=1e-6, atol=1e-6)
