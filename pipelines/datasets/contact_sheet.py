"""A contact sheet: some samples of a dataset, spread evenly over it, as one image."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from condgen.errors import DatasetError, ImageError
from pipelines.datasets.extent import Extent
from pipelines.datasets.manifest import Dataset
from pipelines.datasets.tar import TarSample, group_samples, renamed
from pipelines.images.decoding import decode
from pipelines.images.encoding import encode
from pipelines.images.formats import EXTENSIONS

__all__ = ["contact_sheet"]

_CELL_PX = 160
_GAP_PX = 8
_TEXT_PX = 14
_COLUMNS = 6
_BACKGROUND, _INK, _MISSING = (250, 250, 250), (40, 40, 40), (225, 200, 200)


@dataclass(frozen=True)
class _Cell:
    """A sample to show: its images in order (None: it can't be decoded), and two lines of text."""

    images: list[Image.Image | None]
    title: str
    about: str


def contact_sheet(dataset: Dataset, count: int = 24) -> bytes:
    """Return a PNG of samples with their keys, captions and labels; pairs show input and target side by side.

    Args:
        dataset: dataset of which every ``samples / count``-th sample is shown, in the order of its shards.
        count: most samples on the sheet.

    Raises:
        DatasetError: the dataset has no samples.
        MissingError, AccessError, StorageError: as in ``pipelines.storage.store``.
    """
    cells = [_cell(dataset, run, place) for run, place in _spread(dataset, count)]
    if not cells:
        raise DatasetError(f"{dataset.uri} has no samples to show")
    across = max(len(cell.images) for cell in cells)
    columns = min(len(cells), max(1, _COLUMNS // across))
    rows = -(-len(cells) // columns)
    width = across * _CELL_PX + _GAP_PX
    height = _CELL_PX + 2 * _TEXT_PX + _GAP_PX
    sheet = Image.new("RGB", (columns * width + _GAP_PX, rows * height + _GAP_PX), _BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(11)
    for number, cell in enumerate(cells):
        left = _GAP_PX + number % columns * width
        top = _GAP_PX + number // columns * height
        for place, image in enumerate(cell.images):
            x = left + place * _CELL_PX
            if image is None:
                draw.rectangle((x, top, x + _CELL_PX - 2, top + _CELL_PX - 2), fill=_MISSING)
            else:
                sheet.paste(image, (x + (_CELL_PX - image.width) // 2, top + (_CELL_PX - image.height) // 2))
        room = across * _CELL_PX - 4
        for line, text in enumerate((cell.title, cell.about)):
            y = top + _CELL_PX + line * _TEXT_PX
            draw.text((left, y), _fitted(draw, text, font, room), fill=_INK, font=font)
    return encode(np.asarray(sheet), "png")


def _spread(dataset: Dataset, count: int) -> list[tuple[Extent, int]]:
    """Return (run, place in it) of samples that are evenly spread."""
    ends = np.cumsum(np.asarray(dataset.index["samples"].to_pylist(), np.int64))
    total = int(ends[-1]) if len(ends) else 0
    count = min(count, total)
    chosen = []
    for number in range(count):
        ordinal = (2 * number + 1) * total // (2 * count)
        row = int(np.searchsorted(ends, ordinal, side="right"))
        run = Extent(**dataset.index.slice(row, 1).to_pylist()[0])
        chosen.append((run, ordinal - (int(ends[row]) - run.samples)))
    return chosen


def _cell(dataset: Dataset, run: Extent, place: int) -> _Cell:
    found = group_samples(dataset.store.read_range(run.shard, run.start, run.stop))
    sample = found[place] if place < len(found) else TarSample(None)
    members = renamed(sample.members, dataset.manifest.member_names)
    names = sorted(name for name in members if name.rpartition(".")[2] in EXTENSIONS)  # input before target
    images: list[Image.Image | None] = [_thumbnail(members[name]) for name in names]
    return _Cell(images or [None], sample.key or "?", _about(members, sample))


def _thumbnail(data: bytes) -> Image.Image | None:
    try:
        image = Image.fromarray(decode(data, min_size_px=_CELL_PX))
    except ImageError:
        return None
    image.thumbnail((_CELL_PX - 2, _CELL_PX - 2))
    return image


def _about(members: Mapping[str, bytes], sample: TarSample) -> str:
    if sample.fault is not None:
        return sample.fault.detail
    try:
        facts = json.loads(members.get("json", b"{}"))
    except ValueError:
        facts = {}
    if not isinstance(facts, dict):
        return ""
    said = [str(facts[name]) for name in ("label", "caption") if facts.get(name) is not None]
    size = f"{facts['width']} x {facts['height']}" if "width" in facts and "height" in facts else ""
    return ", ".join([*said, size] if size else said)


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
