"""One finetuning on one split: who trains, who is held out to choose the rate, and who is tested."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from seehear.config import Config
from seehear.data.clips import Video
from seehear.data.manifest import Manifest
from seehear.engine.runfolder import RunFolder
from seehear.errors import UsageError
from seehear.features.model import Model, usable_videos
from seehear.methods.finetune import Finetune
from seehear.methods.several import classes_in
from seehear.modalities import streams_of
from seehear.models.adapter import OnBackbone
from seehear.transfer.finetune_rates import few, hold_out, recordings
from seehear.transfer.split import Split, make_split


@dataclass
class Job:
    """One split: who trains, who is held out to choose the rate, and who is tested."""

    folder: RunFolder
    config: Config
    manifest: Manifest
    split: Split = field(init=False)
    """What may be known of the data before the test: no class of a test video."""
    classes: dict[str, str] = field(init=False)
    """The training videos' classes by id; with `finetune.shots` of so many of each class."""

    def __post_init__(self) -> None:
        self.split = make_split(self.manifest)
        self.classes = self.split.train
        if self.config.finetune.shots is not None and self.separator is not None:
            raise UsageError("shots are of one class a video, and these have several", "leave out --shots")
        if self.config.finetune.shots is not None:
            self.classes = few(self.split.train, self.config.finetune.shots, self.config.seed)

    @property
    def separator(self) -> str | None:
        """What parts the classes of a video, where it may have several."""
        return self.config.data.label_separator

    @property
    def class_names(self) -> list[str]:
        return sorted({name for text in self.classes.values() for name in classes_in(text, self.separator)})

    @property
    def modalities(self) -> dict[str, str]:
        return {name: name for name in self.config.finetune.encoders}

    def videos(self, ids: Iterable[str]) -> list[Video]:
        """These videos, in the manifest's order."""
        wanted = set(ids)
        return [v for v in usable_videos(self.manifest, streams_of(tuple(self.modalities))) if v.video_id in wanted]

    def held_out(self) -> list[str]:
        """The training videos on which learning rates are compared; none if there is nothing to choose."""
        settings = self.config.finetune
        if len(settings.rates) < 2:
            return []
        groups = recordings(self.manifest, self.classes)
        # Of several classes the first stands for a video: shares are about right for the common ones.
        first = {i: classes_in(text, self.separator)[0] for i, text in self.classes.items()}
        return hold_out(first, groups, settings.validation_share, self.config.seed)

    def at_rate(self, rates: Mapping[str, float], training_videos: int) -> Config:
        """The settings of a training at a rate for each encoder, an epoch being so many clips of each video."""
        config, first = self.config, next(iter(self.modalities))
        optim = replace(config.optim, base_lr=rates[first])
        if optim.clips_per_epoch is None:
            optim = replace(optim, clips_per_epoch=training_videos * config.finetune.clips_per_video)
        audio_lr = rates["audio"] if first != "audio" and "audio" in rates else None
        return replace(config, optim=optim, finetune=replace(config.finetune, audio_lr=audio_lr))

    def fixed_rates(self) -> dict[str, float]:
        """The rate of each encoder where nothing is chosen."""
        rates = dict.fromkeys(self.modalities, self.config.optim.base_lr)
        if self.config.finetune.audio_lr is not None:
            rates["audio"] = self.config.finetune.audio_lr
        return {name: rates[name] for name in self.modalities}

    def method(self, config: Config) -> Finetune:
        """The encoders as they start, with what they are to learn."""
        encoders = Model.load(self.folder.start).encoders if self.folder.start.exists() else None
        if encoders is None or not any(isinstance(e, OnBackbone) for e in encoders.values()):
            method = Finetune(config, self.modalities, self.class_names, self.classes)
            if encoders is not None:
                method.encoders.load_state_dict(encoders.state_dict())
            return method
        for encoder in encoders.values():
            if isinstance(encoder, OnBackbone):
                encoder.tune(config.model.tune_encoders)
        return Finetune(config, self.modalities, self.class_names, self.classes, lambda _: dict(encoders.items()))
