"""Weights in and out: published files become runs whose features are the encoder's on clips made by hand."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from argparse import Namespace
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from python_speech_features import logfbank
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn

import seehear
from seehear.config import Config
from seehear.data.views import Statistics
from seehear.errors import DataError, RunError, SeehearError, UsageError
from seehear.features.model import Model
from seehear.labelling import label
from seehear.media.decode import Window, decode
from seehear.models import build_encoders, build_video_encoder
from seehear.settings import with_settings
from seehear.transfer.frozen import evaluate_linear
from seehear.weights import formats
from seehear.weights.exporting import export_weights
from seehear.weights.importing import import_weights
from seehear.weights.reading import read_weights
from tests.commands import run
from tests.conftest import TINY_SETTINGS
from tests.corpus import make_video
from tests.models.test_pretrained import (
    OUTPUTS,
    WIDTH,
    audio,
    classifier,
    gdt_file,
    gdt_model,
    head,
    release_head,
    saved,
    selavi_file,
    video,
)

KINETICS = ((0.43216, 0.394666, 0.37645), (0.22803, 0.22145, 0.216989))
STATED = {
    "pixel_mean": [0.5, 0.4, 0.3], "pixel_std": [0.2, 0.3, 0.25], "spectrogram_mean": -7.0, "spectrogram_std": 3.0,
}  # fmt: skip
RELEASED = ((0.45, 0.45, 0.45), (0.225, 0.225, 0.225))
MEASURED = ["clip.pixel_statistics=measured", "spectrogram.mean=null", "spectrogram.std=null"]


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """A video of three seconds with sound."""
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    make_video(path, seconds=3, fps=30)
    return path


@pytest.fixture
def statistics(tmp_path):
    path = tmp_path / "statistics.json"
    path.write_text(json.dumps(STATED))
    return path


def frames_by_hand(path, *, start, frames, rate, short_side, crop, mean, std):
    """A clip (1, 3, T, H, W): decoded, cropped in the centre, and normalised."""
    window = Window(start, frames, rate, audio_seconds=0)
    (decoded,) = decode(path, [window], short_side_px=short_side, sample_rate_hz=24000)
    x = decoded.frames
    top, left = (x.shape[1] - crop) // 2, (x.shape[2] - crop) // 2
    x = x[:, top : top + crop, left : left + crop].astype(np.float64) / 255
    x = (x - np.array(mean)) / np.array(std)
    return torch.from_numpy(x.astype(np.float32)).permute(3, 0, 1, 2)[None]


def features_of(encoder, x):
    with torch.inference_mode():
        return encoder.eval()(x).numpy()[0]


def close(found, expected):
    return np.allclose(found, expected, rtol=1e-4, atol=1e-5)


# ---------------------------------------------------------------- published files


def test_xdc(clip, tmp_path, capsys):
    original = video(seed=1, mid_planes="convolution", bn_eps=1e-3)
    path = saved(tmp_path / "xdc.pth", {**original.state_dict(), **classifier()})
    code, text, _ = run(capsys, "weights", "import", path, "--out", tmp_path / "run")
    assert code == 0
    assert "mid-planes per convolution, batch norm eps 0.001" in text
    assert "not used (2): fc.weight, fc.bias" in text
    assert "no clusters" in text
    # Sound is not asked for, and a clip is as long as its frames.
    (tmp_path / "videos").mkdir()
    make_video(tmp_path / "videos" / "short.mp4", seconds=1.2, fps=30, has_audio=False)
    code, text, _ = run(
        capsys, "embed", tmp_path / "run", tmp_path / "videos", "--workers", 0, "--out", tmp_path / "f.parquet"
    )
    assert code == 0
    assert "1 segments" in text
    table = seehear.load(tmp_path / "run").embed(clip)
    assert table.column_names == ["video_id", "start_seconds", "end_seconds", "video"]
    # 32 frames at 30 a second in the middle of 3 s, on the grid of frames.
    x = frames_by_hand(
        clip, start=round((1.5 - 32 / 30 / 2) * 30) / 30, frames=32, rate=30, short_side=256, crop=224,
        mean=KINETICS[0], std=KINETICS[1],
    )  # fmt: skip
    expected = features_of(original, x)
    assert close(table["video"][0].as_py(), expected)
    wrong_eps = video(seed=1, mid_planes="convolution")
    assert not close(features_of(wrong_eps, x), expected)


def test_torchvision(tmp_path, clip):
    original = video("mc3_18", seed=1)
    path = saved(tmp_path / "mc3.pth", {**original.state_dict(), **classifier(classes=400)})
    told = import_weights(path, tmp_path / "run")
    assert told["encoders"]["video"]["encoder"] == "mc3_18"
    x = frames_by_hand(
        clip, start=round((1.5 - 16 / 15 / 2) * 15) / 15, frames=16, rate=15, short_side=128, crop=112,
        mean=KINETICS[0], std=KINETICS[1],
    )  # fmt: skip
    assert close(seehear.load(tmp_path / "run").embed(clip)["video"][0].as_py(), features_of(original, x))


def spectrogram_by_hand(path, *, start, bins, mean, std):
    """The spectrogram (1, 1, Q, P) of a second, by the package that the releases of GDT and SeLaVi use."""
    (decoded,) = decode(path, [Window(start, 0, 30.0, audio_seconds=1.0)], short_side_px=None, sample_rate_hz=24000)
    stored = np.round(decoded.waveform.astype(np.float64) * 32768).clip(-32768, 32767).astype(np.int16)
    energies = logfbank(stored, 24000, winlen=0.02, winstep=0.01, nfilt=bins, nfft=1024).T
    return torch.from_numpy(((energies - mean) / std).astype(np.float32))[None, None]


def test_gdt(clip, tmp_path, capsys):
    code, text, _ = run(capsys, "weights", "import", gdt_file(tmp_path / "gdt.pth"), "--out", tmp_path / "run")
    assert code == 0
    assert "exact: spectrograms: those of python_speech_features.logfbank" in text
    assert "exact: pixels: normalised as in GDT's release" in text
    assert "not exact: sound: resampled" in text
    told = seehear.show_weights(tmp_path / "run")
    assert told["heads"] == f"projections of video and audio to {OUTPUTS} dimensions"
    assert {"epoch", "optimizer", "args", "audio_network.base.fc.weight"} <= set(told["unused"])
    assert not [key for key in told["unused"] if key.startswith("mlp")]
    model = seehear.load(tmp_path / "run")
    (row,) = model.embed(clip).to_pylist()
    # A square is all that is left of the frame's shorter side.
    x = frames_by_hand(clip, start=1.0, frames=30, rate=30, short_side=112, crop=112, mean=RELEASED[0], std=RELEASED[1])
    assert close(row["video"], features_of(video(seed=1), x))
    spectrogram = spectrogram_by_hand(clip, start=1.0, bins=257, mean=1.93, std=17.89)
    assert spectrogram.shape == (1, 1, 257, 99)
    heard = features_of(audio(seed=2), spectrogram)
    assert close(row["audio"], heard)
    theirs = release_head()
    theirs.load_state_dict({key.removeprefix("mlp_a.block_forward."): value for key, value in head("mlp_a").items()})
    with torch.inference_mode():
        projected = nn.functional.normalize(theirs(torch.from_numpy(heard)[None]), dim=1).numpy()[0]
        ours = model.projections["audio"](torch.tensor(row["audio"])[None]).numpy()[0]
    assert close(ours, projected)


def test_selavi_labels_by_its_heads(clip, tmp_path, capsys):
    path = selavi_file(tmp_path / "selavi.pth")
    told = import_weights(path, tmp_path / "run")
    assert told["heads"] == f"10 heads to {OUTPUTS} clusters of video and audio"
    assert {"selflabels", "dist"} <= set(told["unused"])
    (row,) = seehear.load(tmp_path / "run").embed(clip).to_pylist()
    heard = features_of(audio(seed=2), spectrogram_by_hand(clip, start=1.0, bins=257, mean=0.0, std=1.0))
    assert close(row["audio"], heard)
    for number in (0, 7):
        answers = []
        for letter, feature in (("v", row["video"]), ("a", row["audio"])):
            theirs, name = release_head(), f"mlp_{letter}{number}"
            theirs.load_state_dict(
                {key.removeprefix(f"{name}.block_forward."): value for key, value in head(name).items()}
            )
            with torch.inference_mode():
                answers.append(theirs(torch.tensor(feature)[None]).log_softmax(1))
        expected = int((answers[0] + answers[1]).argmax())
        labelled = label(tmp_path / "run", clip, head=number)
        assert labelled["cluster"].to_pylist() == [expected]
        seen = label(tmp_path / "run", clip, modality="video", head=number)
        assert seen["cluster"].to_pylist() == [int(answers[0].argmax())]
    code, _, error = run(
        capsys, "label", tmp_path / "run", clip, "--head", "consensus", "--out", tmp_path / "labels.csv"
    )
    assert code == 4
    assert "without videos" in error
    # One encoder alone keeps its heads.
    told = import_weights(path, tmp_path / "seen", modality="video")
    assert told["heads"] == f"10 heads to {OUTPUTS} clusters of video"
    assert label(tmp_path / "seen", clip, modality="video")["cluster"].to_pylist()
    assert read_weights(path, modality="audio").heads is None


def test_heads_that_do_not_fit_are_left(tmp_path):
    model = gdt_model()
    model["mlp_v.block_forward.2.weight"] = torch.zeros(5, 8 * WIDTH)
    weights = read_weights(saved(tmp_path / "gdt.pth", {"epoch": 1, "model": model}))
    assert weights.heads is None
    assert any("heads are left" in note for note in weights.notes)
    assert "mlp_v.block_forward.2.weight" in weights.unused


def test_encoders_of_two_files_keep_their_own_eps(tmp_path, statistics, clip):
    original = video(seed=1, mid_planes="convolution", bn_eps=1e-3)
    path = saved(tmp_path / "xdc.pth", original.state_dict())
    import_weights(
        path, tmp_path / "run", audio_weights=gdt_file(tmp_path / "gdt.pth"), statistics=statistics, settings=MEASURED
    )
    model = seehear.load(tmp_path / "run")
    assert {name: encoder.bn_eps for name, encoder in model.encoders.items()} == {"video": 1e-3, "audio": 1e-5}
    assert model.statistics.pixel_mean == tuple(STATED["pixel_mean"])
    x = torch.randn(1, 1, 257, 99)
    assert close(features_of(model.encoders["audio"], x), features_of(audio(seed=2), x))
    assert set(model.embed(clip).column_names) >= {"video", "audio"}


def test_statistics_are_measured_on_videos(collection, tmp_path):
    path = gdt_file(tmp_path / "gdt.pth")
    settings = [*MEASURED, "clip.short_side_px=128", "clip.crop_px=32"]
    told = import_weights(path, tmp_path / "run", statistics=collection, settings=settings)
    assert "clips: clip.short_side_px=128 where GDT's release has 112" in told["inexact"]
    assert any(text.startswith("spectrograms: spectrogram.mean=None") for text in told["inexact"])
    assert not any(text.startswith(("pixels", "spectrograms")) for text in told["exact"])
    assert told["statistics"] == "measured on 24 videos"
    found = json.loads((tmp_path / "run" / "statistics.json").read_text())
    # The pixels' mean by hand, over the middle clips.
    rows = seehear.scan(collection, workers=0).usable_rows()
    clips = []
    for row in rows:
        middle = (row["video_duration_seconds"] + row["video_start_seconds"]) / 2
        (decoded,) = decode(
            row["path"], [Window(round((middle - 0.5) * 30) / 30, 30, 30.0)], short_side_px=128, sample_rate_hz=24000
        )
        x = decoded.frames
        top, left = (x.shape[1] - 32) // 2, (x.shape[2] - 32) // 2
        clips.append(x[:, top : top + 32, left : left + 32])
    mean = (np.concatenate(clips).astype(np.float64) / 255).mean((0, 1, 2))
    assert np.allclose(found["pixel_mean"], mean, atol=5e-3)
    assert found["spectrogram_std"] != 1.0


def test_the_imported_settings_are_the_releases(tmp_path):
    """What a layout says of its clips is the papers' recipe, but for what the released code has otherwise."""
    from seehear.recipes import recipe

    for make, name, mean, std in (
        (gdt_file, "gdt-kinetics", 1.93, 17.89), (selavi_file, "selavi-vggsound", 0.0, 1.0),
    ):  # fmt: skip
        found, paper = read_weights(make(tmp_path / "w.pth")).model.config, recipe(name)
        assert found.spectrogram == replace(
            paper.spectrogram, kind="logfbank", frames=99, hop_seconds=0.01, window_seconds=0.02, n_fft=1024, mean=mean,
            std=std,
        )  # fmt: skip
        assert found.clip == replace(paper.clip, short_side_px=112, pixel_statistics="gdt")


def test_a_gdt_files_own_command_line_decides(tmp_path, clip):
    arguments = Namespace(
        aud_spec_type=1, num_sec=2, aud_sample_rate=16000, clip_len=8, target_fps=10, train_crop_size=224,
        z_normalize=False, sample_rate=2, dataset="kinetics", lr=0.1,
    )  # fmt: skip
    path = saved(tmp_path / "gdt.pth", {"epoch": 1, "model": gdt_model(), "args": arguments})
    weights = read_weights(path)
    config = weights.model.config
    found = (config.clip.frames, config.clip.frame_rate_hz, config.clip.stride, config.clip.short_side_px)
    assert found == (8, 10.0, 2, 224)
    assert config.clip.crop_px == 224
    spectrogram = config.spectrogram
    assert (config.clip.audio_seconds, config.clip.sample_rate_hz) == (2.0, 16000)
    assert (spectrogram.mel_bins, spectrogram.frames, spectrogram.hop_seconds) == (40, 199, 0.01)
    assert (weights.model.statistics.spectrogram_mean, weights.model.statistics.spectrogram_std) == (0.0, 1.0)
    told = import_weights(path, tmp_path / "run")
    assert any("command line" in note for note in told["notes"])
    assert told["preprocessing"]["audio"]["mel_bins"] == 40
    assert len(seehear.load(tmp_path / "run").embed(clip)["audio"][0]) == 8 * WIDTH
    # A command line that says nothing of clips changes nothing.
    plain = read_weights(gdt_file(tmp_path / "plain.pth"))
    assert plain.model.config.spectrogram.mel_bins == 257
    assert not any("command line" in note for note in plain.notes)


def test_video_and_text(tmp_path, clip):
    """The text encoder is left; every second of 32 frames a second is seen, scaled to [0, 1] alone."""
    model = {key: value for key, value in gdt_model(("mlp_v", "mlp_t")).items() if not key.startswith("audio")}
    model["text_network.fc1.weight"] = torch.zeros(3, 3)
    said = Namespace(dataset="ht100m", sample_rate=2, clip_len=30, target_fps=30, train_crop_size=112, z_normalize=True)
    path = saved(tmp_path / "gdt.pth", {"epoch": 1, "model": model, "lr_scheduler": {}, "args": said})
    told = import_weights(path, tmp_path / "run")
    assert any("text encoder" in note for note in told["notes"])
    assert "text_network.fc1.weight" in told["unused"]
    assert told["heads"] == f"projections of video to {OUTPUTS} dimensions"
    found = np.array(seehear.load(tmp_path / "run").embed(clip)["video"][0].as_py())
    # 30 frames, a sixteenth of a second apart, around the middle of the video.
    start = round((1.5 - 60 / 32 / 2) * 32) / 32
    x = frames_by_hand(clip, start=start, frames=30, rate=16, short_side=112, crop=112, mean=0.0, std=1.0)
    assert close(found, features_of(video(seed=1), x))


def test_another_kind_of_spectrogram_has_to_be_measured(tmp_path, statistics):
    path = gdt_file(tmp_path / "gdt.pth")
    with pytest.raises(UsageError, match="mean and deviation of spectrograms"):
        import_weights(path, tmp_path / "run", settings=["spectrogram.kind=logmel"])
    told = import_weights(path, tmp_path / "run", settings=["spectrogram.kind=logmel"], statistics=statistics)
    assert told["preprocessing"]["audio"]["mel_scale"].startswith("Slaney")
    assert told["preprocessing"]["audio"]["spectrogram_mean"] == -7.0
    assert any("spectrogram.kind=logmel where GDT's release has logfbank" in text for text in told["inexact"])


# ---------------------------------------------------------------- what cannot be imported


def test_what_is_wrong_with_a_file_is_said_and_nothing_is_left(tmp_path, capsys):
    good = saved(tmp_path / "xdc.pth", video(seed=1, mid_planes="convolution").state_dict())
    state = dict(torch.load(good, weights_only=True))
    without = {key: value for key, value in state.items() if key != "layer4.1.conv2.1.bias"}
    misshapen = {**state, "layer3.0.conv1.1.bias": torch.zeros(3)}
    corrupt = tmp_path / "corrupt.pth"
    corrupt.write_bytes(good.read_bytes()[:-3000])
    named = shutil.copy(good, tmp_path / "r2plus1d_18_xdc_audioset-f29ffe8f.pth")
    cases = {
        corrupt: "damaged",
        named: "should start with f29ffe8f",
        saved(tmp_path / "a.pth", without): "missing (1): layer4.1.conv2.1.bias",
        saved(tmp_path / "b.pth", misshapen): "wrong shape (1): layer3.0.conv1.1.bias (file (3,)",
        saved(tmp_path / "c.pth", {"backbone.weight": torch.zeros(2)}): "unknown layout",
        saved(tmp_path / "d.pth", {**state, "extra": torch.zeros(2)}): "left over (1): extra",
        tmp_path / "nothing.pth": "is not a file",
    }
    for path, words in cases.items():
        code, _, error = run(capsys, "weights", "import", path, "--out", tmp_path / "run")
        assert code == 3, path
        assert words in error
        assert run(capsys, "weights", "show", path)[0] == 3
    assert not (tmp_path / "run").exists()
    assert not list(tmp_path.glob(".run*"))
    assert run(capsys, "weights", "import", tmp_path / "d.pth", "--out", tmp_path / "run", "--ignore", "ext*")[0] == 0
    assert "extra" in json.loads((tmp_path / "run" / "imported.json").read_text())["unused"]


def test_a_crash_while_writing_leaves_nothing(tmp_path, monkeypatch):
    path = saved(tmp_path / "mc3.pth", video("mc3_18").state_dict())
    monkeypatch.setattr(
        "seehear.features.model.safetensors_bytes", lambda *_: (_ for _ in ()).throw(OSError("disk full"))
    )
    with pytest.raises(OSError, match="disk full"):
        import_weights(path, tmp_path / "run")
    assert [p.name for p in tmp_path.iterdir()] == ["mc3.pth"]


def test_mistakes(tmp_path, statistics, capsys):
    gdt, xdc = gdt_file(tmp_path / "gdt.pth"), saved(tmp_path / "xdc.pth", video(mid_planes="convolution").state_dict())
    out = tmp_path / "run"
    cases = [
        (["import", gdt, "--out", out, "--set", "spectrogram.kind=logmel"], 2, "--statistics VIDEOS"),
        (["import", gdt, "--out", out, "--set", "clip.pixel_statistics=measured"], 2, "--statistics VIDEOS"),
        (["import", gdt, "--out", out, "--set", "spectrogram.mean=null"], 2, "go together"),
        (["import", gdt, "--out", out, "--statistics", statistics], 2, "nothing to measure"),
        (["import", xdc, "--out", out, "--statistics", statistics], 2, "nothing to measure"),
        (["import", xdc, "--out", out, "--modality", "audio"], 2, "holds no audio encoder"),
        (["import", xdc, "--out", out, "--audio-weights", xdc, "--statistics", statistics], 3, "holds no audio"),
        (["import", xdc, "--out", out, "--set", "clip.frame=3"], 2, "did you mean clip.frames"),
        (["import", xdc, "--out", out, "--set", "spectrogram.frames=99"], 2, "nothing listens"),
        (["import", xdc, "--out", out, "--format", "hub"], 2, "--format"),
        (["import", xdc], 2, "--out"),
        (
            ["import", gdt, "--out", out, "--set", "spectrogram.kind=logmel", "--statistics", xdc.with_suffix(".json")],
            3,
            "holds no statistics",
        ),
        (["import", xdc, "--out", tmp_path], 4, "not empty"),
        (["export", xdc, "--out", out], 2, "--format"),
        (["show", gdt, "--out", out], 2, "--out"),
    ]
    for arguments, expected, words in cases:
        code, _, error = run(capsys, "weights", *arguments)
        assert code == expected, arguments
        assert words in error
    assert not out.exists()


def test_show_says_how_inputs_are_made(tmp_path, capsys):
    code, text, _ = run(capsys, "weights", "show", gdt_file(tmp_path / "gdt.pth"))
    assert code == 0
    assert "spectrogram_mean: 1.93" in text
    assert "kind: logfbank" in text
    code, text, _ = run(capsys, "weights", "show", tmp_path / "gdt.pth", "--json")
    told = json.loads(text)
    assert told["sources"][0]["sha256"] == hashlib.sha256((tmp_path / "gdt.pth").read_bytes()).hexdigest()
    assert told["preprocessing"]["video"]["pixel_mean"] == [0.45, 0.45, 0.45]
    parameters = sum(p.numel() for p in video().parameters())
    assert told["encoders"]["video"]["parameters"] == parameters


# ---------------------------------------------------------------- an imported run among the commands


def test_an_imported_run_is_evaluated_and_says_what_it_lacks(collection, tmp_path, capsys):
    path = saved(tmp_path / "mc3.pth", video("mc3_18", seed=1).state_dict())
    folder = tmp_path / "run"
    small = ["clip.short_side_px=36", "clip.crop_px=32", "clip.frames=4", "data.workers=0"]
    import_weights(path, folder, settings=small)
    result = evaluate_linear(folder, collection, baselines=True, clips=1)
    assert set(result["accuracy"]) == {"video"}
    assert evaluate_linear(folder, collection, clips=1)["features_reused"]
    for arguments, code, words in (
        (["embed", folder, "--out", tmp_path / "f.parquet"], 4, "seehear embed"),
        (["label", folder, collection, "--out", tmp_path / "l.csv"], 2, "no clusters to label by"),
        (["evaluate", "clustering", folder], 4, "evaluate linear"),
        (["report", folder], 4, "seehear weights show"),
        (["pretrain", "--resume", folder], 4, "--video-weights"),
    ):
        found, _, error = run(capsys, *arguments)
        assert found == code, arguments
        assert words in error
    again = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    with pytest.raises(RunError, match="holds imported weights already"):
        import_weights(path, folder)
    assert again == {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}


# ---------------------------------------------------------------- export


def test_a_folder_to_give_away_comes_back_as_a_run(finished_run, collection, tmp_path, capsys):
    out = tmp_path / "given"
    code, text, _ = run(capsys, "weights", "export", finished_run, "--out", out, "--format", "hub")
    assert code == 0
    assert "largest difference from the source: 0" in text
    source, given = seehear.load(finished_run), Model.from_pretrained(out)
    assert all(torch.equal(v, given.encoders.state_dict()[k]) for k, v in source.encoders.state_dict().items())
    card = (out / "README.md").read_text()
    assert "Learnt from 24 videos" in card
    assert f"| spectrogram_mean | `{source.statistics.spectrogram_mean}` |" in card
    assert str(collection.parent) not in "".join(p.read_text() for p in out.iterdir() if p.suffix != ".safetensors")
    facts = json.loads((out / "preprocessing.json").read_text())
    assert facts["video"]["frame_rate_hz"] == 7.5
    assert run(capsys, "weights", "export", finished_run, "--out", out, "--format", "hub")[0] == 2
    assert run(capsys, "weights", "import", out, "--out", tmp_path / "run")[0] == 0
    theirs = label(finished_run, collection)
    assert label(tmp_path / "run", collection).equals(theirs)
    seen = export_weights(finished_run, tmp_path / "seen", format="safetensors", modality="video")
    assert seen["encoders"] == ["video"]
    assert set(Model.from_pretrained(tmp_path / "seen").clusters) == {"video"}
    assert not (tmp_path / "seen" / "README.md").exists()


def test_paths_of_this_machine_stay_here(finished_run, tmp_path):
    model = seehear.load(finished_run)
    settings = ["model.video_weights=/home/me/w.pth", "data.cache_folder=/home/me/c", "data.where=[name=me]"]
    model.config = with_settings(model.config, settings)
    model.save_pretrained(tmp_path / "given")
    assert "/home/me" not in (tmp_path / "given" / "config.json").read_text()
    assert "name=me" not in (tmp_path / "given" / "config.json").read_text()
    assert Model.from_pretrained(tmp_path / "given").config.clip == model.config.clip
    with pytest.raises(UsageError, match="something in"):
        model.save_pretrained(tmp_path / "given")


def test_selavis_heads_come_along(tmp_path, clip):
    import_weights(selavi_file(tmp_path / "selavi.pth"), tmp_path / "run")
    export_weights(tmp_path / "run", tmp_path / "given", format="hub")
    card = (tmp_path / "given" / "README.md").read_text()
    assert "selavi.pth" in card
    assert "Imported weights" in card
    import_weights(tmp_path / "given", tmp_path / "again")
    assert label(tmp_path / "again", clip).equals(label(tmp_path / "run", clip))
    seen = seehear.load(tmp_path / "run").subset("video")
    seen.save(tmp_path / "seen")
    expected = label(tmp_path / "run", clip, modality="video")["cluster"].to_pylist()
    assert label(import_and_open(tmp_path / "seen"), clip, modality="video")["cluster"].to_pylist() == expected


def import_and_open(folder: Path) -> Path:
    import_weights(folder, folder.with_name(f"{folder.name}-run"))
    return folder.with_name(f"{folder.name}-run")


def model_folder(path: Path, settings=(), modalities=None) -> Path:
    """An untrained model with tiny clips."""
    config = with_settings(Config(), [*TINY_SETTINGS, *settings])
    modalities = modalities or {"video": "video", "audio": "audio"}
    Model(config, modalities, build_encoders(config.model, modalities, 0), Statistics()).save(path)
    return path


def torchvision_names() -> dict[str, tuple[int, ...]]:
    """Names and shapes of torchvision's r2plus1d_18 by formula, its classifier left out."""
    found: dict[str, tuple[int, ...]] = {}

    def norm(name: str, size: int) -> None:
        found.update({f"{name}.{part}": (size,) for part in ("weight", "bias", "running_mean", "running_var")})
        found[f"{name}.num_batches_tracked"] = ()

    found["stem.0.weight"], found["stem.3.weight"] = (45, 3, 1, 7, 7), (64, 45, 3, 1, 1)
    norm("stem.1", 45)
    norm("stem.4", 64)
    for layer in range(1, 5):
        planes = 64 * 2 ** (layer - 1)
        for block in range(2):
            inputs = planes // 2 if layer > 1 and block == 0 else planes
            mid = inputs * planes * 27 // (inputs * 9 + 3 * planes)
            for number, source in ((1, inputs), (2, planes)):
                name = f"layer{layer}.{block}.conv{number}"
                found[f"{name}.0.0.weight"] = (mid, source, 1, 3, 3)
                norm(f"{name}.0.1", mid)
                found[f"{name}.0.3.weight"] = (planes, mid, 3, 1, 1)
                norm(f"{name}.1", planes)
            if inputs != planes:
                found[f"layer{layer}.{block}.downsample.0.weight"] = (planes, inputs, 1, 1, 1)
                norm(f"layer{layer}.{block}.downsample.1", planes)
    return found


@pytest.fixture(scope="module")
def wide(tmp_path_factory):
    """A model whose video encoder is torchvision's."""
    settings = ["model.video=r2plus1d_18", "model.video_width=64", "model.video_stem_pool=false"]
    return model_folder(tmp_path_factory.mktemp("wide"), settings)


@pytest.mark.parametrize("ending", [".pth", ".safetensors"])
def test_torchvision_names_and_outputs(wide, tmp_path, ending):
    path = tmp_path / f"weights{ending}"
    told = export_weights(wide, path, format="torchvision", modality="video")
    assert told["max_difference"] == 0
    state = torch.load(path, weights_only=True) if ending == ".pth" else load_file(path)
    assert {key: tuple(value.shape) for key, value in state.items()} == torchvision_names()
    if ending == ".pth":
        facts = json.loads((tmp_path / "weights.pth.json").read_text())
    else:
        with safe_open(path, "pt") as file:
            facts = json.loads(file.metadata()["seehear"])
    assert facts["preprocessing"]["frames"] == 4
    again = import_weights(path, tmp_path / "run")
    assert again["sources"][0]["layout"] == "torchvision"
    x = torch.randn(2, 3, 4, 32, 32)
    one, other = (Model.load(p).encoders["video"] for p in (wide, tmp_path / "run"))
    with torch.inference_mode():
        assert torch.equal(one(x), other(x))


def test_what_torchvision_does_not_have_is_refused(finished_run, tmp_path):
    with pytest.raises(UsageError) as caught:
        export_weights(finished_run, tmp_path / "w.pth", format="torchvision", modality="video")
    assert "4 blocks (torchvision 8); width 4 (torchvision 64); a pool after the stem" in caught.value.message
    for change in ({"mid_planes": "convolution"}, {"bn_eps": 1e-3}, {"stem_stride": 4}):
        with pytest.raises(UsageError, match="none of torchvision's"):
            formats.torchvision_name(build_video_encoder("r2plus1d_18", **change))
    assert formats.torchvision_name(build_video_encoder("r3d_18")) == "r3d_18"
    with pytest.raises(UsageError, match="no audio encoder"):
        export_weights(finished_run, tmp_path / "w.pth", format="torchvision", modality="audio")
    assert not list(tmp_path.iterdir())


def test_torch_export(finished_run, tmp_path):
    path = tmp_path / "video.pt2"
    told = export_weights(finished_run, path, format="torch-export", modality="video")
    assert told["input"] == ["batch", 3, 4, 32, 32]
    assert told["max_difference"] < 5e-5  # batch norms are folded into convolutions here and not there
    extra = {"seehear.json": ""}
    program = torch.export.load(path, extra_files=extra).module()
    assert json.loads(extra["seehear.json"])["preprocessing"]["frame_rate_hz"] == 7.5
    encoder = seehear.load(finished_run).encoders["video"]
    for batch in (1, 5):
        x = torch.randn(batch, 3, 4, 32, 32)
        assert torch.allclose(program(x), encoder(x), atol=5e-5)


@pytest.mark.parametrize("modality", ["video", "audio"])
def test_onnx(finished_run, tmp_path, modality):
    for package in formats.ONNX_PACKAGES:
        pytest.importorskip(package, reason=f"{package} is not installed (extra `onnx`)")
    import onnx
    import onnxruntime

    path = tmp_path / "encoder.onnx"
    told = export_weights(finished_run, path, format="onnx", modality=modality)
    assert 0 < told["max_difference"] < 1e-4
    model = onnx.load(path)
    onnx.checker.check_model(model)
    (entry,) = [e for e in model.metadata_props if e.key == "seehear"]
    facts = json.loads(entry.value)
    assert facts["input"][1:] == ([3, 4, 32, 32] if modality == "video" else [1, 16, 50])
    key = "frame_rate_hz" if modality == "video" else "spectrogram_mean"
    assert facts["preprocessing"][key]
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    encoder = seehear.load(finished_run).encoders[modality]
    for batch in (1, 4):
        x = torch.randn(batch, *facts["input"][1:])
        found = session.run(["features"], {"clips": x.numpy()})[0]
        assert np.allclose(found, encoder(x).detach().numpy(), atol=1e-4)


def test_without_onnx_it_is_said_how_to_get_it(finished_run, tmp_path, monkeypatch):
    monkeypatch.setattr(formats, "find_spec", lambda name: None if name == "onnxscript" else object())
    with pytest.raises(UsageError, match="ONNX needs onnxscript") as caught:
        export_weights(finished_run, tmp_path / "e.onnx", format="onnx", modality="audio")
    assert "seehear[onnx]" in str(caught.value.remedy)


def test_an_export_that_is_not_the_encoder_is_not_kept(wide, tmp_path, monkeypatch):
    monkeypatch.setattr(formats, "load_video_weights", lambda encoder, path: None)
    with pytest.raises(SeehearError, match="differs from the encoder by"):
        export_weights(wide, tmp_path / "w.pth", format="torchvision", modality="video")
    assert not list(tmp_path.iterdir())


def test_mistakes_of_export(finished_run, tmp_path, capsys):
    pair = model_folder(tmp_path / "pair", modalities={"video": "video", "video2": "video"})
    unfinished = tmp_path / "unfinished"
    shutil.copytree(finished_run, unfinished)
    (unfinished / "labels.parquet").unlink()
    (tmp_path / "there.pt2").write_bytes(b"")
    cases = [
        ((finished_run, "e.pt2", "torch-export"), 2, "several encoders: audio, video|several encoders: video, audio"),
        ((pair, "e.pt2", "torch-export", "--modality", "video"), 2, "of one modality: video, video2"),
        ((pair, "e.pt2", "torch-export", "--modality", "audio"), 2, "no encoder of audio"),
        ((pair, "e", "safetensors", "--modality", "audio"), 2, "no encoder of audio"),
        ((unfinished, "e.pt2", "torch-export", "--modality", "video"), 4, "--resume"),
        ((finished_run, "e.onnx", "torch-export", "--modality", "video"), 2, "e.pt2"),
        ((finished_run, "e.safetensors", "safetensors"), 2, "writes a folder"),
        ((finished_run, "there.pt2", "torch-export", "--modality", "video"), 2, "exists already"),
        ((tmp_path / "nothing", "e.pt2", "torch-export"), 4, "no trained model"),
    ]
    for (source, out, form, *more), expected, words in cases:
        code, _, error = run(capsys, "weights", "export", source, "--out", tmp_path / out, "--format", form, *more)
        assert code == expected, (source, out, error)
        assert re.search(words, error)
    assert export_weights(pair, tmp_path / "whole", format="safetensors")["encoders"] == ["video", "video2"]
    with pytest.raises(UsageError, match="no format"):
        export_weights(finished_run, tmp_path / "e", format="caffe")  # type: ignore[arg-type]


def test_a_run_that_was_trained_has_no_provenance(finished_run, capsys):
    code, text, _ = run(capsys, "weights", "show", finished_run, "--json")
    assert code == 0
    told = json.loads(text)
    assert told["clusters"] == {"video": 4, "audio": 4, "video+audio": 4}
    assert told["sources"][0]["layout"] == "seehear"
    with pytest.raises(DataError, match="says nothing of the preprocessing"):
        import_loose(finished_run)


def import_loose(finished_run: Path) -> None:
    """A file of ours without the settings beside it."""
    loose = finished_run.parent / "loose.safetensors"
    shutil.copy(finished_run / "model" / "model.safetensors", loose)
    import_weights(loose, finished_run.parent / "never")
