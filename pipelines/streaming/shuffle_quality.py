"""Measures of how well an epoch is shuffled: how far samples' positions are from a uniform permutation's.

An order of chunks and windows is not uniform: the samples of a chunk stay in one window of one lane. These are numbers
for it, each beside what a uniform permutation of N samples has, positions being shares of the epoch in [0, 1).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipelines.streaming.epoch_order import EpochOrder

__all__ = ["ShuffleQuality", "epoch_positions", "kolmogorov_smirnov", "shuffle_quality"]

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class ShuffleQuality:
    """Measures of one epoch.

    Attributes:
        correlation: Pearson's correlation of places in the dataset and in the epoch; uniform: 0, within 2 / sqrt(N).
        displacement: mean distance of both places; uniform: 1/3.
        neighbor_distance: mean distance in the epoch of two samples that are neighbors in the dataset; uniform: 1/3.
        shared_batches: share of neighbors in the dataset that fall in one global batch; uniform: batch_size / N.
    """

    correlation: float
    displacement: float
    neighbor_distance: float
    shared_batches: float


def epoch_positions(order: EpochOrder) -> npt.NDArray[np.int64]:
    """Return where each sample comes: int64 ``[N]``, the slot of the stream, in the dataset's order of samples."""
    firsts = np.cumsum(order.chunk_samples) - order.chunk_samples
    slots = np.empty(order.num_samples, dtype=np.int64)
    for lane in range(order.config.lanes):
        windows = [order.window_samples(lane, window) for window in range(len(order.window_starts(lane)) - 1)]
        if not windows:
            continue
        chunk, index = (np.concatenate(parts) for parts in zip(*windows, strict=True))
        slots[firsts[chunk] + index] = np.arange(len(chunk)) * order.config.lanes + lane
    return slots


def shuffle_quality(order: EpochOrder) -> ShuffleQuality:
    """Measure an epoch's order."""
    slots = epoch_positions(order)
    count = len(slots)
    ranks = np.empty(count)
    ranks[np.argsort(slots)] = np.arange(count)
    place, position = np.arange(count) / count, ranks / count
    batch = slots // order.config.batch_size
    return ShuffleQuality(
        correlation=float(np.corrcoef(place, position)[0, 1]),
        displacement=float(np.abs(place - position).mean()),
        neighbor_distance=float(np.abs(np.diff(position)).mean()),
        shared_batches=float((batch[1:] == batch[:-1]).mean()),
    )


def kolmogorov_smirnov(positions: npt.ArrayLike) -> float:
    """Return the largest distance of the empirical distribution of positions in [0, 1) from the uniform one.

    Of n uniform positions it is below 1.36 / sqrt(n) 95 times in 100 (n large).
    """
    values: FloatArray = np.sort(np.asarray(positions, dtype=np.float64))
    steps = np.arange(len(values) + 1) / len(values)
    return float(max((steps[1:] - values).max(), (values - steps[:-1]).max()))
