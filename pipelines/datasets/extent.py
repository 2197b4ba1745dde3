"""Runs: consecutive samples of a shard, which one checksum covers. A dataset's index has a row for each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, Protocol, TypeVar

import pyarrow as pa

__all__ = [
    "EXTENT_BYTES",
    "EXTENT_SAMPLES",
    "EXTENT_SCHEMA",
    "LISTED_LATER",
    "UNREAD",
    "UNREAD_KEY",
    "Extent",
    "cut_extents",
    "extents_to_table",
]

EXTENT_SAMPLES = 16
"""Most samples in a run; chunks are made of whole runs."""

EXTENT_BYTES = 32 << 20
"""Most bytes in a run of more than one sample."""

UNREAD = -1
"""The ``start`` of the one run, of one sample, that stands for all of a shard which could not be read when listed."""

UNREAD_KEY = "#all"
"""The key of that sample."""

LISTED_LATER = -2
"""The ``start`` of such a run, tried again, of a shard whose samples are in a later plan."""

EXTENT_SCHEMA = pa.schema(
    [
        pa.field("shard", pa.string(), nullable=False),
        pa.field("start", pa.int64(), nullable=False),
        pa.field("stop", pa.int64(), nullable=False),
        pa.field("samples", pa.int32(), nullable=False),
        pa.field("pixels", pa.int64(), nullable=False),
        pa.field("first_key", pa.string(), nullable=False),
        pa.field("last_key", pa.string(), nullable=False),
        pa.field("sha256", pa.string(), nullable=False),
    ]
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Extent:
    """Consecutive samples of a shard, at most ``EXTENT_SAMPLES``, which one checksum covers.

    Attributes:
        shard: name of the tar, relative to the dataset.
        start, stop: range ``[start, stop)`` of the bytes of all members, with headers and padding.
        samples: number of samples.
        pixels: number of pixels of all images together; 0 where they were not counted.
        first_key, last_key: keys of the first and the last sample; empty where a key can't be read.
        sha256: SHA-256 of the bytes, in hexadecimal; empty where it was not computed.
    """

    shard: str
    start: int
    stop: int
    samples: int
    pixels: int = 0
    first_key: str = ""
    last_key: str = ""
    sha256: str = ""


class _Span(Protocol):
    """A sample in a tar, which takes the bytes ``[start, stop)``."""

    @property
    def start(self) -> int: ...
    @property
    def stop(self) -> int: ...


S = TypeVar("S", bound=_Span)


def cut_extents(samples: Iterable[S], is_alone: Callable[[S], Any] = lambda _: False) -> Iterator[list[S]]:
    """Cut the samples of a shard into runs. This decides the bytes of its index.

    Args:
        samples: samples in the order of the tar.
        is_alone: predicate of samples that are a run of their own (default: none is).
    """
    group: list[S] = []
    for sample in samples:
        is_full = len(group) == EXTENT_SAMPLES or (group and sample.stop - group[0].start > EXTENT_BYTES)
        if group and (is_full or is_alone(sample) or is_alone(group[-1])):
            yield group
            group = []
        group.append(sample)
    if group:
        yield group


def extents_to_table(runs: Iterable[Extent]) -> pa.Table:
    """Return runs as rows of ``EXTENT_SCHEMA``."""
    return pa.Table.from_pylist([asdict(run) for run in runs], schema=EXTENT_SCHEMA)
