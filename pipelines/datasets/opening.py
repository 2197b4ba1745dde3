"""Opening a dataset, or an archive that a batch job reads: located, listed and read once, then handed on."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import pyarrow as pa

from condgen.errors import DatasetError, ImageError, MissingError
from pipelines.datasets.contents import KINDS, Contents, NothingTakenError, counted, read_contents
from pipelines.datasets.extent import UNREAD, Extent, extents_to_table
from pipelines.datasets.manifest import (
    BUILDING_NAME,
    DOMAINS_NAME,
    PIECE_ROWS,
    Dataset,
    Manifest,
    ShardInfo,
    load_manifest,
    table_name,
)
from pipelines.datasets.scan import ShardScan, scan_shard
from pipelines.datasets.shard_names import Place, locate, split_of
from pipelines.datasets.tar import renamed
from pipelines.storage.backend import Entry
from pipelines.storage.neighbors import Neighbors
from pipelines.storage.parquet import StoredParquet, open_checked
from pipelines.storage.store import Store, open_store

__all__ = [
    "Archive",
    "NoShardsError",
    "archive_store",
    "domains_of",
    "foreign_manifest",
    "listing_table",
    "open_archive",
    "open_dataset",
    "shards_of",
]

logger = logging.getLogger(__name__)

_READERS = 8
_KNOWN = 8
_ENTRIES_AT_ONCE = 1 << 20


class NoShardsError(DatasetError):
    """A place that was to be a dataset has neither a manifest nor a shard."""

    def __init__(self, uri: str, why: str = "") -> None:
        reason = f", but {why}" if why else ""
        super().__init__(f"{uri} holds no shards (.tar){reason}: make them with `condgen shard SOURCE DEST`")


def open_dataset(data: str | Store | Place | Dataset, *, checksums: bool = False) -> Dataset:
    """Open a dataset: by its manifest, or by a scan of its shards where it has none.

    Args:
        data: URI of a folder or prefix, or of shards made elsewhere by names, braces and globs (see
            ``pipelines.datasets.shard_names.locate``); a store or a place; a dataset that is open.
        checksums: whether shards without a manifest are read whole for their checksums (default: their headers alone).

    Raises:
        DatasetError: the dataset is damaged or not complete, or the place holds two datasets, or no shards.
        MissingError, AccessError, StorageError: as in ``pipelines.storage.store``.
    """
    if isinstance(data, Dataset):
        return data
    place = _located(data)
    complete = _complete(place.store.require()) if place.patterns is None else None
    if complete is not None:
        return complete
    contents = shards_of(place)
    scanned = _scan(place.store, [entry.name for entry in contents.entries], checksums=checksums)
    return replace(scanned, description=contents.describe())


def domains_of(uri: str) -> tuple[Place, ...]:
    """Return the place of the dataset that a URI names, or the places of its two domains.

    Raises:
        ConfigError, AccessError, StorageError: as in ``pipelines.datasets.shard_names.locate``.
    """
    place = locate(uri)
    if place.patterns is None and _holds_domains(place.store):
        return tuple(Place(place.store.child(name)) for name in ("a", "b"))
    return (place,)


def shards_of(place: Place) -> Contents:
    """Return the shards at a place, those that it names or every tar in its folder, and what else is there.

    Raises:
        NoShardsError: there are none.
        MissingError, AccessError, StorageError: as in ``pipelines.storage.store``.
    """
    try:
        return read_contents(place, ("shards",))
    except NothingTakenError as error:
        raise NoShardsError(place.store.uri, error.holds) from error


@dataclass(frozen=True)
class Archive:
    """An archive that is listed: shards, Parquet files or tables, or loose images.

    Attributes:
        store: store that all names are relative to.
        dataset: the archive's shards, where it has any; of those made elsewhere only headers were read.
        tables: names of the archive's Parquet files or tables, where it consists of these.
        files: ``name`` and ``size_bytes`` of the loose images, in the order of their names.
        description: a line that says what the archive was taken for, and what of the place is left out.
        left_out: numbers of the files that are left out, by what they are.
    """

    store: Store
    dataset: Dataset | None = None
    tables: tuple[str, ...] = ()
    files: pa.Table = field(default_factory=lambda: listing_table([]), repr=False)
    description: str = ""
    left_out: Mapping[str, int] = field(default_factory=dict)


def open_archive(archive: str | Store | Place | Archive, *, taken_as: str | None = None) -> Archive:
    """Open what a batch job reads: a dataset, shards made elsewhere, a table with images, or loose images.

    Args:
        archive: URI, as `condgen colorize` takes it; a store or a place; an archive that is open.
        taken_as: kind that it is taken for (``pipelines.datasets.contents.KINDS``; default: what it is found to be).

    Raises:
        ConfigError: the place holds two kinds of data.
        DatasetError: the dataset is damaged, or nothing is there.
        MissingError, AccessError, StorageError: as in ``pipelines.storage.store``.
    """
    if isinstance(archive, Archive):
        return archive
    place = _located(archive)
    if place.patterns is None and taken_as in (None, "shards"):
        dataset = _complete(place.store)
        if dataset is not None:
            shards = counted("shards", len(dataset.manifest.shards))
            return Archive(dataset.store, dataset, description=f"a dataset of {shards}")
    store, contents = place.store, read_contents(place, KINDS, taken_as)
    archive = Archive(store, description=contents.describe(), left_out=contents.left_out)
    if contents.kind == "images":
        return replace(archive, files=listing_table(contents.entries))
    names = [entry.name for entry in contents.entries]
    if contents.kind == "shards":
        some = Neighbors([(store, name) for name in (*names[:1], *names[:-_KNOWN:-1])])
        return replace(archive, dataset=_scan(store, names, checksums=False, neighbors=some))
    return replace(archive, tables=tuple(names))


def archive_store(archive: str) -> Store:
    """Return the store that the chunks of an archive are relative to (``Archive.store``); nothing is listed.

    It is not ``open_store(archive)`` for shards that are named by a pattern, or for an index that lies elsewhere.

    Raises:
        ConfigError, DatasetError, AccessError, StorageError: as in ``open_archive``.
    """
    place = _located(archive)
    manifest = load_manifest(place.store) if place.patterns is None else None
    return open_store(manifest.base) if manifest is not None and manifest.base else place.store


def listing_table(entries: list[Entry]) -> pa.Table:
    """Return a listing as columns, which take a fourth of its objects' memory. The list is emptied on the way."""
    schema = pa.schema([("name", pa.string()), ("size_bytes", pa.int64())])
    parts = []
    entries.reverse()
    while entries:
        some = [entries.pop() for _ in range(min(_ENTRIES_AT_ONCE, len(entries)))]
        columns = [[entry.name for entry in some], [entry.size_bytes for entry in some]]
        parts.append(pa.table(columns, schema=schema))
    return pa.concat_tables(parts) if parts else schema.empty_table()


def foreign_manifest(
    scans: Sequence[ShardScan], member_names: Mapping[str, str] | None = None
) -> tuple[Manifest, list[Extent]]:
    """Return the manifest and the runs of shards that were scanned, in the order of their splits and names."""
    ordered = sorted(scans, key=lambda scan: (split_of(scan.name) != "train", split_of(scan.name), scan.name))
    counts: dict[str, int] = {}
    for scan in ordered:
        for member, count in renamed(scan.members, member_names or {}).items():
            counts[member] = counts.get(member, 0) + count
    kinds = {member.partition(".")[0] for member in counts}
    runs = [run for scan in ordered for run in scan.runs]
    manifest = Manifest(
        kind="paired" if {"input", "target"} <= kinds else "single",
        shards=tuple(
            ShardInfo(
                name=scan.name,
                split=split_of(scan.name),
                samples=scan.samples,
                size_bytes=scan.size_bytes,
                sha256=scan.sha256,
            )
            for scan in ordered
        ),
        members=dict(sorted(counts.items())),
        runs=len(runs),
        member_names=dict(member_names or {}),
    )
    return manifest, runs


def _located(data: str | Store | Place) -> Place:
    if isinstance(data, Place):
        return data
    return Place(data) if isinstance(data, Store) else locate(data)


def _holds_domains(store: Store) -> bool:
    try:
        return bool(json.loads(store.read(DOMAINS_NAME)).get("format") == "condgen-domains")
    except (MissingError, ValueError, AttributeError):
        return False


def _scan(store: Store, names: Sequence[str], *, checksums: bool, neighbors: Neighbors | None = None) -> Dataset:
    """Make the manifest and the index of shards that were made elsewhere, in memory, by reading them once.

    With neighbors, a shard that can't be read itself is a sample that can't be: an error of a batch job, tried again.
    """

    def scan(name: str) -> ShardScan:
        if neighbors is None:
            return scan_shard(store, name, checksums=checksums)
        try:
            return neighbors.read(store, name, lambda store: scan_shard(store, name, checksums=checksums))
        except ImageError as error:
            logger.warning("%s can't be read: %s", store.locate(name), error)
            return ShardScan(name, 0, [Extent(shard=name, start=UNREAD, stop=UNREAD, samples=1)])

    with ThreadPoolExecutor(min(_READERS, len(names)), thread_name_prefix="scan") as pool:
        scans = list(pool.map(scan, names))
    manifest, runs = foreign_manifest(scans)
    return Dataset(store, manifest, StoredParquet.of_table(extents_to_table(runs), row_group_size=PIECE_ROWS))


def _complete(store: Store) -> Dataset | None:
    """Return the dataset of a manifest, or None where there is none.

    Raises:
        DatasetError: damaged, not complete, or two datasets.
    """
    manifest = load_manifest(store)
    if manifest is None:
        if store.exists(BUILDING_NAME):
            raise DatasetError(f"{store.uri} is not complete: run the `condgen shard` that makes it again")
        if _holds_domains(store):
            raise DatasetError(f"{store.uri} holds two domains: name one, {store.locate('a')} or {store.locate('b')}")
        return None
    name = table_name("index", manifest.generation)
    try:
        index = open_checked(store, name, manifest.index_sha256)
    except DatasetError as error:
        raise DatasetError(f"{store.locate(name)} is not the manifest's: make the dataset again") from error
    if manifest.base:
        return Dataset(open_store(manifest.base), manifest, index, home=store)
    return Dataset(store, manifest, index)
