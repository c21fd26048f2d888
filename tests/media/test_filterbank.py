"""Log filterbank energies beside the package that GDT and SeLaVi computed them with."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from python_speech_features import logfbank
from python_speech_features.base import get_filterbanks

from seehear.config import AugmentConfig
from seehear.data.views import SpectrogramView, Statistics
from seehear.errors import UsageError
from seehear.media.decode import Window, decode
from seehear.media.filterbank import LogFilterbank, floored_filters, on_16_bits
from seehear.recipes import recipe
from seehear.settings import with_settings
from tests.corpus import make_video

RELEASES = [(40, 1.0), (257, 1.0), (257, 2.0)]  # GDT's scripts, SeLaVi's script, windows of two seconds


def make(bins: int, seconds: float = 1.0, rate: int = 24000, **more) -> LogFilterbank:
    frames = round(100 * seconds) - 1
    settings = {"hop_seconds": 0.01, "window_seconds": 0.02, "n_fft": 1024, **more}
    return LogFilterbank(sample_rate_hz=rate, mel_bins=bins, frames=frames, **settings)


def theirs(wave: np.ndarray, bins: int, rate: int = 24000) -> np.ndarray:
    """(S,) samples in [-1, 1] -> (Q, P), as the releases call the package on what FFmpeg wrote in 16 bits."""
    stored = np.clip(np.round(wave.astype(np.float64) * 32768), -32768, 32767).astype(np.int16)
    return logfbank(stored, rate, winlen=0.02, winstep=0.01, nfilt=bins, nfft=1024).T


def sounds(samples: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    t = np.arange(samples) / 24000
    fades = np.where(t < 0.5, 0.9 * np.sin(2 * np.pi * 440 * t), 0.0)
    return {
        "noise": rng.uniform(-0.8, 0.8, samples),
        "faint": rng.uniform(-2e-4, 2e-4, samples),
        "tone that ends in silence": fades,
        "chirp": 0.5 * np.sin(2 * np.pi * (50 * t + 5000 * t**2)),
        "clipped": np.clip(rng.normal(0, 1, samples), -1, 1),
        "click": np.eye(1, samples, 3 * samples // 7)[0],
        "silence": np.zeros(samples),
        "offset": np.full(samples, 0.25),
    }


@pytest.mark.parametrize(("bins", "n_fft", "rate", "low", "high"), [
    (40, 1024, 24000, 0, None), (257, 1024, 24000, 0, None), (26, 512, 16000, 133, 6855), (64, 2048, 48000, 20, 20000),
])  # fmt: skip
def test_filters_are_those_of_the_package(bins, n_fft, rate, low, high):
    expected = get_filterbanks(bins, n_fft, rate, low, high)
    assert np.array_equal(floored_filters(rate, n_fft, bins, low, high), expected)


def test_38_of_the_257_filters_are_empty_as_the_encoders_were_trained():
    assert int((floored_filters(24000, 1024, 257).max(1) == 0).sum()) == 38


@pytest.mark.parametrize(("bins", "seconds"), RELEASES)
@pytest.mark.parametrize("name", sounds(1))
def test_energies_are_those_of_the_package(bins, seconds, name):
    wave = sounds(round(24000 * seconds))[name].astype(np.float32)
    ours = make(bins, seconds)(on_16_bits(torch.from_numpy(np.stack([wave, -wave]))))
    expected = theirs(wave, bins)
    assert ours.shape == (2, 1, *expected.shape)
    assert ours.dtype == torch.float32
    assert np.abs(ours[0, 0].numpy() - expected).max() < 1e-4


def test_a_last_frame_that_is_not_full_is_padded():
    wave = np.random.default_rng(1).uniform(-0.5, 0.5, 24100).astype(np.float32)
    expected = theirs(wave, 40)
    assert expected.shape == (40, 100)
    module = LogFilterbank(sample_rate_hz=24000, mel_bins=40, frames=100, hop_seconds=0.01, window_seconds=0.02)
    assert np.abs(module(on_16_bits(torch.from_numpy(wave)[None]))[0, 0].numpy() - expected).max() < 1e-4
    # The last ones are left out where fewer are asked for.
    assert np.abs(make(40)(on_16_bits(torch.from_numpy(wave)[None]))[0, 0].numpy() - expected[:, :99]).max() < 1e-4


def test_hop_and_window_are_rounded_as_in_the_package():
    wave = np.random.default_rng(1).uniform(-0.5, 0.5, 22050).astype(np.float32)  # a hop of 220.5 samples
    expected = theirs(wave, 40, 22050)
    module = LogFilterbank(
        sample_rate_hz=22050, mel_bins=40, frames=expected.shape[1], hop_seconds=0.01, window_seconds=0.02
    )
    assert np.abs(module(on_16_bits(torch.from_numpy(wave)[None]))[0, 0].numpy() - expected).max() < 1e-4


def test_samples_are_rounded_to_16_bits_and_clipped():
    wave = torch.tensor([[0.0, 1.0, -1.0, 0.4 / 32768, 0.6 / 32768, 2.0]])
    assert (on_16_bits(wave) * 32768).tolist() == [[0, 32767, -32768, 0, 1, 32767]]


@pytest.mark.parametrize(("mean", "std"), [(1.93, 17.89), (0.0, 1.0)])
def test_an_encoders_input_is_the_releases(tmp_path, mean, std):
    """From the file to the normalised spectrogram, with the settings of an imported run."""
    make_video(tmp_path / "a.mp4", seconds=2, fps=30)
    (decoded,) = decode(tmp_path / "a.mp4", [Window(0.5, 0, 30.0, audio_seconds=1.0)], short_side_px=None,
                        sample_rate_hz=24000)  # fmt: skip
    config = with_settings(recipe("gdt-kinetics"), [
        "spectrogram.kind=logfbank", "spectrogram.window_seconds=0.02", f"spectrogram.mean={mean}",
        f"spectrogram.std={std}",
    ])  # fmt: skip
    view = SpectrogramView(config, Statistics.stated(config))
    ours = view(torch.from_numpy(decoded.waveform)[None], config.augment, None)
    expected = (theirs(decoded.waveform, 257) - mean) / std
    assert np.abs(ours[0, 0].numpy() - expected).max() < 1e-4


def test_volume_jitter_and_masks_work_on_it():
    config = with_settings(recipe("gdt-kinetics"), ["spectrogram.kind=logfbank", "spectrogram.window_seconds=0.02"])
    view = SpectrogramView(config, Statistics())
    wave = torch.from_numpy(sounds(24000)["noise"].astype(np.float32))[None]
    plain = view(wave, AugmentConfig(), None)
    louder = view(wave, AugmentConfig(volume_jitter=0.1), [np.random.default_rng(3)])
    factor = np.random.default_rng(3).uniform(0.9, 1.1)
    heard = plain > -30  # empty filters hold the logarithm of the smallest number whatever the volume
    assert (louder - plain)[heard].numpy() == pytest.approx(2 * np.log(factor), abs=1e-4)
    masked = view(wave, AugmentConfig(time_mask_frames=6, frequency_mask_bins=3), [np.random.default_rng(5)])
    assert bool((masked == 0).any())


def test_wrong_settings_are_refused():
    with pytest.raises(UsageError, match="shorter than the window"):
        make(40, n_fft=256)
    with pytest.raises(UsageError, match="do not fit a rate"):
        make(40, f_max_hz=13000)
    with pytest.raises(UsageError, match="hop"):
        make(40, hop_seconds=0.0)
    with pytest.raises(ValueError, match="not the 99 asked for"):
        make(40)(torch.zeros(1, 12000))
    with pytest.raises(ValueError, match="batch, samples"):
        make(40)(torch.zeros(24000))
    assert make(40).state_dict() == {}


ESC10 = Path(os.environ.get("SEEHEAR_DATA", "/nowhere")) / "esc10" / "audio"


@pytest.mark.skipif(not ESC10.is_dir(), reason="needs SEEHEAR_DATA with esc10")
@pytest.mark.parametrize("bins", [40, 257])
def test_on_real_recordings(bins):
    """Every tenth recording of ESC-10, one second of each."""
    worst, module = 0.0, make(bins)
    for path in sorted(ESC10.iterdir())[::10]:
        (decoded,) = decode(path, [Window(0.5, 0, 30.0, audio_seconds=1.0)], short_side_px=None, sample_rate_hz=24000)
        ours = module(on_16_bits(torch.from_numpy(decoded.waveform)[None]))[0, 0].numpy()
        worst = max(worst, float(np.abs(ours - theirs(decoded.waveform, bins)).max()))
    assert worst < 1e-4
