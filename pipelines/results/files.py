"""The results of a batch job on disk: one Parquet file of draws a chunk, and a table of errors.

A chunk's draws file is its commit: it appears whole or not at all, carries its errors in its footer, and its bytes
depend on the plan alone. `errors/` is written from the footers and can be written again at any time.

    draws/<chunk>.parquet   one row a draw: DRAWS_SCHEMA
    errors/<plan>.parquet   one row a sample that could not be done: ERRORS_SCHEMA
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from itertools import islice
from typing import Any

import pyarrow as pa

from condgen.checks import check_choice
from condgen.errors import ConfigError, DatasetError
from pipelines.datasets.chunk import ERRORS_SCHEMA
from pipelines.datasets.parquet import plain_value
from pipelines.storage.parquet import open_parquet, parquet_bytes, write_parquet
from pipelines.storage.store import Store

__all__ = [
    "COLUMN_TYPES",
    "DRAWS_SCHEMA",
    "Draw",
    "Failure",
    "FilteredImage",
    "Receipt",
    "draws_name",
    "draws_schema",
    "encode_draws",
    "features_of",
    "iter_footers",
    "read_footer",
    "rows_digest",
    "write_errors",
]

FOOTER_KEY = b"condgen"
_FOOTER_READERS = 16
_ROWS_AT_ONCE = 1 << 16
_ERRORS_A_GROUP = 1 << 20

_FIELDS = (
    ("source", pa.string()),
    ("key", pa.string()),
    ("draw", pa.int32()),
    ("seed", pa.int64()),
    ("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
    ("width", pa.int32()),
    ("height", pa.int32()),
    ("source_sha256", pa.string()),
    ("image_sha256", pa.string()),
)

COLUMN_TYPES: Mapping[str, pa.DataType] = {
    "string": pa.string(),
    "int64": pa.int64(),
    "float64": pa.float64(),
    "bool": pa.bool_(),
}
"""Types of the columns that are copied from a sample's JSON or table into the results."""


def draws_schema(columns: Sequence[tuple[str, str]] = ()) -> pa.Schema:
    """Return the schema of draws files: one row a draw, and what is copied from the sample into each of its rows.

    Its metadata is what Hugging Face's `datasets` reads to show the column `image` as images (its `Image` feature
    is the same struct, and may be null: `datasets` takes the feature of no other column, though no row is without).

    Args:
        columns: names and types (`COLUMN_TYPES`) of what is copied.

    Raises:
        ConfigError: a name that is taken, or an unknown type.
    """
    fields = [pa.field(name, kind, nullable=name == "image") for name, kind in _FIELDS]
    for name, kind in columns:
        check_choice(f"columns.{name}", kind, COLUMN_TYPES)
        if name in [field.name for field in fields]:
            raise ConfigError("columns", name, f"a name that is not taken: {', '.join(field.name for field in fields)}")
        fields.append(pa.field(name, COLUMN_TYPES[kind]))
    return _with_features(pa.schema(fields))


def features_of(schema: pa.Schema) -> dict[str, dict[str, str]]:
    """Return the features that Hugging Face's `datasets` has for the columns of draws files and tables of errors."""
    return {
        field.name: {"_type": "Image"} if field.name == "image" else {"dtype": _DTYPES[field.type], "_type": "Value"}
        for field in schema
    }


def _with_features(schema: pa.Schema) -> pa.Schema:
    """Return a schema with the metadata in which `datasets` looks for the columns' features."""
    text = json.dumps({"info": {"features": features_of(schema)}}, sort_keys=True)
    return schema.with_metadata({b"huggingface": text.encode()})


_DTYPES = {kind: str(kind) for kind in (pa.string(), pa.int32(), pa.int64(), pa.bool_())} | {pa.float64(): "float64"}
"""The names that `datasets` has for Arrow's types."""

DRAWS_SCHEMA = draws_schema()


@dataclass(frozen=True, slots=True, kw_only=True)
class Draw:
    """One output: `image` holds the encoded image, `path` the file name under which it would be extracted.

    `facts` are what is copied from its sample, by column.
    """

    source: str
    key: str
    draw: int
    seed: int
    image: bytes
    path: str
    width: int
    height: int
    source_sha256: str
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A sample that could not be done: at which stage, the kind of error, and a canonical message.

    `place` is where in its chunk it is.
    """

    source: str
    key: str
    stage: str
    error: str
    message: str
    place: int

    def row(self) -> dict[str, str]:
        """Return its row in the table of errors."""
        return {name: getattr(self, name) for name in ERRORS_SCHEMA.names}


@dataclass(frozen=True, slots=True, kw_only=True)
class FilteredImage:
    """A sample that the user's own function left out."""

    source: str
    key: str
    place: int


@dataclass(slots=True, kw_only=True)
class Receipt:
    """The counts of a chunk that was committed, by kind of error too, and seconds by stage.

    `cpu_seconds` are those of its worker since the receipt before.
    """

    chunk: str
    samples: int
    draws: int
    errors: int
    filtered: int
    bytes_in: int
    bytes_out: int
    cpu_seconds: float = 0.0
    seconds: dict[str, float] = field(default_factory=dict)
    kinds: dict[str, int] = field(default_factory=dict)


def draws_name(chunk_name: str) -> str:
    """Return the name of the object that commits a chunk, relative to the results' folder."""
    return f"draws/{chunk_name}.parquet"


def encode_draws(
    draws: Sequence[Draw],
    failures: Sequence[Failure],
    footer: Mapping[str, Any],
    *,
    samples: int,
    filtered: Sequence[FilteredImage] = (),
    columns: Sequence[tuple[str, str]] = (),
) -> bytes:
    """Return the bytes of a chunk's draws file.

    Image bytes are stored as they are (they are compressed already) and in small row groups, so that one key out of
    many is read by its statistics; the other columns are zstd-compressed.

    Args:
        draws: rows in data order, the K draws of a sample next to each other.
        failures: the chunk's samples that have no draws.
        footer: JSON values that are the same for the whole file (plan, model digest, versions).
        samples: number of the chunk's samples: with draws, failed and filtered.
        filtered: the chunk's samples that the user's own function left out.
        columns: names and types of what is copied, see `draws_schema`.
    """
    schema = draws_schema(columns)
    values: dict[str, Any] = {name: [getattr(draw, name) for draw in draws] for name in _PLAIN}
    values["image"] = [{"bytes": draw.image, "path": draw.path} for draw in draws]
    values["image_sha256"] = [hashlib.sha256(draw.image).hexdigest() for draw in draws]
    for name, kind in columns:
        values[name] = [_as(draw.facts.get(name), kind) for draw in draws]
    table = pa.table({name: values[name] for name in schema.names}, schema=schema)
    facts = dict(footer)
    facts["counts"] = {
        "samples": samples,
        "draws": len(draws),
        "errors": len(failures),
        "filtered": len(filtered),
    }
    facts["errors"] = [asdict(failure) for failure in failures]
    facts["filtered"] = [asdict(one) for one in filtered]
    facts["rows_sha256"] = rows_digest(table)
    metadata = dict(schema.metadata or {})
    metadata[FOOTER_KEY] = json.dumps(facts, sort_keys=True).encode()
    leaves = ["image.bytes" if name == "image" else name for name in schema.names] + ["image.path"]
    return parquet_bytes(
        table.replace_schema_metadata(metadata),
        compression=dict.fromkeys(leaves, "zstd") | {"image.bytes": "none"},
        use_dictionary=["source", "key", "source_sha256", "seed", *(name for name, kind in columns)],
        write_statistics=[name for name in leaves if name != "image.bytes"],
        row_group_size=64,
        store_schema=True,
    )


_PLAIN = ("source", "key", "draw", "seed", "width", "height", "source_sha256")


def rows_digest(table: pa.Table) -> str:
    """Return the SHA-256 over a draws file's rows that `condgen verify` compares; images count by their digests."""
    columns = {name: table[name].to_pylist() for name in table.schema.names if name != "image"}
    paths = table["image"].combine_chunks().field("path").to_pylist() if table.num_rows else []
    text = json.dumps([columns, paths], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _as(value: Any, kind: str) -> Any:
    """Return a value as a column's type has it; None where it can't be had as that."""
    if value is None:
        return None
    if kind == "string":
        value = plain_value(value)
        return value if value is None or isinstance(value, str) else json.dumps(value, sort_keys=True, default=str)
    try:
        if kind == "bool":
            return value if isinstance(value, bool) else None
        number = int(value) if kind == "int64" else float(value)
        return number if kind == "float64" or -(2**63) <= number < 2**63 else None
    except (TypeError, ValueError, OverflowError):
        return None


def read_footer(store: Store, name: str, size_bytes: int | None = None) -> dict[str, Any]:
    """Return the facts in the footer of one draws file, by one or two range reads from its end.

    Raises:
        DatasetError: the file is no draws file of condgen.
    """
    try:
        file = open_parquet(store, name, size_bytes=size_bytes)
    except DatasetError as error:
        raise DatasetError(f"{store.uri}/{name} is no whole Parquet file: delete it and run the job again") from error
    try:
        facts = json.loads((file.metadata.metadata or {})[FOOTER_KEY])
    except (KeyError, ValueError) as error:
        raise DatasetError(f"{store.uri}/{name} is no draws file of condgen: delete it and run again") from error
    return dict(facts)


def iter_footers(store: Store, sizes: Mapping[str, int]) -> Iterator[dict[str, Any]]:
    """Yield the footers of many draws files (size in bytes by name) in their order; they are read side by side."""
    with ThreadPoolExecutor(_FOOTER_READERS, thread_name_prefix="footers") as pool:
        yield from pool.map(lambda item: read_footer(store, *item), sizes.items())


def write_errors(store: Store, name: str, failures: Iterable[Failure]) -> None:
    """Write the table `errors/<name>.parquet`, also where there is no error: an empty table is an answer."""
    schema = _with_features(ERRORS_SCHEMA)
    rows = (failure.row() for failure in failures)
    batches = iter(lambda: list(islice(rows, _ROWS_AT_ONCE)), [])
    tables = (pa.Table.from_pylist(batch, schema=schema) for batch in batches)
    path = f"errors/{name}.parquet"
    write_parquet(store, path, tables, schema, row_group_size=_ERRORS_A_GROUP, compression="zstd")
