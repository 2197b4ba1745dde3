"""Patience with storage: a driver of days outlives minutes without an answer."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from condgen.errors import StorageError

__all__ = ["patiently"]

T = TypeVar("T")

_LONGEST_S = 300.0
"""Time for which storage that gives no answer is asked again, after the store's own retries (seconds)."""
_PAUSE_S = 5.0


def patiently(do: Callable[[], T], *, tell: Callable[[str], None], pause: Callable[[float], None]) -> T:
    """Return what a function returns that asks the storage; it is called again while the storage gives no answer.

    Args:
        do: function, which may be called several times.
        tell: function that is told what is waited for.
        pause: function that waits for some seconds, or raises where something else ends the wait.

    Raises:
        StorageError: the storage has given no answer for five minutes, or its answer is an error that stays.
    """
    deadline = time.monotonic() + _LONGEST_S
    while True:
        try:
            return do()
        except StorageError as error:
            if not error.passes or time.monotonic() > deadline:
                raise
            tell(f"the storage gives no answer ({error})")
        pause(_PAUSE_S)
