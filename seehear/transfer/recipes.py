"""Named configurations of finetuning: a small one, and those of the papers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from seehear.config import (
    ClipConfig,
    ClusterConfig,
    Config,
    FinetuneConfig,
    OptimConfig,
)
from seehear.errors import UsageError

WHOLE_VIDEO_SECONDS = 1e9
_XDC_RATES = (0.001, 0.002, 0.004, 0.006, 0.008, 0.01)
_XDC_EPOCH_CLIPS = {"hmdb51": 40_000, "ucf101": 106_000, "esc50": 20_000}


def _finetuning(config: Config, optim: OptimConfig, settings: FinetuneConfig, clip: ClipConfig | None = None) -> Config:
    """What all finetunings share: the run's own clips, augmentation and model, and each video as one span."""
    return replace(
        config,
        method="finetune",
        rounds=1,
        last_round=None,
        final=None,
        clip=clip or config.clip,
        # However the run was pretrained: finetuning crops at random in all papers.
        augment=replace(config.augment, crop="random"),
        model=replace(config.model, video_weights=None, audio_weights=None),
        cluster=ClusterConfig(max_span_seconds=WHOLE_VIDEO_SECONDS),
        optim=optim,
        # None is held out: what chooses the learning rate holds its own videos out.
        data=replace(config.data, where=(), sample=None, validation_share=0.0, min_seconds=None),
        finetune=settings,
    )


def finetune_small(config: Config, freeze: bool = False, data: str = "") -> Config:
    """For small encoders on a CPU: 20 epochs of each video once, one cycle of the learning rate (ours)."""
    optim = OptimConfig(
        nesterov=True, weight_decay=5e-4, batch_size=16, epochs=20, schedule="one-cycle", warmup_epochs=3
    )
    rates = (0.1, 0.3, 1.0) if freeze else (0.01, 0.03, 0.1)
    return _finetuning(config, optim, FinetuneConfig(protocol="small", rates=rates))


def finetune_xdc(config: Config, freeze: bool = False, data: str = "") -> Config:
    """XDC, tables 11 and 12: 8 epochs, of the set's own number of clips, and the rates to choose from."""
    optim = OptimConfig(
        # 8 clips a step make the rate a quarter, as the paper does for 32 frames.
        batch_size=8 if config.clip.frames >= 32 else 32,
        epochs=8, warmup_epochs=2, step_epochs=2, gamma=0.01, weight_decay=0.005,
        clips_per_epoch=_XDC_EPOCH_CLIPS.get(data),
    )  # fmt: skip
    rates = (*_XDC_RATES, 0.02, 0.04) if freeze else _XDC_RATES
    # 11 clips of a video are what table 11 comes to on UCF101 and HMDB51.
    return _finetuning(config, optim, FinetuneConfig(protocol="xdc", rates=rates, clips_per_video=11))


def finetune_gdt(config: Config, freeze: bool = False, data: str = "") -> Config:
    """GDT, appendix A.10: 32 frames, 12 epochs of 10 clips of each video, 0.02 after a warm-up from 0.0025."""
    optim = OptimConfig(
        base_lr=0.02, batch_size=32, epochs=12, warmup_epochs=2, warmup_start=0.125, step_epochs=4, gamma=0.05,
        weight_decay=5e-3,
    )  # fmt: skip
    clip = replace(config.clip, frames=32, stride=1)
    return _finetuning(config, optim, FinetuneConfig(protocol="gdt", clips_per_video=10), clip)


def finetune_gdt_release(config: Config, freeze: bool = False, data: str = "") -> Config:
    """GDT's released code: a tenth of the classifier's rate for the encoder, colour jitter, 128 pixels, three crops."""
    tuned = finetune_gdt(config, freeze, data)
    return replace(
        tuned,
        clip=replace(tuned.clip, short_side_px=128, crop_px=128),
        # Its crops of random sizes in training are not offered, nor its choice of the best epoch on the test split.
        augment=replace(tuned.augment, crop="random", short_side_range_px=(128, 160), colour_jitter=0.4),
        optim=replace(tuned.optim, base_lr=0.002),
        finetune=replace(tuned.finetune, protocol="gdt-release", classifier_lr=0.02, clips_per_video=1, test_crops=3),
    )


def finetune_gdt_vggsound(config: Config, freeze: bool = False, data: str = "") -> Config:
    """GDT on VGG-Sound, appendix A.10: sound alone, Adam, 1e-4 and for the classifier 1e-3 at 128 clips a step."""
    optim = OptimConfig(
        # For 32 clips. The paper says that the rate drops at 10 and 20 epochs; that it does so to a tenth is ours.
        algorithm="adam", base_lr=1e-4 / 4, batch_size=128, epochs=30, warmup_epochs=0, step_epochs=10, gamma=0.1,
        weight_decay=1e-5,
    )  # fmt: skip
    return _finetuning(config, optim, FinetuneConfig(protocol="gdt-vggsound", classifier_lr=1e-3 / 4))


def finetune_selavi(config: Config, freeze: bool = False, data: str = "") -> Config:
    """SeLaVi, appendix A.8: the schedule of GDT."""
    tuned = finetune_gdt(config, freeze, data)
    return replace(tuned, finetune=replace(tuned.finetune, protocol="selavi"))


FINETUNE_PROTOCOLS: dict[str, Callable[[Config, bool, str], Config]] = {
    f.__name__.removeprefix("finetune_").replace("_", "-"): f
    for f in (
        finetune_small,
        finetune_xdc,
        finetune_gdt,
        finetune_gdt_release,
        finetune_gdt_vggsound,
        finetune_selavi,
    )
}
"""From a run's configuration, whether encoders are frozen, and the data set's name to that of a finetuning."""


def finetune_recipe(config: Config, protocol: str | None = None, freeze: bool = False, data: str = "") -> Config:
    """The configuration of a finetuning of the run with `config`, by one of `FINETUNE_PROTOCOLS`.

    Without a name it is `small` for a run of a small recipe or of `archive`, else that of the run's method, `xdc` for
    all of the deep-clustering family. `freeze` learns the classifier alone; `data` is the data set's name. Raises
    `UsageError` for another name.
    """
    if protocol is None:
        of_method = config.method if config.method in FINETUNE_PROTOCOLS else "xdc"
        protocol = "small" if config.recipe.startswith(("small", "archive")) else of_method
    if protocol not in FINETUNE_PROTOCOLS:
        there = ", ".join(FINETUNE_PROTOCOLS)
        raise UsageError(f"there is no protocol {protocol!r} of finetuning", f"there are {there}")
    tuned = FINETUNE_PROTOCOLS[protocol](config, freeze, data)
    return replace(tuned, finetune=replace(tuned.finetune, freeze=freeze))
