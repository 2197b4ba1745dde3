"""An archive of any size that is only an index, and results that are only a plan: for `scale.py`.

The index is written in its real format, piece by piece; no shard is there. The draws files of a plan are made up by the
store: a listing of their names, in order, and the same bytes for each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pipelines.datasets.extent import EXTENT_SAMPLES, EXTENT_SCHEMA
from pipelines.datasets.manifest import INDEX_NAME, MANIFEST_NAME, PIECE_ROWS, Manifest, ShardInfo
from pipelines.datasets.opening import Archive
from pipelines.results.files import draws_name, encode_draws
from pipelines.results.plan import load_plans
from pipelines.storage.backend import Entry
from pipelines.storage.local import LocalBackend
from pipelines.storage.parquet import StoredParquet, write_parquet
from pipelines.storage.store import Store, open_store

__all__ = ["SHARD_IMAGES", "MadeUpDraws", "grown", "made_up_results", "write_index"]

SHARD_IMAGES = 10_000
_IMAGE_BYTES = 40_000


def write_index(folder: Path, images: int) -> Path:
    """A dataset of so many images (whole shards of 10,000): its index and manifest."""
    if (folder / MANIFEST_NAME).exists():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    store, shards = open_store(str(folder)), images // SHARD_IMAGES
    pieces = (_extents(shard) for shard in range(shards))
    sha256 = write_parquet(store, INDEX_NAME, pieces, EXTENT_SCHEMA, row_group_size=PIECE_ROWS, compression="zstd")
    manifest = Manifest(
        kind="single",
        shards=tuple(
            ShardInfo(name=_name(shard), split="train", samples=SHARD_IMAGES, size_bytes=SHARD_IMAGES * _IMAGE_BYTES)
            for shard in range(shards)
        ),
        members={"jpg": shards * SHARD_IMAGES},
        runs=shards * SHARD_IMAGES // EXTENT_SAMPLES,
        index_sha256=sha256,
    )
    store.write(MANIFEST_NAME, manifest.to_json().encode())
    return folder


@dataclass(frozen=True)
class _GrownIndex:
    """The index of a dataset that is there, and behind it that of more shards."""

    index: StoredParquet
    shards: range

    def pieces(self, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """Yield the rows in pieces, as `StoredParquet.pieces` does."""
        yield from self.index.pieces(columns)
        for shard in self.shards:
            piece = _extents(shard)
            yield piece if columns is None else piece.select(columns)


def grown(archive: Archive, images: int) -> Archive:
    """An archive of `write_index` with so many images more (whole shards)."""
    if archive.dataset is None:
        raise ValueError("not of write_index")
    shards = archive.dataset.manifest.samples // SHARD_IMAGES
    index: Any = _GrownIndex(archive.dataset.extents, range(shards, shards + images // SHARD_IMAGES))
    return replace(archive, dataset=replace(archive.dataset, extents=index))


def _name(shard: int) -> str:
    return f"train-{shard:06d}.tar"


def _extents(shard: int) -> pa.Table:
    """The extents of a shard; the same for every index that has it."""
    count = SHARD_IMAGES // EXTENT_SAMPLES
    random = np.random.default_rng(shard)
    stops = np.cumsum(random.integers(_IMAGE_BYTES * 12, _IMAGE_BYTES * 20, count) // 512 * 512)
    digests = pa.py_buffer(random.bytes(32 * count).hex().encode())
    lengths = pa.py_buffer(np.arange(0, 64 * count + 1, 64, dtype=np.int32))
    numbers = range(shard * SHARD_IMAGES, (shard + 1) * SHARD_IMAGES, EXTENT_SAMPLES)
    return pa.table(
        {
            "shard": [_name(shard)] * count,
            "start": np.append(0, stops[:-1]),
            "stop": stops,
            "samples": np.full(count, EXTENT_SAMPLES, np.int32),
            "pixels": np.full(count, EXTENT_SAMPLES << 16, np.int64),
            "first_key": [f"photos/{number // 100_000:04d}/{number:010d}" for number in numbers],
            "last_key": [f"photos/{number // 100_000:04d}/{number + EXTENT_SAMPLES - 1:010d}" for number in numbers],
            "sha256": pa.Array.from_buffers(pa.string(), count, [None, lengths, digests]),
        },
        schema=EXTENT_SCHEMA,
    )


@dataclass(frozen=True)
class MadeUpDraws(LocalBackend):
    """A folder with plans, and as if with the draws files of every `step`-th chunk."""

    data: bytes = field(default=b"", repr=False)
    step: int = 1

    def pages(self, prefix: str) -> Callable[[], Sequence[Entry] | None]:
        """List the draws files from the plans."""
        if prefix != "draws":
            return super().pages(prefix)
        pages = self._pages()
        return lambda: next(pages, None)

    def _pages(self) -> Iterator[Sequence[Entry]]:
        for generation in load_plans(open_store(self.root), checked=False):
            for piece in generation.stored.pieces(["name"]):
                names = piece["name"].to_pylist()[:: self.step]
                yield [Entry(draws_name(name), len(self.data)) for name in names]

    def read_range(self, name: str, start: int, stop: int) -> bytes:
        """Return bytes of a draws file, which are the same for each, or of a plan."""
        return self.data[start:stop] if name.startswith("draws/") else super().read_range(name, start, stop)


def made_up_results(results: Path, *, samples: int, step: int = 1) -> Store:
    """The store of results that have a plan, with the draws files of every `step`-th chunk, all of so many samples."""
    data = encode_draws([], [], {"job": "j", "chunk": "any"}, samples=samples)
    return Store(MadeUpDraws(str(results), data, step), str(results))
