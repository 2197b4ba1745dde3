"""What is written for options that ask a cluster for something: numbers of processes, and times."""

from __future__ import annotations

import re

from condgen.errors import ConfigError

__all__ = ["read_count_range", "read_seconds", "read_workers", "say_seconds"]

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_TIME = re.compile(r"(\d+(?:\.\d+)?)([smhd]?)")


def read_count_range(field: str, text: str) -> tuple[int, int]:
    """Return the smallest and the largest number of ``N`` or ``MIN:MAX``.

    Raises:
        ConfigError: it is neither, or MIN is larger than MAX.
    """
    least, colon, most = text.partition(":")
    numbers = (least, most if colon else least)
    if not all(number.isdecimal() for number in numbers):
        raise ConfigError(field, text, "a whole number, or MIN:MAX")
    low, high = map(int, numbers)
    if low > high:
        raise ConfigError(field, text, "MIN:MAX with MIN <= MAX")
    return low, high


def read_workers(text: str) -> int | tuple[int, int]:
    """Return the number of workers, or the smallest and the largest where they differ.

    Raises:
        ConfigError: it is neither, or 0.
    """
    least, most = read_count_range("--workers", text)
    if least < 1:
        raise ConfigError("--workers", text, "at least 1")
    return least if least == most else (least, most)


def read_seconds(field: str, text: str) -> float:
    """Return the seconds of a time such as ``90``, ``90s``, ``30m``, ``12h`` or ``2d``.

    Raises:
        ConfigError: it is none.
    """
    match = _TIME.fullmatch(text.strip())
    if match is None:
        raise ConfigError(field, text, "a time such as 90s, 30m, 12h or 2d")
    return float(match[1]) * _UNITS[match[2] or "s"]


def say_seconds(seconds: float) -> str:
    """Return a time as it is written for an option, in the largest unit that gives a whole number."""
    for unit, size in reversed(_UNITS.items()):
        if seconds >= size and seconds % size == 0:
            return f"{seconds / size:g}{unit}"
    return f"{seconds:g}s"
