"""One look at a tar, from its first byte to its last: its samples in runs, their checksums and its faults.

Headers and data are read in windows, in order, and what is held is bounded whatever the tar claims to be: by a run of
samples, or by one member of at most ``pipelines.datasets.tar.MAX_MEMBER_BYTES``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from pipelines.datasets.extent import EXTENT_BYTES, Extent, cut_extents
from pipelines.datasets.tar import MAX_MEMBER_BYTES, Fault, SampleSpan, iter_members, iter_spans
from pipelines.storage.store import Store

__all__ = ["ShardScan", "Visit", "scan_shard"]

_WINDOW_BYTES = 4 << 20
_HEADER_WINDOW_BYTES = 64 << 10
_HELD_BYTES = EXTENT_BYTES + _WINDOW_BYTES
_FAULT_BYTES = 64 << 10
"""Bytes that are read of a faulty sample: enough to find its fault again, however much garbage follows."""

Visit = Callable[[list[SampleSpan], bytes], int]
"""A function that takes the spans of a run without faults, and its bytes, which begin at the first span's ``start``;
it returns how many pixels they hold."""


@dataclass
class ShardScan:
    """The content of a shard, as one look at it shows.

    Attributes:
        name: name of the shard.
        size_bytes: size of the tar.
        runs: runs of all samples.
        members: number of samples that have a member of each name.
        faults: keys and faults of samples that can't be read.
        sha256: SHA-256 of the tar; empty where checksums were not asked for, or where garbage follows the samples.
    """

    name: str
    size_bytes: int
    runs: list[Extent] = field(default_factory=list)
    members: dict[str, int] = field(default_factory=dict)
    faults: list[tuple[str, Fault]] = field(default_factory=list)
    sha256: str = ""

    @property
    def samples(self) -> int:
        """Number of all samples, faulty ones too."""
        return sum(run.samples for run in self.runs)


def scan_shard(store: Store, name: str, *, checksums: bool = True, visit: Visit | None = None) -> ShardScan:
    """Read a tar once.

    Nothing is lost in silence: a member that is refused or damaged counts as a sample, and so does what is missing
    where a tar was cut; whoever reads such a run finds the fault.

    Args:
        store: store of the tar.
        name: name of the tar.
        checksums: whether runs and the tar get checksums; without them and without ``visit`` only headers are read.
        visit: function that is called with each run, as ``Visit`` says.

    Raises:
        MissingError, AccessError, StorageError: as in ``pipelines.storage.store``.
    """
    size = store.size(name)
    tape = _Tape(lambda a, b: store.read_range(name, a, b), size, whole=checksums)
    scan = ShardScan(name, size)
    spans = _bounded(iter_spans(iter_members(tape.read, 0, size, whole=True)))
    # One with a fault is a run of its own, so that its checksum fails no neighbor.
    for group in cut_extents(spans, lambda span: span.fault):
        start, stop = group[0].start, max(span.stop for span in group)
        fault = group[0].fault
        if fault is not None:
            stop = min(stop, start + _FAULT_BYTES)
            scan.faults.append((group[0].key or "", fault))
        data = tape.piece(start, stop) if checksums or visit else b""
        pixels = visit(group, data) if visit and fault is None else 0
        scan.runs.append(
            Extent(
                shard=name,
                start=start,
                stop=stop,
                samples=len(group),
                pixels=pixels,
                first_key=group[0].key or "",
                last_key=group[-1].key or "",
                sha256=hashlib.sha256(data).hexdigest() if checksums else "",
            )
        )
        tape.forget(stop)
        for member in (member for span in group for member in span.members):
            scan.members[member] = scan.members.get(member, 0) + 1
    if checksums and not any(fault.error in ("BadTar", "CutTar") for _, fault in scan.faults):
        scan.sha256 = tape.finish()
    return scan


def _bounded(spans: Iterator[SampleSpan]) -> Iterator[SampleSpan]:
    """Refuse samples of so many members that together they are larger than one may be."""
    for span in spans:
        size = span.stop - span.start
        if span.fault is None and size > 2 * MAX_MEMBER_BYTES:
            reason = f"{size:,} bytes in {len(span.members)} members of one sample: refused"
            yield replace(span, fault=Fault(span.start, span.stop, span.key, "TooLarge", reason))
        else:
            yield span


class _Tape:
    """Byte ranges of a tar in windows: all of it in order where it is wanted whole, else only around headers."""

    def __init__(self, read_range: Callable[[int, int], bytes], size: int, *, whole: bool) -> None:
        self._read_range = read_range
        self._size = size
        self._whole = whole
        self._start = 0
        self._buffer = bytearray()
        self._digest = hashlib.sha256()
        self._digested = 0

    def read(self, start: int, stop: int) -> bytes:
        """Return a few bytes at or after the last that were read."""
        end = self._start + len(self._buffer)
        if not self._start <= start <= stop <= end:
            far = start > end or start < self._start or stop - self._start > _HELD_BYTES
            if far or not self._whole:
                self._absorb(start)
                self._start, self._buffer = start, bytearray()
            self._fill(stop, _WINDOW_BYTES if self._whole else _HEADER_WINDOW_BYTES)
        return bytes(self._buffer[start - self._start : stop - self._start])

    def piece(self, start: int, stop: int) -> bytes:
        """Return the bytes of a run, whose headers were read."""
        if start >= self._start and stop - self._start <= _HELD_BYTES:
            self._fill(stop, _WINDOW_BYTES if self._whole else 0)
            return bytes(memoryview(self._buffer)[start - self._start : stop - self._start])
        return self._fetch(start, stop)

    def forget(self, position: int) -> None:
        """Let go of what is before a position."""
        dropped = min(max(0, position - self._start), len(self._buffer))
        del self._buffer[:dropped]
        self._start += dropped

    def finish(self) -> str:
        """Return the SHA-256 of the whole tar."""
        self._absorb(self._size)
        return self._digest.hexdigest()

    def _fill(self, stop: int, window: int) -> None:
        end = self._start + len(self._buffer)
        if stop > end:
            self._buffer += self._fetch(end, min(self._size, max(stop, end + window)))

    def _absorb(self, stop: int) -> None:
        while self._whole and self._digested < stop:
            self._fetch(self._digested, min(stop, self._digested + _WINDOW_BYTES))

    def _fetch(self, start: int, stop: int) -> bytes:
        data = self._read_range(start, stop)
        if self._whole and start <= self._digested < stop:
            self._digest.update(memoryview(data)[self._digested - start :])
            self._digested = stop
        return data
