"""How much work the chunks of a plan are, and which of them a task reads.

Tasks are sized by pixels: a photograph of 12 megapixels takes as long as some hundred small ones. Ray looks ten times a
second for tasks that are done, so that each is to have some work; one that has minutes of it would be the last that
others wait for, and lose as much where its machine goes. Plans of more than 4,096 such tasks have longer ones.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

__all__ = ["FloatArray", "chunk_seconds", "pair_seconds", "task_starts"]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

_MIN_SECONDS, _MAX_SECONDS = 0.05, 10.0
"""Bounds of the work in a task, which costs some 0.14 s of a core besides."""
_MAX_TASKS = 4096

_SECONDS_A_SAMPLE, _SECONDS_A_PIXEL = 1e-4, 5e-9
"""Time of one core for JPEGs of a local folder; what stays encoded is decoded by what follows."""
_PIXELS_A_BYTE = 4
"""Pixels of a JPEG for each of its bytes, where an index doesn't count them."""


def chunk_seconds(index: pa.Table, chunks: pa.Table) -> FloatArray:
    """Estimate how long one core has work with each chunk.

    Args:
        index: table in `pipelines.datasets.extent.EXTENT_SCHEMA`.
        chunks: its chunks, as `pipelines.datasets.chunking.chunk_table` cuts them.

    Returns:
        Seconds, float64 ``[chunks]``.
    """
    size_bytes = np.maximum(0, index["stop"].to_numpy() - index["start"].to_numpy())
    samples, pixels = index["samples"].to_numpy(), index["pixels"].to_numpy()
    pixels = np.where(pixels > 0, pixels, _PIXELS_A_BYTE * size_bytes)
    lengths = pc.list_value_length(chunks["runs"]).to_numpy()
    seconds: FloatArray = samples * _SECONDS_A_SAMPLE + pixels * _SECONDS_A_PIXEL
    return np.add.reduceat(seconds, np.cumsum(lengths) - lengths)


def pair_seconds(pairs: pa.Table, a: FloatArray, b: FloatArray) -> FloatArray:
    """Estimate how long one core has work with each row of `pipelines.ray_data.pairs.PAIR_SCHEMA`.

    Args:
        pairs: plan of two domains.
        a, b: seconds of the chunks of both.

    Returns:
        Seconds, float64 ``[rows]``. A chunk of the smaller domain counts in each row that has a part of it.
    """
    large, small = (b, a) if pairs["swapped"][0].as_py() else (a, b)
    beside = pairs["small"].combine_chunks()
    counts = beside.value_lengths().to_numpy()
    ordinals = pc.struct_field(beside.flatten(), ["chunk", "ordinal"]).to_numpy()
    own = pc.struct_field(pairs["large"], ["chunk", "ordinal"]).to_numpy()
    seconds: FloatArray = large[own] + np.add.reduceat(small[ordinals], np.cumsum(counts) - counts)
    return seconds


def task_starts(seconds: FloatArray, tasks: int) -> IntArray:
    """Return the rows of a plan at which tasks begin: as many as wanted, of about the same work, each worth its start.

    Args:
        seconds: work of each row.
        tasks: number of tasks that is wanted, which long plans have more of, and short ones fewer.

    Returns:
        Rows, int64, the first of which is 0.
    """
    total = float(seconds.sum())
    each = max(total / _MAX_TASKS, min(_MAX_SECONDS, max(_MIN_SECONDS, total / tasks)))
    task = ((np.cumsum(seconds) - seconds / 2) / each).astype(np.int64)  # the one that has the middle of a row
    return np.flatnonzero(np.diff(task, prepend=-1))
