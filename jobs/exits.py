"""How a command ends: which error of all that were raised is the one to tell the user."""

from __future__ import annotations

from condgen.errors import CondgenError

__all__ = ["deliberate"]


def deliberate(error: BaseException) -> CondgenError | None:
    """The CondgenError that this error is or carries: Ray wraps what a worker raised."""
    seen: list[BaseException] = []
    current: BaseException | None = error
    while current is not None and current not in seen:
        seen.append(current)
        inner = getattr(current, "cause", None)
        if isinstance(inner, CondgenError):
            return inner
        if isinstance(current, CondgenError):
            return current
        current = inner if isinstance(inner, BaseException) else current.__cause__
    return None
