"""Datasets that are read in their consumer's own process, by threads, where Ray's tasks would cost more than they do.

A task's start, the scheduling loop's first second and the way through the object store cost more than reading encoded
images, and on a small machine as much as decoding small ones. What is iterated just as it was read (`iter_batches`,
`iter_rows`, `iter_torch_batches`, `take_all`) needs none of it: threads read the chunks, a few ahead, and the batches
are made of their blocks, in the order of the plan. Reading, checking and decoding leave Python's lock to others.

Everything else that is done with a `LocalDataset` (transforms, writing, splitting) makes an ordinary dataset, of tasks.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import pyarrow as pa
import ray.data
from ray.data._internal.block_batching.interfaces import ResolvedBlock
from ray.data._internal.block_batching.iter_batches import BatchIterator
from ray.data._internal.iterator.iterator_impl import DataIteratorImpl

from pipelines.datasets.chunk import Sample
from pipelines.ray_data.operator import ChunkReader, Work

__all__ = ["LocalDataset", "LocalPlan", "read_here"]

T = TypeVar("T")
S = TypeVar("S")

_AHEAD = 2
_FIRST_AHEAD = 2
_GROUP_BYTES = 4 << 20

if not all(
    hasattr(*name) for name in ((DataIteratorImpl, "_create_batch_iterator"), (BatchIterator, "_prefetch_blocks"))
):
    raise ImportError("this version of Ray makes its batches in another way")  # its own tasks read then


@dataclass(frozen=True)
class LocalPlan:
    """What is read here, and how.

    Attributes:
        chunks: rows of the plan.
        reader: operator that makes blocks of them.
        readers: number of threads that read chunks.
        decoders: number of threads that make blocks of their samples.
    """

    chunks: pa.Table
    reader: ChunkReader
    readers: int
    decoders: int

    def blocks(self, batch_size: int | None) -> Iterator[pa.Table]:
        """Yield the blocks of samples in the order of the plan; they are read and decoded a few ahead.

        Args:
            batch_size: number of rows of the batches that will be made of them. Blocks end where batches do, as cutting
                and joining them would copy every image.

        Raises:
            What the reader raises of a chunk, in its place.
        """
        reading = ThreadPoolExecutor(self.readers, thread_name_prefix="read")
        decoding = ThreadPoolExecutor(self.decoders, thread_name_prefix="decode")
        chunks = (self.chunks.slice(row, 1) for row in range(self.chunks.num_rows))
        try:
            works: Iterator[Work] = itertools.chain.from_iterable(
                _ahead(reading, self._read, chunks, self.readers + _AHEAD)
            )
            if self.reader.tally is None and batch_size:  # a tally is told of whole chunks
                works = ((group, []) for group in _groups(works, batch_size))
            made: Iterator[list[pa.Table]] = map(self._decode, works)
            if not self.reader.decode.encoded:
                made = _ahead(decoding, self._decode, works, self.decoders + _AHEAD)
            for blocks in made:
                yield from blocks
        finally:
            for pool in (decoding, reading):
                pool.shutdown(wait=False, cancel_futures=True)

    def _read(self, chunk: pa.Table) -> list[Work]:
        return list(self.reader.work(chunk))

    def _decode(self, work: Work) -> list[pa.Table]:
        return list(self.reader.blocks([work], len(work[0])))


def _ahead(pool: ThreadPoolExecutor, function: Callable[[S], T], items: Iterable[S], depth: int) -> Iterator[T]:
    """Yield what a function makes of each item, in their order; a pool makes `depth` of them ahead.

    It begins with few, so that the first is there soon: it would share the network with all that are asked for at once.
    """
    pending: deque[Future[T]] = deque()
    ahead = _FIRST_AHEAD
    for item in items:
        pending.append(pool.submit(function, item))
        if len(pending) > min(ahead, depth):
            ahead += _FIRST_AHEAD
            yield pending.popleft().result()
    while pending:
        yield pending.popleft().result()


def _groups(works: Iterable[Work], batch_size: int) -> Iterator[list[tuple[Sample, ...]]]:
    """Yield the samples of chunks in groups that end where batches do; large samples, in groups of few."""
    group: list[tuple[Sample, ...]] = []
    size_bytes = 0
    records = itertools.chain.from_iterable(records for records, _ in works)
    for count, record in enumerate(records, 1):
        group.append(record)
        for sample in record:
            size_bytes += sum(map(len, sample.members.values()))
        if count % batch_size == 0 or size_bytes >= _GROUP_BYTES:
            yield group
            group, size_bytes = [], 0
    if group:
        yield group


class LocalDataset(ray.data.Dataset):
    """A dataset of `pipelines.ray_data.reading` that its iterators read without tasks."""

    plan_here: LocalPlan

    def iterator(self) -> ray.data.DataIterator:
        """Return what Ray's own methods iterate with."""
        return _LocalIterator(self, self.plan_here)


def read_here(dataset: ray.data.Dataset, plan: LocalPlan) -> LocalDataset:
    """Return a dataset of tasks as one that is read here where it is iterated as it is."""
    # As Ray's own methods make a dataset of another.
    here = cast("LocalDataset", LocalDataset._from_parent(dataset, dataset._logical_plan))  # noqa: SLF001
    here.plan_here = plan
    return here


class _LocalIterator(DataIteratorImpl):
    def __init__(self, dataset: LocalDataset, plan: LocalPlan) -> None:
        super().__init__(dataset)
        self._plan = plan

    def _to_ref_bundle_iterator(self) -> tuple[Any, None, None]:
        return None, None, None  # nothing is executed

    def _create_batch_iterator(self, *_references: Any, **options: Any) -> BatchIterator:
        blocks = self._plan.blocks(options["batch_size"])
        return _LocalBatches(blocks, **(options | {"preserve_order": True}))


class _LocalBatches(BatchIterator):
    """Ray's batches, shuffling and formats, of blocks that are at hand in the place of references to blocks."""

    def _prefetch_blocks(self, ref_bundles: Any) -> Any:
        return ref_bundles

    def _resolve_block_refs(self, block_refs: Any) -> Any:
        return map(ResolvedBlock, block_refs)
