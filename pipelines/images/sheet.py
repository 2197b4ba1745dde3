"""A sheet: many images in cells, with lines of text, as one PNG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from pipelines.images.encoding import encode

__all__ = ["Cell", "draw_sheet"]

_GAP_PX = 8
_TEXT_PX = 14
_BACKGROUND, _INK, _MISSING = (250, 250, 250), (40, 40, 40), (225, 200, 200)


@dataclass(frozen=True)
class Cell:
    """What is shown side by side.

    Attributes:
        images: images from left to right; None is one that can't be decoded.
        lines: lines of text below them.
    """

    images: Sequence[Image.Image | None]
    lines: tuple[str, ...] = ()


def draw_sheet(cells: Sequence[Cell], *, columns: int, cell_px: int, titles: Sequence[str] = ()) -> bytes:
    """Return a PNG of cells, row by row.

    Args:
        cells: cells, at least one.
        columns: number of cells side by side, >= 1.
        cell_px: side of the square of each image (pixels); larger images are not shown whole.
        titles: text above each image of a cell (default: none).
    """
    across, texts = max(len(cell.images) for cell in cells), max(len(cell.lines) for cell in cells)
    head = _TEXT_PX if titles else 0
    width, height = across * cell_px + _GAP_PX, cell_px + texts * _TEXT_PX + _GAP_PX
    rows = -(-len(cells) // columns)
    sheet = Image.new("RGB", (columns * width + _GAP_PX, rows * height + _GAP_PX + head), _BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(11)

    def write(left: int, top: int, text: str, room: int) -> None:
        draw.text((left, top), _fitted(draw, text, font, room), fill=_INK, font=font)

    for column in range(columns):
        for place, title in enumerate(titles):
            write(_GAP_PX + column * width + place * cell_px, _GAP_PX // 2, title, cell_px - 4)
    for number, cell in enumerate(cells):
        left = _GAP_PX + number % columns * width
        top = _GAP_PX + head + number // columns * height
        for place, image in enumerate(cell.images):
            x = left + place * cell_px
            if image is None:
                draw.rectangle((x, top, x + cell_px - 2, top + cell_px - 2), fill=_MISSING)
            else:
                sheet.paste(image, (x + (cell_px - image.width) // 2, top + (cell_px - image.height) // 2))
        for line, text in enumerate(cell.lines):
            write(left, top + cell_px + line * _TEXT_PX, text, across * cell_px - 4)
    return encode(np.asarray(sheet), "png")


def _fitted(
    draw: ImageDraw.ImageDraw, text: str, font: ImageFont.ImageFont | ImageFont.FreeTypeFont, width: int
) -> str:
    """Return a text cut to a width in pixels, its end kept: keys differ there."""
    text = " ".join(text.split()).encode("latin-1", "replace").decode("latin-1")
    if draw.textlength(text, font) <= width:
        return text
    while text and draw.textlength(f"...{text}", font) > width:
        text = text[1:]
    return f"...{text}"
