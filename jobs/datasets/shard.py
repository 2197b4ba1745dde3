"""`condgen shard`: images to a dataset of shards, and more of them to a dataset that is there.

source ─ listing ─ keys ─ (duplicates) ─ plan of shards ─ tasks ─ tars ─ index, samples, rejected ─ manifest.json

`jobs.datasets.building` does it; this module looks at the source and at the destination.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from condgen.errors import ConfigError, DatasetError
from jobs.datasets.building import Building, fingerprints
from jobs.datasets.report import ShardReport
from pipelines.datasets.contents import read_contents
from pipelines.datasets.manifest import BUILDING_NAME, DOMAINS_NAME, Manifest, load_manifest, table_name
from pipelines.datasets.opening import open_dataset
from pipelines.datasets.shard_names import locate
from pipelines.sharding.assignment import input_digest
from pipelines.sharding.growth import Catalog, check_growth, load_catalog, read_rejected
from pipelines.sharding.options import ShardOptions, SourceOptions
from pipelines.sharding.sources import Listing, RejectedFile, folder_source, halves_source, pairs_source, reject
from pipelines.sharding.tables import table_source
from pipelines.storage.store import Store, json_bytes, open_store

__all__ = ["SOURCE_KINDS", "ShardReport", "find_source", "run", "run_unpaired"]

SOURCE_KINDS = ("images", "parquet", "table")
"""What a source can be, of `pipelines.datasets.contents.KINDS`."""


def run_unpaired(
    source: str, other: str, dest: str, *, reading: SourceOptions | None = None, **options: Any
) -> list[ShardReport]:
    """Make the two datasets of an unpaired one, a domain each: `DEST/a` of the source, `DEST/b` of the other.

    Raises:
        CondgenError: as of `run`.
    """
    reading = reading or SourceOptions()
    if reading.targets or reading.input_half:
        raise ConfigError("--unpaired", other, "neither --targets nor --side-by-side, which make pairs")
    place = open_store(dest)
    if load_manifest(place) is not None:
        raise ConfigError("dest", dest, "another DEST: it holds one dataset, not two domains")
    for images in (source, other):
        _check_apart(images, dest)
    reports = [
        run(images, place.locate(name), reading=reading, **options) for images, name in ((source, "a"), (other, "b"))
    ]
    facts = {"format": "condgen-domains", "domains": ["a", "b"]}
    place.write(DOMAINS_NAME, json_bytes(facts, indent=None))
    return reports


def find_source(source: str, reading: SourceOptions) -> Listing:
    """Return the listing of a source: tables, pairs, halves, or images.

    Raises:
        ConfigError: options exclude each other.
        CondgenError: as of the source's own function.
    """
    pairs = [
        (name, value)
        for name, value in (("--targets", reading.targets), ("--side-by-side", reading.input_half))
        if value
    ]
    if len(pairs) > 1:
        raise ConfigError(*pairs[1], "either --targets or --side-by-side")
    place = locate(source)
    contents = read_contents(place, SOURCE_KINDS, reading.taken_as)
    if contents.kind != "images":
        if pairs:
            raise ConfigError(*pairs[0], "a folder as SOURCE; a table has columns for pairs")
        names = None if place.patterns is not None else [entry.name for entry in contents.entries]
        return table_source(source, reading.roles, names)
    if reading.roles:
        raise ConfigError("--roles", dict(reading.roles), "a table as SOURCE: .parquet, .csv, .tsv or .jsonl")
    if reading.targets:
        return pairs_source(source, reading.targets)
    return halves_source(source, reading.input_half) if reading.input_half else folder_source(source, contents)


def run(
    source: str,
    dest: str,
    *,
    options: ShardOptions | None = None,
    reading: SourceOptions | None = None,
    overwrite: bool = False,
    verbose: bool = False,
) -> ShardReport:
    """Make a dataset, add to it what is new in its source, or finish one that was interrupted.

    Args:
        source: folder or prefix of images, at any depth, or table that lists or holds them.
        dest: folder or prefix of the dataset.
        options: splits, bounds of a shard, and what becomes of an image.
        reading: what the source is taken for (default: as it is found).
        overwrite: whether a dataset of other images or options may be replaced.
        verbose: whether Ray's own lines are shown.

    Raises:
        ConfigError: options don't fit, or the destination holds something else.
        DatasetError: the source has not a single image, or not a single one of what is new in it.
        MissingError, AccessError, StorageError: as in `pipelines.storage.store`.
    """
    began = time.monotonic()
    options = options or ShardOptions()
    _check_apart(source, dest)
    listing = find_source(source, reading or SourceOptions())
    dataset = open_store(dest)
    catalog = _find_existing(dataset, listing, options, overwrite)
    gone, changed = catalog.differences(listing)
    changed = sorted([*changed, *_rewritten(dataset, catalog, listing, options)])
    if overwrite and changed:
        catalog, gone, changed = Catalog(), [], []
    manifest = catalog.manifest
    report = ShardReport(
        uri=dataset.uri,
        manifest=manifest or Manifest(kind="", shards=()),
        source=listing.description,
        gone=gone,
        changed=changed,
        columns=listing.columns,
        was_there=True,
    )
    if manifest is not None and manifest.input_sha256 == input_digest(listing, options):
        known = read_rejected(dataset, manifest)
        if not any(row.stage == "read" for row in known):  # what could not be read then may be readable now
            return replace(report, rejected=known, seconds=time.monotonic() - began)
    made, rejected = Building(dataset, listing, options, catalog, verbose).make()
    report = replace(report, rejected=rejected, seconds=time.monotonic() - began)
    if made is None:
        _require_taken(dataset, manifest, listing, rejected)
        return report
    added = made.samples - (manifest.samples if manifest else 0)
    return replace(report, manifest=made, added=added, was_there=False)


def _require_taken(
    dataset: Store, manifest: Manifest | None, listing: Listing, rejected: Sequence[RejectedFile]
) -> None:
    """Refuse to end well where there is no image at all, or there was something new and all of it was rejected."""
    if manifest is None:
        first = rejected[0] if rejected else reject(listing.uri, "", "list", "Empty", "no rows")
        reason = f"none of the {len(rejected)} files in {listing.uri} is an image, such as {first.source}"
        raise DatasetError(f"{reason}: {first.message}")
    known = {row.source for row in read_rejected(dataset, manifest)}
    new = [row for row in rejected if row.stage not in ("list", "dedup") and row.source not in known]
    if new:
        first = new[0]
        raise DatasetError(
            f"none of the {len(new)} new images can be taken, such as {first.source}: {first.error}: {first.message}; "
            f"{dataset.uri} is as it was"
        )


def _rewritten(dataset: Store, catalog: Catalog, listing: Listing, options: ShardOptions) -> list[str]:
    """Return the names of records whose files have their old size and other bytes."""
    if catalog.manifest is None:
        return []
    written = {entry.name: entry.modified_s for entry in dataset.list(recursive=False)}
    suspects = catalog.written_since(listing, written)
    if not suspects:
        return []
    had, names = catalog.digests(), {key: record.name for key, record in suspects}
    found = fingerprints(suspects, listing, near=False, max_pixels=options.max_pixels, title="comparing")
    return [names[item.key] for item in found if item.sha256 != had[item.key]]


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
    catalog = load_catalog(open_dataset(dataset))
    check_growth(catalog, listing, {**asdict(options), **listing.options}, dataset.uri)
    return catalog
