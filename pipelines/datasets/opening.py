"""Shards made elsewhere: how they are named, and the datasets and archives that are made of them."""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatchcase
from posixpath import commonpath
from typing import Any

import pyarrow.parquet as pq

from condgen.errors import ConfigError, DatasetError, MissingError
from pipelines.datasets.manifest import (
    BUILDING_NAME,
    DOMAINS_NAME,
    Dataset,
    Manifest,
    ShardInfo,
    load_manifest,
    table_name,
)
from pipelines.datasets.run import RUN_SCHEMA, Run, runs_to_table
from pipelines.datasets.scan import ShardScan, scan_shard
from pipelines.datasets.tar import renamed
from pipelines.storage.store import Store, open_store

__all__ = [
    "archive_store",
    "expand_braces",
    "foreign_manifest",
    "list_tars",
    "load_dataset",
    "locate_files",
    "locate_shards",
    "names_parquet",
    "open_archive",
    "open_complete",
    "scan_webdataset",
    "split_of",
]

_READERS = 8
_GLOB = "*?["

_MAX_EXPANDED = 1_000_000
_BRACES = re.compile(r"\{([^{}]*)\}")
_NUMBERS = re.compile(r"(\d+)\.\.(\d+)")
_SPLITS = {
    "train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "dev": "val",
    "test": "test", "testing": "test",
}  # fmt: skip


def expand_braces(pattern: str) -> list[str]:
    """Return the names that ``x-{000..002}.tar`` or ``{a,b}.tar`` stands for, as a shell would.

    Raises:
        DatasetError: more than a million.
    """
    match = _BRACES.search(pattern)
    if match is None:
        return [pattern]
    numbers = _NUMBERS.fullmatch(match.group(1))
    if numbers:
        first, last = numbers.groups()
        if abs(int(last) - int(first)) >= _MAX_EXPANDED:
            raise DatasetError(f"{pattern} stands for more than a million names: name a folder or use a glob")
        step = 1 if int(first) <= int(last) else -1
        width = len(first) if first.startswith("0") or len(first) == len(last) else 0
        middles = [f"{number:0{width}d}" for number in range(int(first), int(last) + step, step)]
    else:
        middles = match.group(1).split(",")
    before, after = pattern[: match.start()], pattern[match.end() :]
    return [name for middle in middles for name in expand_braces(before + middle + after)]


def locate_shards(uri: str, **storage_options: Any) -> tuple[Store, list[str] | None]:
    """Return the store that a URI names, and the names of the shards where it names some and not a folder.

    Shards are named one by one (``x.tar``), by braces (``{a,b}/x-{000..015}.tar``), by globs (``x-*.tar``,
    ``*/x.tar``), and by lists of all of these, joined by ``::`` as the webdataset library does.

    Raises:
        ConfigError: a list of shards that have no folder or bucket in common.
        MissingError: a shard that is named is not there, or a glob finds none.
    """
    parts = _pattern_parts(uri, **storage_options)
    if parts is None:
        return open_store(uri, **storage_options), None
    return _locate(uri, parts, **storage_options)


def _locate(uri: str, parts: Sequence[str], **storage_options: Any) -> tuple[Store, list[str]]:
    store = open_store(_root_of(uri, parts), **storage_options)
    depth = len(_levels(_root_of(uri, parts)))
    names: list[str] = []
    listings: dict[str, list[str]] = {}
    for part in parts:
        levels = _levels(part)[depth:]
        globs = [place for place, level in enumerate(levels) if any(sign in level for sign in _GLOB)]
        folder = "/".join(levels[: globs[0]] if globs else levels[:-1])
        if folder not in listings or globs:
            recursive = bool(globs) and globs[0] < len(levels) - 1
            listings[folder] = [entry.name for entry in store.list(folder, recursive=recursive)]
        name = "/".join(levels)
        found = [name] if name in listings[folder] else [k for k in listings[folder] if globs and _matches(k, levels)]
        if not found:
            raise MissingError(store.locate(name), "find", "no such file: check the name or the pattern")
        names += found
    return store, names


def locate_files(uri: str, **storage_options: Any) -> tuple[Store, list[str]]:
    """Return the store and the names of files that a URI names as ``locate_shards`` has it, whatever their extension.

    Raises:
        ConfigError, MissingError: see ``locate_shards``.
    """
    return _locate(uri, expand_braces(uri), **storage_options)


def archive_store(uri: str, **storage_options: Any) -> Store:
    """Return the store to which the shards or files of an archive are relative; ``open_archive`` says which."""
    parts = expand_braces(uri) if names_parquet(uri, **storage_options) else _pattern_parts(uri, **storage_options)
    store = open_store(uri if parts is None else _root_of(uri, parts), **storage_options)
    manifest = load_manifest(store) if parts is None else None
    return open_store(manifest.base, **storage_options) if manifest is not None and manifest.base else store


def names_parquet(uri: str, **storage_options: Any) -> bool:
    """Return whether a URI names Parquet files (``x.parquet``, ``part-*.parquet``), and not a folder of that name."""
    return uri.lower().endswith(".parquet") and not open_store(uri, **storage_options).list()


def _pattern_parts(uri: str, **storage_options: Any) -> list[str] | None:
    """Return a list of shards' names and patterns, its braces expanded; None for a folder."""
    pieces = uri.split("::")
    is_list = len(pieces) > 1 and all(_is_pattern(piece) for piece in pieces)
    if not is_list and not _is_pattern(uri):
        return None
    if not uri.lower().endswith(".tar") and open_store(uri, **storage_options).exists(""):
        return None  # a folder with such a sign in its name
    return [part for piece in (pieces if is_list else [uri]) for part in expand_braces(piece)]


def _is_pattern(uri: str) -> bool:
    return uri.lower().endswith(".tar") or any(sign in uri for sign in "*?[{")


def _levels(uri: str) -> list[str]:
    scheme, separator, path = uri.rpartition("://")
    levels = [level for level in path.split("/") if level not in ("", ".")]
    return [f"{scheme}{separator}{'/' if path.startswith('/') else ''}", *levels]


def _root_of(uri: str, parts: Sequence[str]) -> str:
    """Return the deepest folder that holds all that the parts name."""
    heads = []
    for part in parts:
        levels = _levels(part)
        globs = [place for place, level in enumerate(levels) if any(sign in level for sign in _GLOB)]
        heads.append(levels[: min([len(levels) - 1, *globs])])
    if len({head[0] for head in heads}) > 1:
        raise ConfigError("path", uri, "shards of one storage; index each with `condgen index`")
    common = commonpath(["/".join(["", *head[1:]]) for head in heads]).strip("/")
    scheme = heads[0][0]
    if "://" in scheme and not common:
        raise ConfigError("path", uri, "shards of one bucket; index each bucket with `condgen index`")
    return f"{scheme}{common}" or "."


def _matches(name: str, levels: Sequence[str]) -> bool:
    found = name.split("/")
    return len(found) == len(levels) and all(map(fnmatchcase, found, levels))


def split_of(name: str) -> str:
    """Return the split that a shard's name tells of: train, val or test, else ``all``."""
    words = re.split(r"[^a-z]+", name.lower())
    return next((_SPLITS[word] for word in words if word in _SPLITS), "all")


def open_archive(uri: str | Store, **storage_options: Any) -> tuple[Store, list[Run] | None]:
    """Return an archive's store and the runs of its shards, or None in place of them where it is one of loose images.

    Args:
        uri: a dataset, shards made elsewhere (see ``locate_shards``; only their headers are read), or loose images.
        storage_options: see ``open_store``.

    Raises:
        MissingError: there is no such place, or it is empty.
        DatasetError: the dataset is damaged.
        AccessError, StorageError: see ``pipelines.storage.store``.
    """
    store, names = (uri, None) if isinstance(uri, Store) else locate_shards(uri, **storage_options)
    if names is None:
        dataset = open_complete(store.require())
        if dataset is not None:
            return dataset.store, dataset.runs()
        names = list_tars(store)
    return store, scan_webdataset(store, names, checksums=False).runs() if names else None


def list_tars(store: Store) -> list[str]:
    """Return the names of all tars in a store."""
    return [entry.name for entry in store.list() if entry.name.lower().endswith(".tar")]


def scan_webdataset(store: Store, names: Sequence[str] | None = None, *, checksums: bool = True) -> Dataset:
    """Make the manifest and the index of shards that were made elsewhere, in memory, by reading them once.

    Args:
        store: where they are.
        names: of the shards; without, every ``.tar`` in the store.
        checksums: of each run; without them only headers are read.

    Raises:
        DatasetError: there are no shards.
        MissingError, AccessError, StorageError: see ``pipelines.storage.store``.
    """
    if names is None:
        names = list_tars(store)
    if not names:
        raise DatasetError(f"{store.uri} holds no shards (.tar): make them with `condgen shard SOURCE DEST`")
    with ThreadPoolExecutor(min(_READERS, len(names)), thread_name_prefix="scan") as pool:
        scans = list(pool.map(lambda name: scan_shard(store, name, checksums=checksums), names))
    manifest, runs = foreign_manifest(scans)
    return Dataset(store, manifest, runs_to_table(runs))


def foreign_manifest(
    scans: Sequence[ShardScan], member_names: dict[str, str] | None = None
) -> tuple[Manifest, list[Run]]:
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


def load_dataset(uri: str | Store, **storage_options: Any) -> Dataset:
    """Open a dataset: by its manifest, or by a scan of its shards where it has none.

    Args:
        uri: a folder or prefix; or shards made elsewhere by names, braces and globs (see ``locate_shards``).
        storage_options: see ``open_store``.

    Raises:
        DatasetError: damaged, not complete, or without shards.
        MissingError, AccessError, StorageError: see ``pipelines.storage.store``.
    """
    store, names = (uri, None) if isinstance(uri, Store) else locate_shards(uri, **storage_options)
    dataset = open_complete(store) if names is None else None
    return dataset or scan_webdataset(store.require(), names)


def open_complete(store: Store) -> Dataset | None:
    """Return the dataset of a manifest, or None where there is none.

    Raises:
        DatasetError: damaged, not complete, or two datasets.
    """
    manifest = load_manifest(store)
    if manifest is None:
        if store.exists(BUILDING_NAME):
            raise DatasetError(f"{store.uri} is not complete: run the `condgen shard` that makes it again")
        if store.exists(DOMAINS_NAME):
            raise DatasetError(f"{store.uri} holds two domains: name one, {store.locate('a')} or {store.locate('b')}")
        return None
    name = table_name("index", manifest.generation)
    data = store.read(name)
    if hashlib.sha256(data).hexdigest() != manifest.index_sha256:
        raise DatasetError(f"{store.locate(name)} is not the manifest's: make the dataset again")
    index = pq.ParquetFile(io.BytesIO(data)).read().cast(RUN_SCHEMA)
    if manifest.base:
        return Dataset(open_store(manifest.base), manifest, index, home=store)
    return Dataset(store, manifest, index)
