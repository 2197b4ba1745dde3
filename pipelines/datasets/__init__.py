"""Datasets on disk: shards with a manifest and an index, the archives that jobs read, and the chunks of both.

opening.py         ``open_dataset`` and ``open_archive``, each called once a job
shard_names.py     how shards are named: names, braces, globs, lists
manifest.py        ``Dataset`` and its manifest
extent.py          samples that one checksum covers, a row of the index each
tar.py             tars: a writer, and a reader that trusts nothing
scan.py            one look at a tar: its runs, checksums and faults
chunk.py           chunks, and how one is read
chunking.py        indexes and listings cut into chunks, in columns
parquet.py         images in a column of a Parquet file
row_filter.py      conditions of `--where`
validation.py      everything that can be wrong with a shard
contact_sheet.py   some samples as one image
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from condgen.doors import lazy_names

if TYPE_CHECKING:
    from pipelines.datasets.chunk import Chunk, ChunkLimits, Sample, image_member, iter_chunks, read_chunk, sample_facts
    from pipelines.datasets.chunking import chunk_table
    from pipelines.datasets.manifest import Dataset, Manifest, ShardInfo
    from pipelines.datasets.opening import Archive, open_archive, open_dataset
    from pipelines.datasets.tar import TarWriter
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "chunk": ["Chunk", "ChunkLimits", "Sample", "image_member", "iter_chunks", "read_chunk", "sample_facts"],
            "chunking": ["chunk_table"],
            "manifest": ["Dataset", "Manifest", "ShardInfo"],
            "opening": ["Archive", "open_archive", "open_dataset"],
            "tar": ["TarWriter"],
        },
    )

__all__ = [
    "Archive",
    "Chunk",
    "ChunkLimits",
    "Dataset",
    "Manifest",
    "Sample",
    "ShardInfo",
    "TarWriter",
    "chunk_table",
    "image_member",
    "iter_chunks",
    "open_archive",
    "open_dataset",
    "read_chunk",
    "sample_facts",
]
