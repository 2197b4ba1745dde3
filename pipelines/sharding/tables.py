"""Tables as sources: Parquet, CSV, TSV and JSON lines with URIs of images, or Parquet with the images themselves."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import pyarrow.types as pt

from condgen.errors import AccessError, ConfigError, DatasetError, MissingError
from pipelines.datasets.parquet import find_roles, is_text
from pipelines.datasets.shard_names import Place, locate_files
from pipelines.images.formats import EXTENSIONS
from pipelines.sharding.sources import Listing, Record, RecordImage, RejectedFile, reject, split_name
from pipelines.storage.object_names import split_uri
from pipelines.storage.store import Store, open_store

__all__ = ["table_source"]

_UNKNOWN_BYTES = 1 << 20
_LISTERS = 8
_UNLISTED = ("http", "https")
_CHAINED = re.compile(r"^[A-Za-z][A-Za-z0-9+.\-]*::|::[A-Za-z][A-Za-z0-9+.\-]*://")
_ODD = re.compile(r"/(\.{0,2})/")


def table_source(uri: str, columns: Mapping[str, str] | None = None, names: Sequence[str] | None = None) -> Listing:
    """Return the rows of a table, or of several tables that a pattern names.

    URIs are relative to the table's folder, or absolute: a path, or any scheme that fsspec knows. Sizes come from a
    listing of the folders that the URIs name; what is not there is rejected.

    Args:
        uri: URI or pattern of the table.
        columns: columns by their ``ROLES`` (default: columns are found by their own names).
        names: names of the tables, where the URI is a folder.

    Raises:
        ConfigError: there is no such column, or none with images.
        DatasetError: the table is damaged.
        MissingError, AccessError, StorageError: as in ``pipelines.storage.store``.
    """
    place = locate_files(uri) if names is None else Place(open_store(uri))
    store = place.store
    rows: list[_Row] = []
    embedded = False
    for name in place.files() if names is None else names:
        schema, table = _read_schema(store, name)
        roles = find_roles(schema, columns or {}, store.locate(name))
        images = [role for role in ("image", "input", "target") if role in roles]
        held = [role for role in images if not is_text(schema.field(roles[role]).type)]
        embedded = embedded or bool(held)
        wanted = {role: roles[role] for role in roles if role not in held}
        if table is None:
            table = _read_columns(store, name, [*wanted.values(), *_paths(schema, roles, held)])
        rows += _rows(name, table, wanted, {role: roles[role] for role in held})
    return _listing(store, uri, rows, embedded)


@dataclass(frozen=True, slots=True)
class _Row:
    """A row: its images (member to URI, or to the column that holds it), and the rest of it."""

    table: str
    number: int
    uris: dict[str, Any]
    held: dict[str, str]
    key: Any
    about: dict[str, Any]


def _read_schema(store: Store, name: str) -> tuple[pa.Schema, pa.Table | None]:
    """Return a table's schema, and all of it where its format can't be read by columns."""
    suffix = name.lower().rpartition(".")[2]
    if suffix == "parquet":
        from pipelines.datasets.parquet import open_parquet

        return open_parquet(store, name).schema_arrow, None
    data = store.read(name)
    try:
        if suffix in ("jsonl", "ndjson"):
            table = pyarrow.json.read_json(io.BytesIO(data))
        else:
            table = _read_csv(data, "\t" if suffix == "tsv" else ",")
    except pa.ArrowException as error:
        raise DatasetError(f"{store.locate(name)} can't be read: {' '.join(str(error).split())[:300]}") from error
    return table.schema, table


def _read_csv(data: bytes, delimiter: str) -> pa.Table:
    """Read a CSV; all but labels stays text: a key 007 is none of a number's."""
    parse = pyarrow.csv.ParseOptions(delimiter=delimiter, newlines_in_values=True)
    names = pyarrow.csv.open_csv(io.BytesIO(data), parse_options=parse).schema.names
    texts = {name: pa.string() for name in names if name.lower() != "label"}
    return pyarrow.csv.read_csv(
        io.BytesIO(data), parse_options=parse, convert_options=pyarrow.csv.ConvertOptions(column_types=texts)
    )


def _read_columns(store: Store, name: str, columns: list[str]) -> pa.Table:
    from pipelines.datasets.parquet import open_parquet

    file = open_parquet(store, name)
    if not columns:  # the number of rows is all that is asked
        return pa.table({"": pa.nulls(file.metadata.num_rows)})
    try:
        return file.read(columns=columns)
    except pa.ArrowException as error:
        raise DatasetError(f"{store.locate(name)} is damaged: {error}") from error


def _paths(schema: pa.Schema, roles: Mapping[str, str], held: Sequence[str]) -> list[str]:
    """Return the columns with the names that images in a table had as files, as Hugging Face's datasets do."""
    structs = [roles[role] for role in held if pt.is_struct(schema.field(roles[role]).type)]
    return [f"{name}.path" for name in structs if "path" in [field.name for field in schema.field(name).type]]


def _rows(name: str, table: pa.Table, wanted: Mapping[str, str], held: Mapping[str, str]) -> Iterator[_Row]:
    members = {"image": "", "input": "input", "target": "target"}
    number = 0
    for batch in table.to_batches(max_chunksize=4096):
        for values in batch.to_pylist():
            about = {role: values[wanted[role]] for role in ("caption", "label") if role in wanted}
            key = values.get(wanted.get("key", ""))
            for column in held.values():  # the first image's name, where the table knows one
                if key is None and isinstance(values.get(column), dict) and values[column].get("path"):
                    key = split_name(str(values[column]["path"]))[0]
            yield _Row(
                name,
                number,
                {members[role]: values[wanted[role]] for role in members if role in wanted},
                {members[role]: column for role, column in held.items()},
                key,
                {role: value for role, value in about.items() if value not in (None, "")},
            )
            number += 1


def _listing(store: Store, uri: str, rows: list[_Row], embedded: bool) -> Listing:
    places = _Places(store)
    records: list[Record] = []
    rejected: list[RejectedFile] = []
    seen: dict[str, int] = {}
    places.list([str(value) for row in rows for value in row.uris.values() if value])
    for row in rows:
        shown = [str(value) for value in row.uris.values() if value]
        name = " ".join(shown) if shown else f"{row.table}#{row.number}"
        seen[name] = seen.get(name, 0) + 1
        if seen[name] > 1:  # several captions of one image
            name = f"{name}#{seen[name]}"
        try:
            parts = [places.part(member, value) for member, value in row.uris.items()]
        except _BadUriError as error:
            rejected.append(reject(name, "", "list", error.name, error.reason))
            continue
        for member, column in row.held.items():
            parts.append(
                RecordImage(member, row.table, _UNKNOWN_BYTES, is_listed=False, column=column, row=row.number),
            )
        stem, extension = _stem_of(row, shown)
        records.append(Record(name, stem, extension, tuple(sorted(parts)), row.about))
    kind = "paired" if records and len(records[0].parts) == 2 else "single"
    if not embedded:
        records.sort(key=lambda record: record.name)
    return Listing(uri, kind, tuple(places.stores), tuple(records), tuple(rejected), in_order=embedded)


def _stem_of(row: _Row, shown: list[str]) -> tuple[str, str]:
    """Return what a row's key is made of: its own key, the (last) URI without scheme and extension, or its number."""
    if row.key is not None and str(row.key).strip("/"):
        return "/".join(_solid(str(row.key))), ""
    if shown:
        path, extension = split_name(shown[-1].partition("?")[0].rpartition("://")[2])
        if extension.lower() not in EXTENSIONS:
            path = f"{path}.{extension}" if extension else path
        return "/".join(_solid(path)) or "image", extension
    return f"{split_name(row.table)[0]}/{row.number:08d}", ""


def _solid(path: str) -> list[str]:
    parts = [part for part in path.split("/") if part not in ("", ".", "..")]
    return [f"_{part}" if part.startswith(".") else part for part in parts]


class _BadUriError(Exception):
    def __init__(self, name: str, reason: str) -> None:
        super().__init__(name, reason)
        self.name, self.reason = name, reason


class _Places:
    """Turns URIs into parts: which store, which name, and which size, from one listing of each folder."""

    def __init__(self, home: Store) -> None:
        self.stores = [home]
        self._home = home
        self._roots: dict[str, int] = {}
        self._sizes: dict[tuple[str, str], dict[str, int] | str | None] = {}

    def list(self, uris: list[str]) -> None:
        """Look at every folder that the URIs name."""
        found = {place[:2] for place in map(self._place, uris) if isinstance(place, tuple)}
        folders = sorted((root, name) for root, name in {(r, n.rpartition("/")[0]) for r, n in found})
        wanted = [folder for folder in folders if not folder[0].startswith(tuple(f"{s}://" for s in _UNLISTED))]
        with ThreadPoolExecutor(_LISTERS, thread_name_prefix="list") as pool:
            self._sizes.update(zip(wanted, pool.map(self._list_folder, wanted), strict=True))

    def _list_folder(self, folder: tuple[str, str]) -> dict[str, int] | str | None:
        try:
            return {e.name: e.size_bytes for e in open_store(folder[0]).list(folder[1], recursive=False)}
        except AccessError:  # what may not be listed may perhaps be read
            return None
        except (MissingError, ConfigError) as error:
            return error.reason if isinstance(error, MissingError) else str(error)

    def part(self, member: str, value: Any) -> RecordImage:
        """Return the image that a URI names.

        Raises:
            _BadUriError: the URI names no image, or nothing is there.
        """
        place = self._place(str(value)) if value else "the cell is empty"
        if isinstance(place, str):
            raise _BadUriError("BadUri", place)
        root, name = place
        sizes = self._sizes.get((root, name.rpartition("/")[0]))
        if isinstance(sizes, str):
            raise _BadUriError("Unreachable", sizes)
        if sizes is not None and name not in sizes and _ODD.search(f"/{name}"):
            sizes = None  # not every storage lists such a name under its folder: its reading tells
        if sizes is not None and name not in sizes:
            raise _BadUriError("Missing", "nothing is there")
        if root not in self._roots:
            self._roots[root] = len(self.stores)
            self.stores.append(open_store(root))
        size = sizes[name] if sizes is not None else _UNKNOWN_BYTES
        return RecordImage(member, name, size, is_listed=sizes is not None, store=self._roots[root])

    def _place(self, uri: str) -> tuple[str, str] | str:
        """Return (root, name) of a URI, both as they are, or why it is none."""
        if "\0" in uri or _CHAINED.search(uri):
            return "not the URI of one file"
        if "://" not in uri and not uri.startswith("/"):
            uri = f"{self._home.uri}/{uri}"
        root, name = split_uri(uri)
        if not name.strip("/") or root.endswith("://"):
            return "it names no file"
        return root, name
