"""Settings as text: read, checked with suggestions, listed, saved and loaded."""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import yaml

from seehear.config import Config, FinalConfig, OptimConfig
from seehear.errors import UsageError
from seehear.files import write_atomic


def _describe(annotation: Any) -> str:
    if get_origin(annotation) is Literal:
        return " | ".join(map(str, get_args(annotation)))
    return str(getattr(annotation, "__name__", annotation)).replace("typing.", "")


def _coerce(value: Any, annotation: Any, name: str) -> Any:
    """`value` (as YAML gave it) as an `annotation`, or a `UsageError` that names the field."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        return _coerce(value, next(a for a in arguments if a is not type(None)), name)
    if dataclasses.is_dataclass(annotation):
        if not isinstance(value, Mapping):
            raise UsageError(
                f"{name} is a section, not a value", f"set its fields, e.g. {name}.{_fields(annotation)[0]}"
            )
        return _update(annotation(), value, name)  # type: ignore[operator]
    if origin is Literal and value in arguments:
        return value
    if origin is tuple and isinstance(value, list | tuple):
        inner = arguments[0]
        if Ellipsis in arguments or len(value) == len(arguments):
            return tuple(_coerce(v, inner, name) for v in value)
    if origin is tuple and arguments == (str, Ellipsis) and isinstance(value, str):
        return (value,)
    if annotation is bool and isinstance(value, bool):
        return value
    if annotation is int and isinstance(value, int) and not isinstance(value, bool):
        return value
    if annotation is float and not isinstance(value, bool):
        # YAML reads 1e-4 as text because it has no dot.
        if isinstance(value, int | float):
            return float(value)
        try:
            return float(value)
        except (TypeError, ValueError):
            pass
    if annotation is str and not isinstance(value, Mapping | list):
        return str(value)
    raise UsageError(f"{name}={value!r} is not {_describe(annotation)}")


def _fields(section: Any) -> list[str]:
    return [f.name for f in dataclasses.fields(section)]


def _update(section: Any, values: Mapping[str, Any], prefix: str) -> Any:
    hints = typing.get_type_hints(type(section))
    changes = {}
    for key, value in values.items():
        name = f"{prefix}.{key}" if prefix else str(key)
        if key not in hints:
            raise unknown_setting(name)
        current = getattr(section, key)
        if dataclasses.is_dataclass(current) and isinstance(value, Mapping):
            changes[key] = _update(current, value, name)
        else:
            changes[key] = _coerce(value, hints[key], name)
    return dataclasses.replace(section, **changes)


def setting_names(section: Any = Config, prefix: str = "") -> list[str]:
    """Dotted names of every setting."""
    names = []
    hints = typing.get_type_hints(section)
    for f in dataclasses.fields(section):
        inner = next((a for a in (*get_args(hints[f.name]), hints[f.name]) if dataclasses.is_dataclass(a)), None)
        names += setting_names(inner, f"{prefix}{f.name}.") if inner else [prefix + f.name]
    return names


def setting_docs() -> dict[str, str]:
    """Every setting with its default and its meaning, from the texts below the fields of `seehear.config`."""
    import ast
    import inspect

    from seehear import config as configuration

    texts: dict[tuple[str, str], str] = {}
    for node in ast.parse(inspect.getsource(configuration)).body:
        if isinstance(node, ast.ClassDef):
            for before, after in zip(node.body, node.body[1:], strict=False):
                if (
                    isinstance(before, ast.AnnAssign)
                    and isinstance(before.target, ast.Name)
                    and isinstance(after, ast.Expr)
                    and isinstance(after.value, ast.Constant)
                ):
                    texts[node.name, before.target.id] = str(after.value.value)
    docs = {}
    for name in setting_names():
        section: Any = Config(last_round=OptimConfig(), final=FinalConfig())
        *path, leaf = name.split(".")
        for part in path:
            section = getattr(section, part)
        docs[name] = f"{texts[type(section).__name__, leaf]} [{getattr(section, leaf)}]"
    return docs


def unknown_setting(name: str) -> UsageError:
    """The error for a setting that does not exist, with the likeliest that do."""
    known = setting_names()
    last = name.rsplit(".", 1)[-1]
    close = [k for k in known if k.rsplit(".", 1)[-1] == last]
    close += [k for k in difflib.get_close_matches(name, known, n=3, cutoff=0.5) if k not in close]
    remedy = f"did you mean {' or '.join(close[:3])}?" if close else "`seehear recipes --settings` lists every setting"
    return UsageError(f"there is no setting {name!r}", remedy)


def with_settings(config: Config, assignments: Iterable[str]) -> Config:
    """`config` with `section.field=value` texts applied in order; values are read as YAML.

    Raises `UsageError` for an unknown setting (with a suggestion) or a value of the wrong type.
    """
    for text in assignments:
        name, equals, value = text.partition("=")
        if not equals:
            raise UsageError(f"{text!r} is not a setting", "write --set section.field=value")
        try:
            tree: Any = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise UsageError(f"cannot read the value of {name}: {error}") from error
        for part in reversed(name.strip().split(".")):
            tree = {part: tree}
        config = _update(_with_optional_sections(config, name), tree, "")
    return config


def _with_optional_sections(config: Config, name: str) -> Config:
    """Give an optional section its starting values when one of its fields is about to be set."""
    if name.startswith("last_round.") and config.last_round is None:
        return dataclasses.replace(config, last_round=config.optim)
    if name.startswith("final.") and config.final is None:
        return dataclasses.replace(config, final=FinalConfig())
    return config


def to_dict(config: Any) -> dict[str, Any]:
    """Plain mapping of lists, numbers and texts, fit for YAML and JSON."""

    def plain(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {k: plain(v) for k, v in value.items()}
        return [plain(v) for v in value] if isinstance(value, tuple | list) else value

    return typing.cast(dict[str, Any], plain(dataclasses.asdict(config)))


def differences(one: Config, other: Config) -> list[str]:
    """The settings in which two configurations differ, as `section.field: value, other value`."""

    def flat(values: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
        for name, value in values.items():
            yield from flat(value, f"{prefix}{name}.") if isinstance(value, dict) else [(prefix + name, value)]

    a, b = (dict(flat(to_dict(config))) for config in (one, other))
    return [f"{name}: {a.get(name)}, {b.get(name)}" for name in {**a, **b} if a.get(name) != b.get(name)]


def from_dict(values: Mapping[str, Any]) -> Config:
    """Inverse of `to_dict`; unknown names are errors, missing ones take their defaults."""
    return typing.cast(Config, _update(Config(), values, ""))


def save_config(config: Config, path: Path) -> None:
    """Write `config` as YAML."""
    write_atomic(path, yaml.safe_dump(to_dict(config), sort_keys=False, allow_unicode=True))


def load_config(path: Path) -> Config:
    """Read a YAML file written by `save` or by hand."""
    values = yaml.safe_load(path.read_text(encoding="utf-8"))
    if not isinstance(values, Mapping):
        raise UsageError(f"{path} is not a configuration", "it must be a YAML mapping of settings")
    return from_dict(values)
