"""`condgen shard`: images to a dataset of shards, and more of them to a dataset that is there.

source ─ listing ─ keys ─ (duplicates) ─ plan of shards ─ tasks ─ tars ─ index, samples, rejected ─ manifest.json
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from condgen.errors import ConfigError, DatasetError
from jobs.runtime import Progress, ray_cluster, usable_cpus
from pipelines.datasets import (
    BUILDING_NAME,
    DOMAINS_NAME,
    MANIFEST_NAME,
    Manifest,
    load_manifest,
    open_complete,
    runs_to_table,
    table_bytes,
    table_name,
)
from pipelines.duplicates import Fingerprint, find_duplicates, fingerprint
from pipelines.growth import Catalog, check_growth, load_catalog, read_rejected, rejected_bytes, sample_rows
from pipelines.sharding import (
    PlannedSample,
    PlannedShard,
    ShardOptions,
    ShardReceipt,
    assign_keys,
    cut_shards,
    input_digest,
    make_manifest,
)
from pipelines.sources import Listing, Rejected, folder_source, halves_source, pairs_source, reject
from pipelines.storage import Store, open_store
from pipelines.tables import is_table, table_source

__all__ = ["RAY_FROM_SAMPLES", "ShardReport", "run", "run_unpaired"]

RAY_FROM_SAMPLES = 2000
"""From this many images on, shards are made by Ray, whose start takes about ten seconds; below, by threads."""

_SHARD_NAME = re.compile(r"[a-z][a-z0-9_]*-\d{6}\.tar")
_TABLE_NAME = re.compile(r"(index|samples|rejected)(-\d{3,})?\.parquet")
_EXAMPLES = 3
_LOOKED_AT_TOGETHER = 256


@dataclass(frozen=True, kw_only=True)
class ShardReport:
    """What `condgen shard` made.

    Attributes:
        uri: of the dataset.
        manifest: what it is.
        rejected: what of the source is in no shard.
        seconds: that it took.
        added: samples that this run added.
        gone, changed: names in the dataset whose files are gone from the source, or have another size there.
        was_there: whether the dataset was complete already, and nothing was done.
    """

    uri: str
    manifest: Manifest
    rejected: Sequence[Rejected]
    seconds: float
    added: int = 0
    gone: Sequence[str] = field(default=())
    changed: Sequence[str] = field(default=())
    was_there: bool = False

    @property
    def num_rejected(self) -> int:
        """How many."""
        return len(self.rejected)

    @property
    def images_per_s(self) -> float:
        """Samples that were added, and the rejected ones, a second."""
        return (self.added + self.num_rejected) / self.seconds if self.seconds > 0 else 0.0

    def lines(self) -> list[str]:
        """Return the report as lines of text."""
        manifest = self.manifest
        splits = ", ".join(f"{name} {count:,}" for name, count in manifest.splits.items())
        noun = "pairs" if manifest.kind == "paired" else "images"
        size_mb = manifest.size_bytes / 1e6
        count = f"{manifest.samples:,} {noun} in {len(manifest.shards):,} shards, {size_mb:,.1f} MB"
        lines = [f"{self.uri}: {count} ({splits})"]
        empty = [name for name in manifest.options.get("split", {}) if name not in manifest.splits]
        if empty:
            lines.append(f"no {noun} fell to: {', '.join(empty)}")
        if manifest.generation and not self.was_there:
            shards = sum(shard.generation == manifest.generation for shard in manifest.shards)
            lines.append(f"generation {manifest.generation}: {self.added:,} added in {shards:,} new shards")
        for names, what in (
            (self.gone, "are gone from the source"),
            (self.changed, "have another size in the source now"),
        ):
            if names:
                examples = ", ".join(names[:_EXAMPLES])
                lines.append(f"{len(names):,} {what}, and stay in the dataset as they were: {examples}")
        lines += self._rejected_lines()
        if self.was_there:
            lines.append("it was complete already, with nothing new in the source: nothing was done")
        else:
            lines.append(f"{self.seconds:.1f} s, {self.images_per_s:,.0f} images/s")
        return lines

    def _rejected_lines(self) -> list[str]:
        if not self.rejected:
            return []
        reasons = ", ".join(f"{error} {count:,}" for error, count in self.manifest.rejected.items())
        name = table_name("rejected", self.manifest.generation)
        lines = [f"rejected {self.num_rejected:,} ({reasons}), listed in {name}:"]
        lines += [f"  {row.source}: {row.error}: {row.message}" for row in self.rejected[:_EXAMPLES]]
        if self.num_rejected > _EXAMPLES:
            lines.append(f"  ... and {self.num_rejected - _EXAMPLES:,} more")
        return lines


def run_unpaired(source: str, other: str, dest: str, **options: Any) -> list[ShardReport]:
    """Make the two datasets of an unpaired one, a domain each: `DEST/a` of the source, `DEST/b` of the other.

    Raises:
        CondgenError: see `run`.
    """
    place = open_store(dest)
    if load_manifest(place) is not None:
        raise ConfigError("dest", dest, "another DEST: it holds one dataset, not two domains")
    for images in (source, other):
        _check_apart(images, dest)
    reports = [run(images, place.locate(name), **options) for images, name in ((source, "a"), (other, "b"))]
    facts = {"format": "condgen-domains", "domains": ["a", "b"]}
    place.write(DOMAINS_NAME, (json.dumps(facts, sort_keys=True) + "\n").encode())
    return reports


def find_source(
    source: str,
    *,
    targets: str | None = None,
    input_half: str | None = None,
    columns: Mapping[str, str] | None = None,
) -> Listing:
    """Return the listing of a source: a table, pairs, halves, or a folder.

    Raises:
        ConfigError: options of which only one can be.
        CondgenError: see the source's own function.
    """
    kinds = [name for name, value in (("--targets", targets), ("--side-by-side", input_half)) if value]
    if is_table(source):
        if kinds:
            raise ConfigError(kinds[0], targets or input_half, "a folder as SOURCE; a table has columns for pairs")
        return table_source(source, columns)
    if columns:
        raise ConfigError("--columns", dict(columns), "a table as SOURCE: .parquet, .csv, .tsv or .jsonl")
    if len(kinds) > 1:
        raise ConfigError("--side-by-side", input_half, "either --targets or --side-by-side")
    if targets:
        return pairs_source(source, targets)
    return halves_source(source, input_half) if input_half else folder_source(source)


def run(
    source: str,
    dest: str,
    *,
    options: ShardOptions | None = None,
    targets: str | None = None,
    input_half: str | None = None,
    columns: Mapping[str, str] | None = None,
    overwrite: bool = False,
    verbose: bool = False,
) -> ShardReport:
    """Make a dataset, or add to it what is new in its source; one that was interrupted is gone on with.

    Args:
        source: a folder or prefix of images, at any depth; or a table that lists or holds them.
        dest: the dataset's folder or prefix.
        options: the splits, the bounds of a shard, what becomes of a picture.
        targets: a folder of the targets, for pairs whose inputs are in the source.
        input_half: which half of each picture is the input, for pairs that are side by side.
        columns: of a table; see `pipelines.tables.ROLES`.
        overwrite: whether a dataset of other images or options may be replaced.
        verbose: whether Ray's own lines are shown.

    Raises:
        ConfigError: options that can't be, or a destination that holds something else.
        DatasetError: a source without a single picture.
        MissingError, AccessError, StorageError: see `pipelines.storage`.
    """
    began = time.monotonic()
    options = options or ShardOptions()
    if not is_table(source):
        _check_apart(source, dest)
    listing = find_source(source, targets=targets, input_half=input_half, columns=columns)
    dataset = open_store(dest)
    catalog = _find_existing(dataset, listing, options, overwrite)
    manifest = catalog.manifest
    gone, changed = catalog.differences(listing)
    report = ShardReport(uri=dataset.uri, manifest=manifest or Manifest(kind="", shards=()), rejected=(), seconds=0)
    report = replace(report, gone=gone, changed=changed, was_there=True)
    if manifest is not None and manifest.input_sha256 == input_digest(listing, options):
        return replace(report, rejected=read_rejected(dataset, manifest), seconds=time.monotonic() - began)
    building = _Building(dataset, listing, options, catalog, verbose)
    made, rejected = building.make()
    if made is None and manifest is None:
        first = rejected[0] if rejected else reject(listing.uri, "", "list", "Empty", "no rows")
        reason = f"none of the {len(rejected)} files in {listing.uri} is a picture, such as {first.source}"
        raise DatasetError(f"{reason}: {first.message}")
    seconds = time.monotonic() - began
    if made is None:
        return replace(report, rejected=rejected, seconds=seconds)
    added = made.samples - (manifest.samples if manifest else 0)
    return replace(report, manifest=made, rejected=rejected, seconds=seconds, added=added, was_there=False)


def _check_apart(source: str, dest: str) -> None:
    """Refuse a destination inside the source: the next run would take shards for images."""
    places = [place if "://" in place else str(Path(place).expanduser().resolve()) for place in (source, dest)]
    if (places[1].rstrip("/") + "/").startswith(places[0].rstrip("/") + "/"):
        raise ConfigError("dest", dest, "a place outside SOURCE")


def _find_existing(dataset: Store, listing: Listing, options: ShardOptions, overwrite: bool) -> Catalog:
    """Return what the destination holds and can grow by; refuse to write over anything that is not ours."""
    manifest = load_manifest(dataset)
    sizes = {entry.name: entry.size_bytes for entry in dataset.list(recursive=False)}
    if manifest is None:
        foreign = BUILDING_NAME not in sizes and any(name.endswith(".tar") for name in sizes)
        if foreign and not overwrite:
            allowed = "another DEST, or --overwrite: it holds shards that were made elsewhere"
            raise ConfigError("dest", dataset.uri, allowed)
        return Catalog()
    if overwrite and manifest.input_sha256 != input_digest(listing, options):
        return Catalog()
    tables = [table_name("samples", generation) for generation in range(manifest.generation + 1)]
    tables.append(table_name("index", manifest.generation))
    if manifest.base or not manifest.input_sha256:
        allowed = "another DEST, or --overwrite: it holds an index of shards that were made elsewhere"
        raise ConfigError("dest", dataset.uri, allowed)
    if not all(name in sizes for name in tables) or any(sizes.get(s.name) != s.size_bytes for s in manifest.shards):
        if manifest.generation == 0 and manifest.input_sha256 == input_digest(listing, options):
            return Catalog()  # something was lost: the same input gives the same bytes again
        raise DatasetError(f"{dataset.uri} lost a shard or a table: see condgen validate, or --overwrite it")
    opened = open_complete(dataset)
    catalog = load_catalog(opened) if opened else Catalog()
    check_growth(catalog, listing, {**asdict(options), **listing.options}, dataset.uri)
    return catalog


@dataclass(frozen=True)
class _Building:
    """One making or growth of a dataset."""

    dataset: Store
    listing: Listing
    options: ShardOptions
    catalog: Catalog
    verbose: bool

    def make(self) -> tuple[Manifest | None, list[Rejected]]:
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

    def _duplicates(self, new: Sequence[PlannedSample]) -> tuple[list[Fingerprint], dict[str, Rejected]]:
        """Return the fingerprints of new samples, and those that are duplicates, by key."""
        near = self.options.dedup == "near"
        if self.options.dedup == "none":
            return [], {}
        looked_at = new if near else self._of_equal_sizes(new)
        places = [(sample.key, sample.record) for sample in looked_at]
        tasks = (
            (self.listing.stores, places[start : start + _LOOKED_AT_TOGETHER], near, self.options.max_pixels)
            for start in range(0, len(places), _LOOKED_AT_TOGETHER)
        )
        found: list[Fingerprint] = []
        with Progress("looking for duplicates", total=len(places), unit="images") as progress:
            for part in self._run(fingerprint, tasks, usable_cpus(), len(new)):
                found += part
                progress.advance(len(part))
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

    def _of_equal_sizes(self, new: Sequence[PlannedSample]) -> list[PlannedSample]:
        """Return the samples that may have the bytes of another: of a size that is not theirs alone, or not known."""
        sizes: dict[int, int] = {}
        for size in [*self.catalog.sizes().values(), *(sample.record.listed_bytes for sample in new)]:
            sizes[size] = sizes.get(size, 0) + 1
        alone = 1 if not sizes.get(0) else 0  # one of unknown size may equal any
        return [sample for sample in new if sizes[sample.record.listed_bytes] > alone]

    def _write(self, shards: Sequence[PlannedShard]) -> list[ShardReceipt]:
        """Make shards; returns their receipts in the plan's order."""
        from pipelines.shard_writer import write_shard

        samples = sum(len(shard.samples) for shard in shards)
        by_ray = samples >= RAY_FROM_SAMPLES
        threads = 1 if by_ray else usable_cpus()
        recipe = self.options.recipe()
        tasks = ((self.listing.stores, self.dataset, shard, recipe, threads) for shard in shards)
        receipts: dict[str, ShardReceipt] = {}
        with Progress("sharding", total=samples, unit="images") as progress:
            for receipt in self._run(write_shard, tasks, 1, samples):
                receipts[receipt.name] = receipt
                progress.advance(len(receipt.samples) + len(receipt.rejected), shards=len(receipts))
        return [receipts[shard.name] for shard in shards]

    def _run(self, function: Any, tasks: Iterable[tuple[Any, ...]], threads: int, samples: int) -> Iterator[Any]:
        from pipelines.ray_tasks import ray_tasks, thread_tasks

        return ray_tasks(function, tasks) if samples >= RAY_FROM_SAMPLES else thread_tasks(function, tasks, threads)

    def _commit(
        self,
        receipts: Sequence[ShardReceipt],
        rejected: Sequence[Rejected],
        planned: Mapping[str, PlannedSample],
        hashes: Mapping[str, int | None],
    ) -> Manifest:
        """Write the tables, then the manifest, and remove what an interrupted or replaced making left."""
        import pyarrow as pa

        old = self.catalog.manifest
        manifest = make_manifest(self.listing, self.options, receipts, rejected, old, self.catalog.picture_sizes())
        runs = runs_to_table(run for receipt in receipts for run in receipt.runs)
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
