"""Tiny models of others, built from their configurations with random weights, in folders as the hub's are."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.encoders.with_torchvision import TORCHVISION  # noqa: F401 - before transformers looks for it

transformers = pytest.importorskip("transformers", reason="the extra `encoders` is not installed")
transformers.utils.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()

LAYERS: dict[str, Any] = {
    "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32,
}  # fmt: skip
IMAGES: dict[str, Any] = {**LAYERS, "image_size": 32, "patch_size": 8}
CONVOLUTIONS: dict[str, Any] = {
    **LAYERS, "conv_dim": (16, 16), "conv_stride": (5, 4), "conv_kernel": (10, 8), "num_feat_extract_layers": 2,
    "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 2,
}  # fmt: skip
TEXT: dict[str, Any] = {**LAYERS, "vocab_size": 50, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
SHORTER = {"size": {"shortest_edge": 36}, "crop_size": {"height": 32, "width": 32}}


def _videomae() -> tuple[Any, Any]:
    config = transformers.VideoMAEConfig(**IMAGES, num_frames=4)
    return transformers.VideoMAEModel(config), transformers.VideoMAEImageProcessorPil(**SHORTER)


def _clip() -> tuple[Any, Any]:
    config = transformers.CLIPConfig(text_config=TEXT, vision_config=IMAGES, projection_dim=8)
    return transformers.CLIPModel(config), transformers.CLIPImageProcessorPil(**SHORTER)


def _ast() -> tuple[Any, Any]:
    config = transformers.ASTConfig(**LAYERS, max_length=128, num_mel_bins=32, patch_size=16)
    return transformers.ASTModel(config), transformers.ASTFeatureExtractor(max_length=128, num_mel_bins=32)


def _wav2vec2() -> tuple[Any, Any]:
    config = transformers.Wav2Vec2Config(**CONVOLUTIONS)
    return transformers.Wav2Vec2Model(config), transformers.Wav2Vec2FeatureExtractor()


def _vjepa2() -> tuple[Any, Any]:
    config = transformers.VJEPA2Config(
        hidden_size=24, num_hidden_layers=2, num_attention_heads=2, crop_size=32, patch_size=8, frames_per_clip=64,
        pred_hidden_size=24, pred_num_attention_heads=2, pred_num_hidden_layers=1, pred_num_mask_tokens=2,
    )  # fmt: skip
    stated = {"video_processor_type": "VJEPA2VideoProcessor", "crop_size": 32, "size": {"shortest_edge": 36}}
    stated |= {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225], "do_center_crop": True}
    return transformers.VJEPA2Model(config), ("video_preprocessor_config.json", stated)


def _timesformer() -> tuple[Any, Any]:
    config = transformers.TimesformerConfig(**IMAGES, num_frames=4)
    return transformers.TimesformerModel(config), transformers.VideoMAEImageProcessorPil(**SHORTER)


def _xclip() -> tuple[Any, Any]:
    vision = {**IMAGES, "num_frames": 4, "mit_hidden_size": 16, "mit_intermediate_size": 32, "mit_num_hidden_layers": 1}
    config = transformers.XCLIPConfig(
        text_config=TEXT, vision_config={**vision, "mit_num_attention_heads": 2}, projection_dim=16,
        prompt_num_attention_heads=2, prompt_layers=1,
    )  # fmt: skip
    return transformers.XCLIPModel(config), transformers.VideoMAEImageProcessorPil(**SHORTER)


def _siglip() -> tuple[Any, Any]:
    config = transformers.SiglipConfig(text_config={**TEXT, "projection_size": 16}, vision_config=IMAGES)
    return transformers.SiglipModel(config), transformers.SiglipImageProcessorPil(size={"height": 32, "width": 32})


def _dinov2() -> tuple[Any, Any]:
    config = transformers.Dinov2Config(**{k: v for k, v in IMAGES.items() if k != "intermediate_size"})
    return transformers.Dinov2Model(config), transformers.BitImageProcessorPil(**SHORTER)


def _dinov3() -> tuple[Any, Any]:
    config = transformers.DINOv3ViTConfig(**IMAGES, num_register_tokens=2)
    stated = {"image_processor_type": "DINOv3ViTImageProcessorFast", "size": {"height": 32, "width": 32}, "resample": 2}
    stated |= {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225], "rescale_factor": 1 / 255}
    return transformers.DINOv3ViTModel(config), ("preprocessor_config.json", stated)


def _other_images() -> tuple[Any, Any]:
    """An image model that no table here knows."""
    config = transformers.ViTConfig(**IMAGES)
    return transformers.ViTModel(config), transformers.ViTImageProcessorPil(size={"height": 32, "width": 32})


def _clap() -> tuple[Any, Any]:
    audio = {
        "spec_size": 32, "num_mel_bins": 16, "patch_size": 4, "patch_stride": (4, 4), "window_size": 2,
        "depths": (1, 1), "num_attention_heads": (2, 2), "patch_embeds_hidden_size": 16, "hidden_size": 32,
        "projection_dim": 16, "enable_fusion": True, "enable_patch_fusion": True, "num_hidden_layers": 2,
        "aff_block_r": 2,
    }  # fmt: skip
    config = transformers.ClapConfig(text_config=TEXT, audio_config=audio, projection_dim=16)
    return transformers.ClapModel(config), transformers.ClapFeatureExtractor(**CLAP)


CLAP: dict[str, Any] = {"feature_size": 16, "max_length_s": 1, "sampling_rate": 16000, "frequency_max": 8000}


def _pe_audio() -> tuple[Any, Any]:
    dac = {"encoder_hidden_size": 8, "downsampling_ratios": [4, 8], "hop_length": 32, "codebook_dim": 8}
    config = transformers.PeAudioEncoderConfig(
        **LAYERS, head_dim=8, dac_config={**dac, "hidden_size": 32}, initializer_range=0.3
    )
    return transformers.PeAudioEncoder(config), transformers.PeAudioFeatureExtractor(hop_length=32)


def pe_audio_video() -> tuple[Any, Any]:
    """Sight and sound in one; its sight needs timm, and that torchvision."""
    dac = {"encoder_hidden_size": 8, "downsampling_ratios": [4, 8], "hop_length": 32, "codebook_dim": 8}
    images = {"img_size": 32, "embed_dim": 32, "depth": 1, "num_heads": 2, "ref_feat_shape": (2, 2)}
    vision = {"architecture": "vit_pe_core_tiny_patch16_384", "model_args": images, "num_classes": 16}
    parts = {
        "audio_config": {**LAYERS, "head_dim": 8, "dac_config": {**dac, "hidden_size": 32}},
        "video_config": {**LAYERS, "head_dim": 8, "vision_config": {**vision, "do_pooling": True}},
    }
    config = transformers.PeAudioVideoConfig(
        text_config={**TEXT, "model_type": "modernbert", "cls_token_id": 2, "sep_token_id": 1},
        audio_video_config={**LAYERS, "head_dim": 8, **parts},
    )
    return transformers.PeAudioVideoModel(config), transformers.PeAudioFeatureExtractor(hop_length=32)


def _of_wav2vec2(name: str) -> Callable[[], tuple[Any, Any]]:
    def made() -> tuple[Any, Any]:
        config = getattr(transformers, f"{name}Config")(**CONVOLUTIONS)
        return getattr(transformers, f"{name}Model")(config), transformers.Wav2Vec2FeatureExtractor()

    return made


SIGHT: dict[str, Callable[[], tuple[Any, Any]]] = {
    "videomae": _videomae, "vjepa2": _vjepa2, "timesformer": _timesformer, "xclip": _xclip, "clip": _clip,
    "siglip": _siglip, "dinov2": _dinov2, "dinov3": _dinov3, "other": _other_images,
}  # fmt: skip
SOUND: dict[str, Callable[[], tuple[Any, Any]]] = {
    "ast": _ast, "clap": _clap, "pe_audio": _pe_audio, "wav2vec2": _wav2vec2, "hubert": _of_wav2vec2("Hubert"),
    "wavlm": _of_wav2vec2("WavLM"),
}  # fmt: skip
MODELS = SIGHT | SOUND


def modality_of(name: str) -> str:
    return "audio" if name in SOUND else "video"


def saved(name: str, folder: Path, seed: int = 0) -> Path:
    """The folder `folder/name` of a tiny model."""
    torch.manual_seed(seed)
    model, processor = MODELS[name]()
    model.save_pretrained(folder / name)
    if isinstance(processor, tuple):  # one that the library only has with torchvision
        (folder / name / processor[0]).write_text(json.dumps(processor[1]))
    else:
        processor.save_pretrained(folder / name)
    return folder / name
