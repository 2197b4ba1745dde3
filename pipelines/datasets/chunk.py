"""Chunks: the unit of work, of commit and of resume, and how one is read.

A chunk is a contiguous run of samples of one shard, or of an archive's sorted listing of loose files. It is one row
of a plan (`CHUNK_SCHEMA`), says all that a worker needs to read it, and what must be found there: samples and
checksums. `read_chunk` gives exactly `chunk.samples` samples, one for each that the plan counted: a sample that can't
be read is there with its fault, never left out.
"""

from __future__ import annotations

import functools
import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from typing import Any, TypeVar

import pyarrow as pa

from condgen.errors import ImageError, MissingError
from pipelines.datasets.extent import LISTED_LATER, UNREAD_KEY
from pipelines.datasets.tar import renamed
from pipelines.datasets.tar_samples import MISMATCH, checked_samples
from pipelines.images.formats import EXTENSIONS, format_of
from pipelines.storage.cache import CachedStore
from pipelines.storage.neighbors import Neighbors
from pipelines.storage.store import Store

__all__ = [
    "CHUNK_SCHEMA",
    "ERRORS_SCHEMA",
    "Chunk",
    "ChunkLimits",
    "ExtentPart",
    "FilePart",
    "RowPart",
    "Sample",
    "chunks_to_table",
    "image_member",
    "image_members",
    "iter_chunks",
    "read_chunk",
    "sample_facts",
]

T = TypeVar("T")

_TEXTS = frozenset({"json", "txt", "cls", "csv", "caption", "label"})
_FILE_READERS = 8
_ROWS_AT_ONCE = 4096
_GONE = ImageError("read", "Missing", "the file was there when the plan was made and is gone")

_INT32, _INT64, _STRING = pa.int32(), pa.int64(), pa.string()
_EXTENT = pa.struct([("start", _INT64), ("stop", _INT64), ("samples", _INT32), ("sha256", _STRING)])
_FILE = pa.struct([("name", _STRING), ("size_bytes", _INT64)])
_ROWS = pa.struct(
    [("start", _INT64), ("stop", _INT64), ("image", _STRING), ("key", _STRING), ("columns", pa.list_(_STRING))]
)
CHUNK_SCHEMA = pa.schema(
    [
        pa.field("ordinal", _INT64, nullable=False),
        pa.field("name", _STRING, nullable=False),
        pa.field("shard", _STRING),
        pa.field("samples", _INT32, nullable=False),
        pa.field("first_sample", _INT64, nullable=False),
        pa.field("runs", pa.list_(_EXTENT)),
        pa.field("files", pa.list_(_FILE)),
        pa.field("rows", _ROWS),
        pa.field("select", pa.list_(_INT32)),
        pa.field("redoes", _STRING),
    ]
)

ERRORS_SCHEMA = pa.schema(
    [pa.field(name, pa.string(), nullable=False) for name in ("source", "key", "stage", "error", "message")]
)
"""One row a sample, or a file, that could not be used: where it is, and what of `ImageError` says why."""


@dataclass(frozen=True, slots=True)
class ExtentPart:
    """A run of consecutive samples of a chunk's shard: its byte range [start, stop), count and checksum."""

    start: int
    stop: int
    samples: int
    sha256: str


@dataclass(frozen=True, slots=True)
class FilePart:
    """One loose file of a chunk: its name, relative to the archive's root."""

    name: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class RowPart:
    """Rows [start, stop) of a Parquet file, in one row group.

    Attributes:
        image: name of the column of images.
        key: name of the column of keys (default: the rows' numbers are the keys).
        columns: names of columns that are read along, as ``Sample.facts``.
    """

    start: int
    stop: int
    image: str
    key: str | None = None
    columns: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """One row of a plan.

    Attributes:
        ordinal: place in the plan, from 0.
        name: name of the chunk's outputs, made from its place and its content.
        shard: tar or Parquet file that it is a part of, relative to the archive's root; None for loose files.
        samples: number of its samples that are to be done.
        first_sample: ordinal of its first sample in the plan.
        runs: parts of a tar, in the order of the tar.
        files: loose files.
        rows: rows of a Parquet file.
        select: places in the chunk, from 0, of the samples that are to be done (default: all).
        redoes: name of the chunk some of whose samples are done again (default: the samples are new).

    Of a shard or a table that could not be read when the plan was made, a chunk of one sample stands for all: its
    `start` is `UNREAD`, or `LISTED_LATER`.
    """

    ordinal: int
    name: str
    shard: str | None
    samples: int
    first_sample: int
    runs: tuple[ExtentPart, ...] = ()
    files: tuple[FilePart, ...] = ()
    rows: RowPart | None = None
    select: tuple[int, ...] | None = None
    redoes: str | None = None

    @property
    def places(self) -> Sequence[int]:
        """Place in the chunk of each sample that `read_chunk` returns."""
        return range(self.samples) if self.select is None else self.select

    @property
    def start(self) -> int:
        """Where it begins in its shard or table (default: 0, of loose files)."""
        return self.rows.start if self.rows is not None else self.runs[0].start if self.runs else 0

    def to_row(self) -> dict[str, Any]:
        """Return the chunk as a row of `CHUNK_SCHEMA`."""
        return asdict(self)

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Chunk:
        """Return the chunk of a row of `CHUNK_SCHEMA`."""
        values = {name: row[name] for name in CHUNK_SCHEMA.names}
        values["runs"] = tuple(ExtentPart(**run) for run in row["runs"] or ())
        values["files"] = tuple(FilePart(**file) for file in row["files"] or ())
        rows = row["rows"]
        values["rows"] = RowPart(**{**rows, "columns": tuple(rows["columns"] or ())}) if rows else None
        values["select"] = tuple(row["select"]) if row["select"] is not None else None
        return cls(**values)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkLimits:
    """Bounds of a chunk, which limit what a worker holds; one sample alone may exceed them."""

    samples: int = 64
    size_bytes: int = 64 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One record: its identity and its members (`jpg`, `input.png`, `json`), or the fault that it has.

    `facts` are the columns of a table that were read along; None where the sample is of no table. `is_listed_later` is
    true of one that stood for a whole shard, whose samples are in a later plan.
    """

    source: str
    key: str
    members: dict[str, bytes] = field(default_factory=dict)
    fault: ImageError | None = None
    facts: dict[str, Any] | None = None
    is_listed_later: bool = False


def chunks_to_table(chunks: Iterable[Chunk]) -> pa.Table:
    """Return chunks as rows of `CHUNK_SCHEMA`."""
    rows = (chunk.to_row() for chunk in chunks)
    batches = iter(lambda: list(itertools.islice(rows, _ROWS_AT_ONCE)), [])
    return pa.Table.from_batches((pa.RecordBatch.from_pylist(b, CHUNK_SCHEMA) for b in batches), CHUNK_SCHEMA)


def iter_chunks(table: pa.Table) -> Iterator[Chunk]:
    """Yield the chunks of a table in `CHUNK_SCHEMA`, or of what comes in batches as one (`to_batches`)."""
    for batch in table.to_batches(max_chunksize=1024):
        yield from map(Chunk.from_row, batch.to_pylist())


def read_chunk(
    store: Store,
    chunk: Chunk,
    member_names: Mapping[str, str] | None = None,
    neighbors: Neighbors | None = None,
    *,
    views: bool = False,
) -> list[Sample]:
    """Read a chunk, with one range request of a shard, or one request for each loose file.

    Args:
        store: store of the archive.
        chunk: chunk of the archive's plan.
        member_names: names of members here and in the shard, as in ``Manifest.member_names``.
        neighbors: what tells an object's own trouble from that of the storage. An object that can't be read is then the
            fault of its samples (default: it is an error, but for a loose file that is gone).
        views: whether members may be views of the chunk's bytes (`memoryview`), which then stay in memory with them.

    Returns:
        Exactly `chunk.samples` samples, those of `chunk.places`, in data order. One that can't be read has a `fault`
        (stage `read`): bytes that are not those of the index, a cut tar, a file that is gone.

    Raises:
        StorageError: the storage did not answer, after retries; the whole chunk is to be tried again.
        JobError: the storage is out, as the neighbors tell.
    """
    if chunk.shard is None:
        return _read_files(store, _selected(chunk.files, chunk), neighbors)
    try:
        if chunk.start < 0:
            return [_read_unread(store, chunk.shard, chunk.start, neighbors)]
        if chunk.rows is not None:
            return _read_rows(store, chunk.shard, chunk.rows, chunk.places, neighbors)
        samples = _read_runs(store, chunk.shard, chunk, neighbors, views)
    except ImageError as error:
        return _unreadable(chunk, error)
    if any(sample.fault is not None and sample.fault.error == MISMATCH for sample in samples):
        # Bytes that were changed on the way are not what lies there: a second reading tells the two apart.
        if isinstance(store, CachedStore):
            store.forget_range(chunk.shard, chunk.runs[0].start, chunk.runs[-1].stop)
        samples = _read_runs(store, chunk.shard, chunk, neighbors, views)
    if member_names:
        samples = [replace(sample, members=renamed(sample.members, member_names)) for sample in samples]
    return _selected(samples, chunk)


def _unreadable(chunk: Chunk, error: ImageError) -> list[Sample]:
    """Return the samples of a chunk whose shard or table can't be read: their keys are in it."""
    first = chunk.rows.start if chunk.rows is not None else chunk.first_sample
    keys = [UNREAD_KEY] if chunk.start < 0 else [f"#{first + place}" for place in chunk.places]
    return [Sample(source=str(chunk.shard), key=key, fault=error) for key in keys]


def _read_unread(store: Store, shard: str, start: int, neighbors: Neighbors | None) -> Sample:
    """Return the sample that stands for a shard or table which could not be read when the plan was made.

    Raises:
        ImageError: it still can't be read.
    """
    if start != LISTED_LATER:
        (neighbors or Neighbors()).read(store, shard, lambda store: store.read_range(shard, 0, 1))
        message = "it could not be read when the images were listed, and can be now: run the same command again"
        raise ImageError("read", "NotListed", message)
    return Sample(source=shard, key=UNREAD_KEY, is_listed_later=True)


def _selected(items: Sequence[T], chunk: Chunk) -> list[T]:
    return list(items) if chunk.select is None else [items[place] for place in chunk.select]


def _read_runs(store: Store, shard: str, chunk: Chunk, neighbors: Neighbors | None, views: bool) -> list[Sample]:
    start, stop = chunk.runs[0].start, chunk.runs[-1].stop

    def read(store: Store) -> bytes:
        return store.read_range(shard, start, stop)

    data = neighbors.read(store, shard, read) if neighbors else read(store)
    found = [
        sample
        for run in chunk.runs
        for sample in checked_samples(data, run.start - start, run.stop - start, run.samples, run.sha256, views)
    ]
    return [
        Sample(
            source=shard,
            key=sample.key if sample.key is not None else f"#{chunk.first_sample + place}",
            members=sample.members,
            fault=sample.fault,
        )
        for place, sample in enumerate(found)
    ]


def _read_files(store: Store, files: Sequence[FilePart], neighbors: Neighbors | None) -> list[Sample]:
    def fetch(name: str) -> bytes:
        return neighbors.read(store, name, lambda store: store.read(name)) if neighbors else store.read(name)

    def read(file: FilePart) -> Sample:
        key, _, extension = file.name.rpartition(".")
        if "/" in extension or not key or key.endswith("/"):  # a name without an extension
            key, extension = file.name, "bin"
        try:
            data = fetch(file.name)
        except MissingError as error:
            if error.scope == "storage":
                raise
            return Sample(source=file.name, key=key, fault=_GONE)
        except ImageError as error:
            return Sample(source=file.name, key=key, fault=_GONE if error.error == "Missing" else error)
        return Sample(source=file.name, key=key, members={extension.lower(): data})

    if len(files) == 1:
        return [read(files[0])]
    with ThreadPoolExecutor(min(_FILE_READERS, len(files)), thread_name_prefix="read") as pool:
        return list(pool.map(read, files))


def _read_rows(
    store: Store, name: str, rows: RowPart, places: Sequence[int], neighbors: Neighbors | None
) -> list[Sample]:
    from pipelines.datasets.parquet import plain_value, read_columns, read_images

    numbers = [rows.start + place for place in places]
    columns = [*([rows.key] if rows.key else []), *rows.columns]

    def read(store: Store) -> list[dict[str, Any]]:
        return read_columns(store, name, [*columns, rows.image], numbers)

    table = neighbors.read(store, name, read) if neighbors else read(store)
    samples = []
    images = read_images(store, name, rows.image, numbers, neighbors.linked if neighbors else None)
    for number, values, image in zip(numbers, table, images, strict=True):
        found = plain_value(values.get(rows.key)) if rows.key else None
        key = str(found) if found not in (None, "") else f"#{number}"
        facts = {column: values[column] for column in rows.columns}
        if isinstance(image, ImageError):
            samples.append(Sample(source=name, key=key, fault=image, facts=facts))
        else:
            samples.append(Sample(source=name, key=key, members={"image": image}, facts=facts))
    return samples


def sample_facts(sample: Sample) -> Mapping[str, Any]:
    """Return what belongs to a sample besides its images: a table's columns, or its JSON member, or nothing."""
    if sample.facts is not None:
        return sample.facts
    data = sample.members.get("json")
    try:
        found = json.loads(data) if data else {}
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def image_member(sample: Sample, member: str | None = None) -> bytes:
    """Return the encoded image of a sample: its member `member`, or the only one that is an image.

    Raises:
        ImageError: the sample has a fault, or no such member.
    """
    if sample.fault is not None:
        raise sample.fault
    if member:
        names = [name for name in sample.members if name == member or name.startswith(f"{member}.")]
    else:
        names = image_members(sample.members)
    if len(names) != 1:
        have = ", ".join(sorted(sample.members)) or "nothing"
        want = f"no single member {member!r}" if member else "several images" if names else "no image"
        hint = ": name one with --member" if len(names) > 1 and not member else ""
        raise ImageError("read", "Members", f"{want} among: {have}{hint}")
    return sample.members[names[0]]


def image_members(members: Mapping[str, bytes]) -> list[str]:
    """Return the names of the members that are images: by their extensions, or where none tells, by their bytes.

    Of one member alone, of which neither tells anything, it is the name: its decoder says what is wrong with it.
    """
    names = list(_named_images(tuple(members)))
    names = names or [name for name, data in members.items() if format_of(bytes(data[:32])) is not None]
    if not names and len(members) == 1:
        names = [name for name in members if name.rpartition(".")[2].lower() not in _TEXTS]
    return names


@functools.lru_cache(maxsize=256)
def _named_images(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name for name in names if name.rpartition(".")[2].lower() in EXTENSIONS)
