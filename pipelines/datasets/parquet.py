"""Images in a column of a Parquet file: read by row groups, of which the last few are kept.

An image is bytes, a struct of `bytes` and `path` (as Hugging Face's datasets have it), or a URI to be fetched: a path
relative to the file's folder, or any URI that fsspec knows.
"""

from __future__ import annotations

import io
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any, cast

import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.types as pt

from condgen.checks import check_choice
from condgen.errors import ConfigError, DatasetError, ImageError, nearest
from pipelines.storage.neighbors import Neighbors
from pipelines.storage.object_names import split_uri
from pipelines.storage.store import Store, open_store

__all__ = ["ROLES", "StoreFile", "find_roles", "is_text", "open_parquet", "read_cell", "read_columns", "read_images"]

_FETCHERS = 8
_ASKED = 8

_KEPT_GROUPS = 8
_KEPT_BYTES = 512 << 20
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
        DatasetError: the file is no Parquet, or damaged.
        MissingError, AccessError, StorageError: as in ``pipelines.storage.store``.
    """
    try:
        return pq.ParquetFile(pa.PythonFile(StoreFile(store, name), mode="r"))
    except pa.ArrowInvalid as error:
        raise DatasetError(f"{store.locate(name)} is no Parquet file, or damaged: {error}") from error


def read_cell(store: Store, name: str, column: str, row: int) -> bytes:
    """Return the bytes in a cell of a binary column, or in the field ``bytes`` of a struct.

    Raises:
        ImageError: the cell is empty.
        DatasetError: the file is damaged.
        MissingError, AccessError, StorageError: as in ``pipelines.storage.store``.
    """
    (value,) = _cells(store, name, column, [row])
    data = value.get("bytes") if isinstance(value, dict) else value
    if not data:
        raise ImageError("read", "EmptyCell", f"no bytes in column {column!r} of row {row}")
    return bytes(data)


def _cells(store: Store, name: str, column: str, rows: Iterable[int]) -> list[Any]:
    """Return the values in some rows of a column; row groups are read one at a time, and the last few are kept."""
    found = []
    with _lock:
        file = _kept_file(store, name)
        for row in rows:
            group, place = 0, row
            while place >= file.metadata.row_group(group).num_rows:
                place -= file.metadata.row_group(group).num_rows
                group += 1
            found.append(_group(file, store, name, column, group)[place].as_py())
    return found


def _kept_file(store: Store, name: str) -> pq.ParquetFile:
    return cast("pq.ParquetFile", _kept(_files, (store.uri, name), _KEPT_FILES, lambda: open_parquet(store, name)))


def _group(file: pq.ParquetFile, store: Store, name: str, column: str, group: int) -> pa.ChunkedArray:
    def read() -> pa.ChunkedArray:
        return file.read_row_group(group, columns=[column]).column(0)

    try:
        column_of_group = _kept(_groups, (store.uri, name, column, group), _KEPT_GROUPS, read)
    except pa.ArrowException as error:
        raise DatasetError(f"{store.locate(name)} is damaged: {error}") from error
    while len(_groups) > 1 and sum(kept.nbytes for kept in _groups.values()) > _KEPT_BYTES:
        _groups.popitem(last=False)
    return cast("pa.ChunkedArray", column_of_group)


def read_images(
    store: Store, name: str, column: str, rows: Sequence[int], neighbors: Neighbors | None = None
) -> Iterator[bytes | ImageError]:
    """Yield the encoded images in some rows of a column, fetched where it holds URIs, or the error of an image.

    Args:
        store: store of the file.
        name: name of the file.
        column: name of the column.
        rows: numbers of the rows.
        neighbors: what tells an image's own trouble from that of all storages together (default: nothing read before).

    Raises:
        DatasetError: the file is damaged.
        StorageError: the storage of the file failed; an image that can't be fetched is an error of its own.
        JobError: nothing that the table names can be fetched.
    """
    neighbors = neighbors or Neighbors()
    cells = _cells(store, name, column, rows)

    def some() -> Iterator[tuple[Store, str]]:
        """Yield images from all over the file."""
        with _lock:
            last = _kept_file(store, name).metadata.num_rows - 1
        places = sorted({round(last * part / (_ASKED - 1)) for part in range(_ASKED)}) if last >= 0 else []
        for value in _cells(store, name, column, [*places[:1], *places[:0:-1]]):
            uri = value.get("path") if isinstance(value, dict) else value
            if isinstance(uri, str) and uri:
                yield _located(store, name, uri)

    def picture(row: int, value: Any) -> bytes | ImageError:
        if isinstance(value, dict):
            value = value.get("bytes") or value.get("path")
        if not value:
            return ImageError("read", "EmptyCell", f"no image in column {column!r} of row {row}")
        return _fetch(store, name, value, neighbors, some) if isinstance(value, str) else bytes(value)

    if not any(isinstance(v, str) or (isinstance(v, dict) and not v.get("bytes")) for v in cells):
        yield from map(picture, rows, cells)
        return
    with ThreadPoolExecutor(_FETCHERS, thread_name_prefix="fetch") as pool:
        yield from pool.map(picture, rows, cells)


def read_columns(store: Store, name: str, columns: Sequence[str], rows: Sequence[int]) -> list[dict[str, Any]]:
    """Return the values of some columns in some rows, a dictionary a row."""
    found = {column: _cells(store, name, column, rows) for column in columns}
    return [{column: values[place] for column, values in found.items()} for place in range(len(rows))]


def _fetch(
    home: Store, name: str, uri: str, neighbors: Neighbors, others: Callable[[], Iterable[tuple[Store, str]]]
) -> bytes | ImageError:
    try:
        store, leaf = _located(home, name, uri)
        is_foreign = store.uri != home.uri
        return neighbors.read(store, leaf, lambda store: store.read(leaf), is_foreign=is_foreign, others=others)
    except ConfigError:
        return ImageError("read", "BadUri", "the URI that the table has is none that can be read")
    except ImageError as error:
        if error.error == "Missing":
            return ImageError("read", "Missing", "nothing is there under the URI that the table has")
        return error


def _located(home: Store, name: str, uri: str) -> tuple[Store, str]:
    """Return where the image of a URI lies; a relative one is beside its table.

    Raises:
        ConfigError: it is no URI of one object.
    """
    if "://" not in uri and not uri.startswith("/"):
        folder = name.rpartition("/")[0]
        return home, f"{folder}/{uri}" if folder else uri
    root, leaf = split_uri(uri)
    if not leaf:
        raise ConfigError("uri", uri, "the URI of one object")
    return _store(root), leaf


@lru_cache(maxsize=256)
def _store(root: str) -> Store:
    return open_store(root)


def _kept(cache: OrderedDict[Any, Any], key: Any, most: int, make: Any) -> Any:
    if key not in cache:
        cache[key] = make()
        while len(cache) > most:
            cache.popitem(last=False)
    cache.move_to_end(key)
    return cache[key]


ROLES: Mapping[str, tuple[str, ...]] = {
    "image": ("image", "image_uri", "uri", "url", "image_url", "path", "image_path", "file", "file_name", "filename"),
    "input": ("input",),
    "target": ("target",),
    "caption": ("caption", "text"),
    "label": ("label",),
    "key": ("key",),
}
"""Roles of columns, and the names by which a column is found where none is named."""


def find_roles(schema: pa.Schema, columns: Mapping[str, str], where: str) -> dict[str, str]:
    """Return the columns of a table by their ``ROLES``: those that are named, and the others by their own names.

    Args:
        schema: schema of the table.
        columns: columns by role, where they are named.
        where: place of the table, for messages.

    Raises:
        ConfigError: there is no such column, or none with images.
    """
    for role, column in columns.items():
        check_choice("--columns", role, ROLES)
        if column not in schema.names:
            near = nearest(column, schema.names)
            hint = f" (did you mean {near!r}?)" if near else ""
            raise ConfigError("--columns", f"{role}={column}", f"a column of {where}{hint}: {', '.join(schema.names)}")
    by_fold = {name.lower(): name for name in reversed(schema.names)}
    roles = dict(columns)
    is_pair = "input" in roles or "target" in roles or ("image" not in roles and {"input", "target"} <= set(by_fold))
    for role, known in ROLES.items():
        if role in roles or (role == "image" if is_pair else role in ("input", "target")):
            continue
        found = next((by_fold[name] for name in known if name in by_fold), None)
        if found is not None:
            roles[role] = found
    needed = ("input", "target") if is_pair else ("image",)
    missing = [role for role in needed if role not in roles]
    if missing:
        allowed = f"{missing[0]}=COLUMN, one of {where}: {', '.join(schema.names)}"
        raise ConfigError("--columns", "nothing that holds the images", allowed)
    for role in needed:
        kind = schema.field(roles[role]).type
        holds = pt.is_struct(kind) and "bytes" in [field.name for field in kind]
        if not (is_text(kind) or holds or pt.is_binary(kind) or pt.is_large_binary(kind)):
            raise ConfigError("--columns", f"{role}={roles[role]}", f"a column of URIs or of images, not of {kind}")
    return roles


def is_text(kind: pa.DataType) -> bool:
    """Return whether a column of this type holds texts; one of nulls alone does."""
    return bool(pt.is_string(kind) or pt.is_large_string(kind) or pt.is_null(kind))
