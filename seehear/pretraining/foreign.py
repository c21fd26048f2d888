"""Runs on encoders of others: what their clips must be, how methods get them, and where their features come from."""

from __future__ import annotations

import copy
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from seehear import dist
from seehear.config import Config
from seehear.data.columns import VideosById, cut
from seehear.data.loader import ClipLoader, Failures, workers_of
from seehear.data.statistics import STATISTICS_CLIPS
from seehear.data.views import Statistics
from seehear.encoders import open_encoder, read_encoder
from seehear.encoders.base import ForeignEncoder
from seehear.errors import DataError, UsageError
from seehear.features.extract import extract
from seehear.features.viewbank import ViewBank, bank_name, banks_folder, make_room
from seehear.features.viewfill import fill
from seehear.features.viewloader import ViewLoader
from seehear.features.viewplan import needed
from seehear.hypotheses.language import Hypotheses, parse
from seehear.methods.base import MakeEncoders, Method
from seehear.models import build_encoder
from seehear.models.adapter import OnBackbone, ResidualAdapter, adapter_of
from seehear.progress import Progress

if TYPE_CHECKING:
    from seehear.engine.stop import StopRequest

Backbones = Mapping[str, ForeignEncoder]
"""Encoders of others by what they see, "video" or "audio"."""


def specs_of(config: Config) -> dict[str, str]:
    """The specifications of encoders of others that a run has, by what they see."""
    given = {"video": config.model.video_encoder, "audio": config.model.audio_encoder}
    return {stream: spec for stream, spec in given.items() if spec}


def open_backbones(config: Config) -> dict[str, ForeignEncoder]:
    """The encoders that a run names. Raises what `open_encoder` does."""
    return {stream: open_encoder(spec, stream) for stream, spec in specs_of(config).items()}


def fitted(config: Config, backbones: Backbones) -> Config:
    """Settings with clips as these encoders want them, and their normalisation of pixels and samples left to them."""
    clip, spectrogram, augment = config.clip, config.spectrogram, config.augment
    for stream, backbone in backbones.items():
        clip = replace(clip, **backbone.wanted.settings())  # type: ignore[arg-type]
        if stream == "video":
            clip = replace(clip, pixel_statistics="none")
        else:
            spectrogram = replace(spectrogram, kind="waveform")
            augment = replace(augment, time_mask_frames=0, frequency_mask_bins=0)
    return replace(config, clip=clip, spectrogram=spectrogram, augment=augment)


def check_backbones(config: Config, backbones: Backbones) -> None:
    """Raise `UsageError` for settings that these encoders cannot be had with."""
    specs, model = specs_of(config), config.model
    for stream, backbone in backbones.items():
        fixed = {name: value for name, value in backbone.wanted.settings().items() if name in backbone.fixed}
        wanted: dict[str, object] = {f"clip.{name}": value for name, value in fixed.items()}
        wanted |= {"clip.pixel_statistics": "none"} if stream == "video" else {"spectrogram.kind": "waveform"}
        for name, value in wanted.items():
            section, leaf = name.split(".")
            if (given := getattr(getattr(config, section), leaf)) != value:
                raise UsageError(
                    f"{name} is {given}, and {specs[stream]} wants {value}",
                    "leave the setting out: the encoder says it",
                )
        if model.tune_encoders and not backbone.trainable:
            raise UsageError(
                f"{specs[stream]} cannot be trained: no gradients pass through it", "leave out --tune-encoders"
            )
    if not backbones or model.tune_encoders:
        return
    spec = parse(config.gdt.hypotheses) if config.method == "gdt" else None
    if spec is not None and "text" in spec.modalities:
        raise UsageError(
            "text goes with clips that are decoded, not with features that are there already",
            "add --tune-encoders, or leave text out of --hypotheses",
        )
    apart = config.method == "avts" or (spec is not None and "time_shift" in spec)
    if apart and config.bank.moments < 2:
        raise UsageError("of one moment of each span no other can be told", "--set bank.moments=4")


def write_backbones(folder: Path, backbones: Backbones) -> None:
    """Keep the encoders in a run's folder, so that it needs nothing outside."""
    for stream, backbone in backbones.items():
        (folder / stream).mkdir(parents=True, exist_ok=True)
        backbone.write(folder / stream)


def read_backbones(folder: Path, config: Config) -> dict[str, ForeignEncoder]:
    """Inverse of `write_backbones`, of those that a run names."""
    return {stream: read_encoder(folder / stream) for stream in specs_of(config)}


def encoders_on(backbones: Backbones, config: Config) -> MakeEncoders | None:
    """What makes a method's encoders: of the streams of `backbones` adapters, on top of them if they are trained.

    None where there are no such streams: all encoders are our own.
    """
    if not backbones:
        return None

    def make(modalities: Mapping[str, str]) -> dict[str, nn.Module]:
        made: dict[str, nn.Module] = {}
        for index, (name, modality) in enumerate(modalities.items()):
            generator = torch.Generator().manual_seed(config.seed * 1009 + index)
            if modality not in backbones:
                made[name] = build_encoder(modality, config.model, generator)
                continue
            adapter = ResidualAdapter(backbones[modality].feature_dim, generator=generator)
            tuned = config.model.tune_encoders
            made[name] = OnBackbone(copy.deepcopy(backbones[modality]), adapter, tuned=True) if tuned else adapter
        return made

    return make


def whole_encoders(method: Method, backbones: Backbones) -> dict[str, nn.Module]:
    """A method's encoders as what looks at clips, by name."""
    whole: dict[str, nn.Module] = {}
    for name, encoder in method.encoders.items():
        if isinstance(encoder, ResidualAdapter):
            encoder = OnBackbone(backbones[method.modalities[name]], encoder, tuned=False)
        whole[name] = encoder
    return whole


def kept_features(
    method: Method,
    backbones: Backbones,
    videos: VideosById,
    config: Config,
    failures: Failures,
    live: ClipLoader | None,
    statistics: Statistics,
    device: torch.device,
    progress: Progress,
    stop: StopRequest,
) -> tuple[ViewLoader, dict[str, float]]:
    """The features that a method on encoders that stay as they are is trained with, and counts for the log.

    What is missing in the banks is extracted. `live` decodes for encoders of our own. Raises `DataError` if there are
    none, `UsageError` if `bank.gib` does not allow them.
    """
    started = time.monotonic()
    refs = cut(videos.table, config.cluster)
    asked: list[Hypotheses | None] = [method.hypotheses] if method.trains else []
    if method.trains and method.labelling_hypotheses is not None:
        asked.append(method.labelling_hypotheses)
    streams = [stream for stream in backbones if stream in method.modalities.values()]
    banks = {
        stream: ViewBank(
            banks_folder(config) / bank_name(backbones[stream].content(), config, stream),
            backbones[stream].feature_dim,
        )
        for stream in streams
    }
    wanted = {stream: needed(config, stream, bank, refs, videos, asked) for stream, bank in banks.items()}
    for bank in banks.values():
        if bank.damaged:
            progress.note(f"{bank.folder}: {len(bank.damaged)} damaged segments are extracted again")
    if dist.is_main():
        more = {of.bank.folder.name: len(of.missing()) * (4 * of.bank.dim + 24) for of in wanted.values()}
        make_room(config, more)
    dist.barrier("room for the features")
    extracted = fill(
        wanted, {stream: backbones[stream] for stream in streams}, refs, videos, config, failures,
        device=device, workers=workers_of(config),
        progress=stop.shown(progress, "features of the encoders", "spans", "resume: what is extracted is kept"),
    )  # fmt: skip
    there = int(np.logical_and.reduce([of.there for of in wanted.values()]).sum())
    if extracted:
        progress.note(f"features of {extracted} spans extracted once and kept, those of {len(refs)} needed")
    if not there:
        raise DataError("not one clip could be decoded", "see the reasons in failures.jsonl of the run folder")
    loader = ViewLoader(wanted, refs, videos, config, method.modalities, statistics, failures, live)
    return loader, {"extracted": extracted, "kept": there, "seconds_features": time.monotonic() - started}


def standardise(
    method: Method, loader: ViewLoader | ClipLoader, config: Config, device: torch.device, progress: Progress
) -> None:
    """Measure the features of the encoders on the collection's plain clips, for the adapters of a run that begins.

    Of all where they are there already, of at most `STATISTICS_CLIPS` spans where clips must be decoded.
    """
    adapters = {name: adapter_of(encoder) for name, encoder in method.encoders.items()}
    if not any(adapters.values()):
        return
    for name, adapter in adapters.items():
        if adapter is None:
            continue
        if isinstance(loader, ViewLoader):
            mean, std = loader.statistics_of(method.modalities[name])
        else:
            mean, std = _measured(name, method, loader, config, device, progress)
        adapter.standardise(*(torch.from_numpy(dist.broadcast(x)).to(device) for x in (mean, std)))


def _measured(
    name: str, method: Method, loader: ClipLoader, config: Config, device: torch.device, progress: Progress
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation (D,) of what an encoder of others makes of some plain clips."""
    from seehear.data.clips import plain_requests

    encoder = method.encoders[name]
    assert isinstance(encoder, OnBackbone)
    refs = cut(loader.videos.table, config.cluster)
    requests = plain_requests(refs[:: -(-len(refs) // STATISTICS_CLIPS)], loader.videos, config.clip)
    backbone = encoder.backbone
    bank = extract(
        {name: backbone}, loader, requests, device=device, batch_size=config.optim.batch_size,
        progress=progress.shown("statistics of the encoders", "clips"),
    )  # fmt: skip
    x = bank.features[name].astype(np.float64)
    return x.mean(0).astype(np.float32), x.std(0).astype(np.float32)
