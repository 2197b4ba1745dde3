"""The results of a batch job on disk: one Parquet file of draws a chunk, and a table of errors.

A chunk's draws file is its commit: it appears whole or not at all, carries its errors in its footer, and its bytes
depend on the plan alone. `errors/` is written from the footers and can be written again at any time.

    draws/<chunk>.parquet   one row a draw: DRAWS_SCHEMA
    errors/<plan>.parquet   one row a sample that could not be done: ERRORS_SCHEMA
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from condgen.errors import DatasetError
from pipelines.storage import Store

__all__ = [
    "DRAWS_SCHEMA",
    "ERRORS_SCHEMA",
    "Draw",
    "Failure",
    "Receipt",
    "draws_name",
    "encode_draws",
    "iter_footers",
    "read_footer",
    "write_errors",
]

FOOTER_KEY = b"condgen"
_FOOTER_READERS = 16
_FOOTER_GUESS_BYTES = 64 * 1024

# What Hugging Face `datasets` reads to show the column as pictures (its `Image` feature is the same struct).
_HUGGINGFACE = {
    "info": {
        "features": {
            "source": {"dtype": "string", "_type": "Value"},
            "key": {"dtype": "string", "_type": "Value"},
            "draw": {"dtype": "int32", "_type": "Value"},
            "seed": {"dtype": "int64", "_type": "Value"},
            "image": {"_type": "Image"},
            "width": {"dtype": "int32", "_type": "Value"},
            "height": {"dtype": "int32", "_type": "Value"},
            "source_sha256": {"dtype": "string", "_type": "Value"},
        }
    }
}

DRAWS_SCHEMA = pa.schema(
    [
        pa.field("source", pa.string(), nullable=False),
        pa.field("key", pa.string(), nullable=False),
        pa.field("draw", pa.int32(), nullable=False),
        pa.field("seed", pa.int64(), nullable=False),
        pa.field("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())]), nullable=False),
        pa.field("width", pa.int32(), nullable=False),
        pa.field("height", pa.int32(), nullable=False),
        pa.field("source_sha256", pa.string(), nullable=False),
    ],
    metadata={b"huggingface": json.dumps(_HUGGINGFACE, sort_keys=True).encode()},
)

ERRORS_SCHEMA = pa.schema(
    [pa.field(name, pa.string(), nullable=False) for name in ("source", "key", "stage", "error", "message")]
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Draw:
    """One output: `image` holds the encoded picture, `path` the file name under which it would be extracted."""

    source: str
    key: str
    draw: int
    seed: int
    image: bytes
    path: str
    width: int
    height: int
    source_sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A sample that could not be done: at which stage, the kind of error, and a canonical message."""

    source: str
    key: str
    stage: str
    error: str
    message: str


@dataclass(slots=True)
class Receipt:
    """What is told of a chunk when it is committed."""

    chunk: str
    samples: int
    draws: int
    errors: int
    bytes_out: int
    seconds: dict[str, float] = field(default_factory=dict)


def draws_name(chunk_name: str) -> str:
    """The object that commits a chunk, relative to the results' folder."""
    return f"draws/{chunk_name}.parquet"


def encode_draws(draws: Sequence[Draw], failures: Sequence[Failure], footer: Mapping[str, Any]) -> bytes:
    """The bytes of a chunk's draws file.

    Image bytes are stored as they are (they are compressed already) and in small row groups, so that one key out of
    many is read by its statistics; the other columns are zstd-compressed.

    Args:
        draws: rows in data order, the K draws of a sample next to each other.
        failures: the chunk's samples that have no draws.
        footer: what is the same for the whole file (plan, model digest, versions); JSON values.
    """
    columns: dict[str, Any] = {
        name: [getattr(draw, name) for draw in draws] for name in DRAWS_SCHEMA.names if name != "image"
    }
    columns["image"] = [{"bytes": draw.image, "path": draw.path} for draw in draws]
    table = pa.table({name: columns[name] for name in DRAWS_SCHEMA.names}, schema=DRAWS_SCHEMA)
    facts = dict(footer)
    facts["counts"] = {
        "samples": len({(d.source, d.key) for d in draws}) + len(failures),
        "draws": len(draws),
        "errors": len(failures),
    }
    facts["errors"] = [asdict(failure) for failure in failures]
    metadata = dict(DRAWS_SCHEMA.metadata or {})
    metadata[FOOTER_KEY] = json.dumps(facts, sort_keys=True).encode()
    sink = io.BytesIO()
    pq.write_table(
        table.replace_schema_metadata(metadata),
        sink,
        compression=dict.fromkeys(_leaves(), "zstd") | {"image.bytes": "none"},
        use_dictionary=["source", "key", "source_sha256", "seed"],
        write_statistics=[name for name in _leaves() if name != "image.bytes"],
        row_group_size=64,
        store_schema=True,
    )
    return sink.getvalue()


def _leaves() -> list[str]:
    return ["image.bytes" if n == "image" else n for n in DRAWS_SCHEMA.names] + ["image.path"]


def read_footer(store: Store, name: str, size_bytes: int | None = None) -> dict[str, Any]:
    """The facts in the footer of one draws file, by one or two range reads from its end.

    Raises:
        DatasetError: the file is no draws file of condgen.
    """
    size = store.size(name) if size_bytes is None else size_bytes
    start = max(0, size - _FOOTER_GUESS_BYTES)
    tail = store.read_range(name, start, size)
    if len(tail) < 12 or tail[-4:] != b"PAR1":
        raise DatasetError(f"{store.uri}/{name} is no whole Parquet file: delete it and run the job again")
    footer_bytes = int.from_bytes(tail[-8:-4], "little") + 8
    if footer_bytes > len(tail):
        tail = store.read_range(name, max(0, size - footer_bytes), size)
    try:
        # A Parquet reader needs the magic at both ends and the footer, not the pages between them.
        metadata = pq.read_metadata(io.BytesIO(b"PAR1" + tail[-footer_bytes:]))
        facts = json.loads((metadata.metadata or {})[FOOTER_KEY])
    except (pa.ArrowInvalid, KeyError, ValueError, OSError) as error:
        raise DatasetError(f"{store.uri}/{name} is no draws file of condgen: delete it and run again") from error
    return dict(facts)


def iter_footers(store: Store, sizes: Mapping[str, int]) -> Iterator[dict[str, Any]]:
    """The footers of many draws files (name to size in bytes), in the order given, read side by side."""
    with ThreadPoolExecutor(_FOOTER_READERS, thread_name_prefix="footers") as pool:
        yield from pool.map(lambda item: read_footer(store, *item), sizes.items())


def write_errors(store: Store, name: str, failures: Iterable[Failure]) -> None:
    """Write the table `errors/<name>.parquet`, also where there is no error: an empty table is an answer."""
    rows = [asdict(failure) for failure in failures]
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema=ERRORS_SCHEMA), sink, compression="zstd")
    store.write(f"errors/{name}.parquet", sink.getvalue())
