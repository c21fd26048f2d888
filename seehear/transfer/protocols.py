"""Protocols on frozen features: what each does with which clips, and how the papers did it.

A paper's name (`--protocol`) sets what it states; what is given besides wins. Clips have the frames and the size that
the encoder was trained on last: no paper says otherwise for frozen features.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from seehear.errors import UsageError
from seehear.features.bank import FeatureBank
from seehear.features.frozen import Pooling, Sampling, video_features, window_features
from seehear.features.model import Model
from seehear.modalities import streams_of
from seehear.transfer.audio_linear import AudioLinear, svm_of_windows
from seehear.transfer.classifiers import FewShot, Predictor, linear_svm, logistic_regression, vote_of_neighbours
from seehear.transfer.retrieval import retrieve

PROTOCOLS: dict[str, str] = {
    "linear": "logistic regression, strength cross-validated within the training split",
    "retrieval": "test videos query the training videos by cosine similarity: a right class among the k nearest",
    "knn": "vote of the k nearest training videos by cosine similarity, k cross-validated within the training split",
    "few-shot": "n training videos a class: 1-NN by cosine similarity, and a linear SVM with C = 1",
    "svm": "linear SVM, C cross-validated within the training split",
    "audio-linear": "a linear layer on windows of sound, by Adam; a recording's scores are the mean of its windows'",
}
"""What can be done with frozen features, and how."""


PREDICTORS: dict[str, Predictor] = {
    "linear": logistic_regression,
    "retrieval": retrieve,
    "knn": vote_of_neighbours,
    "few-shot": FewShot(),
    "svm": linear_svm,
    "audio-linear": AudioLinear(),
}
"""What answers for test videos, by protocol."""


OF_THE_ENCODER = -1.0
"""Windows as long as the sound of the clips that the encoder was trained on."""


@dataclass(frozen=True)
class Defaults:
    """How a paper carries out a protocol."""

    clips: int
    pooling: Pooling
    source: str
    window_seconds: float | None = None
    """Sound alone, in windows of this length or `OF_THE_ENCODER`; None: clips of the encoders' own length, sight and
    sound."""
    each_window: bool = False
    """Windows are classified, and their scores averaged; otherwise features are averaged, and a video classified."""
    only_data: str = ""
    """For data sets whose name begins so; the others take the entry without."""


PROTOCOL_DEFAULTS: dict[str, dict[str, tuple[Defaults, ...]]] = {
    "xdc": {
        "svm": (Defaults(60, "mean", "XDC, section 6: DCASE", window_seconds=OF_THE_ENCODER, each_window=True),),
    },
    "gdt": {
        "retrieval": (Defaults(10, "max", "GDT, appendix A.10"),),
        "few-shot": (Defaults(10, "mean", "GDT, appendix A.10 (1-NN) and table 2 (SVM)"),),
        "audio-linear": (
            Defaults(60, "map", "GDT, appendix A.10", window_seconds=1.0, each_window=True, only_data="dcase"),
            Defaults(10, "map", "GDT, appendix A.10", window_seconds=2.0, each_window=True),
        ),
    },
    "selavi": {
        "retrieval": (Defaults(10, "max", "SeLaVi, appendix A.7"),),
    },
}
"""By paper and protocol; the first entry that is for the data set counts."""
OURS: dict[str, Defaults] = {
    "linear": Defaults(3, "mean", "ours; each third is averaged as the run does for its clusters"),
    "retrieval": Defaults(10, "mean", "as the papers, with the feature that the encoders were trained with"),
    "knn": Defaults(10, "mean", "ours"),
    "few-shot": Defaults(10, "mean", "as GDT"),
    "svm": Defaults(10, "mean", "ours"),
    "audio-linear": Defaults(10, "map", "as GDT for ESC-50", window_seconds=2.0, each_window=True),
}
"""Without the name of a paper."""


def defaults_of(protocol: str, paper: str | None = None, data: str = "") -> Defaults:
    """The defaults of a protocol by a paper, or ours; `UsageError` if there is none of the name."""
    if protocol not in PROTOCOLS:
        raise UsageError(f"there is no protocol {protocol!r}", f"choose one of {', '.join(PROTOCOLS)}")
    if paper is None:
        return OURS[protocol]
    if paper not in PROTOCOL_DEFAULTS:
        raise UsageError(f"there is no paper {paper!r}", f"choose one of {', '.join(PROTOCOL_DEFAULTS)}")
    if protocol not in PROTOCOL_DEFAULTS[paper]:
        there = ", ".join(PROTOCOL_DEFAULTS[paper])
        others = [name for name, of in PROTOCOL_DEFAULTS.items() if protocol in of]
        rest = f"; {protocol} is of {' and '.join(others)}" if others else ""
        raise UsageError(f"{paper} has no {protocol} on frozen features", f"it has {there}{rest}")
    found = PROTOCOL_DEFAULTS[paper][protocol]
    return next(d for d in found if data.lower().startswith(d.only_data))


@dataclass(frozen=True)
class Plan:
    """A protocol with all that it needs to be carried out on a model."""

    protocol: str
    defaults: Defaults
    sampling: Sampling
    predictor: Predictor
    model: Model
    """The model, or its hearing part alone with clips of the windows' length."""

    @property
    def description(self) -> str:
        words = PROTOCOLS[self.protocol]
        if self.defaults.each_window and self.protocol == "svm":
            words += "; windows of sound are classified and their scores averaged"
        return words

    def features(self, bank: FeatureBank) -> dict[str, dict[str, np.ndarray]]:
        """What the predictor is given of each video, by modality and video id."""
        return window_features(bank) if self.defaults.each_window else video_features(bank)

    def about(self) -> dict[str, object]:
        """How it was done, for the result."""
        window = self.defaults.window_seconds
        return {
            "clips": self.sampling.clips,
            "averaged_clips": self.sampling.averaged,
            "pooling": self.sampling.pooling,
            "source": self.defaults.source,
            **({} if window is None else {"window_seconds": window}),
        }


def make_plan(
    model: Model,
    protocol: str,
    *,
    paper: str | None = None,
    data: str = "",
    clips: int | None = None,
    pooling: Pooling | None = None,
    window_seconds: float | None = None,
    shots: Sequence[int] = (1, 5, 20),
    seeds: int = 10,
) -> Plan:
    """How `protocol` is carried out on a model, by a `paper` or as we do, on a data set called `data`.

    `clips`, `pooling` and `window_seconds` replace the defaults. Raises `UsageError` for what there is not or what
    does not go together.
    """
    defaults = defaults_of(protocol, paper, data)
    if window_seconds is not None:
        if defaults.window_seconds is None:
            raise UsageError(
                f"{protocol} has no windows of sound", "they are of audio-linear, and of svm with --protocol xdc"
            )
        defaults = replace(defaults, window_seconds=window_seconds)
    if defaults.window_seconds == OF_THE_ENCODER:
        defaults = replace(defaults, window_seconds=model.config.clip.audio_seconds)
    if pooling is not None and defaults.pooling == "map":
        raise UsageError(f"{protocol} is on the last map itself, which is not pooled", "leave out --pooling")
    sampling = Sampling(clips or defaults.clips, pooling=pooling or defaults.pooling)
    if clips is not None:
        sampling = replace(sampling, clips=clips)
    if protocol == "linear":
        spans = model.config.cluster
        sampling = replace(sampling, averaged=spans.averaged_clips, max_span_seconds=spans.max_span_seconds)
    sampling.check()
    if defaults.window_seconds is not None:
        model = hearing(model, defaults.window_seconds)
    return Plan(protocol, defaults, sampling, make_predictor(protocol, shots, seeds, defaults.each_window), model)


def make_predictor(
    protocol: str, shots: Sequence[int] = (1, 5, 20), seeds: int = 10, each_window: bool = False
) -> Predictor:
    """What answers for test videos by one of `PROTOCOLS`; `UsageError` if there is none of this name."""
    if protocol not in PREDICTORS:
        raise UsageError(f"there is no protocol {protocol!r}", f"choose one of {', '.join(PROTOCOLS)}")
    if protocol == "svm" and each_window:
        return svm_of_windows
    predictor = PREDICTORS[protocol]
    if isinstance(predictor, FewShot):
        predictor = FewShot(tuple(shots), seeds)
        predictor.check()
    return predictor


def hearing(model: Model, window_seconds: float) -> Model:
    """The encoders of sound alone, with windows of another length: more or fewer frames of the same spectrogram.

    An encoder is convolutional up to its last map, so a window may be shorter or longer than the clips that it was
    trained on: the spectrogram keeps its step, mel bins and normalisation, and the map has fewer or more places in
    time. Raises `UsageError` if no encoder hears, or if the window has not one frame.
    """
    encoders = {n: e for n, e in model.encoders.items() if streams_of((model.modalities[n],)) == ("audio",)}
    if not encoders:
        raise UsageError("no encoder of this run hears", "choose a protocol that is not of windows of sound")
    clip, spectrogram = model.config.clip, model.config.spectrogram
    frames = spectrogram.frames + round((window_seconds - clip.audio_seconds) / spectrogram.hop_seconds)
    if frames < 1:
        raise UsageError(f"a window of {window_seconds:g} s has not one frame of the spectrogram")
    config = replace(
        model.config,
        # One frame, which nobody sees: a clip's length is that of its sound.
        clip=replace(clip, audio_seconds=window_seconds, frames=1, stride=1),
        spectrogram=replace(spectrogram, frames=frames),
    )
    return Model(config, {name: model.modalities[name] for name in encoders}, encoders, model.statistics)
