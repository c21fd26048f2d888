"""How far the sound inputs of imported GDT and SeLaVi encoders are from what their releases computed.

    python benchmarks/fidelity_sound.py FOLDER_OF_SOUND [--out benchmarks/results/fidelity_sound.json]

For one second of each recording, three spectrograms are compared with the releases' own, which is FFmpeg's conversion
to 16-bit mono samples at 24 kHz, then `python_speech_features.logfbank`: logfbank here on the same samples; logfbank
here from the file, with this package's decoder and resampler; and this package's log-mel spectrogram. The encoders see
a normalised picture, so Pearson's correlation and the cosine of the features of an untrained ResNet-9 stand beside the
differences.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import torch
from python_speech_features import logfbank

from seehear.config import Config, SpectrogramConfig
from seehear.data.views import SpectrogramView, Statistics
from seehear.media.decode import Window, decode
from seehear.models import build_audio_encoder

RATE = 24000


def released_samples(path: Path, start_seconds: float) -> np.ndarray:
    """A second of sound as `ffmpeg -ac 1 -ar 24000 -f s16le` writes it, int16."""
    with av.open(str(path)) as file:
        resampler = av.AudioResampler(format="s16", layout="mono", rate=RATE)
        parts = [p.to_ndarray()[0] for f in file.decode(audio=0) for p in resampler.resample(f)]
        parts += [p.to_ndarray()[0] for p in resampler.resample(None)]
    first = round(start_seconds * RATE)
    return np.concatenate(parts)[first : first + RATE]


def features(encoder: torch.nn.Module, spectrogram: np.ndarray) -> torch.Tensor:
    with torch.inference_mode():
        return encoder(torch.from_numpy(spectrogram).float()[None, None])[0]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--every", type=int, default=10)
    given = parser.parse_args()
    if given.folder is None:
        print("fidelity_sound.py needs a folder of recordings: fidelity_sound.py FOLDER --out OUT.json")
        return
    torch.manual_seed(0)
    encoder = build_audio_encoder("resnet9", generator=torch.Generator().manual_seed(0)).eval()
    told: dict[str, dict[str, dict[str, float]]] = {}
    for bins in (40, 257):
        config = replace(Config(), spectrogram=SpectrogramConfig(
            kind="logfbank", mel_bins=bins, frames=99, hop_seconds=0.01, window_seconds=0.02, mean=1.93, std=17.89,
        ))  # fmt: skip
        # What an import had before: its own spectrogram, with the mean and deviation of these recordings.
        logmel = replace(config, spectrogram=replace(config.spectrogram, kind="logmel", window_seconds=0.025))
        exact, own = (SpectrogramView(c, Statistics.stated(c)) for c in (config, logmel))
        rows: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {"same samples": [], "from the file": [], "logmel": []}
        for path in sorted(p for p in given.folder.iterdir() if p.is_file())[:: given.every]:
            samples = released_samples(path, 0.5)
            energies = logfbank(samples, RATE, winlen=0.02, winstep=0.01, nfilt=bins, nfft=1024).T
            expected = (energies - 1.93) / 17.89
            window = [Window(0.5, 0, 30.0, audio_seconds=1.0)]
            (ours,) = decode(path, window, short_side_px=None, sample_rate_hz=RATE)
            stored = torch.from_numpy(samples.astype(np.float32) / 32768)[None]
            heard = torch.from_numpy(ours.waveform)[None]
            made = {
                "same samples": exact(stored, config.augment, None),
                "from the file": exact(heard, config.augment, None),
                "logmel": own.transform(heard),
            }
            for name, x in made.items():
                rows[name].append((x[0, 0].numpy(), expected))
        mean = np.mean([x.mean() for x, _ in rows["logmel"]])
        std = np.std(np.stack([x for x, _ in rows["logmel"]]))
        rows["logmel"] = [((x - mean) / std, e) for x, e in rows["logmel"]]
        told[f"{bins} bins"] = {
            name: {
                "recordings": len(pairs),
                "largest_difference_in_deviations": float(max(np.abs(x - e).max() for x, e in pairs)),
                "mean_difference_in_deviations": float(np.mean([np.abs(x - e).mean() for x, e in pairs])),
                # A recording that is silent here has none.
                "correlation": float(np.mean([
                    np.corrcoef(x.ravel(), e.ravel())[0, 1] for x, e in pairs if min(x.std(), e.std()) > 1e-6
                ])),
                "cosine_of_untrained_features": float(np.mean([
                    torch.nn.functional.cosine_similarity(features(encoder, x), features(encoder, e), dim=0)
                    for x, e in pairs
                ])),
            }
            for name, pairs in rows.items()
        }  # fmt: skip
    text = json.dumps(told, indent=1)
    print(text)
    if given.out:
        given.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
