"""Checks of configuration fields: each raises ConfigError with what is allowed.

@dataclass(frozen=True, kw_only=True)
class Config:
width: Count = 64
share: Annotated[float, Number("> 0 and < 1")] = 0.5
loss: Literal["l1", "l2"] = "l1"

def __post_init__(self) -> None:
check_fields("model", self)
"""

from __future__ import annotations

import math
import operator
from collections.abc import Collection
from dataclasses import dataclass, fields
from functools import cache
from typing import Annotated, Any, Literal, TypeAlias, Union, get_args, get_origin, get_type_hints

from condgen.errors import ConfigError

__all__ = [
    "Count", "Natural", "NotNegative", "Number", "Positive", "PositiveShare", "Probability", "Share", "check_choice",
    "check_fields",
]  # fmt: skip

_SIGNS = {">": operator.gt, ">=": operator.ge, "<": operator.lt, "<=": operator.le}


@dataclass(frozen=True)
class Number:
    """The numbers that a field may have, all of them finite, in the words of the error: ``>= 0 and < 1``."""

    allowed: str

    def check(self, field: str, value: float) -> None:
        """Raise ConfigError unless ``value`` is one of them."""
        bounds = (bound.split() for bound in self.allowed.split(" and "))
        if not (math.isfinite(value) and all(_SIGNS[sign](value, float(limit)) for sign, limit in bounds)):
            raise ConfigError(field, value, f"a number {self.allowed}")


Count: TypeAlias = Annotated[int, Number(">= 1")]
Natural: TypeAlias = Annotated[int, Number(">= 0")]
NotNegative: TypeAlias = Annotated[float, Number(">= 0.0")]
Positive: TypeAlias = Annotated[float, Number("> 0.0")]
PositiveShare: TypeAlias = Annotated[float, Number("> 0 and <= 1")]
Probability: TypeAlias = Annotated[float, Number(">= 0.0 and < 1.0")]
Share: TypeAlias = Annotated[float, Number(">= 0 and <= 1")]


def check_fields(section: str, config: Any) -> None:
    """Raise ConfigError unless the fields of a dataclass have what their types allow: a ``Number`` or a ``Literal``.

    A field that may be None is checked where it is something else.
    """
    for name, kinds in _field_types(config.__class__).items():
        field, value = f"{section}.{name}", getattr(config, name)
        for kind in kinds if value is not None else ():
            if get_origin(kind) is Literal:
                check_choice(field, value, get_args(kind))
            for mark in getattr(kind, "__metadata__", ()):
                mark.check(field, value)


@cache
def _field_types(config: type[Any]) -> dict[str, tuple[Any, ...]]:
    """Return the types of each field of a dataclass: one, or those of a union."""
    hints = get_type_hints(config, include_extras=True)
    types = {one.name: hints[one.name] for one in fields(config)}
    return {name: get_args(kind) if get_origin(kind) is Union else (kind,) for name, kind in types.items()}


def check_choice(field: str, value: object, choices: Collection[object]) -> None:
    """Raise ConfigError unless ``value`` is one of ``choices``."""
    if value not in choices:
        if isinstance(value, str) and all(isinstance(choice, str) for choice in choices):
            raise ConfigError.unknown(field, value, [str(choice) for choice in choices])
        raise ConfigError(field, value, f"one of {', '.join(map(repr, choices))}")
