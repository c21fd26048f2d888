"""Files of weights, published or our own, read into a model, with an account of every tensor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, cast

import torch
from torch import nn

from seehear.config import Config, OptimConfig
from seehear.data.views import SpectrogramView, Statistics, measured_by
from seehear.errors import DataError, UsageError
from seehear.features.model import Model
from seehear.hashes import sha256_of
from seehear.models import build_encoder
from seehear.models.audio import AudioEncoder
from seehear.models.heads import ClusterHeads, MLPHead, cluster_heads
from seehear.models.pretrained import (
    GDT,
    SEEHEAR,
    SELAVI,
    TORCHVISION,
    XDC,
    Modality,
    Published,
    encoder_settings,
    load_audio_weights,
    load_video_weights,
    published_heads,
    read_checkpoint,
)
from seehear.models.video import VideoEncoder
from seehear.settings import with_settings
from seehear.weights.description import cluster_heads_text, describe, heads_text, projections_text
from seehear.weights.exactness import exactness
from seehear.weights.formats import Encoder

_METHODS = {XDC.name: "xdc", GDT.name: "gdt", SELAVI.name: "selavi", TORCHVISION.name: "supervised"}


@dataclass(frozen=True)
class Weights:
    """A model made of files of weights, with an account of what each tensor became.

    Attributes:
        model: with the statistics that the files state, and otherwise those that `measure` is to replace.
        sources: for each encoder the file, its SHA-256, its layout and how many tensors were loaded.
        heads: what the heads of the files became.
        unused: keys of the files, and entries beside the tensors, that nothing was made of.
        notes: what a person should know before using the model.
        measure: statistics that the settings leave to be measured: "pixels", "spectrograms".
        exact, inexact: what is as the authors of the files had it, and what is not.
    """

    model: Model
    sources: tuple[dict[str, Any], ...]
    heads: str | None = None
    unused: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    measure: tuple[str, ...] = ()
    exact: tuple[str, ...] = ()
    inexact: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """All of it but the tensors, as plain values."""
        return {
            "sources": list(self.sources),
            **describe(self.model),
            "heads": self.heads,
            "unused": list(self.unused),
            "exact": list(self.exact),
            "inexact": list(self.inexact),
            "notes": list(self.notes),
        }


def read_weights(
    path: str | Path,
    *,
    audio_weights: str | Path | None = None,
    modality: Literal["video", "audio", "both"] = "both",
    settings: Sequence[str] = (),
    ignore: Sequence[str] = (),
) -> Weights:
    """The model that files of weights make: a published checkpoint, or a folder with a model of ours.

    Args:
        path: a checkpoint in one of the layouts of `seehear.models.pretrained`, or a model folder or its file.
        audio_weights: take the audio encoder from this checkpoint.
        modality: take these encoders, of those that there are.
        settings: changes of the preprocessing, such as "clip.frames=8".
        ignore: keys, or patterns with `*`, that a file may hold beyond its documented layout.

    Raises:
        DataError: a file is damaged, unknown, or does not fit; the message names every key.
        UsageError: what is asked for is not in the file, or a setting is wrong.
    """
    own = _own_folder(Path(path))
    if own is not None:
        if audio_weights is not None or settings or ignore:
            raise UsageError(
                f"{path} is a whole model of seehear, with its settings", "give its folder and --out alone"
            )
        return _own_weights(own, modality)
    files = _files(path, audio_weights, modality)
    stated = _stated_config(files)
    config = _config(files, stated, settings)
    exact, inexact = exactness(files, stated, config)
    encoders: dict[str, nn.Module] = {}
    sources: list[dict[str, Any]] = []
    notes: list[str] = []
    unused: dict[tuple[Path, str], None] = {}  # a set in order
    loaded: set[tuple[Path, str]] = set()
    for name, file in files.items():
        encoder = build_encoder(name, config.model, torch.Generator())
        if name == "video":
            report = load_video_weights(cast(VideoEncoder, encoder), file, ignore=ignore)
        else:
            report = load_audio_weights(cast(AudioEncoder, encoder), file, ignore=ignore)
        encoders[name] = encoder
        sources.append(
            {"encoder": name, "file": file.path.name, "sha256": file.sha256, "layout": file.layout.name,
             "tensors": len(report.loaded)}
        )  # fmt: skip
        loaded |= {(file.path, key) for key in report.loaded}
        unused |= {(file.path, key): None for key in report.unused}
        notes += report.notes
    config, projections, heads, became, of_heads = _heads(files, config, encoders)
    if became is None and any(published_heads(file) for file in files.values()):
        notes.append("the file's heads are left: they do not fit the encoders that were taken")
    modalities = {name: name for name in encoders}
    streams = {"pixels": "video", "spectrograms": "audio"}
    return Weights(
        Model(config, modalities, encoders, Statistics.stated(config), projections=projections, heads=heads),
        tuple(sources),
        became,
        tuple(key for path, key in unused if (path, key) not in loaded | of_heads),
        (*notes, *_notes(files)),
        tuple(part for part in measured_by(config) if streams[part] in files),
        exact,
        inexact,
    )


def _own_folder(path: Path) -> Path | None:
    """The folder of a model of ours, if `path` is one or the file in one."""
    folder = path.parent if path.name == "model.safetensors" else path
    return folder if any((f / "config.json").is_file() for f in (folder, folder / "model")) else None


def _own_weights(folder: Path, modality: str) -> Weights:
    model = Model.load(folder)
    if modality != "both":
        model = model.subset(modality)
    file = next(f for f in (folder / "model.safetensors", folder / "model" / "model.safetensors") if f.exists())
    digest = sha256_of(file)
    sources = tuple(
        {"encoder": name, "file": file.name, "sha256": digest, "layout": SEEHEAR.name,
         "tensors": len(encoder.state_dict())}
        for name, encoder in model.encoders.items()
    )  # fmt: skip
    return Weights(model, sources, heads_text(model))


def _files(path: str | Path, audio_weights: str | Path | None, modality: str) -> dict[Modality, Published]:
    """For each encoder that is wanted the file that has it."""
    file = read_checkpoint(path)
    files = dict.fromkeys(file.modalities, file)
    if audio_weights is not None:
        if modality == "video":
            raise UsageError("--audio-weights and --modality video contradict each other")
        files["audio"] = read_checkpoint(audio_weights)
    if modality != "both":
        if modality not in files:
            raise UsageError(f"{path} holds no {modality} encoder", f"it holds: {', '.join(files)}")
        files = {m: given for m, given in files.items() if m == modality}
    for given in files.values():
        if given.layout is SEEHEAR:
            raise DataError(
                f"{given.path} says nothing of the preprocessing that its encoders need",
                "give the folder of the model, with its config.json",
            )
    return files


def _stated_config(files: Mapping[Modality, Published]) -> Config:
    """The settings that the files' encoders and clips ask for."""
    base = Config()
    shapes: dict[str, Any] = {}
    for modality, file in files.items():
        shapes |= encoder_settings(file, modality)
    if "audio_bn_eps" in shapes and "video" not in files:
        shapes["bn_eps"] = shapes.pop("audio_bn_eps")
    elif shapes.get("audio_bn_eps") == shapes.get("bn_eps"):
        shapes.pop("audio_bn_eps", None)
    clip, spectrogram = base.clip, base.spectrogram
    if "video" in files:
        facts = files["video"].preprocessing
        assert facts is not None
        clip = replace(
            clip,
            frames=facts.clip_frames[-1],  # the last training had the longest clips (XDC, section 6)
            frame_rate_hz=facts.frame_rate_hz,
            stride=facts.stride,
            short_side_px=facts.test_short_side_pixels,
            crop_px=facts.crop_pixels,
            pixel_statistics=facts.pixel_statistics,
        )
    if "audio" in files:
        facts = files["audio"].preprocessing
        assert facts is not None and facts.audio_seconds and facts.mel_bins
        assert facts.spectrogram_frames and facts.hop_seconds and facts.spectrogram_kind
        clip = replace(clip, audio_seconds=facts.audio_seconds, sample_rate_hz=facts.sample_rate_hz)
        spectrogram = replace(
            spectrogram, kind=facts.spectrogram_kind, mel_bins=facts.mel_bins, frames=facts.spectrogram_frames[0],
            hop_seconds=facts.hop_seconds[0], window_seconds=0.02, n_fft=1024, mean=facts.spectrogram_mean,
            std=facts.spectrogram_std,
        )  # fmt: skip
    first = next(iter(files.values()))
    return replace(
        base,
        method=_METHODS[first.layout.name],
        recipe="imported",
        clip=clip,
        spectrogram=spectrogram,
        model=replace(base.model, **shapes),
        optim=OptimConfig(batch_size=8),  # a clip of 32 frames of 224 pixels takes much memory
    )


def _config(files: Mapping[Modality, Published], stated: Config, settings: Sequence[str]) -> Config:
    """The settings that the files state, with changes; where spectrograms are of another kind, to be measured anew."""
    config = with_settings(stated, settings)
    own = {s.partition("=")[0].strip() for s in settings}
    if config.spectrogram.kind != stated.spectrogram.kind and not own & {"spectrogram.mean", "spectrogram.std"}:
        n_fft = config.spectrogram.n_fft if "spectrogram.n_fft" in own else None
        config = replace(config, spectrogram=replace(config.spectrogram, mean=None, std=None, n_fft=n_fft))
    if "audio" not in files:
        config = _without_sound(config, settings)
    config.check()
    if "audio" in files:
        silence = torch.zeros(1, round(config.clip.audio_seconds * config.clip.sample_rate_hz))
        try:
            SpectrogramView(config, Statistics())(silence, config.augment, None)
        except ValueError as error:
            raise UsageError(str(error)) from error
    return config


def _without_sound(config: Config, settings: Sequence[str]) -> Config:
    """Settings for encoders that do not listen: a clip is as long as its frames, so that short videos can be used."""
    of_sound = [s for s in settings if s.startswith(("spectrogram.", "clip.audio_seconds", "clip.sample_rate_hz"))]
    if of_sound:
        raise UsageError(f"nothing listens to the sound that {of_sound[0]} is about", "leave it out")
    seconds = config.clip.frames_seconds
    return replace(
        config,
        clip=replace(config.clip, audio_seconds=seconds),
        spectrogram=replace(config.spectrogram, frames=max(1, int(seconds / config.spectrogram.hop_seconds))),
    )


def _heads(
    files: Mapping[Modality, Published], config: Config, encoders: Mapping[str, nn.Module]
) -> tuple[Config, dict[str, nn.Module], ClusterHeads | None, str | None, set[tuple[Path, str]]]:
    """Projections (GDT) or clustering heads (SeLaVi) of the files, with the settings that they ask for.

    Also what they became in words, and the files' keys that they are made of. All fit, or none is taken.
    """
    nothing: tuple[Config, dict[str, nn.Module], ClusterHeads | None, str | None, set[tuple[Path, str]]]
    nothing = (config, {}, None, None, set())
    found: dict[str, list[dict[str, torch.Tensor]]] = {}
    for modality, file in files.items():
        states = published_heads(file).get(modality, [])
        width = int(cast(Encoder, encoders[modality]).feature_dim)
        if any(state["layers.1.weight"].shape[0] != width for state in states):
            return nothing
        found[modality] = states
    counts = {len(states) for states in found.values()}
    outputs = {state["layers.5.weight"].shape[0] for states in found.values() for state in states}
    layouts = {file.layout.name for file in files.values()}
    if len(counts) != 1 or 0 in counts or len(outputs) != 1 or len({f.path for f in files.values()}) != 1:
        return nothing
    (count,), (size,) = counts, outputs
    keys = {(f.path, key) for m, f in files.items() for key in f.tensors if key.startswith(f"mlp_{m[0]}")}
    if layouts == {GDT.name} and count == 1 and size >= 4:
        config = replace(config, gdt=replace(config.gdt, dimensions=size))
        projections: dict[str, nn.Module] = {}
        for name, states in found.items():
            head = MLPHead(int(cast(Encoder, encoders[name]).feature_dim), size, unit=True)
            head.load_state_dict(states[0])
            projections[name] = head
        return config, projections, None, projections_text(projections, size), keys
    if layouts != {SELAVI.name} or "video" not in files or size < 2:
        return nothing
    variant: Literal["multimodal", "frames"] = "multimodal" if "audio" in files else "frames"
    config = replace(
        config,
        cluster=replace(config.cluster, k=size),
        selavi=replace(config.selavi, heads=count, variant=variant),
    )
    heads = cluster_heads(config, {name: int(cast(Encoder, e).feature_dim) for name, e in encoders.items()})
    heads.load_state_dict(
        {f"of.{m}.{i}.{key}": x for m, states in found.items() for i, s in enumerate(states) for key, x in s.items()}
    )
    return config, {}, heads, cluster_heads_text(heads), keys


def _notes(files: Mapping[Modality, Published]) -> list[str]:
    """What a layout leaves open."""
    notes = []
    if any(file.preprocessing != file.layout.preprocessing for file in files.values()):
        notes.append("clips and spectrograms as the file's own command line says")
    video = files["video"].preprocessing if "video" in files else None
    if video is not None and len(video.clip_frames) > 1:
        *others, chosen = video.clip_frames
        notes.append(f"clips have {chosen} frames, as in the last training; {others[0]} before: --set clip.frames")
    audio = files["audio"].preprocessing if "audio" in files else None
    if audio is not None and audio.spectrogram_frames and len(audio.spectrogram_frames) > 1:
        (chosen, *others), hops = audio.spectrogram_frames, audio.hop_seconds or ()
        notes.append(
            f"spectrograms have {chosen} frames, as in the release; the paper also says {others[0]}:"
            f" --set spectrogram.frames={others[0]} --set spectrogram.hop_seconds={hops[-1]}"
        )
    if any(key.startswith("text_network.") for file in files.values() for key in file.tensors):
        notes.append("the file's text encoder and its head are left: nothing here reads text yet")
    return notes
