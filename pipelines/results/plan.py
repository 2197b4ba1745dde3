"""Plans: what a batch job will do, written down before it does anything.

A plan freezes all that decides the bytes of the results: the chunks, the model, and the settings. It is written once,
the list of chunks first (`plan/<generation>.parquet`, in pieces) and `plan/<generation>.json` last, so that the JSON's
presence means that the plan is whole. Running again reads it, and refuses settings that would give other bytes. An
archive that has grown, and failures that are to be tried again, add a generation: a plan of what is new, or to be done
again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from condgen.errors import ConfigError, DatasetError
from pipelines.datasets.chunk import CHUNK_SCHEMA
from pipelines.datasets.stored_chunks import PIECE_CHUNKS, StoredChunks
from pipelines.results.settings import BEFORE, UNNAMED, BatchSettings
from pipelines.storage.parquet import HELD_BYTES, StoredParquet, open_checked, open_parquet, write_parquet
from pipelines.storage.store import Store

__all__ = ["Generation", "Plan", "job_digest", "load_heads", "load_plans", "require_plans", "take_chunks", "write_plan"]

_FORMAT = "condgen-plan-2"
_NEWER = ("taken_as", "left_out")
"""Facts that plans didn't always have; where there is nothing to say, they are left out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A plan without its list of chunks.

    Attributes:
        generation: number of the plan (from 0, the first plan of a results folder).
        kind: `archive` (samples that are in no earlier plan) or `retry` (samples that failed in one).
        archive: URI of what is read.
        model: `uri`, `family` and `digest` of the model.
        settings: `BatchSettings` as JSON.
        num_chunks, num_samples: lengths of the list.
        chunks_sha256: SHA-256 of the list's file.
        taken_as: kind that the user said the archive is (``pipelines.datasets.contents.KINDS``; default: it was found).
        left_out: numbers of the archive's files that are in no chunk, by what they are.
    """

    generation: int
    kind: str
    archive: str
    model: Mapping[str, str]
    settings: Mapping[str, Any]
    num_chunks: int
    num_samples: int
    chunks_sha256: str
    taken_as: str = ""
    left_out: Mapping[str, int] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Of its files: 000, 001, ..."""
        return f"{self.generation:03d}"

    @property
    def digest(self) -> str:
        """SHA-256 of all that decides the bytes of the results; where the archive and model lie is not part of it."""
        facts = {"model": self.model["digest"], "settings": self.settings, "chunks": self.chunks_sha256}
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()

    def check(self, *, archive: str, model_digest: str, settings: Mapping[str, Any]) -> None:
        """Refuse to go on with another archive, model or setting than the results were begun with.

        Raises:
            ConfigError: the field that differs, and what to do.
        """
        # Results of before an option was there were made with what is its default now, or with what `BEFORE` says.
        settings_begun = {**BatchSettings().to_json(), **BEFORE, **UNNAMED, **self.settings}
        begun: dict[str, Any] = {"archive": self.archive, "model": self.model["digest"], **settings_begun}
        wanted: dict[str, Any] = {"archive": archive, "model": model_digest, **UNNAMED, **settings}
        for name in sorted(begun.keys() | wanted.keys()):
            if begun.get(name) != wanted.get(name):
                raise ConfigError(
                    name,
                    wanted.get(name),
                    f"{begun.get(name)!r}, as these results were begun: name another RESULTS folder for a new run",
                )


@dataclass(frozen=True, slots=True)
class Generation:
    """A plan and its list of chunks, which is read in pieces."""

    plan: Plan
    stored: StoredChunks = field(repr=False)

    @property
    def chunks(self) -> pa.Table:
        """All of the list in memory, in `pipelines.datasets.chunk.CHUNK_SCHEMA`."""
        return self.stored.table()


def job_digest(model_digest: str, settings: Mapping[str, Any]) -> str:
    """Return the digest that all draws files of a job state: SHA-256 of its model and its plan's settings."""
    facts = {"model": model_digest, "settings": settings}
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def write_plan(
    results: Store,
    chunks: pa.Table | Iterable[pa.Table],
    *,
    archive: str,
    model: Mapping[str, str],
    settings: Mapping[str, Any],
    generation: int = 0,
    kind: str = "archive",
    taken_as: str = "",
    left_out: Mapping[str, int] | None = None,
) -> Generation:
    """Write a new plan, its JSON last.

    Args:
        results: store that the job writes to.
        chunks: chunks in `CHUNK_SCHEMA`, as one table or in pieces; those of a later generation get its number before
            their names.
        archive, model, settings, generation, kind, taken_as, left_out: values of `Plan`.
    """
    name, counts = _list_name(generation), np.zeros(2, np.int64)

    def pieces() -> Iterator[pa.Table]:
        for piece in [chunks] if isinstance(chunks, pa.Table) else chunks:
            counts[:] += piece.num_rows, int(pc.sum(piece["samples"]).as_py() or 0)
            yield _named(piece, generation) if generation else piece

    sha256 = write_parquet(results, name, pieces(), CHUNK_SCHEMA, row_group_size=PIECE_CHUNKS, compression="zstd")
    plan = Plan(
        generation=generation,
        kind=kind,
        archive=archive,
        model=dict(model),
        settings=dict(settings),
        num_chunks=int(counts[0]),
        num_samples=int(counts[1]),
        chunks_sha256=sha256,
        taken_as=taken_as,
        left_out=dict(left_out or {}),
    )
    facts = {name: value for name, value in asdict(plan).items() if value or name not in _NEWER}
    results.write_json(f"plan/{plan.name}.json", {"format": _FORMAT, **facts})
    return _generation(results, plan, open_parquet(results, name, whole_up_to_bytes=HELD_BYTES))


def _generation(results: Store, plan: Plan, file: StoredParquet) -> Generation:
    return Generation(plan, StoredChunks(file, results.locate(_list_name(plan.generation))))


def _list_name(generation: int) -> str:
    return f"plan/{generation:03d}.parquet"


def _named(chunks: pa.Table, generation: int) -> pa.Table:
    names = pc.binary_join_element_wise(f"g{generation:03d}", chunks["name"], "-")
    place = CHUNK_SCHEMA.get_field_index("name")
    return chunks.set_column(place, CHUNK_SCHEMA.field(place), names)


def load_plans(results: Store, *, checked: bool = True) -> Sequence[Generation]:
    """Return the plans of a results folder, in the order of their generations; none where nothing was begun.

    Args:
        results: store of the results.
        checked: whether lists that are too large to be held are read through for their checksum. What looks at a few
            chunks alone can do without.

    Raises:
        DatasetError: a plan is damaged, missing before a later one, or of another version.
    """
    return [_load_chunks(results, plan, size, checked=checked) for plan, size in load_heads(results)]


def load_heads(results: Store) -> Sequence[tuple[Plan, int]]:
    """Return the plans of a results folder without their chunks, as `load_plans`, and the size of each one's list.

    A list is `plan/<name>.parquet`, whose size is in bytes (0 where it is not there).

    Raises:
        DatasetError: as `load_plans`.
    """
    sizes = {entry.name: entry.size_bytes for entry in results.list("plan")}
    names = sorted(name for name in sizes if name.endswith(".json"))
    found = [_load_head(results, name) for name in names]
    for place, plan in enumerate(found):
        if plan.generation != place:
            raise DatasetError(f"{results.uri}/plan/{place:03d}.json is missing: these results can't be continued")
    return [(plan, sizes.get(_list_name(plan.generation), 0)) for plan in found]


def take_chunks(generations: Sequence[Generation], places: Sequence[int]) -> pa.Table:
    """Return some chunks by their places in the lists of all plans one after the other, in ascending order.

    Raises:
        DatasetError: a list is damaged.
        StorageError: see `pipelines.storage.store`.
    """
    parts, begin = [CHUNK_SCHEMA.empty_table()], 0
    for one in generations:
        end = begin + one.plan.num_chunks
        parts.append(one.stored.take([place - begin for place in places if begin <= place < end]))
        begin = end
    return pa.concat_tables(parts)


def require_plans(results: Store, *, checked: bool = True) -> Sequence[Generation]:
    """Return the plans of results that were begun, see `load_plans`.

    Raises:
        DatasetError: nothing was begun there, or as `load_plans`.
    """
    generations = load_plans(results, checked=checked)
    if not generations:
        raise DatasetError(f"{results.uri} has no plan: name the RESULTS of condgen colorize or translate")
    return generations


def _load_head(results: Store, name: str) -> Plan:
    try:
        facts = json.loads(results.read(name))
        if facts.pop("format") != _FORMAT:
            raise ValueError("format")
        return Plan(**facts)
    except (ValueError, TypeError, KeyError) as error:
        raise _damaged(results, name) from error


def _load_chunks(results: Store, plan: Plan, size_bytes: int, *, checked: bool) -> Generation:
    name = _list_name(plan.generation)
    try:
        if not checked and size_bytes > HELD_BYTES:
            return _generation(results, plan, open_parquet(results, name, size_bytes=size_bytes))
        return _generation(results, plan, open_checked(results, name, plan.chunks_sha256, size_bytes=size_bytes))
    except DatasetError as error:
        raise _damaged(results, f"plan/{plan.name}.json") from error


def _damaged(results: Store, name: str) -> DatasetError:
    return DatasetError(f"{results.uri}/{name} is damaged or of another version: name another RESULTS folder")
