"""A first look at the reference set: its mean color or mean image, and where each key lies."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from condgen.color.colorize import resize
from condgen.color.lab import rgb_to_lab
from condgen.errors import DatasetError, ImageError
from pipelines.datasets.chunk import Chunk, read_chunk
from pipelines.evaluation.measures import MeasureSettings, measured_size
from pipelines.evaluation.references import KEYS_SCHEMA, reference_image
from pipelines.images.decoding import decode
from pipelines.storage.neighbors import Neighbors
from pipelines.storage.store import Store

__all__ = ["ChunkSurvey", "Survey", "add_up", "survey_chunks"]

_MEAN_IMAGE_PX = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkSurvey:
    """The survey of one chunk of references.

    Attributes:
        ordinal: number of the chunk among those surveyed.
        keys: keys of its samples, by place; None where they are not asked for.
        images: number of images that could be decoded.
        total: the sum over images of their mean color `[2]` in ab units, or of their codes `[S, S, 3]`.
    """

    ordinal: int
    keys: Sequence[str] | None
    images: int
    total: NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """A reference set in brief.

    Attributes:
        images: number of images that could be decoded.
        mean: mean color or image, see `pipelines.evaluation.parts.EvaluationSpec`.
        keys: table in `KEYS_SCHEMA`, without keys of several images; no rows where they were not asked for.
        repeated: number of keys that several images have.
    """

    images: int
    mean: NDArray[np.float64] | NDArray[np.uint8]
    keys: pa.Table = field(repr=False)
    repeated: int = 0


def survey_chunks(
    store: Store,
    chunks: Sequence[tuple[int, Chunk]],
    settings: MeasureSettings,
    member_names: Mapping[str, str],
    with_keys: bool,
) -> list[ChunkSurvey]:
    """Look at some chunks of references.

    Args:
        store: store of the references.
        chunks: chunks with their ordinals.
        settings: whether color or images are asked for, and at which size.
        member_names: members of a dataset, see `pipelines.datasets.chunk.read_chunk`.
        with_keys: whether keys are asked for.

    Raises:
        StorageError: they can't be read.
    """
    side = min(_MEAN_IMAGE_PX, settings.size_px)
    found = []
    for ordinal, chunk in chunks:
        samples = read_chunk(store, chunk, member_names, Neighbors())
        total, images = np.zeros(2) if settings.is_color else np.zeros((side, side, 3)), 0
        for sample in samples:
            try:
                rgb = decode(reference_image(sample), min_size_px=settings.set_px if settings.is_color else side)
            except ImageError:
                continue  # it is counted, with its reason, where it is measured
            total += _mean_color(rgb, settings.set_px) if settings.is_color else _codes(rgb, side)
            images += 1
        keys = [sample.key for sample in samples] if with_keys else None
        found.append(ChunkSurvey(ordinal=ordinal, keys=keys, images=images, total=total))
    return found


def add_up(parts: Iterable[ChunkSurvey], settings: MeasureSettings) -> Survey:
    """Add up chunks in the order of their ordinals.

    Raises:
        DatasetError: no image could be decoded.
    """
    ordered = sorted(parts, key=lambda part: part.ordinal)
    images = sum(part.images for part in ordered)
    if not images:
        raise DatasetError("the reference has no image that can be read: see `condgen validate` for why")
    mean = np.sum([part.total for part in ordered], axis=0) / images
    places = {"key": [], "chunk": [], "place": []}  # type: dict[str, list[str | int]]
    for part in ordered:
        for place, key in enumerate(part.keys or ()):
            places["key"].append(key)
            places["chunk"].append(part.ordinal)
            places["place"].append(place)
    table = pa.table(places, schema=KEYS_SCHEMA)
    counts = table.group_by("key").aggregate([("key", "count")])
    once = counts.filter(pa.compute.equal(counts["key_count"], 1))["key"].combine_chunks()
    keys = table.filter(pa.compute.is_in(table["key"], value_set=once)).combine_chunks()
    return Survey(
        images=images,
        mean=mean if settings.is_color else mean.round().astype(np.uint8),
        keys=keys,
        repeated=counts.num_rows - len(once),
    )


def _mean_color(rgb: NDArray[np.uint8], size_px: int) -> NDArray[np.float64]:
    """Return the mean of an image's ab, `[2]`."""
    height, width = measured_size(rgb.shape[0], rgb.shape[1], size_px)
    ab = rgb_to_lab(resize(rgb, height, width).float() / 255)[1:]
    mean: NDArray[np.float64] = ab.to(torch.float64).mean(dim=(1, 2)).numpy()
    return mean


def _codes(rgb: NDArray[np.uint8], side: int) -> NDArray[np.float64]:
    codes: NDArray[np.float64] = resize(rgb, side, side).permute(1, 2, 0).to(torch.float64).numpy()
    return codes
