"""The sheets of samples of a training run as pictures of a page: of many some, and each no larger than a page shows."""

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
_QUALITY = 80


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
            sheets.append(_smaller(step, store.read(f"sheets/step-{step:08d}.png")))
        except (CondgenError, OSError, ValueError, SyntaxError, Image.DecompressionBombError):
            notes.append(f"The sheet of step {step} can't be read, and is left out.")
        advance(1)
    return sheets


def _smaller(step: int, png: bytes) -> Sheet:
    with Image.open(io.BytesIO(png), formats=["PNG"]) as image:
        if image.width * image.height > _MOST_PIXELS:
            raise ValueError("too large")
        picture = image.convert("RGB")
    picture.thumbnail(_MOST_PX, Image.Resampling.LANCZOS)
    sink = io.BytesIO()
    picture.save(sink, "WEBP", quality=_QUALITY)
    uri = f"data:image/webp;base64,{base64.b64encode(sink.getvalue()).decode()}"
    return Sheet(step=step, uri=uri, width=picture.width, height=picture.height)
