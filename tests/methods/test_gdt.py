"""GDT-NCE against Eq. 1 as loops, the reductions of the paper, and several processes."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

import seehear
from seehear import dist
from seehear.config import Config, ContrastConfig, ModelConfig
from seehear.errors import UsageError
from seehear.hypotheses.factors import Span
from seehear.hypotheses.language import NAMED, parse
from seehear.methods import build_method
from seehear.methods.gdt import GDT, gdt_nce
from seehear.modalities import MODALITIES
from seehear.models.heads import MLPHead
from seehear.pretraining.plan import make_config
from tests.conftest import TINY_SETTINGS

TINY = Config(
    method="gdt",
    model=ModelConfig(video="r2plus1d_10", video_width=4, video_stem_pool=True, audio="resnet9", audio_width=4),
    gdt=ContrastConfig(dimensions=8),
)
RHO = 0.3


def batch_of(spec, clips, seed=0):
    """Views of so many clips and their codes (K, factors)."""
    rng = np.random.default_rng(seed)
    views = [v for i in range(clips) for v in spec.views(f"v{i}", i, Span(0, 300, 30.0), rng)]
    return views, torch.tensor([v.codes for v in views])


def unit(rows, dimensions=6, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(rows, dimensions, generator=generator, dtype=torch.float64), dim=1).to(dtype)


def weight(spec, a, b):
    for factor, x, y in zip(spec.factors, a, b, strict=True):
        if factor.hypothesis == "ignore" and x != y:
            return 0
        if factor.name == "modality" and len(factor.names) > 1:
            crosses = x != y
            if (factor.pairs == "cross" and not crosses) or (factor.pairs == "within" and crosses):
                return 0
    return 1


def contrast(spec, a, b):
    return math.prod(x == y for f, x, y in zip(spec.factors, a, b, strict=True) if f.hypothesis == "distinct")


def equation_1(x, codes, spec, rho):
    """The double sum of Eq. 1, with its minus sign, and the number of its terms."""
    x, codes = x.double().tolist(), codes.tolist()
    total, terms = 0.0, 0
    for t, a in enumerate(codes):
        for u, b in enumerate(codes):
            if t == u or not contrast(spec, a, b) * weight(spec, a, b):
                continue

            def similarity(v, anchor=t):
                return math.exp(math.fsum(p * q for p, q in zip(x[anchor], x[v], strict=True)) / rho)

            below = sum(weight(spec, a, codes[v]) * similarity(v) for v in range(len(codes)) if v != t)
            total -= math.log(similarity(u) / below)
            terms += 1
    return total, terms


@pytest.mark.parametrize("clips", [1, 2, 5])
@pytest.mark.parametrize("name", NAMED)
def test_the_loss_is_equation_1(name, clips):
    spec = parse(name)
    _, codes = batch_of(spec, clips)
    x = unit(len(codes))
    loss, surprise, positive = gdt_nce(x, codes, spec, RHO)
    total, terms = equation_1(x, codes, spec, RHO)
    assert int(positive.sum()) == terms
    assert loss.item() == pytest.approx(total / max(terms, 1), rel=1e-5, abs=1e-6)
    assert surprise[positive].sum().item() == pytest.approx(total, rel=1e-5, abs=1e-5)
    assert loss.dtype == torch.float32


@pytest.mark.parametrize("pairs", ["cross", "within", "all"])
@pytest.mark.parametrize("reversal", ["distinct", "invariant", "ignore"])
def test_the_loss_is_equation_1_for_every_hypothesis_and_every_choice_of_pairs(reversal, pairs):
    spec = parse(f"sample=distinct, time_shift=distinct, reversal={reversal}, pairs={pairs}, augment=invariant*2")
    _, codes = batch_of(spec, 3)
    x = unit(len(codes), seed=1)
    total, terms = equation_1(x, codes, spec, RHO)
    assert gdt_nce(x, codes, spec, RHO)[0].item() == pytest.approx(total / terms, rel=1e-5)


def hand(*angles):
    """Unit vectors in the plane at these angles in degrees."""
    radians = torch.tensor(angles) * math.pi / 180
    return torch.stack([radians.cos(), radians.sin()], dim=1)


def test_four_transformations_by_hand():
    # Two clips, seen and heard: v1 a1 v2 a2. Each anchor has one positive and one negative, of the other modality.
    spec = parse("e")
    _, codes = batch_of(spec, 2)
    x = hand(0, 0, 90, 90)
    loss, _, positive = gdt_nce(x, codes, spec, 1.0)
    assert positive.int().tolist() == [[0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1], [0, 0, 1, 0]]
    assert loss.item() == pytest.approx(-math.log(math.e / (math.e + 1)))
    # Swapped sounds: positives at a right angle, negatives on top of the anchor.
    assert gdt_nce(hand(0, 90, 90, 0), codes, spec, 1.0)[0].item() == pytest.approx(math.log(math.e + 1))
    # All alike: a choice between two.
    assert gdt_nce(hand(5, 5, 5, 5), codes, spec, 0.07)[0].item() == pytest.approx(math.log(2))


def test_four_transformations_of_one_clip_by_hand():
    # Forwards and backwards, seen and heard: fv fa bv ba. What attracts in row (l) is invisible in row (f).
    x = hand(0, 0, 90, 90)
    loss_l, _, positive = gdt_nce(x, batch_of(parse("l"), 1)[1], parse("l"), 1.0)
    assert positive.int().tolist() == [[0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1], [0, 0, 1, 0]]
    assert loss_l.item() == pytest.approx(math.log(math.e + 1) - 1)
    loss_f, _, positive = gdt_nce(x, batch_of(parse("f"), 1)[1], parse("f"), 1.0)
    assert positive.int().tolist() == [[0, 1, 0, 1], [1, 0, 1, 0], [0, 1, 0, 1], [1, 0, 1, 0]]
    assert loss_f.item() == pytest.approx(math.log(math.e + 1) - 0.5)  # half of the positives are at a right angle


@pytest.mark.parametrize("name", ["a", "l", "m", "all-pairs", "rotnet", "same-rotation"])
def test_gradients_are_those_of_the_loss(name):
    spec = parse(name)
    _, codes = batch_of(spec, 2)
    x = unit(len(codes), 3, dtype=torch.float64).requires_grad_()
    assert gdt_nce(x, codes, spec, RHO)[0].dtype == torch.float64
    assert torch.autograd.gradcheck(lambda y: gdt_nce(y, codes, spec, RHO)[0], (x,))


def gradient_of_queries(x, codes, spec, rho):
    """The derivative of Eq. 1 by each f(T), all else held still: sums over T' and T'' as they stand, (K, D)."""
    x, codes, terms = x.double(), codes.tolist(), 0
    found = torch.zeros_like(x)
    for t, a in enumerate(codes):
        compared = [v for v, b in enumerate(codes) if v != t and weight(spec, a, b)]
        below = sum(math.exp(float(x[t] @ x[v]) / rho) for v in compared)
        for u in compared:
            if contrast(spec, a, codes[u]):
                terms += 1
                found[t] -= x[u] / rho
                for v in compared:
                    found[t] += math.exp(float(x[t] @ x[v]) / rho) / below * x[v] / rho
    return found / max(terms, 1)


@pytest.mark.parametrize("name", NAMED)
def test_with_detached_keys_gradients_reach_the_queries_alone(name):
    spec = parse(name)
    _, codes = batch_of(spec, 2)
    x = unit(len(codes), 4, dtype=torch.float64).requires_grad_()
    plain = gdt_nce(x, codes, spec, RHO)[0]
    loss = gdt_nce(x, codes, spec, RHO, detach_keys=True)[0]
    assert loss.item() == plain.item()
    if not loss.requires_grad or not any(contrast(spec, a, b) for a in codes for b in codes):
        return
    (found,) = torch.autograd.grad(loss, x)
    assert torch.allclose(found, gradient_of_queries(x.detach(), codes, spec, RHO), atol=1e-12)


def test_detached_keys_halve_the_gradient_of_matched_pairs():
    """Sight and sound alone: the mean of two cross-entropies whose keys are constants, as released."""
    spec = parse("e")
    _, codes = batch_of(spec, 16)
    x = unit(len(codes), 32, dtype=torch.float64).requires_grad_()
    sees = codes[:, spec.column("modality")] == list(MODALITIES).index("video")
    video, audio = x[sees], x[~sees]
    right = torch.arange(len(video))
    released = 0.5 * F.cross_entropy(video @ audio.detach().T / RHO, right)
    released = released + 0.5 * F.cross_entropy(audio @ video.detach().T / RHO, right)
    (theirs,) = torch.autograd.grad(released, x)
    (detached,) = torch.autograd.grad(gdt_nce(x, codes, spec, RHO, detach_keys=True)[0], x)
    (whole,) = torch.autograd.grad(gdt_nce(x, codes, spec, RHO)[0], x)
    assert torch.allclose(detached, theirs, atol=1e-14)
    assert 1.8 < float(whole.norm() / detached.norm()) < 2.2
    assert F.cosine_similarity(whole.flatten(), detached.flatten(), dim=0) > 0.9


def test_a_run_can_detach_its_keys():
    gradients = []
    for name in ("e", "e detached"):
        model = plain_model(name)
        output = model(*plain_batch(model.spec, 4))
        output.loss.backward()
        gradients.append((output.loss.item(), model.projections["video"].layer.weight.grad))
    assert gradients[0][0] == gradients[1][0]
    assert float(gradients[0][1].norm()) > 1.2 * float(gradients[1][1].norm())


def test_a_batch_without_a_positive_has_no_loss_and_no_gradient():
    spec = parse("a")
    _, codes = batch_of(spec, 3)
    x = unit(len(codes)).requires_grad_()
    lonely = codes[::2], x[::2]  # one augmentation of each clip
    loss, _, positive = gdt_nce(lonely[1], lonely[0], spec, RHO)
    loss.backward()
    assert (loss.item(), bool(positive.any())) == (0.0, False)
    assert x.grad.abs().sum().item() == 0


def test_a_row_that_is_compared_with_nothing_leaves_the_gradient_finite():
    spec = parse("e")
    _, codes = batch_of(spec, 2)
    x = unit(4).requires_grad_()
    seen = codes[:, spec.column("modality")] == list(MODALITIES).index("video")
    loss, _, positive = gdt_nce(x[seen], codes[seen], spec, RHO)  # sounds failed: no pair crosses
    loss.backward()
    assert not positive.any()
    assert torch.isfinite(x.grad).all()


def test_sharp_temperatures_and_half_precision_stay_finite():
    spec = parse("m")
    _, codes = batch_of(spec, 4)
    exact = gdt_nce(unit(len(codes)), codes, spec, 0.01)[0]
    assert torch.isfinite(exact)
    half = gdt_nce(unit(len(codes), dtype=torch.bfloat16), codes, spec, 0.5)[0]
    assert half.dtype == torch.float32
    with torch.autocast("cpu", torch.bfloat16):
        assert gdt_nce(unit(len(codes)), codes, spec, 0.01)[0].item() == exact.item()


# -- what it reduces to -------------------------------------------------------------------------------------------


def nt_xent(first, second, rho):
    """SimCLR's loss as Chen et al. write it: 2N views, view k is the positive of view k + N."""
    z = torch.cat([first, second])
    logits = z @ z.T / rho
    logits.fill_diagonal_(-torch.inf)
    n = len(first)
    return F.cross_entropy(logits, torch.cat([torch.arange(n, 2 * n), torch.arange(n)]))


@pytest.mark.parametrize("name", ["a", "simclr-audio", "npid"])
def test_simclr_is_nt_xent(name):
    spec = parse(name)
    _, codes = batch_of(spec, 6)
    x = unit(12)
    assert gdt_nce(x, codes, spec, RHO)[0].item() == pytest.approx(nt_xent(x[::2], x[1::2], RHO).item(), rel=1e-5)


def test_across_modalities_is_the_symmetric_loss_of_matched_pairs():
    spec = parse("e")
    _, codes = batch_of(spec, 6)
    x = unit(12)
    logits, target = x[::2] @ x[1::2].T / RHO, torch.arange(6)
    expected = (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
    assert gdt_nce(x, codes, spec, RHO)[0].item() == pytest.approx(expected.item(), rel=1e-5)


def test_within_modalities_is_the_mean_of_two_simclrs():
    spec = parse("within-modal")
    _, codes = batch_of(spec, 5)
    x = unit(20).view(5, 2, 2, 6)  # clip, modality, augmentation
    expected = sum(nt_xent(x[:, m, 0], x[:, m, 1], RHO) for m in range(2)) / 2
    assert gdt_nce(x.flatten(0, 2), codes, spec, RHO)[0].item() == pytest.approx(expected.item(), rel=1e-5)


def test_of_all_pairs_each_clip_has_four_views_that_agree():
    spec = parse("all-pairs")
    _, codes = batch_of(spec, 3)
    clip = torch.arange(12) // 4
    expected = (clip[:, None] == clip[None]) & ~torch.eye(12, dtype=torch.bool)
    assert torch.equal(gdt_nce(unit(12), codes, spec, RHO)[2], expected)


@pytest.mark.parametrize(("name", "values"), [("rotnet", 4), ("arrow-of-time", 2), ("speednet", 2)])
def test_the_label_as_a_modality_is_cross_entropy(name, values):
    """Eq. 3: for rows whose anchor is a video, a softmax over the values of the factor."""
    spec = parse(name)
    model = GDT(replace(TINY, gdt=ContrastConfig(hypotheses=name, dimensions=8, temperature=RHO)))
    _, codes = batch_of(spec, 3)
    is_video = codes[:, spec.column("modality")] == list(MODALITIES).index("video")
    videos = unit(int(is_video.sum()), 8)
    x = torch.empty(len(codes), 8)
    x[is_video] = videos
    x[~is_video] = model._label_embeddings(codes[~is_video])
    _, surprise, positive = gdt_nce(x, codes, spec, RHO)
    told = codes[is_video, spec.column(model.spec.label_factor)]
    expected = F.cross_entropy(videos[:, :values] / RHO, told)
    assert surprise[positive & is_video[:, None]].mean().item() == pytest.approx(expected.item(), rel=1e-5)
    assert (positive.sum(1) == 1).all()


def test_clips_turned_alike_are_positives_whichever_they_are():
    spec = parse("same-rotation")
    views, codes = batch_of(spec, 3)
    turn = torch.tensor([dict(v.acts)["rotation"] for v in views])
    _, _, positive = gdt_nce(unit(12), codes, spec, RHO)
    assert torch.equal(positive, (turn[:, None] == turn[None]) & ~torch.eye(12, dtype=torch.bool))


def test_a_turned_clip_is_a_positive_of_its_upright_self():
    spec = parse("pirl-rotation")
    _, codes = batch_of(spec, 2)
    _, _, positive = gdt_nce(unit(8), codes, spec, RHO)
    assert positive.sum(1).tolist() == [3] * 8


# -- the method ---------------------------------------------------------------------------------------------------


def inputs_for(spec, codes, seed=0):
    generator = torch.Generator().manual_seed(seed)
    column = spec.column("modality")
    inputs, targets = {}, {}
    for name in spec.modalities:
        rows = codes[codes[:, column] == list(MODALITIES).index(name)]
        targets[name] = rows
        shape = {"video": (3, 4, 32, 32), "audio": (1, 16, 20), None: None}[MODALITIES[name].encoder]
        if shape:
            inputs[name] = torch.randn(len(rows), *shape, generator=generator)
    return inputs, targets


@pytest.mark.parametrize("name", ["a", "l", "rotnet", "motion"])
def test_a_step_trains_every_encoder_and_head(name):
    model = build_method(replace(TINY, gdt=replace(TINY.gdt, hypotheses=name)))
    spec = model.hypotheses
    _, codes = batch_of(spec, 3)
    inputs, targets = inputs_for(spec, codes)
    output = model(inputs, targets)
    output.loss.backward()
    assert set(model.encoders) == set(model.projections) == set(spec.encoded)
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())
    assert all(p.grad.abs().sum() > 0 for m in model.encoders.values() for p in list(m.parameters())[:1])
    embedded = [model.projections[n](model.encoders[n](x)) for n, x in inputs.items()]
    assert all(torch.allclose(x.norm(dim=1), torch.ones(len(x)), atol=1e-5) for x in embedded)


def test_a_modality_without_an_input_is_not_compared():
    model = build_method(replace(TINY, gdt=replace(TINY.gdt, hypotheses="motion"))).eval()
    _, codes = batch_of(model.hypotheses, 3)
    inputs, targets = inputs_for(model.hypotheses, codes)
    del inputs["audio"]
    output = model(inputs, targets)
    x = [model.projections[n](model.encoders[n](inputs[n])) for n in ("video", "motion")]
    logits = x[0] @ x[1].T / model.config.gdt.temperature
    expected = (F.cross_entropy(logits, torch.arange(3)) + F.cross_entropy(logits.T, torch.arange(3))) / 2
    assert output.loss.item() == pytest.approx(expected.item(), rel=1e-4)


def test_there_is_no_final_stage():
    with pytest.raises(UsageError, match="gdt has none"):
        make_config(method="gdt", settings=["final.frames=8"])


def test_what_is_logged_agrees_with_the_loss():
    model = build_method(replace(TINY, gdt=replace(TINY.gdt, hypotheses="l"))).eval()
    _, codes = batch_of(model.hypotheses, 4)
    inputs, targets = inputs_for(model.hypotheses, codes)
    output = model(inputs, targets)
    parts = {k: float(v) for k, v in output.parts.items()}
    assert parts["loss/video->audio"] + parts["loss/audio->video"] == pytest.approx(2 * output.loss.item(), rel=1e-5)
    x = {n: model.projections[n](model.encoders[n](inputs[n])).detach() for n in inputs}
    hits = [(x["video"] @ x["audio"].T).argmax(1) == torch.arange(8), (x["audio"] @ x["video"].T).argmax(1)]
    assert parts["accuracy/video->audio"] == pytest.approx(hits[0].float().mean().item())
    assert parts["alignment/video->audio"] == pytest.approx(
        (x["video"] - x["audio"]).square().sum(1).mean().item(), rel=1e-4
    )
    gaps = [(a - b).square().sum() for i, a in enumerate(x["audio"]) for b in x["audio"][:i]]
    assert parts["uniformity/audio"] == pytest.approx(torch.stack(gaps).mul(-2).exp().mean().log().item(), rel=1e-4)
    assert "loss/video->video" not in parts


def logged_by_loops(x, codes, spec):
    """What a step logs, from rows of embeddings of unit length and their codes, one pair of rows after another."""
    column, x, codes = spec.column("modality"), x.double(), codes.tolist()
    of = {m: [i for i, c in enumerate(codes) if c[column] == list(MODALITIES).index(m)] for m in spec.modalities}
    found = {}
    for a, queries in of.items():
        for b, keys in of.items():
            losses, distances, hits = [], [], []
            for t in queries:
                compared = [v for v in range(len(codes)) if v != t and weight(spec, codes[t], codes[v])]
                right = [u for u in keys if u in compared and contrast(spec, codes[t], codes[u])]
                if not right:
                    continue
                logits = {v: float(x[t] @ x[v]) / RHO for v in compared}
                below = math.log(math.fsum(math.exp(s) for s in logits.values()))
                losses += [below - logits[u] for u in right]
                distances += [float((x[t] - x[u]).square().sum()) for u in right]
                hits.append(max((v for v in compared if v in keys), key=logits.__getitem__) in right)
            if losses:
                found[f"loss/{a}->{b}"] = math.fsum(losses) / len(losses)
                found[f"alignment/{a}->{b}"] = math.fsum(distances) / len(distances)
                found[f"accuracy/{a}->{b}"] = sum(hits) / len(hits)
        if a == "text":
            found["texts"] = len(queries)
        gaps = [float((x[t] - x[u]).square().sum()) for t in queries for u in queries if t < u]
        if MODALITIES[a].encoder and gaps:
            found[f"uniformity/{a}"] = math.log(math.fsum(math.exp(-2 * g) for g in gaps) / len(gaps))
    return found


def observed(spec_text, clips, leave_out=()):
    """What a step logs of made-up embeddings, and what loops say; some rows of text may be missing."""
    model = build_method(replace(TINY, gdt=replace(TINY.gdt, hypotheses=spec_text, temperature=RHO)))
    spec = model.hypotheses
    _, codes = batch_of(spec, clips)
    column = codes[:, spec.column("modality")]
    told = {m: codes[column == list(MODALITIES).index(m)] for m in spec.modalities}
    if "text" in told:
        told["text"] = told["text"][[i for i in range(len(told["text"])) if i not in leave_out]]
    embeddings = {m: unit(len(rows), TINY.gdt.dimensions, seed=i) for i, (m, rows) in enumerate(told.items())}
    for name in [m for m in told if not MODALITIES[m].encoder]:
        embeddings[name] = model._label_embeddings(told[name])
    parts = {k: float(v) for k, v in model._loss(embeddings, told).parts.items()}
    return parts, logged_by_loops(torch.cat(list(embeddings.values())), torch.cat(list(told.values())), spec)


@pytest.mark.parametrize("name", NAMED)
def test_what_is_logged_is_what_loops_over_pairs_of_rows_find(name):
    parts, expected = observed(name, 3)
    assert parts == pytest.approx(expected, rel=1e-5, abs=1e-6)


def test_of_a_pair_of_modalities_that_a_batch_lacks_nothing_or_zero_is_logged():
    """With words for one clip of three, and with none."""
    parts, expected = observed("video-text", 3, leave_out=(0, 2))
    assert parts == pytest.approx(expected, rel=1e-5, abs=1e-6) and parts["texts"] == 1
    parts, expected = observed("video-text", 3, leave_out=(0, 1, 2))
    assert parts == pytest.approx(expected, rel=1e-5, abs=1e-6) and "loss/video->text" not in parts
    parts, expected = observed("sample=ignore, rotation=distinct, modality=invariant:video+label", 1)
    assert parts == pytest.approx(expected, rel=1e-5, abs=1e-6)
    # Across clips alone does anything attract: with one clip there is no such pair.
    parts, expected = observed("sample=invariant, reversal=distinct, modality=ignore:video+audio, pairs=within", 1)
    assert not any(name.startswith("loss") for name in expected)
    assert parts["loss/video->video"] == parts["accuracy/audio->audio"] == 0


@pytest.mark.parametrize("name", ["l", "rotnet"])
def test_no_size_and_no_branch_of_a_step_depends_on_what_tensors_hold(name):
    """Tensors that hold nothing stand in for a GPU's: to ask them for a value, which would wait there, is an error."""
    model = build_method(replace(TINY, gdt=replace(TINY.gdt, hypotheses=name)))
    _, codes = batch_of(model.hypotheses, 3)
    inputs, targets = inputs_for(model.hypotheses, codes)
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        empty = [{n: mode.from_tensor(x) for n, x in group.items()} for group in (inputs, targets)]
        output = model(*empty)
        output.loss.backward()
    assert output.parts
    with FakeTensorMode(), pytest.raises(DataDependentOutputException):
        bool(torch.ones(3).any())


def test_initial_heads_depend_on_the_seed_alone():
    first = build_method(TINY).projections.state_dict()
    torch.manual_seed(99)
    again = build_method(TINY).projections.state_dict()
    other = build_method(replace(TINY, seed=1)).projections.state_dict()
    assert all(torch.equal(first[k], again[k]) for k in first)
    assert not torch.equal(first["video.layers.1.weight"], other["video.layers.1.weight"])
    assert not torch.equal(first["video.layers.1.weight"], first["audio.layers.1.weight"])


def test_a_head_is_two_layers_with_batch_normalisation_between_them():
    head = MLPHead(6, 4, unit=True, generator=torch.Generator().manual_seed(0)).double()
    x = unit(5, 6, dtype=torch.float64)
    a, norm, b = head.layers[1], head.layers[2], head.layers[5]
    hidden = x @ a.weight.T + a.bias
    hidden = (hidden - hidden.mean(0)) / (hidden.var(0, correction=0) + norm.eps).sqrt()
    y = hidden.clamp_min(0) @ b.weight.T + b.bias
    assert torch.allclose(head(x).double(), y / y.norm(dim=1, keepdim=True), atol=1e-6)
    assert [m.p for m in MLPHead(6, 4, dropout=0.3).layers if isinstance(m, nn.Dropout)] == [0.3, 0.3]


def test_a_third_modality_trains_without_the_engine_knowing(collection, tmp_path):
    settings = [*TINY_SETTINGS, "rounds=1", "optim.epochs=1", "gdt.hypotheses=motion", "gdt.dimensions=8",
                "cluster.averaged_clips=1"]  # fmt: skip
    model = seehear.pretrain(collection, tmp_path / "run", method="gdt", settings=settings, quiet=True)
    assert set(model.encoders) == set(model.projections) == {"video", "audio", "motion"}


# -- several processes --------------------------------------------------------------------------------------------


class Plain(nn.Module):
    """In the place of an encoder and its head: no batch normalisation, which each process would do by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(5, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.normalize(self.layer(x), dim=1)


def plain_model(name):
    """Of a specification; with ` detached` behind it, keys have no gradient."""
    text = name.removesuffix(" detached")
    model = GDT(replace(TINY, gdt=replace(TINY.gdt, hypotheses=text, detach_keys=text != name)))
    torch.manual_seed(0)
    for encoder in model.spec.encoded:
        model.encoders[encoder], model.projections[encoder] = nn.Identity(), Plain()
    return model


def plain_batch(spec, clips):
    _, codes = batch_of(spec, clips)
    generator = torch.Generator().manual_seed(1)
    column = spec.column("modality")
    targets = {n: codes[codes[:, column] == list(MODALITIES).index(n)] for n in spec.modalities}
    inputs = {n: torch.randn(len(targets[n]), 5, generator=generator) for n in spec.encoded}
    return inputs, targets


COMPARED = ("m", "rotnet", "all-pairs", "l detached")


def _process(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init(rank, 2, init_method=f"file://{folder}/meet")
    result = {}
    for name in COMPARED:
        model = plain_model(name)
        inputs, targets = plain_batch(model.spec, 4)
        # Shares of different sizes: three clips here, one there.
        parts = {n: len(x) * 3 // 4 for n, x in targets.items()}
        mine = {n: slice(0, c) if rank == 0 else slice(c, None) for n, c in parts.items()}
        wrapped = dist.average_gradients(model, "cpu")
        output = wrapped({n: x[mine[n]] for n, x in inputs.items()}, {n: x[mine[n]] for n, x in targets.items()})
        output.loss.backward()
        gradients = {n: p.grad for n, p in model.named_parameters()}
        result[name] = (output.loss.detach(), gradients, dict(output.parts))
    dist.barrier()
    torch.save(result, f"{folder}/{rank}.pt")
    dist.shutdown()


def test_two_processes_have_the_loss_and_the_gradients_of_one_with_the_joint_batch(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(_process, (str(tmp_path),), nprocs=2)
    results = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    for name in COMPARED:
        model = plain_model(name)
        output = model(*plain_batch(model.spec, 4))
        output.loss.backward()
        for loss, gradients, parts in (r[name] for r in results):
            assert loss.item() == pytest.approx(output.loss.item(), rel=1e-5)
            assert gradients.keys() == dict(model.named_parameters()).keys()
            for key, parameter in model.named_parameters():
                assert torch.allclose(gradients[key], parameter.grad, rtol=1e-4, atol=1e-6), (name, key)
            assert parts.keys() == output.parts.keys()
            assert all(float(parts[k]) == pytest.approx(float(output.parts[k]), rel=1e-4) for k in parts)
