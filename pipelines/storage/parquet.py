"""Parquet files of a store, read and written without handing Arrow an object of Python's.

Arrow's threads outlive what they were asked for. One that lets go of a Python object while the interpreter ends ends
the process with SIGABRT (https://github.com/apache/arrow/issues/34314), even a `BufferReader` over Python's bytes.
So Arrow is given memory of its own here, and what it reads of a large file is fetched before.
"""

from __future__ import annotations

import hashlib
import mmap
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.types as pt

from condgen.errors import DatasetError
from pipelines.storage.store import Store

__all__ = [
    "HELD_BYTES",
    "StoredParquet",
    "open_checked",
    "open_parquet",
    "parquet_bytes",
    "read_parquet",
    "write_parquet",
]

HELD_BYTES = 64 << 20
"""Size up to which `open_checked` holds a file in memory; of larger ones, row groups are read as they are asked for."""

_FOOTER_GUESS_BYTES = 1 << 16
_GAP_BYTES = 1 << 16
_PIECE_BYTES = 64 << 20
_OLD_WRITERS_BYTES = 100
"""Bytes by which parquet-mr before 1.2.9 states a column too short (PARQUET-816)."""


def parquet_bytes(table: pa.Table, **options: Any) -> bytes:
    """Return a table as a Parquet file; `options` are those of `pyarrow.parquet.write_table`.

    A table without rows is a file without row groups: Hugging Face's datasets can't read an empty one.
    """
    return bytes(_written(table, **options).to_pybytes())


def write_parquet(
    store: Store, name: str, tables: Iterable[pa.Table], schema: pa.Schema, *, row_group_size: int, **options: Any
) -> str:
    """Store tables as one Parquet file, and hold no more of them than a row group and the table that is at hand.

    Args:
        store: store to write to.
        name: name of the file.
        tables: tables; how the rows are divided among them decides nothing.
        schema: schema of all of them.
        row_group_size: number of rows of each row group.
        options: options of `pyarrow.parquet.ParquetWriter`.

    Returns:
        The file's SHA-256; the bytes are those that `parquet_bytes` gives of all rows in one piece.

    Raises:
        MissingError, AccessError, StorageError: as in `pipelines.storage.store`.
    """
    with store.writing(name) as path:
        with pq.ParquetWriter(path, schema, **options) as writer:
            for group in _in_groups(tables, row_group_size):
                writer.write_table(group, row_group_size)
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()


def _in_groups(tables: Iterable[pa.Table], rows: int) -> Iterator[pa.Table]:
    """Yield the rows of all tables in tables of so many rows, each in one piece; the last has what is left."""
    waiting: list[pa.Table] = []
    count = 0
    for table in tables:
        waiting.append(table)
        count += table.num_rows
        if count >= rows:
            joined, at = pa.concat_tables(waiting), 0
            while count - at >= rows:
                yield joined.slice(at, rows).combine_chunks()
                at += rows
            waiting, count = [joined.slice(at)], count - at
    if count:
        yield pa.concat_tables(waiting).combine_chunks()


def read_parquet(data: bytes) -> pa.Table:
    """Return all of a Parquet file.

    Raises:
        pyarrow.ArrowInvalid: the file is damaged.
    """
    return StoredParquet(_copied(data)).read()


def open_parquet(
    store: Store, name: str, *, size_bytes: int | None = None, whole_up_to_bytes: int = 0
) -> StoredParquet:
    """Open a Parquet file; its footer is read.

    Args:
        store: store of the file.
        name: name of the file.
        size_bytes: size of the file (default: it is asked for).
        whole_up_to_bytes: size up to which one request reads the whole file (default: parts are read as asked for).

    Raises:
        DatasetError: the file is no Parquet, or damaged.
        MissingError, AccessError, StorageError: as in `pipelines.storage.store`.
    """
    size = store.size(name) if size_bytes is None else size_bytes
    try:
        if size <= whole_up_to_bytes:
            return StoredParquet(_copied(store.read(name)))
        return StoredParquet(_read_footer(store, name, size), (store, name, size))
    except pa.ArrowException as error:
        raise DatasetError(f"{store.locate(name)} is no Parquet file, or damaged: {error}") from error


def open_checked(store: Store, name: str, sha256: str, *, size_bytes: int | None = None) -> StoredParquet:
    """Open a Parquet file whose bytes have a SHA-256: a large one is read twice, for its sum and for its rows.

    Args:
        store: store of the file.
        name: name of the file.
        sha256: SHA-256, in hexadecimal.
        size_bytes: size of the file (default: it is asked for).

    Raises:
        DatasetError: its bytes have another sum, or are no Parquet.
        MissingError, AccessError, StorageError: as in `pipelines.storage.store`.
    """
    size, digest = store.size(name) if size_bytes is None else size_bytes, hashlib.sha256()
    held = store.read(name) if size <= HELD_BYTES else None
    for start in range(0, size, _PIECE_BYTES) if held is None else ():
        digest.update(store.read_range(name, start, min(size, start + _PIECE_BYTES)))
    digest.update(held or b"")
    if digest.hexdigest() != sha256:
        raise DatasetError(f"{store.locate(name)} has other bytes than its checksum says")
    if held is None:
        return open_parquet(store, name, size_bytes=size)
    try:
        return StoredParquet(_copied(held))
    except pa.ArrowException as error:
        raise DatasetError(f"{store.locate(name)} is no Parquet file, or damaged: {error}") from error


class StoredParquet:
    """A Parquet file, of which row groups are read.

    Args:
        held: the file in memory of Arrow's, or its footer behind the magic of its start.
        rest: store, name and size (bytes) of the file of which only the footer is in memory.

    Attributes:
        metadata: its footer, as pyarrow has it.
        schema_arrow: its schema in Arrow's types, as rows are returned: texts and bytes that are stored as a dictionary
            or as views come as plain ones.

    Raises:
        pyarrow.ArrowInvalid: the file is no Parquet, or damaged.
    """

    def __init__(self, held: pa.Buffer, rest: tuple[Store, str, int] | None = None) -> None:
        self._file = _decoded(lambda: pq.ParquetFile(pa.BufferReader(held)))
        self._rest = rest
        self.metadata = self._file.metadata
        self.schema_arrow = _plain_schema(self._file.schema_arrow)

    @classmethod
    def of_table(cls, table: pa.Table, **options: Any) -> StoredParquet:
        """Return a table as a Parquet file in memory."""
        return cls(_written(table, **options))

    def __enter__(self) -> StoredParquet:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    @property
    def num_row_groups(self) -> int:
        """The number of row groups."""
        return int(self.metadata.num_row_groups)

    def read_row_group(self, group: int, columns: Sequence[str] | None = None) -> pa.Table:
        """Return the rows of a row group; columns that lie side by side are fetched together.

        Args:
            group: number of the row group.
            columns: names of columns, `image.path` for a field of one (default: all).

        Raises:
            pyarrow.ArrowInvalid: the file is damaged.
            MissingError, AccessError, StorageError: as in `pipelines.storage.store`.
        """
        return self.read_row_groups([group], columns)

    def read_row_groups(self, groups: Sequence[int], columns: Sequence[str] | None = None) -> pa.Table:
        """Return the rows of some row groups, as `read_row_group` does; what lies side by side is fetched together."""
        names, numbers = None if columns is None else list(columns), list(groups)
        if self._rest is None or not numbers:
            return _plain(_decoded(lambda: self._file.read_row_groups(numbers, columns=names)))
        size = self._rest[2]
        ranges = (one for group in numbers for one in _column_ranges(self.metadata.row_group(group), names, size))
        with _fetched(*self._rest, _joined(ranges)) as source:
            file = pq.ParquetFile(source, metadata=self.metadata)
            return _plain(_decoded(lambda: file.read_row_groups(numbers, columns=names)))

    @property
    def group_rows(self) -> list[int]:
        """The number of rows of each row group."""
        return [int(self.metadata.row_group(group).num_rows) for group in range(self.num_row_groups)]

    def pieces(self, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """Yield all rows, a row group at a time, as `read_row_group` returns them."""
        for group in range(self.num_row_groups):
            yield self.read_row_group(group, columns)

    def read(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Return all rows, as `read_row_group` does."""
        if self._rest is None or self.num_row_groups == 0:
            return _plain(_decoded(lambda: self._file.read(columns=None if columns is None else list(columns))))
        return pa.concat_tables([self.read_row_group(group, columns) for group in range(self.num_row_groups)])


def _read_footer(store: Store, name: str, size: int) -> pa.Buffer:
    """Read a file's footer by one or two requests, and put the magic before it that is at every file's start."""
    tail = store.read_range(name, max(0, size - _FOOTER_GUESS_BYTES), size)
    length = int.from_bytes(tail[-8:-4], "little") + 8
    if tail[-4:] == b"PAR1" and len(tail) < length <= size:
        tail = store.read_range(name, size - length, size)
    return _copied(b"PAR1" + tail[-length:] if length < size else tail)


def _fetched(store: Store, name: str, size: int, ranges: Iterable[tuple[int, int]]) -> pa.NativeFile:
    """Return a file in memory that has some ranges of the stored file's bytes where that has them."""
    pieces = (
        (place, min(place + _PIECE_BYTES, stop)) for start, stop in ranges for place in range(start, stop, _PIECE_BYTES)
    )
    if not hasattr(os, "memfd_create"):
        buffer = pa.allocate_buffer(size)
        for start, stop in pieces:
            np.frombuffer(buffer, np.uint8)[start:stop] = np.frombuffer(store.read_range(name, start, stop), np.uint8)
        return pa.BufferReader(buffer)
    descriptor = os.memfd_create("parquet")  # what is not written takes no memory
    try:
        os.ftruncate(descriptor, size)
        with mmap.mmap(descriptor, size) as memory:
            for start, stop in pieces:
                memory[start:stop] = store.read_range(name, start, stop)
        return pa.memory_map(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)


def _column_ranges(group: Any, columns: Sequence[str] | None, size: int) -> Iterator[tuple[int, int]]:
    """Yield where the columns of a row group lie (start, stop).

    Raises:
        pyarrow.ArrowInvalid: outside of the file.
    """
    for place in range(group.num_columns):
        column = group.column(place)
        path = str(column.path_in_schema)
        if columns is not None and not any(path == name or path.startswith(f"{name}.") for name in columns):
            continue
        start = int(column.data_page_offset)
        if column.has_dictionary_page and 0 < column.dictionary_page_offset < start:
            start = int(column.dictionary_page_offset)
        stop = start + int(column.total_compressed_size)
        if not 0 <= start <= stop <= size:
            raise pa.ArrowInvalid(f"column {path} lies at bytes {start} to {stop} of {size}")
        yield start, min(stop + _OLD_WRITERS_BYTES, size)


def _joined(ranges: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Yield ranges of bytes in their order, those together between which there is little."""
    begin = end = -1
    for start, stop in sorted(ranges):
        if end >= 0 and start > end + _GAP_BYTES:
            yield begin, end
            begin = end = -1
        begin, end = (start, stop) if end < 0 else (begin, max(end, stop))
    if end >= 0:
        yield begin, end


def _plain(table: pa.Table) -> pa.Table:
    schema = _plain_schema(table.schema)
    return table if schema.equals(table.schema) else table.cast(schema)


def _plain_schema(schema: pa.Schema) -> pa.Schema:
    return pa.schema([field.with_type(_plain_type(field.type)) for field in schema], schema.metadata)


def _plain_type(kind: pa.DataType) -> pa.DataType:
    """Return the type without dictionaries and views, of which most of Arrow's functions know nothing."""
    if pt.is_dictionary(kind):
        return _plain_type(kind.value_type)
    if pt.is_string_view(kind):
        return pa.large_string()
    if pt.is_binary_view(kind):
        return pa.large_binary()
    if pt.is_struct(kind):
        return pa.struct([field.with_type(_plain_type(field.type)) for field in kind])
    if pt.is_list(kind) or pt.is_large_list(kind):
        make = pa.list_ if pt.is_list(kind) else pa.large_list
        return make(kind.value_field.with_type(_plain_type(kind.value_type)))
    return kind


def _decoded(read: Callable[[], Any]) -> Any:
    """Call Arrow; its OSError, which damaged bytes raise too, is none of the storage's, and names may be no UTF-8."""
    try:
        return read()
    except (OSError, UnicodeDecodeError) as error:
        raise pa.ArrowInvalid(str(error)) from error


def _written(table: pa.Table, **options: Any) -> pa.Buffer:
    sink = pa.BufferOutputStream()
    if table.num_rows:
        pq.write_table(table, sink, **options)
    else:
        options.pop("row_group_size", None)
        pq.ParquetWriter(sink, table.schema, **options).close()
    return sink.getvalue()


def _copied(data: bytes) -> pa.Buffer:
    """Return bytes in memory of Arrow's own."""
    buffer = pa.allocate_buffer(len(data))
    np.frombuffer(buffer, np.uint8)[:] = np.frombuffer(data, np.uint8)
    return buffer
