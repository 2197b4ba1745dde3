"""What a batch job reads, as chunks: shards, loose images, or Parquet with an image column.

`plan_archive` cuts what is wanted of an archive (`Selection`), and in no earlier plan, into chunks: an archive that has
grown gives what is new, without a request for each image. `cut_archive` does it in pieces.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from functools import reduce
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from condgen.checks import check_choice
from condgen.errors import ConfigError, ImageError
from pipelines.datasets.chunk import CHUNK_SCHEMA, Chunk, ChunkLimits, RowPart, chunks_to_table, iter_chunks
from pipelines.datasets.chunking import chunk_name, cut_chunks, file_table, shard_segments
from pipelines.datasets.extent import UNREAD
from pipelines.datasets.manifest import Dataset
from pipelines.datasets.opening import Archive, open_archive
from pipelines.datasets.row_filter import Where
from pipelines.datasets.stored_chunks import StoredChunks
from pipelines.storage.neighbors import Neighbors
from pipelines.storage.store import Store

__all__ = ["NewChunks", "Selection", "cut_archive", "limit_chunks", "limit_pieces", "plan_archive", "some_names"]

logger = logging.getLogger(__name__)

_KNOWN = 8
_FIRST_CHUNKS = 8192
_FILE_COLUMNS = ("name", "extension", "size_bytes")
_SHARD_COLUMNS = ("shard",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """The part of an archive that is wanted.

    Attributes:
        where: condition on the listing's columns: a Parquet file's own, `name`, `extension` and `size_bytes` of
            loose files, `shard` of shards.
        limit: most images in all of the results; 0 for no limit.
        columns: columns of a Parquet archive by their roles (`image`, `key`), where the names don't tell.
        facts: columns of a Parquet archive that are read along.
        taken_as: kind that the archive is taken for (``pipelines.datasets.contents.KINDS``; default: as it is found).
    """

    where: Where | None = None
    limit: int = 0
    columns: Mapping[str, str] = field(default_factory=dict)
    facts: tuple[str, ...] = ()
    taken_as: str | None = None


def plan_archive(
    archive: str | Store | Archive,
    limits: ChunkLimits,
    selection: Selection | None = None,
    planned: Sequence[pa.Table] = (),
) -> pa.Table:
    """Cut what is wanted of an archive, and not planned yet, into chunks.

    Args:
        archive: an open archive, or what `pipelines.datasets.opening.open_archive` takes.
        limits: bounds of a chunk.
        selection: what of it is wanted; everything without.
        planned: chunks of earlier plans (`CHUNK_SCHEMA`), whose samples are left out.

    Returns:
        A table in `CHUNK_SCHEMA`; with no rows where nothing is new.

    Raises:
        DatasetError: there is nothing in the archive.
        ConfigError: the selection names a column that its listing does not have.
        MissingError, AccessError, StorageError: it can't be listed.
    """
    archive = open_archive(archive, taken_as=selection.taken_as if selection else None)
    pieces = cut_archive(archive, limits, selection, [StoredChunks.of_table(table) for table in planned])
    return pa.concat_tables([CHUNK_SCHEMA.empty_table(), *pieces])


def cut_archive(
    archive: Archive, limits: ChunkLimits, selection: Selection | None = None, planned: Sequence[StoredChunks] = ()
) -> Iterator[pa.Table]:
    """Yield the chunks that `plan_archive` returns, in pieces; of shards, nothing else is in memory.

    Raises:
        ConfigError, MissingError, AccessError, StorageError: as in `plan_archive`.
    """
    selection = selection or Selection()
    if archive.dataset is not None:
        pieces = _shard_chunks(archive.dataset, limits, selection, planned)
    else:
        tables = (one.table() for one in planned)
        before = [table.filter(pc.is_null(table["redoes"])) for table in tables]
        if archive.tables:
            pieces = iter([_parquet_chunks(archive.store, archive.tables, limits, selection, before)])
        else:
            pieces = iter([file_table(*_files(archive.files, selection, before), limits)])
    return limit_pieces(pieces, selection.limit - _planned_samples(planned)) if selection.limit else pieces


def _planned_samples(planned: Sequence[StoredChunks]) -> int:
    pieces = (piece for one in planned for piece in one.pieces(["samples", "redoes"]))
    return sum(int(pc.sum(piece.filter(pc.is_null(piece["redoes"]))["samples"]).as_py() or 0) for piece in pieces)


class NewChunks:
    """The chunks of an archive that no plan has yet. They are cut whenever they are asked for, and never all held.

    Args:
        cut: function that cuts them, in pieces.

    Attributes:
        first: the first chunks, as many as tell how a job is to be done.
        is_all: whether there are no others.
    """

    def __init__(self, cut: Callable[[], Iterator[pa.Table]]) -> None:
        pieces, parts, rows = cut(), [CHUNK_SCHEMA.empty_table()], 0
        while rows < _FIRST_CHUNKS and (piece := next(pieces, None)) is not None:
            parts.append(piece)
            rows += piece.num_rows
        self.first = pa.concat_tables(parts)
        self.is_all = rows < _FIRST_CHUNKS or next(pieces, None) is None
        self._cut = None if self.is_all else cut  # an archive's listing is let go

    def pieces(self) -> Iterator[pa.Table]:
        """Yield them all, in pieces of `CHUNK_SCHEMA`."""
        return iter([self.first]) if self._cut is None else self._cut()


def _shard_chunks(
    dataset: Dataset, limits: ChunkLimits, selection: Selection, planned: Sequence[StoredChunks]
) -> Iterator[pa.Table]:
    """Yield chunks of the runs that are in no earlier plan, after what a limit cut off from the last chunk of one."""
    if selection.where is not None:
        selection.where.check(_SHARD_COLUMNS)
    rest = list(_rests(dataset, selection, planned))
    if rest:
        yield chunks_to_table(replace(chunk, ordinal=place) for place, chunk in enumerate(rest))
    covered: dict[str, list[npt.NDArray[np.int64]]] = {}
    for shard, starts in (found for one in planned for found in one.starts()):
        covered.setdefault(shard, []).append(starts)
    fresh = (_without(piece, covered) for piece in _extents(dataset, selection))
    for table in cut_chunks(fresh, limits):
        yield _numbered_from(table, len(rest)) if rest else table


def _extents(dataset: Dataset, selection: Selection, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
    """Yield the index of what is wanted, in pieces."""
    for piece in dataset.pieces(columns):
        where = selection.where
        yield piece if where is None else piece.filter(where.filter(piece.select(["shard"])))


def _without(piece: pa.Table, covered: Mapping[str, Sequence[npt.NDArray[np.int64]]]) -> pa.Table:
    """Return the extents of a piece of an index but those of a shard that begin where covered ones do."""
    if not covered or not piece.num_rows:
        return piece
    is_fresh, starts = np.ones(piece.num_rows, np.bool_), piece["start"].to_numpy()
    for shard, begin, end in shard_segments(piece["shard"].combine_chunks()):
        if shard in covered:
            is_fresh[begin:end] = ~np.isin(starts[begin:end], np.concatenate(covered[shard]))
    return piece if is_fresh.all() else piece.filter(pa.array(is_fresh))


def _rests(dataset: Dataset, selection: Selection, planned: Sequence[StoredChunks]) -> Iterator[Chunk]:
    """Yield what is left of the chunks of earlier plans of which only a part was wanted, where it is wanted now."""
    taken: dict[tuple[str | None, int], tuple[Chunk, set[int]]] = {}
    for chunk in (chunk for one in planned for chunk in one.cut()):
        _, places = taken.setdefault((chunk.shard, chunk.runs[0].start), (chunk, set()))
        places.update(chunk.places)
    shards: set[str] = set()
    for piece in _extents(dataset, selection, ["shard"]) if taken else ():
        shards.update(pc.unique(piece["shard"]).to_pylist())
    for chunk, places in taken.values():
        select = tuple(p for p in range(sum(run.samples for run in chunk.runs)) if p not in places)
        if select and chunk.shard in shards:
            yield _part(chunk, select)


def _files(
    listing: pa.Table, selection: Selection, before: Sequence[pa.Table]
) -> tuple[pa.ChunkedArray, npt.NDArray[np.int64]]:
    """Return the names and sizes of the loose files that are wanted and in no earlier plan."""
    wanted: list[Any] = []
    if selection.where is not None:
        selection.where.check(_FILE_COLUMNS)
        extensions = [[name.rpartition(".")[2].lower() for name in part.to_pylist()] for part in listing["name"].chunks]
        extension = pa.chunked_array(extensions, pa.string())
        wanted.append(selection.where.filter(listing.append_column("extension", extension)))
    planned = [
        part.flatten().field("name")
        for table in before
        for part in table.filter(pc.is_null(table["select"]))["files"].chunks
    ]
    cut = (chunk for table in before for chunk in iter_chunks(table.filter(pc.is_valid(table["select"]))))
    planned.append(pa.array([chunk.files[place].name for chunk in cut for place in chunk.places], pa.string()))
    wanted += [pc.invert(pc.is_in(listing["name"], value_set=names)) for names in planned if len(names)]
    if wanted:
        listing = listing.filter(reduce(pc.and_, wanted))
    return listing["name"], listing["size_bytes"].to_numpy()


def _parquet_chunks(
    store: Store, names: Sequence[str], limits: ChunkLimits, selection: Selection, before: Sequence[pa.Table]
) -> pa.Table:
    """Return chunks of the rows that are wanted and in no earlier plan, each within one row group."""
    covered: dict[str, set[int]] = {}
    for table in before:
        for chunk in iter_chunks(table.filter(pc.is_valid(table["rows"]))):
            if chunk.rows is not None and chunk.shard is not None:
                start = chunk.rows.start
                covered.setdefault(chunk.shard, set()).update(start + place for place in chunk.places)
    chunks: list[Chunk] = []
    first = 0
    neighbors = Neighbors([(store, name) for name in (*names[:1], *names[:-_KNOWN:-1])])
    for name in names:
        for rows, select in _row_parts(store, name, limits, selection, covered.get(name, set()), neighbors):
            content = [name, f"{rows.start}:{rows.stop}", *(["+".join(map(str, select))] if select else [])]
            chunk = Chunk(
                ordinal=len(chunks),
                name=chunk_name(len(chunks), content),
                shard=name,
                samples=len(select) if select else rows.stop - rows.start,
                first_sample=first,
                rows=rows,
                select=select,
            )
            chunks.append(chunk)
            first += chunk.samples
    return chunks_to_table(chunks)


def _row_parts(
    store: Store, name: str, limits: ChunkLimits, selection: Selection, covered: Set[int], neighbors: Neighbors
) -> Iterator[tuple[RowPart, tuple[int, ...] | None]]:
    """Yield the parts of one table, and which rows of each are wanted (None for all).

    One that can't be read is a part of one row, see `pipelines.datasets.extent.UNREAD`.
    """
    from pipelines.datasets.parquet import open_table
    from pipelines.datasets.roles import find_roles

    try:
        file = neighbors.read(store, name, lambda store: open_table(store, name))
    except ImageError as error:
        logger.warning("%s can't be read: %s", store.locate(name), error)
        if UNREAD not in covered:
            yield RowPart(UNREAD, UNREAD + 1, "", None, selection.facts), None
        return
    known = file.schema_arrow.names
    roles = find_roles(file, selection.columns, store.locate(name))
    if "image" not in roles:
        raise ConfigError("archive", store.locate(name), "Parquet with one column of images, and not of pairs")
    for column in selection.facts:
        check_choice("columns", column, known)
    unwanted = covered
    if selection.where is not None:
        selection.where.check([column for column in known if column != roles["image"]])
        wanted = selection.where.filter(file.read(sorted(selection.where.columns))).to_pylist()
        unwanted = covered | {row for row, is_wanted in enumerate(wanted) if not is_wanted}
    begin = 0
    for group in range(file.metadata.num_row_groups):
        end = begin + file.metadata.row_group(group).num_rows
        for start in range(begin, end, limits.samples):
            rows = RowPart(start, min(start + limits.samples, end), roles["image"], roles.get("key"), selection.facts)
            select = tuple(row - start for row in range(start, rows.stop) if row not in unwanted)
            if select:
                yield rows, None if len(select) == rows.stop - start else select
        begin = end


def _part(chunk: Chunk, select: tuple[int, ...]) -> Chunk:
    name = chunk_name(chunk.ordinal, [chunk.name, "+".join(map(str, select))])
    return replace(chunk, name=name, select=select, samples=len(select))


def limit_chunks(table: pa.Table, limit: int) -> pa.Table:
    """Return the first chunks of a table that have `limit` samples together, the last of them cut."""
    samples = table["samples"].to_numpy()
    ends = np.cumsum(samples)
    whole = int(np.searchsorted(ends, limit, side="right"))
    rest = limit - (int(ends[whole - 1]) if whole else 0)
    kept = table.slice(0, whole)
    if rest > 0 and whole < table.num_rows:
        (last,) = iter_chunks(table.slice(whole, 1))
        kept = pa.concat_tables([kept, chunks_to_table([_part(last, tuple(last.places[:rest]))])])
    return kept


def limit_pieces(pieces: Iterator[pa.Table], limit: int) -> Iterator[pa.Table]:
    """Yield the first chunks as `limit_chunks` returns them, in pieces."""
    while limit > 0 and (piece := next(pieces, None)) is not None:
        kept = limit_chunks(piece, limit)
        limit -= int(pc.sum(kept["samples"]).as_py() or 0)
        yield kept


def _spread(count: int) -> list[int]:
    """Return a few of the numbers below `count`, far from each other."""
    return sorted({round(place) for place in np.linspace(0, count - 1, min(_KNOWN, count)).tolist()})


def _numbered_from(table: pa.Table, ordinal: int) -> pa.Table:
    """Return chunks with new ordinals, where others come before them."""
    place = CHUNK_SCHEMA.get_field_index("ordinal")
    return table.set_column(place, CHUNK_SCHEMA.field(place), pc.add(table["ordinal"], ordinal))


def some_names(new: pa.Table, *planned: StoredChunks) -> tuple[str, ...]:
    """Return the names of a few objects from all over some chunks, those that are far from each other first.

    Args:
        new: chunks that are in no plan yet.
        planned: chunks of plans.
    """
    parts = [part.take(_spread(sum(part.piece_rows))) for part in planned]
    table = pa.concat_tables([new.take(pa.array(_spread(new.num_rows), pa.int64())), *parts])
    places = _spread(table.num_rows)
    some = list(iter_chunks(table.take(pa.array([*places[:1], *places[:0:-1]], pa.int64()))))
    shards = [chunk.shard for chunk in some if chunk.shard is not None]
    files = [chunk.files[len(chunk.files) * part // 3].name for part in range(3) for chunk in some if chunk.files]
    return tuple(dict.fromkeys([*shards, *files]))[:_KNOWN]
