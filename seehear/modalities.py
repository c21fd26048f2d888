"""What an encoder can see of a clip: each modality by name, with the stream that it is made from.

A modality is added here and, if it is not a plain stream, in `data.views.to_modality`; nothing else knows
which ones there are. Text is no stream of a file: what is said of a clip comes with it (`seehear.data.captions`).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Modality:
    """One thing to see of a clip."""

    stream: str | None
    """The stream of a file that it comes from: "video", "audio", or None for what is no media at all."""
    encoder: str | None
    """The family of encoders that takes it: "video" (B, 3, T, H, W), "audio" (B, 1, Q, P), "text" (B, L), or None."""
    meaning: str


MODALITIES: dict[str, Modality] = {
    "video": Modality("video", "video", "frames"),
    "audio": Modality("audio", "audio", "log-mel spectrogram of the sound"),
    "motion": Modality("video", "video", "differences of successive frames"),
    "label": Modality(None, None, "the value of a factor as a one-hot vector: a pretext label"),
    "text": Modality(None, "text", "words: a caption, or the subtitles of that time"),
}


STREAMS_OF: dict[str, tuple[str, ...]] = {"video": ("video",), "audio": ("audio",), "both": ("video", "audio")}
"""The encoders, or streams, that each choice of `--modality` asks for."""


def streams_of(modalities: list[str] | tuple[str, ...]) -> tuple[str, ...]:
    """The streams ("video", "audio", in this order) that these modalities are made from."""
    needed = {MODALITIES[m].stream for m in modalities}
    return tuple(s for s in ("video", "audio") if s in needed)
