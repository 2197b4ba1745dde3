"""Draws files, of which the row groups are read that are shown.

A draws file's footer says which images of its chunk have draws, and so in which rows an image's draws are.
"""

from __future__ import annotations

import json
import threading
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import pyarrow as pa

from condgen.errors import DatasetError
from pipelines.gallery.chunk_lists import ListedChunk
from pipelines.gallery.memory import KeptValues
from pipelines.results.files import FOOTER_KEY, draws_name
from pipelines.storage.parquet import StoredParquet, open_parquet
from pipelines.storage.store import Store

__all__ = ["DrawsFile", "DrawsFiles"]

_KEPT_FILES = 256
_KEPT_ROWS = 64
_KEPT_BYTES = 96 << 20
_LARGE_READS = 2


@dataclass(frozen=True, slots=True)
class DrawsFile:
    """An open draws file: its footer.

    Attributes:
        name: name of the file in the results.
        file: the Parquet file.
        facts: what condgen wrote into the footer.
        first_rows: first row of each image that has draws, by its place in the chunk.
        without: why the others have none, by their place in the chunk: a row of `errors`, or of `filtered`.
        group_starts: number of the first row of each row group, and of all rows.
    """

    name: str
    file: StoredParquet
    facts: Mapping[str, Any]
    first_rows: Mapping[int, int]
    without: Mapping[int, Mapping[str, Any]]
    group_starts: Sequence[int]

    @property
    def version(self) -> str:
        """Digits that change with the file's contents."""
        return str(self.facts.get("rows_sha256", ""))[:16]

    def group_of(self, row: int) -> int:
        """Return the row group that a row is in."""
        return bisect_right(self.group_starts, row) - 1


class DrawsFiles:
    """The draws files of results. Safe in threads.

    Args:
        results: store of the results.
        draws: K, draws of each image.
        columns: names of the columns that were copied from the archive.
    """

    def __init__(self, results: Store, draws: int, columns: Sequence[str]) -> None:
        self._results, self._draws = results, draws
        self._columns = ["source", "key", "width", "height", "source_sha256", *columns]
        self._files: KeptValues[str, DrawsFile] = KeptValues(_KEPT_FILES)
        self._rows: KeptValues[tuple[str, int], Sequence[Mapping[str, Any]]] = KeptValues(_KEPT_ROWS)
        self._images: KeptValues[tuple[str, int], pa.ChunkedArray] = KeptValues(
            _KEPT_BYTES, lambda one: int(one.nbytes)
        )
        self._large = threading.Semaphore(_LARGE_READS)

    def open(self, chunk: ListedChunk, *, keep: bool = True) -> DrawsFile:
        """Return a chunk's draws file; only its footer is read.

        Args:
            chunk: the chunk.
            keep: whether it is kept for who asks next.

        Raises:
            DatasetError: it is damaged.
            MissingError: it is not there.
            AccessError, StorageError: see `pipelines.storage.store`.
        """
        return self._files.get(chunk.name, lambda: self._open(chunk)) if keep else self._open(chunk)

    def rows(self, file: DrawsFile, row: int, count: int = 1) -> list[Mapping[str, Any]]:
        """Return consecutive rows without their images: identity, size, and what was copied from the archive.

        Raises:
            As `open`.
        """
        groups = range(file.group_of(row), file.group_of(row + count - 1) + 1)
        rows = [one for group in groups for one in self._group(file, group)]
        start = row - file.group_starts[groups[0]]
        return rows[start : start + count]

    def first_rows(self, file: DrawsFile) -> list[Mapping[str, Any]]:
        """Return the first row of each image of a file, as `rows` does, in the order of `DrawsFile.first_rows`.

        Raises:
            As `open`.
        """
        table = self._read(file, range(file.file.num_row_groups), self._columns)
        rows: list[Mapping[str, Any]] = table.take(pa.array(list(file.first_rows.values()), pa.int64())).to_pylist()
        return rows

    def images(self, file: DrawsFile) -> Iterator[list[bytes]]:
        """Yield the encoded draws of each image of a file, read a row group at a time.

        Raises:
            As `open`.
        """
        draws: list[bytes] = []
        for group in range(file.file.num_row_groups):
            draws += self._read_images(file, group).to_pylist()
            while len(draws) >= self._draws:
                yield draws[: self._draws]
                del draws[: self._draws]

    def details(self, file: DrawsFile, row: int, count: int) -> list[dict[str, Any]]:
        """Return consecutive rows with every column but the images' bytes.

        Raises:
            As `open`.
        """
        names = ["image.path" if name == "image" else name for name in file.file.schema_arrow.names]
        first, last = file.group_of(row), file.group_of(row + count - 1)
        table = self._read(file, range(first, last + 1), names)
        rows: list[dict[str, Any]] = table.slice(row - file.group_starts[first], count).to_pylist()
        return [{**one, "image": one["image"]["path"]} for one in rows]

    def image(self, file: DrawsFile, row: int) -> bytes:
        """Return the encoded image of a row; the row group that it is in is kept for those beside it.

        Raises:
            As `open`.
        """
        group = file.group_of(row)
        images = self._images.get((file.name, group), lambda: self._read_images(file, group))
        return bytes(images[row - file.group_starts[group]].as_py())

    def _group(self, file: DrawsFile, group: int) -> Sequence[Mapping[str, Any]]:
        def read() -> Sequence[Mapping[str, Any]]:
            rows: list[Mapping[str, Any]] = self._read(file, [group], self._columns).to_pylist()
            return rows

        return self._rows.get((file.name, group), read)

    def _read_images(self, file: DrawsFile, group: int) -> pa.ChunkedArray:
        with self._large:
            column = self._read(file, [group], ["image.bytes"])["image"]
        return pa.chunked_array([part.field("bytes") for part in column.chunks])

    def _read(self, file: DrawsFile, groups: Sequence[int], columns: Sequence[str]) -> pa.Table:
        try:
            return file.file.read_row_groups(groups, columns)
        except (pa.ArrowException, KeyError, ValueError) as error:
            raise self._damaged(file.name) from error

    def _open(self, chunk: ListedChunk) -> DrawsFile:
        name = draws_name(chunk.name)
        file = open_parquet(self._results, name)
        try:
            facts = json.loads((file.metadata.metadata or {})[FOOTER_KEY])
            without = {int(one["place"]): one for one in (*facts["errors"], *facts["filtered"])}
            counts = [file.metadata.row_group(number).num_rows for number in range(file.num_row_groups)]
        except (KeyError, ValueError, TypeError) as error:
            raise self._damaged(name) from error
        places = [place for place in chunk.places if place not in without]
        if file.metadata.num_rows != len(places) * self._draws:
            raise self._damaged(name)
        first_rows = {place: rank * self._draws for rank, place in enumerate(places)}
        return DrawsFile(name, file, facts, first_rows, without, [0, *accumulate(counts)])

    def _damaged(self, name: str) -> DatasetError:
        return DatasetError(f"{self._results.locate(name)} is damaged: see condgen verify {self._results.uri}")
