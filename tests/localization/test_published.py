"""G-TAD as it was published: the alignment, the network and the loss of its code, each written out as loops.

What the code does was read from github.com/frostinassiky/gtad: on THUMOS14 in `master`, on ActivityNet in f9afd44.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from seehear.errors import DataError, UsageError
from seehear.localization.annotations import Segment
from seehear.localization.gtad import GTAD, Judgement, published_alignment_matrix, published_loss
from seehear.localization.localizer import (
    Localizer,
    Snippets,
    bounded,
    build_network,
    candidates,
    rescaled,
    window_starts,
    windows_of,
)
from seehear.localization.metrics import mean_average_precision, soft_nms
from seehear.localization.settings import RECIPES, LocalizerSettings, gtad_activitynet, gtad_thumos, localizer_settings
from seehear.localization.training import _Training, fit_localizer
from tests.localization.test_run import planted


def features(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def aligned(x: torch.Tensor, t: int, d: int, points: int) -> torch.Tensor:
    """Features (C, T) of the candidate (d, t), (C, points): the CUDA kernel, one sample after the other."""
    length = x.shape[1]
    first, last = (t - 0.5 * (d + 1), t + d + 0.5 * (d + 1)) if t + d < length else (0.0, 0.0)
    extent = max(last - first, 1.0)
    size = extent / points
    samples = math.ceil(extent / points)
    out = torch.zeros(x.shape[0], points, dtype=x.dtype)
    for p in range(points):
        for i in range(samples):
            time = first + p * size + (i + 0.5) * size / samples
            if time < -1 or time > length:
                continue
            time = max(time, 0.0)
            low = int(time)
            if low >= length - 1:
                value = x[:, length - 1]
            else:
                value = (1 - (time - low)) * x[:, low] + (time - low) * x[:, low + 1]
            out[:, p] += value / samples
    return out


def gcnext(x: torch.Tensor, w: dict[str, torch.Tensor], name: str) -> torch.Tensor:
    """A block on (C, T), its semantic edges one by one."""

    def conv(x: torch.Tensor, part: str, groups: int = 1, padding: int = 0) -> torch.Tensor:
        weight, bias = w[f"{name}.{part}.weight"], w[f"{name}.{part}.bias"]
        weight = weight if weight.ndim == 3 else weight[..., 0]
        return F.conv1d(x[None], weight, bias, 1, padding, 1, groups)[0]

    temporal = conv(conv(conv(x, "t1").relu(), "t2", 2, 1).relu(), "t3")
    out = torch.zeros_like(x)
    for t in range(x.shape[1]):
        order = sorted(range(x.shape[1]), key=lambda u: float((x[:, u] - x[:, t]).norm()))[:3]
        messages = [
            conv(conv(conv(torch.cat([x[:, u], x[:, t]])[:, None], "s1").relu(), "s2", 2).relu(), "s3")[:, 0]
            for u in order
        ]
        out[:, t] = (temporal[:, t] + x[:, t] + torch.stack(messages).amax(0)).relu()
    return out


def published_forward(
    x: torch.Tensor, w: dict[str, torch.Tensor], durations: int, points: tuple[int, int], kernel: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """One window (inputs, T) to the maps (2, D, T), starts and ends (T,), after their sigmoids."""
    base = gcnext(F.conv1d(x[None], w["first.weight"], w["first.bias"], padding=1, groups=2)[0].relu(), w, "shared")
    y = gcnext(base, w, "graph")
    nodes = [
        F.conv1d(gcnext(base, w, name)[None], w[f"at_{name}.weight"], w[f"at_{name}.bias"])[0, 0].sigmoid()
        for name in ("start", "end")
    ]
    near = []
    for t in range(y.shape[1]):
        order = sorted(range(y.shape[1]), key=lambda u: float((y[:, u] - y[:, t]).norm()))
        near.append(torch.stack([y[:, u] for u in order[:3]]).mean(0))
    near = torch.stack(near, dim=1)
    read = torch.stack(
        [
            torch.stack(
                [torch.cat([aligned(y, t, d, points[0]), aligned(near, t, d, points[1])], dim=1).flatten()
                 for t in range(x.shape[1])], dim=1
            )
            for d in range(durations)
        ], dim=1,
    )  # fmt: skip
    z = read[None]  # channel by channel, each one's places side by side
    for i, padding in ((0, 0), (1, 0), (2, kernel // 2), (3, kernel // 2)):
        z = F.conv2d(z, w[f"map{i}.weight"], w[f"map{i}.bias"], padding=padding).relu()
    return F.conv2d(z, w["map4.weight"], w["map4.bias"])[0].sigmoid(), *nodes


def published_weights(inputs: int, width: int, heads: tuple[int, int], points: tuple[int, int], kernel: int):
    """Weights in the shapes of the published network, for 2 paths of width 4."""
    shapes: dict[str, tuple[int, ...]] = {"first": (width, inputs // 2, 3)}
    for block in ("shared", "graph", "start", "end"):
        shapes |= {
            f"{block}.t1": (8, width, 1), f"{block}.t2": (8, 4, 3), f"{block}.t3": (width, 8, 1),
            f"{block}.s1": (8, 2 * width, 1, 1), f"{block}.s2": (8, 4, 1, 1), f"{block}.s3": (width, 8, 1, 1),
        }  # fmt: skip
    shapes |= {"at_start": (1, width, 1), "at_end": (1, width, 1), "map0": (heads[0], width * sum(points), 1, 1)}
    shapes |= {"map1": (heads[1], heads[0], 1, 1), "map4": (2, heads[1], 1, 1)}
    shapes |= {f"map{i}": (heads[1], heads[1], kernel, kernel) for i in (2, 3)}
    found = {}
    for i, (name, shape) in enumerate(shapes.items()):
        found[f"{name}.weight"] = features(*shape, seed=2 * i) / math.sqrt(math.prod(shape[1:]))
        found[f"{name}.bias"] = features(shape[0], seed=2 * i + 1) * 0.1
    return found


def copied(net: GTAD, w: dict[str, torch.Tensor], points: tuple[int, int]) -> GTAD:
    """Our network with the published weights."""
    places = {"t1": "entry.0", "t2": "temporal.0", "t3": "temporal.2", "s1": "semantic.0", "s2": "semantic.2",
              "s3": "semantic.4"}  # fmt: skip
    state = {}
    for name, value in w.items():
        block, *rest = name.split(".")
        if block.startswith("map"):
            i = int(block[3])
            if i:
                state[f"localisation.{2 * i - 1}.{rest[0]}"] = value
            elif rest == ["bias"]:
                state["own.bias"], state["context.bias"] = value, torch.zeros_like(value)
            else:
                by_place = value.reshape(value.shape[0], -1, sum(points)).transpose(1, 2)
                state["own.weight"], state["context.weight"] = by_place[:, : points[0]], by_place[:, points[0] :]
        else:
            state[".".join([block, places[rest[0]], rest[1]] if len(rest) == 2 else [block, rest[0]])] = value
    net = net.double()
    net.load_state_dict(state)
    for layer in (net.own, net.context):
        layer.matrix = layer.matrix.double()
    return net


@pytest.mark.parametrize(("length", "durations", "points"), [(7, 4, 3), (12, 12, 16), (5, 1, 1), (9, 6, 4), (3, 5, 2)])
def test_every_candidate_is_read_as_the_kernel_reads_it(length, durations, points):
    x = features(4, length)
    matrix = published_alignment_matrix(length, durations, points).to_dense().double()
    found = torch.einsum("kps,cs->kcp", matrix.reshape(-1, points, length), x)
    for d in range(durations):
        for t in range(length):
            assert torch.allclose(found[d * length + t], aligned(x, t, d, points), atol=1e-6), (d, t)


@pytest.mark.parametrize(("points", "kernel"), [((4, 2), 3), ((3, 3), 1)])
def test_with_the_same_weights_the_network_says_the_same(points, kernel):
    inputs, width, heads, length, durations = 6, 8, (10, 4), 9, 5
    w = published_weights(inputs, width, heads, points, kernel)
    net = GTAD(
        inputs, length, durations, width=width, heads=heads, points=points, paths=2, kernel=kernel, published=True
    )
    assert net.first.groups == 2
    net = copied(net, w, points)
    x = features(2, inputs, length, seed=99)
    x[1, :, 6:] = 0  # a video that ends within the window
    valid = torch.ones(2, length, dtype=torch.bool)
    valid[1, 6:] = False
    with torch.no_grad():
        judged = net(x, valid)
        for b in range(2):
            maps, start, end = published_forward(x[b], w, durations, points, kernel)
            assert torch.allclose(judged.candidates[b].sigmoid(), maps, atol=2e-7)
            assert torch.allclose(judged.start[b].sigmoid(), start, atol=1e-9)
            assert torch.allclose(judged.end[b].sigmoid(), end, atol=1e-9)
        own = GTAD(inputs, length, durations, width=width, heads=heads, points=points, paths=2, kernel=kernel)
        other = copied(own, w, points)(x, valid).candidates
    assert (other - judged.candidates).abs().max() > 1e-3


def test_its_first_weights_are_those_of_one_layer_and_one_bias_is_learnt():
    torch.manual_seed(0)
    net = GTAD(8, 12, 4, width=32, heads=(64, 8), points=(16, 16), published=True)
    bound = 1 / math.sqrt(32 * 32)
    for weight in (net.own.weight, net.context.weight):
        assert 0.98 * bound < weight.abs().max() <= bound
    assert not net.context.bias.any()
    judged = net(features(1, 8, 12).float(), torch.ones(1, 12, dtype=torch.bool))
    judged.candidates.sum().backward()
    assert net.context.bias.grad is None
    assert net.own.bias.grad is not None


def literal_loss(
    maps, start, end, overlap, gt_start, gt_end, draws, tiou: float, weights: tuple[float, float], added: int
) -> float:
    """The published loss, element by element, on probabilities. Overlap -1: not a candidate."""

    def two_sided(p, positive, counted, added_positive, added_all):
        good = sum(a for a, c in zip(positive, counted, strict=True) if c) + added_positive
        every = added_all + good + sum(not a for a, c in zip(positive, counted, strict=True) if c)
        ratio = every / good
        total = 0.0
        for x, a, c in zip(p, positive, counted, strict=True):
            if c:
                total += 0.5 * ratio * math.log(x + 1e-6) if a else 0.5 * ratio / (ratio - 1) * math.log(1 - x + 1e-6)
        return -total / every

    o = [max(v, 0.0) for v in overlap.flatten().tolist()]
    there = [v >= 0 for v in overlap.flatten().tolist()]
    high, middle, low = ([a < v <= b for v in o] for a, b in ((0.7, math.inf), (0.3, 0.7), (0.0, 0.3)))
    error = count = 0.0
    first, second = draws[0].flatten().tolist(), draws[1].flatten().tolist()
    for i, (p, v) in enumerate(zip(maps[:, 0].flatten().tolist(), o, strict=True)):
        w = float(high[i])
        w += float(middle[i] * first[i] > 1 - sum(high) / sum(middle))
        w += float(low[i] * second[i] > 1 - sum(high) / sum(low))
        error += (p * w - v * w) ** 2
        count += w
    regression = 0.5 * error / count
    positive = [v > tiou for v in o]
    classification = two_sided(maps[:, 1].flatten().tolist(), positive, there, added, added)
    nodes = sum(
        two_sided(p.flatten().tolist(), [v > 0.5 for v in g.flatten().tolist()], [True] * g.numel(), 0, 0)
        for p, g in ((start, gt_start), (end, gt_end))
    )
    return weights[0] * regression + weights[1] * classification + nodes


@pytest.mark.parametrize(("weights", "added"), [((1.0, 10.0), 10), ((10.0, 1.0), 0)])
@pytest.mark.parametrize("high", [0.1, 0.6])  # few candidates of much overlap, and more of them than of middling
def test_the_loss_is_that_of_a_loop(weights, added, high):
    rng = np.random.default_rng(0)
    shape = (2, 6, 11)
    judged = Judgement(features(2, 2, 6, 11), features(2, 11, seed=1), features(2, 11, seed=2))
    overlap = torch.from_numpy(
        np.where(rng.random(shape) < high, rng.uniform(0.7, 1, shape), rng.uniform(0, 0.7, shape))
    )
    overlap[rng.random(shape) < 0.2] = 0
    overlap[:, 3:, 8:] = -1
    start, end = (torch.from_numpy(rng.uniform(0, 1, (2, 11))) for _ in range(2))
    draws = torch.from_numpy(rng.random((2, *shape)))
    found = published_loss(judged, overlap, start, end, draws, 0.8, weights, added)
    expected = literal_loss(
        judged.candidates.sigmoid(), judged.start.sigmoid(), judged.end.sigmoid(), overlap, start, end, draws, 0.8,
        weights, added,
    )  # fmt: skip
    assert sum(p.item() for p in found.values()) == pytest.approx(expected, rel=1e-10)


def test_a_batch_without_a_good_candidate_has_a_finite_loss_and_gradient():
    logits = features(1, 2, 3, 5).requires_grad_()
    nothing = torch.zeros(1, 5, dtype=torch.float64)
    judged = Judgement(logits, nothing, nothing)
    parts = published_loss(judged, torch.zeros(1, 3, 5), nothing, nothing, torch.rand(2, 1, 3, 5))
    assert parts["regression"].item() == 0
    torch.stack(list(parts.values())).sum().backward()
    assert torch.isfinite(logits.grad).all()


def test_windows_are_those_of_the_published_loop():
    for count in (3, 10, 11, 12, 14, 15, 17, 18, 23, 40):
        length, stride = 10, 5
        expected = [i * stride for i in range(int((count + stride - length) / stride))] if count >= length else [0]
        if count >= length and count - expected[-1] - length > int(length / 5):
            expected.append(count - length)
        assert window_starts(count, length, published=True) == expected


def test_windows_are_learnt_from_that_hold_a_segment_and_segments_are_cut_at_their_ends():
    spans = np.array([[2.0, 4.0], [8.0, 13.0], [40.0, 60.0]])
    found = windows_of(spans, 30, 10, 4, published=True)
    assert [start for start, _ in found] == [0, 5]  # from 10 on there are 3 of 5 snippets of the second one
    first = found[0][1]
    assert first.overlap[1, 8] == -1.0 or first.overlap[1, 8] == 1.0
    assert first.overlap[1, 8] == 1.0  # [8, 10] is all that this window has of [8, 13]
    assert first.overlap[3, 8] == -1.0
    assert windows_of(spans, 30, 10, 4)[0][1].overlap[1, 8] == pytest.approx(0.4)
    short = windows_of(spans[:1], 6, 10, 4, published=True)[0][1]
    assert short.overlap[0, 8] == 0.0  # padding is judged too
    assert windows_of(spans[2:], 30, 10, 4, published=True) == []


def test_a_video_is_interpolated_as_torch_does():
    x = features(7, 3).float().numpy()
    for count in (3, 7, 20):
        found = rescaled(Snippets(x, 1.0, 0.5), count)
        expected = F.interpolate(torch.from_numpy(x.T)[None], size=count, mode="linear", align_corners=False)[0].T
        assert found.features == pytest.approx(expected.numpy(), abs=1e-6)
        assert found.seconds(np.array([0.0, count])) == pytest.approx([1.0, 4.5])


def test_candidates_between_starts_and_ends():
    rng = np.random.default_rng(0)
    for _ in range(5):
        nodes, length = rng.random((2, 9)), 9
        start, end = np.zeros(length), np.zeros(length)
        start[0], end[-1] = 1, 1
        for scores, bins in ((nodes[0], start), (nodes[1], end)):
            for i in range(1, length - 1):
                if (scores[i] > scores[i + 1] and scores[i] > scores[i - 1]) or scores[i] > 0.5 * max(scores):
                    bins[i] = 1
        found = bounded(nodes, 6)
        for d in range(6):
            for t in range(length):
                stop = t + d + 1
                assert found[d, t] == (stop < length and bool(start[t]) and bool(end[stop]))


TINY = {"width": 32, "points": 4, "epochs": 4, "batch_size": 4, "learning_rate": 0.003}


@pytest.mark.parametrize(
    ("recipe", "changes"),
    [(gtad_thumos, {"window": 40, "longest": 12, "positive_tiou": 0.7}),
     (gtad_activitynet, {"window": 40, "longest": 40, "context_points": 2, "positive_tiou": 0.7})],
)  # fmt: skip
def test_what_is_planted_is_learnt_by_either_recipe(recipe, changes, tmp_path):
    videos, truth = planted(12, seed=0)
    settings = replace(recipe(), **TINY, **changes)
    localizer = fit_localizer(videos, truth, replace(settings, epochs=12))
    assert (localizer.length, localizer.network.published) == (40, True)
    new, answers = planted(6, seed=5)
    found = {n: localizer.detect(s) for n, s in new.items()}
    assert mean_average_precision(found, answers)["mAP@0.3"] > 0.5
    limit = settings.longest_detected or 40
    assert all(d.end_seconds - d.start_seconds <= limit * 0.5 + 1e-6 for of_video in found.values() for d in of_video)
    localizer.save(tmp_path)
    assert Localizer.load(tmp_path).detect(new["v00"]) == found["v00"]


def test_detections_are_suppressed_in_each_window_and_then_over_all():
    videos, truth = planted(4, seed=0)
    settings = replace(gtad_thumos(), **TINY, window=20, longest=8, positive_tiou=0.7, longest_detected=5)
    localizer = fit_localizer(videos, truth, settings)
    snippets = videos["v00"]
    spans, scores = [], []
    for start, judged, _ in localizer._judgements(snippets.features):
        all_of_them = [(d, t) for d in range(5) for t in range(20) if t + d + 1 < 20 and start + t < len(snippets)]
        of_window = np.array([candidates(20, 8)[d, t] + start for d, t in all_of_them])
        taken, kept = soft_nms(
            of_window, np.array([judged[0, d, t] * judged[1, d, t] for d, t in all_of_them]), 0.46, 200
        )
        spans.append(of_window[taken])
        scores.append(kept)
    assert len(spans) == 3
    expected, _ = soft_nms(np.concatenate(spans), np.concatenate(scores), 0.46, 200)
    places = snippets.seconds(np.concatenate(spans)[expected])
    found = {(d.start_seconds, d.end_seconds) for d in localizer.detect(snippets)}
    assert found == {(float(a), float(b)) for a, b in places}


def test_it_is_repeatable_and_goes_on_to_the_same_bits(tmp_path):
    videos, truth = planted(4, seed=0)
    settings = replace(gtad_thumos(), **TINY, window=40, longest=12, positive_tiou=0.7)
    whole, parts = (_Training(videos, truth, list(videos), settings, torch.device("cpu")) for _ in range(2))
    for _ in range(4):
        whole.epoch()
    for _ in range(2):
        parts.epoch()
    again = _Training(videos, truth, list(videos), settings, torch.device("cpu"))
    again.restore(parts.state())
    for _ in range(2):
        again.epoch()
    for name, weight in whole.localizer.network.state_dict().items():
        assert torch.equal(weight, again.localizer.network.state_dict()[name])


def test_recipes_have_the_published_numbers():
    thumos, activitynet = (localizer_settings([], name) for name in ("gtad-thumos", "gtad-activitynet"))
    assert (thumos.window, thumos.longest, thumos.batch_size, thumos.epochs) == (256, 64, 8, 10)
    assert thumos.stride_seconds * 30 == pytest.approx(5)
    assert (thumos.learning_rate, thumos.positive_tiou, thumos.weight_decay) == (4e-5, 0.9, 1e-4)
    assert (thumos.regression_weight, thumos.classification_weight, thumos.added_counts) == (1, 10, 10)
    assert (thumos.points, thumos.context_points, thumos.kernel) == (16, None, 3)
    assert (activitynet.window, activitynet.longest, activitynet.batch_size, activitynet.epochs) == (100, 100, 16, 10)
    assert (activitynet.learning_rate, activitynet.nms_sigma) == (4e-3, 0.8)
    assert (activitynet.points, activitynet.context_points, activitynet.kernel) == (32, 4, 1)
    network = build_network(activitynet, 400, 100, 100)
    assert sum(p.numel() for n, p in network.named_parameters() if n != "context.bias") == activitynet_parameters()
    assert list(RECIPES) == ["small", "gtad-thumos", "gtad-activitynet"]
    assert RECIPES["small"]() == LocalizerSettings() == localizer_settings([])
    changed = localizer_settings(["network=own", "rescale=true", "context_points=null"], "gtad-thumos")
    assert (changed.network, changed.rescale, changed.batch_size) == ("own", True, 8)


def activitynet_parameters() -> int:
    """Of the published network, by the shapes of its layers."""
    block = (256 * 128 + 128) + (128 * 4 * 3 + 128) + (128 * 256 + 256)
    block += (512 * 128 + 128) + (128 * 4 + 128) + (128 * 256 + 256)
    maps = (256 * 36 * 512 + 512) + (512 * 128 + 128) + 2 * (128 * 128 + 128) + (128 * 2 + 2)
    return (100 * 3 * 256 + 256) + 4 * block + 2 * (256 + 1) + maps


@pytest.mark.parametrize(
    "wrong",
    ["network=ours", "loss=1", "rescale=1", "kernel=2", "added_counts=5", "context_points=0", "clip_gradient=-1"],
)
def test_what_cannot_be_is_refused(wrong):
    with pytest.raises(UsageError):
        localizer_settings([wrong])


def test_refusals():
    with pytest.raises(UsageError, match="gtad-thumos"):
        localizer_settings([], "gtad")
    videos, _ = planted(2, seed=0)
    truth = {n: [Segment(2.0, 20.0, "a")] for n in videos}
    with pytest.raises(DataError, match="holds a segment"):
        fit_localizer(videos, truth, replace(gtad_thumos(), **TINY, window=20))
