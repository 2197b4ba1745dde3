"""What of some plans is committed: the draws files, listed in order, beside the plans' lists of chunks.

Neither the listing nor a list is ever held as a whole. `draws/` is listed by name, and chunks have their places before
their names, so that both come in the same order; what does not (a few chunks of a later plan) waits in memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipelines.results.files import draws_name
from pipelines.results.plan import Generation
from pipelines.storage.store import Store

__all__ = ["DrawsListing", "PendingChunks", "PieceCommits", "look_up"]


class DrawsListing:
    """The listing of `draws/`, of which as much is read as is asked for.

    Args:
        results: store of the results.
    """

    def __init__(self, results: Store) -> None:
        self._entries = results.iter_list("draws")
        self._waiting: dict[str, int] = {}
        self._last = ""

    def sizes(self, chunk_names: Sequence[str]) -> npt.NDArray[np.int64]:
        """Return the sizes in bytes of some chunks' draws files, -1 where there is none; a chunk is asked for once."""
        names = [draws_name(name) for name in chunk_names]
        highest = max(names, default="")
        while self._last < highest and (entry := next(self._entries, None)) is not None:
            self._waiting[entry.name] = entry.size_bytes
            self._last = entry.name
        return np.array([self._waiting.pop(name, -1) for name in names], np.int64)

    def rest(self) -> Iterator[str]:
        """Yield the names of the files that were not asked for; the listing ends with it."""
        yield from self._waiting
        yield from (entry.name for entry in self._entries)


@dataclass(frozen=True, slots=True)
class PieceCommits:
    """The commits of a piece of a plan.

    Attributes:
        generation: plan.
        chunks: chunks of the piece, with the columns that were asked for.
        sizes: size in bytes of each chunk's draws file, -1 where it is not there.
    """

    generation: Generation
    chunks: pa.Table
    sizes: npt.NDArray[np.int64]

    @property
    def is_there(self) -> npt.NDArray[np.bool_]:
        """Whether each chunk is committed."""
        return self.sizes >= 0


def look_up(
    listing: DrawsListing, generations: Sequence[Generation], columns: Sequence[str] = ("name",)
) -> Iterator[PieceCommits]:
    """Yield what is committed, piece by piece of the plans.

    Args:
        listing: listing of the draws files, from its begin.
        generations: plans of the job.
        columns: columns of the chunks that are wanted, `name` among them.

    Raises:
        DatasetError: a plan is damaged.
        StorageError: see `pipelines.storage.store`.
    """
    for generation in generations:
        for chunks in generation.stored.pieces(columns):
            yield PieceCommits(generation, chunks, listing.sizes(chunks["name"].to_pylist()))


@dataclass(frozen=True)
class PendingChunks:
    """The chunks of some plans that are not committed, a byte of memory for each chunk.

    `pipelines.datasets.chunk.iter_chunks` takes it as it takes a table.

    Attributes:
        generations: plans.
        is_pending: whether each chunk of each plan is pending.
        num_samples: number of samples of those that are.
        has_commits: whether there is any draws file.
    """

    generations: tuple[Generation, ...] = ()
    is_pending: tuple[npt.NDArray[np.bool_], ...] = field(default=(), repr=False)
    num_samples: int = 0
    has_commits: bool = False

    @classmethod
    def of(cls, results: Store, generations: Sequence[Generation]) -> PendingChunks:
        """Return the chunks whose draws file is not there.

        Raises:
            DatasetError, StorageError: as `look_up`.
        """
        listing, samples = DrawsListing(results), 0
        masks: dict[int, list[npt.NDArray[np.bool_]]] = {one.plan.generation: [] for one in generations}
        for part in look_up(listing, generations, ("name", "samples")):
            masks[part.generation.plan.generation].append(~part.is_there)
            samples += int(part.chunks["samples"].to_numpy()[~part.is_there].sum())
        is_pending = tuple(np.concatenate([np.zeros(0, np.bool_), *parts]) for parts in masks.values())
        is_any = not all(mask.all() for mask in is_pending) or next(listing.rest(), None) is not None
        return cls(tuple(generations), is_pending, samples, is_any)

    def joined(self, generation: Generation) -> PendingChunks:
        """Return these and all chunks of another plan, of which nothing is committed."""
        return PendingChunks(
            (*self.generations, generation),
            (*self.is_pending, np.ones(generation.plan.num_chunks, np.bool_)),
            self.num_samples + generation.plan.num_samples,
            self.has_commits,
        )

    @property
    def num_rows(self) -> int:
        """The number of chunks that are pending."""
        return sum(int(mask.sum()) for mask in self.is_pending)

    def pieces(self) -> Iterator[pa.Table]:
        """Yield the pending chunks in `pipelines.datasets.chunk.CHUNK_SCHEMA`, in the order of the plans.

        Raises:
            DatasetError, StorageError: as `look_up`.
        """
        for generation, mask in zip(self.generations, self.is_pending, strict=True):
            begin = 0
            for group, rows in enumerate(generation.stored.piece_rows):
                wanted = mask[begin : begin + rows]
                begin += rows
                if wanted.any():
                    yield generation.stored.piece(group).filter(pa.array(wanted))

    def to_batches(self, max_chunksize: int) -> Iterator[pa.RecordBatch]:
        """Yield the pending chunks as record batches of at most so many rows."""
        for piece in self.pieces():
            yield from piece.to_batches(max_chunksize=max_chunksize)
