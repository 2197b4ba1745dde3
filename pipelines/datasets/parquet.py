"""Images in a column of a table, Parquet or text: read by row groups, of which the last few are kept.

An image is bytes, a struct of `bytes` and `path` (as Hugging Face's datasets have it), or a URI to be fetched: a path
relative to the table's folder, or any URI that fsspec knows.
"""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import lru_cache
from typing import Any, cast

import pyarrow as pa

from condgen.errors import ConfigError, DatasetError, ImageError
from pipelines.datasets.image_uris import locate_image
from pipelines.datasets.text_table import is_text_table, read_text_table
from pipelines.storage.neighbors import Neighbors
from pipelines.storage.parquet import StoredParquet, open_parquet
from pipelines.storage.store import Store, open_store

__all__ = ["open_table", "plain_value", "read_cell", "read_columns", "read_images"]

_FETCHERS = 8
_ASKED = 8
_TEXT_GROUP_ROWS = 1 << 16

_KEPT_GROUPS = 8
_KEPT_BYTES = 512 << 20
_KEPT_FILES = 16
_lock = threading.Lock()
_files: OrderedDict[tuple[str, str], StoredParquet] = OrderedDict()
_groups: OrderedDict[tuple[str, str, str, int], pa.ChunkedArray] = OrderedDict()


def open_table(store: Store, name: str) -> StoredParquet:
    """Open a table: a Parquet file, whose footer is read, or a table as text, which becomes a Parquet file in memory.

    What was kept of a table that lay there before is forgotten.

    Raises:
        DatasetError: the file is no table, or damaged.
        MissingError, AccessError, StorageError: as in ``pipelines.storage.store``.
    """
    file = _opened(store, name)
    with _lock:
        _files.pop((store.uri, name), None)
        for key in [key for key in _groups if key[:2] == (store.uri, name)]:
            del _groups[key]
        return cast("StoredParquet", _kept(_files, (store.uri, name), _KEPT_FILES, lambda: file))


def _opened(store: Store, name: str) -> StoredParquet:
    if is_text_table(name):
        return StoredParquet.of_table(read_text_table(store, name), row_group_size=_TEXT_GROUP_ROWS)
    return open_parquet(store, name)


def read_cell(store: Store, name: str, column: str, row: int) -> bytes:
    """Return the encoded image in a cell, see ``read_images``.

    Raises:
        ImageError: the cell is empty, or what it names can't be read.
        DatasetError: the file is damaged.
        MissingError, AccessError, StorageError: as in ``pipelines.storage.store``.
    """
    (image,) = read_images(store, name, column, [row])
    if isinstance(image, ImageError):
        raise image
    return image


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


def _kept_file(store: Store, name: str) -> StoredParquet:
    return cast("StoredParquet", _kept(_files, (store.uri, name), _KEPT_FILES, lambda: _opened(store, name)))


def _group(file: StoredParquet, store: Store, name: str, column: str, group: int) -> pa.ChunkedArray:
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
                with suppress(ImageError, ConfigError):  # a fault of that row, and none of the one that is read
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
    """Return where the image of a URI lies: the table's own store, where it is in it, or another one.

    Raises:
        ImageError: it is no URI of a file.
    """
    root, leaf = locate_image(home, name, uri)
    whole, folder = f"{root.rstrip('/')}/{leaf}", f"{home.uri}/"
    return (home, whole[len(folder) :]) if whole.startswith(folder) else (_store(root), leaf)


def plain_value(value: Any) -> Any:
    """Return a cell's value as JSON can hold it: bytes are their text, and a number that is none is None."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {name: plain_value(one) for name, one in value.items()}
    return [plain_value(one) for one in value] if isinstance(value, list | tuple) else value


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
