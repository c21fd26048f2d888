"""Encoders of others: any network that makes features of frames or of sound, as an encoder that methods build on.

A specification names one: `KIND:PLACE`. A kind is one file with one class (`base.ForeignEncoder`). `families` is the
table of what is known of `transformers`' networks, `pixels` and `sounds` are preprocessing, `stated` is what a person
says of a program, `hub` finds folders; `showing` is what the commands tell.
"""

from __future__ import annotations

import difflib
import json
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

from tyro.conf import Positional

from seehear.commands import command, plain
from seehear.encoders import text
from seehear.errors import RunError, UsageError
from seehear.options import option

if TYPE_CHECKING:
    from seehear.encoders.base import ForeignEncoder

    Spec = str
else:
    Spec = Annotated[
        Positional[str], option("An encoder, such as hf:models/clip or onnx:a.onnx.", metavar="KIND:PLACE")
    ]

# Kind: the module and the class that opens it, imported when it is asked for.
_KINDS = {
    "run": ("seehear.encoders.of_run", "RunEncoder"),
    "hf": ("seehear.encoders.huggingface", "HuggingFaceEncoder"),
    "onnx": ("seehear.encoders.of_onnx", "OnnxEncoder"),
    "export": ("seehear.encoders.of_program", "ProgramEncoder"),
    "torchvision": ("seehear.encoders.of_torchvision", "TorchvisionEncoder"),
}
KINDS = tuple(_KINDS)


def split_spec(spec: str) -> tuple[str, str]:
    """The kind and the place of a specification.

    Raises `UsageError` if it is none.
    """
    kind, colon, place = spec.partition(":")
    if not colon or kind not in _KINDS or not place:
        close = difflib.get_close_matches(kind, KINDS, 1, cutoff=0.5) if colon else []
        hint = (
            f"did you mean {close[0]}:{place}?" if close and close[0] != kind else "write KIND:PLACE, as in run:runs/a"
        )
        raise UsageError(f"{spec!r} names no encoder", f"{hint}; kinds are {', '.join(KINDS)}")
    return kind, place


def without_place(spec: str | None) -> str | None:
    """A specification that says nothing of a machine: of a path its last part alone."""
    if spec is None:
        return None
    kind, _, place = spec.partition(":")
    return f"{kind}:{place_alone(kind, place)}"


def place_alone(kind: str, place: str) -> str:
    """What follows the colon of a specification, with the last part alone of a path."""
    model, colon, file = place.partition(":") if kind == "torchvision" else ("", "", place)
    path, mark, options = file.partition("?") if kind in ("onnx", "export", "torchvision") else (file, "", "")
    if kind != "hf" or Path(path).exists() or Path(path).is_absolute():
        path = Path(path).resolve().name
    return f"{model}{colon}{path}{mark}{options}"


def pinned(spec: str) -> str:
    """A specification that means the same tomorrow: an id of the hub with the commit that lies in the cache now.

    Raises `UsageError` if the id is not there.
    """
    kind, place = split_spec(spec)
    if kind != "hf":
        return spec
    from seehear.encoders.hub import check_installed, located

    check_installed()
    _, origin = located(place)
    return spec if origin["revision"] is None else f"hf:{origin['from']}@{origin['revision']}"


def open_encoder(spec: str, modality: str) -> ForeignEncoder:
    """The encoder that a specification names, in evaluation mode.

    Raises:
        UsageError: the specification names none, or a package that its kind needs is not installed.
        DataError: what it names is no encoder of this modality.
    """
    kind, place = split_spec(spec)
    encoder = _class_of(kind).open(place, modality)
    return encoder.eval()


def read_encoder(folder: Path) -> ForeignEncoder:
    """The encoder that `ForeignEncoder.write` wrote into a folder, in evaluation mode.

    Raises `RunError` if there is none.
    """
    from seehear.encoders.base import ENCODER

    try:
        description = json.loads((folder / ENCODER).read_text())
        kind = _class_of(description["kind"])
    except (OSError, ValueError, KeyError) as error:
        raise RunError(f"{folder} holds no encoder: {error}", "take the run from a copy, or train it anew") from error
    return kind.restore(folder, description).eval()


def _class_of(kind: str) -> type[ForeignEncoder]:
    module, name = _KINDS[kind]
    return cast("type[ForeignEncoder]", getattr(import_module(module), name))


@command(
    "encoders list", group="know", example="seehear encoders", text=lambda kinds, _: text.listed(kinds), as_json=plain
)
def list_encoders() -> list[dict[str, Any]]:
    """List the kinds of encoders of others that runs can be built on, and whether this machine has what each needs.

    Returns of each kind `kind`, `what`, `example`, `modalities`, `needs` (packages by name with their version, or null
    where one is missing), `remedy`, and `networks` (of hf: what is known, and which feature is taken of each).
    """
    from seehear.encoders.showing import kinds

    return kinds()


@command(
    "encoders show", group="know", example="seehear encoders show hf:models/clip-vit-base-patch32",
    text=lambda found, _: text.shown(found), as_json=plain,
)  # fmt: skip
def show_encoder(
    spec: Spec, *, modality: Literal["video", "audio"] | None = None, time: bool = False
) -> list[dict[str, Any]]:
    """Show what an encoder of others wants to see or hear, what it makes of it, and whether this machine can run it.

    Returns of each encoder that the specification names (two where it sees and hears) its `modality`, `wanted`,
    `feature`, `feature_dim`, `parameters`, `weights_bytes`, `licence` and others.

    Args:
        modality: Only that which sees (video) or hears (audio).
        time: Run it on noise, and measure the clips a second and the memory.

    Raises:
        UsageError: the specification names none, or a package that its kind needs is not installed.
        DataError: what it names is no encoder, or not of this modality.
    """
    from seehear.encoders.showing import show

    return show(spec, modality, time)


@command(
    "encoders fetch", group="know",
    example="seehear encoders fetch hf:openai/clip-vit-base-patch32@3d74acf9a28c67741b2f4f2ea7635f0aaf6f0268",
    text=lambda found, _: text.fetched(found), as_json=plain,
)  # fmt: skip
def fetch_encoder(spec: Spec) -> dict[str, Any]:
    """Fetch a model of the Hugging Face hub into its cache on this machine: the only command that does.

    Configurations and weights in safetensors are fetched; code and pickles are not. A branch or tag is resolved to its
    commit, which the result names: give that to other commands.

    Returns `spec` (with the commit), `folder` and `bytes`.

    Raises:
        UsageError: the specification is no id of the hub, or `transformers` is not installed.
        DataError: the hub has no such model, does not give it, or cannot be reached.
    """
    from seehear.encoders.hub import check_installed, fetched

    kind, place = split_spec(spec)
    if kind != "hf":
        raise UsageError(f"{spec} is no model of the hub", "write hf:OWNER/NAME@REVISION")
    check_installed()
    return fetched(place)
