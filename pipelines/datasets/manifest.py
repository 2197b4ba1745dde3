"""Datasets of shards: the manifest and the index beside them.

{split}-{index:06d}.tar   WebDataset shards
index.parquet             one row a run of up to 16 samples: its byte range, samples, keys and checksum (EXTENT_SCHEMA)
samples.parquet           one row a sample: its key, its source and that one's checksum (SAMPLE_SCHEMA)
rejected.parquet          one row a file that is in no shard, and why (ERRORS_SCHEMA in chunk.py); only if there are any
manifest.json             all of it in a page, written last: its presence means that the dataset is complete

Each growth of a dataset adds shards and tables of its own (``index-001.parquet``, see ``table_name``) and replaces the
manifest alone, so that a growth that was cut changes nothing. The index and the rejected files are whole in each
generation, the samples are those that it added.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from condgen.errors import DatasetError, MissingError
from condgen.statistics import DatasetStatistics
from pipelines.datasets.extent import EXTENT_SCHEMA, Extent
from pipelines.storage.parquet import StoredParquet, parquet_bytes
from pipelines.storage.store import Store, json_bytes

__all__ = [
    "BUILDING_NAME",
    "DOMAINS_NAME",
    "INDEX_NAME",
    "MANIFEST_NAME",
    "REJECTED_NAME",
    "SAMPLE_SCHEMA",
    "Dataset",
    "Manifest",
    "ShardInfo",
    "load_manifest",
    "table_bytes",
    "table_name",
]

MANIFEST_NAME = "manifest.json"
INDEX_NAME = "index.parquet"
REJECTED_NAME = "rejected.parquet"
DOMAINS_NAME = "domains.json"
"""Beside two datasets, ``a`` and ``b``, that are the domains of an unpaired one."""

BUILDING_NAME = "manifest.building.json"
"""Mark of a dataset that is being made: what stands beside it without a manifest is incomplete and may be replaced."""


PIECE_ROWS = 1 << 16
"""Number of rows that the pieces of a dataset's tables have."""

_FORMAT = "condgen-dataset"
_VERSION = 1


SAMPLE_SCHEMA = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("size_bytes", pa.int64(), nullable=False),
        pa.field("shard", pa.string(), nullable=False),
        pa.field("width", pa.int32(), nullable=False),
        pa.field("height", pa.int32(), nullable=False),
        pa.field("sha256", pa.string(), nullable=False),
        pa.field("phash", pa.uint64()),
    ]
)
"""``size_bytes`` as listed (0 where it was not) and ``sha256`` are of the source's bytes; ``phash`` is of the image,
where near duplicates were looked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardInfo:
    """One shard of a dataset.

    Attributes:
        name: name of the tar, relative to the dataset.
        split: train, test, ...; ``all`` where the name tells of none.
        samples: number of samples.
        size_bytes: size of the tar.
        sha256: SHA-256 of the tar, in hexadecimal; empty where it was not computed.
        generation: growth of the dataset that added the shard; 0 is its making.
    """

    name: str
    split: str
    samples: int
    size_bytes: int
    sha256: str = ""
    generation: int = 0


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a dataset is.

    Attributes:
        kind: ``single`` (one image a sample) or ``paired`` (``input`` and ``target``).
        shards: all shards of all generations, in the order of their splits and names.
        members: number of samples that have a member of each name (``jpg``, ``json``).
        rejected: number of the source's files that are in no shard, by error; ``rejected.parquet`` lists them.
        runs: number of rows of the index.
        index_sha256: SHA-256 of the index's file; empty for a dataset that was scanned.
        input_sha256: digest of all that the shards were made from and with; equal inputs give equal bytes.
        options: options that the shards were made with: the split's shares, the bounds of a shard.
        statistics: statistics of the images: ``sizes``, ``mean_rgb``, and ``train`` (``condgen.statistics``).
        generation: number of times that the dataset has grown.
        base: URI of the shards; empty where they are beside the manifest.
        member_names: names of members, and those that they have in the shards: ``{"input": "cond.png"}``.
    """

    kind: str
    shards: tuple[ShardInfo, ...]
    members: Mapping[str, int] = field(default_factory=dict)
    rejected: Mapping[str, int] = field(default_factory=dict)
    runs: int = 0
    index_sha256: str = ""
    input_sha256: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    statistics: Mapping[str, Any] = field(default_factory=dict)
    generation: int = 0
    base: str = ""
    member_names: Mapping[str, str] = field(default_factory=dict)

    @property
    def samples(self) -> int:
        """Number of all samples."""
        return sum(shard.samples for shard in self.shards)

    @property
    def size_bytes(self) -> int:
        """Bytes of all shards."""
        return sum(shard.size_bytes for shard in self.shards)

    @property
    def splits(self) -> dict[str, int]:
        """Number of samples of each split, in the order of the shards."""
        counts: dict[str, int] = {}
        for shard in self.shards:
            counts[shard.split] = counts.get(shard.split, 0) + shard.samples
        return counts

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the manifest: two datasets with the same one have the same bytes."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    def train_statistics(self) -> DatasetStatistics | None:
        """Return what models are fitted to (``ConditionalModel.fit_statistics``), or None where it was not counted."""
        train = self.statistics.get("train")
        return DatasetStatistics.from_json(json.dumps(train)) if train is not None else None

    def to_json(self) -> str:
        """Return a JSON text, the same for equal manifests."""
        values = {"format": _FORMAT, "version": _VERSION, **asdict(self)}
        return json_bytes(values, ensure_ascii=False).decode()

    @classmethod
    def from_json(cls, text: str | bytes, where: str = MANIFEST_NAME) -> Manifest:
        """Return what ``to_json`` wrote.

        Raises:
            DatasetError: damaged, of another program, or of a newer version.
        """
        try:
            values = json.loads(text)
            if values.pop("format") != _FORMAT:
                raise ValueError("not a condgen dataset")
            version = int(values.pop("version"))
            if version > _VERSION:
                raise DatasetError(f"{where} has version {version}, this condgen reads {_VERSION}: use a newer condgen")
            shards = tuple(ShardInfo(**shard) for shard in values.pop("shards"))
            known = {item.name for item in fields(cls)}
            return cls(shards=shards, **{name: value for name, value in values.items() if name in known})
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DatasetError(f"{where} is damaged ({error}): make the dataset again") from error


@dataclass(frozen=True)
class Dataset:
    """A dataset that is open: its store, its manifest, and the runs that it is made of.

    Attributes:
        store: store of the shards; runs and shards are named relative to it.
        manifest: manifest of the dataset.
        extents: index, as it is read in pieces.
        home: store of the manifest, where that is not the store of the shards.
        description: what the place was taken for and what of it is left out, where its shards were scanned.
    """

    store: Store
    manifest: Manifest
    extents: StoredParquet = field(repr=False)
    home: Store | None = None
    description: str = ""

    @property
    def uri(self) -> str:
        """URI of the manifest's folder, or of the shards' where there is no manifest."""
        return (self.home or self.store).uri

    @property
    def is_complete(self) -> bool:
        """Whether it has a manifest and an index in storage; else its shards were scanned."""
        return bool(self.manifest.index_sha256)

    @cached_property
    def index(self) -> pa.Table:
        """All of the index in memory: a table in ``EXTENT_SCHEMA``, in the order of the manifest's shards."""
        return pa.concat_tables([EXTENT_SCHEMA.empty_table(), *self.pieces()])

    def pieces(self, columns: Sequence[str] | None = None, split: str | None = None) -> Iterator[pa.Table]:
        """Yield the index of a split, or of all, in pieces.

        Args:
            columns: names of columns (default: all); `shard` is among them where a split is named.
            split: split (default: all).

        Raises:
            DatasetError: there is no such split.
        """
        schema = EXTENT_SCHEMA if columns is None else pa.schema([EXTENT_SCHEMA.field(name) for name in columns])
        shards = self._shards_of(split) if split is not None else None
        for piece in self.extents.pieces(columns):
            piece = piece.select(schema.names).cast(schema)
            yield piece if shards is None else piece.filter(pc.is_in(piece["shard"], value_set=shards))

    def runs(self, split: str | None = None) -> list[Extent]:
        """Return the runs of a split, or of all.

        Raises:
            DatasetError: there is no such split.
        """
        return [Extent(**row) for row in self.table(split).to_pylist()]

    def table(self, split: str | None = None) -> pa.Table:
        """Return the index of a split, or of all, in ``EXTENT_SCHEMA``.

        Raises:
            DatasetError: there is no such split.
        """
        if split is None:
            return self.index
        return pa.concat_tables([EXTENT_SCHEMA.empty_table(), *self.pieces(split=split)])

    def _shards_of(self, split: str) -> pa.Array:
        if split not in self.manifest.splits:
            known = ", ".join(self.manifest.splits) or "none"
            raise DatasetError(f"{self.uri} has no split {split!r}; it has: {known}")
        return pa.array([shard.name for shard in self.manifest.shards if shard.split == split], pa.string())


def table_bytes(table: pa.Table) -> bytes:
    """Return a table as a Parquet file, the same for equal tables."""
    return parquet_bytes(table, compression="zstd", row_group_size=PIECE_ROWS)


def load_manifest(store: Store) -> Manifest | None:
    """Return a dataset's manifest, or None where it has none (made elsewhere, or not complete).

    A ``manifest.json`` of something else (IIIF, a web app) is no dataset's.

    Raises:
        DatasetError: the manifest is damaged.
    """
    try:
        text = store.read(MANIFEST_NAME)
    except MissingError:
        return None
    if not _is_ours(text) and not store.exists(INDEX_NAME):
        return None
    return Manifest.from_json(text, store.locate(MANIFEST_NAME))


def _is_ours(text: bytes) -> bool:
    try:
        values = json.loads(text)
    except ValueError:  # a manifest of ours that was cut says what it is
        return f'"format": "{_FORMAT}"'.encode() in text
    return isinstance(values, dict) and values.get("format") == _FORMAT


def table_name(stem: str, generation: int) -> str:
    """Return the name of a generation's ``index``, ``samples`` or ``rejected`` table."""
    return f"{stem}-{generation:03d}.parquet" if generation else f"{stem}.parquet"
