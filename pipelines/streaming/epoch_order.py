"""The order of a training epoch: a pure function of (seed, epoch, position), for any number of workers.

The epoch's permutation of chunks is dealt to a fixed number of lanes, each next chunk to the lane that has
the fewest samples. A lane shuffles in windows of a few consecutive chunks. The global stream of slots takes
from the lanes in turn: slot i is the (i // lanes)-th sample of lane i mod lanes, and is padding (weight 0)
where that lane has ended before the longest. Global batch b is the slots [b * batch_size, (b + 1) *
batch_size), and worker r of W has the lanes l with l mod W == r. Any W up to the lanes will do: where it divides lanes
and batch, all workers have the same share of every batch; elsewhere shares differ by a lane, and may be empty.

    chunks   --permute-->   [c7 c2 c9 ...]   --deal-->   lane 0: [c7 c4 | c1 c8 | ...]   (windows of 2 chunks)
                                                         lane 1: [c2 c9 | c0 ...]
    slots    lane 0, lane 1, lane 0, lane 1, ...         each lane's samples permuted within its window

Nothing here reads a byte or knows Ray. Permutations are stable argsorts of raw Philox 4x64-10 words, which are
fixed by their specification (Salmon et al. 2011), so that an epoch's order outlives the libraries' versions.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from condgen.errors import CheckpointError, ConfigError, DatasetError

__all__ = [
    "MAX_LANES",
    "EpochOrder",
    "OrderConfig",
    "StreamPosition",
    "check_workers",
    "choose_lanes",
    "window_permutation",
]

MAX_LANES = 64
_STATE_FORMAT = 1
# Which permutation a Philox key is for: its second word.
_CHUNKS, _WINDOW = 1, 2

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class OrderConfig:
    """Numbers that fix the order of every epoch of a run.

    Attributes:
        seed: integer in [0, 2**63).
        lanes: number of lanes (at least 1).
        window_chunks: number of chunks that a lane shuffles together (at least 1).
        batch_size: number of samples of a global batch. It divides the lanes or they divide it, so that each lane
            has the same share of every batch, or of every few.

    Raises:
        ConfigError: a value is out of range.
    """

    seed: int
    lanes: int
    window_chunks: int
    batch_size: int

    def __post_init__(self) -> None:
        for name in ("lanes", "window_chunks", "batch_size"):
            if getattr(self, name) < 1:
                raise ConfigError(f"data.{name}", getattr(self, name), "a number of at least 1")
        if not 0 <= self.seed < 2**63:
            raise ConfigError("train.seed", self.seed, "an integer from 0 to 2**63 - 1")
        if self.batch_size % self.lanes and self.lanes % self.batch_size:
            allowed = f"a multiple or a divisor of the {self.lanes} lanes"
            raise ConfigError("train.batch_size", self.batch_size, allowed)


@dataclass(frozen=True, kw_only=True)
class StreamPosition:
    """Position of a stream: the next global batch to be trained on is `batch` of `epoch`."""

    epoch: int = 0
    batch: int = 0

    def state_dict(self, config: OrderConfig, dataset_digest: str) -> dict[str, Any]:
        """Return what a checkpoint keeps of the position, as plain JSON values.

        `slot` is the position in slots of the global stream. The rest says which stream it is a position of.
        """
        return {
            "format": _STATE_FORMAT,
            "epoch": self.epoch,
            "batch": self.batch,
            "slot": self.batch * config.batch_size,
            "dataset": dataset_digest,
            "seed": config.seed,
            "lanes": config.lanes,
            "window_chunks": config.window_chunks,
            "batch_size": config.batch_size,
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any], config: OrderConfig, dataset_digest: str) -> StreamPosition:
        """Return the position that `state_dict` saved.

        Raises:
            CheckpointError: the state is of another dataset or configuration: a position in one stream says
                nothing of another.
        """
        want = cls().state_dict(config, dataset_digest)
        for field in ("format", "dataset", "seed", "lanes", "window_chunks", "batch_size"):
            if state.get(field) != want[field]:
                raise CheckpointError(
                    f"the stream's saved position is of {field} {state.get(field)!r}, this run has "
                    f"{want[field]!r}: resume with the data and configuration that it began with, or start anew"
                )
        epoch, batch, slot = (state.get(name) for name in ("epoch", "batch", "slot"))
        if not isinstance(epoch, int) or not isinstance(batch, int) or epoch < 0 or batch < 0:
            raise CheckpointError(f"the stream's saved position is damaged: epoch {epoch!r}, batch {batch!r}")
        if slot != batch * config.batch_size:
            raise CheckpointError(f"the stream's saved position is damaged: batch {batch}, slot {slot!r}")
        return cls(epoch=epoch, batch=batch)


def choose_lanes(num_chunks: int, window_chunks: int, batch_size: int) -> int:
    """Return the number of lanes for a dataset where none is asked for: a power of two up to 64.

    Every lane has about four windows in an epoch, so that small datasets are shuffled too and their padding stays
    small; lanes and batch size fit each other.
    """
    lanes = 1
    while (
        lanes * 2 <= MAX_LANES
        and lanes * 2 * 4 * window_chunks <= num_chunks
        and (batch_size % (lanes * 2) == 0 or (lanes * 2) % batch_size == 0)
    ):
        lanes *= 2
    return lanes


def check_workers(num_workers: int, lanes: int) -> None:
    """Refuse more workers than lanes: those beyond would have no data.

    Raises:
        ConfigError: the number is out of range.
    """
    if not 1 <= num_workers <= lanes:
        raise ConfigError("workers", num_workers, f"1 to {lanes}, the number of lanes (data.lanes sets it)")


class EpochOrder:
    """The order of one epoch over chunks of known sizes.

    Dealing a million chunks takes about a second and some tens of bytes a chunk; windows are made when asked.

    Args:
        chunk_samples: number of samples of each chunk of the plan (at least 1), int64 ``[C]``.
        config: numbers that are the same in every epoch.
        epoch: number of the epoch, from 0.
    """

    def __init__(self, chunk_samples: npt.ArrayLike, config: OrderConfig, epoch: int) -> None:
        self.chunk_samples: IntArray = np.asarray(chunk_samples, dtype=np.int64)
        self.config = config
        self.epoch = epoch
        if self.chunk_samples.ndim != 1 or self.chunk_samples.size == 0 or int(self.chunk_samples.min()) < 1:
            raise DatasetError("the plan has no chunks, or empty ones: is the dataset empty?")
        self._lane_chunks = self._deal()
        self._window_starts = [self._starts_of_windows(chunks) for chunks in self._lane_chunks]
        self.lane_samples: IntArray = np.array([starts[-1] for starts in self._window_starts], dtype=np.int64)

    @property
    def num_samples(self) -> int:
        """Number of samples of the epoch, without padding."""
        return int(self.lane_samples.sum())

    @property
    def num_batches(self) -> int:
        """Number of global batches of the epoch; the last is filled up with padding."""
        slots = int(self.lane_samples.max()) * self.config.lanes
        return -(-slots // self.config.batch_size)

    def lane_chunks(self, lane: int) -> IntArray:
        """Return the chunks of a lane in its order, int64 [c]."""
        return self._lane_chunks[lane]

    def window_starts(self, lane: int) -> IntArray:
        """Return the lane positions at which the windows start, and the lane's length: int64 [windows + 1]."""
        return self._window_starts[lane]

    def window_chunks(self, lane: int, window: int) -> IntArray:
        """Return the chunks of one window of a lane, int64 [<= window_chunks]."""
        size = self.config.window_chunks
        return self._lane_chunks[lane][window * size : (window + 1) * size]

    def window_samples(self, lane: int, window: int) -> tuple[IntArray, IntArray]:
        """Return the samples of a window in their order: (chunk int64 [n], index within its chunk int64 [n])."""
        chunks = self.window_chunks(lane, window)
        sizes = self.chunk_samples[chunks]
        chunk = np.repeat(chunks, sizes)
        index = np.arange(len(chunk), dtype=np.int64) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        shuffled = window_permutation(len(chunk), self.config.seed, self.epoch, lane, window)
        return chunk[shuffled], index[shuffled]

    def batches(self, start_batch: int = 0, rank: int = 0, num_workers: int = 1) -> Iterator[tuple[IntArray, IntArray]]:
        """Yield a worker's share of each global batch from `start_batch` to the end, in the order of its slots.

        Yields:
            (chunk, index), int64 [n], -1 for padding; n is batch_size / num_workers where that is whole, else
            about as much, and may be 0.
        """
        cursors: dict[int, _LaneCursor] = {}
        for number in range(start_batch, self.num_batches):
            slots = self._slots_of(number, rank, num_workers)
            chunk = np.empty(len(slots), dtype=np.int64)
            index = np.empty(len(slots), dtype=np.int64)
            for row, slot in enumerate(slots.tolist()):
                position, lane = divmod(slot, self.config.lanes)
                cursor = cursors.get(lane)
                if cursor is None:
                    cursor = cursors[lane] = _LaneCursor(self, lane)
                chunk[row], index[row] = cursor.at(position)
            yield chunk, index

    def reads(
        self, start_batch: int = 0, rank: int = 0, num_workers: int = 1, *, stop_batch: int | None = None
    ) -> IntArray:
        """Return the chunks that a worker reads from `start_batch` on, each once, in the order of need.

        Windows are sorted by the first slot that needs them; of a lane's window that `start_batch` cuts, the
        chunks that still have samples to give are read (again): never more than that one window a lane.
        What only batches from `stop_batch` on need is left out.

        Returns:
            int64 ``[reads]``.
        """
        chunks, slots = [], []
        for lane in range(rank, self.config.lanes, num_workers):
            at = self._lane_position(lane, start_batch)
            starts = self._window_starts[lane]
            if at >= starts[-1]:
                continue
            window = int(np.searchsorted(starts, at, side="right")) - 1
            cut = self.window_chunks(lane, window)
            if at > starts[window]:
                cut = cut[np.isin(cut, self.window_samples(lane, window)[0][at - int(starts[window]) :])]
            rest = self._lane_chunks[lane][(window + 1) * self.config.window_chunks :]
            needed_at = np.repeat(starts[window + 1 : -1], self.config.window_chunks)[: len(rest)]
            chunks += [cut, rest]
            slots += [np.full(len(cut), at * self.config.lanes + lane), needed_at * self.config.lanes + lane]
        if not chunks:
            return np.empty(0, dtype=np.int64)
        stop = (self.num_batches if stop_batch is None else stop_batch) * self.config.batch_size
        all_slots = np.concatenate(slots)
        by_need = np.argsort(all_slots, kind="stable")
        return np.concatenate(chunks)[by_need[all_slots[by_need] < stop]]

    def given(self, start_batch: int) -> dict[int, int]:
        """Return how many samples batches before `start_batch` took of each chunk of the windows that it cuts."""
        counts: dict[int, int] = {}
        for lane in range(self.config.lanes):
            at = self._lane_position(lane, start_batch)
            starts = self._window_starts[lane]
            if 0 < at < starts[-1]:
                window = int(np.searchsorted(starts, at, side="right")) - 1
                taken = self.window_samples(lane, window)[0][: at - int(starts[window])]
                counts.update(zip(*(part.tolist() for part in np.unique(taken, return_counts=True)), strict=True))
        return counts

    def _slots_of(self, batch: int, rank: int, num_workers: int) -> IntArray:
        size = self.config.batch_size
        slots = np.arange(batch * size, (batch + 1) * size, dtype=np.int64)
        mine: IntArray = slots[(slots % self.config.lanes) % num_workers == rank]
        return mine

    def _lane_position(self, lane: int, start_batch: int) -> int:
        """Return how many samples of a lane lie in the slots before a batch."""
        rounds, rest = divmod(start_batch * self.config.batch_size, self.config.lanes)
        return rounds + (1 if lane < rest else 0)

    def _deal(self) -> list[IntArray]:
        order = _permutation(len(self.chunk_samples), self.config.seed, _CHUNKS, (self.epoch, 0, 0))
        sizes: Sequence[int] = self.chunk_samples[order].tolist()
        lanes = np.empty(len(order), dtype=np.int64)
        heap = [(0, lane) for lane in range(self.config.lanes)]
        for place, size in enumerate(sizes):
            filled, lane = heap[0]
            lanes[place] = lane
            heapq.heapreplace(heap, (filled + size, lane))
        by_lane = np.argsort(lanes, kind="stable")
        bounds = np.cumsum(np.bincount(lanes, minlength=self.config.lanes))[:-1]
        return [np.ascontiguousarray(part) for part in np.split(order[by_lane], bounds)]

    def _starts_of_windows(self, chunks: IntArray) -> IntArray:
        ends = np.cumsum(self.chunk_samples[chunks])
        size = self.config.window_chunks
        of_windows = np.append(ends[size - 1 :: size], ends[-1:] if len(ends) % size else ends[:0])
        return np.append(np.zeros(1, dtype=np.int64), of_windows)


class _LaneCursor:
    """Walks a lane, keeping the permuted samples of the window that it is in."""

    def __init__(self, order: EpochOrder, lane: int) -> None:
        self._order, self._lane = order, lane
        self._starts = order.window_starts(lane)
        self._start = self._stop = 0
        self._chunks: list[int] = []
        self._indexes: list[int] = []

    def at(self, position: int) -> tuple[int, int]:
        if position >= self._starts[-1]:
            return -1, -1
        if not self._start <= position < self._stop:
            window = int(np.searchsorted(self._starts, position, side="right")) - 1
            self._start, self._stop = int(self._starts[window]), int(self._starts[window + 1])
            chunks, indexes = self._order.window_samples(self._lane, window)
            self._chunks, self._indexes = chunks.tolist(), indexes.tolist()
        return self._chunks[position - self._start], self._indexes[position - self._start]


def window_permutation(num_samples: int, seed: int, epoch: int, lane: int, window: int) -> IntArray:
    """Return the order of the samples of a lane's window, which lie chunk after chunk: a permutation."""
    return _permutation(num_samples, seed, _WINDOW, (epoch, lane, window))


def _permutation(length: int, seed: int, purpose: int, counter: tuple[int, int, int]) -> IntArray:
    """Return a keyed permutation of range(length): the ranks of Philox words; equal words keep their order."""
    words = np.random.Philox(key=[seed, purpose], counter=[0, *counter]).random_raw(length)
    ranks: IntArray = np.argsort(words, kind="stable")
    return ranks
