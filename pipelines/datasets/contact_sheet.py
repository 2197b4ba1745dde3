"""A contact sheet: some samples of a dataset, spread evenly over it, as one image."""

from __future__ import annotations

import json
from collections.abc import Mapping

import numpy as np
from PIL import Image

from condgen.errors import DatasetError, ImageError
from pipelines.datasets.extent import Extent
from pipelines.datasets.manifest import Dataset
from pipelines.datasets.tar import renamed
from pipelines.datasets.tar_samples import TarSample, group_samples
from pipelines.images.decoding import decode
from pipelines.images.formats import EXTENSIONS
from pipelines.images.sheet import Cell, draw_sheet

__all__ = ["contact_sheet"]

_CELL_PX = 160
_COLUMNS = 6


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
    return draw_sheet(cells, columns=columns, cell_px=_CELL_PX)


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


def _cell(dataset: Dataset, run: Extent, place: int) -> Cell:
    found = group_samples(dataset.store.read_range(run.shard, run.start, run.stop))
    sample = found[place] if place < len(found) else TarSample(None)
    members = renamed(sample.members, dataset.manifest.member_names)
    names = sorted(name for name in members if name.rpartition(".")[2] in EXTENSIONS)  # input before target
    images: list[Image.Image | None] = [_thumbnail(members[name]) for name in names]
    return Cell(images or [None], (sample.key or "?", _about(members, sample)))


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
