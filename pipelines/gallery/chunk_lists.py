"""The lists of chunks of a job's plans, read in pieces: a row group where a chunk of it is asked for.

An image's place is its number in all plans of new images together, from 0. It says which plan, which row group of that
plan's list and which chunk an image is in, by the statistics of `first_sample`, and never changes: a plan that is
added comes behind, and a plan that does failures again has no places of its own.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from condgen.errors import DatasetError
from pipelines.datasets.chunk import CHUNK_SCHEMA, Chunk
from pipelines.gallery.memory import KeptValues
from pipelines.results.plan import Plan
from pipelines.storage.parquet import StoredParquet, open_parquet
from pipelines.storage.store import Store

__all__ = ["ChunkList", "ListedChunk"]

_COLUMNS = ("name", "shard", "samples", "first_sample", "select", "redoes")
_KEPT_GROUPS = 8


@dataclass(frozen=True, slots=True)
class ListedChunk:
    """A chunk of a plan, without the lists of its files and extents.

    Attributes:
        generation: number of its plan.
        row: row of the plan's list.
        name, shard, samples, first_sample, select, redoes: as of `pipelines.datasets.chunk.Chunk`.
        base: place of its first image (-1 for one that does failures again).
    """

    generation: int
    row: int
    name: str
    shard: str | None
    samples: int
    first_sample: int
    select: tuple[int, ...] | None
    redoes: str | None
    base: int

    @property
    def places(self) -> Sequence[int]:
        """The place in the chunk of each of its samples that is to be done."""
        return range(self.samples) if self.select is None else self.select


class ChunkList:
    """The chunks of one plan.

    Args:
        results: store of the results.
        plan: plan.
        size_bytes: size of the list's file.
        base: place of the plan's first image.
    """

    def __init__(self, results: Store, plan: Plan, size_bytes: int, base: int) -> None:
        self.plan = plan
        self.base = base
        self._results, self._size_bytes = results, size_bytes
        self._name = f"plan/{plan.name}.parquet"
        self._groups: KeptValues[int, Sequence[ListedChunk]] = KeptValues(_KEPT_GROUPS)
        self._contents: KeptValues[int, pa.Table] = KeptValues(1)

    @property
    def is_retry(self) -> bool:
        """Whether the plan does again what failed in earlier ones."""
        return self.plan.kind == "retry"

    @property
    def num_groups(self) -> int:
        """The number of row groups."""
        return self._file.num_row_groups

    def group(self, number: int) -> Sequence[ListedChunk]:
        """Return the chunks of a row group.

        Raises:
            DatasetError: the list is damaged.
            StorageError: see `pipelines.storage.store`.
        """
        return self._groups.get(number, lambda: self._read_group(number))

    def at(self, place: int) -> tuple[ListedChunk, int]:
        """Return the chunk of an image, and which of its images it is (from 0); `place` is that in all plans."""
        return next(self.beginning_at(place))

    def beginning_at(self, place: int) -> Iterator[tuple[ListedChunk, int]]:
        """Yield the chunk of an image as `at` does, and all chunks behind it, each from its first image on."""
        group = max(0, int(np.searchsorted(self._starts, place, side="right")) - 1)
        chunks = self.group(group)
        first = max(0, bisect_right(chunks, place, key=lambda chunk: chunk.base) - 1)
        rank = place - chunks[first].base
        for number in range(group, self.num_groups):
            for chunk in self.group(number)[first:]:
                yield chunk, rank
                rank = 0
            first = 0

    def redoing(self, name: str) -> ListedChunk | None:
        """Return the chunk that does again what failed in the chunk of a name; None where none does."""
        for number, (low, high) in enumerate(self._redone_ranges):
            if low <= name.encode() <= high:
                found = next((chunk for chunk in self.group(number) if chunk.redoes == name), None)
                if found is not None:
                    return found
        return None

    def whole(self, listed: ListedChunk) -> Chunk:
        """Return a chunk with its extents, or its rows; loose files are not listed (a sample's source is its file)."""
        first_rows = self._first_rows
        group = bisect_right(first_rows, listed.row) - 1
        table = self._contents.get(group, lambda: self._read(group, ["runs", "rows"]))
        values = table.slice(listed.row - first_rows[group], 1).to_pylist()[0]
        return Chunk.from_row(
            {
                **dict.fromkeys(CHUNK_SCHEMA.names),
                "ordinal": listed.row,
                "name": listed.name,
                "shard": listed.shard,
                "samples": listed.samples,
                "first_sample": listed.first_sample,
                "select": listed.select,
                **values,
            }
        )

    @cached_property
    def _file(self) -> StoredParquet:
        return open_parquet(self._results, self._name, size_bytes=self._size_bytes or None)

    @cached_property
    def _first_rows(self) -> list[int]:
        """The number of the first row of each row group."""
        rows = [self._file.metadata.row_group(number).num_rows for number in range(self.num_groups)]
        return [int(row) for row in np.cumsum([0, *rows[:-1]])] if rows else []

    @cached_property
    def _stated_starts(self) -> NDArray[np.int64] | None:
        """The place in the plan of each row group's first image, by statistics; None where these don't tell it.

        In the first plan, `first_sample` counts its images. A later one may begin with rests of earlier chunks.
        """
        if self.plan.generation or not self.num_groups:
            return None
        ranges = [_range_of(self._file, number, "first_sample") for number in range(self.num_groups)]
        if any(one is None for one in ranges):
            return None
        lows, highs = (np.array([one[end] for one in ranges if one is not None]) for end in (0, 1))
        is_ordered = lows[0] == 0 and bool((lows[1:] > highs[:-1]).all()) and highs[-1] < self.plan.num_samples
        return lows.astype(np.int64) if is_ordered else None

    @cached_property
    def _starts(self) -> NDArray[np.int64]:
        """The place of each row group's first image."""
        stated = self._stated_starts
        if stated is not None:
            return stated + self.base
        counts = [sum(self._read(number, ["samples"])["samples"].to_pylist()) for number in range(self.num_groups)]
        return np.cumsum([self.base, *counts[:-1]], dtype=np.int64)

    @cached_property
    def _redone_ranges(self) -> list[tuple[bytes, bytes]]:
        """The least and greatest name of what each row group does again; everything where it is not known."""
        if not self.is_retry:
            return []
        ranges = (_range_of(self._file, number, "redoes") for number in range(self.num_groups))
        return [(one[0].encode(), one[1].encode()) if one is not None else (b"", b"\xff") for one in ranges]

    def _read_group(self, number: int) -> Sequence[ListedChunk]:
        table = self._read(number, _COLUMNS)
        columns = {name: table[name].to_pylist() for name in _COLUMNS}
        if self.is_retry:
            bases = [-1] * table.num_rows
        elif self._stated_starts is not None:
            bases = [self.base + first for first in columns["first_sample"]]
        else:
            start = int(self._starts[number])
            bases = [int(base) for base in np.cumsum([start, *columns["samples"][:-1]])]
        first_row = self._first_rows[number]
        columns["select"] = [None if select is None else tuple(select) for select in columns["select"]]
        rows = zip(*(columns[name] for name in _COLUMNS), bases, strict=True)
        return [ListedChunk(self.plan.generation, row, *values) for row, values in enumerate(rows, first_row)]

    def _read(self, number: int, columns: Sequence[str]) -> pa.Table:
        try:
            return self._file.read_row_group(number, columns)
        except (pa.ArrowException, KeyError, ValueError) as error:
            raise DatasetError(f"{self._results.locate(self._name)} is damaged") from error


def _range_of(file: StoredParquet, group: int, name: str) -> tuple[Any, Any] | None:
    """Return the least and greatest value of a column in a row group, by its statistics; None where there are none."""
    metadata = file.metadata.row_group(group)
    for place in range(metadata.num_columns):
        column, described = metadata.column(place), file.metadata.schema.column(place)
        # Arrow ends the process where a damaged footer has statistics of another type than the column's.
        if described.path == name and column.physical_type == described.physical_type:
            statistics = column.statistics
            if statistics is not None and statistics.has_min_max:
                return statistics.min, statistics.max
    return None
