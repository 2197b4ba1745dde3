"""Which checkpoints of a run are kept, and which removed; pure functions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from pipelines.training.checkpoint_names import CheckpointName

__all__ = ["NEWEST", "Candidate", "choose_kept"]

NEWEST = 2
"""Number of checkpoints that are kept whatever their loss."""


@dataclass(frozen=True)
class Candidate:
    """A whole checkpoint.

    Attributes:
        name: its name.
        loss: loss by which it is judged, or None where none is known.
        is_awaited: whether its loss may still come: it is being validated, or is to be.
    """

    name: CheckpointName
    loss: float | None = None
    is_awaited: bool = False


def choose_kept(candidates: Sequence[Candidate], keep_best: int) -> set[CheckpointName]:
    """Return the checkpoints that are kept.

    Kept are the newest two, of the others the ``keep_best`` with the lowest loss, the later one of equals, and where
    ``keep_best`` is not 0 the oldest one whose loss may still come: one checkpoint is validated at a time.

    Args:
        candidates: all whole checkpoints, in their order.
        keep_best: number of checkpoints that are kept for their loss.
    """
    newest, older = candidates[-NEWEST:], candidates[:-NEWEST]
    known = [(one.loss, -one.name.step, one.name) for one in older if one.loss is not None and math.isfinite(one.loss)]
    best = {name for _, _, name in sorted(known)[:keep_best]}
    awaited = [one.name for one in older if one.is_awaited and one.loss is None][: int(keep_best > 0)]
    return {one.name for one in newest} | best | set(awaited)
