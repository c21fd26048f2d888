from __future__ import annotations

import warnings

import librosa
import numpy as np
import pytest
import torch

from seehear.errors import UsageError
from seehear.media.mel import count_empty_filters, mel_filters
from seehear.media.spectrogram import LogMelSpectrogram, choose_n_fft

PAPERS = [
    # rate, mel bins, hop, window, frames, seconds
    (24000, 40, 0.02, 0.04, 100, 2.0),  # XDC
    (24000, 257, 0.01, 0.02, 99, 1.0),  # GDT
    (24000, 257, 0.005, 0.01, 199, 1.0),  # SeLaVi
    (16000, 64, 0.01, 0.025, 100, 1.0),
]


def make(rate, bins, hop, window, frames, **more):
    return LogMelSpectrogram(
        sample_rate_hz=rate, mel_bins=bins, hop_seconds=hop, window_seconds=window, frames=frames, **more
    )


@pytest.mark.parametrize(("rate", "bins", "n_fft", "low", "high"), [
    (24000, 40, 1024, 0, None), (16000, 128, 2048, 50, 7000), (48000, 257, 8192, 0, 20000),
])  # fmt: skip
def test_filters_equal_librosa(rate, bins, n_fft, low, high):
    ours = mel_filters(rate, n_fft, bins, low, high)
    theirs = librosa.filters.mel(sr=rate, n_fft=n_fft, n_mels=bins, fmin=low, fmax=high, dtype=np.float64)
    np.testing.assert_allclose(ours, theirs, atol=1e-12)


@pytest.mark.parametrize(("rate", "bins", "hop", "window", "frames", "seconds"), PAPERS)
def test_equals_librosa(rate, bins, hop, window, frames, seconds):
    waves = np.random.default_rng(0).uniform(-0.8, 0.8, (2, round(rate * seconds))).astype(np.float32)
    module = make(rate, bins, hop, window, frames)
    ours = module(torch.from_numpy(waves))
    assert ours.shape == (2, 1, bins, frames)
    assert ours.dtype == torch.float32
    theirs = librosa.feature.melspectrogram(
        y=waves.astype(np.float64), sr=rate, n_fft=module.n_fft, hop_length=module.hop,
        win_length=module.window_samples, n_mels=bins, pad_mode="constant", dtype=np.float64,
    )  # fmt: skip
    first = (theirs.shape[-1] - frames) // 2
    expected = np.log(theirs[:, :, first : first + frames] + 1e-6)
    difference = np.abs(ours[:, 0].numpy() - expected)
    assert difference.max() < 2e-4  # float32, in the quietest cells
    assert difference.mean() < 2e-6


def test_n_fft_leaves_no_filter_empty_and_is_the_smallest():
    for rate, bins, _, window, *_ in PAPERS:
        n_fft = choose_n_fft(rate, window, bins)
        assert n_fft >= window * rate
        assert n_fft & (n_fft - 1) == 0
        assert (mel_filters(rate, n_fft, bins).max(axis=1) > 0).all()
        if n_fft // 2 >= window * rate:
            assert (mel_filters(rate, n_fft // 2, bins).max(axis=1) == 0).any()


def test_a_given_n_fft_with_empty_filters_warns_how_many():
    empty = count_empty_filters(24000, 512, 257)
    assert empty == (mel_filters(24000, 512, 257).max(axis=1) == 0).sum()
    assert empty > 10
    with pytest.warns(UserWarning, match=f"^{empty} of 257 mel filters are empty"):
        make(24000, 257, 0.01, 0.02, 99, n_fft=512)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make(24000, 40, 0.02, 0.04, 100, n_fft=2048)


def test_silence_is_the_offset_and_a_tone_lights_its_bin():
    module = make(24000, 40, 0.02, 0.04, 100, log_offset=1e-4)
    assert torch.allclose(module(torch.zeros(1, 48000)), torch.full((1, 1, 40, 100), np.log(1e-4)))
    centre = float(librosa.mel_frequencies(42, fmin=0, fmax=12000)[1 + 25])
    wave = torch.sin(2 * torch.pi * centre * torch.arange(48000) / 24000)[None]
    assert module(wave)[0, 0, :, 50].argmax() == 25


def test_frames_are_centred_on_their_time():
    module = make(24000, 40, 0.02, 0.04, 100)
    wave = torch.zeros(1, 48000)
    wave[0, 24000] = 1.0  # at 1 s: frame 50
    assert module(wave)[0, 0].sum(0).argmax() == 50


@pytest.mark.parametrize("samples", [47000, 60000, 0])
def test_a_length_that_does_not_fit_is_refused(samples):
    with pytest.raises(ValueError, match="not the 100 asked for"):
        make(24000, 40, 0.02, 0.04, 100)(torch.zeros(1, samples))


def test_wrong_settings_are_refused():
    with pytest.raises(UsageError, match="do not fit a rate"):
        make(16000, 40, 0.02, 0.04, 100, f_max_hz=9000)
    with pytest.raises(UsageError, match="shorter than the window"):
        make(16000, 40, 0.02, 0.04, 100, n_fft=512)
    with pytest.raises(UsageError, match="too many"):
        choose_n_fft(8000, 0.02, 100_000)
    with pytest.raises(UsageError, match="hop"):
        make(16000, 40, 0.0, 0.04, 100)
    with pytest.raises(ValueError, match="batch, samples"):
        make(16000, 40, 0.02, 0.04, 100)(torch.zeros(32000))


def test_float32_under_autocast_and_not_in_checkpoints():
    module = make(24000, 40, 0.02, 0.04, 100)
    wave = torch.rand(1, 48000)
    with torch.autocast("cpu", torch.bfloat16):
        inside = module(wave)
    assert torch.equal(inside, module(wave))
    assert module.state_dict() == {}
