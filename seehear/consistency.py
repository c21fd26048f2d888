"""Which settings contradict each other, and what to do about it."""

from __future__ import annotations

from seehear.config import Config
from seehear.errors import UsageError


def check(config: Config) -> None:
    """Raise `UsageError` for settings that contradict each other."""
    _clips(config)
    _schedules(config)
    _methods(config)
    _finetuning(config)
    _encoders(config)
    _counts(config)
    _kinds(config)


def _clips(config: Config) -> None:
    clip, spectrogram = config.clip, config.spectrogram
    if clip.crop_px > clip.short_side_px:
        raise UsageError(
            f"clip.crop_px ({clip.crop_px}) is larger than clip.short_side_px ({clip.short_side_px})",
            "make the crop at most as large as the scaled frame",
        )
    if config.augment.short_side_range_px and config.augment.short_side_range_px[0] < clip.crop_px:
        raise UsageError("augment.short_side_range_px begins below clip.crop_px")
    if not 0 <= config.augment.drop_words <= 1:
        raise UsageError("augment.drop_words is from 0 to 1")
    if (spectrogram.mean is None) != (spectrogram.std is None) or (spectrogram.std or 1.0) <= 0:
        raise UsageError(
            "spectrogram.mean and spectrogram.std go together, and the second must be above 0",
            "set both, or none to have them measured",
        )
    needed = spectrogram.frames * spectrogram.hop_seconds
    deaf = spectrogram.kind == "waveform" or (config.method == "finetune" and "audio" not in config.finetune.encoders)
    if not deaf and needed > clip.audio_seconds + spectrogram.hop_seconds + 1e-9:
        raise UsageError(
            f"{spectrogram.frames} spectrogram frames of {spectrogram.hop_seconds} s need {needed:.2f} s of sound, "
            f"and clip.audio_seconds is {clip.audio_seconds}",
            "shorten spectrogram.frames or lengthen clip.audio_seconds",
        )


def _schedules(config: Config) -> None:
    if config.data.audio_track is not None and config.data.audio_track < 0:
        raise UsageError("data.audio_track is counted from 0")
    sample = config.data.sample
    if sample is not None and (sample <= 0 or (sample > 1 and sample != int(sample))):
        raise UsageError(
            f"data.sample is a share up to 1 or a whole number of videos, not {sample:g}",
            "data.sample=0.25 takes a quarter, data.sample=1000 a thousand videos",
        )
    if sample is not None and config.method == "finetune":
        raise UsageError("data.sample is of pretraining", "--shots N takes N training videos of each class")
    if not config.data.stream_gib > 0 or not config.data.stream_patience_seconds > 0:
        raise UsageError("data.stream_gib and data.stream_patience_seconds must be above 0")
    if not 0 <= config.data.validation_share < 1:
        raise UsageError("data.validation_share must be at least 0 and below 1")
    schedules = {"optim": config.optim, "last_round": config.last_round}
    if config.final is not None:
        schedules["final.optim"] = config.final.optim
    for name, optim in schedules.items():
        if optim is None:
            continue
        for leaf in ("batch_size", "epochs"):
            if getattr(optim, leaf) < 1:
                raise UsageError(f"{name}.{leaf} must be at least 1")
        if optim.nesterov and not optim.momentum:
            raise UsageError(f"{name}.nesterov needs {name}.momentum above 0")
        if optim.early_stop_rises and config.data.validation_share == 0:
            raise UsageError(
                f"{name}.early_stop_rises needs a validation part, and data.validation_share is 0",
                f"set data.validation_share=0.05 or {name}.early_stop_rises=0",
            )


def _methods(config: Config) -> None:
    if config.method in ("gdt", "avts", "rotation") and config.final is not None:
        raise UsageError(
            f"the final stage retrains the video encoder on pseudo-labels, and {config.method} has none",
            "leave out final, or take longer clips from the start: clip.frames",
        )
    model = config.model
    if min(model.text_words, model.text_length, model.text_dimensions, model.text_layers) < 1:
        raise UsageError("model.text_words, text_length, text_dimensions and text_layers must be at least 1")
    if model.text_width < 1 or (model.text == "transformer" and model.text_width % 32):
        raise UsageError("model.text_width must be at least 1, and of a transformer a multiple of 32")
    if config.gdt.temperature <= 0 or config.gdt.dimensions < 4:
        raise UsageError("gdt.temperature must be above 0 and gdt.dimensions at least 4")
    sync = config.avts
    if sync.margin <= 0 or sync.dimensions < 1 or sync.gap_seconds < 0:
        raise UsageError("avts.margin and avts.dimensions must be above 0, avts.gap_seconds at least 0")
    if not 0 <= sync.easy_share <= 1 or not 0 <= sync.hard_share <= 1:
        raise UsageError("avts.easy_share and avts.hard_share are from 0 to 1")
    labelling = config.selavi
    if labelling.heads < 1 or labelling.clusterings < 1:
        raise UsageError("selavi.heads and selavi.clusterings must be at least 1")
    if labelling.shares and (len(labelling.shares) != config.cluster.k or not min(labelling.shares) > 0):
        raise UsageError(
            f"selavi.shares are {len(labelling.shares)} numbers for {config.cluster.k} clusters",
            "give one positive number for each of cluster.k",
        )
    if not 0 <= labelling.follow < 1:
        raise UsageError("selavi.follow must be from 0 to below 1", "0.5 where kinds differ in number")
    if config.method == "selavi" and labelling.views < labelling.labelling_views and labelling.labels_from != "pass":
        raise UsageError(
            "with selavi.training_views=1 training has no second view of each clip to make labels from",
            "set selavi.labels_from=pass, or selavi.decorrelated=false",
        )
    if labelling.strength <= 0 or labelling.power <= 0 or labelling.tolerance <= 0:
        raise UsageError("selavi.strength, selavi.power and selavi.tolerance must be above 0")


def _encoders(config: Config) -> None:
    """Encoders of others, and what is kept of them."""
    model, augment = config.model, config.augment
    for stream in ("video", "audio"):
        if getattr(model, f"{stream}_encoder") and getattr(model, f"{stream}_weights"):
            raise UsageError(
                f"model.{stream}_weights are of our own encoder, and model.{stream}_encoder takes its place",
                "leave one of the two out",
            )
    if config.spectrogram.kind == "waveform" and (augment.time_mask_frames or augment.frequency_mask_bins):
        raise UsageError(
            "time and frequency masks are of spectrograms, and the audio encoder is given samples",
            "set augment.time_mask_frames=0 and augment.frequency_mask_bins=0",
        )
    given = bool(model.video_encoder or model.audio_encoder)
    if model.tune_encoders and not given and config.method != "finetune":
        raise UsageError("model.tune_encoders is of encoders of others", "name one: --video-encoder run:runs/a")
    if not model.encoder_lr > 0:
        raise UsageError("model.encoder_lr must be above 0", "without --tune-encoders nothing of them is trained")
    bank = config.bank
    if bank.moments < 1 or bank.augmentations < 1 or not bank.gib > 0:
        raise UsageError("bank.moments and bank.augmentations must be at least 1, bank.gib above 0")
    if given and config.final is not None:
        raise UsageError(
            "the final stage shows the video encoder longer clips, and encoders of others have a length of their own",
            "leave out final",
        )


def _kinds(config: Config) -> None:
    """Counting kinds, which takes sight and sound."""
    cluster = config.cluster
    if not cluster.auto:
        return
    one_modality = config.method == "selavi" and config.selavi.variant == "frames"
    if one_modality or config.method not in ("xdc", "sdc", "mdc", "cdc", "gdt", "avts", "selavi"):
        raise UsageError(
            f"{config.method} does not learn from both sight and sound, and kinds are what these agree on",
            "give a number: --clusters 12",
        )
    if cluster.k_video or cluster.k_audio or config.selavi.shares:
        raise UsageError(
            "cluster.auto finds the number of clusters and their shares",
            "leave cluster.k_video, cluster.k_audio and selavi.shares out, or cluster.auto",
        )


def _counts(config: Config) -> None:
    if config.threads is not None and config.threads < 1:
        raise UsageError("threads must be at least 1")
    if config.cluster.restarts < 1 or config.cluster.iterations < 1:
        raise UsageError("cluster.restarts and cluster.iterations must be at least 1")
    if config.process_timeout_seconds <= 0:
        raise UsageError("process_timeout_seconds must be above 0")
    for name, minimum in (("rounds", 1), ("keep_checkpoints", 1), ("log_steps", 1)):
        if getattr(config, name) < minimum:
            raise UsageError(f"{name} must be at least {minimum}")
    for name, value in (("clip.frames", config.clip.frames), ("clip.stride", config.clip.stride)):
        if value < 1:
            raise UsageError(f"{name} must be at least 1")
    for name in ("k", "k_video", "k_audio"):
        count = getattr(config.cluster, name)
        if count is not None and count < 2:
            raise UsageError(f"cluster.{name} must be at least 2", "one cluster would teach nothing")


def _finetuning(config: Config) -> None:
    finetune = config.finetune
    for name, count in (
        ("clips_per_video", finetune.clips_per_video),
        ("test_clips", finetune.test_clips),
        ("shots", finetune.shots),
    ):
        if count is not None and count < 1:
            raise UsageError(f"finetune.{name} must be at least 1")
    if finetune.test_crops not in (1, 3):
        raise UsageError("finetune.test_crops must be 1 or 3", "3 are the centre and the ends of the longer side")
    if not 0 < finetune.validation_share <= 0.5:
        raise UsageError("finetune.validation_share must be above 0 and at most 0.5")
    if not 0 <= finetune.dropout < 1:
        raise UsageError("finetune.dropout must be at least 0 and below 1")
    if any(rate is not None and rate <= 0 for rate in (*finetune.rates, finetune.audio_lr, finetune.classifier_lr)):
        raise UsageError("learning rates must be above 0")
