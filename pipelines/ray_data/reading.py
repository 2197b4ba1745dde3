"""Datasets as ordinary `ray.data.Dataset`s: rows of samples with decoded images.

    read_single("s3://bucket/photos", split="train", decode=Decode(size_px=256))

Plan first: the rows that Ray Data sees first are chunks (shard, byte range, samples, checksums), and its first operator
makes of each by one range request, with retries and verification, a few blocks of samples. A task holds one chunk's
encoded bytes and one block; no tar is held whole. What follows is the user's: `pipelines.ray_data.transforms` or any
method of a Dataset. Rows come in the order of the plan where `ds.context.execution_options.preserve_order` is set.
Where the dataset is iterated as it is, threads of the consumer may read it without tasks (`pipelines.ray_data.local`).

Columns: `source` and `key` (a sample's identity, strings), `image` (single) or `input` and `target` (pairs), uint8
`[H, W, 3]` sRGB or the encoded bytes, `json` (the text of the sample's `json` member, empty where it has none), one
column for each of `Decode.fields`, and `error` where bad samples are rows.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast
from weakref import WeakKeyDictionary

import pyarrow as pa

from condgen.errors import DatasetError
from pipelines.cluster.starting import usable_cpus
from pipelines.datasets.chunk import ChunkLimits
from pipelines.datasets.chunking import chunk_table
from pipelines.datasets.manifest import Dataset
from pipelines.datasets.opening import open_dataset
from pipelines.ray_data.counters import Tally
from pipelines.ray_data.operator import BLOCK_BYTES, ChunkReader, Decode, Domain
from pipelines.ray_data.pairs import pair_table
from pipelines.ray_data.tasks import FloatArray, chunk_seconds, pair_seconds, task_starts
from pipelines.storage.cache import ChunkCache, cached
from pipelines.storage.local import LocalBackend
from pipelines.storage.store import Store

if TYPE_CHECKING:
    import ray.data

__all__ = ["Decode", "known_samples", "note_samples", "read_paired", "read_single", "read_unpaired"]

_FEWEST_TASKS, _TASKS_A_CPU = 8, 4
_LOCAL_CPUS = 4
"""CPUs that threads of one process keep busy with decoding: an image of 256 px holds Python's lock for some 130 µs."""
_REMOTE_READERS = 8
"""Threads that wait for chunks of another machine."""
_DECODE = Decode()
_LIMITS = ChunkLimits(samples=256, size_bytes=4 << 20)

_planned: WeakKeyDictionary[Any, int] = WeakKeyDictionary()


def read_single(
    uri: str | Store | Dataset,
    *,
    split: str | None = None,
    member: str | None = None,
    decode: Decode = _DECODE,
    limits: ChunkLimits = _LIMITS,
    cache: ChunkCache | None = None,
    tally: Tally | None = None,
    num_cpus: float = 1.0,
) -> ray.data.Dataset:
    """Read a dataset of single images: rows with `image`.

    Args:
        uri: dataset, as `pipelines.open_dataset` takes it.
        split: split of the dataset (default: all of it).
        member: member of a sample that is the image (default: its only image).
        decode: options by which samples become rows.
        limits: bounds of a chunk, and so of what a task reads at once.
        cache: cache of chunks on this machine (default: none).
        tally: tally that counts what was read and what was skipped (default: none).
        num_cpus: CPUs that a reading task is counted as (default: 1).

    Raises:
        DatasetError: there is no such dataset or split, or nothing is in it.
        MissingError, AccessError, StorageError: as in `pipelines.storage.store`.
    """
    dataset = open_dataset(uri)
    reader = ChunkReader((_domain(dataset, cache, [("image", member)]),), decode, tally)
    return _dataset(*_plan(dataset, split, limits), reader, num_cpus)


def read_paired(
    uri: str | Store | Dataset,
    *,
    split: str | None = None,
    members: tuple[str, str] = ("input", "target"),
    decode: Decode = _DECODE,
    limits: ChunkLimits = _LIMITS,
    cache: ChunkCache | None = None,
    tally: Tally | None = None,
    num_cpus: float = 1.0,
) -> ray.data.Dataset:
    """Read a dataset of pairs: rows with `input` and `target`. A pair of which one can't be decoded is a bad sample.

    Args:
        members: names of the two in the shards (default: `input` and `target`).
        uri, split, decode, limits, cache, tally, num_cpus: the same as of `read_single`.

    Raises:
        As `read_single`.
    """
    dataset = open_dataset(uri)
    domain = _domain(dataset, cache, [("input", members[0]), ("target", members[1])])
    return _dataset(*_plan(dataset, split, limits), ChunkReader((domain,), decode, tally), num_cpus)


def read_unpaired(
    a: str | Store | Dataset,
    b: str | Store | Dataset,
    *,
    splits: tuple[str | None, str | None] = (None, None),
    seed: int = 0,
    epoch: int = 0,
    decode: Decode = _DECODE,
    limits: ChunkLimits = _LIMITS,
    cache: ChunkCache | None = None,
    tally: Tally | None = None,
    num_cpus: float = 1.0,
) -> ray.data.Dataset:
    """Read two domains side by side: rows with `input` from `a` and `target` from `b`, each drawn independently.

    An epoch has as many rows as the larger domain has samples, each of which comes once; the smaller one cycles. Both
    are shuffled by a permutation of their own of chunks, and of samples within each chunk. `source` and `key` are those
    of the input, `target_source` and `target_key` those of the target; `json` and fields are the input's.

    Args:
        a, b: datasets, as `pipelines.open_dataset` takes them.
        splits: splits of `a` and of `b` (default: all of both).
        seed, epoch: numbers that fix the permutations.
        decode, limits, cache, tally, num_cpus: the same as of `read_single`.

    Raises:
        As `read_single`.
    """
    opened = open_dataset(a), open_dataset(b)
    plans, seconds = zip(
        *(_plan(dataset, split, limits) for dataset, split in zip(opened, splits, strict=True)), strict=True
    )
    domains = tuple(
        _domain(dataset, cache, [(name, None)]) for name, dataset in zip(("input", "target"), opened, strict=True)
    )
    pairs = pair_table(*plans, seed=seed, epoch=epoch)
    return _dataset(pairs, pair_seconds(pairs, *seconds), ChunkReader(domains, decode, tally), num_cpus)


def known_samples(dataset: ray.data.Dataset) -> int | None:
    """Return how many samples a dataset of this module has, bad ones too; None for others."""
    return _planned.get(dataset)


def note_samples(dataset: ray.data.Dataset, samples: int | None) -> ray.data.Dataset:
    """Remember how many samples a dataset has, for those that are made from it row by row."""
    if samples is not None:
        _planned[dataset] = samples
    return dataset


def _domain(dataset: Dataset, cache: ChunkCache | None, columns: Sequence[tuple[str, str | None]]) -> Domain:
    store = cached(dataset.store, cache, dataset.manifest.digest)
    return Domain(store, dataset.manifest.member_names, tuple(columns))


def _plan(dataset: Dataset, split: str | None, limits: ChunkLimits) -> tuple[pa.Table, FloatArray]:
    """Return the chunks to read, and the seconds that each takes."""
    index = dataset.table(split)
    table = chunk_table(index, limits)
    if table.num_rows == 0:
        raise DatasetError(f"{dataset.uri} has no samples{f' of split {split!r}' if split else ''}")
    return table, chunk_seconds(index, table)


def _dataset(plan: pa.Table, seconds: FloatArray, reader: ChunkReader, num_cpus: float) -> ray.data.Dataset:
    import ray
    import ray.data

    samples = int(plan["samples"].to_numpy().sum())
    cpus = cast("Any", ray).cluster_resources().get("CPU", 0) if ray.is_initialized() else 0
    starts = [*task_starts(seconds, max(_FEWEST_TASKS, _TASKS_A_CPU * int(cpus))).tolist(), plan.num_rows]
    blocks = [plan.slice(at, end - at).combine_chunks() for at, end in itertools.pairwise(starts)]
    chunks = ray.data.from_blocks(blocks)
    # What a task raises on purpose reaches the user as it is.
    chunks.context.raise_original_map_exception = True
    chunks.context.max_errored_blocks = 0
    # Blocks leave a task as they are: Ray would copy several together, up to 128 MiB.
    chunks.context.target_max_block_size = BLOCK_BYTES
    dataset = chunks.map_batches(
        cast("Any", reader), batch_size=None, batch_format="pyarrow", zero_copy_batch=True, num_cpus=num_cpus
    )
    if _is_read_here(reader.decode):
        is_local = all(isinstance(domain.store.backend, LocalBackend) for domain in reader.domains)
        readers = usable_cpus() if is_local else _REMOTE_READERS
        with suppress(ImportError):  # a version of Ray that this does not know
            from pipelines.ray_data.local import LocalPlan, read_here

            dataset = read_here(dataset, LocalPlan(plan, reader, readers, usable_cpus()))
    return note_samples(dataset, samples)


def _is_read_here(decode: Decode) -> bool:
    """Return whether threads of this process read as fast as tasks of the cluster could."""
    import ray

    if decode.encoded:
        return True
    cpus = cast("Any", ray).cluster_resources().get("CPU", 0)
    is_driver = cast("Any", ray).get_runtime_context().worker.mode == cast("Any", ray).SCRIPT_MODE
    return bool(is_driver and cpus <= min(_LOCAL_CPUS, usable_cpus()))
