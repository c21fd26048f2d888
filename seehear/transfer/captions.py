"""Retrieval between texts and videos, for runs with a text encoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from seehear.data.captions import COLUMN, with_captions
from seehear.data.manifest import Manifest
from seehear.errors import UsageError
from seehear.features.bank import FeatureBank, mean_by_video
from seehear.features.model import Model
from seehear.features.texts import Texts
from seehear.transfer.retrieval import (
    RECALL_AT,
    cross_modal_class_recall,
    cross_modal_neighbours,
    cross_modal_recall,
)
from seehear.words.cues import Cue, from_cell, said
from seehear.words.tokens import words


def text_retrieval(
    model: Model, bank: FeatureBank, manifest: Manifest, videos: Sequence[str], labels: Mapping[str, str]
) -> dict[str, Any]:
    """Videos found by what is said of them, and the other way round, among `videos`; {} for a run without text.

    Texts are those of the run's `data.text_column`, or of subtitle files. A video's text embedding is the mean of those
    of what is said in the spans of its clips in `bank`, its other embedding the mean of its clips'. Returns
    `cross_modal` and `cross_modal_classes` as `seehear.transfer.frozen.across_modalities` does, and `captions`: how
    many `videos` have text, how many are `without` and take no part, and a `note` where none can be had at all.
    """
    if model.texts is None:
        return {}
    try:
        told = with_captions(manifest, model.config.data)
    except UsageError as error:
        return {"captions": {"videos": 0, "without": len(videos), "note": error.message}}
    cells = zip(told.column("video_id"), told.column("usable"), told.column(COLUMN), strict=True)
    cues = {video_id: from_cell(cell) for video_id, usable, cell in cells if usable}
    asked = set(videos)
    means = _texts_of(model.texts, bank, {i: c for i, c in cues.items() if i in asked})
    there = [video for video in videos if video in means]
    result: dict[str, Any] = {"captions": {"videos": len(there), "without": len(videos) - len(there)}}
    if len(there) < 2:
        result["captions"]["note"] = "too few videos have a text to search among"
        return result
    classes = np.array([labels[video] for video in there])
    result |= {"cross_modal": {}, "cross_modal_classes": {}}
    for name, rows in model.project(bank).items():
        seen = mean_by_video([ref.video_id for ref in bank.refs], rows)
        pair = np.stack([means[video] for video in there]), np.stack([seen[video] for video in there])
        nearest = cross_modal_neighbours(*pair, min(max(RECALL_AT), len(there) - 1), names=("text", name))
        result["cross_modal"] |= cross_modal_recall(*pair, names=("text", name))
        result["cross_modal_classes"] |= cross_modal_class_recall(nearest, classes)
    return result


def _texts_of(texts: Texts, bank: FeatureBank, cues: Mapping[str, Sequence[Cue]]) -> dict[str, np.ndarray]:
    """The mean embedding (dimensions,) of what is said in a video's spans, by id; none where nothing is."""
    spoken = [
        (ref.video_id, said(cues[ref.video_id], ref.start_seconds, ref.end_seconds))
        for ref in bank.refs
        if ref.video_id in cues
    ]
    spoken = [(video_id, text) for video_id, text in spoken if words(text)]
    if not spoken:
        return {}
    different = list(dict.fromkeys(text for _, text in spoken))
    row = {text: number for number, text in enumerate(different)}
    projected = texts.project(different)
    return mean_by_video([video_id for video_id, _ in spoken], projected[[row[text] for _, text in spoken]])
