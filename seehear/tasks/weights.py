"""Weights from elsewhere made into a folder that every command takes as a run, and encoders for use elsewhere."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, cast

import torch
from torch import nn

import seehear
from seehear import config as configuration
from seehear.config import Config, OptimConfig, with_settings
from seehear.data.clips import clip_refs
from seehear.data.loader import ClipLoader, Failures, measure_statistics
from seehear.data.manifest import Manifest, scan
from seehear.data.views import SpectrogramView, Statistics
from seehear.engine.runfolder import RunFolder
from seehear.errors import DataError, RunError, UsageError
from seehear.features.model import Model, usable_videos
from seehear.files import check_destination, check_new_folder, new_folder, write_atomic, writing
from seehear.modalities import MODALITIES, streams_of
from seehear.models import build_encoder
from seehear.models.audio import AudioEncoder
from seehear.models.export import Encoder, write_onnx, write_torch_export, write_torchvision
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
from seehear.tasks.label import open_run
from seehear.tasks.modelcard import model_card

Format = Literal["safetensors", "hub", "torchvision", "torch-export", "onnx"]
FORMATS: dict[Format, tuple[str, ...]] = {
    "safetensors": (),
    "hub": (),
    "torchvision": (".pth", ".safetensors"),
    "torch-export": (".pt2",),
    "onnx": (".onnx",),
}
"""What can be exported, with the endings of its file; without one it is a folder."""
_METHODS = {XDC.name: "xdc", GDT.name: "gdt", SELAVI.name: "selavi", TORCHVISION.name: "supervised"}


# ---------------------------------------------------------------- reading


@dataclass(frozen=True)
class Weights:
    """A model made of files of weights, with an account of what each tensor became.

    Attributes:
        model: with the statistics that the files state, and otherwise those that `measure` is to replace.
        sources: for each encoder the file, its SHA-256, its layout and how many tensors were loaded.
        heads: what the heads of the files became.
        unused: keys of the files, and entries beside the tensors, that nothing was made of.
        notes: what a person should know before using the model.
        measure: statistics that the files do not state: "pixels", "spectrograms".
    """

    model: Model
    sources: tuple[dict[str, Any], ...]
    heads: str | None = None
    unused: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    measure: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """All of it but the tensors, as plain values."""
        return {
            "sources": list(self.sources),
            **describe(self.model),
            "heads": self.heads,
            "unused": list(self.unused),
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
    config = _config(files, settings)
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
    statistics, measure = _stated_statistics(files)
    return Weights(
        Model(config, modalities, encoders, statistics, projections=projections, heads=heads),
        tuple(sources),
        became,
        tuple(key for path, key in unused if (path, key) not in loaded | of_heads),
        (*notes, *_notes(files)),
        measure,
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
    digest = _sha256(file)
    sources = tuple(
        {"encoder": name, "file": file.name, "sha256": digest, "layout": SEEHEAR.name,
         "tensors": len(encoder.state_dict())}
        for name, encoder in model.encoders.items()
    )  # fmt: skip
    return Weights(model, sources, _heads_text(model))


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


def _config(files: Mapping[Modality, Published], settings: Sequence[str]) -> Config:
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
            short_side_px=facts.short_side_pixels[0],
            crop_px=facts.crop_pixels,
            pixel_statistics="measured" if facts.pixel_mean is None else "kinetics",
        )
    if "audio" in files:
        facts = files["audio"].preprocessing
        assert facts is not None and facts.audio_seconds and facts.mel_bins
        assert facts.spectrogram_frames and facts.hop_seconds
        clip = replace(clip, audio_seconds=facts.audio_seconds, sample_rate_hz=facts.sample_rate_hz)
        spectrogram = replace(
            spectrogram, mel_bins=facts.mel_bins, frames=facts.spectrogram_frames[0],
            hop_seconds=facts.hop_seconds[0], window_seconds=0.025,
        )  # fmt: skip
    first = next(iter(files.values()))
    config = with_settings(
        replace(
            base,
            method=_METHODS[first.layout.name],
            recipe="imported",
            clip=clip,
            spectrogram=spectrogram,
            model=replace(base.model, **shapes),
            optim=OptimConfig(batch_size=8),  # a clip of 32 frames of 224 pixels takes much memory
        ),
        settings,
    )
    if "audio" not in files:
        of_sound = [s for s in settings if s.startswith(("spectrogram.", "clip.audio_seconds", "clip.sample_rate_hz"))]
        if of_sound:
            raise UsageError(f"nothing listens to the sound that {of_sound[0]} is about", "leave it out")
        # Nothing listens: a clip is as long as its frames, so that short videos can be used.
        seconds = config.clip.frames_seconds
        frames = max(1, int(seconds / config.spectrogram.hop_seconds))
        config = replace(
            config,
            clip=replace(config.clip, audio_seconds=seconds),
            spectrogram=replace(config.spectrogram, frames=frames),
        )
    config.check()
    if "audio" in files:
        silence = torch.zeros(1, round(config.clip.audio_seconds * config.clip.sample_rate_hz))
        try:
            SpectrogramView(config, Statistics())(silence, config.augment, None)
        except ValueError as error:
            raise UsageError(str(error)) from error
    return config


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
        return config, projections, None, _projections_text(projections, size), keys
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
    return config, {}, heads, _cluster_heads_text(heads), keys


def _heads_text(model: Model) -> str | None:
    if model.heads is not None:
        return _cluster_heads_text(model.heads)
    return _projections_text(model.projections, model.config.gdt.dimensions) if model.projections else None


def _cluster_heads_text(heads: ClusterHeads) -> str:
    return f"{heads.count} heads to {heads.clusters} clusters of {' and '.join(heads.sources)}"


def _projections_text(projections: Mapping[str, nn.Module] | nn.ModuleDict, size: int) -> str:
    return f"projections of {' and '.join(projections)} to {size} dimensions"


def _stated_statistics(files: Mapping[Modality, Published]) -> tuple[Statistics, tuple[str, ...]]:
    """The statistics that the files state, and which they do not."""
    facts = files["video"].preprocessing if "video" in files else None
    measure = []
    if facts is not None and facts.pixel_mean is None:
        measure.append("pixels")
    if "audio" in files:
        measure.append("spectrograms")
    if facts is not None and facts.pixel_mean is not None and facts.pixel_std is not None:
        return Statistics(facts.pixel_mean, facts.pixel_std), tuple(measure)
    return Statistics(), tuple(measure)


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
        chosen, *others = audio.spectrogram_frames
        notes.append(f"spectrograms have {chosen} frames; the paper also says {others[0]}: --set spectrogram.frames")
    if audio is not None:
        notes.append(
            "the release computed its log-mel spectrograms with other filters than ours: its features of sound cannot"
            " be had exactly"
        )
    return notes


# ---------------------------------------------------------------- what a model is, in plain values


def describe(model: Model) -> dict[str, Any]:
    """Encoders, preprocessing, clusters, heads and classes of a model, as plain values."""
    return {
        "method": model.config.method,
        "encoders": {name: _encoder_facts(model, name) for name in model.encoders},
        "preprocessing": {s: preprocessing(model, s) for s in streams_of(tuple(model.modalities.values()))},
        "clusters": model.cluster_counts,
        "heads": _heads_text(model),
        "classes": list(model.class_names),
    }


def _encoder_facts(model: Model, name: str) -> dict[str, Any]:
    encoder, settings = cast(Encoder, model.encoders[name]), model.config.model
    facts: dict[str, Any] = {"sees": model.modalities[name]}
    if isinstance(encoder, VideoEncoder):
        facts |= {"encoder": settings.video, "width": settings.video_width, "mid_planes": encoder.mid_planes}
        facts |= {"stem_stride": settings.video_stem_stride, "stem_pool": encoder.stem_pool}
    else:
        facts |= {"encoder": settings.audio, "width": settings.audio_width}
    return facts | {
        "bn_eps": encoder.bn_eps,
        "features": int(encoder.feature_dim),
        "parameters": sum(p.numel() for p in encoder.parameters()),
    }


def preprocessing(model: Model, stream: str) -> dict[str, Any]:
    """How an encoder's input is made of a stream, "video" or "audio", in plain values with their units."""
    clip, statistics = model.config.clip, model.statistics
    if stream == "video":
        return {
            "frames": clip.frames,
            "frame_rate_hz": clip.frame_rate_hz,
            "stride": clip.stride,
            "short_side_px": clip.short_side_px,
            "centre_crop_px": clip.crop_px,
            "channels": "RGB, scaled to 0 to 1, then (x - pixel_mean) / pixel_std",
            "pixel_mean": list(statistics.pixel_mean),
            "pixel_std": list(statistics.pixel_std),
        }
    settings = model.config.spectrogram
    transform = SpectrogramView(model.config, statistics).transform
    top = clip.sample_rate_hz / 2 if settings.f_max_hz is None else settings.f_max_hz
    return {
        "seconds": clip.audio_seconds,
        "sample_rate_hz": clip.sample_rate_hz,
        "waveform": "mono, samples from -1 to 1",
        "mel_bins": settings.mel_bins,
        "frames": settings.frames,
        "hop_seconds": settings.hop_seconds,
        "window_seconds": settings.window_seconds,
        "window": "Hann",
        "n_fft": transform.n_fft,
        "f_min_hz": settings.f_min_hz,
        "f_max_hz": top,
        "mel_scale": "Slaney, filters of unit area",
        "values": "ln(mel power + log_offset), then (x - spectrogram_mean) / spectrogram_std",
        "log_offset": settings.log_offset,
        "spectrogram_mean": statistics.spectrogram_mean,
        "spectrogram_std": statistics.spectrogram_std,
    }


def show_weights(
    path: str | Path, *, audio_weights: str | Path | None = None, ignore: Sequence[str] = ()
) -> dict[str, Any]:
    """What a file of weights, a run or a model folder holds, as plain values: see `Weights` and `describe`.

    Raises as `read_weights` does.
    """
    folder = RunFolder(Path(path))
    if folder.imported:
        return json.loads(folder.provenance.read_text()) | {**describe(Model.load(path))}
    if folder.config.exists():
        open_run(path)
    weights = read_weights(path, audio_weights=audio_weights, ignore=ignore)
    told = weights.as_dict()
    if weights.measure:
        # Not known before they are measured on videos.
        for stream, keys in (
            ("video", ("pixel_mean", "pixel_std")),
            ("audio", ("spectrogram_mean", "spectrogram_std")),
        ):
            if {"video": "pixels", "audio": "spectrograms"}[stream] in weights.measure:
                told["preprocessing"][stream] |= dict.fromkeys(keys)
    return told


def as_text(told: Mapping[str, Any]) -> str:
    """What `show_weights` found, for people."""
    lines = [f"{s['encoder']}: {s['tensors']} tensors of {s['file']} ({s['layout']})" for s in told["sources"]]
    lines += [f"sha-256 {digest}" for digest in dict.fromkeys(s["sha256"] for s in told["sources"])]
    for name, e in told["encoders"].items():
        extra = (
            f", mid-planes per {e['mid_planes']}" if e["encoder"].startswith("r2plus1d") and "mid_planes" in e else ""
        )
        lines.append(
            f"{name}: {e['encoder']} of width {e['width']}{extra}, batch norm eps {e['bn_eps']:g},"
            f" {e['features']} features, {e['parameters']:,} parameters"
        )
    for stream, values in told["preprocessing"].items():
        lines.append(f"{stream} inputs")
        lines += [f"  {key}: {'not stated' if value is None else value}" for key, value in values.items()]
    if told["clusters"]:
        lines.append("clusters: " + ", ".join(f"{count} of {name}" for name, count in told["clusters"].items()))
    elif not told["classes"]:
        lines.append("no clusters: `seehear label` needs some; embed, evaluate and finetune do not")
    if told["heads"]:
        lines.append(told["heads"])
    if told["classes"]:
        lines.append(f"names {len(told['classes'])} classes: {', '.join(told['classes'])}")
    if told.get("statistics"):
        lines.append(f"statistics: {told['statistics']}")
    if told["unused"]:
        lines.append(f"not used ({len(told['unused'])}): {', '.join(told['unused'])}")
    return "\n".join([*lines, *(f"note: {note}" for note in told["notes"])])


# ---------------------------------------------------------------- import


def import_weights(
    path: str | Path,
    out: str | Path,
    *,
    audio_weights: str | Path | None = None,
    modality: Literal["video", "audio", "both"] = "both",
    statistics: str | Path | Manifest | None = None,
    settings: Sequence[str] = (),
    ignore: Sequence[str] = (),
    workers: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Make of weights a folder that commands take as a run; it appears whole or not at all.

    Args:
        path, audio_weights, modality, settings, ignore: see `read_weights`.
        out: the new folder.
        statistics: videos on which to measure the means and deviations that the files do not state (whatever `scan`
            takes, or its result), or the `statistics.json` of a run.
        workers: decoding processes.
        progress: called with videos looked at and their number.

    Returns:
        What `show_weights` says of the folder.

    Raises:
        DataError: as `read_weights`, and if no video can be used.
        UsageError: as `read_weights`; for sound without `statistics`.
        RunError: there is something in `out`.
    """
    folder = RunFolder(Path(out))
    folder.check_new()
    weights = read_weights(path, audio_weights=audio_weights, modality=modality, settings=settings, ignore=ignore)
    notes, measured = list(weights.notes), None
    if statistics is not None and not weights.measure:
        raise UsageError("these weights state their statistics: there is nothing to measure", "leave --statistics out")
    if statistics is not None:
        weights.model.statistics, measured, said = _measured(weights.model, statistics, workers, progress)
        notes += said
    elif "spectrograms" in weights.measure:
        raise UsageError(
            "the file does not state the mean and deviation of spectrograms that its audio encoder needs",
            "measure them: --statistics VIDEOS; or take the video encoder alone: --modality video",
        )
    elif "pixels" in weights.measure:
        notes.append(
            "the file does not state the pixels' mean and deviation: those of Kinetics are used (--statistics)"
        )
    told = {
        "format": "seehear-imported",
        "version": 1,
        "seehear_version": seehear.__version__,
        "imported_utc": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "sources": list(weights.sources),
        "statistics": measured,
        "unused": list(weights.unused),
        "notes": notes,
    }
    with new_folder(folder.path) as temporary:
        made = RunFolder(temporary)
        configuration.save(weights.model.config, made.config)
        write_atomic(made.statistics, json.dumps(weights.model.statistics.to_dict(), indent=1))
        weights.model.save(made.model)
        write_atomic(made.provenance, json.dumps(told, indent=1, ensure_ascii=False))
    return show_weights(folder.path)


def _measured(
    model: Model, source: str | Path | Manifest, workers: int, progress: Callable[[int, int], None] | None
) -> tuple[Statistics, str, list[str]]:
    """Statistics of videos, whose they are in words, and what there is to say of the videos."""
    if isinstance(source, str | Path) and Path(source).suffix == ".json":
        try:
            return Statistics.from_dict(json.loads(Path(source).read_text())), f"from {Path(source).name}", []
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise DataError(f"{source} holds no statistics: {error}", "give the statistics.json of a run") from error
    streams = streams_of(tuple(model.modalities.values()))
    if isinstance(source, Manifest):
        manifest = source
    elif Manifest.is_manifest(source):
        manifest = Manifest.load(source)
    else:
        manifest = scan(
            source, need=streams, min_seconds=model.config.clip.seconds, workers=workers or None, progress=progress
        )
    videos = usable_videos(manifest, streams)
    failures = Failures()
    with ClipLoader(
        videos, model.config, model.modalities, Statistics(), workers=workers, cache=None, failures=failures
    ) as loader:
        found = measure_statistics(loader, clip_refs(videos, model.config.cluster))
    notes = [f"left out of the statistics: {f['path']}: {f['reason']}" for f in failures.reports]
    return found, f"measured on {len(videos) - len(failures.counts)} videos", notes


# ---------------------------------------------------------------- export


def export_weights(
    run: str | Path, out: str | Path, *, format: Format, modality: Literal["video", "audio"] | None = None
) -> dict[str, Any]:
    """Write a run's model, or one of its encoders, for use elsewhere, and compare it with its source.

    Args:
        run: folder of a finished run, of imported weights, or of a model.
        out: file or folder, as the format asks for; it must not exist.
        format: "safetensors" or "hub": a folder with the whole model, which `Model.from_pretrained` reads; for hub
            with a model card. "torchvision", "torch-export", "onnx": a file with one encoder.
        modality: export the encoder of this modality, or for a folder what this modality alone needs.

    Returns:
        `format`, `out`, `encoders` (their names), `max_difference` of the features from those of the source, and for
        a single encoder `input` and `output`, their shapes.

    Raises:
        RunError: the run is not finished.
        UsageError: the encoder cannot be had in this format, it is not clear which one is meant, or `out` exists.
    """
    if format not in FORMATS:
        raise UsageError(f"there is no format {format!r}", f"choose one of {', '.join(FORMATS)}")
    out = Path(out)
    endings = FORMATS[format]
    if endings and out.suffix not in endings:
        raise UsageError(f"a {format} file does not end like {out.name}", f"name it {out.stem}{endings[0]}")
    if not endings and out.suffix in {ending for known in FORMATS.values() for ending in known}:
        raise UsageError(f"{format} writes a folder, and {out.name} looks like a file", f"--out {out.stem}")
    if endings:
        check_destination(out)
    else:
        check_new_folder(out)
    if endings and out.exists():
        raise UsageError(f"{out} exists already", "choose another --out")
    folder = RunFolder(Path(run))
    if folder.config.exists():
        open_run(run)
    model = Model.load(run)
    told = {"format": format, "out": str(out)}
    if not endings:
        return told | _export_folder(folder, model if modality is None else model.subset(modality), out, format)
    name = _single_encoder(model, modality)
    encoder = cast(Encoder, model.encoders[name])
    shape = input_shape(model.config, encoder)
    facts = {
        "format": "seehear-encoder",
        "seehear_version": seehear.__version__,
        "method": model.config.method,
        "encoder": _encoder_facts(model, name),
        "input": ["batch", *shape],
        "output": ["batch", int(encoder.feature_dim)],
        "preprocessing": preprocessing(model, str(MODALITIES[model.modalities[name]].stream)),
        "sources": provenance(folder).get("sources", []),
    }
    with writing(out):
        out.parent.mkdir(parents=True, exist_ok=True)
    write = {"torchvision": write_torchvision, "torch-export": write_torch_export, "onnx": write_onnx}[format]
    difference = write(encoder, out, shape, facts)
    return told | {
        "encoders": [name], "max_difference": difference, "input": facts["input"], "output": facts["output"]
    }  # fmt: skip


def input_shape(config: Config, encoder: Encoder) -> tuple[int, ...]:
    """What an encoder takes for one clip: (3, T, H, W), or (1, Q, P) for sound."""
    if isinstance(encoder, VideoEncoder):
        return (3, config.clip.frames, config.clip.crop_px, config.clip.crop_px)
    return (1, config.spectrogram.mel_bins, config.spectrogram.frames)


def _single_encoder(model: Model, modality: str | None) -> str:
    names = [name for name, seen in model.modalities.items() if modality is None or seen == modality]
    if len(names) == 1:
        return names[0]
    if not names:
        raise UsageError(f"this model has no encoder of {modality}", f"it has {', '.join(model.encoders)}")
    if modality is None and len(set(model.modalities.values())) == len(names):
        raise UsageError(f"the model has several encoders: {', '.join(names)}", "say which: --modality video")
    raise UsageError(
        f"the model has several encoders of one modality: {', '.join(names)}",
        "the formats safetensors and hub take the whole model",
    )


def _export_folder(folder: RunFolder, model: Model, out: Path, format: Format) -> dict[str, Any]:
    shared = model.shareable()
    with new_folder(out) as temporary:
        shared.save(temporary)
        again = Model.from_pretrained(temporary)
        difference = max(
            float((value - again.encoders.state_dict()[key]).abs().max())
            for key, value in shared.encoders.state_dict().items()
            if value.is_floating_point()
        )
        if difference:
            raise RunError(f"what was written differs from the model by {difference:g}", "is the disk sound?")
        if format == "hub":
            facts = describe(shared)
            write_atomic(temporary / "preprocessing.json", json.dumps(facts["preprocessing"], indent=1))
            write_atomic(temporary / "README.md", model_card(out.name, facts, folder, provenance(folder)))
    return {"encoders": list(model.encoders), "max_difference": difference}


def provenance(folder: RunFolder) -> dict[str, Any]:
    """What `import_weights` noted of where the weights are from; {} for a run's own."""
    return json.loads(folder.provenance.read_text()) if folder.imported else {}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
