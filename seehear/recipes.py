"""Named whole configurations: small ones for a CPU and the rows of the papers' tables.

A recipe is a function without arguments that returns a `Config`; its docstring is what `seehear recipes`
shows. A method may change what a recipe leaves open, never what a paper's row fixes.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import replace
from typing import Annotated, Any

from tyro.conf import Positional, arg

from seehear.commands import aligned, command, plain
from seehear.config import (
    AugmentConfig,
    ClipConfig,
    ClusterConfig,
    Config,
    ContrastConfig,
    DataConfig,
    FinalConfig,
    LabellingConfig,
    ModelConfig,
    OptimConfig,
    SpectrogramConfig,
    SynchronisationConfig,
)
from seehear.errors import UsageError


def small() -> Config:
    """A small R(2+1)D and ResNet on short, small clips: minutes on two CPU cores for some hundred videos."""
    return Config(
        recipe="small",
        # Many short rounds: each modality's clusters correct the other's a little at a time.
        rounds=14,
        # Four frames over 0.9 s show motion at half the cost of eight; 17.5 starts a second to draw from.
        clip=ClipConfig(frames=4, frame_rate_hz=17.5, stride=4, short_side_px=72, crop_px=64),
        augment=AugmentConfig(independent_jitter=True),
        # Pooling after the stem halves the cost of the video encoder; a wider audio encoder costs little.
        model=ModelConfig(
            video="r2plus1d_10",
            video_width=16,
            video_stem_pool=True,
            audio="resnet9",
            audio_width=32,
            text_dimensions=64,
            text_width=128,
            text_layers=1,
        ),
        cluster=ClusterConfig(k=12, restarts=10, averaged_clips=3, max_span_seconds=30.0, calibrate_batchnorm="first"),
        # Small batches: on a few hundred clips their noise keeps encoders from learning labels by heart.
        optim=OptimConfig(
            base_lr=0.1,
            nesterov=True,
            weight_decay=1e-4,
            batch_size=16,
            epochs=10,
            schedule="one-cycle",
            warmup_epochs=3,
        ),
    )


def archive() -> Config:
    """`small` for a folder of which nothing is known: kinds are counted, and encoders kept from learning by heart."""
    base = _counting(small())
    return replace(
        base,
        recipe="archive",
        # After these nothing is learnt but what tells clips of one kind apart.
        rounds=10,
        # Few clips, many times, with labels that are partly wrong: without these, encoders know each clip in the end.
        augment=replace(
            base.augment, colour_jitter=0.4, volume_jitter=0.3, time_mask_frames=30, frequency_mask_bins=10
        ),
        optim=replace(base.optim, label_smoothing=0.1, least_clips_per_epoch=150),
    )


def archive_gdt() -> Config:
    """`small-gdt`, and kinds are counted."""
    return _counting(small_gdt())


def archive_selavi() -> Config:
    """`small-selavi`, and kinds are counted."""
    return _counting(small_selavi())


def archive_avts() -> Config:
    """`small-avts`, and kinds are counted."""
    return _counting(small_avts())


def _counting(base: Config) -> Config:
    return replace(base, cluster=replace(base.cluster, auto=True))


def frozen() -> Config:
    """On encoders of others that stay as they are (--video-encoder, --audio-encoder): a small adapter is learnt."""
    base = small()
    return replace(
        base,
        recipe="frozen",
        rounds=5,
        # Clips of all methods alike, so that the features which one had extracted serve the others.
        augment=AugmentConfig(independent_jitter=True, volume_jitter=0.1),
        cluster=replace(base.cluster, calibrate_batchnorm="never"),
        optim=replace(base.optim, base_lr=0.03, batch_size=64, epochs=20, warmup_epochs=2),
    )


def frozen_gdt() -> Config:
    """`frozen` for GDT: sight and sound of a clip agree; one long schedule."""
    base = frozen()
    return replace(
        base,
        recipe="frozen-gdt",
        method="gdt",
        rounds=1,
        # What needs no other views than the other methods have, such as clips backwards.
        gdt=ContrastConfig(hypotheses="e"),
        optim=replace(base.optim, base_lr=0.1, epochs=50),
    )


def frozen_selavi() -> Config:
    """`frozen` for SeLaVi: one long schedule, clusterings mostly in its first epochs."""
    base = frozen()
    return replace(
        base,
        recipe="frozen-selavi",
        method="selavi",
        rounds=1,
        optim=replace(base.optim, epochs=50),
        selavi=LabellingConfig(clusterings=40, tolerance=0.02, follow=0.5),
    )


def frozen_avts() -> Config:
    """`frozen` for AVTS: embeddings of unit length, hard negatives in the second half."""
    base = frozen()
    optim = replace(base.optim, epochs=50)
    return replace(
        base, recipe="frozen-avts", method="avts", rounds=1, optim=optim, avts=SynchronisationConfig(unit=True)
    )


def small_gdt() -> Config:
    """What `small` is for GDT: one second of sound, larger batches, one long schedule."""
    base = small()
    return replace(
        base,
        recipe="small-gdt",
        method="gdt",
        rounds=1,
        clip=replace(base.clip, audio_seconds=1.0),
        spectrogram=SpectrogramConfig(hop_seconds=0.01, window_seconds=0.025),
        augment=AugmentConfig(volume_jitter=0.1, time_mask_frames=6, frequency_mask_bins=3),
        optim=replace(base.optim, base_lr=0.1, batch_size=32, epochs=40, warmup_epochs=5),
    )


def small_gdt_text() -> Config:
    """`small-gdt` for frames and words: captions of a column, or subtitle files beside the videos."""
    return replace(small_gdt(), recipe="small-gdt-text", gdt=ContrastConfig(hypotheses="video-text"))


def small_selavi() -> Config:
    """What `small` is for SeLaVi: one second of sound, two views a clip, clusterings mostly in the first epochs."""
    base = small_gdt()
    return replace(
        base,
        recipe="small-selavi",
        method="selavi",
        augment=AugmentConfig(volume_jitter=0.1),
        # A clip is a fiftieth of a cluster: finer shares are lost in rounding. In a small collection no two kinds come
        # in the same number, and strict shares would tear one apart to fill up another.
        selavi=LabellingConfig(clusterings=40, tolerance=0.02, follow=0.5),
        optim=replace(base.optim, batch_size=16, epochs=70),
    )


def small_avts() -> Config:
    """What `small` is for AVTS: one second of sound, embeddings of unit length, hard negatives in the second half."""
    base = small_gdt()
    return replace(
        base,
        recipe="small-avts",
        method="avts",
        # Without it all distances of a small collection settle at half the margin, where nothing is learnt for long.
        avts=SynchronisationConfig(unit=True),
        optim=replace(base.optim, base_lr=0.05, batch_size=16, warmup_epochs=2),
    )


def small_rotation() -> Config:
    """What `small` is for rotation prediction: four turns of each clip, one schedule."""
    base = small()
    return replace(
        base, recipe="small-rotation", method="rotation", rounds=1, optim=replace(base.optim, batch_size=8, epochs=40)
    )


def _xdc(k: int, optim: OptimConfig, **changes: object) -> Config:
    """What all XDC pretrainings share (paper, section 4.1): 8 frames of 224 pixels at 30 a second, 2 s of sound."""
    config = Config(
        recipe="",
        rounds=6,
        clip=ClipConfig(),
        spectrogram=SpectrogramConfig(),
        model=ModelConfig(video="r2plus1d_18", audio="resnet18"),
        cluster=ClusterConfig(k=k),
        optim=optim,
        data=DataConfig(cache_gib=0.0),
    )
    return replace(config, **changes)  # type: ignore[arg-type]


_KINETICS = OptimConfig(
    clips_per_epoch=1_000_000, base_lr=0.01, warmup_epochs=10, step_epochs=10, epochs=30, weight_decay=1e-4,
    early_stop_rises=3,
)  # fmt: skip
_AUDIOSET = replace(_KINETICS, clips_per_epoch=2_000_000, epochs=45)
_IG = OptimConfig(
    clips_per_epoch=10_000_000, base_lr=0.01, warmup_epochs=1, step_epochs=3, epochs=10, weight_decay=1e-4
)


def xdc_kinetics() -> Config:
    """XDC on Kinetics: 1M clips an epoch, warm-up 10 of 30 epochs, early stop (supplement, table 10; k: table 2)."""
    return _xdc(128, _KINETICS)


def xdc_audioset() -> Config:
    """XDC on AudioSet: 2M clips an epoch, warm-up 10 of 45 epochs, early stop (supplement, table 10; k: table 2)."""
    return _xdc(256, _AUDIOSET)


def xdc_ig() -> Config:
    """XDC on IG-Kinetics or IG-Random: 10M clips an epoch, 10 epochs, the last round 30 (table 10; k 1024 is ours)."""
    return _xdc(1024, _IG, last_round=replace(_IG, warmup_epochs=0, step_epochs=9, epochs=30))


def xdc_final_32() -> Config:
    """XDC on Kinetics, then the video encoder retrained on the last clusters with 32-frame clips (paper, section 6)."""
    # 8 clips a step: the learning rate for 32 clips falls to the paper's 0.0025 by linear scaling.
    return _xdc(128, _KINETICS, final=FinalConfig(frames=32, optim=replace(_KINETICS, batch_size=8)))


def xdc_final_32_audioset() -> Config:
    """XDC on AudioSet, then the video encoder retrained on the last clusters with 32-frame clips (table 7)."""
    return _xdc(256, _AUDIOSET, final=FinalConfig(frames=32, optim=replace(_AUDIOSET, batch_size=8)))


def xdc_final_32_ig() -> Config:
    """XDC on IG-Kinetics or IG-Random, then the video encoder retrained with 32-frame clips (table 7)."""
    # Table 10 has no row for the retraining; it has the length of the last iteration on these data.
    base = xdc_ig()
    assert base.last_round is not None
    return replace(base, final=FinalConfig(frames=32, optim=replace(base.last_round, batch_size=8)))


def supervised_kinetics() -> Config:
    """Supervised pretraining on Kinetics: 45 epochs of 1M clips (supplement, table 10)."""
    return replace(_xdc(128, replace(_KINETICS, epochs=45, early_stop_rises=0)), method="supervised", rounds=1)


def supervised_audioset() -> Config:
    """Supervised pretraining on AudioSet: 45 epochs of 2M clips, learning rate 0.04 (supplement, table 10)."""
    optim = replace(_AUDIOSET, base_lr=0.04, step_epochs=20, weight_decay=1e-5, early_stop_rises=0)
    config = replace(_xdc(256, optim), method="supervised", rounds=1)
    # Its clips have several classes each, which `seehear.data.datasets` joins by this.
    return replace(config, data=replace(config.data, label_separator="|"))


def _gdt(epochs: int, warmup_epochs: float = 10.0) -> Config:
    """What all GDT pretrainings share (paper, appendices A.5 and A.6); the batch is 12 clips on each of 64 GPUs."""
    return Config(
        recipe="",
        method="gdt",
        rounds=1,
        clip=ClipConfig(
            frames=30, short_side_px=160, crop_px=112, audio_seconds=1.0, pixel_statistics="measured"
        ),
        spectrogram=SpectrogramConfig(mel_bins=257, frames=99, hop_seconds=0.01, window_seconds=0.025),
        augment=AugmentConfig(
            crop="centre", short_side_range_px=(128, 160), volume_jitter=0.1, time_mask_frames=6, frequency_mask_bins=3
        ),
        model=ModelConfig(video="r2plus1d_18", audio="resnet9"),
        # 0.01 for every 12 clips; the paper names no decay after the warm-up, which begins with the rate of one GPU.
        optim=OptimConfig(
            base_lr=0.01 * 32 / 12, batch_size=12, epochs=epochs, warmup_epochs=warmup_epochs, step_epochs=epochs,
            warmup_from_process=True, weight_decay=1e-5, sync_batchnorm="gpu",
        ),
        data=DataConfig(cache_gib=0.0),
    )  # fmt: skip


def gdt_kinetics() -> Config:
    """GDT on Kinetics-400: 200 epochs of 1-second clips of 112 pixels, row (l) of table 1 (appendix A.6)."""
    return _gdt(200)


def gdt_vggsound() -> Config:
    """GDT on VGG-Sound: 200 epochs (appendix A.6)."""
    return _gdt(200)


def gdt_audioset() -> Config:
    """GDT on AudioSet: 50 epochs (appendix A.6)."""
    return _gdt(50)


def gdt_ig65m() -> Config:
    """GDT on IG65M: 2 epochs (appendix A.6); a warm-up of a tenth of an epoch is ours."""
    return _gdt(2, warmup_epochs=0.1)


def avts_kinetics() -> Config:
    """AVTS on Kinetics-400 with R(2+1)D-18, as XDC's table 7 has it: 50 epochs of easy negatives, 40 with hard ones."""
    return Config(
        recipe="",
        method="avts",
        rounds=1,
        clip=ClipConfig(frames=25, frame_rate_hz=25.0, audio_seconds=1.0),
        spectrogram=SpectrogramConfig(mel_bins=40, frames=100, hop_seconds=0.01, window_seconds=0.02),
        model=ModelConfig(video="r2plus1d_18", audio="resnet18"),
        # 4 clips, two moments each, are the paper's 16 pairs a GPU. It lets the rate, found by search, fall to a tenth
        # when the loss stalls; here it falls at fixed times.
        optim=OptimConfig(
            base_lr=0.01, batch_size=4, epochs=90, warmup_epochs=0, step_epochs=30, gamma=0.1, weight_decay=1e-5
        ),
        avts=SynchronisationConfig(easy_share=50 / 90),
        data=DataConfig(cache_gib=0.0),
    )


def _selavi(k: int) -> Config:
    """What all SeLaVi trainings share (appendix A.2); the batch is 16 clips on each of 64 GPUs."""
    return Config(
        recipe="",
        method="selavi",
        rounds=1,
        clip=ClipConfig(frames=30, short_side_px=128, crop_px=112, audio_seconds=1.0, pixel_statistics="measured"),
        spectrogram=SpectrogramConfig(mel_bins=257, frames=199, hop_seconds=0.005, window_seconds=0.025),
        augment=AugmentConfig(volume_jitter=0.1),
        model=ModelConfig(video="r2plus1d_18", audio="resnet9"),
        cluster=ClusterConfig(k=k),
        # 0.01 for every 16 clips; the paper names no decay after the warm-up. It holds no videos out.
        optim=OptimConfig(
            base_lr=0.02,
            batch_size=16,
            epochs=200,
            warmup_epochs=10,
            warmup_from_process=True,
            step_epochs=200,
            weight_decay=1e-5,
            sync_batchnorm="gpu",
        ),
        # 100 clusterings with the first one, from a pass over all clips in two views; a step sees one (section 3.3).
        selavi=LabellingConfig(clusterings=99, labels_from="pass", training_views=1),
        data=DataConfig(cache_gib=0.0, validation_share=0.0),
    )


def selavi_vggsound() -> Config:
    """SeLaVi on VGG-Sound: 309 clusters, 200 epochs of 1-second clips of 112 pixels (appendix A.2)."""
    return _selavi(309)


def selavi_kinetics() -> Config:
    """SeLaVi on Kinetics-400: 400 clusters (appendix A.2)."""
    return _selavi(400)


def selavi_ave() -> Config:
    """SeLaVi on AVE: 28 clusters; give the encoders of a run on VGG-Sound as weights (appendix A.2)."""
    return _selavi(28)


def selavi_kinetics_sound() -> Config:
    """SeLaVi on Kinetics-Sound: 32 clusters; give the encoders of a run on VGG-Sound as weights (appendix A.2)."""
    # The paper speaks of 34 classes; 32 are in Kinetics-400 under a name of their own, and in the release.
    return _selavi(32)


def gdt_release() -> Config:
    """GDT as its released script trains it on Kinetics: row (e), its own sound, pixels and crops, detached keys."""
    paper = _gdt(200)
    return replace(
        paper,
        clip=replace(paper.clip, pixel_statistics="gdt"),
        spectrogram=_released_sound(40, 1.93, 17.89),
        augment=replace(paper.augment, crop="random", colour_jitter=0.4),
        gdt=replace(paper.gdt, hypotheses="e", detach_keys=True, dropout=0.3),
        optim=replace(paper.optim, base_lr=0.01 * 32 / 8, batch_size=8),  # on each of 16 GPUs
    )


def selavi_release() -> Config:
    """SeLaVi as its released code trains it on VGG-Sound: its own sound, pixels, crops, schedule and alignment."""
    paper = _selavi(309)
    return replace(
        paper,
        clip=replace(paper.clip, short_side_px=160, pixel_statistics="gdt"),
        spectrogram=_released_sound(257, 0.0, 1.0),
        augment=replace(paper.augment, short_side_range_px=(128, 160), colour_jitter=0.4),
        # The last of its 160 times lies behind the last step, and there is no clustering.
        selavi=replace(paper.selavi, clusterings=159, power=1.5, alignment="greedy", tolerance=0.1, dropout=0.3),
    )


def _released_sound(mel_bins: int, mean: float, std: float) -> SpectrogramConfig:
    """A second of sound as the code released with GDT and SeLaVi has it."""
    return SpectrogramConfig(
        kind="logfbank", mel_bins=mel_bins, frames=99, hop_seconds=0.01, window_seconds=0.02, n_fft=1024, mean=mean,
        std=std,
    )  # fmt: skip


RECIPES: dict[str, Callable[[], Config]] = {
    f.__name__.replace("_", "-"): f
    for f in (
        small, archive, archive_gdt, archive_selavi, archive_avts, frozen, frozen_gdt, frozen_selavi, frozen_avts,
        small_gdt, xdc_kinetics, xdc_audioset, xdc_ig, xdc_final_32, xdc_final_32_audioset, xdc_final_32_ig,
        supervised_kinetics, supervised_audioset, small_gdt_text,
        gdt_kinetics, gdt_audioset, gdt_vggsound, gdt_ig65m, small_selavi, selavi_vggsound, selavi_kinetics,
        selavi_ave, selavi_kinetics_sound, gdt_release, selavi_release, small_avts, avts_kinetics, small_rotation,
    )
}  # fmt: skip


def recipe(name: str, method: str | None = None) -> Config:
    """The configuration of that name, or its own form for a method if there is one (`small` is `small-gdt` for gdt).

    Raises `UsageError` with the likeliest names if there is none.
    """
    if f"{name}-{method}" in RECIPES:
        name = f"{name}-{method}"
    if name not in RECIPES:
        close = difflib.get_close_matches(name, RECIPES, n=3, cutoff=0.4)
        remedy = f"did you mean {' or '.join(close)}?" if close else f"there are {', '.join(RECIPES)}"
        raise UsageError(f"there is no recipe {name!r}", remedy)
    return replace(RECIPES[name](), recipe=name)


@command(
    "recipes", group="know", example="seehear recipes small", text=lambda found, given: _text(found, given["name"]),
    as_json=plain,
)  # fmt: skip
def show_recipes(
    name: Annotated[Positional[str | None], arg(metavar="[NAME]")] = None, *, settings: bool = False
) -> dict[str, Any]:
    """List the recipes, show one, or list every setting.

    Returns texts by name, or the settings of one recipe as a tree.

    Args:
        name: Show all settings of this recipe as YAML.
        settings: List every setting with its default and meaning.

    Raises:
        UsageError: there is no such recipe.
    """
    from seehear.settings import setting_docs, to_dict

    if name is not None:
        return to_dict(recipe(name))
    if settings:
        return dict(setting_docs())
    return {n: (f.__doc__ or "").strip() for n, f in RECIPES.items()}


def _text(found: dict[str, Any], name: str | None) -> str:
    if name is None:
        return aligned(found)
    import yaml

    return yaml.safe_dump(found, sort_keys=False).rstrip()
