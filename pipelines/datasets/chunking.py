"""How archives are cut into chunks: runs of shards, loose files, and whole datasets in columns.

In columns, a million chunks take seconds and no object each. An index is cut piece by piece.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.datasets.chunk import CHUNK_SCHEMA, ChunkLimits
from pipelines.datasets.extent import EXTENT_SCHEMA

__all__ = ["chunk_name", "chunk_table", "cut_chunks", "file_table", "shard_segments"]

_NAMED_AT_ONCE = 1 << 16
_FILES_AT_ONCE = 1 << 20


def chunk_name(ordinal: int, content: Sequence[str]) -> str:
    """Return a chunk's name: its place in the plan, and a digest of what it consists of."""
    digest = hashlib.sha256("\n".join(content).encode()).hexdigest()
    return f"{ordinal:08d}-{digest[:12]}"


def chunk_table(index: pa.Table, limits: ChunkLimits) -> pa.Table:
    """Cut a dataset's index into chunks: consecutive runs of a shard, as many as the limits allow.

    Args:
        index: table in `pipelines.datasets.extent.EXTENT_SCHEMA`, in the order of the shards.
        limits: bounds of a chunk.

    Returns:
        A table in `CHUNK_SCHEMA`.
    """
    return pa.concat_tables([CHUNK_SCHEMA.empty_table(), *cut_chunks([index], limits)]).combine_chunks()


def cut_chunks(pieces: Iterable[pa.Table], limits: ChunkLimits) -> Iterator[pa.Table]:
    """Cut a dataset's index into chunks as `chunk_table` does, piece by piece.

    Args:
        pieces: index, as tables of any length one after the other.
        limits: bounds of a chunk.

    Yields:
        Tables in `CHUNK_SCHEMA`, which together are that of `chunk_table`.
    """
    open_chunk, ordinal, first_sample = EXTENT_SCHEMA.empty_table(), 0, 0
    for piece in itertools.chain(pieces, [None]):
        index = pa.concat_tables([open_chunk, piece]) if piece is not None else open_chunk
        if index.num_rows == 0:
            continue
        index = index.combine_chunks()
        firsts, ends = _first_extents(index, limits)
        if piece is not None:  # the last chunk may go on in the next piece
            firsts, ends = firsts[:-1], firsts[1:]
            open_chunk = index.slice(int(ends[-1]) if len(ends) else 0)
        if len(firsts):
            table = _extents_table(index.slice(0, int(ends[-1])), firsts, ordinal, first_sample)
            yield table
            ordinal += table.num_rows
            first_sample += int(pc.sum(table["samples"]).as_py())


def _first_extents(index: pa.Table, limits: ChunkLimits) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return where chunks begin and end in an index that lies in one piece."""
    samples = index["samples"].to_numpy().astype(np.int64)
    start, stop = index["start"].to_numpy(), index["stop"].to_numpy()
    firsts = _first_runs(_changes(index["shard"].chunk(0)), samples, stop - start, limits)
    return firsts, np.append(firsts[1:], len(samples))


def _extents_table(index: pa.Table, firsts: npt.NDArray[np.int64], ordinal: int, first_sample: int) -> pa.Table:
    """Return the chunks of an index that begin at some of its rows; the ordinal and first sample are of the first."""
    samples = index["samples"].to_numpy().astype(np.int64)
    shard = index["shard"].chunk(0)
    lists = pa.array(np.append(firsts, len(samples)).astype(np.int32))
    run_type = CHUNK_SCHEMA.field("runs").type.value_type
    columns = [index[name].chunk(0).cast(run_type.field(name).type) for name in ("start", "stop", "samples", "sha256")]
    in_chunks = np.add.reduceat(samples, firsts)
    shards = shard.take(pa.array(firsts))
    return pa.Table.from_arrays(
        [
            pa.array(np.arange(ordinal, ordinal + len(firsts), dtype=np.int64)),
            _names(shards, index, firsts, ordinal),
            shards,
            pa.array(in_chunks.astype(np.int32)),
            pa.array(first_sample + np.cumsum(in_chunks) - in_chunks),
            pa.ListArray.from_arrays(lists, pa.StructArray.from_arrays(columns, fields=list(run_type))),
            _nothing("files", len(firsts)),
            *(pa.nulls(len(firsts), CHUNK_SCHEMA.field(name).type) for name in ("rows", "select", "redoes")),
        ],
        schema=CHUNK_SCHEMA,
    )


def shard_segments(shards: pa.Array) -> Iterator[tuple[str, int, int]]:
    """Yield the names of shards, and where (begin, end) each lies in a column of names, one time after the other."""
    begins = np.flatnonzero(_changes(shards))
    names = shards.take(pa.array(begins)).to_pylist()
    return zip(names, begins.tolist(), [*begins[1:].tolist(), len(shards)], strict=True)


def _changes(shards: pa.Array) -> npt.NDArray[np.bool_]:
    """Return where the name of the shard is another than before: a row of text each would be most of the time."""
    changes = np.ones(len(shards), dtype=bool)
    changes[1:] = pc.not_equal(shards.slice(1), shards.slice(0, max(0, len(shards) - 1))).to_numpy(zero_copy_only=False)
    return changes


def file_table(names: pa.ChunkedArray, sizes: npt.NDArray[np.int64], limits: ChunkLimits) -> pa.Table:
    """Cut a listing of loose files, each one sample, into chunks.

    Args:
        names: names of the files, in their order.
        sizes: their sizes (bytes).
        limits: bounds of a chunk.

    Returns:
        A table in `CHUNK_SCHEMA`.
    """
    changes = np.zeros(len(sizes), dtype=bool)
    changes[:1] = True
    firsts = _first_runs(changes, np.ones(len(sizes), dtype=np.int64), sizes, limits)
    stops = np.append(firsts[1:], len(sizes))[: len(firsts)]
    batches, at = [], 0
    while at < len(firsts):
        begin = int(firsts[at])
        end = max(at + 1, int(np.searchsorted(stops, begin + _FILES_AT_ONCE, side="right")))
        stop = int(stops[end - 1])
        part = pa.concat_arrays(names.slice(begin, stop - begin).chunks)
        lists = np.append(firsts[at:end], stop) - begin
        batches.append(_files_batch(at, begin, part, sizes[begin:stop], lists))
        at = end
    return pa.Table.from_batches(batches, CHUNK_SCHEMA)


def _files_batch(
    ordinal: int, first_sample: int, names: pa.StringArray, sizes: npt.NDArray[np.int64], lists: npt.NDArray[np.int64]
) -> pa.RecordBatch:
    """Return chunks of consecutive files; `lists` has the place where each begins, and the end."""
    offsets, size_column = pa.array(lists.astype(np.int32)), pa.array(sizes)
    described = pc.binary_join_element_wise(names, size_column.cast(pa.string()), ":")
    contents = pc.binary_join(pa.ListArray.from_arrays(offsets, described), "\n")
    chunk_names = [
        f"{place:08d}-{hashlib.sha256(content.as_buffer()).hexdigest()[:12]}"
        for place, content in enumerate(contents, ordinal)
    ]
    count = len(chunk_names)
    kind = CHUNK_SCHEMA.field("files").type.value_type
    values = {
        "ordinal": pa.array(np.arange(ordinal, ordinal + count)),
        "name": pa.array(chunk_names, pa.string()),
        "samples": pa.array(np.diff(lists).astype(np.int32)),
        "first_sample": pa.array(first_sample + lists[:-1]),
        "files": pa.ListArray.from_arrays(offsets, pa.StructArray.from_arrays([names, size_column], fields=list(kind))),
        "runs": _nothing("runs", count),
    }
    columns = [values.get(field.name, pa.nulls(count, field.type)) for field in CHUNK_SCHEMA]
    return pa.RecordBatch.from_arrays(columns, schema=CHUNK_SCHEMA)


def _first_runs(
    changes: npt.NDArray[np.bool_], samples: npt.NDArray[np.int64], sizes: npt.NDArray[np.int64], limits: ChunkLimits
) -> npt.NDArray[np.int64]:
    """Return the runs that begin a chunk: those of another shard, or with which the chunk would pass a bound."""
    firsts: list[int] = []
    in_chunk = size = 0
    for place, (is_new, count, size_bytes) in enumerate(
        zip(changes.tolist(), samples.tolist(), sizes.tolist(), strict=True)
    ):
        if is_new or in_chunk + count > limits.samples or size + size_bytes > limits.size_bytes:
            firsts.append(place)
            in_chunk = size = 0
        in_chunk += count
        size += size_bytes
    return np.array(firsts, dtype=np.int64)


def _names(shards: pa.Array, index: pa.Table, firsts: npt.NDArray[np.int64], ordinal: int) -> pa.Array:
    """Return the chunks' names, which are made from their places and contents."""
    lasts = np.append(firsts[1:], index.num_rows)
    names: list[pa.Array] = []
    for at in range(0, len(firsts), _NAMED_AT_ONCE):
        begin, end = int(firsts[at]), int(lasts[min(at + _NAMED_AT_ONCE, len(firsts)) - 1])
        runs = index.slice(begin, end - begin)
        where = zip(runs["start"].to_pylist(), runs["stop"].to_pylist(), strict=True)
        content = [
            sha256 or f"{start}:{stop}" for sha256, (start, stop) in zip(runs["sha256"].to_pylist(), where, strict=True)
        ]
        part = []
        for place, shard in enumerate(shards.slice(at, _NAMED_AT_ONCE).to_pylist(), at):
            text = "\n".join([shard, *content[firsts[place] - begin : lasts[place] - begin]])
            part.append(f"{ordinal + place:08d}-{hashlib.sha256(text.encode()).hexdigest()[:12]}")
        names.append(pa.array(part, pa.string()))
    return pa.concat_arrays(names)


def _nothing(column: str, rows: int) -> pa.ListArray:
    empty = pa.array([], CHUNK_SCHEMA.field(column).type.value_type)
    return pa.ListArray.from_arrays(pa.array(np.zeros(rows + 1, dtype=np.int32)), empty)
