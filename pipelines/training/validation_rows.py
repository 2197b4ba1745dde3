"""Rows of validation.jsonl: what a checkpoint's model makes of the held-out images. Free of torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field

__all__ = ["VALIDATION", "ValidationRow", "is_due", "validation_from_bytes", "validation_to_bytes"]

VALIDATION = "validation.jsonl"


@dataclass(frozen=True, kw_only=True)
class ValidationRow:
    """A row of validation.jsonl: a checkpoint's averaged weights on the fixed sample of a held-out split.

    Attributes:
        step: step of the checkpoint.
        loss: sum of ``losses``.
        losses: the model's terms in ``eval()`` mode, by name; means over the images.
        metrics: measures of the point prediction, by name: ``auc`` (0 to 1) and ``ab_error`` (in ab) where the model
            colors, ``rgb_error`` (codes of 0 to 255) of pairs.
        images: number of images that were measured.
        split: split that they are of.
        seconds: time that it took, besides training (s).
    """

    step: int
    loss: float
    losses: dict[str, float]
    metrics: dict[str, float] = field(default_factory=dict)
    images: int
    split: str
    seconds: float


def validation_to_bytes(rows: Mapping[int, ValidationRow]) -> bytes:
    """Return the content of a validation.jsonl, in the order of the steps."""
    return "".join(json.dumps(asdict(rows[step])) + "\n" for step in sorted(rows)).encode()


def validation_from_bytes(data: bytes, up_to_step: float = float("inf")) -> dict[int, ValidationRow]:
    """Return the rows of a validation.jsonl by their steps, up to some step.

    Lines of another form are left out: training goes on whatever is in the file.
    """
    rows: dict[int, ValidationRow] = {}
    for line in data.decode(errors="replace").splitlines():
        with suppress(ValueError, TypeError):
            row = ValidationRow(**json.loads(line))
            if row.step <= up_to_step:
                rows[row.step] = row
    return rows


def is_due(step: int, every: int) -> bool:
    """Return whether something that is done every so many steps is done at a step; 0 is never."""
    return every > 0 and step % every == 0
