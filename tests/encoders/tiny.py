"""Tiny models of others, built from their configurations with random weights, in folders as the hub's are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

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


MODELS: dict[str, Callable[[], tuple[Any, Any]]] = {
    "videomae": _videomae,
    "clip": _clip,
    "ast": _ast,
    "wav2vec2": _wav2vec2,
}
SOUND = ("ast", "wav2vec2")


def modality_of(name: str) -> str:
    return "audio" if name in SOUND else "video"


def saved(name: str, folder: Path, seed: int = 0) -> Path:
    """The folder `folder/name` of a tiny model."""
    torch.manual_seed(seed)
    model, processor = MODELS[name]()
    model.save_pretrained(folder / name)
    processor.save_pretrained(folder / name)
    return folder / name
