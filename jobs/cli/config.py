"""Configurations as users write them: a preset, over it a YAML file, over it ``--set model.width=32``.

    tree     = {model: {...}, data: {...}, train: {...}}     the fields of a Preset's three dataclasses
    resolve  = preset < file < --set                          the later wins, field by field

The dataclasses are condgen's (frozen, checked where they are built). pydantic holds the types, strictly: ``3.7`` or
``"3"`` is not a whole number. A name that no dataclass has is an error that tells the nearest one.

PyYAML reads YAML 1.1; `_Loader` gives it the rules of 1.2. ruamel.yaml has those, but takes ``.5e3`` for a text and
``2026-01-01`` for a date, and would be a second YAML library beside the one that Ray brings.
"""

from __future__ import annotations

import json
import re
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import PurePosixPath
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import yaml
from pydantic import ConfigDict, TypeAdapter, ValidationError

from condgen.errors import ConfigError, nearest
from condgen.presets import Preset, find_preset

__all__ = ["describe_type", "fill", "parse_assignment", "parse_yaml", "render", "resolve", "to_tree"]

T = TypeVar("T")
SECTIONS = ("model", "data", "train")
_WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text", NoneType: "null"}
_PLURALS = {int: "whole numbers", float: "numbers", bool: "true or false values", str: "texts"}


class _Loader(yaml.SafeLoader):
    """Reads YAML as people mean it: 1e-3 is a number, ``no`` a text, 1:30 not ninety; a repeated key is a mistake."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 - PyYAML's name

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        names = [self.construct_object(key, deep=True) for key, _ in node.value]
        for name in names:
            if names.count(name) > 1:
                line = node.start_mark.line + 1
                raise ConfigError(str(name), "the key twice", f"each key once in the block at line {line}")
        return super().construct_mapping(node, deep)


_DIGITS = [*"-+.0123456789"]
_FLOAT = r"[-+]?(?:\.[0-9]+|[0-9][0-9_]*(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"
for _tag, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", [*"~nN", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", [*"tTfF"]),
    ("int", r"[-+]?[0-9][0-9_]*|0x[0-9a-fA-F]+", _DIGITS),
    ("float", _FLOAT, _DIGITS),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(rf"^(?:{_pattern})$"), _first)


def parse_yaml(text: str, *, name: str) -> Any:
    """Return the value of a YAML document.

    Args:
        text: YAML.
        name: name of the text in an error.

    Raises:
        ConfigError: the text is no YAML; the line is named.
    """
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506 - a subclass of the safe loader
    except (yaml.YAMLError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        problem = getattr(error, "problem", None) or str(error)
        raise ConfigError(name, f"{where}{problem}", "YAML") from error


def parse_assignment(text: str) -> tuple[str, Any]:
    """Split ``train.steps=100`` into the dotted name and the value, read as YAML (``[1, 2]``, ``1e-3``, ``true``).

    Raises:
        ConfigError: there is no name or no ``=``, or the value is no YAML.
    """
    name, equals, value = text.partition("=")
    if not equals or not name.strip():
        raise ConfigError("--set", text, "NAME=VALUE, such as train.steps=100")
    return name.strip(), parse_yaml(value, name=name.strip())


def describe_type(annotation: Any) -> str:
    """Describe a type in a user's words: ``a whole number``, ``a list of numbers``, ``one of 'a', 'b'``."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return "one of " + ", ".join(repr(value) for value in arguments)
    if origin in (Union, UnionType):
        return " or ".join(describe_type(argument) for argument in arguments)
    if origin is tuple and len(arguments) == 2 and arguments[1] is Ellipsis:
        return f"a list of {_PLURALS.get(arguments[0], describe_type(arguments[0]))}"
    if origin is tuple:
        return f"a list of {len(arguments)}: " + ", ".join(describe_type(argument) for argument in arguments)
    return _WORDS.get(annotation, getattr(annotation, "__name__", str(annotation)))


def _adapters(kind: type[Any]) -> Mapping[str, tuple[Any, TypeAdapter[Any]]]:
    """Return each field's type and its strict validator, by the field's name."""
    types = get_type_hints(kind)
    strict = ConfigDict(strict=True, allow_inf_nan=False)
    return {field.name: (types[field.name], TypeAdapter(types[field.name], config=strict)) for field in fields(kind)}


def fill(kind: type[T], values: Mapping[str, Any], *, section: str) -> T:
    """Make an instance of a frozen dataclass from plain values, as YAML has them.

    Args:
        kind: dataclass.
        values: values by field; fields that are left out keep their default.
        section: section of the fields, with which their names begin in an error (``train.steps``).

    Raises:
        ConfigError: the first wrong field: what it got and what is allowed, or the nearest right name.
    """
    adapters = _adapters(kind)
    checked: dict[str, Any] = {}
    for name, value in values.items():
        if name not in adapters:
            raise _unknown(f"{section}.{name}", [f"{section}.{known}" for known in adapters])
        annotation, adapter = adapters[name]
        try:
            # Through JSON, whose arrays may fill tuples where strict Python values may not.
            checked[name] = adapter.validate_json(json.dumps(value, default=str))
        except ValidationError as error:
            raise ConfigError(f"{section}.{name}", value, describe_type(annotation)) from error
    return kind(**checked)


def _unknown(name: str, known: Iterable[str]) -> ConfigError:
    """Return the error for a name that no section has, with the right one where it can be guessed.

    A section that was left out (``width``) and initials (``train.lr``) are understood as well as a slip of a finger.
    """
    section, _, leaf = name.rpartition(".")
    names = list(known)
    siblings = [other for other in names if other.startswith(f"{section}.")]
    everywhere = {other.rpartition(".")[2]: other for other in names}
    by_leaf = {other.rpartition(".")[2]: other for other in siblings if leaf not in everywhere} or everywhere
    initials = {"".join(word[0] for word in short.split("_")): short for short in by_leaf}
    guess = leaf if leaf in by_leaf else initials.get(leaf) or nearest(leaf, by_leaf)
    if guess:
        return ConfigError("configuration", name, f"{by_leaf[guess]!r} is the nearest name (--dry-run shows all)")
    return ConfigError("configuration", name, f"one of {', '.join(siblings or names)}")


def to_tree(preset: Preset) -> dict[str, dict[str, Any]]:
    """Return the preset's fields as plain values, as YAML and JSON have them."""
    tree = {section: asdict(getattr(preset, section)) for section in SECTIONS}
    plain: dict[str, dict[str, Any]] = json.loads(json.dumps(tree))
    return plain


def render(preset: Preset) -> str:
    """Return the complete configuration as YAML, which ``--config`` reads back."""
    text: str = yaml.safe_dump({"preset": preset.name} | to_tree(preset), sort_keys=False, default_flow_style=None)
    return text


def _overlay(tree: dict[str, dict[str, Any]], name: str, value: Any) -> None:
    """Set one dotted name of the tree, or a whole section by a mapping."""
    section, dot, field = name.partition(".")
    if section in tree and not dot:
        if not isinstance(value, Mapping):
            raise ConfigError(name, value, f"a mapping of {', '.join(tree[section])}")
        for key, inner in value.items():
            _overlay(tree, f"{section}.{key}", inner)
        return
    if section not in tree or field not in tree[section]:
        raise _unknown(name, [f"{one}.{other}" for one, content in tree.items() for other in content])
    tree[section][field] = value


def _file_values(uri: str) -> dict[str, Any]:
    """Read the mapping in a YAML file, at a local path or any URI."""
    from pipelines.storage.store import open_store

    parent, slash, name = uri.rpartition("/")
    data = open_store(parent or ("/" if slash else ".")).read(PurePosixPath(name).name)
    try:
        values = parse_yaml(data.decode(), name=uri)
    except UnicodeDecodeError as error:
        raise ConfigError(uri, "bytes that are no UTF-8", "YAML") from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(uri, type(values).__name__, f"a mapping of {', '.join(SECTIONS)}")
    return {str(key): value for key, value in values.items()}


def resolve(preset: str | None, *, file: str | None = None, assignments: Sequence[str] = ()) -> Preset:
    """Return the complete configuration of a run.

    Args:
        preset: name in the table of presets; None takes the file's ``preset``.
        file: local path or URI of a YAML file with the same tree, and maybe ``preset`` (default: none).
        assignments: texts ``NAME=VALUE`` from ``--set``; the last for a name counts (default: none).

    Raises:
        ConfigError: an unknown preset or field, or a value that is not allowed.
        StorageError: the file can't be read.
    """
    values = _file_values(file) if file else {}
    named = values.pop("preset", None)
    if preset is None and not isinstance(named, str):
        raise ConfigError("--preset", named, "a preset's name: condgen models lists them")
    base = find_preset(preset if preset is not None else str(named))
    tree = to_tree(base)
    for name, value in values.items():
        _overlay(tree, name, value)
    for assignment in assignments:
        _overlay(tree, *parse_assignment(assignment))
    parts = {section: fill(type(getattr(base, section)), tree[section], section=section) for section in SECTIONS}
    return Preset(name=base.name, summary=base.summary, **parts)
