"""The training and the test videos of a data set.

Classes of test videos are no part of a `Split`: they are read by `classes_of` when all answers are there, and only to
count the right ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from seehear.data.datasets import TEST, TRAIN
from seehear.data.manifest import Manifest
from seehear.errors import DataError, UsageError


@dataclass(frozen=True)
class Split:
    """What may be known before scoring: the training videos with their classes, the test videos without.

    `train` maps ids to classes. `missing` counts, for "train" and "test", the videos that are left out:
    `unusable` (rejected by the scan), `undecodable` (failed later) and `unlabelled` (for "test" known at
    scoring only).
    """

    train: dict[str, str]
    test: list[str]
    missing: dict[str, dict[str, int]]
    other: int
    """Usable videos of neither split."""

    @property
    def train_labels(self) -> np.ndarray:
        return np.array(list(self.train.values()))


def make_split(
    manifest: Manifest,
    label_column: str = "label",
    split_column: str = "split",
    decoded: Iterable[str] | None = None,
) -> Split:
    """Sort the videos by the table's split column ("train", "test"); classes are read of the training rows alone.

    `decoded` are the ids of the videos that have features; without it, of all usable ones. Raises `UsageError`
    if a column is missing and `DataError` if a part is empty or the training part has but one class.
    """
    for column in (split_column, label_column):
        if column not in manifest.extra_columns:
            names = ", ".join(manifest.extra_columns) or "no other"
            raise UsageError(f"the table has no column {column!r}", f"besides path it has: {names}")
    splits, usable = manifest.by_id(split_column), manifest.by_id("usable")
    there = {i for i, u in usable.items() if u} if decoded is None else set(decoded)
    missing = {
        part: {
            "unusable": sum(s == part and not usable[i] for i, s in splits.items()),
            "undecodable": sum(s == part and usable[i] and i not in there for i, s in splits.items()),
            "unlabelled": 0,
        }
        for part in (TRAIN, TEST)
    }
    classes = {i: c for i, c in classes_of(manifest, label_column, split_column, TRAIN).items() if i in there}
    train = {i: classes[i] for i in sorted(classes) if classes[i]}
    test = sorted(i for i in there if splits[i] == TEST)
    missing[TRAIN]["unlabelled"] = len(classes) - len(train)
    if not train or not test:
        raise _no_videos(TEST if train else TRAIN, missing, split_column)
    if len(set(train.values())) < 2:
        raise DataError(f"all training videos have the same {label_column}", "a classifier needs two classes or more")
    return Split(train, test, missing, other=sum(usable[i] and s not in (TRAIN, TEST) for i, s in splits.items()))


def _no_videos(part: str, missing: Mapping[str, Mapping[str, int]], split_column: str) -> DataError:
    """Why a part is empty: the table has no such rows, or none that can be used."""
    left_out = ", ".join(f"{count} {why}" for why, count in missing[part].items() if count)
    if not left_out:
        return DataError(f"no videos with {split_column} {TRAIN} and {TEST}", "add such a column, or name it")
    return DataError(
        f"not one video with {split_column} {part} can be used: {left_out}",
        "`seehear scan` tells what is wrong with each file; --modality video or audio asks for less",
    )


def classes_of(manifest: Manifest, label_column: str, split_column: str, part: str) -> dict[str, str]:
    """The classes of the rows of one part alone, by video id; "" for none."""
    rows = manifest.where(f"{split_column}={part}")
    return {i: c or "" for i, c in rows.by_id(label_column).items()}
