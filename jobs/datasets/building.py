"""The making of a dataset, or of what it grows by: duplicates, shards, tables, and the manifest that commits them."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace

from jobs.cli.progress import Progress
from pipelines.cluster.starting import ray_cluster, usable_cpus
from pipelines.cluster.tasks import run_tasks
from pipelines.datasets.extent import extents_to_table
from pipelines.datasets.manifest import BUILDING_NAME, MANIFEST_NAME, Manifest, table_bytes, table_name
from pipelines.sharding.assignment import (
    KeyedRecord,
    ShardAssignment,
    ShardReceipt,
    assign_keys,
    cut_shards,
    input_digest,
    make_manifest,
)
from pipelines.sharding.dedup import Fingerprint, find_duplicates, fingerprint
from pipelines.sharding.growth import Catalog, rejected_bytes, sample_rows
from pipelines.sharding.options import ShardOptions
from pipelines.sharding.sources import Listing, Record, RejectedFile, reject, some_files
from pipelines.storage.neighbors import Neighbors
from pipelines.storage.store import Store

__all__ = ["RAY_FROM_SAMPLES", "Building", "fingerprints"]

RAY_FROM_SAMPLES = 2000
"""From this many images on, shards are made by Ray, whose start takes about ten seconds; below, by threads."""

_SHARD_NAME = re.compile(r"[a-z][a-z0-9_]*-\d{6}\.tar")
_TABLE_NAME = re.compile(r"(index|samples|rejected)(-\d{3,})?\.parquet")
_LOOKED_AT_TOGETHER = 256


@dataclass(frozen=True)
class Building:
    """The making of a dataset, or its growth.

    Attributes:
        dataset: store that the dataset goes to.
        listing: listing of the source.
        options: options of the dataset.
        catalog: samples that are there already.
        verbose: whether Ray's own lines are shown.
    """

    dataset: Store
    listing: Listing
    options: ShardOptions
    catalog: Catalog
    verbose: bool

    def make(self) -> tuple[Manifest | None, list[RejectedFile]]:
        """Make the new shards and commit them; None where there is nothing to add."""
        old = self.catalog.manifest
        taken = self.catalog.samples["key"].to_pylist()
        new = assign_keys(self.listing, self.options, self.catalog.sizes(), set(taken))
        with ExitStack() as stack:
            if len(new) >= RAY_FROM_SAMPLES:
                stack.enter_context(ray_cluster(verbose=self.verbose))
            found, duplicates = self._duplicates(new)
            new = [sample for sample in new if sample.key not in duplicates]
            shards = cut_shards(new, self.options, in_order=self.listing.in_order, grown=old)
            if shards:
                marker = {"input_sha256": input_digest(self.listing, self.options)}
                self.dataset.write(BUILDING_NAME, json.dumps(marker).encode())
                if old is None:
                    self.dataset.delete(MANIFEST_NAME)
            receipts = self._write(shards)
        rejected = [*self.listing.rejected, *duplicates.values(), *(row for r in receipts for row in r.rejected)]
        rejected.sort(key=lambda row: (row.source, row.key))
        if not any(receipt.info for receipt in receipts):
            self.dataset.delete(BUILDING_NAME)
            return None, rejected
        hashes = {item.key: item.phash for item in found}
        return self._commit(receipts, rejected, {sample.key: sample for sample in new}, hashes), rejected

    def _duplicates(self, new: Sequence[KeyedRecord]) -> tuple[list[Fingerprint], dict[str, RejectedFile]]:
        """Return the fingerprints of new samples, and those that are duplicates, by key."""
        near = self.options.dedup == "near"
        if self.options.dedup == "none":
            return [], {}
        looked_at = new if near else self._of_equal_sizes(new)
        places = [(sample.key, sample.record) for sample in looked_at]
        found = fingerprints(
            places, self.listing, near=near, max_pixels=self.options.max_pixels, by_ray=len(new) >= RAY_FROM_SAMPLES
        )
        distance = self.options.near_distance if near else None
        names = {sample.key: sample.record.name for sample in new}
        had = dict(zip(*(self.catalog.samples[name].to_pylist() for name in ("key", "source")), strict=True))
        duplicates = {}
        for key, (original, bits) in find_duplicates(self.catalog.fingerprints(), found, distance).items():
            other = names.get(original) or had.get(original, original)
            same = "the same bytes as" if bits < 0 else f"looks like (distance {bits})"
            error = "Duplicate" if bits < 0 else "NearDuplicate"
            duplicates[key] = reject(names[key], key, "dedup", error, f"{same} {other}")
        return found, duplicates

    def _of_equal_sizes(self, new: Sequence[KeyedRecord]) -> list[KeyedRecord]:
        """Return the samples that may have the bytes of another: of a size that is not theirs alone, or not known."""
        sizes: dict[int, int] = {}
        for size in [*self.catalog.sizes().values(), *(sample.record.listed_bytes for sample in new)]:
            sizes[size] = sizes.get(size, 0) + 1
        alone = 1 if not sizes.get(0) else 0  # one of unknown size may equal any
        return [sample for sample in new if sizes[sample.record.listed_bytes] > alone]

    def _write(self, shards: Sequence[ShardAssignment]) -> list[ShardReceipt]:
        """Make shards, and return their receipts in the plan's order."""
        from pipelines.sharding.writer import write_shard

        samples = sum(len(shard.samples) for shard in shards)
        by_ray = samples >= RAY_FROM_SAMPLES
        threads = 1 if by_ray else usable_cpus()
        recipe = self.options.recipe()
        neighbors = Neighbors(some_files(self.listing))
        tasks = ((self.listing.stores, self.dataset, shard, recipe, threads, neighbors) for shard in shards)
        receipts: dict[str, ShardReceipt] = {}
        with Progress("sharding", total=samples, unit="images") as progress:
            for receipt in run_tasks(write_shard, tasks, 1, on_ray=by_ray):
                receipts[receipt.name] = receipt
                progress.advance(len(receipt.samples) + len(receipt.rejected), shards=len(receipts))
        return [receipts[shard.name] for shard in shards]

    def _commit(
        self,
        receipts: Sequence[ShardReceipt],
        rejected: Sequence[RejectedFile],
        planned: Mapping[str, KeyedRecord],
        hashes: Mapping[str, int | None],
    ) -> Manifest:
        """Write the tables, then the manifest, and remove what an interrupted or replaced making left."""
        import pyarrow as pa

        old = self.catalog.manifest
        manifest = make_manifest(self.listing, self.options, receipts, rejected, old, self.catalog.image_sizes())
        runs = extents_to_table(run for receipt in receipts for run in receipt.runs)
        if self.catalog.dataset is not None:
            order = {shard.name: place for place, shard in enumerate(manifest.shards)}
            runs = pa.concat_tables([self.catalog.dataset.index, runs])
            places = pa.array([order[name] for name in runs["shard"].to_pylist()], pa.int64())
            runs = runs.append_column("place", places).sort_by([("place", "ascending"), ("start", "ascending")])
            runs = runs.drop_columns(["place"])
        index = table_bytes(runs)
        manifest = replace(manifest, index_sha256=hashlib.sha256(index).hexdigest())
        generation = manifest.generation
        self.dataset.write(table_name("index", generation), index)
        self.dataset.write(table_name("samples", generation), sample_rows(receipts, planned, hashes))
        if rejected:
            self.dataset.write(table_name("rejected", generation), rejected_bytes(rejected))
        self.dataset.write(MANIFEST_NAME, manifest.to_json().encode())
        kept = {shard.name for shard in manifest.shards}
        for past in range(generation + 1):
            kept |= {table_name("index", past), table_name("samples", past)}
            if past < generation or rejected:
                kept.add(table_name("rejected", past))
        for entry in self.dataset.list(recursive=False):
            ours = _SHARD_NAME.fullmatch(entry.name) or _TABLE_NAME.fullmatch(entry.name)
            if ours and entry.name not in kept:
                self.dataset.delete(entry.name)
        self.dataset.delete(BUILDING_NAME)
        return manifest


def fingerprints(
    samples: Sequence[tuple[str, Record]],
    listing: Listing,
    *,
    near: bool,
    max_pixels: int,
    by_ray: bool = False,
    title: str = "looking for duplicates",
) -> list[Fingerprint]:
    """Read samples, given as (key, record), and return their fingerprints in any order; see ``fingerprint``."""
    neighbors = Neighbors(some_files(listing))
    tasks = (
        (listing.stores, samples[start : start + _LOOKED_AT_TOGETHER], near, max_pixels, neighbors)
        for start in range(0, len(samples), _LOOKED_AT_TOGETHER)
    )
    found: list[Fingerprint] = []
    with Progress(title, total=len(samples), unit="images") as progress:
        for part in run_tasks(fingerprint, tasks, usable_cpus(), on_ray=by_ray):
            found += part
            progress.advance(len(part))
    return found
