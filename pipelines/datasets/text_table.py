"""Tables as text are read here: CSV, TSV and JSON lines, also gzipped, as an Arrow table.

Texts stay texts: no cell is taken for a number, a date or nothing because of what it looks like. In JSON lines, numbers
and booleans are told by the format itself, and a column of them alone keeps its type.
"""

from __future__ import annotations

import base64
import binascii
import csv
import io
import json
import re
import sys
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import PurePosixPath
from typing import Any, Literal

import pyarrow as pa
import pyarrow.types as pt

from condgen.errors import DatasetError
from pipelines.storage.store import Store

__all__ = ["TEXT_SUFFIXES", "is_text_table", "read_text_table"]

TEXT_SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson")
"""Extensions by which a name tells that it is a table as text; `.gz` may follow."""

_ROWS_AT_ONCE = 1 << 16
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")
_IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
_INT64 = range(-(1 << 63), 1 << 63)


def is_text_table(name: str) -> bool:
    """Return whether a name is that of a table as text, by its extension."""
    return _suffix(name) in TEXT_SUFFIXES


def read_text_table(store: Store, name: str) -> pa.Table:
    """Read a table as text.

    The first line of a CSV or TSV names the columns, without the spaces around them; a CSV may be separated by
    semicolons or tabs. A cell is text, and null where it is empty. In JSON lines, a column is text, or of integers,
    numbers or booleans where all its values are; a column of objects with `bytes` (in base64) or `path` is one of
    images, as in Parquet; any other list or object is its JSON text; what is missing, null or NaN is null.

    Args:
        store: store of the table.
        name: name of the table, which ends in one of `TEXT_SUFFIXES`, perhaps with `.gz`.

    Raises:
        DatasetError: the table is no text, or a row of it can't be read; it names the row, 1 for the first.
        MissingError, AccessError, StorageError: as in `pipelines.storage.store`.
    """
    suffix = _suffix(name)
    try:
        text = _decoded(_unpacked(store.read(name)))
        if suffix in (".jsonl", ".ndjson"):
            return _json_table(text)
        return _delimited_table(text, suffix)
    except _BadTableError as error:
        raise DatasetError(f"{store.locate(name)} can't be read: {error}") from error


class _BadTableError(Exception):
    """What is wrong with a table, and in which row."""


def _suffix(name: str) -> str:
    return PurePosixPath(name.lower().removesuffix(".gz")).suffix


def _unpacked(data: bytes) -> bytes:
    """Return the bytes of a gzip file, of all its members; other bytes as they are."""
    if not data.startswith(b"\x1f\x8b"):
        return data
    parts = []
    while data.strip(b"\0"):
        unpacker = zlib.decompressobj(wbits=31)
        try:
            parts.append(unpacker.decompress(data))
        except zlib.error as error:
            raise _BadTableError("its gzip data is damaged") from error
        if not unpacker.eof:
            raise _BadTableError("its gzip data is cut")
        data = unpacker.unused_data
    return b"".join(parts)


def _decoded(data: bytes) -> str:
    encoding = "utf-16" if data.startswith(_UTF_16) else "utf-8-sig"  # Excel's "Unicode text" is UTF-16
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise _BadTableError(f"line {line} is not text in UTF-8: save the table as UTF-8") from error


def _delimited_table(text: str, suffix: str) -> pa.Table:
    """Return a CSV or TSV; all of its columns are texts."""
    if suffix == ".csv":
        return _cells(text, _delimiter(text), csv.QUOTE_MINIMAL)
    try:
        return _cells(text, "\t", csv.QUOTE_MINIMAL)
    except _QuoteError:  # most programs write TSV without quotes: such a sign is the text's own
        return _cells(text, "\t", csv.QUOTE_NONE)


class _QuoteError(_BadTableError):
    """Quotes that are not those of a CSV."""


def _delimiter(text: str) -> str:
    """Return what separates a CSV's columns: the sign that its first line has most of, outside of quotes."""
    return max(",;\t", key=re.sub(r'"[^"]*"', "", _first_line(text)).count)


def _first_line(text: str) -> str:
    return next((line for line in io.StringIO(text) if line.strip()), "")


def _cells(text: str, delimiter: str, quoting: Literal[0, 3]) -> pa.Table:
    csv.field_size_limit(sys.maxsize)  # the module's bound is 128 kB
    first = _first_line(text)
    spaced = 0 < first.count(delimiter) == first.count(f"{delimiter} ")  # a header "a, b" tells of rows "1, 2"
    reader = csv.reader(
        io.StringIO(text, newline=""), delimiter=delimiter, quoting=quoting, skipinitialspace=spaced, strict=True
    )
    rows = _rows(reader)
    names = _names(next(rows, []))
    tables = []
    while some := list(islice(rows, _ROWS_AT_ONCE)):
        columns = [[cell or None for cell in cells] for cells in zip(*some, strict=True)]
        tables.append(
            pa.table({name: pa.array(cells, pa.string()) for name, cells in zip(names, columns, strict=True)})
        )
    return pa.concat_tables(tables) if tables else pa.schema([(name, pa.string()) for name in names]).empty_table()


def _rows(reader: Any) -> Iterator[list[str]]:
    """Yield the rows that have any cells, all as long as the first, which names the columns."""
    width = number = 0
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader, None)
        except csv.Error as error:
            reason = 'its quotes are not closed, or stand in the middle of a cell; write "" for a quote in quotes'
            raise _QuoteError(f"row {number} (line {line}): {reason}") from error
        if cells is None:
            return
        if not "".join(cells).strip() and (len(cells) != width or not width):  # a blank line
            continue
        width = width or len(cells)
        if len(cells) != width:
            raise _BadTableError(f"row {number} (line {line}) has {len(cells)} cells, and the first line {width}")
        number += 1
        yield cells


def _names(cells: Sequence[str]) -> list[str]:
    names = [cell.strip() or f"column {place}" for place, cell in enumerate(cells, 1)]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise _BadTableError(f"two columns are called {twice[0]!r}: give each its own name")
    if not names:
        raise _BadTableError("it is empty: its first line is to name the columns")
    return names


def _json_table(text: str) -> pa.Table:
    """Return JSON lines: the columns are those of any row, in the order in which they appear."""
    objects = _objects(text)
    batches: list[dict[str, pa.Array]] = []
    names: dict[str, bool] = {}
    while some := list(islice(objects, _ROWS_AT_ONCE)):
        batch = {}
        for name in dict.fromkeys(name for one in some for name in one):
            values = [one.get(name) for one in some]
            names[name] = names.get(name, True) and all(map(_is_image, values))
            batch[name] = _json_column(values)
        batches.append(batch | {"": pa.nulls(len(some))})
    if not names:
        raise _BadTableError("it has no rows")
    return pa.table({_shown(name): _joined(name, batches, is_image=is_image) for name, is_image in names.items()})


def _objects(text: str) -> Iterator[Mapping[str, Any]]:
    lines = (line for line in io.StringIO(text, newline=None) if line.strip())
    for number, line in enumerate(lines, 1):
        try:
            found = json.loads(line, parse_constant=lambda _: None)  # NaN is how Python writes what is missing
        except (ValueError, RecursionError) as error:
            raise _BadTableError(f"row {number} is no JSON: {error}") from error
        if not isinstance(found, dict):
            raise _BadTableError(f'row {number} is no JSON object: each line is {{"column": value, ...}}')
        yield found


def _is_image(value: Any) -> bool:
    """Return whether a value may be an image as Hugging Face's datasets have them, or is missing."""
    return value is None or (isinstance(value, dict) and bool(value) and value.keys() <= {"bytes", "path"})


def _json_column(values: Sequence[Any]) -> pa.Array:
    kinds = {type(value) for value in values if value is not None}
    if kinds <= {bool}:
        return pa.array(values, pa.bool_() if kinds else pa.null())
    if kinds == {int} and all(value is None or value in _INT64 for value in values):
        return pa.array(values, pa.int64())
    if kinds <= {int, float} and float in kinds:
        return pa.array(values, pa.float64())
    return pa.array([None if value is None else _text(value) for value in values], pa.string())


def _text(value: Any) -> str:
    return _shown(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))


def _shown(text: str) -> str:
    """Return a text that Arrow can hold; half of a surrogate pair is escaped."""
    return text.encode("utf-8", "backslashreplace").decode()


def _joined(name: str, batches: Sequence[Mapping[str, pa.Array]], *, is_image: bool) -> pa.ChunkedArray:
    """Return a column of several batches, of which some may not have it, or hold other types."""
    parts = [batch.get(name, batch[""]) for batch in batches]
    kinds = {part.type for part in parts if not pt.is_null(part.type)}
    kind = kinds.pop() if len(kinds) == 1 else pa.float64() if kinds == {pa.int64(), pa.float64()} else pa.string()
    if not kinds and all(pt.is_null(part.type) for part in parts):
        kind = pa.null()
    column = pa.chunked_array([part.cast(kind) for part in parts], kind)
    return pa.chunked_array(map(_images, column.chunks), _IMAGE) if is_image and pt.is_string(kind) else column


def _images(column: pa.Array) -> pa.Array:
    images = []
    for text in column.to_pylist():
        value = json.loads(text) if text is not None else {}
        data, path = value.get("bytes"), value.get("path")
        try:
            held = base64.b64decode(data, validate=True) if data else None
        except (binascii.Error, TypeError, ValueError) as error:
            raise _BadTableError(f"the bytes of {str(path or text)[:80]!r} are not base64") from error
        images.append(None if text is None else {"bytes": held, "path": None if path is None else _text(path)})
    return pa.array(images, _IMAGE)
