"""Import of published weights, checked key by key.

Four published layouts are recognised by their keys, and our own: see `LAYOUTS`. No file is trusted: pickles
are read with `weights_only=True`, a checksum in the file name is verified, and a load is all or nothing.
"""

from __future__ import annotations

import os
import re
from argparse import Namespace
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from seehear.errors import DataError
from seehear.hashes import check_hashes
from seehear.models import audio_encoder_name, video_encoder_name
from seehear.models.audio import AudioEncoder
from seehear.models.inflated import inflated_state, is_image_network
from seehear.models.video import Family, MidPlanes, VideoEncoder, mid_channels
from seehear.models.weight_files import read_weight_file, verified_sha256

Modality = Literal["video", "audio"]


@dataclass(frozen=True)
class Preprocessing:
    """How the clips were made that a published encoder was trained on. `None`: does not apply.

    Features of clips made otherwise are worse without any error.
    """

    clip_frames: tuple[int, ...]  # the clip lengths that were used
    frame_rate_hz: float
    short_side_pixels: tuple[int, int]  # smallest and largest in training
    crop_pixels: int
    pixel_statistics: Literal["kinetics", "gdt", "none"]  # the normalisation, as in `clip.pixel_statistics`
    test_short_side_pixels: int  # when features were made
    stride: int = 1  # every so many frames are taken
    audio_seconds: float | None = None
    spectrogram_kind: Literal["logmel", "logfbank"] | None = None
    mel_bins: int | None = None
    spectrogram_frames: tuple[int, ...] | None = None  # what the release has comes first, then what the paper says
    hop_seconds: tuple[float, ...] | None = None  # one for each of `spectrogram_frames`
    spectrogram_mean: float = 0.0
    spectrogram_std: float = 1.0
    sample_rate_hz: int = 24000


Z_NORMALISATION = (1.93, 17.89)
"""Mean and deviation that the releases of GDT and SeLaVi have for spectrograms, where they normalise them."""


@dataclass(frozen=True)
class Layout:
    """One way of laying out a checkpoint.

    Attributes:
        name: what it is called in reports and errors.
        prefixes: modality to the prefix of its encoder's keys.
        unused: a pattern of whole keys that are documented and that no encoder takes (classifiers, heads).
        entries: documented entries of the file beside the tensors (epoch, optimizer, ...).
        bn_eps: of the batch norms in training; `None` where the run's config says it.
        preprocessing: of the training clips; `None` where the run's config says it.
    """

    name: str
    prefixes: Mapping[Modality, str]
    unused: str
    entries: frozenset[str] = frozenset()
    bn_eps: float | None = 1e-5
    preprocessing: Preprocessing | None = None


_CLASSIFIER = r"fc\.(weight|bias)"
_MODEL_PREFIXES: dict[Modality, str] = {"video": "video_network.base.", "audio": "audio_network.base."}

XDC = Layout(
    "XDC",
    {"video": ""},
    unused=_CLASSIFIER,
    bn_eps=1e-3,
    preprocessing=Preprocessing(
        (8, 32), 30.0, (256, 256), 224, "kinetics", 256, audio_seconds=2.0, spectrogram_kind="logmel", mel_bins=40,
        spectrogram_frames=(100,), hop_seconds=(0.02,),
    ),
)  # fmt: skip
_TRAINING = frozenset({"epoch", "model", "optimizer", "lr_scheduler", "amp"})
# What the code released with GDT and SeLaVi does, and its scripts ask for. The papers say 128 to 160 (GDT) and 128
# (SeLaVi) for the short side, and have spectrograms of 199 frames too.
_RELEASED = Preprocessing(
    (30,), 30.0, (128, 160), 112, "gdt", 112, audio_seconds=1.0, spectrogram_kind="logfbank", mel_bins=257,
    spectrogram_frames=(99, 199), hop_seconds=(0.01, 0.005),
)  # fmt: skip
GDT = Layout(
    "GDT",
    _MODEL_PREFIXES,
    unused=rf"audio_network\.base\.{_CLASSIFIER}|mlp_[vat]\.(block_forward\.[248]\.\w+|weight|bias)|text_network\..+",
    entries=_TRAINING | {"args"},
    preprocessing=replace(_RELEASED, spectrogram_mean=Z_NORMALISATION[0], spectrogram_std=Z_NORMALISATION[1]),
)
SELAVI = Layout(
    "SeLaVi",
    _MODEL_PREFIXES,
    unused=rf"audio_network\.base\.{_CLASSIFIER}|mlp_[va]\d+\.block_forward\.[248]\.\w+",
    entries=_TRAINING | {"dist", "selflabels"},
    preprocessing=_RELEASED,
)
TORCHVISION = Layout(
    "torchvision",
    {"video": ""},
    unused=_CLASSIFIER,
    # Of torchvision's documentation of the Kinetics-400 weights: 16 frames at 15 fps, 128 x 171, crop 112.
    preprocessing=Preprocessing((16,), 15.0, (128, 128), 112, "kinetics", 128),
)
# Ours: a method's state dict. What is not under `encoders.` (heads, counters) belongs to the method.
SEEHEAR = Layout(
    "seehear",
    {"video": "encoders.video.", "audio": "encoders.audio."},
    unused=r"(?!encoders\.).*|encoders\.(?!video\.|audio\.).*",
    bn_eps=None,
)
# A network of single images, by torchvision's names: inflated over time where a video encoder is started from it.
IMAGES = Layout("ResNet of images", {"video": ""}, unused=_CLASSIFIER)
LAYOUTS = (XDC, GDT, SELAVI, TORCHVISION, SEEHEAR, IMAGES)


@dataclass(frozen=True)
class Published:
    """A checkpoint file that was read and recognised, nothing loaded yet.

    Attributes:
        path: of the file.
        sha256: of the file, 64 hexadecimal digits.
        layout: the one that its keys belong to.
        tensors: by the file's own names, a leading `module.` removed.
        entries: names of what the file holds beside the tensors, except the wrapper `model`.
        arguments: whole numbers, switches and texts of the command line that a GDT file was trained with, by name.
    """

    path: Path
    sha256: str
    layout: Layout
    tensors: Mapping[str, Tensor]
    entries: tuple[str, ...] = ()
    arguments: Mapping[str, int | bool | str] = field(default_factory=dict)

    @property
    def preprocessing(self) -> Preprocessing | None:
        """That of the layout, but for what the file's own command line says."""
        facts, said = self.layout.preprocessing, self.arguments
        if facts is None or not said:
            return facts
        facts = _clips_said(facts, said)
        if {"aud_spec_type", "num_sec"} <= said.keys():
            # The release's two kinds of spectrogram; both have a hop of 10 ms and no frame that is cut off.
            seconds = int(said["num_sec"])
            facts = replace(
                facts,
                audio_seconds=float(seconds),
                mel_bins=40 if said["aud_spec_type"] == 1 else 257,
                spectrogram_frames=(100 * seconds - 1,),
                hop_seconds=(0.01,),
            )
        if "z_normalize" in said:
            mean, std = Z_NORMALISATION if said["z_normalize"] else (0.0, 1.0)
            facts = replace(facts, spectrogram_mean=mean, spectrogram_std=std)
        return facts

    @property
    def modalities(self) -> tuple[Modality, ...]:
        """The modalities whose encoder the file holds."""
        found = self.layout.prefixes.items()
        return tuple(m for m, prefix in found if any(key.startswith(prefix) for key in self.tensors))

    @property
    def mid_planes(self) -> MidPlanes | None:
        """How the R(2+1)D mid-planes of its video encoder were computed; `None` if it has none."""
        return _mid_planes(self.tensors, self.layout.prefixes["video"])


def _clips_said(facts: Preprocessing, said: Mapping[str, int | bool | str]) -> Preprocessing:
    """What a GDT file's command line says of its clips of frames and of the rate of its sound."""
    crop = int(said.get("train_crop_size", facts.crop_pixels))
    rate = float(said.get("target_fps", facts.frame_rate_hz))
    if said.get("dataset") == "ht100m":
        # Video and text: every `sample_rate`-th of 32 frames a second, scaled to the crop, and not normalised.
        facts, rate = replace(facts, pixel_statistics="none", short_side_pixels=(crop, crop)), 32.0
    elif crop > 128:
        facts = replace(facts, short_side_pixels=(256, 320))
    return replace(
        facts,
        clip_frames=(int(said["clip_len"]),) if "clip_len" in said else facts.clip_frames,
        frame_rate_hz=rate,
        stride=int(said.get("sample_rate", facts.stride)),
        crop_pixels=crop,
        test_short_side_pixels=crop,
        sample_rate_hz=int(said.get("aud_sample_rate", facts.sample_rate_hz)),
    )


@dataclass(frozen=True)
class ImportReport:
    """What an import did.

    Attributes:
        path, sha256: of the file.
        layout: name of its layout.
        modality: of the encoder that was loaded.
        bn_eps: what the layout needs; `None` where the run's config says it.
        preprocessing: of the clips that the weights were trained on; `None` where the run's config says it.
        loaded: the file's keys that were loaded, a leading `module.` removed.
        unused: the file's keys, and its entries beside the tensors, that were not used.
        notes: what a person should know before using the encoder, such as a batch norm eps that differs.
    """

    path: Path
    sha256: str
    layout: str
    modality: Modality
    bn_eps: float | None
    preprocessing: Preprocessing | None
    loaded: tuple[str, ...]
    unused: tuple[str, ...]
    notes: tuple[str, ...] = ()


def load_video_weights(
    encoder: VideoEncoder, source: str | os.PathLike[str] | Published, *, ignore: Sequence[str] = ()
) -> ImportReport:
    """Loads a published video encoder into `encoder`, all of it or nothing.

    Of a ResNet of images it makes one that does the same on still clips (`seehear.models.inflated`).

    Args:
        encoder: whose parameters and buffers are overwritten.
        source: a file, or what `read_checkpoint` made of it.
        ignore: keys, or patterns with `*`, that the file may hold beyond its documented layout.

    Returns:
        What was loaded and what was not used.

    Raises:
        DataError: the file cannot be read (see `read_checkpoint`), has no video encoder, or does not fit
            `encoder`; the message names every missing, left-over and wrong-shape key. `encoder` is unchanged.
    """
    file = source if isinstance(source, Published) else read_checkpoint(source)
    return _load_images(encoder, file) if file.layout is IMAGES else _load(encoder, "video", file, ignore)


def _load_images(encoder: VideoEncoder, file: Published) -> ImportReport:
    try:
        state, notes = inflated_state(file.tensors, encoder)
    except DataError as error:
        raise DataError(f"{file.path}: {error.message}", error.remedy) from error
    nn.Module.load_state_dict(encoder, state, strict=True)
    if IMAGES.bn_eps != encoder.bn_eps:
        notes.append(f"{IMAGES.name}: trained with a batch norm eps of {IMAGES.bn_eps:g}, not {encoder.bn_eps:g}")
    unused = tuple(key for key in file.tensors if key.startswith("fc."))
    loaded = tuple(key for key in file.tensors if key not in unused)
    return ImportReport(
        file.path,
        file.sha256,
        IMAGES.name,
        "video",
        IMAGES.bn_eps,
        None,
        loaded,
        (*unused, *file.entries),
        tuple(notes),
    )


def load_audio_weights(
    encoder: AudioEncoder, source: str | os.PathLike[str] | Published, *, ignore: Sequence[str] = ()
) -> ImportReport:
    """Loads a published audio encoder into `encoder`; everything else as in `load_video_weights`."""
    return _load(encoder, "audio", source, ignore)


def encoder_settings(file: Published, modality: Modality) -> dict[str, Any]:
    """The encoder that a file was made with, as fields of `seehear.config.ModelConfig`, read off its keys and shapes.

    What no key tells is as published: a stem of stride 2 without pooling, and the layout's batch norm eps.

    Raises:
        DataError: the file has no encoder of this modality, or one of a depth or family that there is not.
    """
    if modality not in file.modalities:
        raise _without(file, modality)
    if file.layout is IMAGES:
        raise DataError(
            f"{file.path} is a network of single images, no video encoder",
            "start one from it: seehear pretrain VIDEOS --video-weights FILE",
        )
    prefix = file.layout.prefixes[modality]
    stages = [_blocks(file.tensors, f"{prefix}layer{stage}.") for stage in (1, 2, 3, 4)]
    if modality == "audio":
        name = audio_encoder_name(stages)
        first = file.tensors.get(f"{prefix}conv1.weight")
    else:
        family = _family(file.tensors, prefix)
        name = None if family is None else video_encoder_name(family, stages)
        first = file.tensors.get(f"{prefix}layer1.0.conv1.1.weight")
    if name is None or first is None:
        raise DataError(
            f"{file.path} (layout {file.layout.name}): its {modality} encoder, with {stages} blocks in its stages, is"
            " none of those that seehear has"
        )
    found: dict[str, Any] = {modality: name, f"{modality}_width": first.shape[0]}
    if modality == "video":
        found["video_mid_planes"] = file.mid_planes or "block"
    if file.layout.bn_eps is not None:
        found["bn_eps" if modality == "video" else "audio_bn_eps"] = file.layout.bn_eps
    return found


def published_heads(file: Published) -> dict[Modality, list[dict[str, Tensor]]]:
    """The heads of a GDT or SeLaVi file, in order, as state dicts of `seehear.models.heads.MLPHead`.

    The releases' first linear layer has no bias, which is one of zeros. A head whose keys or shapes are not those of
    a linear layer, batch norm and linear layer is left out, and with it all of its modality.
    """
    found: dict[Modality, dict[int, dict[str, Tensor]]] = {"video": {}, "audio": {}}
    for key, tensor in file.tensors.items():
        if match := _HEAD_KEY.fullmatch(key):
            letter, number, layer, part = match.groups()
            heads = found["video" if letter == "v" else "audio"]
            heads.setdefault(int(number or 0), {})[f"layers.{_HEAD_LAYERS[layer]}.{part}"] = tensor
    result: dict[Modality, list[dict[str, Tensor]]] = {}
    for modality, heads in found.items():
        states = [_complete_head(heads.get(number, {})) for number in range(len(heads))]
        whole = [state for state in states if state is not None]
        if whole and len(whole) == len(heads):
            result[modality] = whole
    return result


_HEAD_KEY = re.compile(r"mlp_([va])(\d*)\.block_forward\.([248])\.(\w+)")
_HEAD_LAYERS = {"2": "1", "4": "2", "8": "5"}  # where the releases and `MLPHead` have the same layers


def _complete_head(state: dict[str, Tensor]) -> dict[str, Tensor] | None:
    """A head's state dict with the bias that the releases leave out, or None if it is not one of ours."""
    first, last = state.get("layers.1.weight"), state.get("layers.5.weight")
    if first is None or last is None or first.ndim != 2 or last.ndim != 2:
        return None
    hidden, inputs = first.shape
    outputs = last.shape[0]
    state = {"layers.1.bias": torch.zeros(hidden), **state}
    vectors = {f"layers.2.{part}": (hidden,) for part in ("weight", "bias", "running_mean", "running_var")}
    shapes = {
        "layers.1.weight": (inputs, inputs), "layers.1.bias": (hidden,), **vectors,
        "layers.2.num_batches_tracked": (), "layers.5.weight": (outputs, hidden), "layers.5.bias": (outputs,),
    }  # fmt: skip
    return state if {key: tuple(value.shape) for key, value in state.items()} == shapes else None


def _blocks(tensors: Mapping[str, Tensor], prefix: str) -> int:
    """How many blocks a stage has."""
    return len({key.removeprefix(prefix).split(".")[0] for key in tensors if key.startswith(prefix)})


def _without(file: Published, modality: Modality) -> DataError:
    return DataError(
        f"{file.path} (layout {file.layout.name}) holds no {modality} encoder",
        f"it holds: {', '.join(file.modalities)}" if file.modalities else None,
    )


def read_checkpoint(path: str | os.PathLike[str]) -> Published:
    """Reads a checkpoint and recognises its layout by its keys.

    A file name that ends in `-` and 8 to 64 hexadecimal digits states the start of its SHA-256, as in
    `r2plus1d_18_xdc_ig65m_kinetics-f24f6ffb.pth`; it is verified before anything is read.

    Args:
        path: a `.safetensors` file, or one written by `torch.save`.

    Raises:
        DataError: there is no such file, its SHA-256 is not the stated one, it is damaged, it holds more than
            tensors and plain values (nothing in it is ever executed), or its layout is unknown.
        RunError: it belongs to a model folder of ours, and is not the file that was written there.
    """
    path = Path(path)
    if not path.is_file():
        inside = path / "model.safetensors"
        raise DataError(f"{path} is not a file", f"give {inside}" if inside.is_file() else "check the path")
    check_hashes(path.parent, [path.name])
    digest = verified_sha256(path)
    payload = read_weight_file(path)
    layout, tensors, entries = _recognise(path, payload)
    return Published(path, digest, layout, tensors, entries, _arguments(payload))


def _recognise(path: Path, payload: object) -> tuple[Layout, dict[str, Tensor], tuple[str, ...]]:
    if not isinstance(payload, Mapping):
        raise DataError(f"{path} holds a {type(payload).__name__}, not a dictionary of tensors")
    wrapped = isinstance(payload.get("model"), Mapping)
    tensors = _tensors(path, payload["model"] if wrapped else payload)
    entries = tuple(str(key) for key in payload if key != "model") if wrapped else ()
    if wrapped:
        if all(key.startswith("module.") for key in tensors):
            tensors = {key.removeprefix("module."): value for key, value in tensors.items()}
        if any(key.startswith(tuple(_MODEL_PREFIXES.values())) for key in tensors):
            numbered_heads = any(re.match(r"mlp_[va]\d+\.", key) for key in tensors)
            return (SELAVI if numbered_heads or "selflabels" in entries else GDT), tensors, entries
    elif any(key.startswith("encoders.") for key in tensors):
        return SEEHEAR, tensors, entries
    elif is_image_network(tensors):
        return IMAGES, tensors, entries
    elif "stem.0.weight" in tensors:
        return (XDC if _mid_planes(tensors, "") == "convolution" else TORCHVISION), tensors, entries
    raise DataError(
        f"{path}: unknown layout; its first keys are {_listed(list(tensors)[:5]) or '(none)'}",
        f"known layouts: {', '.join(layout.name for layout in LAYOUTS)}",
    )


def _arguments(payload: object) -> dict[str, int | bool | str]:
    """The whole numbers above zero, the switches and the texts of GDT's entry `args`."""
    given = payload.get("args") if isinstance(payload, Mapping) else None
    values = vars(given) if isinstance(given, Namespace) else {}
    return {name: x for name, x in values.items() if isinstance(x, bool | str) or (isinstance(x, int) and x > 0)}


def _tensors(path: Path, values: Mapping[Any, Any]) -> dict[str, Tensor]:
    wrong = [str(key) for key, value in values.items() if not (isinstance(key, str) and torch.is_tensor(value))]
    if wrong:
        raise DataError(f"{path}: unknown layout; entries that are not named tensors: {_listed(wrong)}")
    return dict(values)


def _mid_planes(tensors: Mapping[str, Tensor], prefix: str) -> MidPlanes | None:
    # The spatial halves of a block that changes the number of channels: only there do the two rules differ.
    first = tensors.get(f"{prefix}layer2.0.conv1.0.0.weight")
    second = tensors.get(f"{prefix}layer2.0.conv2.0.0.weight")
    if first is None or second is None or first.ndim != 5 or second.ndim != 5:
        return None
    inputs, (mid, planes) = first.shape[1], second.shape[:2]
    if mid == mid_channels(inputs, planes):
        return "block"
    return "convolution" if mid == mid_channels(planes, planes) else None


def _family(tensors: Mapping[str, Tensor], prefix: str) -> Family | None:
    if f"{prefix}layer1.0.conv1.0.0.weight" in tensors:
        return "r2plus1d"
    weight = tensors.get(f"{prefix}layer2.0.conv1.0.weight")
    if weight is None or weight.ndim != 5:
        return None
    return "r3d" if weight.shape[2] == 3 else "mc3"


def _load(
    encoder: VideoEncoder | AudioEncoder,
    modality: Modality,
    source: str | os.PathLike[str] | Published,
    ignore: Sequence[str],
) -> ImportReport:
    file = source if isinstance(source, Published) else read_checkpoint(source)
    layout = file.layout
    if modality not in file.modalities:
        raise _without(file, modality)
    prefix = layout.prefixes[modality]
    others = tuple(p for m, p in layout.prefixes.items() if m != modality)
    weights: dict[str, Tensor] = {}
    unused: list[str] = []
    left_over: list[str] = []
    expected = encoder.state_dict()
    for key, tensor in file.tensors.items():
        if key.startswith(prefix) and key.removeprefix(prefix) in expected:
            weights[key.removeprefix(prefix)] = tensor
        elif (others and key.startswith(others)) or re.fullmatch(layout.unused, key) or _ignored(key, ignore):
            unused.append(key)
        else:
            left_over.append(key)
    for entry in file.entries:
        (unused if entry in layout.entries or _ignored(entry, ignore) else left_over).append(entry)

    faults = {
        "missing": [prefix + key for key in expected if key not in weights],
        "left over": left_over,
        "wrong shape": [
            f"{prefix}{key} (file {tuple(value.shape)}, encoder {tuple(expected[key].shape)})"
            for key, value in weights.items()
            if value.shape != expected[key].shape
        ],
    }
    if any(faults.values()):
        reason, remedy = _misfit(encoder, file, prefix, faults)
        lines = [f"  {fault} ({len(keys)}): {_listed(keys)}" for fault, keys in faults.items() if keys]
        head = f"{file.path} (layout {layout.name}) does not fit the {modality} encoder"
        raise DataError("\n".join([f"{head}: {reason}" if reason else head, *lines]), remedy)
    nn.Module.load_state_dict(encoder, weights, strict=True)

    notes = []
    if layout.bn_eps is not None and layout.bn_eps != encoder.bn_eps:
        notes.append(
            f"{layout.name} weights need a batch norm eps of {layout.bn_eps:g}; the encoder has"
            f" {encoder.bn_eps:g} (--set model.bn_eps={layout.bn_eps:g})"
        )
    return ImportReport(
        file.path,
        file.sha256,
        layout.name,
        modality,
        layout.bn_eps,
        file.preprocessing,
        tuple(prefix + key for key in weights),
        tuple(unused),
        tuple(notes),
    )


def _misfit(
    encoder: nn.Module, file: Published, prefix: str, faults: Mapping[str, Sequence[str]]
) -> tuple[str, str | None]:
    """The one reason behind many faulty keys, and its remedy, where there is one."""
    if isinstance(encoder, VideoEncoder):
        family = _family(file.tensors, prefix)
        if family is not None and family != encoder.family:
            return f"the file's family is {family}, the encoder's {encoder.family}", f"use a {family} encoder"
        mid_planes = file.mid_planes
        if mid_planes is not None and mid_planes != encoder.mid_planes:
            return (
                f"the file's mid-planes are per {mid_planes}, the encoder's per {encoder.mid_planes}",
                f"--set model.video_mid_planes={mid_planes}",
            )
    if faults["left over"] and not (faults["missing"] or faults["wrong shape"]):
        return "", "if the left-over keys do not matter, name them in ignore= (--ignore)"
    return "", None


def _ignored(key: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(key, pattern) for pattern in patterns)


def _listed(keys: Iterable[str]) -> str:
    return ", ".join(keys)
