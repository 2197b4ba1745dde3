"""The chunks of results as a report reads them: which images have draws, their rows, and what the archive has of them.

Only what is shown is read, by range requests: of a chunk its identities, and the row groups that hold chosen images.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from condgen.errors import CondgenError, DatasetError, ImageError
from pipelines.datasets.chunk import Chunk, Sample, image_member, iter_chunks, read_chunk
from pipelines.results.files import FOOTER_KEY, draws_name
from pipelines.storage.neighbors import Neighbors
from pipelines.storage.parquet import StoredParquet, open_parquet
from pipelines.storage.store import Store

__all__ = ["ChunkImages", "Originals", "ResultsFiles"]

READERS = 8
MOST_LOOKED_AT = 64
"""Chunks that are looked into for one image whose chunk is not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkImages:
    """The images of one chunk that have draws.

    Attributes:
        chunk: the chunk.
        images: source and key of each, in their order.
        places: place of each in the chunk.
        file: the chunk's draws file.
        failures: rows of its errors, by source and key.
    """

    chunk: Chunk
    images: Sequence[tuple[str, str]]
    places: Sequence[int]
    file: StoredParquet
    failures: Mapping[tuple[str, str], Mapping[str, Any]]

    def rows(self, wanted: Iterable[int], draws: int) -> dict[int, list[dict[str, Any]]]:
        """Return the rows of some images, those of `draws` draws each, by the image's place among `images`."""
        found: dict[int, list[dict[str, Any]]] = {place: [] for place in wanted}
        start = 0
        for group in range(self.file.num_row_groups):
            stop = start + self.file.metadata.row_group(group).num_rows
            inside = [place for place in found if place * draws < stop and (place + 1) * draws > start]
            if inside:
                table = self.file.read_row_group(group)
                for place in inside:
                    first, last = max(place * draws, start) - start, min((place + 1) * draws, stop) - start
                    found[place] += table.slice(first, last - first).to_pylist()
            start = stop
        return found


@dataclass(slots=True)
class ResultsFiles:
    """The draws files of all plans.

    Attributes:
        store: store of the results.
        chunks: chunks of all plans, one after the other, in `pipelines.datasets.chunk.CHUNK_SCHEMA`.
    """

    store: Store
    chunks: pa.Table
    _ends: np.ndarray[Any, np.dtype[np.int64]] = field(init=False)
    _read: dict[int, ChunkImages] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self._ends = np.cumsum(self.chunks["samples"].to_numpy().astype(np.int64))

    @property
    def num_samples(self) -> int:
        """The number of samples of all plans, those that are tried again counted again."""
        return int(self._ends[-1]) if len(self._ends) else 0

    def locate(self, ordinal: int) -> tuple[int, int]:
        """Return the chunk's number and the place among its samples of a sample of all plans."""
        number = int(np.searchsorted(self._ends, ordinal, side="right"))
        return number, ordinal - (int(self._ends[number - 1]) if number else 0)

    def read(self, numbers: Iterable[int]) -> list[ChunkImages]:
        """Read the identities of some chunks, side by side.

        Raises:
            DatasetError, StorageError: a draws file is not there, is damaged or can't be read.
        """
        wanted = list(numbers)
        missing = [number for number in dict.fromkeys(wanted) if number not in self._read]
        with ThreadPoolExecutor(READERS, thread_name_prefix="chunks") as pool:
            for number, images in zip(missing, pool.map(self._read_chunk, missing), strict=True):
                self._read[number] = images
        return [self._read[number] for number in wanted]

    def _read_chunk(self, number: int) -> ChunkImages:
        (chunk,) = iter_chunks(self.chunks.slice(number, 1))
        file = open_parquet(self.store, draws_name(chunk.name))
        facts = json.loads((file.metadata.metadata or {})[FOOTER_KEY])
        rows = file.read(columns=["source", "key"]).to_pylist()
        failures = {(one["source"], one["key"]): one for one in facts["errors"]}
        without = {one["place"] for one in (*facts["errors"], *facts["filtered"])}
        return ChunkImages(
            chunk=chunk,
            images=list(dict.fromkeys((row["source"], row["key"]) for row in rows)),
            places=[place for place in chunk.places if place not in without],
            file=file,
            failures=failures,
        )

    def candidates(self, source: str, share: float = 0.0) -> list[int]:
        """Return the numbers of the chunks that may have an image of a source, the likeliest first.

        Args:
            source: the image's shard, table or file.
            share: about where in the results it is (0 to 1).
        """
        of_shard = np.flatnonzero(pc.fill_null(pc.equal(self.chunks["shard"], source), False).to_numpy())
        if not len(of_shard):
            return self._chunks_of_file(source)
        middle = self._ends[of_shard] - self.chunks["samples"].to_numpy()[of_shard] / 2
        nearest = np.argsort(np.abs(middle - share * self.num_samples), kind="stable")[:MOST_LOOKED_AT]
        return [int(of_shard[place]) for place in nearest]

    def _chunks_of_file(self, name: str) -> list[int]:
        files = self.chunks["files"].combine_chunks()
        is_named = pc.equal(files.flatten().field("name"), name)
        return [int(number) for number in pc.unique(pc.list_parent_indices(files).filter(is_named)).to_pylist()]

    def find(self, source: str, key: str, share: float) -> tuple[int, int] | None:
        """Return the chunk's number and the place among its images of an image; None where it is not found."""
        for number in self.candidates(source, share):
            (images,) = self.read([number])
            if (source, key) in images.images:
                return number, images.images.index((source, key))
        return None


@dataclass(frozen=True, slots=True)
class Originals:
    """The images of the archive, and which member of a sample they are."""

    archive: Store
    member: str

    def read(self, chunk: Chunk, places: Sequence[int]) -> list[bytes | CondgenError]:
        """Return images as they are in the archive now, by their places in a chunk, or why they can't be had."""
        if not places:
            return []
        try:
            part = replace(chunk, select=tuple(places), samples=len(places))
            return [self._image(sample) for sample in read_chunk(self.archive, part, neighbors=Neighbors())]
        except CondgenError as error:
            return [error] * len(places)

    def _image(self, sample: Sample) -> bytes | CondgenError:
        if sample.is_listed_later:
            return DatasetError("it stands for a whole shard or table")
        try:
            return image_member(sample, self.member)
        except ImageError as error:
            return error
