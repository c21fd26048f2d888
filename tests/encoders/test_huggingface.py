"""Encoders of `transformers`: their features, what is kept of them, and what is refused."""

from __future__ import annotations

import json
import socket
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from seehear.encoders import open_encoder, read_encoder
from seehear.encoders.huggingface import HuggingFaceEncoder
from seehear.errors import DataError, UsageError
from tests.encoders.tiny import IMAGES, LAYERS, MODELS, modality_of, pe_audio_video, saved, transformers
from tests.encoders.tiny_programs import clips
from tests.encoders.with_torchvision import TORCHVISION


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    for name in MODELS:
        saved(name, folder)
    return folder


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise AssertionError("a connection was tried")

    monkeypatch.setattr(socket.socket, "connect", refused)


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize("name", MODELS)
def test_an_encoder_survives_writing_and_its_content_is_that_of_weights_and_preprocessing(
    folders: Path, tmp_path: Path, name: str
) -> None:
    modality = modality_of(name)
    encoder = open_encoder(f"hf:{folders / name}", modality)
    given = clips(modality)
    with torch.inference_mode():
        features = encoder(given)
        assert features.shape == (2, encoder.feature_dim) and features.dtype == torch.float32
        assert (features[0] - features[1]).abs().max() > 1e-4, "two clips, one feature"
        torch.testing.assert_close(encoder(given[:1]), features[:1], rtol=1e-4, atol=1e-5)
    encoder.write(tmp_path)
    again = read_encoder(tmp_path)
    with torch.inference_mode():
        assert torch.equal(again(given), features)
    assert again.content() == encoder.content() and again.wanted == encoder.wanted
    with torch.no_grad():
        next(again.network.parameters()).add_(1e-3)  # type: ignore[operator, union-attr]
    assert again.content() != encoder.content()
    assert isinstance(encoder, HuggingFaceEncoder)
    other = HuggingFaceEncoder(encoder.network, encoder.family_name, changed(encoder.processor), encoder.origin)
    assert other.content() != encoder.content()


def changed(processor: dict) -> dict:
    """Another preprocessing."""
    for name, value in {
        "image_mean": [0.1, 0.2, 0.3],
        "mean": 1.0,
        "padding": "pad",
        "hop_length": 40,
        "do_normalize": False,
    }.items():
        if name in processor:
            return {**processor, name: value}
    raise AssertionError(processor)


def test_what_others_would_take_for_the_feature(folders: Path) -> None:
    """Against the library's own whole models, called as its documentation does."""
    x = clips("video")
    frames = (x.permute(0, 2, 1, 3, 4) - 0.5) / 0.5
    with torch.inference_mode():
        model = transformers.VideoMAEModel.from_pretrained(folders / "videomae").eval()
        expected = model(pixel_values=frames).last_hidden_state.mean(1)
        torch.testing.assert_close(open_encoder(f"hf:{folders / 'videomae'}", "video")(x), expected)

        whole = transformers.CLIPModel.from_pretrained(folders / "clip").eval()
        encoder = open_encoder(f"hf:{folders / 'clip'}", "video")
        one_by_one = [encoder.prepared(x)[:, t] for t in range(4)]
        expected = torch.stack([whole.vision_model(pixel_values=frame).pooler_output for frame in one_by_one]).mean(0)
        torch.testing.assert_close(encoder(x), expected)

        sound = clips("audio")
        for name, kind in (("ast", "ASTModel"), ("wav2vec2", "Wav2Vec2Model")):
            whole = getattr(transformers, kind).from_pretrained(folders / name).eval()
            extractor = transformers.AutoFeatureExtractor.from_pretrained(folders / name)
            given = extractor(list(sound.numpy()), sampling_rate=16000, return_tensors="pt")
            made = whole(**given)
            expected = made.pooler_output if name == "ast" else made.last_hidden_state.mean(1)
            found = open_encoder(f"hf:{folders / name}", "audio")(sound)
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.skipif(not TORCHVISION or find_spec("timm") is None, reason="timm or torchvision is not installed")
def test_sight_and_sound_of_one_model(tmp_path: Path) -> None:
    model, extractor = pe_audio_video()
    model.save_pretrained(tmp_path)
    extractor.save_pretrained(tmp_path)
    stated = {"size": {"height": 32, "width": 32}, "image_mean": [0.5] * 3, "image_std": [0.5] * 3, "do_resize": True}
    processor = transformers.PeVideoVideoProcessor(**stated, do_rescale=True, do_normalize=True)
    processor.save_pretrained(tmp_path)
    whole = transformers.PeAudioVideoModel.from_pretrained(tmp_path).eval()
    for modality in ("video", "audio"):
        encoder = open_encoder(f"hf:{tmp_path}", modality)
        assert encoder.modality == modality
        given = clips(modality, samples=48000)
        part = getattr(getattr(whole, f"{modality}_model"), f"{modality}_encoder")
        with torch.inference_mode():
            torch.testing.assert_close(encoder(given), part(encoder.prepared(given)).pooler_output)


@pytest.mark.parametrize("name", MODELS)
def test_it_can_be_trained(folders: Path, name: str) -> None:
    modality = modality_of(name)
    encoder = open_encoder(f"hf:{folders / name}", modality).train()
    assert encoder.trainable
    optimizer = torch.optim.SGD(encoder.parameters(), lr=0.1)
    before = {key: value.clone() for key, value in encoder.state_dict().items()}
    encoder(clips(modality)).square().mean().backward()
    optimizer.step()
    moved = sum(not torch.equal(value, before[key]) for key, value in encoder.state_dict().items())
    assert moved > len(before) / 3  # PE-AV holds its codec still


def test_what_cannot_be_used_is_said(folders: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is an encoder of audio"):
        open_encoder(f"hf:{folders / 'ast'}", "video")
    with pytest.raises(DataError, match="is an encoder of video"):
        open_encoder(f"hf:{folders / 'clip'}", "audio")
    with pytest.raises(DataError, match="sees clips of 4 frames, not 3"):
        open_encoder(f"hf:{folders / 'videomae'}", "video")(clips("video", frames=3))

    bare = saved("ast", tmp_path)
    (bare / "preprocessor_config.json").rename(bare / "kept.json")
    with pytest.raises(DataError, match=r"has no preprocessor_config\.json"):
        open_encoder(f"hf:{bare}", "audio")
    (bare / "kept.json").rename(bare / "preprocessor_config.json")
    (bare / "model.safetensors").rename(bare / "pytorch_model.bin")
    with pytest.raises(DataError, match="can run code"):
        open_encoder(f"hf:{bare}", "audio")
    (bare / "pytorch_model.bin").unlink()
    with pytest.raises(DataError, match="has no weights"):
        open_encoder(f"hf:{bare}", "audio")
    (bare / "config.json").write_text(json.dumps({"model_type": "mine", "auto_map": {"AutoModel": "mine.Mine"}}))
    with pytest.raises(DataError, match="asks for code of its own"):
        open_encoder(f"hf:{bare}", "audio")
    (bare / "config.json").write_text("{")
    with pytest.raises(DataError, match="cannot be read"):
        open_encoder(f"hf:{bare}", "audio")


def test_weights_that_lack_a_part_are_refused(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = saved("videomae", tmp_path)
    tensors = load_file(folder / "model.safetensors")
    left_out = next(key for key in tensors if "layer.1" in key)
    save_file({k: v for k, v in tensors.items() if k != left_out}, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(DataError, match="lacks 1 weights of VideoMAEModel"):
        open_encoder(f"hf:{folder}", "video")


def test_finetuned_classifiers_lack_nothing_that_a_feature_needs(tmp_path: Path) -> None:
    """Their own heads are left out, and what they lack is not used: wav2vec's mask, and the pooling of a plain ViT."""
    for name, kind, inner in (
        ("wav2vec2", "Wav2Vec2ForCTC", "wav2vec2"),
        ("other", "ViTForImageClassification", "vit"),
    ):
        model, processor = MODELS[name]()
        model = getattr(transformers, kind)(model.config).eval()
        state = {k: v for k, v in model.state_dict().items() if "masked_spec_embed" not in k}
        model.save_pretrained(tmp_path / name, state_dict=state)
        processor.save_pretrained(tmp_path / name)
        modality = modality_of(name)
        encoder = open_encoder(f"hf:{tmp_path / name}", modality)
        x = clips(modality, batch=1, frames=1)
        with torch.inference_mode():
            seen = encoder.prepared(x) if modality == "audio" else encoder.prepared(x)[:, 0]
            expected = getattr(model, inner)(seen).last_hidden_state.mean(1)
            torch.testing.assert_close(encoder(x), expected)
        (tmp_path / f"kept_{name}").mkdir()
        encoder.write(tmp_path / f"kept_{name}")
        again = read_encoder(tmp_path / f"kept_{name}")
        with torch.inference_mode():
            assert torch.equal(again(x), encoder(x))


def test_what_makes_no_feature_of_an_image_or_another_each_time_is_refused(tmp_path: Path) -> None:
    _, processor = MODELS["other"]()
    for model, said in (
        (transformers.BertModel(transformers.BertConfig(**LAYERS, vocab_size=20)), "makes no feature of an image"),
        (transformers.ViTMAEModel(transformers.ViTMAEConfig(**IMAGES)), "draws at random"),
    ):
        model.save_pretrained(tmp_path / said)
        processor.save_pretrained(tmp_path / said)
        with pytest.raises(DataError, match=said):
            open_encoder(f"hf:{tmp_path / said}", "video")


@pytest.mark.usefixtures("offline")
def test_an_id_that_is_not_here_is_not_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(UsageError, match="nothing is fetched unasked") as error:
        open_encoder("hf:someone/something", "video")
    assert "seehear encoders fetch hf:someone/something@REVISION" in str(error.value)
    with pytest.raises(UsageError, match="there is no folder"):
        open_encoder("hf:runs/a/b", "video")
