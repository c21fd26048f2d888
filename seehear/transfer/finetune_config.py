"""What a finetuning starts from, and its settings."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from seehear.config import Config
from seehear.data.datasets import SEPARATOR, DataSet
from seehear.errors import UsageError
from seehear.features.model import Model
from seehear.media.formats import AUDIO_EXTENSIONS, extension_of
from seehear.modalities import STREAMS_OF
from seehear.recipes import recipe as named_recipe
from seehear.settings import with_settings
from seehear.transfer.backbones import UNTRAINED
from seehear.transfer.recipes import FINETUNE_PROTOCOLS, finetune_recipe

_STREAM_OF = {
    "ucf101": "video", "hmdb51": "video", "esc50": "audio", "esc10": "audio", "dcase2014": "audio",
}  # fmt: skip
"""Sets that are of sight or of sound alone (part of UCF101's videos have no sound)."""


@dataclass(frozen=True)
class Start:
    """What a finetuning starts from."""

    config: Config
    model: Model | None
    """With the weights, and the statistics that inputs are normalised with; None: new weights and statistics."""
    pretrained: bool

    @property
    def modalities(self) -> dict[str, str]:
        """The encoders that can be finetuned, and what each sees."""
        if self.model is None:
            return {"video": "video", "audio": "audio"}
        return {n: self.model.modalities[n] for n in ("video", "audio") if n in self.model.modalities}


def open_start(run: str | Path) -> Start:
    """The run that a text names, or what "untrained:RECIPE" and "untrained:RUN" mean."""
    text = str(run)
    if not text.startswith(UNTRAINED):
        model = Model.load(run)
        return Start(model.config, model, pretrained=True)
    name = text.removeprefix(UNTRAINED)
    if Path(name).is_dir():
        model = Model.load(name)
        return Start(model.config, model, pretrained=False)
    return Start(named_recipe(name), None, pretrained=False)


def absolute_run(run: str | Path) -> str:
    """The text that names a run, the same from any folder."""
    text = str(run)
    begin = UNTRAINED if text.startswith(UNTRAINED) else ""
    name = text.removeprefix(begin)
    return begin + (os.path.abspath(name) if Path(name).exists() else name)


def finetune_config(
    start: Start,
    dataset: DataSet,
    *,
    run: str,
    protocol: str | None = None,
    modality: str | None = None,
    freeze: bool = False,
    shots: int | None = None,
    seed: int | None = None,
    settings: Iterable[str] = (),
) -> Config:
    """The settings of a finetuning; `UsageError` for what does not go together. Arguments as `finetune`."""
    settings = list(settings)
    place = os.path.abspath(dataset.path)
    spec = place if dataset.name == "table" else f"{dataset.name}:{place}"
    config = finetune_recipe(start.config, protocol, freeze, dataset.name)
    if modality is None and config.finetune.protocol == "gdt-vggsound":
        modality = "audio"
    encoders = choose_encoders(start, dataset, modality)
    if "audio" not in encoders:
        # A clip is as long as its frames: shorter videos can be used, and frames are drawn from all of a video.
        config = replace(config, clip=replace(config.clip, audio_seconds=0.0))
    elif encoders == ("audio",):
        config = replace(config, clip=replace(config.clip, frames=1, stride=1))
    # The start's own classes, if it learnt some, are no matter here.
    separator = SEPARATOR if dataset.multilabel else None
    config = replace(config, data=replace(config.data, label_separator=separator))
    config = replace(
        config,
        seed=config.seed if seed is None else seed,
        finetune=replace(config.finetune, run=run, data=spec, encoders=encoders, shots=shots, changes=tuple(settings)),
    )
    fixed = any(text.partition("=")[0].strip() == "optim.base_lr" for text in settings)
    if fixed:
        config = replace(config, finetune=replace(config.finetune, rates=()))
    config = with_settings(config, settings)
    if fixed and len(config.finetune.rates) > 1:
        raise UsageError("optim.base_lr is set, and finetune.rates to choose it from", "set one of the two")
    tuned = config.finetune
    if tuned.audio_lr is not None and len(tuned.rates) > 1:
        raise UsageError("finetune.audio_lr is set, and optim.base_lr is searched for", "set optim.base_lr too")
    if len(tuned.rates) == 1:
        config = replace(config, optim=replace(config.optim, base_lr=tuned.rates[0]))
    free = {"video_weights": None, "audio_weights": None}  # what else of `model` may be set is how others are tuned
    tune = {"tune_encoders": config.model.tune_encoders, "encoder_lr": config.model.encoder_lr}
    if start.pretrained and config.model != replace(start.config.model, **free, **tune):  # type: ignore[arg-type]
        raise UsageError("the encoders of a run have their shape already", "leave out --set model...")
    if tuned.protocol not in FINETUNE_PROTOCOLS or tuned.encoders != encoders or tuned.freeze != freeze:
        raise UsageError("finetune.protocol, finetune.encoders and finetune.freeze have options of their own")
    config.check()
    return config


def choose_encoders(start: Start, dataset: DataSet, modality: str | None) -> tuple[str, ...]:
    """The encoders to finetune: those asked for, or those of what the run and the data both have."""
    there = tuple(start.modalities)
    if modality is not None:
        if modality not in STREAMS_OF:
            raise UsageError(f"there is no modality {modality!r}", f"choose one of {', '.join(STREAMS_OF)}")
        if not set(STREAMS_OF[modality]) <= set(there):
            raise UsageError(f"the run has no encoder of {modality!r}", f"it has: {' and '.join(there)}")
        return STREAMS_OF[modality]
    stream = _STREAM_OF.get(dataset.name)
    if stream is None and all(_is_sound(row["path"]) for row in dataset.rows):
        stream = "audio"
    found = tuple(name for name in there if stream in (None, name))
    if not found:
        raise UsageError(f"the data is of {stream} alone, and the run has no such encoder", f"it has: {there[0]}")
    return found


def _is_sound(path: str) -> bool:
    return extension_of(path) in AUDIO_EXTENSIONS
