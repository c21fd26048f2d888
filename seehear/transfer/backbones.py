"""What a transfer protocol puts to the test: a trained run, an untrained network, or features of anyone's model."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from seehear.data.cache import media_cache
from seehear.data.clips import clip_refs
from seehear.data.loader import ClipLoader, workers_of
from seehear.data.manifest import Manifest
from seehear.data.statistics import measure_statistics
from seehear.data.truth import match
from seehear.data.views import Statistics
from seehear.engine.runfolder import RunFolder
from seehear.errors import DataError, UsageError
from seehear.features.bank import mean_by_video
from seehear.features.files import read_features
from seehear.features.model import LABELLING_OF, Model, usable_videos
from seehear.methods import build_method
from seehear.modalities import MODALITIES, streams_of
from seehear.recipes import recipe as named_recipe

UNTRAINED = "untrained:"
FEATURE_FILES = (".parquet", ".npz")


@dataclass(frozen=True)
class Network:
    """Encoders that have to look at the videos."""

    model: Model
    trained: bool = True
    cache: Path | None = None
    """Folder where features and the scan of the videos are kept."""

    def restricted(self, streams: Sequence[str]) -> Model:
        """The part of the model that does with these streams. Raises `UsageError` if there is none."""
        has = streams_of(tuple(self.model.modalities.values()))
        left = [stream for stream in has if stream in streams]
        if not left:
            raise UsageError(
                f"the encoders need {' and '.join(has)}, and what is asked for is {' and '.join(streams)}",
                "choose another run or data set, or name the streams by --modality",
            )
        return self.model if len(left) == len(has) else self.model.subset(left[0])


@dataclass(frozen=True)
class GivenFeatures:
    """Features from a file; nothing has to be decoded."""

    path: Path
    features: dict[str, dict[str, np.ndarray]]
    """For video, audio and both, or the column's name, the vector (D,) of each video by the id it has in the file."""

    def by_id(self, ids: Sequence[str]) -> dict[str, dict[str, np.ndarray]]:
        """The same by those of `ids` (paths within a data set) that the file's ids mean.

        They are joined as labels and predictions are (see `seehear.data.truth.match`): by equal ids, else by
        the end of the path, with and without the extension, where it is unambiguous. Raises `DataError` if none is.
        """
        found = {}
        for name, vectors in self.features.items():
            try:
                joined = match({i: i for i in ids}, dict.fromkeys(vectors, 0))
            except DataError:
                there, here = next(iter(vectors)), next(iter(ids), "nothing")
                raise DataError(
                    f"{self.path}: no row is of a video of the data: it has {there!r}, the data {here!r}",
                    "name its rows by path, or by file name, in a column video_id or path",
                ) from None
            found[name] = {mine: vectors[theirs] for theirs, mine in zip(joined.ids, joined.y_true, strict=True)}
        return found


def open_backbone(run: str | Path, column: str | None = None) -> Network | GivenFeatures:
    """Open the folder of a finished run, `untrained:RECIPE`, or a file of features.

    `untrained:RECIPE` is the network of that recipe with the weights that its seed draws. A file of features is a
    .parquet as `seehear embed` writes it, or any with a column of vectors (`column` names it if there are several),
    or an .npz of arrays: vectors (N, D), and the videos' ids or paths in an array named video_id, video, path or id.

    Raises what `Model.load` and `read_features` do, and `UsageError` for a column without a file or an unknown recipe.
    """
    path = Path(run)
    if path.suffix in FEATURE_FILES and not path.is_dir():
        return _given(path, column)
    if column is not None:
        raise UsageError("--column is of a file of features", f"{run} is none")
    if str(run).startswith(UNTRAINED) and not path.exists():
        return Network(_untrained(str(run).removeprefix(UNTRAINED)), trained=False)
    cache = path / "features" if RunFolder(path).config.exists() else None
    return Network(Model.load(run), cache=cache)


def _untrained(recipe: str) -> Model:
    config = named_recipe(recipe)
    method = build_method(config)
    seen = {name: modality for name, modality in method.modalities.items() if MODALITIES[modality].stream}
    return Model(config, seen, {name: method.encoders[name] for name in seen}, Statistics())


def measured_statistics(model: Model, manifest: Manifest) -> Statistics:
    """The normalisation that a run on these videos would begin with."""
    videos = usable_videos(manifest, tuple(dict.fromkeys(model.modalities.values())))
    with ClipLoader(
        videos, model.config, model.modalities, model.statistics, workers=workers_of(model.config),
        cache=media_cache(model.config),
    ) as loader:  # fmt: skip
        return measure_statistics(loader, clip_refs(videos, model.config.cluster))


def _given(path: Path, column: str | None) -> GivenFeatures:
    if not path.is_file():
        raise DataError(f"there is no file {path}", "give the folder of a run, or a file of features")
    try:
        table = pq.read_table(path) if path.suffix == ".parquet" else _npz_table(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise DataError(f"{path}: not a Parquet file ({error})", "write it anew, e.g. by `seehear embed`") from None
    own = [name for name in ("video", "audio") if _has_vectors(table, name)] if column is None else []
    # video, audio and both, as for a run; or the one column that is named or that there is.
    wanted = {m: labelling for m, labelling in LABELLING_OF.items() if set(labelling.split("+")) <= set(own)}
    try:
        read = [read_features(table, labelling) for labelling in wanted.values()] or [read_features(table, column)]
    except (UsageError, DataError) as error:
        raise type(error)(f"{path}: {error.message}", error.remedy) from None
    if "video" not in read[0].keys:
        raise DataError(f"{path}: its rows name no videos", "add a column of texts video_id or path")
    ids = read[0].keys["video"].to_pylist()
    names = list(wanted) or [str(read[0].column)]
    return GivenFeatures(path, {name: mean_by_video(ids, f.x) for name, f in zip(names, read, strict=True)})


def _has_vectors(table: pa.Table, name: str) -> bool:
    return name in table.column_names and pa.types.is_nested(table.schema.field(name).type)


def _npz_table(path: Path) -> pa.Table:
    """The arrays of an .npz file as columns: texts (N,) and vectors (N, D)."""
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays: Mapping[str, np.ndarray] = {name: file[name] for name in file.files}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        why = "it holds pickled Python objects, which could run code" if "allow_pickle" in str(error) else str(error)
        raise DataError(
            f"{path}: the .npz file cannot be read ({why})", "numpy.savez(path, path=[...], feature=array (N, D))"
        ) from None
    rows = {len(x) for x in arrays.values() if x.ndim}
    if len(rows) != 1:
        raise DataError(f"{path}: its arrays have {sorted(rows)} rows", "all arrays must have one row for each video")
    columns = {}
    for name, x in arrays.items():
        if x.ndim == 2 and x.dtype.kind in "fiu":
            columns[name] = pa.FixedSizeListArray.from_arrays(pa.array(x.ravel()), x.shape[1])
        elif x.ndim == 1:
            columns[name] = pa.array(x.astype(str) if x.dtype.kind in "US" else x)
    return pa.table(columns)
