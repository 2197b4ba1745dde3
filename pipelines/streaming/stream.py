"""A training run's stream of batches: chunks read and decoded by Ray Data, merged by each worker in the epoch's order.

    order.reads ──> small Ray Datasets ──map──> decoded chunks, in order ──> merge by lanes ──> StreamBatch, ...

Each worker has a stream of its own share (`pipelines.streaming.epoch_order`). The chunks that it will need, epoch after
epoch, are rows of small Ray Datasets ("segments"), opened one ahead; their blocks are groups of chunks, so that a task
does work worth its start (a task costs the driver and the scheduler some 10 ms). A task reads each chunk by one range
request, checks it, decodes, crops, and gives one row a chunk. The worker takes rows as its batches need them, holding
at most two windows a lane; Ray's backpressure bounds what is decoded ahead.

`streaming_split`, which Ray Train uses by default, is not used: it drops rows to make shares equal, and its shares
depend on timing. A dataset made in the worker gets what is left of the cluster by Ray's own coordinator, with which Ray
Train registers its workers.
"""

from __future__ import annotations

import itertools
import logging
import math
from collections.abc import Callable, Generator, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from condgen.errors import DatasetError, ImageError
from pipelines.cluster.errors import unwrap
from pipelines.datasets.chunk import ERRORS_SCHEMA, Chunk, Sample, image_member, read_chunk
from pipelines.images.decoding import decode
from pipelines.storage.store import Store
from pipelines.streaming.aging import Aging, draw_aging
from pipelines.streaming.augmentation import Augmentation, draw_crop
from pipelines.streaming.epoch_order import EpochOrder, OrderConfig, StreamPosition, check_workers
from pipelines.streaming.labels import LabelReader
from pipelines.streaming.pacing import PacedLoop

__all__ = ["StreamBatch", "StreamConfig", "TrainingStream", "load_block"]

T = TypeVar("T")
logger = logging.getLogger(__name__)

_BLOCK_SAMPLES = 128
_BLOCK_BYTES = 32 << 20
_SEGMENT_BLOCKS = 128
_AHEAD_BLOCKS = 8
_FAULTS_LOGGED = 10

_DECODED_SCHEMA = pa.schema(
    [
        ("epoch", pa.int64()),
        ("chunk", pa.int64()),
        ("rgb", pa.large_binary()),  # [n, *image_shape] uint8
        ("labels", pa.binary()),  # [n, words.width] int64
        ("weight", pa.binary()),  # [n] uint8, 0 where a sample could not be decoded
        ("faults", pa.list_(pa.struct(list(ERRORS_SCHEMA)))),
    ]
)


@dataclass(frozen=True, kw_only=True)
class StreamConfig:
    """A plan of a run's stream: all that decides it.

    Attributes:
        store: store of the dataset.
        chunks: chunks in `pipelines.datasets.chunk.CHUNK_SCHEMA`; a chunk's row is its number in the order.
        digest: digest of the dataset, kept with positions.
        order: lanes, windows, batch size and seed.
        augmentation: options by which an image becomes a square.
        members: P members of a sample that are its images, such as ``("input", "target")``, which are cropped and
            mirrored alike; None is the only image that it has.
        member_names: names of members, as in the dataset's manifest.
        words: words that are read of a sample besides its images.
        aging: options by which a sample's only image gets an aged grey image as a fourth channel (default: none).
    """

    store: Store
    chunks: pa.Table
    digest: str
    order: OrderConfig
    augmentation: Augmentation
    members: tuple[str | None, ...] = (None,)
    member_names: Mapping[str, str] = field(default_factory=dict)
    words: LabelReader = field(default_factory=LabelReader)
    aging: Aging | None = None

    @property
    def image_shape(self) -> tuple[int, ...]:
        """Shape of a sample's images: ``(S, S, 3)``, ``(S, S, 4)`` with aging, or ``(P, S, S, 3)`` of several."""
        size = self.augmentation.size_px
        if self.aging is not None:
            return (size, size, 4)
        return (size, size, 3) if len(self.members) == 1 else (len(self.members), size, size, 3)

    def epoch(self, number: int) -> EpochOrder:
        """Return the order of an epoch."""
        return EpochOrder(self.chunks["samples"].to_numpy(), self.order, number)


@dataclass(frozen=True, kw_only=True)
class StreamBatch:
    """A worker's share of one global batch: B = batch_size / workers where that is whole, else about as much.

    Attributes:
        rgb: ``[B, S, S, 3]`` uint8, sRGB, or ``[B, P, S, S, 3]`` of P members; zeros where the weight is 0. With
            aging ``[B, S, S, 4]``: sRGB and the aged grey code, which is 0 all over where a sample is not aged.
        labels: ``[B, words.width]`` int64: the label, where the plan has one, then the text's tokens.
        weight: ``[B]`` float32, 1, or 0 for padding and samples that could not be decoded.
        faults: number of samples that could not be decoded.
        after: position to save when this batch has been trained on.
        reason: why the first such sample of this worker could not be decoded; empty before there is one.
    """

    rgb: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64]
    weight: npt.NDArray[np.float32]
    faults: int
    after: StreamPosition
    reason: str = ""


@dataclass
class _Held:
    """A decoded chunk in the worker; `left` counts its samples that are still to be given."""

    rgb: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64]
    weight: npt.NDArray[np.uint8]
    left: int


def load_block(block: pa.Table, *, plan: StreamConfig) -> pa.Table:
    """Read, check, decode and augment the chunks of a block; this is the task of Ray Data.

    Args:
        block: some of the plan's chunks, with a column `epoch`.
        plan: plan of the run, without its chunks.

    Returns:
        One row a chunk: epoch, chunk (its ordinal), rgb ``[n, *image_shape]`` uint8, weight ``[n]`` uint8, faults.

    Raises:
        StorageError: a chunk could not be read, after retries.
    """
    rows = []
    for row in block.to_pylist():
        chunk, epoch = Chunk.from_row(row), row["epoch"]
        samples = read_chunk(plan.store, chunk, plan.member_names)
        rgb = np.zeros((len(samples), *plan.image_shape), dtype=np.uint8)
        labels = np.zeros((len(samples), plan.words.width), dtype=np.int64)
        weight = np.zeros(len(samples), dtype=np.uint8)
        faults = []
        for place, sample in enumerate(samples):
            try:
                labels[place] = plan.words.of(sample)
                rgb[place] = _squares(sample, plan, epoch)
                weight[place] = 1
            except ImageError as error:
                where = {"source": sample.source, "key": sample.key}
                faults.append(where | {"stage": error.stage, "error": error.error, "message": error.detail})
        arrays: dict[str, npt.NDArray[Any]] = {"rgb": rgb, "labels": labels, "weight": weight}
        decoded = {name: array.tobytes() for name, array in arrays.items()} | {"faults": faults}
        rows.append({"epoch": epoch, "chunk": chunk.ordinal} | decoded)
    return pa.Table.from_pylist(rows, schema=_DECODED_SCHEMA)


def _squares(sample: Sample, plan: StreamConfig, epoch: int) -> npt.NDArray[np.uint8]:
    """Return a sample's images, all cut by the same crop, in ``image_shape``.

    Raises:
        ImageError: an image can't be read, or the shapes of several differ, so that no crop takes the same part.
    """
    crop = draw_crop(plan.augmentation, seed=plan.order.seed, epoch=epoch, source=sample.source, key=sample.key)
    size_px = plan.augmentation.size_px
    images = [decode(image_member(sample, member), min_size_px=crop.decode_px(size_px)) for member in plan.members]
    first = images[0].shape
    for other in (image.shape for image in images[1:]):
        # JPEGs of one shape may be decoded at several scales, and rounded.
        if abs(first[0] * other[1] - first[1] * other[0]) > first[0] + first[1] + other[0] + other[1]:
            shapes = " and ".join(f"{image.shape[1]}x{image.shape[0]}" for image in images)
            raise ImageError("augment", "PairShapes", f"images of a pair have several shapes: {shapes}")
    squares = [crop.apply(image, size_px) for image in images]
    if plan.aging is not None:
        aged = draw_aging(plan.aging, seed=plan.order.seed, epoch=epoch, source=sample.source, key=sample.key)
        grey = aged.apply(squares[0]) if aged else np.zeros((size_px, size_px), np.uint8)
        return np.dstack([squares[0], grey])
    return np.stack(squares).reshape(plan.image_shape)


class TrainingStream:
    """One worker's batches from a position on, epoch after epoch.

    Args:
        plan: plan of the run.
        start: position of the first batch.
        num_batches: number of batches; no chunk is read that they don't need.
        rank: number of this worker, from 0.
        num_workers: number of workers; each has its share of every batch.
        task_cpus: CPUs that a decoding task is counted as (> 0; default: 1).

    Raises:
        ConfigError: there are more workers than lanes.
    """

    def __init__(
        self,
        plan: StreamConfig,
        start: StreamPosition,
        num_batches: int,
        *,
        rank: int = 0,
        num_workers: int = 1,
        task_cpus: float = 1.0,
    ) -> None:
        check_workers(num_workers, plan.order.lanes)
        self._plan = plan
        self._start, self._num_batches = start, num_batches
        self._rank, self._num_workers = rank, num_workers
        self._task_cpus = task_cpus
        self._faults_logged = 0
        self._reason = ""

    def __iter__(self) -> Iterator[StreamBatch]:
        """Merge the decoded chunks into batches.

        Raises:
            StorageError: a chunk could not be read, after retries.
        """
        with closing(_in_turn(self._segments(), self._open)) as blocks:
            decoded = (row for block in blocks for row in block.to_pylist())
            for order, first, stop in self._epochs():
                yield from self._merge(order, first, stop, decoded)

    def _epochs(self) -> Iterator[tuple[EpochOrder, int, int]]:
        """Yield each epoch's order with its first batch and the one after its last."""
        left, first = self._num_batches, self._start.batch
        for number in itertools.count(self._start.epoch):
            if left <= 0:
                return
            order = self._plan.epoch(number)
            stop = min(order.num_batches, first + left)
            yield order, first, stop
            left -= stop - first
            first = 0

    def _segments(self) -> Iterator[list[pa.Table]]:
        """Yield the rows of the chunks to read, in the order of need, as lists of blocks."""
        sample_bytes = math.prod(self._plan.image_shape)
        target = max(1, min(_BLOCK_SAMPLES, _BLOCK_BYTES // sample_bytes))
        segment: list[pa.Table] = []
        for order, first, stop in self._epochs():
            reads = order.reads(first, self._rank, self._num_workers, stop_batch=stop)
            before = np.cumsum(order.chunk_samples[reads]) - order.chunk_samples[reads]
            for part in np.split(reads, np.flatnonzero(np.diff(before // target)) + 1):
                epoch = pa.array(np.full(len(part), order.epoch, dtype=np.int64))
                segment.append(self._plan.chunks.take(pa.array(part)).append_column("epoch", epoch))
                if len(segment) == _SEGMENT_BLOCKS:
                    yield segment
                    segment = []
        if segment:
            yield segment

    def _open(self, blocks: list[pa.Table]) -> Iterator[pa.Table]:
        """Start a Ray Dataset of these blocks; its decoded blocks come in the same order."""
        import ray.data

        dataset = ray.data.from_blocks(blocks).map_batches(  # from_arrow has a task a block, of a whole CPU
            cast("Any", load_block),
            batch_size=None,
            batch_format="pyarrow",
            num_cpus=self._task_cpus,
            # Not a slice of no rows, of which Arrow pickles all that it was cut from.
            fn_kwargs={"plan": replace(self._plan, chunks=self._plan.chunks.schema.empty_table())},
        )
        context = dataset.context
        context.execution_options.preserve_order = True
        context.enable_progress_bars = False
        context.print_on_execution_start = False
        context.max_errored_blocks = 0
        context.raise_original_map_exception = True
        context.custom_execution_callback_classes = [cast("Any", PacedLoop)]
        try:
            yield from dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=2)
        except Exception as error:  # noqa: BLE001 - what a task raised comes in wrappers of several kinds
            raise unwrap(error) or error from None

    def _merge(
        self, order: EpochOrder, first: int, stop: int, decoded: Iterator[dict[str, Any]]
    ) -> Iterator[StreamBatch]:
        held: dict[int, _Held] = {}
        given = order.given(first)
        shares = order.batches(first, self._rank, self._num_workers)
        for number, (chunks, indexes) in zip(range(first, stop), shares, strict=False):
            rows = max(1, len(chunks))  # an empty share is a row of padding: every worker takes part in every step
            rgb = np.zeros((rows, *self._plan.image_shape), dtype=np.uint8)
            labels = np.zeros((rows, self._plan.words.width), dtype=np.int64)
            weight = np.zeros(rows, dtype=np.float32)
            for place, (chunk, index) in enumerate(zip(chunks.tolist(), indexes.tolist(), strict=True)):
                if chunk < 0:
                    continue
                while chunk not in held:
                    row = next(decoded, None)
                    if row is None:
                        raise DatasetError(f"the stream ended before chunk {chunk} of epoch {order.epoch}")
                    held[row["chunk"]] = self._receive(row, given.get(row["chunk"], 0))
                source = held[chunk]
                rgb[place], labels[place] = source.rgb[index], source.labels[index]
                weight[place] = source.weight[index]
                source.left -= 1
                if source.left == 0:
                    del held[chunk]
            ends = number + 1 == order.num_batches
            after = StreamPosition(epoch=order.epoch + ends, batch=0 if ends else number + 1)
            faults = int(np.count_nonzero(chunks >= 0) - weight.sum())
            yield StreamBatch(rgb=rgb, labels=labels, weight=weight, faults=faults, after=after, reason=self._reason)

    def _receive(self, row: dict[str, Any], given: int) -> _Held:
        for fault in row["faults"]:
            self._reason = self._reason or "{source} {key}: {stage}: {error}: {message}".format(**fault)
            self._faults_logged += 1
            if self._faults_logged <= _FAULTS_LOGGED:
                logger.warning("%(source)s %(key)s is left out: %(stage)s: %(error)s: %(message)s", fault)
        weight = np.frombuffer(row["weight"], dtype=np.uint8)
        rgb = np.frombuffer(row["rgb"], dtype=np.uint8).reshape(-1, *self._plan.image_shape)
        labels = np.frombuffer(row["labels"], dtype=np.int64).reshape(len(weight), -1)
        return _Held(rgb=rgb, labels=labels, weight=weight, left=len(weight) - given)


def _in_turn(
    segments: Iterator[list[pa.Table]], start: Callable[[list[pa.Table]], Iterator[pa.Table]]
) -> Generator[pa.Table, None, None]:
    """Yield the blocks of one segment after the other; the next segment starts before the one in use ends."""

    def begin(segment: list[pa.Table]) -> tuple[int, Iterator[pa.Table]]:
        blocks = start(segment)
        return len(segment), itertools.chain([next(blocks)], blocks)

    starter = ThreadPoolExecutor(1, thread_name_prefix="segments")
    try:
        upcoming = [starter.submit(begin, segment) for segment in itertools.islice(segments, 1)]
        while upcoming:
            count, blocks = upcoming.pop().result()
            for place, block in enumerate(blocks):
                if place >= count - _AHEAD_BLOCKS and not upcoming:
                    upcoming = [starter.submit(begin, segment) for segment in itertools.islice(segments, 1)]
                yield block
    finally:
        starter.shutdown(wait=False, cancel_futures=True)
