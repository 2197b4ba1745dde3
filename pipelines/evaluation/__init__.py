"""Results judged: measured image by image in parts, summarized over the set, and compared."""

from __future__ import annotations

__all__: list[str] = []
