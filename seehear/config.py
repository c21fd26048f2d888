"""Every setting of a run, with its unit, its default and its meaning.

A `Config` is a tree of frozen dataclasses. `recipes.py` names whole trees; a user changes single
fields with `--set section.field=value`. This module imports no torch, so that the command line
starts at once.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

KINETICS_MEAN = (0.43216, 0.394666, 0.37645)
KINETICS_STD = (0.22803, 0.22145, 0.216989)
PIXEL_STATISTICS = {
    "kinetics": (KINETICS_MEAN, KINETICS_STD),
    "gdt": ((0.45, 0.45, 0.45), (0.225, 0.225, 0.225)),
    "none": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
}
"""Mean and deviation of red, green and blue in [0, 1] by the name in `clip.pixel_statistics`."""


@dataclass(frozen=True)
class ClipConfig:
    """What one clip is: a window of frames and a window of sound that start together."""

    frames: int = 8
    """Frames in a clip."""
    frame_rate_hz: float = 30.0
    """Frames a second after resampling, whatever the source has; clips start on this grid."""
    stride: int = 1
    """A clip takes every n-th of these frames."""
    short_side_px: int = 256
    """Frames are scaled while decoding so that the shorter side has this many pixels."""
    crop_px: int = 224
    """Side of the square crop that the encoder sees (random in training, centre otherwise)."""
    audio_seconds: float = 2.0
    """Length of the sound window."""
    sample_rate_hz: int = 24000
    """Sound is mixed to mono and resampled to this rate."""
    pixel_statistics: Literal["kinetics", "measured", "gdt", "none"] = "kinetics"
    """Normalise pixels by the Kinetics mean and deviation (XDC), by those of the collection (the papers of GDT and
    SeLaVi), by .45 and .225 for every channel (gdt: the code released with both), or only to [0, 1]."""

    @property
    def seconds(self) -> float:
        """Time that a clip spans, in seconds: the longer of its frames and its sound."""
        return max(self.frames_seconds, self.audio_seconds)

    @property
    def frames_seconds(self) -> float:
        """Time that its frames span, in seconds."""
        return self.frames * self.stride / self.frame_rate_hz


@dataclass(frozen=True)
class SpectrogramConfig:
    """Log-mel spectrogram: natural logarithm of mel power, normalised by the collection's mean and deviation."""

    kind: Literal["logmel", "logfbank", "waveform"] = "logmel"
    """logmel: centred Hann windows and Slaney's mel filters. logfbank: exactly what the package
    python_speech_features computes, which GDT and SeLaVi were released with (there with hop_seconds=0.01,
    window_seconds=0.02). waveform: none, the samples themselves, for `model.audio_encoder`, which has its own."""
    mel_bins: int = 40
    """Mel filters (Q in the XDC paper)."""
    frames: int = 100
    """Time frames (P in the XDC paper)."""
    hop_seconds: float = 0.02
    """Step between two frames."""
    window_seconds: float = 0.04
    """Length of the window: Hann's, or for logfbank a rectangle."""
    n_fft: int | None = None
    """Points of the Fourier transform; by default the fewest that leave no mel filter empty, for logfbank 1024."""
    f_min_hz: float = 0.0
    """Lowest frequency of the filters."""
    f_max_hz: float | None = None
    """Highest frequency of the filters; half the sample rate by default."""
    log_offset: float = 1e-6
    """Added to the power before the logarithm (logmel alone)."""
    mean: float | None = None
    """Subtracted from the logarithms; by default the collection's mean, measured (GDT's release: 1.93)."""
    std: float | None = None
    """What they are divided by then; by default the collection's deviation (GDT's release: 17.89)."""


@dataclass(frozen=True)
class AugmentConfig:
    """What is drawn anew each time that a training clip is used."""

    temporal_jitter: bool = True
    """Start the clip anywhere in the span that its pseudo-label stands for; otherwise in the middle."""
    independent_jitter: bool = False
    """Draw the start of the sound apart from that of the frames: what a span sounds like need not be in step
    with what is seen of it. Otherwise both start together."""
    crop: Literal["random", "centre"] = "random"
    """Where the crop is in training (GDT's paper: centre; its release and SeLaVi: random)."""
    flip_probability: float = 0.5
    """Chance of mirroring all frames of a clip."""
    short_side_range_px: tuple[int, int] | None = None
    """Scale the frames so that the shorter side is drawn from this range before the crop (GDT: 128 to 160)."""
    colour_jitter: float = 0.0
    """Brightness, contrast and saturation factors drawn from 1 ± this, the same for all frames of a clip."""
    volume_jitter: float = 0.0
    """Volume factor drawn from 1 ± this (GDT and SeLaVi: 0.1)."""
    time_mask_frames: int = 0
    """One time mask of fewer than this many spectrogram frames, filled with the mean (GDT: 6)."""
    frequency_mask_bins: int = 0
    """One frequency mask of fewer than this many mel bins, filled with the mean (GDT: 3)."""
    drop_words: float = 0.0
    """Chance of leaving out each word of a text, drawn for each text from 0 to this (random deletion, Wei and Zou)."""


@dataclass(frozen=True)
class ModelConfig:
    """The encoders."""

    video: str = "r2plus1d_18"
    """Video encoder: r2plus1d_18, r3d_18, mc3_18 or a small member of these families (r2plus1d_10 ...)."""
    video_width: int = 64
    """Channels of the video encoder's first stage (features have 8 times as many)."""
    video_stem_stride: int = 2
    """Spatial stride of the stem's first convolution; 4 makes small encoders twice as fast."""
    video_stem_pool: bool = False
    """Halve the resolution once more after the stem by max-pooling: another cheap option for small encoders."""
    video_mid_planes: Literal["block", "convolution"] = "block"
    """How R(2+1)D chooses its middle channels: per block (torchvision) or per convolution (the XDC release)."""
    audio: str = "resnet18"
    """Audio encoder: resnet18 or resnet9."""
    audio_width: int = 64
    """Channels of the audio encoder's first stage (features have 8 times as many)."""
    bn_eps: float = 1e-5
    """Epsilon of batch normalisation (the XDC release needs 1e-3)."""
    audio_bn_eps: float | None = None
    """That of the audio encoder, if not `bn_eps`."""
    bn_momentum: float = 0.1
    """Momentum of batch normalisation's running statistics."""
    video_weights: str | None = None
    """File of published or own weights to start the video encoder from."""
    audio_weights: str | None = None
    """File of published or own weights to start the audio encoder from."""
    video_encoder: str | None = None
    """An encoder of others in the place of `video`, as KIND:PLACE (`run:runs/a`); a small adapter is learnt on top."""
    audio_encoder: str | None = None
    """The same for sound, in the place of `audio`."""
    tune_encoders: bool = False
    """Train encoders of others too. Otherwise they stay as they are, and their features are extracted once (`bank`)."""
    encoder_lr: float = 0.1
    """Learning rate of encoders of others that are trained, as a multiple of that of all else."""
    text: Literal["mlp", "transformer"] = "mlp"
    """Text encoder: a layer over each word's embedding and the maximum over words (Miech et al.), or a transformer,
    which sees their order."""
    text_words: int = 20_000
    """Words that are known at most, the most frequent of the training texts; a run notes how many there are."""
    text_length: int = 32
    """Words of a text that are read; later ones are not."""
    text_dimensions: int = 300
    """Length of a word's embedding."""
    text_width: int = 2048
    """Length of the text encoder's feature."""
    text_layers: int = 2
    """Blocks of the transformer."""
    text_vectors: str | None = None
    """File of word vectors to start embeddings from, in the text form of GloVe and word2vec."""
    text_fixed: bool = False
    """Leave the word embeddings as they are (Miech et al., with vectors of word2vec)."""
    execution: Literal["auto", "plain", "fast"] = "auto"
    """What runs the encoders: plain (modules), fast (2-D convolutions, channels by eights); auto: by device."""


@dataclass(frozen=True)
class ClusterConfig:
    """k-means on the features of every clip, once a round."""

    k: int = 64
    """Clusters. With `auto` what is given does not count: a run begins with a number that suits its clips."""
    auto: bool = False
    """Find the number of kinds from the data, without labels: measured when a round begins, and for the labels at the
    end (`seehear.cluster.kinds`)."""
    k_video: int | None = None
    """Clusters of the video features, if not `k`."""
    k_audio: int | None = None
    """Clusters of the audio features, if not `k`."""
    l2: bool = True
    """Scale features to unit length before clustering (after PCA)."""
    pca_dim: int | None = None
    """Reduce features to this many dimensions first (DeepCluster: 256)."""
    whiten: bool = False
    """Give the PCA dimensions unit variance (DeepCluster: true)."""
    init: Literal["k-means++", "random"] = "k-means++"
    """How the first centroids are drawn."""
    iterations: int = 20
    """Lloyd iterations at most."""
    restarts: int = 1
    """Runs from different draws; the best objective is kept."""
    clips_per_video: int = 1
    """Equal spans into which each video is cut; each is clustered and labelled as one."""
    averaged_clips: int = 1
    """Features that are clustered are means over so many evenly spaced clips of a span."""
    max_span_seconds: float = 60.0
    """A longer video is cut into more spans, so that no pseudo-label stands for more than this."""
    calibrate_batchnorm: Literal["never", "first", "always"] = "never"
    """Measure batch normalisation's statistics on the collection before features are extracted: in no round, in
    the first (an untrained network's running statistics are not those of its activations) or in each."""
    uniform_sampling: bool = False
    """Draw training clips uniformly over clusters instead of over clips (DeepCluster)."""


@dataclass(frozen=True)
class OptimConfig:
    """SGD and its schedule within one round (XDC supplement, tables 9 and 10)."""

    base_lr: float = 0.01
    """Learning rate for 32 clips a step; scaled linearly with the number of clips a step over all processes."""
    algorithm: Literal["sgd", "adam"] = "sgd"
    """sgd, or adam with `momentum` as the first of its betas (finetuning on VGG-Sound as in GDT)."""
    momentum: float = 0.9
    """SGD momentum."""
    nesterov: bool = False
    """Nesterov's variant of momentum."""
    weight_decay: float = 1e-4
    """SGD weight decay."""
    batch_size: int = 32
    """Clips a step and process."""
    epochs: int = 30
    """Epochs a round (te)."""
    clips_per_epoch: int | None = None
    """Clips in an epoch (es); by default each training clip once."""
    least_clips_per_epoch: int = 0
    """Where there are fewer training clips each comes several times in an epoch, unless `clips_per_epoch` is set."""
    schedule: Literal["step", "one-cycle"] = "step"
    """step: warm-up, then times `gamma` every `step_epochs`. one-cycle: cosine up over `warmup_epochs`, cosine down."""
    warmup_epochs: float = 10.0
    """Epochs over which the learning rate rises (we)."""
    warmup_start: float = 0.0
    """step: the share of the rate with which the warm-up begins (finetuning as in GDT: 1/8)."""
    warmup_from_process: bool = False
    """step: begin the warm-up with the rate that one process's batch has by itself, if that is more (Goyal et al.;
    GDT and SeLaVi: 0.01 a GPU, whatever their number)."""
    step_epochs: float = 10.0
    """Epochs between two decays, counted from the end of the warm-up (se)."""
    gamma: float = 0.01
    """Factor of one decay."""
    early_stop_rises: int = 0
    """End the round when the pseudo-label validation loss has risen this many epochs running (XDC: 3); 0: never."""
    label_smoothing: float = 0.0
    """Label smoothing of the cross-entropy."""
    clip_gradient_norm: float | None = None
    """Scale gradients down to this norm."""
    sync_batchnorm: Literal["never", "gpu", "always"] = "never"
    """With several processes: batch normalisation over the clips of all, instead of each process's own. gpu: where they
    run on GPUs. always: on CPUs too, where it takes long, and by one process alike; for comparisons."""

    def clips_an_epoch(self, clips: int) -> int:
        """How many clips an epoch has where there are so many training clips."""
        return self.clips_per_epoch or max(clips, self.least_clips_per_epoch)


@dataclass(frozen=True)
class FinalConfig:
    """Retraining of the video encoder on the last assignment with longer clips (XDC paper, section 6)."""

    frames: int = 32
    """Frames in a clip."""
    optim: OptimConfig = field(default_factory=lambda: OptimConfig(batch_size=8))
    """Its own schedule; 8 clips a step make the learning rate a quarter, as in the paper."""
    from_scratch: bool = False
    """Start the video encoder anew instead of carrying its weights over."""


@dataclass(frozen=True)
class ContrastConfig:
    """GDT: what is compared, and in which space."""

    hypotheses: str = "l"
    """The specification: a name that `seehear hypotheses` lists, or factor=hypothesis, ... (paper: row l)."""
    temperature: float = 0.07
    """Similarities are divided by this (the paper's 1/0.07 multiplies them)."""
    dimensions: int = 256
    """Of the space in which transformations are compared."""
    dropout: float = 0.0
    """Before each linear layer of the heads (0.3 in the published code, none in the paper)."""
    detach_keys: bool = False
    """Gradients reach a transformation as the one that is compared (query) alone, not as what it is compared with
    (key), as in the published code. They are about half as large, so that optim.base_lr means half of what it does
    without."""


@dataclass(frozen=True)
class SynchronisationConfig:
    """AVTS: which pairs of frames and sound are told apart, and when."""

    margin: float = 0.99
    """Distance beyond which a pair out of sync costs nothing (eta of the paper)."""
    dimensions: int = 128
    """Of the space in which frames and sound are compared."""
    unit: bool = False
    """Scale what is compared to unit length, so that distances are from 0 to 2 (ours)."""
    easy_share: float = 0.5
    """Share of a round's epochs, from the first, in which all pairs out of sync are of different clips."""
    hard_share: float = 0.25
    """In the epochs after these, the share of pairs out of sync that are of one clip at different times."""
    gap_seconds: float = 0.5
    """Time at least between the windows of two moments of a clip."""


@dataclass(frozen=True)
class LabellingConfig:
    """SeLaVi: labels by optimal transport; the number of clusters K is `cluster.k`."""

    variant: Literal["multimodal", "frames", "concatenation"] = "multimodal"
    """What is clustered: either modality as a view of the clip; frames alone (SeLa; table 3, a); both features
    joined (table 3, b)."""
    heads: int = 10
    """Clustering functions that are learnt side by side; labels are those of the first."""
    marginals: Literal["gaussian", "uniform", "zipf"] = "gaussian"
    """How large clusters may be: drawn from N(1, 0.1) N/K, all alike, or as 1, 1/2, 1/3 ..."""
    shares: tuple[float, ...] = ()
    """The clusters' shares, K positive numbers in any order and of any sum, in place of `marginals`."""
    follow: float = 0.0
    """How far the marginals follow the shares that the clusters take by themselves, from 0 (paper) to below 1: where
    kinds differ in number, equal shares tear the common ones apart. A cluster is asked for at least 1 - follow of its
    own marginal, so that none can vanish."""
    alignment: Literal["hungarian", "greedy", "none"] = "hungarian"
    """How the audio heads are matched to the video heads before the first clustering (paper: greedy)."""
    decorrelated: bool = True
    """Two augmentations of each clip; at a clustering a random half of the heads sees the first, the others the
    second."""
    training_views: Literal[1, 2] = 2
    """How many of the two a step of training sees (paper: 1, the two are drawn for clusterings; needs
    labels_from=pass)."""
    strength: float = 20.0
    """Lambda of Eq. 3: the larger, the nearer to unregularised transport."""
    clusterings: int = 100
    """M: clusterings after the first one, at E (j/M)^power epochs of E (paper: 99, 100 in all)."""
    power: float = 2.0
    """Of the schedule of clusterings; 2 makes most of them early."""
    tolerance: float = 1e-3
    """Sinkhorn's iterations end when no cluster's share is farther from its marginal than this, relatively."""
    labels_from: Literal["training", "pass"] = "training"
    """Features that are clustered: the latest that training made of each clip, or a pass over all clips each time.
    With several processes it is always a pass."""
    dropout: float = 0.0
    """Before each linear layer of the heads (0.3 in the published code, none in the paper)."""

    @property
    def sources(self) -> tuple[str, ...]:
        """What has its own heads: encoders by name, or `video+audio` for the two joined."""
        by_variant = {"multimodal": ("video", "audio"), "frames": ("video",), "concatenation": ("video+audio",)}
        return by_variant[self.variant]

    @property
    def encoders(self) -> tuple[str, ...]:
        """The encoders that are learnt."""
        return ("video",) if self.variant == "frames" else ("video", "audio")

    @property
    def labelling_views(self) -> int:
        """Augmentations of each clip that a clustering sees; one head has no half."""
        return 2 if self.decorrelated and self.heads > 1 else 1

    @property
    def views(self) -> int:
        """Augmentations of each clip that a step of training sees."""
        return min(self.labelling_views, self.training_views)


@dataclass(frozen=True)
class FinetuneConfig:
    """Finetuning: what `seehear finetune` learns, from which encoders, and how its learning rate is chosen."""

    protocol: str = "small"
    """The protocol that this started from: small, xdc, gdt, gdt-release, gdt-vggsound or selavi."""
    run: str = ""
    """The run whose encoders are the start; untrained:RECIPE or untrained:RUN for new ones of that shape."""
    data: str = ""
    """The labelled data."""
    split: str = "1"
    """The split of the data that is trained and tested on."""
    encoders: tuple[str, ...] = ("video", "audio")
    """The encoders that are finetuned, each with a classifier of its own."""
    freeze: bool = False
    """Learn the classifier alone; the encoder stays as it is, its running statistics too (XDC: fc-only)."""
    rates: tuple[float, ...] = ()
    """Values of optim.base_lr to choose from; with one or none nothing is chosen."""
    validation_share: float = 0.2
    """Share of the training split held out to choose the learning rate; the final training has it back."""
    audio_lr: float | None = None
    """Learning rate of the audio encoder for 32 clips a step, if not optim.base_lr."""
    classifier_lr: float | None = None
    """Learning rate of the classifiers for 32 clips a step, if not that of their encoder."""
    dropout: float = 0.0
    """Before the classifier (none in the papers)."""
    clips_per_video: int = 1
    """Clips of each training video in an epoch, unless optim.clips_per_epoch is set."""
    test_clips: int = 10
    """Evenly spaced clips of a video whose class probabilities are averaged."""
    test_crops: int = 1
    """Crops of each of these clips: the centre, or 3 for both ends of the longer side too (GDT's release)."""
    shots: int | None = None
    """Use so many training videos of each class; by default all."""
    changes: tuple[str, ...] = ()
    """What --set changed."""


@dataclass(frozen=True)
class BankConfig:
    """What is kept of every span of video by an encoder of others that stays as it is."""

    moments: int = 4
    """Moments of a span at which clips begin, spread evenly; training draws from them."""
    augmentations: int = 2
    """Augmented views of the clip at each moment, in each direction, speed and rotation that the method asks for."""
    gib: float = 8.0
    """Features of all encoders kept on disk; those that were not used for longest go first."""


@dataclass(frozen=True)
class DataConfig:
    """Which videos are used and how they reach the encoders."""

    where: tuple[str, ...] = ()
    """Keep the rows of the manifest where column=value, e.g. split=train."""
    sample: float | None = None
    """Learn from a random part of the usable videos, drawn by the seed and their content: up to 1 a share of them,
    above it their number; by default all. A smaller part of a seed lies within a larger one."""
    label_column: str = "label"
    """Column with the classes, for `--method supervised` alone."""
    label_separator: str | None = None
    """What stands between the classes of a video that has several (AudioSet as `seehear` reads it: "|"). Each class is
    then learnt by itself; by default a video has one class."""
    text_column: str | None = None
    """Column with the captions, for text; by default subtitle files (.vtt, .srt) beside the videos are read."""
    subtitle_language: str | None = None
    """Read the subtitle files of this language: en for a.en.vtt beside a.mp4."""
    audio_track: int | None = None
    """Sound track of every file, counted from 0; by default the default one, unless it is silent and another is not."""
    validation_share: float = 0.05
    """Share of the videos held out to measure the pseudo-label validation loss."""
    workers: int | None = None
    """Decoding processes; one a core by default; 0 decodes in the training process."""
    decoder: Literal["pyav", "torchcodec", "auto"] = "pyav"
    """What decodes the frames; auto takes torchcodec where it can be imported, else PyAV. Both give the same."""
    decode_timeout_seconds: float = 60.0
    """A decode that takes longer is given up and costs that video, not the run."""
    max_failed_share: float = 0.2
    """Stop when more than this share of the videos cannot be decoded."""
    cache_gib: float = 8.0
    """Decoded media kept on disk between epochs and runs; 0 decodes anew each time."""
    cache_folder: str | None = None
    """Where it is kept; by default seehear/media in the user's cache folder. Features of encoders (`bank`) lie within,
    by default in seehear/banks."""
    stream_gib: float = 16.0
    """Copies from a server kept on disk: those used last (in the folder `streamed` beside the decoded media)."""
    stream_patience_seconds: float = 60.0
    """A server that gives nothing is asked again for so long; then the copy counts as one that cannot be decoded."""
    min_seconds: float | None = None
    """Videos shorter than this are not used; by default the length of a clip."""


@dataclass(frozen=True)
class Config:
    """A whole run."""

    method: str = "xdc"
    """What is learnt; `seehear methods` lists them."""
    recipe: str = "small"
    """The recipe that this started from."""
    seed: int = 0
    """Seed of every random choice."""
    rounds: int = 6
    """Deep-clustering iterations: features, clusters, training."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """auto: bfloat16 autocast on a GPU that has it, float32 elsewhere."""
    compile: Literal["auto", True, False] = "auto"
    """torch.compile full training batches of the encoders; auto: of big ones on a GPU."""
    threads: int | None = None
    """CPU threads of a process; PyTorch's own choice by default. Another number can change the last bits."""
    process_timeout_seconds: float = 1800.0
    """With several processes: how long one waits for another that lives and does not move, before all end."""
    checkpoint_minutes: float = 5.0
    """Save the state this often within a round, besides its beginning and its end."""
    keep_checkpoints: int = 2
    """Saved states kept."""
    log_steps: int = 10
    """Steps between two lines of metrics."""
    clip: ClipConfig = field(default_factory=ClipConfig)
    spectrogram: SpectrogramConfig = field(default_factory=SpectrogramConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    cluster: ClusterConfig = field(default_factory=ClusterConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    last_round: OptimConfig | None = None
    """Another schedule for the last round (XDC on the IG sets trains it three times longer)."""
    final: FinalConfig | None = None
    """Retraining with longer clips after the last round."""
    gdt: ContrastConfig = field(default_factory=ContrastConfig)
    selavi: LabellingConfig = field(default_factory=LabellingConfig)
    avts: SynchronisationConfig = field(default_factory=SynchronisationConfig)
    finetune: FinetuneConfig = field(default_factory=FinetuneConfig)
    bank: BankConfig = field(default_factory=BankConfig)
    data: DataConfig = field(default_factory=DataConfig)

    def check(self) -> None:
        """Raise `UsageError` for settings that contradict each other."""
        from seehear.consistency import check  # it knows this module

        check(self)
