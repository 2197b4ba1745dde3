"""Many failures in little memory: they are kept compressed, in the order in which they came."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import groupby
from operator import itemgetter
from typing import Any

import pyarrow as pa

from pipelines.datasets.chunk import ERRORS_SCHEMA
from pipelines.results.files import Failure
from pipelines.storage.parquet import parquet_bytes, read_parquet

__all__ = ["FailureList"]

_SCHEMA = pa.schema([pa.field("chunk", pa.string()), *ERRORS_SCHEMA, pa.field("place", pa.int64())])
_HELD = 16_384


class FailureList:
    """The failures of a plan's chunks, some 20 bytes each where there are many."""

    def __init__(self) -> None:
        self._packed: list[bytes] = []
        self._rows: list[dict[str, Any]] = []
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, chunk: str, failures: Sequence[Failure]) -> None:
        """Add the failures of a chunk, all at once."""
        self._rows += [{"chunk": chunk, **asdict(failure)} for failure in failures]
        self._count += len(failures)
        if len(self._rows) >= _HELD:
            self._packed.append(parquet_bytes(pa.Table.from_pylist(self._rows, _SCHEMA), compression="zstd"))
            self._rows = []

    def __iter__(self) -> Iterator[Failure]:
        return (failure for _, failures in self.by_chunk() for failure in failures)

    def by_chunk(self) -> Iterator[tuple[str, list[Failure]]]:
        """Yield the names of the chunks that have failures, and these."""
        for chunk, rows in groupby(self._each_row(), itemgetter("chunk")):
            yield str(chunk), [Failure(**{name: row[name] for name in row if name != "chunk"}) for row in rows]

    def _each_row(self) -> Iterator[dict[str, Any]]:
        for data in self._packed:
            yield from read_parquet(data).to_pylist()
        yield from self._rows
