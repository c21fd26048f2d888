"""What limits a training: rates of a decoder, a loader and a model, and what is said of them."""

from __future__ import annotations

import json
import tempfile
from dataclasses import replace

import pytest

import seehear
from seehear.errors import DataError, UsageError
from seehear.profiling.measuring import Profile, _few
from seehear.profiling.text import advice, as_text
from tests.commands import run
from tests.conftest import TINY_SETTINGS
from tests.corpus import make_broken

RATES = Profile(
    recipe="small", method="xdc", device="cpu", cores=8, workers=4, videos=1000, sample=100, decoder_a_core=10.0,
    loader=40.0, cached=900.0, model=200.0, together=38.0, waiting=0.8, from_cache=False, cache_gib=20.0,
    allowed_cache_gib=8.0, short_side_px=360, wanted_side_px=112, frame_rate_hz=30.0, sample_rate_hz=24000,
    prepared=False,
)  # fmt: skip


@pytest.mark.parametrize("method", ["xdc", "gdt", "selavi", "supervised"])
def test_every_part_is_measured_for_every_kind_of_method(collection, method, monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    settings = [*TINY_SETTINGS, "data.cache_gib=1"]
    found = seehear.profile(collection, method=method, settings=settings, seconds=0.5, sample=6)
    rates = (found.decoder_a_core, found.loader, found.cached, found.model, found.together)
    assert all(rate is not None and rate > 0 for rate in rates)
    assert 0 <= found.waiting <= 1
    assert (found.videos, found.sample, found.from_cache, found.prepared) == (24, 6, True, False)
    assert (found.short_side_px, found.wanted_side_px) == (48, 36)
    assert found.cores_needed == pytest.approx(found.model / found.decoder_a_core)
    # 2.5 s at 7.5 frames of 36x48 pixels a second, and sound
    assert found.cache_gib * 2**30 == pytest.approx(24 * 2.5 * (7.5 * 36 * 48 * 3 + 8000 * 2), rel=0.05)
    assert not list(tmp_path.glob("seehear*"))


def test_the_command_gives_json_and_words(collection, capsys):
    settings = [part for text in TINY_SETTINGS for part in ("--set", text)]
    arguments = ("profile", collection, "--seconds", "0.3", "--sample", "4", "--set", "data.cache_gib=0", *settings)
    code, out, _ = run(capsys, *arguments, "--workers", "1", "--json")
    facts = json.loads(out)
    assert (code, facts["cached"], facts["from_cache"], facts["workers"]) == (0, None, False, 1)
    assert facts["limit"] in ("model", "decoding", "making batches", "nothing alone")
    code, out, _ = run(capsys, *arguments)
    assert code == 0
    assert "model on cpu" in out
    assert "-> " in out


def test_a_manifest_can_be_measured_in_part(collection):
    manifest = seehear.scan(collection, workers=0)
    options = {"settings": TINY_SETTINGS, "seconds": 0.2, "sample": 4}
    assert seehear.profile(manifest, where=["split=test"], **options).videos == 6
    with pytest.raises(UsageError, match="by its manifest"):
        seehear.profile(collection, where=["split=test"], **options)


def test_what_cannot_be_measured_is_said(collection, tmp_path):
    with pytest.raises(UsageError, match="trains nothing"):
        seehear.profile(collection, method="scratch", settings=TINY_SETTINGS, sample=2)
    with pytest.raises(UsageError, match="some seconds"):
        seehear.profile(collection, seconds=0)
    make_broken(tmp_path)
    with pytest.raises(DataError, match="no usable video"):
        seehear.profile(str(tmp_path / "t*.mp4"), settings=TINY_SETTINGS)


def test_what_limits_follows_from_the_rates():
    assert RATES.limit == "decoding"
    assert replace(RATES, loader=300.0).limit == "model"
    assert replace(RATES, loader=190.0).limit == "nothing alone"
    assert replace(RATES, decoder_a_core=90.0).limit == "making batches"
    assert replace(RATES, from_cache=True).limit == "model"
    assert replace(RATES, from_cache=True, cached=50.0).limit == "making batches"


def test_advice_names_what_would_help_and_nothing_else():
    said = "\n".join(advice(RATES))
    assert "data.cache_gib=22" in said
    assert "seehear prepare VIDEOS --out prepared/ --short-side 112 --audio-rate 24000" in said
    assert "short side has 360 pixels, the recipe takes 112" in said
    assert "data.workers=8" in said
    assert "--short-side 114" in "\n".join(advice(replace(RATES, wanted_side_px=113)))
    assert "little" in "\n".join(advice(replace(RATES, short_side_px=120)))
    assert "seehear prepare" not in "\n".join(advice(replace(RATES, prepared=True)))
    assert "20.0 decode as fast" in "\n".join(advice(replace(RATES, workers=8)))
    assert "cache_gib" not in "\n".join(advice(replace(RATES, cached=41.0)))
    assert "data keeps up" in as_text(replace(RATES, loader=300.0))
    assert "prepare" not in as_text(replace(RATES, loader=300.0))


def test_the_cache_is_tried_with_minutes_of_video_at_most():
    class Long:
        def __init__(self, seconds: float) -> None:
            self.end_seconds = seconds

    videos = [Long(s) for s in (50, 50, 50, 10)]
    assert _few(videos) == videos[:2]
    assert _few([Long(200), Long(200)])[0].end_seconds == 200  # type: ignore[arg-type]
    assert _few([Long(4000)]) == []
