"""Settings: applied by name, checked by type, explained when wrong, the same after a round trip."""

from __future__ import annotations

import dataclasses

import pytest
import yaml

from seehear.config import Config, OptimConfig
from seehear.engine.schedule import learning_rate
from seehear.errors import UsageError
from seehear.pretraining.plan import make_config
from seehear.recipes import RECIPES, recipe
from seehear.settings import from_dict, load_config, save_config, setting_docs, setting_names, to_dict, with_settings


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("cluster.k=32", lambda c: c.cluster.k == 32),
        ("optim.base_lr=1e-3", lambda c: c.optim.base_lr == 1e-3),
        ("optim.base_lr=1", lambda c: c.optim.base_lr == 1.0 and isinstance(c.optim.base_lr, float)),
        ("cluster.pca_dim=256", lambda c: c.cluster.pca_dim == 256),
        ("cluster.pca_dim=null", lambda c: c.cluster.pca_dim is None),
        ("cluster.whiten=true", lambda c: c.cluster.whiten is True),
        ("augment.short_side_range_px=[128,160]", lambda c: c.augment.short_side_range_px == (128, 160)),
        ("data.where=split=train", lambda c: c.data.where == ("split=train",)),
        ("clip.pixel_statistics=measured", lambda c: c.clip.pixel_statistics == "measured"),
        ("final.frames=16", lambda c: c.final is not None and c.final.frames == 16),
        ("model.video_weights=a.pth", lambda c: c.model.video_weights == "a.pth"),
    ],
)
def test_a_setting_is_applied(text, read):
    assert read(with_settings(Config(), [text]))


def test_a_field_of_an_optional_schedule_starts_from_the_main_one():
    config = with_settings(Config(optim=OptimConfig(base_lr=0.3)), ["last_round.epochs=90"])
    assert config.last_round == OptimConfig(base_lr=0.3, epochs=90)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("cluster.kk=3", "cluster.k"),
        ("k=3", "cluster.k"),
        ("optim.lr=3", "did you mean"),
        ("batch_size=3", "optim.batch_size"),
        ("cluster.k=many", "cluster.k='many' is not int"),
        ("cluster.k=3.5", "is not int"),
        ("cluster.l2=1", "is not bool"),
        ("optim.schedule=cosine", "step | one-cycle"),
        ("cluster=3", "is a section"),
        ("cluster.k", "is not a setting"),
        ("cluster.k=[", "cannot read"),
    ],
)
def test_a_wrong_setting_says_what_would_be_right(text, words):
    with pytest.raises(UsageError) as caught:
        with_settings(Config(), [text])
    assert words in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "clip.crop_px=300",
        "spectrogram.frames=200",
        "data.validation_share=1",
        "rounds=0",
        "optim.batch_size=0",
        "augment.short_side_range_px=[100,160]",
    ],
)
def test_contradictions_are_refused(text):
    with pytest.raises(UsageError):
        with_settings(Config(), [text]).check()


def test_early_stopping_needs_a_validation_part():
    with pytest.raises(UsageError, match="validation"):
        with_settings(Config(), ["optim.early_stop_rises=3", "data.validation_share=0"]).check()


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_are_consistent_and_survive_yaml(name, tmp_path):
    config = recipe(name)
    config.check()
    assert config.recipe == name
    save_config(config, tmp_path / "config.yaml")
    assert load_config(tmp_path / "config.yaml") == config


def test_recipes_hold_the_numbers_of_the_papers_table_10():
    def row(optim):
        return (optim.clips_per_epoch, optim.batch_size, optim.base_lr, optim.warmup_epochs, optim.step_epochs,
                optim.epochs, optim.weight_decay, optim.early_stop_rises)  # fmt: skip

    million = 1_000_000
    assert row(recipe("supervised-kinetics").optim) == (million, 32, 0.01, 10, 10, 45, 1e-4, 0)
    assert row(recipe("supervised-audioset").optim) == (2 * million, 32, 0.04, 10, 20, 45, 1e-5, 0)
    assert row(recipe("xdc-kinetics").optim) == (million, 32, 0.01, 10, 10, 30, 1e-4, 3)
    assert row(recipe("xdc-audioset").optim) == (2 * million, 32, 0.01, 10, 10, 45, 1e-4, 3)
    assert row(recipe("xdc-ig").optim) == (10 * million, 32, 0.01, 1, 3, 10, 1e-4, 0)
    assert row(recipe("xdc-ig").last_round) == (10 * million, 32, 0.01, 0, 9, 30, 1e-4, 0)
    others = ("small", "avts-kinetics")  # the former has no steps, the latter is of another paper
    assert all(recipe(n).optim.gamma == 0.01 for n in RECIPES if n not in others)
    for name, base in (("xdc-final-32-audioset", "xdc-audioset"), ("xdc-final-32-ig", "xdc-ig")):
        long, short = recipe(name), recipe(base)
        assert dataclasses.replace(long, final=None, recipe=base) == short
        assert (long.final.frames, long.final.optim.batch_size) == (32, 8)
        assert long.final.optim.clips_per_epoch == short.optim.clips_per_epoch
        assert learning_rate(long.final.optim, long.final.optim.warmup_epochs, 8) == pytest.approx(0.0025)
    final = recipe("xdc-final-32").final
    assert final.frames == 32
    assert final.optim.batch_size == 8


def test_an_archive_is_learnt_by_the_small_recipe_with_kinds_counted_and_less_by_heart():
    for method in (None, "gdt", "selavi", "avts"):
        small, archive = recipe("small", method), recipe("archive", method)
        assert archive.cluster == dataclasses.replace(small.cluster, auto=True)
        assert (archive.clip, archive.model) == (small.clip, small.model)
    optim = dataclasses.replace(recipe("small").optim, label_smoothing=0.1, least_clips_per_epoch=150)
    assert recipe("archive").optim == optim


def test_where_kinds_are_counted_the_recipe_is_that_of_an_archive():
    assert make_config().recipe == "small"
    assert make_config(clusters="auto").recipe == "archive"
    assert make_config(settings=["cluster.auto=true"]).optim.label_smoothing == 0.1
    assert make_config(method="gdt", clusters="auto").recipe == "archive-gdt"
    assert make_config(recipe="small", clusters="auto").recipe == "small"
    told = make_config(recipe="archive", clusters=12)
    assert (told.cluster.auto, told.cluster.k, told.recipe) == (False, 12, "archive")


def test_a_method_has_its_own_form_of_a_recipe_however_it_is_named():
    for method in ("gdt", "selavi", "avts"):
        assert make_config(settings=[f"method={method}"]) == make_config(method=method)
        counted = make_config(settings=[f"method={method}", "cluster.auto=true"])
        assert counted == make_config(method=method, clusters="auto")
    assert make_config(method="gdt", settings=["method=sdc"]) == make_config(method="sdc")
    assert make_config(recipe="gdt-kinetics").recipe == "gdt-kinetics"


def test_an_unknown_recipe_suggests_one():
    with pytest.raises(UsageError, match="xdc-kinetics"):
        recipe("xdc-kinetic")


def test_every_setting_is_explained():
    docs = setting_docs()
    assert list(docs) == setting_names()
    assert all(text and not text.startswith("[") for text in docs.values())


def test_unknown_names_in_a_file_are_errors():
    values = to_dict(Config())
    values["cluster"]["kay"] = 3
    with pytest.raises(UsageError, match=r"cluster\.k"):
        from_dict(yaml.safe_load(yaml.safe_dump(values)))


def test_settings_cannot_be_changed_in_place():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Config().seed = 3
