"""What an imported encoder has as its authors had it, and what it has not."""

from __future__ import annotations

from collections.abc import Mapping

from seehear.config import Config
from seehear.models.pretrained import GDT, SELAVI, TORCHVISION, XDC, Modality, Published

_AUTHORS = {
    XDC.name: "XDC's release",
    GDT.name: "GDT's release",
    SELAVI.name: "SeLaVi's release",
    TORCHVISION.name: "torchvision",
}


def exactness(
    files: Mapping[Modality, Published], stated: Config, config: Config
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What is exactly as with the authors of the files, and what is not, in words.

    `stated` are the settings that the files ask for, `config` those that were taken.
    """
    exact, inexact = [], []
    for name, file in files.items():
        facts, authors = file.preprocessing, _AUTHORS[file.layout.name]
        assert facts is not None
        exact.append(f"{name} encoder: the weights of {file.path.name}, batch norm eps {file.layout.bn_eps:g}")
        if name == "video":
            clip = config.clip
            if clip.pixel_statistics == stated.clip.pixel_statistics:
                exact.append(f"pixels: normalised as in {authors} ({clip.pixel_statistics})")
            of_frames = ("frames", "frame_rate_hz", "stride", "short_side_px", "crop_px")
            changed = _changed(stated, config, "clip", of_frames)
            inexact += [f"clips: {text} where {authors} has {was}" for text, was in changed]
            inexact.append(
                f"frames: scaled while they are decoded and taken by their timestamps; {authors} has another decoder"
            )
        elif facts.spectrogram_kind == "logfbank":
            changed = [
                *_changed(stated, config, "clip", ("audio_seconds", "sample_rate_hz")),
                *_changed(stated, config, "spectrogram", tuple(vars(stated.spectrogram))),
            ]
            if not changed:
                exact.append("spectrograms: those of python_speech_features.logfbank, on samples of 16 bits")
            inexact += [f"spectrograms: {text} where {authors} has {was}" for text, was in changed]
            inexact.append(
                f"sound: resampled with a longer filter than {authors}, where a file does not have"
                f" {config.clip.sample_rate_hz} Hz"
            )
    return tuple(exact), tuple(inexact)


def _changed(stated: Config, config: Config, section: str, fields: tuple[str, ...]) -> list[tuple[str, str]]:
    """Settings that differ, as "section.field=value" and the value that was stated."""
    before, now = getattr(stated, section), getattr(config, section)
    return [
        (f"{section}.{f}={getattr(now, f)}", str(getattr(before, f)))
        for f in fields
        if getattr(before, f) != getattr(now, f)
    ]
