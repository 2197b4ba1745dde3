"""The plan that does again what failed: the same chunks, with only the places of their errors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Set
from dataclasses import replace

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.datasets.chunk import Chunk, chunks_to_table, iter_chunks
from pipelines.datasets.chunking import chunk_name
from pipelines.datasets.extent import LISTED_LATER, UNREAD, UNREAD_KEY
from pipelines.results.account import Account
from pipelines.results.plan import Generation

__all__ = ["retry_chunks"]


def retry_chunks(generations: Sequence[Generation], account: Account) -> Iterator[pa.Table]:
    """Yield the chunks that do again what failed, in pieces.

    What stood for a whole shard or table, and is listed now, needs no doing: its samples are in a plan of their own.

    Args:
        generations: plans of the job.
        account: account of them, whose failures are in the order of the plans.
    """
    ordinal = 0
    unread = {one.source for failures in account.failures.values() for one in failures if one.key == UNREAD_KEY}
    listed = _listed_later(generations, unread) if unread else frozenset()
    for generation in generations:
        failures = account.failures_of(generation.plan.name).by_chunk()
        name, failed = next(failures, ("", []))
        for group, names in enumerate(generation.stored.pieces(["name"])):
            places: dict[str, tuple[int, ...]] = {}
            for known in names["name"].to_pylist():
                if known == name:
                    places[name] = tuple(sorted(failure.place for failure in failed))
                    name, failed = next(failures, ("", []))
            if places:
                wanted = pc.is_in(names["name"], value_set=pa.array(list(places), pa.string()))
                chunks = iter_chunks(generation.stored.piece(group).filter(wanted))
                again = [_again(chunk, ordinal + i, places[chunk.name], listed) for i, chunk in enumerate(chunks)]
                ordinal += len(again)
                yield chunks_to_table(again)


def _again(chunk: Chunk, ordinal: int, places: tuple[int, ...], listed: frozenset[str | None]) -> Chunk:
    if chunk.start == UNREAD and chunk.shard in listed:
        chunk = _as_listed(chunk)
    name = chunk_name(ordinal, [chunk.name, "+".join(map(str, places))])
    return replace(chunk, ordinal=ordinal, name=name, samples=len(places), select=places, redoes=chunk.name)


def _listed_later(generations: Sequence[Generation], unread: Set[str]) -> frozenset[str | None]:
    """Return those of the shards and tables that could not be read for one plan, and were for another."""
    read: set[str | None] = set()
    for piece in (piece for generation in generations for piece in generation.stored.pieces()):
        some = piece.filter(pc.is_in(piece["shard"], value_set=pa.array(list(unread), pa.string())))
        read |= {chunk.shard for chunk in iter_chunks(some) if chunk.start >= 0}
    return frozenset(read)


def _as_listed(chunk: Chunk) -> Chunk:
    if chunk.rows is not None:
        return replace(chunk, rows=replace(chunk.rows, start=LISTED_LATER, stop=LISTED_LATER + 1))
    return replace(chunk, runs=tuple(replace(run, start=LISTED_LATER, stop=LISTED_LATER) for run in chunk.runs))
