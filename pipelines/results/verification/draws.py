"""Checks of a draws file against its chunk's plan: its footer, its rows, its images, and their sources."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from condgen.errors import DatasetError, ImageError, MissingError
from pipelines.datasets.chunk import Chunk, image_member, read_chunk
from pipelines.results.files import draws_name, draws_schema, read_footer, rows_digest
from pipelines.storage.neighbors import Neighbors
from pipelines.storage.parquet import StoredParquet, open_parquet
from pipelines.storage.store import Store

__all__ = ["ChunkFindings", "ExpectedChunk", "ResultFault", "check_chunks", "identity_ranges"]

_WHOLE_BYTES = 16 << 20
_FAULTS_A_FILE = 8
_IDENTITY = ("source", "key", "draw")


@dataclass(frozen=True, slots=True, order=True)
class ResultFault:
    """Something that is missing or wrong: in which file of the results, a short name, and what it is."""

    file: str
    error: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectedChunk:
    """The values that all draws files of a job must state.

    Attributes:
        job: digest of the job, see `pipelines.results.plan.job_digest`.
        model, settings: model's digest and settings of the plan.
        draws: K, draws of each image.
        seed: seed of the plan.
        columns: names and types of what is copied into the rows.
    """

    job: str
    model: str
    settings: Mapping[str, Any]
    draws: int
    seed: int
    columns: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkFindings:
    """What was found in a chunk's draws file.

    Attributes:
        chunk: name of the chunk.
        facts: the chunk's name, counts, errors, as its footer has them; None where it can't be read or is not the
            job's.
        faults: the first of them, and how many there are in all.
        rows, size_bytes: numbers of rows and bytes that were read.
        repeated: images whose source and key another image of the chunk has too; the archive has them so.
    """

    chunk: str
    facts: Mapping[str, Any] | None = None
    faults: tuple[ResultFault, ...] = ()
    rows: int = 0
    size_bytes: int = 0
    repeated: int = 0


class _File:
    """A draws file that is looked at: gathers its faults."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._faults: list[ResultFault] = []
        self._more = 0

    def fault(self, error: str, message: str) -> None:
        """Add a fault."""
        if len(self._faults) < _FAULTS_A_FILE:
            self._faults.append(ResultFault(self.name, error, message))
        else:
            self._more += 1

    def faults(self) -> tuple[ResultFault, ...]:
        """The faults."""
        if not self._more:
            return tuple(self._faults)
        return (*self._faults, ResultFault(self.name, "More", f"and {self._more} more faults of this file"))


def check_chunks(
    results: Store,
    chunks: Sequence[tuple[Chunk, int]],
    expected: ExpectedChunk,
    archive: Store | None = None,
    quick: bool = False,
) -> list[ChunkFindings]:
    """Check the draws files of some chunks.

    Args:
        results: store of the job's results.
        chunks: chunks of its plans, with the size of each one's draws file (bytes).
        expected: values that the files must state.
        archive: store whose images are read, and compared with what the rows say of their sources; None reads none.
        quick: whether to read the footers alone.

    Raises:
        StorageError: the storage failed, which says nothing of the results.
    """
    return [_check_chunk(results, chunk, size, expected, archive, quick) for chunk, size in chunks]


def _check_chunk(
    results: Store, chunk: Chunk, size_bytes: int, expected: ExpectedChunk, archive: Store | None, quick: bool
) -> ChunkFindings:
    file = _File(draws_name(chunk.name))
    try:
        facts = read_footer(results, file.name, size_bytes)
        known = _check_footer(file, facts, chunk, expected)
    except MissingError:
        file.fault("Missing", "it was there when the folder was listed and is gone")
        return ChunkFindings(chunk=chunk.name, faults=file.faults())
    except DatasetError as error:
        file.fault("Damaged", str(error))
        return ChunkFindings(chunk=chunk.name, faults=file.faults())
    except (KeyError, TypeError):
        file.fault("Damaged", "its footer lacks what condgen writes there: delete it and run the job again")
        return ChunkFindings(chunk=chunk.name, faults=file.faults())
    if not known:
        return ChunkFindings(chunk=chunk.name, faults=file.faults())
    rows = repeated = 0
    if not quick:
        try:
            table, digests = _read_rows(file, results, size_bytes)
            rows = table.num_rows
            repeated = _check_rows(file, table, digests, facts, chunk, expected)
            if archive is not None:
                _check_sources(file, table, facts, chunk, expected, archive)
        except (DatasetError, pa.ArrowException, OSError, KeyError, ValueError) as error:
            file.fault("Damaged", f"its rows can't be read: {_line(error)}: delete it and run the job again")
    return ChunkFindings(
        chunk=chunk.name,
        facts={name: facts[name] for name in ("chunk", "counts", "errors")},
        faults=file.faults(),
        rows=rows,
        size_bytes=size_bytes if not quick else 0,
        repeated=repeated,
    )


def _check_footer(file: _File, facts: Mapping[str, Any], chunk: Chunk, expected: ExpectedChunk) -> bool:
    """Compare a footer with the plan; False where the file is of another job."""
    if facts["job"] != expected.job:
        file.fault("OtherJob", "it is of another model or of other settings: delete it and run the job again")
        return False
    if facts["chunk"] != chunk.name or facts.get("ordinal", chunk.ordinal) != chunk.ordinal:
        file.fault("OtherChunk", f"its footer says that it is chunk {facts['chunk']}: delete it and run the job again")
        return False
    if facts.get("model", expected.model) != expected.model or facts.get("settings", expected.settings) != dict(
        expected.settings
    ):
        file.fault("Footer", "its footer says another model or other settings than the plan")
    counts, errors, filtered = facts["counts"], facts["errors"], facts["filtered"]
    if counts["samples"] != chunk.samples:
        file.fault("Count", f"{counts['samples']} images, {chunk.samples} in the plan")
    if (counts["errors"], counts["filtered"]) != (len(errors), len(filtered)):
        file.fault("Count", "its footer counts other errors than it lists")
    done, rest = divmod(counts["draws"], expected.draws)
    if rest:
        file.fault("Count", f"{counts['draws']} draws are not {expected.draws} of each image")
    if done + len(errors) + len(filtered) != chunk.samples:
        parts = f"{done} with draws, {len(errors)} errors and {len(filtered)} filtered"
        file.fault("Count", f"{parts} are not the {chunk.samples} images of the plan")
    places = [one["place"] for one in (*errors, *filtered)]
    if len(set(places)) != len(places) or not set(places) <= set(chunk.places):
        file.fault("Places", "its errors are at places that the plan does not have, or twice at one")
        return True
    for one in (*errors, *filtered):
        source, key = _planned(chunk, one["place"])
        if one["source"] != source or key not in (None, one["key"]):
            file.fault("OtherImage", f"an error of {one['source']} {one['key']}, where the plan has {source}")
    return True


def _planned(chunk: Chunk, place: int) -> tuple[str | None, str | None]:
    """The source at a place of a chunk, and its key where the plan knows it."""
    if chunk.shard is None:
        return chunk.files[place].name, None
    if chunk.rows is not None and chunk.rows.key is None:
        return chunk.shard, f"#{chunk.rows.start + place}"
    return chunk.shard, None


def _read_rows(found: _File, results: Store, size_bytes: int) -> tuple[pa.Table, list[str]]:
    """Return the rows of a draws file without their images, and the SHA-256 of each image; a row group in memory."""
    parts, digests = [], []
    with open_parquet(results, found.name, size_bytes=size_bytes, whole_up_to_bytes=_WHOLE_BYTES) as file:
        for group in range(file.num_row_groups):
            part = file.read_row_group(group)
            if not _has_true_statistics(identity_ranges(file, group), part):
                found.fault("Statistics", f"those of row group {group} are not of its rows: a key is not found by them")
            paths = []
            for piece in part["image"].chunks:
                paths.append(pa.StructArray.from_arrays([piece.field("path")], ["path"]))
                digests += [hashlib.sha256(data.as_buffer() or b"").hexdigest() for data in piece.field("bytes")]
            place = part.schema.get_field_index("image")
            parts.append(part.set_column(place, "image", pa.chunked_array(paths, pa.struct([("path", pa.string())]))))
        if not parts:
            return file.schema_arrow.empty_table(), []
    return pa.concat_tables(parts), digests


def identity_ranges(file: StoredParquet, group: int) -> dict[str, tuple[Any, Any]]:
    """Return the least and greatest source, key and draw in a row group's statistics, strings as bytes (as ordered)."""
    found = {}
    metadata = file.metadata.row_group(group)
    for place in range(metadata.num_columns):
        column, described = metadata.column(place), file.metadata.schema.column(place)
        # Arrow ends the process where a damaged footer has statistics of another type than the column's.
        if described.path in _IDENTITY and column.physical_type == described.physical_type:
            statistics = column.statistics
            if statistics is not None and statistics.has_min_max:
                found[described.path] = (_ordered(statistics.min), _ordered(statistics.max))
    return found


def _has_true_statistics(ranges: Mapping[str, tuple[Any, Any]], part: pa.Table) -> bool:
    for name, stated in ranges.items():
        values = [_ordered(value) for value in part[name].to_pylist()]
        if stated != (min(values), max(values)):
            return False
    return True


def _ordered(value: Any) -> Any:
    return value.encode() if isinstance(value, str) else value


def _check_rows(
    file: _File,
    table: pa.Table,
    digests: Sequence[str],
    facts: Mapping[str, Any],
    chunk: Chunk,
    expected: ExpectedChunk,
) -> int:
    """Compare the rows with the footer and the plan; returns how many images share their identity with another."""
    schema = draws_schema(expected.columns)
    if (table.schema.metadata or {}).get(b"huggingface") != (schema.metadata or {})[b"huggingface"]:
        file.fault("Schema", "what Hugging Face's datasets reads of its columns is something else")
    if table.schema.names != schema.names:
        file.fault("Schema", f"its columns are {', '.join(table.schema.names)}")
        return 0
    types = {field.name: (field.type, table.schema.field(field.name).type) for field in schema if field.name != "image"}
    if wrong := [f"{name} is {found}" for name, (wanted, found) in types.items() if found != wanted]:
        file.fault("Schema", f"its column {', '.join(wrong)}")
        return 0
    if rows_digest(table) != facts["rows_sha256"]:
        file.fault("RowsDigest", "its rows are not those that its footer was made of")
    stated = table["image_sha256"].to_pylist()
    for row, (found, want) in enumerate(zip(digests, stated, strict=True)):
        if found != want:
            key = table["key"][row].as_py()
            file.fault("ImageDigest", f"the image in row {row} (key {key}) is not the one that was written")
    if table.num_rows != facts["counts"]["draws"]:
        file.fault("Count", f"{table.num_rows} rows, {facts['counts']['draws']} draws in its footer")
    if set(table["seed"].to_pylist()) - {expected.seed}:
        file.fault("Seed", f"rows of another seed than {expected.seed}")
    return _check_images(file, table, facts, chunk, expected)


def _check_images(file: _File, table: pa.Table, facts: Mapping[str, Any], chunk: Chunk, expected: ExpectedChunk) -> int:
    """Check that each place of the plan without an error has K rows, draws 0 to K - 1 of one image."""
    places = _places_with_draws(facts, chunk)
    columns = [table[name].to_pylist() for name in ("source", "key", "source_sha256")]
    identities = list(zip(*columns, strict=True))
    draws = table["draw"].to_pylist()
    k = expected.draws
    if len(draws) != len(places) * k:
        file.fault("Count", f"{len(draws)} rows are not {k} draws of each of {len(places)} images")
        return 0
    images = identities[::k]
    for row, place in zip(range(0, len(draws), k), places, strict=True):
        source, key, _ = identities[row]
        if draws[row : row + k] != list(range(k)) or identities[row : row + k] != [identities[row]] * k:
            file.fault("Draws", f"rows {row} to {row + k - 1} are not the {k} draws of one image (key {key})")
        planned_source, planned_key = _planned(chunk, place)
        if source != planned_source or planned_key not in (None, key):
            file.fault("OtherImage", f"draws of {source} {key}, where the plan has {planned_source}")
    for (source, key, _), count in Counter(images).items():
        if count > 1:
            file.fault("Duplicate", f"{count} times the draws of {source} {key}")
    return len(images) - len({image[:2] for image in images})


def _places_with_draws(facts: Mapping[str, Any], chunk: Chunk) -> list[int]:
    without = {one["place"] for one in (*facts["errors"], *facts["filtered"])}
    return [place for place in chunk.places if place not in without]


def _check_sources(
    file: _File, table: pa.Table, facts: Mapping[str, Any], chunk: Chunk, expected: ExpectedChunk, archive: Store
) -> None:
    """Compare what the rows say of their sources with the archive as it is now."""
    samples = dict(zip(chunk.places, read_chunk(archive, chunk, neighbors=Neighbors()), strict=True))
    columns = [table[name].to_pylist()[:: expected.draws] for name in ("source", "key", "source_sha256")]
    for place, row in zip(_places_with_draws(facts, chunk), zip(*columns, strict=True), strict=False):
        sample = samples[place]
        try:
            digest = hashlib.sha256(image_member(sample, expected.settings.get("member"))).hexdigest()
        except ImageError as error:
            file.fault("Source", f"{sample.source} {sample.key} can't be read in the archive any more: {error}")
            continue
        if (sample.source, sample.key, digest) != row:
            file.fault("Source", f"{sample.source} {sample.key} in the archive is not what the draws were made of")


def _line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
