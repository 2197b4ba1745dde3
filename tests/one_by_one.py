"""Chunks cut one object at a time: what the plans in columns are compared with."""

from collections.abc import Iterable, Iterator
from typing import Any

from pipelines.datasets.chunk import Chunk, ChunkLimits, ExtentPart, FilePart
from pipelines.datasets.chunking import chunk_name
from pipelines.datasets.extent import Extent
from pipelines.storage.backend import Entry

__all__ = ["chunks_from_extents", "chunks_from_files"]


def chunks_from_extents(runs: Iterable[Extent], limits: ChunkLimits) -> Iterator[Chunk]:
    """Merge consecutive runs of a shard into chunks, in the order given."""
    for first, ordinal, group in _grouped(runs, limits, lambda r: (r.shard, r.samples, r.stop - r.start)):
        parts = tuple(ExtentPart(run.start, run.stop, run.samples, run.sha256) for run in group)
        samples = sum(part.samples for part in parts)
        content = [part.sha256 or f"{part.start}:{part.stop}" for part in parts]
        yield Chunk(
            ordinal=ordinal,
            name=chunk_name(ordinal, [group[0].shard, *content]),
            shard=group[0].shard,
            samples=samples,
            first_sample=first,
            runs=parts,
        )


def chunks_from_files(entries: Iterable[Entry], limits: ChunkLimits) -> Iterator[Chunk]:
    """Cut a sorted listing of loose files, each one sample, into chunks."""
    for first, ordinal, group in _grouped(entries, limits, lambda e: (None, 1, e.size_bytes)):
        files = tuple(FilePart(entry.name, entry.size_bytes) for entry in group)
        yield Chunk(
            ordinal=ordinal,
            name=chunk_name(ordinal, [f"{file.name}:{file.size_bytes}" for file in files]),
            shard=None,
            samples=len(files),
            first_sample=first,
            files=files,
        )


def _grouped(items: Iterable[Any], limits: ChunkLimits, measure: Any) -> Iterator[tuple[int, int, list[Any]]]:
    group: list[Any] = []
    shard, samples, size, first, ordinal = None, 0, 0, 0, 0
    for item in items:
        its_shard, its_samples, its_bytes = measure(item)
        full = samples + its_samples > limits.samples or size + its_bytes > limits.size_bytes
        if group and (full or its_shard != shard):
            yield first, ordinal, group
            group, first, ordinal, samples, size = [], first + samples, ordinal + 1, 0, 0
        group.append(item)
        shard, samples, size = its_shard, samples + its_samples, size + its_bytes
    if group:
        yield first, ordinal, group
