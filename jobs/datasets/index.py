"""`condgen index`: a manifest and an index for shards that were made elsewhere."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace

from condgen.errors import ConfigError, DatasetError
from condgen.statistics import DatasetStatistics
from jobs.cli.progress import Progress
from pipelines.cluster.starting import ray_cluster, usable_cpus
from pipelines.cluster.tasks import run_tasks
from pipelines.datasets.extent import extents_to_table
from pipelines.datasets.manifest import MANIFEST_NAME, Manifest, load_manifest, table_bytes, table_name
from pipelines.datasets.opening import foreign_manifest, shards_of
from pipelines.datasets.shard_names import locate, split_of
from pipelines.sharding.assignment import ImageStatistics
from pipelines.sharding.indexing import IndexedShard, index_shard
from pipelines.storage.store import Store, open_store

__all__ = ["RAY_FROM_BYTES", "IndexReport", "run"]

RAY_FROM_BYTES = 512 << 20
"""From this many bytes of shards on, they are read by Ray; below, by threads."""


@dataclass(frozen=True, kw_only=True)
class IndexReport:
    """Report of `condgen index`: the manifest, what was taken, and how many samples and images can't be read."""

    uri: str
    source: str
    manifest: Manifest
    faulty: int
    undecodable: int
    seconds: float

    def lines(self) -> list[str]:
        """Return the report as lines of text."""
        manifest = self.manifest
        count = f"{manifest.samples:,} samples in {len(manifest.shards):,} shards, {manifest.size_bytes / 1e6:,.1f} MB"
        lines = [self.source, f"{self.uri}: {count}; {manifest.runs:,} runs"]
        lines += [f"members: {', '.join(manifest.members) or 'none'}"]
        if manifest.base:
            lines.append(f"the shards stay in {manifest.base}; {self.uri} is opened as the dataset")
        if self.faulty or self.undecodable:
            lines.append(
                f"{self.faulty:,} samples and {self.undecodable:,} images can't be read: condgen validate tells which"
            )
        lines.append(f"{self.seconds:.1f} s, {manifest.samples / max(self.seconds, 1e-9):,.0f} samples/s")
        return lines


def run(
    dataset: str,
    *,
    out: str | None = None,
    member_names: Mapping[str, str] | None = None,
    statistics: bool = True,
    overwrite: bool = False,
    verbose: bool = False,
) -> IndexReport:
    """Make the manifest and index of shards, beside them or elsewhere.

    Args:
        dataset: folder or prefix of shards, or shards by names, braces, globs and lists.
        out: place of the index (default: beside the shards).
        member_names: names of members here and in the shards.
        statistics: whether images are decoded for their sizes and colors.
        overwrite: whether an index that is there may be replaced.
        verbose: whether Ray's own lines are shown.

    Raises:
        ConfigError: the place has a manifest already, or shards are named without a place for the index.
        DatasetError: there are no shards, or nothing in them can be read.
        MissingError, AccessError, StorageError: as in `pipelines.storage.store`.
    """
    began = time.monotonic()
    shards_place = locate(dataset)
    store = shards_place.store
    contents = shards_of(shards_place)
    names = [entry.name for entry in contents.entries]
    if shards_place.patterns is not None and out is None:
        raise ConfigError("--out", out, "a place for the index: one beside the shards is of all in their folder")
    place = open_store(out) if out is not None else store
    there = load_manifest(place)
    if there is not None and (there.input_sha256 or not overwrite):
        allowed = "another place: it holds a dataset of condgen shard" if there.input_sha256 else "--overwrite"
        raise ConfigError("--out" if out else "dataset", place.uri, allowed)
    shards = _indexed(store, names, dict(member_names or {}), statistics, verbose)
    _require_images(store.uri, shards)
    manifest, runs = foreign_manifest([shard.scan for shard in shards], dict(member_names or {}))
    index = table_bytes(extents_to_table(runs))
    manifest = replace(
        manifest,
        index_sha256=hashlib.sha256(index).hexdigest(),
        base=store.uri if place.uri != store.uri else "",
        statistics=_statistics(shards) if statistics else {},
    )
    place.delete(MANIFEST_NAME)
    place.write(table_name("index", 0), index)
    place.write(MANIFEST_NAME, manifest.to_json().encode())
    return IndexReport(
        uri=place.uri,
        source=f"{store.uri}: {contents.describe()}",
        manifest=manifest,
        faulty=sum(len(shard.scan.faults) for shard in shards),
        undecodable=sum(shard.undecodable for shard in shards),
        seconds=time.monotonic() - began,
    )


def _require_images(uri: str, shards: Sequence[IndexedShard]) -> None:
    """Refuse to index what nobody could read: samples that are all faulty, or images of which none can be decoded."""
    faults = [(shard.scan.name, fault) for shard in shards for _, fault in shard.scan.faults]
    if faults and len(faults) == sum(shard.scan.samples for shard in shards):
        name, fault = faults[0]
        raise DatasetError(f"{uri}: none of {len(faults)} samples can be read, such as in {name}: {fault.reason}")
    images = sum(sum(shard.statistics.sizes.values()) for shard in shards)
    undecodable = sum(shard.undecodable for shard in shards)
    if undecodable and not images:
        reason = next(shard.reason for shard in shards if shard.reason)
        raise DatasetError(f"{uri}: none of {undecodable} images can be decoded, such as {reason}")


def _indexed(
    store: Store, names: list[str], member_names: dict[str, str], statistics: bool, verbose: bool
) -> list[IndexedShard]:
    by_ray = len(names) > 1 and sum(store.size(name) for name in names[:64]) * len(names) / 64 >= RAY_FROM_BYTES
    tasks = ((store, name, member_names, statistics) for name in names)
    with (
        ray_cluster(verbose=verbose) if by_ray else nullcontext(),
        Progress("indexing", total=len(names), unit="shards") as progress,
    ):
        found = {}
        for shard in run_tasks(index_shard, tasks, usable_cpus(), on_ray=by_ray):
            found[shard.scan.name] = shard
            progress.advance(1)
    return [found[name] for name in dict.fromkeys(names)]


def _statistics(shards: list[IndexedShard]) -> dict[str, object]:
    total = sum((shard.statistics for shard in shards), ImageStatistics())
    is_train = any(split_of(shard.scan.name) == "train" for shard in shards)
    counted = DatasetStatistics()
    for shard in shards:
        if not is_train or split_of(shard.scan.name) == "train":
            counted += shard.statistics.colors
    return total.to_json(counted)
