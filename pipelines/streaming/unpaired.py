"""Unpaired data: two domains of different sizes, each in an order of its own, the smaller one cycling.

Each domain is an endless stream of samples, epoch after epoch of its own (`pipelines.streaming.epoch_order`), with a
seed of its own: where one stands says nothing of the other. For training, `UnpairedStream` has a `TrainingStream` of
each and a state with both positions; for Ray Datasets, `pair_table` plans one epoch of the larger domain.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from condgen.errors import CheckpointError, ConfigError
from pipelines.datasets.chunk import CHUNK_SCHEMA, Chunk
from pipelines.streaming.epoch_order import EpochOrder, OrderConfig, StreamPosition, window_permutation
from pipelines.streaming.stream import StreamBatch, TrainingPlan, TrainingStream

__all__ = [
    "PAIR_SCHEMA",
    "PlannedPairs",
    "UnpairedBatch",
    "UnpairedPosition",
    "UnpairedStream",
    "domain_seed",
    "iter_pairs",
    "pair_table",
    "unpaired_plans",
]

_STATE_FORMAT = 1
DOMAINS = ("a", "b")

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


def domain_seed(seed: int, domain: str) -> int:
    """The seed of a domain's order: the first 63 bits of SHA-256 of `[seed,"domain"]`."""
    text = json.dumps([seed, domain], separators=(",", ":"))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


@dataclass(frozen=True, kw_only=True)
class UnpairedPosition:
    """Where both streams stand."""

    a: StreamPosition = field(default_factory=StreamPosition)
    b: StreamPosition = field(default_factory=StreamPosition)

    @property
    def epoch(self) -> int:
        """Of the first domain."""
        return self.a.epoch

    @property
    def batch(self) -> int:
        """Of the first domain's epoch."""
        return self.a.batch

    def state_dict(self, plans: Mapping[str, TrainingPlan]) -> dict[str, Any]:
        """What a checkpoint keeps of the position, as plain JSON values; see `StreamPosition.state_dict`."""
        states = {name: getattr(self, name).state_dict(plans[name].order, plans[name].digest) for name in DOMAINS}
        return {"format": _STATE_FORMAT, **states}

    @classmethod
    def from_state(cls, state: Mapping[str, Any], plans: Mapping[str, TrainingPlan]) -> UnpairedPosition:
        """The position that `state_dict` saved.

        Raises:
            CheckpointError: damaged, or of other datasets or another configuration.
        """
        if state.get("format") != _STATE_FORMAT or not all(isinstance(state.get(name), Mapping) for name in DOMAINS):
            raise CheckpointError("the stream's saved position is not one of two domains: start anew")
        return cls(
            **{name: StreamPosition.from_state(state[name], plans[name].order, plans[name].digest) for name in DOMAINS}
        )


@dataclass(frozen=True, kw_only=True)
class UnpairedBatch:
    """A worker's share of one global batch of each domain; a row of one has nothing to do with that of the other.

    Attributes:
        a, b: of the domains, of the same size; each has weights of its own.
        after: the position to save when this batch has been trained on.
    """

    a: StreamBatch
    b: StreamBatch
    after: UnpairedPosition

    @property
    def weight(self) -> npt.NDArray[np.float32]:
        """``[B]`` float32: 1 where both are pictures."""
        return self.a.weight * self.b.weight

    @property
    def faults(self) -> int:
        """How many of both could not be decoded."""
        return self.a.faults + self.b.faults


def unpaired_plans(a: TrainingPlan, b: TrainingPlan) -> dict[str, TrainingPlan]:
    """The plans of two domains with independent seeds, made from theirs.

    Raises:
        ConfigError: their batches differ in size.
    """
    if a.order.batch_size != b.order.batch_size:
        allowed = f"{a.order.batch_size}, as the first domain's"
        raise ConfigError("train.batch_size", b.order.batch_size, allowed)
    return {
        name: replace(plan, order=replace(plan.order, seed=domain_seed(plan.order.seed, name)))
        for name, plan in zip(DOMAINS, (a, b), strict=True)
    }


class UnpairedStream:
    """One worker's batches of two domains from a position on, each domain epoch after epoch of its own.

    Args:
        plans: of `unpaired_plans`.
        start: the first batch of each.
        num_batches: how many there will be.
        options: `rank`, `num_workers` and `task_cpus` of `TrainingStream`.

    Raises:
        ConfigError: a number of workers that does not divide the lanes of both and the batch.
    """

    def __init__(
        self, plans: Mapping[str, TrainingPlan], start: UnpairedPosition, num_batches: int, **options: Any
    ) -> None:
        self._streams = [TrainingStream(plans[name], getattr(start, name), num_batches, **options) for name in DOMAINS]

    def __iter__(self) -> Iterator[UnpairedBatch]:
        """The batches of both, side by side.

        Raises:
            StorageError: a chunk could not be read, after retries.
        """
        with closing(_batches(self._streams[0])) as of_a, closing(_batches(self._streams[1])) as of_b:
            for a, b in zip(of_a, of_b, strict=True):
                yield UnpairedBatch(a=a, b=b, after=UnpairedPosition(a=a.after, b=b.after))


def _batches(stream: TrainingStream) -> Any:
    yield from stream


def pair_table(a: pa.Table, b: pa.Table, *, seed: int, epoch: int) -> pa.Table:
    """Plan one epoch of the larger of two domains, every one of its samples beside one of the smaller domain's.

    The smaller domain's stream goes on from epoch to epoch: epoch e begins e times the larger one's samples into it.

    Args:
        a, b: chunks of the domains, in `pipelines.datasets.chunk.CHUNK_SCHEMA`.
        seed, epoch: fix both orders.

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
        """At least `num_samples` samples from the beginning of an epoch."""
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
        """Those at some places, as `_PIECE`."""
        rows = self.table.take(pa.array(self.chunks[places])).combine_chunks()
        chunk = pa.StructArray.from_arrays(
            [rows[name].chunk(0) if rows.num_rows else rows[name].combine_chunks() for name in CHUNK_SCHEMA.names],
            fields=list(CHUNK_SCHEMA),
        )
        numbers = [pa.array(self.epochs[places]), pa.array(self.windows[places])]
        return pa.StructArray.from_arrays([chunk, *numbers], fields=list(_PIECE))


@dataclass(frozen=True)
class PlannedPairs:
    """A row of `PAIR_SCHEMA`: chunks to read of each domain, and which of their samples, in which order.

    Attributes:
        chunks: of the first and of the second domain.
        order: for each domain, places in the samples of its chunks one after the other, int64 ``[n]``.
    """

    chunks: tuple[tuple[Chunk, ...], tuple[Chunk, ...]]
    order: tuple[IntArray, IntArray]


def iter_pairs(block: pa.Table) -> Iterator[PlannedPairs]:
    """The rows of a table in `PAIR_SCHEMA`."""
    for row in block.to_pylist():
        large, order = _shuffled([row["large"]], row["seeds"][0])
        small, small_order = _shuffled(row["small"], row["seeds"][1])
        found = (large, small), (order, small_order[row["skip"] : row["skip"] + row["samples"]])
        if row["swapped"]:
            found = (small, large), (found[1][1], found[1][0])
        yield PlannedPairs(*found)


def _shuffled(pieces: list[dict[str, Any]], seed: int) -> tuple[tuple[Chunk, ...], IntArray]:
    chunks = tuple(Chunk.from_row(piece["chunk"]) for piece in pieces)
    order, before = [], 0
    for piece, chunk in zip(pieces, chunks, strict=True):
        order.append(before + window_permutation(chunk.samples, seed, piece["epoch"], 0, piece["window"]))
        before += chunk.samples
    return chunks, np.concatenate(order)
