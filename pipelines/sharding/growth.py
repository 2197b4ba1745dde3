"""The catalog of a dataset, which is asked when its source is sharded again.

What is in shards stays there: a growth adds the records whose names are new, in new shards. A record that is gone from
the source, or whose file has other bytes there, stays in the dataset as it was, and is told of. What was rejected is
tried again.

Other bytes show by another size, or, at equal size, by a file that was written later than the shard that it is in:
these are read again and compared by their digest, so that a copy or a touched file is not taken for another one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import pyarrow as pa

from condgen.errors import ConfigError
from pipelines.datasets.chunk import ERRORS_SCHEMA
from pipelines.datasets.manifest import SAMPLE_SCHEMA, Dataset, Manifest, table_bytes, table_name
from pipelines.sharding.assignment import KeyedRecord, ShardReceipt
from pipelines.sharding.dedup import Fingerprint
from pipelines.sharding.sources import Listing, Record, RejectedFile
from pipelines.storage.parquet import read_parquet
from pipelines.storage.store import Store

__all__ = ["Catalog", "check_growth", "load_catalog", "read_rejected", "rejected_bytes", "sample_rows"]


@dataclass(frozen=True)
class Catalog:
    """The samples of a dataset, of all its generations, in ``SAMPLE_SCHEMA``, and its manifest and index."""

    dataset: Dataset | None = None
    samples: pa.Table = field(default_factory=SAMPLE_SCHEMA.empty_table)

    @property
    def manifest(self) -> Manifest | None:
        """Manifest of the dataset; None where there is no dataset yet."""
        return self.dataset.manifest if self.dataset else None

    def sizes(self) -> dict[str, int]:
        """Return the size of each record that it has, as it was listed, by the record's name."""
        return dict(zip(self.samples["source"].to_pylist(), self.samples["size_bytes"].to_pylist(), strict=True))

    def image_sizes(self) -> Counter[tuple[int, int]]:
        """Return its images by (width, height)."""
        return Counter(zip(self.samples["width"].to_pylist(), self.samples["height"].to_pylist(), strict=True))

    def fingerprints(self) -> list[Fingerprint]:
        """Return the fingerprints of all samples."""
        columns = (self.samples[name].to_pylist() for name in ("key", "sha256", "phash"))
        return [Fingerprint(*row) for row in zip(*columns, strict=True)]

    def differences(self, listing: Listing) -> tuple[list[str], list[str]]:
        """Return the names of records that are gone from the source, and of those that have another size now."""
        now = {record.name: record for record in listing.records}
        had = self.sizes()
        gone = [name for name in had if name not in now]
        changed = [
            name
            for name, size in had.items()
            if name in now and size and now[name].listed_bytes and now[name].listed_bytes != size
        ]
        return sorted(gone), sorted(changed)

    def written_since(self, listing: Listing, shards: Mapping[str, float]) -> list[tuple[str, Record]]:
        """Return the records, with their keys, whose files have the size that they had but were written since.

        Args:
            listing: listing of the source.
            shards: time at which each of the dataset's shards was written (seconds since 1970; 0 if not known).
        """
        now = {record.name: record for record in listing.records}
        columns = (self.samples[name].to_pylist() for name in ("key", "source", "size_bytes", "shard"))
        found = []
        for key, name, size, shard in zip(*columns, strict=True):
            record = now.get(name)
            # Servers tell whole seconds, local files fractions of them.
            if record and size == record.listed_bytes and record.modified_s >= int(shards.get(shard, 0.0)) > 0:
                found.append((key, record))
        return found

    def digests(self) -> dict[str, str]:
        """Return the SHA-256 of each sample's source, by its key."""
        return dict(zip(self.samples["key"].to_pylist(), self.samples["sha256"].to_pylist(), strict=True))


def load_catalog(dataset: Dataset) -> Catalog:
    """Return the catalog of a dataset that is complete.

    Raises:
        MissingError, AccessError, StorageError: as in ``pipelines.storage.store``.
    """
    tables = []
    for generation in range(dataset.manifest.generation + 1):
        data = dataset.store.read(table_name("samples", generation))
        tables.append(read_parquet(data).cast(SAMPLE_SCHEMA))
    return Catalog(dataset, pa.concat_tables(tables))


def check_growth(catalog: Catalog, listing: Listing, options: dict[str, Any], where: str) -> None:
    """Refuse to grow a dataset by another source, or with other options.

    Raises:
        ConfigError: the option that differs, or that none of the dataset's samples is in the source.
    """
    manifest = catalog.manifest
    if manifest is None:
        return
    if manifest.kind != listing.kind:
        raise ConfigError("dest", where, f"another DEST, or --overwrite: it holds {manifest.kind} images")
    for name in sorted(options.keys() | manifest.options.keys()):
        if options.get(name) != manifest.options.get(name):
            had = manifest.options.get(name)
            raise ConfigError(name, options.get(name), f"{had!r}, as the dataset was made: or --overwrite it")
    had_names = catalog.sizes()
    if had_names and not any(record.name in had_names for record in listing.records):
        raise ConfigError("dest", where, "another DEST, or --overwrite: it holds a dataset of other images")


def sample_rows(
    receipts: Sequence[ShardReceipt], planned: Mapping[str, KeyedRecord], hashes: Mapping[str, int | None]
) -> bytes:
    """Return the table of the samples that were added, as a Parquet file."""
    rows = [
        {
            "source": planned[sample.key].record.name,
            "size_bytes": planned[sample.key].record.listed_bytes,
            "shard": receipt.name,
            "phash": hashes.get(sample.key),
            **asdict(sample),
        }
        for receipt in receipts
        for sample in receipt.samples
    ]
    return table_bytes(pa.Table.from_pylist(rows, schema=SAMPLE_SCHEMA))


def rejected_bytes(rejected: Sequence[RejectedFile]) -> bytes:
    """Return rejected records as a Parquet file."""
    rows = [{name: getattr(row, name) for name in ERRORS_SCHEMA.names} for row in rejected]
    return table_bytes(pa.Table.from_pylist(rows, schema=ERRORS_SCHEMA))


def read_rejected(store: Store, manifest: Manifest) -> list[RejectedFile]:
    """Return the rejected records of a dataset."""
    if not manifest.rejected:
        return []
    data = store.read(table_name("rejected", manifest.generation))
    return [RejectedFile(**row) for row in read_parquet(data).to_pylist()]
