"""What a run that looks at text needs besides: what is said of each video, the words it knows, their vectors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from seehear.config import Config
from seehear.data.captions import with_captions
from seehear.data.clips import Video, clip_refs, held_out
from seehear.data.manifest import Manifest
from seehear.engine.runfolder import RunFolder
from seehear.errors import DataError, UsageError
from seehear.features.model import usable_videos
from seehear.features.texts import Texts
from seehear.files import write_atomic
from seehear.hypotheses.language import parse
from seehear.methods.base import Method
from seehear.modalities import streams_of
from seehear.models.text import TextEncoder
from seehear.words.cues import from_cell
from seehear.words.vectors import read_vectors, vector_length
from seehear.words.vocabulary import Vocabulary


def with_texts(manifest: Manifest, config: Config) -> tuple[Manifest, Config, Vocabulary]:
    """The manifest with what is said of each video, and the words of the texts to train on.

    In the settings `model.text_words` is their number. Raises `UsageError` if there is no column with captions, or the
    word vectors have another length, and `DataError` if nothing is said of any video.
    """
    _check_vectors(config)
    manifest = with_captions(manifest, config.data)
    if not len(manifest.usable()):
        raise DataError(
            f"nothing is said of any video\n{manifest.summary_text()}",
            "name the column with captions, --set data.text_column=NAME, or put .srt or .vtt files beside the videos",
        )
    training = (row for row in manifest.each_usable() if not held_out(row["video_id"], config.data.validation_share))
    texts = (cue.text for row in training for cue in from_cell(row["text_cues"]))
    vocabulary = Vocabulary.of(texts, config.model.text_words)
    known = replace(config.model, text_words=max(1, len(vocabulary)))
    return manifest, replace(config, model=known), vocabulary


def save_vocabulary(folder: RunFolder, manifest: Manifest, config: Config, vocabulary: Vocabulary) -> str:
    """Keep the words in a run's folder, with what of the videos is left out of training; what there is to say of it.

    `unknown` and `read` count the words of all texts, `silent_spans` names the spans of usable videos in which nothing
    is said.
    """
    videos = usable_videos(manifest, streams_of(parse(config.gdt.hypotheses).encoded))
    unknown, read = vocabulary.unknown(cue.text for video in videos for cue in video.cues)
    silent = silent_spans(videos, config)
    text = vocabulary.to_json(videos=len(videos), read=read, unknown=unknown, silent_spans=silent)
    write_atomic(folder.vocabulary, text)
    said = f"text: {len(vocabulary)} words are known, {unknown} of {read} read are others"
    return said + (f"; {len(silent)} spans in which nothing is said are left out of training" if silent else "")


def silent_spans(videos: Sequence[Video], config: Config) -> list[str]:
    """The ids of the spans in which nothing is said."""
    of = {video.video_id: video for video in videos}
    return [ref.clip_id for ref in clip_refs(videos, config.cluster) if of[ref.video_id].silent(ref)]


def _check_vectors(config: Config) -> None:
    path, length = config.model.text_vectors, config.model.text_dimensions
    if path is not None and (found := vector_length(path)) != length:
        raise UsageError(
            f"the vectors in {path} have {found} numbers, and model.text_dimensions is {length}",
            f"--set model.text_dimensions={found}",
        )


def load_word_vectors(method: Method, folder: RunFolder, config: Config) -> list[str]:
    """Start word embeddings from a file, if the settings name one. Returns what there is to say of it."""
    path = config.model.text_vectors
    if path is None or "text" not in method.encoders:
        return []
    vocabulary = Vocabulary.load(folder.vocabulary)
    vectors = read_vectors(path, vocabulary.words)
    encoder = method.encoders["text"]
    assert isinstance(encoder, TextEncoder)
    encoder.set_vectors(vocabulary, vectors)
    return [f"text: {len(vectors)} of {len(vocabulary)} words have a vector in {path}"]


def trained_texts(method: Method, folder: RunFolder) -> Texts | None:
    """The text side of a trained method, if it has one."""
    if "text" not in method.encoders:
        return None
    encoder = method.encoders["text"]
    assert isinstance(encoder, TextEncoder)
    vocabulary = Vocabulary.load(folder.vocabulary)
    return Texts(encoder, method.projections["text"], vocabulary, method.config.model.text_length)
