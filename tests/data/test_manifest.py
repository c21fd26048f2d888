from __future__ import annotations

import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from seehear.data.manifest import Manifest
from seehear.data.scan import scan
from seehear.errors import DataError, UsageError
from tests.corpus import make_collection


@pytest.fixture(scope="module")
def collection(tmp_path_factory):
    folder = tmp_path_factory.mktemp("collection")
    make_collection(folder, n=8, classes=4, seed=1)
    return folder


def test_save_and_load(collection, tmp_path):
    manifest = scan(collection / "labels.csv", workers=0)
    path = tmp_path / "deep" / "m.parquet"
    manifest.save(path)
    again = Manifest.load(path)
    assert again.table.equals(manifest.table)
    assert dict(again.info) == dict(manifest.info)
    assert again.fingerprint() == manifest.fingerprint()
    assert [p.name for p in path.parent.iterdir()] == ["m.parquet"]
    with pytest.raises(DataError, match="cannot write"):
        manifest.save(path / "below a file" / "m.parquet")


def test_a_failed_save_leaves_the_old_one(collection, tmp_path, monkeypatch):
    path = tmp_path / "m.parquet"
    manifest = scan(collection, workers=0)
    manifest.save(path)
    before = path.read_bytes()

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(pq, "write_table", fail)
    with pytest.raises(OSError, match="disk full"):
        manifest.save(path)
    assert path.read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1


def test_loading_something_else(tmp_path):
    with pytest.raises(DataError, match="no manifest at"):
        Manifest.load(tmp_path / "none.parquet")
    (tmp_path / "t.parquet").write_bytes(b"PAR1 nonsense")
    with pytest.raises(DataError, match="is not a manifest"):
        Manifest.load(tmp_path / "t.parquet")
    with pytest.raises(DataError, match="columns video_id"):
        Manifest(pa.table({"x": [1]}))


def test_where(collection):
    manifest = scan(collection / "labels.csv", workers=0)
    assert len(manifest.where("label=class_1")) == 2
    assert len(manifest.where("label != class_1")) == 6
    assert len(manifest.where("width>=64").where("video_duration_seconds < 3")) == 8
    assert len(manifest.where("usable=true")) == 8
    assert len(manifest.where("reason=missing")) == 0
    assert manifest.where("split=train").extra_columns == ["label", "split"]
    with pytest.raises(UsageError, match="did you mean 'label'"):
        manifest.where("labels=x")
    with pytest.raises(UsageError, match="no such condition"):
        manifest.where("label")
    with pytest.raises(UsageError, match="is no int32"):
        manifest.where("width=wide")


def test_fingerprint_names_the_content(collection, tmp_path):
    manifest = scan(collection, workers=0)
    moved = tmp_path / "elsewhere"
    shutil.copytree(collection, moved)
    assert scan(moved, workers=0).fingerprint() == manifest.fingerprint()
    (moved / "clips/clip_0002.mp4").unlink()
    assert scan(moved, workers=0).fingerprint() != manifest.fingerprint()
