"""Pictures in a column of a Parquet file: read by row groups, of which the last few are kept."""

from __future__ import annotations

import io
import threading
from collections import OrderedDict
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from condgen.errors import DatasetError, ImageError
from pipelines.storage import Store

__all__ = ["StoreFile", "open_parquet", "read_cell"]

_KEPT_GROUPS = 2
_KEPT_FILES = 16
_lock = threading.Lock()
_files: OrderedDict[tuple[str, str], pq.ParquetFile] = OrderedDict()
_groups: OrderedDict[tuple[str, str, str, int], pa.ChunkedArray] = OrderedDict()


class StoreFile(io.RawIOBase):
    """A stored object as a file that is read at any place, by range requests."""

    def __init__(self, store: Store, name: str) -> None:
        self._store, self._name = store, name
        self._size = store.size(name)
        self._position = 0

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """Return the position."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to an offset from the start, the position or the end."""
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = max(0, start + offset)
        return self._position

    def read(self, size: int | None = -1) -> bytes:
        """Return bytes from the position on."""
        stop = self._size if size is None or size < 0 else min(self._size, self._position + size)
        if stop <= self._position:
            return b""
        data = self._store.read_range(self._name, self._position, stop)
        self._position = stop
        return data

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer from the position on."""
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


def open_parquet(store: Store, name: str) -> pq.ParquetFile:
    """Open a Parquet file; its footer is read.

    Raises:
        DatasetError: it is none, or damaged.
        MissingError, AccessError, StorageError: see ``pipelines.storage``.
    """
    try:
        return pq.ParquetFile(pa.PythonFile(StoreFile(store, name), mode="r"))
    except pa.ArrowInvalid as error:
        raise DatasetError(f"{store.locate(name)} is no Parquet file, or damaged: {error}") from error


def read_cell(store: Store, name: str, column: str, row: int) -> bytes:
    """Return the bytes in a cell: of a binary column, or of the field ``bytes`` of a struct.

    Raises:
        ImageError: the cell is empty.
        DatasetError: the file is damaged.
        MissingError, AccessError, StorageError: see ``pipelines.storage``.
    """
    with _lock:
        file = _kept(_files, (store.uri, name), _KEPT_FILES, lambda: open_parquet(store, name))
        group, place = 0, row
        while place >= file.metadata.row_group(group).num_rows:
            place -= file.metadata.row_group(group).num_rows
            group += 1
        try:
            values = _kept(
                _groups,
                (store.uri, name, column, group),
                _KEPT_GROUPS,
                lambda: file.read_row_group(group, columns=[column]).column(0),
            )
        except pa.ArrowException as error:
            raise DatasetError(f"{store.locate(name)} is damaged: {error}") from error
        value = values[place].as_py()
    data = value.get("bytes") if isinstance(value, dict) else value
    if not data:
        raise ImageError("read", "EmptyCell", f"no bytes in column {column!r} of row {row}")
    return bytes(data)


def _kept(cache: OrderedDict[Any, Any], key: Any, most: int, make: Any) -> Any:
    if key not in cache:
        cache[key] = make()
        while len(cache) > most:
            cache.popitem(last=False)
    cache.move_to_end(key)
    return cache[key]
