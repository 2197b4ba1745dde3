"""Checks of configuration fields: each raises ConfigError with what is allowed."""

from __future__ import annotations

import math
from collections.abc import Sequence

from condgen.errors import ConfigError

__all__ = ["check_above", "check_at_least", "check_between", "check_choice"]


def check_at_least(field: str, value: float, low: float) -> None:
    """Raise ConfigError unless ``value`` is a finite number >= ``low``."""
    if not (math.isfinite(value) and value >= low):
        raise ConfigError(field, value, f"a number >= {low}")


def check_above(field: str, value: float, low: float) -> None:
    """Raise ConfigError unless ``value`` is a finite number > ``low``."""
    if not (math.isfinite(value) and value > low):
        raise ConfigError(field, value, f"a number > {low}")


def check_between(field: str, value: float, low: float, high: float) -> None:
    """Raise ConfigError unless ``low`` <= ``value`` < ``high``."""
    if not low <= value < high:
        raise ConfigError(field, value, f"a number >= {low} and < {high}")


def check_choice(field: str, value: object, choices: Sequence[object]) -> None:
    """Raise ConfigError unless ``value`` is one of ``choices``."""
    if value not in choices:
        if isinstance(value, str) and all(isinstance(choice, str) for choice in choices):
            raise ConfigError.unknown(field, value, [str(choice) for choice in choices])
        raise ConfigError(field, value, f"one of {', '.join(map(repr, choices))}")
