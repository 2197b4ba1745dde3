"""The sheets of samples of a training run as a page shows them: some of many, and each in a bounded number of bytes."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from PIL import Image

from condgen.errors import CondgenError
from pipelines.storage.store import Store

__all__ = ["MAX_SHEETS", "Sheet", "read_sheets"]

MAX_SHEETS = 24
_MOST_PX = (1200, 2400)
_MOST_PIXELS = 64_000_000
_MOST_BYTES = 10 << 20
"""Bytes of all sheets together, which a page holds in base64: a third more."""
_QUALITIES = (80, 65, 50)
_SHRINK = 0.7


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """A sheet of samples at a step, as a data URI of some size in pixels."""

    step: int
    uri: str
    width: int
    height: int


def read_sheets(
    store: Store, steps: Sequence[int], notes: list[str], advance: Callable[[int], object] = lambda _: None
) -> list[Sheet]:
    """Return at most `MAX_SHEETS` sheets of a run, evenly spread, the first and the last among them.

    Args:
        store: folder of the run.
        steps: steps of which there are sheets, in order.
        notes: list that takes a sentence for each sheet that can't be read.
        advance: function that is called with 1 after each sheet.
    """
    count = len(steps)
    if count > MAX_SHEETS:
        steps = [steps[place * (count - 1) // (MAX_SHEETS - 1)] for place in range(MAX_SHEETS)]
    sheets = []
    for step in steps:
        try:
            png = store.read(f"sheets/step-{step:08d}.png")
            sheets.append(_smaller(step, png, most_bytes=_MOST_BYTES // len(steps)))
        except (CondgenError, OSError, ValueError, SyntaxError, Image.DecompressionBombError):
            notes.append(f"The sheet of step {step} can't be read, and is left out.")
        advance(1)
    return sheets


def _smaller(step: int, png: bytes, *, most_bytes: int) -> Sheet:
    with Image.open(io.BytesIO(png), formats=["PNG"]) as image:
        if image.width * image.height > _MOST_PIXELS:
            raise ValueError("too large")
        shown = image.convert("RGB")
    shown.thumbnail(_MOST_PX, Image.Resampling.LANCZOS)
    data = _encoded(shown, most_bytes)
    while len(data) > most_bytes:
        shown.thumbnail((shown.width * _SHRINK, shown.height * _SHRINK), Image.Resampling.LANCZOS)
        data = _encoded(shown, most_bytes)
    uri = f"data:image/webp;base64,{base64.b64encode(data).decode()}"
    return Sheet(step=step, uri=uri, width=shown.width, height=shown.height)


def _encoded(shown: Image.Image, most_bytes: int) -> bytes:
    """Return an image as WebP, of less quality where it would take more bytes than it may."""
    data = b""
    for quality in _QUALITIES:
        sink = io.BytesIO()
        shown.save(sink, "WEBP", quality=quality)
        data = sink.getvalue()
        if len(data) <= most_bytes:
            break
    return data
