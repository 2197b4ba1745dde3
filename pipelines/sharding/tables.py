"""Tables as sources: Parquet, CSV, TSV and JSON lines with URIs of images, or Parquet with the images themselves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from condgen.errors import AccessError, ConfigError, DatasetError, ImageError, MissingError
from pipelines.datasets.image_uris import locate_image
from pipelines.datasets.parquet import open_table, plain_value
from pipelines.datasets.roles import find_roles, is_text
from pipelines.datasets.shard_names import Place, locate_files
from pipelines.images.formats import EXTENSIONS
from pipelines.sharding.sources import Listing, Record, RecordImage, RejectedFile, reject, split_name
from pipelines.storage.store import Store, open_store

__all__ = ["table_source"]

_UNKNOWN_BYTES = 1 << 20
_LISTERS = 8
_UNLISTED = ("http", "https")
_UNTYPED = (".csv", ".tsv", ".csv.gz", ".tsv.gz")
_IMAGES = ("image", "input", "target")
_INTEGERS, _NUMBERS = r"^-?\d{1,18}$", r"^-?\d+(\.\d+)?$"


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
    taken: dict[str, None] = {}
    embedded = False
    for name in place.files() if names is None else names:
        try:
            table, wanted, held = _read_table(store, name, columns or {})
        except pa.ArrowException as error:
            raise DatasetError(f"{store.locate(name)} is damaged: {error}") from error
        embedded = embedded or bool(held)
        taken |= dict.fromkeys([*held.values(), *(wanted[role] for role in _IMAGES if role in wanted)])
        rows += _rows(name, table, wanted, held)
    return replace(_listing(store, uri, rows, embedded), columns=tuple(taken))


def _read_table(store: Store, name: str, columns: Mapping[str, str]) -> tuple[pa.Table, dict[str, str], dict[str, str]]:
    """Return a table without its images, and by role the columns that are read and those that hold images."""
    file = open_table(store, name)
    schema = file.schema_arrow
    roles = find_roles(file, columns, store.locate(name))
    held = {role: roles[role] for role in _IMAGES if role in roles and not is_text(schema.field(roles[role]).type)}
    wanted = {role: roles[role] for role in roles if role not in held}
    needed = [*wanted.values(), *_paths(schema, held)]
    # Where nothing is needed, the number of rows is all that is asked.
    table = file.read(needed) if needed else pa.table({"": pa.nulls(file.metadata.num_rows)})
    if "label" in wanted and name.lower().endswith(_UNTYPED):
        place = table.schema.get_field_index(wanted["label"])
        table = table.set_column(place, wanted["label"], _labels(table.column(place)))
    return table, wanted, held


def _labels(texts: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return the labels of a table without types as numbers where all of them are."""
    for pattern, kind in ((_INTEGERS, pa.int64()), (_NUMBERS, pa.float64())):
        if pc.all(pc.match_substring_regex(texts, pattern)).as_py() is not False:
            return texts.cast(kind)
    return texts


@dataclass(frozen=True, slots=True)
class _Row:
    """A row: its images (member to URI, or to the column that holds it), and the rest of it."""

    table: str
    number: int
    uris: dict[str, Any]
    held: dict[str, str]
    key: Any
    about: dict[str, Any]


def _paths(schema: pa.Schema, held: Mapping[str, str]) -> list[str]:
    """Return the columns with the names that images in a table had as files, as Hugging Face's datasets do."""
    structs = [column for column in held.values() if pt.is_struct(schema.field(column).type)]
    return [f"{name}.path" for name in structs if "path" in [field.name for field in schema.field(name).type]]


def _rows(name: str, table: pa.Table, wanted: Mapping[str, str], held: Mapping[str, str]) -> Iterator[_Row]:
    members = {"image": "", "input": "input", "target": "target"}
    number = 0
    for batch in table.to_batches(max_chunksize=4096):
        for values in batch.to_pylist():
            about = {role: plain_value(values[wanted[role]]) for role in ("caption", "label") if role in wanted}
            key = plain_value(values.get(wanted.get("key", "")))
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
    places.list([(row.table, str(value)) for row in rows for value in row.uris.values() if value])
    for row in rows:
        shown = [str(value) for value in row.uris.values() if value]
        name = " ".join(shown) if shown else f"{row.table}#{row.number}"
        seen[name] = seen.get(name, 0) + 1
        if seen[name] > 1:  # several captions of one image
            name = f"{name}#{seen[name]}"
        try:
            parts = [places.part(row.table, member, value) for member, value in row.uris.items()]
        except ImageError as error:
            rejected.append(reject(name, "", "list", error.error, error.detail))
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


class _Places:
    """Turns URIs into parts: which store, which name, and which size, from one listing of each folder."""

    def __init__(self, home: Store) -> None:
        self.stores = [home]
        self._home = home
        self._roots: dict[str, int] = {}
        self._sizes: dict[tuple[str, str], dict[str, int] | str | None] = {}

    def list(self, uris: list[tuple[str, str]]) -> None:
        """Look at every folder that the URIs name; each has the table that it is in before it."""
        found = set()
        for table, uri in dict.fromkeys(uris):
            try:
                root, name = locate_image(self._home, table, uri)
            except ImageError:
                continue
            if _is_listed(root, name):
                found.add((root, name.rpartition("/")[0]))
        wanted = sorted(found)
        with ThreadPoolExecutor(_LISTERS, thread_name_prefix="list") as pool:
            self._sizes.update(zip(wanted, pool.map(self._list_folder, wanted), strict=True))

    def _list_folder(self, folder: tuple[str, str]) -> dict[str, int] | str | None:
        try:
            return {e.name: e.size_bytes for e in open_store(folder[0]).list(folder[1], recursive=False)}
        except AccessError:  # what may not be listed may perhaps be read
            return None
        except (MissingError, ConfigError) as error:
            return error.reason if isinstance(error, MissingError) else str(error)

    def part(self, table: str, member: str, value: Any) -> RecordImage:
        """Return the image that a URI in a table names.

        Raises:
            ImageError: the URI names no image, or nothing is there.
        """
        if not value:
            raise ImageError("read", "BadUri", "the cell is empty")
        root, name = locate_image(self._home, table, str(value))
        sizes = self._sizes.get((root, name.rpartition("/")[0])) if _is_listed(root, name) else None
        if isinstance(sizes, str):
            raise ImageError("read", "Unreachable", sizes)
        if sizes is not None and name not in sizes:
            raise ImageError("read", "Missing", "nothing is there")
        if root not in self._roots:
            self._roots[root] = len(self.stores)
            self.stores.append(open_store(root))
        size = sizes[name] if sizes is not None else _UNKNOWN_BYTES
        return RecordImage(member, name, size, is_listed=sizes is not None, store=self._roots[root])


def _is_listed(root: str, name: str) -> bool:
    """Return whether a listing of its folder shows an image; not that of a web server, nor where keys are odd."""
    return root.partition("://")[0] not in _UNLISTED and {"", ".", ".."}.isdisjoint(name.split("/"))
