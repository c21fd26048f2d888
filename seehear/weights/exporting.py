"""Encoders of a run written for use elsewhere, each file compared with its source."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal, cast

import seehear
from seehear.config import Config
from seehear.engine.runfolder import RunFolder, open_run
from seehear.errors import RunError, UsageError
from seehear.features.model import Model
from seehear.files import check_destination, check_new_folder, new_folder, write_atomic, writing
from seehear.modalities import MODALITIES
from seehear.models.adapter import OnBackbone
from seehear.models.video import VideoEncoder
from seehear.weights.description import describe, encoder_facts, preprocessing
from seehear.weights.formats import Encoder, write_onnx, write_torch_export, write_torchvision
from seehear.weights.modelcard import model_card
from seehear.weights.showing import provenance

Format = Literal["safetensors", "hub", "torchvision", "torch-export", "onnx"]
FORMATS: dict[Format, tuple[str, ...]] = {
    "safetensors": (),
    "hub": (),
    "torchvision": (".pth", ".safetensors"),
    "torch-export": (".pt2",),
    "onnx": (".onnx",),
}
"""What can be exported, with the endings of its file; without one it is a folder."""


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
    if isinstance(model.encoders[name], OnBackbone):
        raise UsageError(
            f"the {name} encoder of this model is one of others with an adapter on top, which {format} does not hold",
            "--format safetensors or hub takes any model",
        )
    encoder = cast(Encoder, model.encoders[name])
    shape = input_shape(model.config, encoder)
    facts = {
        "format": "seehear-encoder",
        "seehear_version": seehear.__version__,
        "method": model.config.method,
        "encoder": encoder_facts(model, name),
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
