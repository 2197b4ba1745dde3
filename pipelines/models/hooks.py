"""The user's own functions in a batch job, before and after the model. Importing this imports no torch."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from tokenize import TokenError
from typing import Any

from pipelines.models.task import Rgb

__all__ = ["About", "Functions"]


@dataclass(frozen=True, slots=True)
class About:
    """The facts that a user's function has about a sample: its identity, and what its table or its JSON says of it."""

    source: str
    key: str
    facts: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Functions:
    """The user's own functions, before and after the model; what one returns None for is left out, and counted.

    Attributes:
        before: function from an image `[H, W, 3]` uint8 or uint16 to the one that the model is given.
        after: function from the K images of a sample to the K that are written.
    """

    before: Callable[[Rgb, About], Rgb | None] | None = None
    after: Callable[[list[Rgb], About], Sequence[Rgb] | None] | None = None

    def digest(self) -> str:
        """Return a digest of the functions, from their names and their source; empty without any."""
        parts = []
        for function in (self.before, self.after):
            if function is None:
                parts.append("")
                continue
            try:
                source = inspect.getsource(function)
            except (OSError, TypeError, SyntaxError, TokenError):  # none, or a file that has changed since
                source = ""
            name = getattr(function, "__qualname__", repr(type(function)))
            parts.append(f"{getattr(function, '__module__', '')}.{name}\n{source}")
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16] if any(parts) else ""
