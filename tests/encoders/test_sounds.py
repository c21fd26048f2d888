"""Sound is made as the feature extractors of its networks make it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from seehear.encoders.sounds import read_sound
from seehear.errors import DataError
from tests.encoders.tiny import CLAP, transformers


def sound(samples: int, batch: int = 2) -> np.ndarray:
    """A tone, louder and louder, in noise that stops before the end: loud and quiet bins, and silence."""
    rng = np.random.default_rng(samples)
    at = np.arange(samples) / samples
    made = np.sin(2 * np.pi * 40 * at) * at + rng.normal(0, 0.1, (batch, samples)) * (at < 0.8)
    return (0.5 * made).astype(np.float32)


def compare(kind: str, settings: dict[str, Any], samples: int, name: str = "input_values") -> None:
    extractor = getattr(transformers, kind)(**settings)
    x = sound(samples)
    made = extractor(list(x), sampling_rate=extractor.sampling_rate, return_tensors="pt")
    expected = torch.as_tensor(np.asarray(made[name])).float()
    for stated in (extractor.to_dict(), {**settings, "feature_extractor_type": kind}):
        found = read_sound(stated, "a.json")(torch.from_numpy(x))
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("samples", [400, 16000, 20720, 164000, 200001])
def test_ast(samples: int) -> None:
    compare("ASTFeatureExtractor", {}, samples)


def test_ast_with_other_settings() -> None:
    compare("ASTFeatureExtractor", {"num_mel_bins": 32, "max_length": 128, "mean": -1.0, "std": 2.0}, 16000)
    compare("ASTFeatureExtractor", {"do_normalize": False, "max_length": 50}, 16000)
    with pytest.raises(DataError, match="shorter than a frame"):
        read_sound({"feature_extractor_type": "ASTFeatureExtractor"}, "a.json")(torch.zeros(1, 399))


@pytest.mark.parametrize("truncation", ["fusion", "rand_trunc"])
@pytest.mark.parametrize("padding", ["repeatpad", "repeat", "pad"])
@pytest.mark.parametrize("samples", [5000, 16000])
def test_clap_of_clips_that_are_not_longer(truncation: str, padding: str, samples: int) -> None:
    compare("ClapFeatureExtractor", {**CLAP, "truncation": truncation, "padding": padding}, samples, "input_features")


def test_clap_as_published() -> None:
    compare("ClapFeatureExtractor", {}, 3 * 48000, "input_features")
    compare("ClapFeatureExtractor", {"truncation": "rand_trunc"}, 480000, "input_features")


@pytest.mark.parametrize("truncation", ["fusion", "rand_trunc"])
@pytest.mark.parametrize("samples", [16100, 17000, 40000])
def test_clap_of_longer_clips_takes_the_middle_of_what_the_library_draws_from(
    monkeypatch: pytest.MonkeyPatch, truncation: str, samples: int
) -> None:
    def middle(found: Any) -> Any:
        return found[len(found) // 2]

    monkeypatch.setattr(np.random, "choice", middle)
    monkeypatch.setattr(np.random, "randint", lambda low, high: (low + high - 1) // 2)
    settings = {**CLAP, "feature_size": 64, "truncation": truncation}  # the library fuses no other number of bins
    compare("ClapFeatureExtractor", settings, samples, "input_features")


@pytest.mark.parametrize("settings", [{}, {"do_normalize": False}])
def test_samples(settings: dict[str, Any]) -> None:
    for samples in (400, 16001):
        compare("Wav2Vec2FeatureExtractor", settings, samples)


@pytest.mark.parametrize("samples", [3840, 5000])
def test_samples_of_whole_hops(samples: int) -> None:
    compare("PeAudioFeatureExtractor", {}, samples)


def test_another_extractor_is_refused() -> None:
    with pytest.raises(DataError, match="the sound of WhisperFeatureExtractor is not made here"):
        read_sound({"feature_extractor_type": "WhisperFeatureExtractor"}, "a.json")
