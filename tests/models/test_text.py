"""Text encoders against literal loops and torch's own transformer."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from seehear.models.text import TextEncoder, positions
from seehear.words.vocabulary import FIRST, PADDING, Vocabulary


def encoder(kind="mlp", seed=0, **settings):
    settings = {"words": 9, "dimensions": 5, "width": 32, **settings}
    return TextEncoder(kind, **settings, generator=torch.Generator().manual_seed(seed)).eval()


TEXTS = torch.tensor([[2, 3, 1, 0, 0], [10, 0, 0, 0, 0], [4, 5, 6, 7, 2]])


def test_the_mlp_is_a_layer_for_each_word_and_the_maximum_over_words():
    made = encoder()
    table, weight, bias = (p.detach().double().numpy() for p in made.parameters())
    found = made(TEXTS).detach().numpy()
    for row, text in zip(found, TEXTS.tolist(), strict=True):
        of_words = [np.maximum(weight @ table[number] + bias, 0) for number in text if number != PADDING]
        assert row == pytest.approx(np.max(of_words, axis=0), rel=1e-5, abs=1e-6)


def test_the_mlp_does_not_see_the_order_of_words_and_the_transformer_does():
    turned = TEXTS.clone()
    turned[2] = TEXTS[2].flip(0)
    mlp, transformer = encoder(), encoder("transformer")
    assert torch.equal(mlp(TEXTS), mlp(turned))
    assert (transformer(TEXTS)[2] - transformer(turned)[2]).abs().max() > 1e-3


@pytest.mark.parametrize("kind", ["mlp", "transformer"])
def test_what_fills_up_a_text_has_no_part_in_its_feature(kind):
    made = encoder(kind)
    longer = torch.cat([TEXTS, torch.zeros(3, 4, dtype=torch.int64)], dim=1)
    assert torch.allclose(made(TEXTS), made(longer), atol=1e-6)
    with torch.no_grad():
        made.embedding.weight[PADDING] = 100.0
    assert torch.allclose(made(TEXTS), made(longer), atol=1e-6)


def test_the_transformer_is_torchs_own_with_the_same_weights():
    made = encoder("transformer", width=64, layers=2, seed=3)
    theirs = nn.TransformerEncoder(
        nn.TransformerEncoderLayer(64, 2, 256, dropout=0.0, activation="gelu", batch_first=True, norm_first=True),
        2, norm=nn.LayerNorm(64), enable_nested_tensor=False,
    ).eval()  # fmt: skip
    with torch.no_grad():
        for ours, layer in zip(made.blocks, theirs.layers, strict=True):
            for a, b in (
                (ours.attend, (layer.self_attn.in_proj_weight, layer.self_attn.in_proj_bias)),
                (ours.join, (layer.self_attn.out_proj.weight, layer.self_attn.out_proj.bias)),
                (ours.widen, (layer.linear1.weight, layer.linear1.bias)),
                (ours.narrow, (layer.linear2.weight, layer.linear2.bias)),
            ):
                b[0].copy_(a.weight)
                b[1].copy_(a.bias)
        x = made.inputs(made.embedding(TEXTS)) + positions(5, 64)
        out = theirs(x, src_key_padding_mask=TEXTS == PADDING)
        for row, text, found in zip(out, TEXTS, made(TEXTS), strict=True):
            assert torch.allclose(found, row[text != PADDING].mean(0), atol=1e-5)


def test_positions_are_sines_and_cosines():
    found = positions(7, 6)
    for place in range(7):
        for pair in range(3):
            angle = place / 10_000 ** (2 * pair / 6)
            assert found[place, 2 * pair : 2 * pair + 2].tolist() == pytest.approx(
                [math.sin(angle), math.cos(angle)], abs=1e-6
            )
    assert positions(3, 5).shape == (3, 5)


@pytest.mark.parametrize("kind", ["mlp", "transformer"])
def test_weights_come_from_the_generator_alone(kind):
    before = torch.get_rng_state()
    one, other, third = encoder(kind), encoder(kind), encoder(kind, seed=1)
    assert torch.equal(before, torch.get_rng_state())
    for (name, a), b, c in zip(one.named_parameters(), other.parameters(), third.parameters(), strict=True):
        assert torch.equal(a, b)
        assert "norm" in name or not torch.equal(a, c)


@pytest.mark.parametrize("kind", ["mlp", "transformer"])
def test_no_text_gives_no_feature_and_every_weight_learns(kind):
    made = encoder(kind).train()
    assert made(TEXTS[:0]).shape == (0, 32)
    made(TEXTS).square().sum().backward()
    for parameter in made.parameters():
        assert parameter.grad is not None
        assert parameter.grad.abs().sum() > 0
    untouched = sorted(set(range(FIRST + 9)) - set(TEXTS.flatten().tolist()))
    assert not made.embedding.weight.grad[untouched].any()


def test_vectors_are_taken_for_the_words_that_have_one():
    made = encoder(words=3, dimensions=2, fixed=True)
    before = made.embedding.weight.detach().clone()
    made.set_vectors(Vocabulary(("dog", "cat", "bird")), {"cat": np.float32([1, 2]), "wolf": np.float32([3, 4])})
    assert made.embedding.weight[FIRST + 1].tolist() == [1, 2]
    others = [n for n in range(FIRST + 3) if n != FIRST + 1]
    assert torch.equal(made.embedding.weight[others], before[others])
    made(TEXTS[:1] % 4).sum().backward()
    assert made.embedding.weight.grad is None  # fixed


@pytest.mark.parametrize("wrong", [{"words": 0}, {"width": 0}, {"kind": "transformer", "width": 40}])
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match=r"text encoder|transformer"):
        encoder(**wrong)


def test_other_inputs_are_refused():
    for wrong in (TEXTS[0], TEXTS.float()):
        with pytest.raises(ValueError, match="int64"):
            encoder()(wrong)
