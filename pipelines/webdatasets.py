"""Shards made elsewhere: how they are named, and the scan that finds their samples."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from condgen.errors import DatasetError, MissingError
from pipelines.datasets import RUN_BYTES, RUN_SAMPLES, Dataset, Manifest, Run, ShardInfo, runs_to_table
from pipelines.storage import Store, open_store
from pipelines.tars import SampleSpan, iter_members, iter_spans

__all__ = ["expand_braces", "locate_shards", "open_shards", "split_of"]

_READERS = 8
_WINDOW_BYTES = 4 << 20
_HEADER_WINDOW_BYTES = 64 << 10
_FAULT_BYTES = 64 << 10
"""What is read of a faulty sample: enough to find its fault again, however much garbage follows."""

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

    Raises:
        MissingError: a shard that is named is not there, or a glob finds none.
    """
    head, slash, last = uri.rstrip("/").rpartition("/")
    is_pattern = any(sign in last for sign in "*?[{")
    if not is_pattern and not last.lower().endswith(".tar"):
        return open_store(uri, **storage_options), None
    store = open_store((head or slash) if slash else ".", **storage_options)
    listed = {entry.name for entry in store.list(recursive=False)}
    if last in listed:
        return store, [last]
    names: list[str] = []
    for name in expand_braces(last):
        if any(sign in name for sign in "*?["):
            found = sorted(known for known in listed if fnmatchcase(known, name))
        else:
            found = [name] if name in listed else []
        if not found:
            raise MissingError(store.locate(name), "find", "no such shard: check the name or the pattern")
        names += found
    return store, names


def split_of(name: str) -> str:
    """Return the split that a shard's name tells of: train, val or test, else ``all``."""
    words = re.split(r"[^a-z]+", name.lower())
    return next((_SPLITS[word] for word in words if word in _SPLITS), "all")


def open_shards(store: Store, names: Sequence[str], *, checksums: bool = True) -> Dataset:
    """Return the dataset of shards that have no manifest, by reading them once.

    Raises:
        MissingError, AccessError, StorageError: see ``pipelines.storage``.
    """
    with ThreadPoolExecutor(min(_READERS, len(names)), thread_name_prefix="scan") as pool:
        scans = list(pool.map(lambda name: _scan(store, name, checksums), names))
    scans.sort(key=lambda scan: (split_of(scan.name) != "train", split_of(scan.name), scan.name))
    members: dict[str, int] = {}
    for scan in scans:
        for member, count in scan.members.items():
            members[member] = members.get(member, 0) + count
    kinds = {member.partition(".")[0] for member in members}
    runs = [run for scan in scans for run in scan.runs]
    manifest = Manifest(
        kind="paired" if {"input", "target"} <= kinds else "single",
        shards=tuple(
            ShardInfo(
                name=scan.name,
                split=split_of(scan.name),
                samples=sum(run.samples for run in scan.runs),
                size_bytes=scan.size_bytes,
            )
            for scan in scans
        ),
        members=dict(sorted(members.items())),
        runs=len(runs),
    )
    return Dataset(store, manifest, runs_to_table(runs))


@dataclass
class _Scan:
    name: str
    size_bytes: int
    runs: list[Run] = field(default_factory=list)
    members: dict[str, int] = field(default_factory=dict)


def _scan(store: Store, name: str, checksums: bool) -> _Scan:
    size = store.size(name)
    tape = _Tape(lambda a, b: store.read_range(name, a, b), size, checksums)
    scan = _Scan(name, size)
    spans = iter_spans(iter_members(tape.read, 0, size, whole=True))
    for group in _grouped(spans):
        start, stop = group[0].start, max(span.stop for span in group)
        if group[0].fault is not None:
            stop = min(stop, start + _FAULT_BYTES)
        scan.runs.append(
            Run(
                shard=name,
                start=start,
                stop=stop,
                samples=len(group),
                first_key=group[0].key or "",
                last_key=group[-1].key or "",
                sha256=tape.digest(start, stop) if checksums else "",
            )
        )
        for member in (member for span in group for member in span.members):
            scan.members[member] = scan.members.get(member, 0) + 1
    return scan


def _grouped(spans: Iterator[SampleSpan]) -> Iterator[list[SampleSpan]]:
    """Group spans into runs; one with a fault is a run of its own, so that its checksum fails no neighbour."""
    group: list[SampleSpan] = []
    for span in spans:
        size = span.stop - group[0].start if group else 0
        if group and (len(group) == RUN_SAMPLES or size > RUN_BYTES or span.fault or group[-1].fault):
            yield group
            group = []
        group.append(span)
    if group:
        yield group


class _Tape:
    """Byte ranges of a tar in windows: all of it in order where checksums are wanted, else only around headers."""

    def __init__(self, read_range: Callable[[int, int], bytes], size: int, keep: bool) -> None:
        self._read_range = read_range
        self._size = size
        self._keep = keep
        self._start = 0
        self._buffer = bytearray()

    def read(self, start: int, stop: int) -> bytes:
        end = self._start + len(self._buffer)
        if not self._keep and not self._start <= start <= stop <= end:
            self._start, self._buffer = start, bytearray()
            self._fill(max(stop, start + _HEADER_WINDOW_BYTES))
        elif stop > end:
            self._fill(stop)
        return bytes(self._buffer[start - self._start : stop - self._start])

    def digest(self, start: int, stop: int) -> str:
        """Return the SHA-256 of a range, and forget what is before its end."""
        self._fill(stop)
        value = hashlib.sha256(memoryview(self._buffer)[start - self._start : stop - self._start]).hexdigest()
        del self._buffer[: stop - self._start]
        self._start = stop
        return value

    def _fill(self, stop: int) -> None:
        end = self._start + len(self._buffer)
        if stop > end:
            window = _WINDOW_BYTES if self._keep else 0
            self._buffer += self._read_range(end, min(self._size, max(stop, end + window)))
