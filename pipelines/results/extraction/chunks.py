"""Images out of some draws files, as files under the archive's own names (`pipelines.results.names` has the rule).

`read_digests` and `extract_chunks` look at some chunks' draws files, so that many run side by side. Files appear whole
or not at all, so that what is there need not be written again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from condgen.errors import DatasetError, MissingError
from pipelines.results.files import draws_name
from pipelines.results.names import Identity, stem_digest, stem_of
from pipelines.storage.parquet import open_parquet
from pipelines.storage.store import Store

__all__ = ["ExtractedChunks", "Extraction", "extract_chunks", "put_image", "read_digests", "read_identities"]

_WHOLE_BYTES = 16 << 20
_SHOWN = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Extraction:
    """What is extracted and how.

    Attributes:
        draws: K, draws of each image.
        draw: number of the draw that is wanted; None for all, whose numbers are then part of their names.
        suffix: extension of the images.
        by_shard: whether images of shards are in folders of their shards.
        is_empty: whether the destination has nothing, so that nothing is looked for there.
        is_ours: whether all that is there is of this same extraction: a file of the right size is left as it is. Else
            its bytes are compared.
        overwrite: whether to write over whatever is there.
    """

    draws: int
    draw: int | None
    suffix: str
    by_shard: bool
    is_empty: bool
    is_ours: bool
    overwrite: bool

    def file_name(self, stem: str, draw: int) -> str:
        """Return the name of one draw's file."""
        return f"{stem}.{self.suffix}" if self.draw is not None else f"{stem}.draw{draw}.{self.suffix}"


@dataclass(slots=True)
class ExtractedChunks:
    """What became of some chunks' images.

    Attributes:
        images: number of images that have draws.
        written, left: numbers of files that were written, and that were there.
        blocked: number of files that are there and are something else.
        examples: first of these.
        renamed: number of images whose name is not their own; see `pipelines.results.names`.
        bytes_out: bytes that were written.
    """

    images: int = 0
    written: int = 0
    left: int = 0
    blocked: int = 0
    examples: list[str] = field(default_factory=list)
    renamed: int = 0
    bytes_out: int = 0

    def add(self, other: ExtractedChunks) -> None:
        """Add what became of others."""
        for name in ("images", "written", "left", "blocked", "renamed", "bytes_out"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.examples += other.examples[: _SHOWN - len(self.examples)]


def read_identities(results: Store, chunk_name: str, is_loose: bool) -> list[Identity]:
    """Return the images of a chunk that have draws, in their order; no image is read.

    Raises:
        DatasetError: the file is damaged.
        StorageError: see `pipelines.storage.store`.
    """
    name = draws_name(chunk_name)
    try:
        with open_parquet(results, name) as file:
            table = file.read(columns=["source", "key", "draw"])
    except (pa.ArrowException, KeyError, ValueError) as error:
        raise _damaged(results, name) from error
    columns = (table[name].to_pylist() for name in ("source", "key", "draw"))
    return [Identity(source, key, is_loose) for source, key, draw in zip(*columns, strict=True) if draw == 0]


def read_digests(
    results: Store, chunks: Sequence[tuple[str, bool]], suffix: str
) -> list[tuple[str, npt.NDArray[np.uint64], npt.NDArray[np.uint64]]]:
    """Return what `name_images` takes, for some chunks (their names, and whether they are of loose files).

    Raises:
        As `read_identities`.
    """
    found = []
    for name, is_loose in chunks:
        images = read_identities(results, name, is_loose)
        flat, nested = (
            np.array(
                [stem_digest(stem_of(image, by_shard=by_shard, suffix=suffix).text) for image in images], np.uint64
            )
            for by_shard in (False, True)
        )
        found.append((name, flat, nested))
    return found


def extract_chunks(
    results: Store,
    destination: Store,
    extraction: Extraction,
    chunks: Sequence[tuple[str, int, bool, Mapping[int, str]]],
) -> ExtractedChunks:
    """Write the images of some chunks.

    Args:
        results, destination: stores to read from and to write to.
        extraction: what is extracted and how.
        chunks: name of each, size of its draws file, whether it is of loose files, and its `Names.others`.

    Raises:
        DatasetError: a draws file is damaged.
        StorageError: see `pipelines.storage.store`.
    """
    found = ExtractedChunks()
    for name, size_bytes, is_loose, others in chunks:
        try:
            _extract(results, destination, extraction, found, name, size_bytes, is_loose, others)
        except (DatasetError, pa.ArrowException, KeyError, ValueError) as error:
            raise _damaged(results, draws_name(name)) from error
    return found


def _damaged(results: Store, name: str) -> DatasetError:
    return DatasetError(f"{results.locate(name)} is damaged: see condgen verify {results.uri}")


def _extract(
    results: Store,
    destination: Store,
    extraction: Extraction,
    found: ExtractedChunks,
    chunk_name: str,
    size_bytes: int,
    is_loose: bool,
    others: Mapping[int, str],
) -> None:
    name = draws_name(chunk_name)
    with open_parquet(results, name, size_bytes=size_bytes, whole_up_to_bytes=_WHOLE_BYTES) as file:
        row = 0
        for group in range(file.num_row_groups):
            table = file.read_row_group(group, columns=["source", "key", "draw", "image"])
            for batch in table.to_batches(max_chunksize=extraction.draws):
                for values in batch.to_pylist():
                    place = row // extraction.draws
                    row += 1
                    is_first = values["draw"] == 0
                    found.images += is_first
                    image = Identity(values["source"], values["key"], is_loose)
                    stem = stem_of(image, by_shard=extraction.by_shard, suffix=extraction.suffix)
                    found.renamed += is_first and (stem.is_mended or place in others)
                    if extraction.draw in (None, values["draw"]):
                        target = extraction.file_name(others.get(place, stem.text), values["draw"])
                        put_image(destination, extraction, found, target, values["image"]["bytes"])


def put_image(destination: Store, extraction: Extraction, found: ExtractedChunks, name: str, data: bytes) -> None:
    """Write an image's file unless it is there, and count it; one that is something else is left as it is.

    Raises:
        StorageError: see `pipelines.storage.store`.
    """
    if not extraction.is_empty and not extraction.overwrite:
        there = _size(destination, name)
        if there == len(data) and (extraction.is_ours or destination.read(name) == data):
            found.left += 1
            return
        if there is not None:
            found.blocked += 1
            found.examples += [name][: _SHOWN - len(found.examples)]
            return
    destination.write(name, data)
    found.written += 1
    found.bytes_out += len(data)


def _size(store: Store, name: str) -> int | None:
    try:
        return store.size(name)
    except MissingError:
        return None
