"""G-TAD's parts against plain loops: neighbours, the alignment, and the losses."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from seehear.localization.gtad import (
    GTAD,
    AlignedProjection,
    GCNeXt,
    Judgement,
    alignment_matrix,
    balanced_mean,
    gather_snippets,
    gtad_loss,
    nearest_snippets,
)


def aligned(x: torch.Tensor, start: float, length: float, points: int) -> torch.Tensor:
    """Features (C, T) read at `points` bins of [start - length / 2, start + 3 / 2 length]: (C, points). A loop."""
    size = 2 * length / points
    samples = math.ceil(size)
    bins = []
    for p in range(points):
        total = torch.zeros(x.shape[0], dtype=x.dtype)
        for j in range(samples):
            time = start - length / 2 + (p + (j + 0.5) / samples) * size
            if 0 <= time <= x.shape[1]:
                place = min(max(time - 0.5, 0.0), x.shape[1] - 1.0)  # the middle of snippet i is at i + 0.5
                low = min(int(place), x.shape[1] - 2)
                total += (1 - (place - low)) * x[:, low] + (place - low) * x[:, low + 1]
        bins.append(total / samples)
    return torch.stack(bins, dim=1)


def features(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


class TestNeighbours:
    def test_they_are_the_nearest_valid_ones(self):
        x = features(2, 5, 9)
        valid = torch.ones(2, 9, dtype=torch.bool)
        valid[1, 6:] = False
        found = nearest_snippets(x, valid, 3)
        for b in range(2):
            for t in range(6 if b else 9):
                distance = [(float((x[b, :, t] - x[b, :, u]).norm()), u) for u in range(9) if valid[b, u]]
                assert found[b, t].tolist() == [u for _, u in sorted(distance)[:3]]
                assert found[b, t, 0] == t

    def test_where_there_are_too_few_a_snippet_stands_in_for_them(self):
        valid = torch.tensor([[True, True, False, False]])
        found = nearest_snippets(features(1, 3, 4), valid, 3)
        assert sorted(found[0, 0].tolist()) == [0, 0, 1]
        assert found[0, 3].max() <= 3

    def test_gathering(self):
        x, index = features(2, 3, 4), torch.tensor([[[3, 0], [1, 1], [2, 0], [0, 3]]]).expand(2, 4, 2)
        found = gather_snippets(x, index)
        assert found.shape == (2, 3, 4, 2)
        assert torch.equal(found[1, :, 0, 0], x[1, :, 3])
        assert torch.equal(found[0, :, 3, 1], x[0, :, 3])

    def test_a_block_joins_time_and_meaning_and_keeps_padding_at_zero(self):
        block = GCNeXt(8, neighbours=2, paths=2)
        x, valid = features(1, 8, 6).relu(), torch.tensor([[True] * 5 + [False]])
        out = block(x * valid[:, None], valid)
        edges = nearest_snippets(x, valid, 2)
        t = 2
        messages = [
            block.semantic(torch.cat([x[0, :, n], x[0, :, t]])[None, :, None, None])[0, :, 0, 0] for n in edges[0, t]
        ]
        expected = torch.relu(x[0, :, t] + block.temporal(block.entry(x))[0, :, t] + torch.stack(messages).amax(0))
        assert torch.allclose(out[0, :, t], expected, atol=1e-6)
        assert torch.equal(out[0, :, 5], torch.zeros(8))


class TestAlignment:
    @pytest.mark.parametrize(("length", "durations", "points"), [(7, 4, 3), (12, 12, 16), (5, 1, 1)])
    def test_every_candidate_is_read_as_a_loop_reads_it(self, length, durations, points):
        x = features(4, length).double()
        matrix = alignment_matrix(length, durations, points).to_dense().double()
        assert matrix.shape == (durations * length, points * length)
        found = torch.einsum("kps,cs->kcp", matrix.reshape(-1, points, length), x)
        for d in range(durations):
            for t in range(length):
                inside = t + d + 1 <= length
                expected = aligned(x, t, d + 1, points) if inside else torch.zeros(4, points, dtype=x.dtype)
                assert torch.allclose(found[d * length + t], expected, atol=1e-6)

    def test_weights_of_a_candidate_far_from_the_ends_sum_to_one(self):
        matrix = alignment_matrix(20, 4, 8).to_dense().reshape(4, 20, 8, 20)
        assert torch.allclose(matrix[3, 8].sum(1), torch.ones(8))

    def test_the_projection_is_the_alignment_and_a_linear_layer(self):
        layer = AlignedProjection(6, 5, length=8, durations=3, points=4)
        x = features(2, 6, 8, seed=1).requires_grad_()
        found = layer(x)
        assert found.shape == (2, 5, 3, 8)
        for b, d, t in ((0, 0, 0), (0, 2, 5), (1, 1, 3), (1, 2, 7)):
            inside = t + d + 1 <= 8
            read = aligned(x[b].double(), t, d + 1, 4).float() if inside else torch.zeros(6, 4)
            expected = F.linear(read.T.reshape(-1), layer.weight.reshape(5, -1), layer.bias)
            assert torch.allclose(found[b, :, d, t], expected, atol=1e-5)

    def test_gradients_are_those_of_the_dense_product(self):
        layer = AlignedProjection(3, 2, length=6, durations=3, points=2)
        x, y = (features(2, 3, 6).requires_grad_() for _ in range(2))
        goal = features(2, 2, 3, 6, seed=4)
        (layer(x) * goal).sum().backward()
        weight = layer.weight.grad.clone()
        layer.weight.grad = None
        dense = layer.matrix.to_dense().reshape(3, 6, 2, 6)
        (
            (torch.einsum("dtps,opc,bcs->bodt", dense, layer.weight, y) + layer.bias[:, None, None]) * goal
        ).sum().backward()
        assert torch.allclose(x.grad, y.grad, atol=1e-5)
        assert torch.allclose(weight, layer.weight.grad, atol=1e-5)


class TestNetwork:
    def test_shapes_and_padding(self):
        net = GTAD(10, 12, 5, width=8, heads=(16, 4), points=(4, 2), paths=2)
        assert net.first.groups == 2  # what divides both 10 and 8
        x, valid = features(2, 10, 12), torch.ones(2, 12, dtype=torch.bool)
        x[1, :, 7:], valid[1, 7:] = 0, False
        judged = net(x, valid)
        assert judged.candidates.shape == (2, 2, 5, 12)
        assert judged.start.shape == judged.end.shape == (2, 12)
        other = x.clone()
        other[0] = features(10, 12, seed=9)
        assert torch.allclose(net(other, valid).candidates[1], judged.candidates[1], atol=1e-5)

    def test_what_lies_in_the_padding_does_not_matter_to_nodes(self):
        net = GTAD(8, 12, 5, width=8, heads=(16, 4), points=(4, 2), paths=2)
        x, valid = features(1, 8, 12), torch.tensor([[True] * 8 + [False] * 4])
        x[:, :, 8:] = 0
        short = GTAD(8, 8, 5, width=8, heads=(16, 4), points=(4, 2), paths=2)
        short.load_state_dict(net.state_dict())
        expected = short(x[:, :, :8], valid[:, :8])
        assert torch.allclose(net(x, valid).start[:, :8], expected.start, atol=1e-5)
        assert torch.allclose(net(x, valid).end[:, :8], expected.end, atol=1e-5)

    def test_every_weight_is_used(self):
        net = GTAD(8, 10, 4, width=8, heads=(16, 4), points=(4, 2), paths=2)
        judged = net(features(2, 8, 10), torch.ones(2, 10, dtype=torch.bool))
        (judged.candidates.square().sum() + judged.start.sum() + judged.end.sum()).backward()
        assert [name for name, p in net.named_parameters() if p.grad is None or not p.grad.abs().sum()] == []


class TestLoss:
    def judged(self, shape=(2, 3, 5)):
        b, d, t = shape
        return Judgement(features(b, 2, d, t), features(b, t, seed=1), features(b, t, seed=2))

    def weighted_cross_entropy(self, logits, positive, there):
        """As the published code writes it, with coefficients of the ratio of all to positives."""
        total, positives = int(there.sum()), int((positive & there).sum())
        ratio = total / positives
        value = 0.0
        for x, y, counted in zip(
            logits.flatten().tolist(), positive.flatten().tolist(), there.flatten().tolist(), strict=True
        ):
            if counted:
                p = 1 / (1 + math.exp(-x))
                value -= 0.5 * ratio * math.log(p) if y else 0.5 * ratio / (ratio - 1) * math.log(1 - p)
        return value / total

    def test_each_part_is_that_of_a_loop(self):
        judged = self.judged()
        rng = np.random.default_rng(0)
        overlap = torch.from_numpy(rng.uniform(0, 1, (2, 3, 5))).float()
        overlap[0, 0, 0], overlap[1, 2, 3:], overlap[0, 1, 1] = 0.95, -1.0, 0.0
        start = torch.from_numpy(rng.uniform(0, 1, (2, 5))).float()
        end, valid = start.flip(1), torch.ones(2, 5, dtype=torch.bool)
        valid[1, 4] = False
        found = gtad_loss(judged, overlap, start, end, valid, positive_tiou=0.8)

        assert found["classification"].item() == pytest.approx(
            self.weighted_cross_entropy(judged.candidates[:, 1], overlap > 0.8, overlap >= 0), rel=1e-5
        )
        for name, logits, target in (("start", judged.start, start), ("end", judged.end, end)):
            expected = self.weighted_cross_entropy(logits, target > 0.5, valid)
            assert found[name].item() == pytest.approx(expected, rel=1e-5)
        levels: dict[int, list[float]] = {}
        for o, x in zip(overlap.flatten().tolist(), judged.candidates[:, 0].flatten().tolist(), strict=True):
            if o > 0:
                level = 2 if o > 0.7 else 1 if o > 0.3 else 0
                levels.setdefault(level, []).append(0.5 * (1 / (1 + math.exp(-x)) - o) ** 2)
        assert len(levels) == 3
        expected = 10 * np.mean([np.mean(level) for level in levels.values()])
        assert found["regression"].item() == pytest.approx(expected, rel=1e-5)

    def test_a_window_without_a_segment_has_a_finite_loss_and_gradient(self):
        logits = features(1, 2, 3, 5).requires_grad_()
        judged = Judgement(logits, features(1, 5), features(1, 5))
        nothing, valid = torch.zeros(1, 5), torch.ones(1, 5, dtype=torch.bool)
        parts = gtad_loss(judged, torch.zeros(1, 3, 5), nothing, nothing, valid)
        assert parts["regression"].item() == 0
        torch.stack(list(parts.values())).sum().backward()
        assert logits.grad is not None
        assert torch.isfinite(logits.grad).all()

    def test_balanced_mean(self):
        values = torch.tensor([1.0, 2.0, 3.0, 10.0])
        groups = [torch.tensor([True, True, True, False]), torch.tensor([False, False, False, True]), values > 99]
        assert balanced_mean(values, groups).item() == 6.0
