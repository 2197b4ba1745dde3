"""Whether results are what their plans say, found from the plans and the draws files alone.

`check_chunks` looks at draws files, some at a time, so that they can be read side by side; `check_plans`,
`check_tables`, `check_run` and `check_strays` look at what lies around them. `Findings` adds it all up: the account,
how many faults of each kind there are, and the first of them.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from condgen.errors import DatasetError, ImageError, MissingError
from pipelines.accounts import Account
from pipelines.chunks import Chunk, image_member, iter_chunks, read_chunk
from pipelines.parquet_images import StoreFile
from pipelines.plans import Generation
from pipelines.results import draws_name, draws_schema, read_footer, rows_digest
from pipelines.storage import Store

__all__ = [
    "ChunkFindings",
    "Expected",
    "Findings",
    "ResultFault",
    "check_chunks",
    "check_plans",
    "check_run",
    "check_strays",
    "check_tables",
]

_WHOLE_BYTES = 16 << 20
_FAULTS_A_FILE = 8
_EXAMPLES = 50


@dataclass(frozen=True, slots=True, order=True)
class ResultFault:
    """Something that is missing or wrong: in which file of the results, a short name, and what it is."""

    file: str
    error: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What all draws files of a job must state.

    Attributes:
        job: see `pipelines.batch_job.job_digest`.
        draws: K.
        seed: of the plan.
        columns: names and types of what is copied into the rows.
    """

    job: str
    draws: int
    seed: int
    columns: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkFindings:
    """What was found in a chunk's draws file.

    Attributes:
        chunk: its name.
        facts: the chunk's name, counts, errors, as its footer has them; None where it can't be read or is not the
            job's.
        faults: the first of them, and how many there are in all.
        rows, size_bytes: that were read.
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
    expected: Expected,
    archive: Store | None = None,
    quick: bool = False,
) -> list[ChunkFindings]:
    """Check the draws files of some chunks.

    Args:
        results: of the job.
        chunks: of its plans, with the size of each one's draws file in bytes.
        expected: what the files must state.
        archive: where given, its images are read, and compared with what the rows say of their sources.
        quick: read the footers alone.

    Raises:
        StorageError: the storage failed, which says nothing of the results.
    """
    return [_check_chunk(results, chunk, size, expected, archive, quick) for chunk, size in chunks]


def _check_chunk(
    results: Store, chunk: Chunk, size_bytes: int, expected: Expected, archive: Store | None, quick: bool
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
            table, digests = _read_rows(results, file.name, size_bytes)
            rows = table.num_rows
            repeated = _check_rows(file, table, digests, facts, chunk, expected)
            if archive is not None:
                _check_sources(file, table, facts, chunk, expected, archive)
        except (pa.ArrowException, OSError, KeyError) as error:
            file.fault("Damaged", f"its rows can't be read: {_line(error)}: delete it and run the job again")
    return ChunkFindings(
        chunk=chunk.name,
        facts={name: facts[name] for name in ("chunk", "counts", "errors")},
        faults=file.faults(),
        rows=rows,
        size_bytes=size_bytes if not quick else 0,
        repeated=repeated,
    )


def _check_footer(file: _File, facts: Mapping[str, Any], chunk: Chunk, expected: Expected) -> bool:
    """Compare a footer with the plan; False where the file is of another job."""
    if facts["job"] != expected.job:
        file.fault("OtherJob", "it is of another model or of other settings: delete it and run the job again")
        return False
    if facts["chunk"] != chunk.name or facts.get("ordinal", chunk.ordinal) != chunk.ordinal:
        file.fault("OtherChunk", f"its footer says that it is chunk {facts['chunk']}: delete it and run the job again")
        return False
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


def _read_rows(results: Store, name: str, size_bytes: int) -> tuple[pa.Table, list[str]]:
    """The rows of a draws file without their pictures, and the SHA-256 of each picture; a row group in memory."""
    source: Any
    if size_bytes <= _WHOLE_BYTES:
        source = io.BytesIO(results.read(name))
    else:
        source = pa.PythonFile(StoreFile(results, name), mode="r")
    parts, digests = [], []
    with pq.ParquetFile(source) as file:
        for group in range(file.num_row_groups):
            part = file.read_row_group(group)
            paths = []
            for piece in part["image"].chunks:
                paths.append(pa.StructArray.from_arrays([piece.field("path")], ["path"]))
                digests += [hashlib.sha256(data.as_buffer() or b"").hexdigest() for data in piece.field("bytes")]
            place = part.schema.get_field_index("image")
            parts.append(part.set_column(place, "image", pa.chunked_array(paths, pa.struct([("path", pa.string())]))))
        if not parts:
            return file.schema_arrow.empty_table(), []
    return pa.concat_tables(parts), digests


def _check_rows(
    file: _File, table: pa.Table, digests: Sequence[str], facts: Mapping[str, Any], chunk: Chunk, expected: Expected
) -> int:
    """Compare the rows with the footer and the plan; returns how many images share their identity with another."""
    if table.schema.names != draws_schema(expected.columns).names:
        file.fault("Schema", f"its columns are {', '.join(table.schema.names)}")
        return 0
    if rows_digest(table) != facts["rows_sha256"]:
        file.fault("RowsDigest", "its rows are not those that its footer was made of")
    stated = table["image_sha256"].to_pylist()
    for row, (found, want) in enumerate(zip(digests, stated, strict=True)):
        if found != want:
            key = table["key"][row].as_py()
            file.fault("ImageDigest", f"the picture in row {row} (key {key}) is not the one that was written")
    if table.num_rows != facts["counts"]["draws"]:
        file.fault("Count", f"{table.num_rows} rows, {facts['counts']['draws']} draws in its footer")
    if set(table["seed"].to_pylist()) - {expected.seed}:
        file.fault("Seed", f"rows of another seed than {expected.seed}")
    return _check_images(file, table, facts, chunk, expected)


def _check_images(file: _File, table: pa.Table, facts: Mapping[str, Any], chunk: Chunk, expected: Expected) -> int:
    """Each place of the plan without an error has K rows, draws 0 to K - 1 of one image."""
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
    file: _File, table: pa.Table, facts: Mapping[str, Any], chunk: Chunk, expected: Expected, archive: Store
) -> None:
    """Compare what the rows say of their sources with the archive as it is now."""
    samples = dict(zip(chunk.places, read_chunk(archive, chunk), strict=True))
    columns = [table[name].to_pylist()[:: expected.draws] for name in ("source", "key", "source_sha256")]
    for place, row in zip(_places_with_draws(facts, chunk), zip(*columns, strict=True), strict=False):
        sample = samples[place]
        try:
            digest = hashlib.sha256(image_member(sample)).hexdigest()
        except ImageError as error:
            file.fault("Source", f"{sample.source} {sample.key} can't be read in the archive any more: {error}")
            continue
        if (sample.source, sample.key, digest) != row:
            file.fault("Source", f"{sample.source} {sample.key} in the archive is not what the draws were made of")


def _line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


@dataclass(slots=True)
class Findings:
    """All that was found in results: the account, and their faults.

    Attributes:
        account: see `pipelines.accounts`.
        counts: faults by name.
        examples: the first faults.
        rows, size_bytes: that were read.
        repeated: images whose source and key another image has too, as the archive has them.
    """

    account: Account
    counts: Counter[str] = field(default_factory=Counter)
    examples: list[ResultFault] = field(default_factory=list)
    rows: int = 0
    size_bytes: int = 0
    repeated: int = 0

    def add(self, faults: Iterable[ResultFault]) -> None:
        """Add faults."""
        for fault in faults:
            self.counts[fault.error] += 1
            if len(self.examples) < _EXAMPLES:
                self.examples.append(fault)

    def add_chunk(self, plan: str, found: ChunkFindings, retried: frozenset[int]) -> None:
        """Add a chunk of a plan; `retried` are the places in it that a later plan does again."""
        self.add(found.faults)
        self.rows += found.rows
        self.size_bytes += found.size_bytes
        self.repeated += found.repeated
        if found.facts is None:
            return
        failed = {one["place"] for one in found.facts["errors"]}
        if not retried <= failed:
            message = "a later plan does images of it again that had not failed"
            self.add([ResultFault(draws_name(found.chunk), "Duplicate", message)])
        try:
            self.account.add(plan, found.facts, retried)
        except DatasetError as error:
            self.add([ResultFault(draws_name(found.chunk), "Damaged", str(error))])


def check_plans(generations: Sequence[Generation]) -> list[ResultFault]:
    """Whether plans count what they list, and no image is in two of them."""
    faults = []
    for generation in generations:
        plan, chunks = generation.plan, generation.chunks
        counted = chunks.num_rows, int(pc.sum(chunks["samples"]).as_py() or 0)
        if counted != (plan.num_chunks, plan.num_samples):
            faults.append(ResultFault(f"plan/{plan.name}.json", "Count", "it counts other chunks than it lists"))
        begun = generations[0].plan
        if (plan.model["digest"], plan.settings) != (begun.model["digest"], begun.settings):
            faults.append(ResultFault(f"plan/{plan.name}.json", "OtherJob", "another model or settings than plan 000"))
    tables = [generation.chunks for generation in generations]
    names = pa.chunked_array([chunk for table in tables for chunk in table["name"].chunks], pa.string())
    if pc.count_distinct(names).as_py() != len(names):
        faults.append(ResultFault("plan", "Duplicate", "two chunks have one name"))
    new = [table.filter(pc.is_null(table["redoes"])) for table in tables]
    whole = pa.concat_tables([table.filter(pc.is_null(table["select"])) for table in new])
    parts = [chunk for table in new for chunk in iter_chunks(table.filter(pc.is_valid(table["select"])))]
    if _has_repeated_units(whole) or _has_repeated_parts(parts):
        faults.append(ResultFault("plan", "Duplicate", "an image is in two chunks"))
    return faults


def _has_repeated_units(whole: pa.Table) -> bool:
    """Whether a file, a run of a shard or a first row is in two chunks."""
    table = whole.combine_chunks()
    files = table["files"].combine_chunks().flatten()
    runs = table["runs"].combine_chunks()
    rows = table.filter(pc.is_valid(table["rows"]))
    units = [
        pa.table({"shard": pa.nulls(len(files), pa.string()), "unit": files.field("name")}),
        _units(table["shard"].combine_chunks().take(pc.list_parent_indices(runs)), runs.flatten().field("start")),
        _units(rows["shard"], pc.struct_field(rows["rows"], "start")),
    ]
    for table in units:
        if table.num_rows and table.group_by(["shard", "unit"]).aggregate([]).num_rows != table.num_rows:
            return True
    return False


def _units(shard: Any, start: Any) -> pa.Table:
    return pa.table({"shard": shard, "unit": start})


def _has_repeated_parts(parts: Sequence[Chunk]) -> bool:
    seen: set[tuple[str, int]] = set()
    for chunk in parts:
        start = chunk.runs[0].start if chunk.runs else chunk.rows.start if chunk.rows else 0
        for place in chunk.places:
            unit = (chunk.files[place].name, 0) if chunk.shard is None else (f"{chunk.shard}:{start}", place)
            if unit in seen:
                return True
            seen.add(unit)
    return False


def check_strays(results: Store, generations: Sequence[Generation], there: Iterable[str]) -> list[ResultFault]:
    """Files in draws/ and errors/ that no plan names: readers of the folder would count them too."""
    planned = {draws_name(name) for one in generations for name in one.chunks["name"].to_pylist()}
    tables = {f"errors/{one.plan.name}.parquet" for one in generations}
    strays = [name for name in there if name not in planned]
    strays += [entry.name for entry in results.list("errors") if entry.name not in tables]
    return [ResultFault(name, "Stray", "no plan names it: delete it") for name in strays]


def check_tables(results: Store, generations: Sequence[Generation], account: Account) -> list[ResultFault]:
    """Whether the tables of errors are what the footers of the draws files say, without what was tried again."""
    faults = []
    for generation in generations:
        name = f"errors/{generation.plan.name}.parquet"
        want = [failure.row() for failure in account.of_plan(generation.plan.name)]
        try:
            rows = pq.read_table(io.BytesIO(results.read(name))).to_pylist()
        except MissingError:
            faults.append(ResultFault(name, "Missing", "it is written when the job is complete: run it again"))
            continue
        except (pa.ArrowException, OSError) as error:
            faults.append(ResultFault(name, "Damaged", f"it can't be read: {_line(error)}: run the job again"))
            continue
        if rows != want:
            message = f"{len(rows)} rows are not the {len(want)} errors of the draws files: run the job again"
            faults.append(ResultFault(name, "Errors", message))
    return faults


def check_run(results: Store, generations: Sequence[Generation], account: Account) -> list[ResultFault]:
    """Whether run.json is there and says what the plans and the account say."""
    name = "run.json"
    try:
        facts = json.loads(results.read(name))
        counts = facts["counts"]
        stated = [(plan["name"], plan["digest"]) for plan in facts["plans"]]
        told = facts["model"]["digest"], facts["settings"]
    except MissingError:
        return [ResultFault(name, "Missing", "the job is not complete: run it again")]
    except (ValueError, KeyError, TypeError):
        return [ResultFault(name, "Damaged", "it can't be read: delete it and run the job again")]
    faults = []
    plan = generations[0].plan
    if stated != [(one.plan.name, one.plan.digest) for one in generations]:
        faults.append(ResultFault(name, "Plans", "other plans than are there: run the job again"))
    if told != (plan.model["digest"], plan.settings):
        faults.append(ResultFault(name, "OtherJob", "another model or settings than the plan's"))
    for what in ("images", "with_draws", "draws", "errors", "filtered"):
        found = getattr(account, what)
        if counts.get(what) != found:
            faults.append(ResultFault(name, "Count", f"{what} {counts.get(what)}, found {found}"))
    return faults
