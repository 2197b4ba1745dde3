"""Plans: what a batch job will do, written down before it does anything.

A plan freezes all that decides the bytes of the results: the chunks, the model, and the settings. It is written once,
the list of chunks first (`plan/<generation>.parquet`) and `plan/<generation>.json` last, so that the JSON's presence
means that the plan is whole. Running again reads it, and refuses settings that would give other bytes.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from condgen.errors import ConfigError, DatasetError
from pipelines.chunks import (
    CHUNK_SCHEMA,
    Chunk,
    ChunkLimits,
    chunks_from_files,
    chunks_from_runs,
    chunks_to_table,
)
from pipelines.datasets import open_complete
from pipelines.planning import chunk_table
from pipelines.storage import Store
from pipelines.webdatasets import locate_shards, open_archive

__all__ = ["BatchSettings", "Plan", "list_chunks", "load_plan", "plan_archive", "write_plan"]

_FORMAT = "condgen-plan-1"
_GENERATION = "000"


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchSettings:
    """All options that decide the bytes of the results; a plan holds them.

    Attributes:
        draws: K, outputs for each image.
        seed: of the run.
        batch_size: images in a batch of the model, always padded to it.
        temperature, mode: of `condgen.base.SampleOptions`.
        output_format, quality: of the pictures; see `pipelines.images.encode`.
        max_pixels: larger images are refused, as decompression bombs are.
        chunk_samples: most images in a chunk.
    """

    draws: int = 3
    seed: int = 0
    batch_size: int = 16
    mode: str = "draw"
    temperature: float = 1.0
    output_format: str = "jpeg"
    quality: int = 95
    max_pixels: int = 200_000_000
    chunk_samples: int = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A plan without its list of chunks.

    Attributes:
        archive: URI of what is read.
        model: `uri`, `family` and `digest` of the model.
        settings: every option that decides the bytes (draws, seed, batch shape, precision, format, ...).
        num_chunks, num_samples: of the list.
        chunks_sha256: of the list's file.
    """

    archive: str
    model: Mapping[str, str]
    settings: Mapping[str, Any]
    num_chunks: int
    num_samples: int
    chunks_sha256: str

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
        begun: dict[str, Any] = {"archive": self.archive, "model": self.model["digest"], **self.settings}
        wanted: dict[str, Any] = {"archive": archive, "model": model_digest, **settings}
        for name in sorted(begun.keys() | wanted.keys()):
            if begun.get(name) != wanted.get(name):
                raise ConfigError(
                    name,
                    wanted.get(name),
                    f"{begun.get(name)!r}, as these results were begun: name another RESULTS folder for a new run",
                )


def list_chunks(archive: str | Store, limits: ChunkLimits) -> Iterable[Chunk]:
    """The chunks of an archive: of its shards where it has any, else of its loose files in the order of their names.

    They are relative to `pipelines.webdatasets.archive_store(archive)`, which is not `open_store(archive)` for shards
    that are named by a pattern, or for an index that lies elsewhere.

    Raises:
        DatasetError: there is nothing in it.
        MissingError, AccessError: it can't be listed.
    """
    store, runs = open_archive(archive)
    if runs is not None:
        return chunks_from_runs(runs, limits)
    entries = store.list()
    if not entries:
        raise DatasetError(f"{store.uri} is empty: an archive is a folder or prefix of images, or of .tar shards")
    return chunks_from_files(entries, limits)


def plan_archive(archive: str | Store, limits: ChunkLimits) -> pa.Table:
    """The chunks of `list_chunks` as rows of `CHUNK_SCHEMA`; those of a dataset's index without an object each.

    Raises:
        As `list_chunks`.
    """
    store, names = (archive, None) if isinstance(archive, Store) else locate_shards(archive)
    dataset = open_complete(store.require()) if names is None else None
    if dataset is not None:
        return chunk_table(dataset.table(), limits)
    return chunks_to_table(list_chunks(archive, limits))


def write_plan(
    results: Store,
    chunks: Iterable[Chunk] | pa.Table,
    *,
    archive: str,
    model: Mapping[str, str],
    settings: Mapping[str, Any],
) -> tuple[Plan, pa.Table]:
    """Write a new plan, its JSON last; its chunks are objects or rows of `CHUNK_SCHEMA`."""
    table = chunks if isinstance(chunks, pa.Table) else chunks_to_table(chunks)
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd", row_group_size=4096)
    data = sink.getvalue()
    plan = Plan(
        archive=archive,
        model=dict(model),
        settings=dict(settings),
        num_chunks=table.num_rows,
        num_samples=int(pc.sum(table["samples"]).as_py() or 0),
        chunks_sha256=hashlib.sha256(data).hexdigest(),
    )
    results.write(f"plan/{_GENERATION}.parquet", data)
    facts = {"format": _FORMAT, **asdict(plan)}
    results.write(f"plan/{_GENERATION}.json", (json.dumps(facts, indent=2, sort_keys=True) + "\n").encode())
    return plan, table


def load_plan(results: Store) -> tuple[Plan, pa.Table] | None:
    """The plan of a results folder, or None where none was written.

    Raises:
        DatasetError: the plan is damaged or of another version.
    """
    name = f"plan/{_GENERATION}"
    if not results.exists(f"{name}.json"):
        return None
    try:
        facts = json.loads(results.read(f"{name}.json"))
        if facts.pop("format") != _FORMAT:
            raise ValueError("format")
        plan = Plan(**facts)
        data = results.read(f"{name}.parquet")
        if hashlib.sha256(data).hexdigest() != plan.chunks_sha256:
            raise ValueError("checksum")
        table = pq.read_table(io.BytesIO(data)).cast(CHUNK_SCHEMA)
    except (ValueError, TypeError, KeyError, pa.ArrowException) as error:
        raise DatasetError(
            f"{results.uri}/{name}.json is damaged or of another version: name another RESULTS folder"
        ) from error
    return plan, table
