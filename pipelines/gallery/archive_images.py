"""The archive's own image of a row: what the model was given, and of a pair what was to be made of it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property

from condgen.errors import CondgenError, ConfigError, DatasetError, ImageError, JobError, MissingError
from pipelines.datasets.chunk import Chunk, FilePart, Sample, image_member, read_chunk
from pipelines.datasets.opening import archive_store
from pipelines.gallery.memory import KeptValues
from pipelines.storage.neighbors import Neighbors
from pipelines.storage.store import RetryPolicy, Store

__all__ = ["ArchiveImages"]

_KEPT_BYTES = 48 << 20
_ROWS_AT_ONCE = 16
_RETRY = RetryPolicy(attempts=3)


class ArchiveImages:
    """The images of an archive, read sample by sample. Safe in threads.

    Args:
        archive: URI of the archive.
        member: name of the member of each sample that is the image; empty for the only one that is.
    """

    def __init__(self, archive: str, member: str = "") -> None:
        self._archive, self._member = archive, member
        self._samples: KeptValues[tuple[str, int, int], Sequence[Sample]] = KeptValues(_KEPT_BYTES, _size)

    def image(self, source: str, place: int, whole: Callable[[], Chunk] | None, sha256: str = "") -> bytes:
        """Return the encoded image that the model was given.

        Args:
            source: source of the image.
            place: place in its chunk.
            whole: function that reads its chunk; None for a loose file, which its source names.
            sha256: SHA-256 that the image had (default: it is not compared).

        Raises:
            CondgenError: it can't be had any more: the archive was moved, say, or has another image there.
        """
        data = image_member(self._sample(source, place, whole), self._member)
        if sha256 and hashlib.sha256(data).hexdigest() != sha256:
            raise DatasetError("the archive has another image under this name now")
        return data

    def target(self, source: str, place: int, whole: Callable[[], Chunk] | None) -> bytes:
        """Return the member `target` of a pair, as `image` does.

        Raises:
            CondgenError: the sample has none, or as `image`.
        """
        return image_member(self._sample(source, place, whole), "target")

    @cached_property
    def _store(self) -> Store | CondgenError:
        try:
            return replace(archive_store(self._archive), retry=_RETRY)
        except CondgenError as error:
            return error

    def _sample(self, source: str, place: int, whole: Callable[[], Chunk] | None) -> Sample:
        store = self._store
        if isinstance(store, CondgenError):
            raise store
        if whole is None:
            part, at, name = _file(source), 0, (source, 0, 0)
        else:
            part, at = _part_of(whole(), place)
            name = (str(part.shard), part.start, part.first_sample)
        try:
            return self._samples.get(name, lambda: read_chunk(store, part, neighbors=Neighbors()))[at]
        except (JobError, MissingError) as error:
            raise DatasetError(
                f"the archive {store.uri} can't be read: was it moved, or is its storage out?"
            ) from error


def _file(source: str) -> Chunk:
    return Chunk(ordinal=0, name="", shard=None, samples=1, first_sample=0, files=(FilePart(source, 0),))


def _part_of(chunk: Chunk, place: int) -> tuple[Chunk, int]:
    """Return a small part of a chunk, and which of its samples is the one at a place of the chunk."""
    if chunk.start < 0:
        raise ImageError("read", "NotListed", "its shard could not be read when the images were listed")
    if chunk.rows is not None:
        block = place - place % _ROWS_AT_ONCE
        places = tuple(range(block, min(block + _ROWS_AT_ONCE, chunk.rows.stop - chunk.rows.start)))
        return replace(chunk, select=places, samples=len(places), first_sample=block), place - block
    before = 0
    for run in chunk.runs:
        if place < before + run.samples:
            first = chunk.first_sample + before
            part = replace(chunk, runs=(run,), samples=run.samples, select=None, first_sample=first)
            return part, place - before
        before += run.samples
    raise ConfigError("place", place, f"0 to {before - 1}")


def _size(samples: Sequence[Sample]) -> int:
    return sum(len(data) for sample in samples for data in sample.members.values())
