"""`condgen shard`: a folder or prefix of images to a dataset of shards."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from condgen.errors import ConfigError, DatasetError
from jobs.runtime import Progress, ray_cluster, usable_cpus
from pipelines.datasets import (
    BUILDING_NAME,
    INDEX_NAME,
    MANIFEST_NAME,
    REJECTED_NAME,
    REJECTED_SCHEMA,
    Manifest,
    load_manifest,
    runs_to_table,
    table_bytes,
)
from pipelines.sharding import Rejected, ShardOptions, ShardPlan, ShardReceipt, make_manifest, plan_shards
from pipelines.storage import Store, open_store

__all__ = ["RAY_FROM_SAMPLES", "ShardReport", "run"]

RAY_FROM_SAMPLES = 2000
"""From this many images on, shards are made by Ray, whose start takes about ten seconds; below, by threads."""

_SHARD_NAME = re.compile(r"[a-z][a-z0-9_]*-\d{6}\.tar")
_EXAMPLES = 3


@dataclass(frozen=True, kw_only=True)
class ShardReport:
    """What `condgen shard` made.

    Attributes:
        uri: of the dataset.
        manifest: what it is.
        rejected: files that are in no shard, the first few.
        num_rejected: all of them.
        seconds: that it took.
        was_there: whether the dataset was complete already, and nothing was done.
    """

    uri: str
    manifest: Manifest
    rejected: Sequence[Rejected]
    num_rejected: int
    seconds: float
    was_there: bool = False

    @property
    def images_per_s(self) -> float:
        """Images of the source, the rejected ones too, a second."""
        return (self.manifest.samples + self.num_rejected) / self.seconds if self.seconds > 0 else 0.0

    def lines(self) -> list[str]:
        """Return the report as lines of text."""
        manifest = self.manifest
        splits = ", ".join(f"{name} {count:,}" for name, count in manifest.splits.items())
        size_mb = manifest.size_bytes / 1e6
        count = f"{manifest.samples:,} images in {len(manifest.shards):,} shards, {size_mb:,.1f} MB"
        lines = [f"{self.uri}: {count} ({splits})"]
        empty = [name for name in manifest.options.get("split", {}) if name not in manifest.splits]
        if empty:
            lines.append(f"no images fell to: {', '.join(empty)}")
        if self.num_rejected:
            reasons = ", ".join(f"{error} {count:,}" for error, count in manifest.rejected.items())
            lines.append(f"rejected {self.num_rejected:,} files ({reasons}), listed in {REJECTED_NAME}:")
            lines += [f"  {row.source}: {row.error}: {row.message}" for row in self.rejected]
            if self.num_rejected > len(self.rejected):
                lines.append(f"  ... and {self.num_rejected - len(self.rejected):,} more")
        if self.was_there:
            lines.append("it was complete already, of the same input: nothing was done")
        else:
            lines.append(f"{self.seconds:.1f} s, {self.images_per_s:,.0f} images/s")
        return lines


def run(
    source: str,
    dest: str,
    *,
    split: Mapping[str, float] | None = None,
    samples_per_shard: int = 1000,
    overwrite: bool = False,
    verbose: bool = False,
) -> ShardReport:
    """Make a dataset; one that is complete and of the same input is left as it is, an interrupted one is made again.

    Args:
        source: a folder or prefix of images, at any depth.
        dest: the dataset's folder or prefix.
        split: the share of each split; all in `train` without.
        samples_per_shard: most images in a shard.
        overwrite: whether a dataset of another input may be replaced.
        verbose: whether Ray's own lines are shown.

    Raises:
        ConfigError: options that can't be, or a destination that holds something else.
        DatasetError: a source without a single picture.
        MissingError, AccessError, StorageError: see `pipelines.storage`.
    """
    began = time.monotonic()
    options = ShardOptions(split=dict(split or {"train": 1.0}), samples_per_shard=samples_per_shard)
    _check_apart(source, dest)
    images, dataset = open_store(source), open_store(dest)
    entries = images.require().list()
    if not entries:
        raise DatasetError(f"{images.uri} holds no files: SOURCE is a folder or prefix of images")
    plan = plan_shards(entries, options)
    there = _find_existing(dataset, plan, overwrite)
    if there is not None:
        rejected = _read_rejected(dataset) if there.rejected else []
        return _report(dataset, there, rejected, time.monotonic() - began, was_there=True)
    dataset.write(BUILDING_NAME, json.dumps({"input_sha256": plan.input_sha256}).encode())
    dataset.delete(MANIFEST_NAME)
    receipts = _make_shards(images, dataset, plan, options, verbose)
    rejected = sorted([*plan.rejected, *(row for r in receipts for row in r.rejected)], key=lambda row: row.source)
    if not any(receipt.info for receipt in receipts):
        dataset.delete(BUILDING_NAME)
        first = rejected[0]
        raise DatasetError(
            f"none of the {len(rejected)} files in {images.uri} is a picture, such as {first.source}: {first.message}"
        )
    return _report(dataset, _finish(dataset, plan, receipts, options, rejected), rejected, time.monotonic() - began)


def _report(
    dataset: Store, manifest: Manifest, rejected: Sequence[Rejected], seconds: float, was_there: bool = False
) -> ShardReport:
    return ShardReport(
        uri=dataset.uri,
        manifest=manifest,
        rejected=tuple(rejected[:_EXAMPLES]),
        num_rejected=len(rejected),
        seconds=seconds,
        was_there=was_there,
    )


def _check_apart(source: str, dest: str) -> None:
    """Refuse a destination inside the source: the next run would take shards for images."""
    places = [place if "://" in place else str(Path(place).expanduser().resolve()) for place in (source, dest)]
    if (places[1].rstrip("/") + "/").startswith(places[0].rstrip("/") + "/"):
        raise ConfigError("dest", dest, "a place outside SOURCE")


def _find_existing(dataset: Store, plan: ShardPlan, overwrite: bool) -> Manifest | None:
    """Return the manifest of the same dataset where it is complete; refuse to write over anything that is not ours."""
    manifest = load_manifest(dataset)
    sizes = {entry.name: entry.size_bytes for entry in dataset.list(recursive=False)}
    if manifest is not None:
        if manifest.input_sha256 == plan.input_sha256:
            intact = INDEX_NAME in sizes and all(sizes.get(s.name) == s.size_bytes for s in manifest.shards)
            return manifest if intact else None
        if not overwrite:
            allowed = "another DEST, or --overwrite: it holds a dataset of other images or options"
            raise ConfigError("dest", dataset.uri, allowed)
    elif BUILDING_NAME not in sizes and any(name.endswith(".tar") for name in sizes) and not overwrite:
        raise ConfigError("dest", dataset.uri, "another DEST, or --overwrite: it holds shards that were made elsewhere")
    return None


def _make_shards(
    images: Store, dataset: Store, plan: ShardPlan, options: ShardOptions, verbose: bool
) -> list[ShardReceipt]:
    """Return the receipts of all shards, in the plan's order."""
    receipts: dict[str, ShardReceipt] = {}
    with Progress("sharding", total=plan.samples, unit="images") as progress:
        for receipt in _receipts(images, dataset, plan, options, verbose):
            receipts[receipt.name] = receipt
            done = receipt.info.samples if receipt.info else 0
            progress.advance(done + len(receipt.rejected), shards=len(receipts))
    return [receipts[shard.name] for shard in plan.shards]


def _receipts(
    images: Store, dataset: Store, plan: ShardPlan, options: ShardOptions, verbose: bool
) -> Iterator[ShardReceipt]:
    if plan.samples < RAY_FROM_SAMPLES:
        from pipelines.shard_writer import write_shard

        for shard in plan.shards:
            yield write_shard(images, dataset, shard, options.max_pixels, threads=usable_cpus())
        return
    from pipelines.ray_sharding import write_shards

    with ray_cluster(verbose=verbose):
        yield from write_shards(images, dataset, plan.shards, options.max_pixels)


def _finish(
    dataset: Store,
    plan: ShardPlan,
    receipts: Sequence[ShardReceipt],
    options: ShardOptions,
    rejected: Sequence[Rejected],
) -> Manifest:
    """Write the index, remove what an interrupted or replaced making left, and write the manifest last."""
    import pyarrow as pa

    index = table_bytes(runs_to_table(run for receipt in receipts for run in receipt.runs))
    manifest = make_manifest(plan, receipts, options, index, rejected)
    dataset.write(INDEX_NAME, index)
    if rejected:
        rows = [{name: getattr(row, name) for name in REJECTED_SCHEMA.names} for row in rejected]
        dataset.write(REJECTED_NAME, table_bytes(pa.Table.from_pylist(rows, schema=REJECTED_SCHEMA)))
    else:
        dataset.delete(REJECTED_NAME)
    kept = {shard.name for shard in manifest.shards}
    for entry in dataset.list(recursive=False):
        if _SHARD_NAME.fullmatch(entry.name) and entry.name not in kept:
            dataset.delete(entry.name)
    dataset.write(MANIFEST_NAME, manifest.to_json().encode())
    dataset.delete(BUILDING_NAME)
    return manifest


def _read_rejected(dataset: Store) -> list[Rejected]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    return [Rejected(**row) for row in pq.read_table(pa.BufferReader(dataset.read(REJECTED_NAME))).to_pylist()]
