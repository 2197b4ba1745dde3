"""Ray's wrappers are taken off errors here, and nowhere else.

What a task or an actor raises arrives wrapped. A ``RayTaskError`` has it as ``cause``, and is often of its class too,
so that the wrapper of a CondgenError is itself one. Ray Data and Ray Train chain more errors around it, with
``raise ... from``.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from condgen.errors import CondgenError

__all__ = ["unwrap", "unwrapped"]


@contextmanager
def unwrapped() -> Iterator[None]:
    """Raise the CondgenError that a task's error carries in its place, in the block."""
    from ray.exceptions import RayTaskError

    try:
        yield
    except RayTaskError as error:
        ours = unwrap(error)
        if ours is None:
            raise
        raise ours from error


def unwrap(error: BaseException) -> CondgenError | None:
    """Return the CondgenError that an error is or carries, without Ray's wrappers; None where it carries none.

    Of several in a chain it is the outermost: ``raise DatasetError(...) from storage_error`` means the DatasetError. An
    error that was only handled before (``__context__``) doesn't count: a bug in an ``except`` block stays a bug.
    """
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        cause = getattr(current, "cause", None)
        if isinstance(current, CondgenError) and not isinstance(cause, BaseException):
            return current
        current = cause if isinstance(cause, BaseException) else current.__cause__
    return None
