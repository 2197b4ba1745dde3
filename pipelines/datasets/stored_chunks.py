"""Lists of chunks that are read in pieces: the row groups of a Parquet file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from condgen.errors import DatasetError
from pipelines.datasets.chunk import CHUNK_SCHEMA, Chunk, iter_chunks
from pipelines.datasets.chunking import shard_segments
from pipelines.storage.parquet import StoredParquet

__all__ = ["PIECE_CHUNKS", "StoredChunks"]

PIECE_CHUNKS = 4096
"""Number of chunks in a piece of a list."""


class StoredChunks:
    """A list of chunks in a Parquet file, of which no more is in memory than the piece that is at hand.

    Args:
        file: file of the list.
        uri: place of the file, for messages.
    """

    def __init__(self, file: StoredParquet, uri: str = "the list of chunks") -> None:
        self._file, self._uri = file, uri

    @classmethod
    def of_table(cls, table: pa.Table) -> StoredChunks:
        """Return the list of chunks that are in memory."""
        return cls(StoredParquet.of_table(table, row_group_size=PIECE_CHUNKS))

    @property
    def piece_rows(self) -> Sequence[int]:
        """The number of chunks of each piece."""
        return self._file.group_rows

    def pieces(self, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """Yield the chunks in `pipelines.datasets.chunk.CHUNK_SCHEMA`, with all columns or some of them.

        Raises:
            DatasetError: the list is damaged.
            StorageError: see `pipelines.storage.store`.
        """
        return (self.piece(number, columns) for number in range(self._file.num_row_groups))

    def piece(self, number: int, columns: Sequence[str] | None = None) -> pa.Table:
        """Return one piece, as `pieces` yields it."""
        schema = CHUNK_SCHEMA if columns is None else pa.schema([CHUNK_SCHEMA.field(name) for name in columns])
        return self._read(number, columns).select(schema.names).cast(schema).combine_chunks()

    def table(self) -> pa.Table:
        """Return all chunks in memory."""
        return pa.concat_tables([CHUNK_SCHEMA.empty_table(), *self.pieces()]).combine_chunks()

    def take(self, rows: Sequence[int]) -> pa.Table:
        """Return some chunks by their places in the list, in ascending order; no other piece is read."""
        ends, places = np.cumsum(self.piece_rows), np.asarray(rows, np.int64)
        numbers = np.searchsorted(ends, places, side="right")
        parts = [CHUNK_SCHEMA.empty_table()]
        for number in np.unique(numbers).tolist():
            begin = int(ends[number - 1]) if number else 0
            parts.append(self.piece(number).take(pa.array(places[numbers == number] - begin)))
        return pa.concat_tables(parts).combine_chunks()

    def cut(self) -> Iterator[Chunk]:
        """Yield the chunks of which only a part was wanted, without those that do samples again."""
        for number, piece in enumerate(self.pieces(["select", "redoes"])):
            is_cut = pc.and_(pc.is_valid(piece["select"]), pc.is_null(piece["redoes"]))
            if pc.any(is_cut).as_py():
                yield from iter_chunks(self.piece(number).filter(is_cut))

    def starts(self, *, of_whole_chunks: bool = False) -> Iterator[tuple[str, npt.NDArray[np.int64]]]:
        """Yield where extents of a shard, or parts of a table, begin: its name, and those of chunks side by side.

        Chunks of loose files have none, and those that do samples again are left out.

        Args:
            of_whole_chunks: whether chunks of which only a part was wanted are left out too.
        """
        paths = [str(self._file.metadata.schema.column(place).path) for place in range(self._file.metadata.num_columns)]
        columns = [path for path in paths if path.startswith("runs.") and path.endswith(".start")]
        for number in range(self._file.num_row_groups):
            piece = self._read(number, ["shard", "redoes", "select", "rows.start", *columns])
            wanted = pc.and_(pc.is_valid(piece["shard"]), pc.is_null(piece["redoes"]))
            if of_whole_chunks:
                wanted = pc.and_(wanted, pc.is_null(piece["select"]))
            piece = piece.filter(wanted).combine_chunks()
            if piece.num_rows:
                yield from _starts(piece)

    def _read(self, number: int, columns: Sequence[str] | None) -> pa.Table:
        try:
            return self._file.read_row_group(number, columns)
        except (pa.ArrowException, KeyError) as error:
            raise DatasetError(f"{self._uri} is damaged: name another RESULTS folder") from error


def _starts(piece: pa.Table) -> Iterator[tuple[str, npt.NDArray[np.int64]]]:
    runs, rows = piece["runs"].chunk(0), pc.struct_field(piece["rows"].chunk(0), "start")
    counts = pc.fill_null(pc.list_value_length(runs), 0).to_numpy()
    starts = runs.flatten().field("start").to_numpy()
    ends = np.append(0, np.cumsum(counts))
    for name, begin, end in shard_segments(piece["shard"].chunk(0)):
        if ends[begin] < ends[end]:
            yield name, starts[ends[begin] : ends[end]]
        else:
            yield name, rows.slice(begin, end - begin).to_numpy()
