"""Two unpaired domains side by side: one epoch of the larger one, planned as rows of chunks of both."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipelines.datasets.chunk import CHUNK_SCHEMA, Chunk
from pipelines.streaming.epoch_order import EpochOrder, OrderConfig, window_permutation
from pipelines.streaming.unpaired import DOMAINS, domain_seed

__all__ = ["PAIR_SCHEMA", "PairOrder", "iter_pairs", "pair_table"]

IntArray = npt.NDArray[np.int64]

_CHUNK = pa.struct(list(CHUNK_SCHEMA))
_PIECE = pa.struct([("chunk", _CHUNK), ("epoch", pa.int64()), ("window", pa.int64())])
PAIR_SCHEMA = pa.schema(
    [
        pa.field("samples", pa.int32(), nullable=False),  # of the large piece
        pa.field("large", _PIECE, nullable=False),
        pa.field("small", pa.list_(_PIECE), nullable=False),
        pa.field("skip", pa.int64(), nullable=False),  # samples of the first small piece that came before
        pa.field("swapped", pa.bool_(), nullable=False),  # whether the large domain is the second one
        pa.field("seeds", pa.list_(pa.int64()), nullable=False),  # of the large and of the small domain
    ]
)
"""One row a chunk of the larger domain, with the chunks of the smaller one that its samples are put beside."""


def pair_table(a: pa.Table, b: pa.Table, *, seed: int, epoch: int) -> pa.Table:
    """Plan one epoch of the larger of two domains, every one of its samples beside one of the smaller domain's.

    The smaller domain's stream goes on from epoch to epoch: epoch e begins e times the larger one's samples into it.

    Args:
        a, b: chunks of the domains, in `pipelines.datasets.chunk.CHUNK_SCHEMA`.
        seed, epoch: numbers that fix both orders.

    Returns:
        A table in `PAIR_SCHEMA`.
    """
    sizes = [int(table["samples"].to_numpy().sum()) for table in (a, b)]
    swapped = sizes[1] > sizes[0]
    (large, small), names = ((b, a), DOMAINS[::-1]) if swapped else ((a, b), DOMAINS)
    seeds = [domain_seed(seed, name) for name in names]
    long = _Sequence.of(large, seeds[0], epoch, max(sizes))
    at, of_small = epoch * max(sizes), min(sizes)
    short = _Sequence.of(small, seeds[1], at // of_small, max(sizes) + at % of_small)
    starts = long.ends - long.lengths + at % of_small
    first = np.searchsorted(short.ends, starts, side="right")
    stop = np.searchsorted(short.ends, starts + long.lengths, side="left") + 1
    counts = stop - first
    places = np.repeat(first - (np.cumsum(counts) - counts), counts) + np.arange(int(counts.sum()))
    offsets = pa.array(np.append(0, np.cumsum(counts)).astype(np.int32))
    rows = len(first)
    return pa.Table.from_arrays(
        [
            pa.array(long.lengths.astype(np.int32)),
            long.pieces(np.arange(rows)),
            pa.ListArray.from_arrays(offsets, short.pieces(places)),
            pa.array(starts - (short.ends - short.lengths)[first]),
            pa.array(np.full(rows, swapped)),
            pa.ListArray.from_arrays(
                pa.array(np.arange(0, 2 * rows + 1, 2, dtype=np.int32)), pa.array(np.tile(seeds, rows))
            ),
        ],
        schema=PAIR_SCHEMA,
    )


@dataclass(frozen=True)
class _Sequence:
    """Chunks of a domain in the order in which they come, over the epochs that are needed."""

    table: pa.Table
    chunks: IntArray
    epochs: IntArray
    windows: IntArray
    lengths: IntArray
    ends: IntArray = field(repr=False)

    @classmethod
    def of(cls, table: pa.Table, seed: int, first_epoch: int, num_samples: int) -> _Sequence:
        """Return at least `num_samples` samples from the beginning of an epoch."""
        samples = table["samples"].to_numpy().astype(np.int64)
        epochs = range(first_epoch, first_epoch - (-num_samples // int(samples.sum())))
        config = OrderConfig(seed=seed, lanes=1, window_chunks=1, batch_size=1)
        orders = [EpochOrder(samples, config, epoch).lane_chunks(0) for epoch in epochs]
        chunks = np.concatenate(orders)
        windows = np.tile(np.arange(len(samples), dtype=np.int64), len(orders))
        lengths = samples[chunks]
        return cls(
            table,
            chunks,
            np.repeat(np.array(epochs), len(samples)),
            windows,
            lengths,
            np.cumsum(lengths, dtype=np.int64),
        )

    def pieces(self, places: IntArray) -> pa.StructArray:
        """Return the chunks at some places, as `_PIECE`."""
        rows = self.table.take(pa.array(self.chunks[places])).combine_chunks()
        chunk = pa.StructArray.from_arrays(
            [rows[name].chunk(0) if rows.num_rows else rows[name].combine_chunks() for name in CHUNK_SCHEMA.names],
            fields=list(CHUNK_SCHEMA),
        )
        numbers = [pa.array(self.epochs[places]), pa.array(self.windows[places])]
        return pa.StructArray.from_arrays([chunk, *numbers], fields=list(_PIECE))


@dataclass(frozen=True)
class PairOrder:
    """A row of `PAIR_SCHEMA`: chunks to read of each domain, and the order of their samples.

    Attributes:
        chunks: chunks of the first and of the second domain.
        order: places of each domain in the samples of its chunks, one chunk after the other, int64 ``[n]``.
    """

    chunks: tuple[tuple[Chunk, ...], tuple[Chunk, ...]]
    order: tuple[IntArray, IntArray]


def iter_pairs(block: pa.Table) -> Iterator[PairOrder]:
    """Yield the rows of a table in `PAIR_SCHEMA`."""
    for row in block.to_pylist():
        large, order = _shuffled([row["large"]], row["seeds"][0])
        small, small_order = _shuffled(row["small"], row["seeds"][1])
        found = (large, small), (order, small_order[row["skip"] : row["skip"] + row["samples"]])
        if row["swapped"]:
            found = (small, large), (found[1][1], found[1][0])
        yield PairOrder(*found)


def _shuffled(pieces: list[dict[str, Any]], seed: int) -> tuple[tuple[Chunk, ...], IntArray]:
    chunks = tuple(Chunk.from_row(piece["chunk"]) for piece in pieces)
    order, before = [], 0
    for piece, chunk in zip(pieces, chunks, strict=True):
        order.append(before + window_permutation(chunk.samples, seed, piece["epoch"], 0, piece["window"]))
        before += chunk.samples
    return chunks, np.concatenate(order)
