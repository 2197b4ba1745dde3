"""Runs: consecutive samples of a shard, which one checksum covers. A dataset's index has a row for each."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass

import pyarrow as pa

__all__ = ["RUN_BYTES", "RUN_SAMPLES", "RUN_SCHEMA", "Run", "runs_to_table"]

RUN_SAMPLES = 16
"""Most samples in a run; chunks are made of whole runs."""

RUN_BYTES = 32 << 20
"""Most bytes in a run of more than one sample."""

RUN_SCHEMA = pa.schema(
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
class Run:
    """Consecutive samples of a shard, at most ``RUN_SAMPLES``: what one checksum covers.

    Attributes:
        shard: the tar's name, relative to the dataset.
        start, stop: the bytes ``[start, stop)`` of all their members, with headers and padding.
        samples: how many.
        pixels: of all their images together; 0 where they were not counted.
        first_key, last_key: of the first and the last sample; empty where a key can't be read.
        sha256: of the bytes, in hexadecimal; empty where it was not computed.
    """

    shard: str
    start: int
    stop: int
    samples: int
    pixels: int = 0
    first_key: str = ""
    last_key: str = ""
    sha256: str = ""


def runs_to_table(runs: Iterable[Run]) -> pa.Table:
    """Return runs as rows of ``RUN_SCHEMA``."""
    return pa.Table.from_pylist([asdict(run) for run in runs], schema=RUN_SCHEMA)
