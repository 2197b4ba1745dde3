"""What a batch job reads, as a table of chunks: shards, loose images, or Parquet with an image column.

`plan_archive` cuts what is wanted of an archive (`Selection`), and in no earlier plan, into chunks: an archive that has
grown gives what is new, without a request for each image.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence, Set
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
from pipelines.datasets.chunking import chunk_name, chunk_table, file_table
from pipelines.datasets.extent import UNREAD
from pipelines.datasets.manifest import Dataset
from pipelines.datasets.opening import Archive, open_archive
from pipelines.datasets.row_filter import Where
from pipelines.storage.neighbors import Neighbors
from pipelines.storage.store import Store

__all__ = ["Selection", "limit_chunks", "plan_archive", "some_names"]

logger = logging.getLogger(__name__)

_KNOWN = 8
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
    selection = selection or Selection()
    before = [table.filter(pc.is_null(table["redoes"])) for table in planned]
    archive = open_archive(archive, taken_as=selection.taken_as)
    if archive.dataset is not None:
        table = _shard_chunks(archive.dataset, limits, selection, before)
    elif archive.tables:
        table = _parquet_chunks(archive.store, archive.tables, limits, selection, before)
    else:
        table = file_table(*_files(archive.files, selection, before), limits)
    if selection.limit:
        done = sum(int(pc.sum(t["samples"]).as_py() or 0) for t in before)
        table = limit_chunks(table, max(0, selection.limit - done))
    return table


def _shard_chunks(dataset: Dataset, limits: ChunkLimits, selection: Selection, before: Sequence[pa.Table]) -> pa.Table:
    """Return chunks of the runs that are in no earlier plan, after what a limit cut off from the last chunk of one."""
    index = dataset.table()
    if selection.where is not None:
        selection.where.check(_SHARD_COLUMNS)
        index = index.filter(selection.where.filter(index.select(["shard"])))
    shards = pc.unique(index["shard"])
    for table in before:
        runs = table["runs"].combine_chunks()
        covered = pa.table(
            {
                "shard": table["shard"].combine_chunks().take(pc.list_parent_indices(runs)),
                "start": runs.flatten().field("start"),
            }
        )
        known = pa.table({"shard": index["shard"], "start": index["start"], "row": _numbers(index.num_rows)})
        fresh = known.join(covered, ["shard", "start"], join_type="left anti")["row"].combine_chunks()
        index = index.take(fresh.take(pc.sort_indices(fresh)))
    taken: dict[tuple[str | None, int], tuple[Chunk, set[int]]] = {}
    for chunk in _cut(before):
        _, places = taken.setdefault((chunk.shard, chunk.runs[0].start), (chunk, set()))
        places.update(chunk.places)
    rest = []
    for chunk, places in taken.values():
        select = tuple(p for p in range(sum(run.samples for run in chunk.runs)) if p not in places)
        if select and pc.is_in(pa.scalar(chunk.shard), value_set=shards).as_py():
            rest.append(_part(chunk, select))
    table = chunk_table(index, limits)
    return _numbered(pa.concat_tables([chunks_to_table(rest), table])) if rest else table


def _numbers(count: int) -> pa.Array:
    """Return 0 to count - 1 in memory of Arrow's own: its threads must not hold an object of Python's at exit."""
    return pc.subtract(pc.cumulative_sum(pa.repeat(1, count)), 1)


def _cut(before: Sequence[pa.Table]) -> Iterator[Chunk]:
    """Yield the chunks of earlier plans of which only a part was wanted."""
    for table in before:
        yield from iter_chunks(table.filter(pc.is_valid(table["select"])))


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
    planned.append(pa.array([chunk.files[place].name for chunk in _cut(before) for place in chunk.places], pa.string()))
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


def _numbered(table: pa.Table) -> pa.Table:
    """Return the chunks with new ordinals, where tables were joined."""
    place = CHUNK_SCHEMA.get_field_index("ordinal")
    return table.set_column(place, CHUNK_SCHEMA.field(place), pa.array(np.arange(table.num_rows)))


def some_names(chunks: pa.Table) -> tuple[str, ...]:
    """Return the names of a few objects from all over some chunks, those that are far from each other first."""
    places = np.unique(np.linspace(0, chunks.num_rows - 1, min(_KNOWN, chunks.num_rows)).round().astype(int))
    some = list(iter_chunks(chunks.take([*places[:1], *places[:0:-1]])))
    shards = [chunk.shard for chunk in some if chunk.shard is not None]
    files = [chunk.files[len(chunk.files) * part // 3].name for part in range(3) for chunk in some if chunk.files]
    return tuple(dict.fromkeys([*shards, *files]))[:_KNOWN]
