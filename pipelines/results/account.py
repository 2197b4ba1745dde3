"""The account of a batch job: every image of its plans has K draws, or an error, or was filtered.

It is made from the plans and from the footers of the committed draws files, and needs nothing else: it can be made
again at any time, by anyone. A failure that a later plan tried again counts there alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from condgen.errors import DatasetError
from pipelines.datasets.chunk import Chunk, chunks_to_table, iter_chunks
from pipelines.datasets.chunking import chunk_name
from pipelines.datasets.extent import LISTED_LATER, UNREAD
from pipelines.results.files import Failure, draws_name, iter_footers
from pipelines.results.plan import Generation
from pipelines.storage.store import Store

__all__ = ["Account", "committed", "make_account", "pending_chunks", "retried_places", "retry_chunks"]


@dataclass(slots=True, kw_only=True)
class Account:
    """What became of the images of all plans.

    Attributes:
        images: number of images in the plans, each counted once.
        draws, errors, filtered: numbers that are committed: K draws an image, errors not tried again, and images
            that the user's function left out.
        num_draws: K, draws of each image.
        failures: the errors, by the name of the plan and of the chunk.
        missing: draws files that are not there.
        foreign: draws files that are of another job.
    """

    num_draws: int
    images: int = 0
    draws: int = 0
    errors: int = 0
    filtered: int = 0
    failures: dict[str, dict[str, list[Failure]]] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)

    @property
    def with_draws(self) -> int:
        """The number of images that have all their draws."""
        return self.draws // self.num_draws

    @property
    def is_closed(self) -> bool:
        """Whether every image is accounted for."""
        whole = self.draws % self.num_draws == 0
        adds_up = self.with_draws + self.errors + self.filtered == self.images
        return whole and adds_up and not self.missing and not self.foreign

    @property
    def kinds(self) -> dict[str, int]:
        """The number of errors by stage and name."""
        return dict(Counter(f"{one.stage} {one.error}" for one in self._each_failure()))

    def _each_failure(self) -> Iterator[Failure]:
        for chunks in self.failures.values():
            for failures in chunks.values():
                yield from failures

    def add(self, plan: str, facts: Mapping[str, Any], retried: frozenset[int] = frozenset()) -> None:
        """Count a committed chunk.

        Args:
            plan: name of its plan.
            facts: contents of its draws file's footer.
            retried: places in it that a later plan does again.

        Raises:
            DatasetError: the footer was written by another version.
        """
        kept = [failure for failure in _failures(facts) if failure.place not in retried]
        self.draws += facts["counts"]["draws"]
        self.filtered += facts["counts"]["filtered"]
        self.errors += len(kept)
        failures = self.failures.setdefault(plan, {})
        if kept:
            failures[facts["chunk"]] = kept

    def of_plan(self, name: str) -> list[Failure]:
        """Return the errors of one plan, in its order."""
        return [failure for failures in self.failures.get(name, {}).values() for failure in failures]


def committed(results: Store) -> dict[str, int]:
    """Return the draws files that are there: size in bytes by name."""
    return {entry.name: entry.size_bytes for entry in results.list("draws")}


def pending_chunks(generations: Sequence[Generation], done: Mapping[str, int]) -> pa.Table:
    """Return the chunks of all plans whose draws file is not there."""
    tables = []
    known = pa.array(list(done), pa.string())
    for generation in generations:
        names = pc.binary_join_element_wise("draws/", generation.chunks["name"], ".parquet", "")
        tables.append(generation.chunks.filter(pc.invert(pc.is_in(names, value_set=known))))
    return pa.concat_tables(tables).combine_chunks()


def make_account(results: Store, generations: Sequence[Generation], job: str, num_draws: int) -> Account:
    """Make the account from what is committed.

    Args:
        results: store of the job's results.
        generations: plans of the job.
        job: digest that the footers of its files must state.
        num_draws: K, draws of each image.

    Raises:
        DatasetError: a draws file is damaged.
    """
    account = Account(num_draws=num_draws)
    sizes = committed(results)
    retried = retried_places(generations)
    for generation in generations:
        if generation.plan.kind == "archive":
            account.images += generation.plan.num_samples
        names = [draws_name(name) for name in generation.chunks["name"].to_pylist()]
        account.missing += [name for name in names if name not in sizes]
        there = {name: sizes[name] for name in names if name in sizes}
        for name, facts in zip(there, iter_footers(results, there), strict=True):
            if facts.get("job") != job:
                account.foreign.append(name)
                continue
            account.add(generation.plan.name, facts, retried.get(facts["chunk"], frozenset()))
    return account


def _failures(facts: Mapping[str, Any]) -> list[Failure]:
    try:
        return [Failure(**row) for row in facts["errors"]]
    except (TypeError, KeyError) as error:
        message = f"{draws_name(facts['chunk'])} was written by another version of condgen: name another RESULTS folder"
        raise DatasetError(message) from error


def retried_places(generations: Sequence[Generation]) -> dict[str, frozenset[int]]:
    """Return the places in each chunk that a later plan does again."""
    found: dict[str, frozenset[int]] = {}
    for generation in generations:
        if generation.plan.kind == "retry":
            for chunk in iter_chunks(generation.chunks):
                found[str(chunk.redoes)] = frozenset(chunk.places)
    return found


def retry_chunks(generations: Sequence[Generation], account: Account) -> pa.Table:
    """Return the chunks that do again what failed: the same chunks, with only the places of their errors.

    What stood for a whole shard or table, and is listed now, needs no doing: its samples are in a plan of their own.
    """
    chunks: list[Chunk] = []
    listed = _listed_later(generations)
    for generation in generations:
        failures = account.failures.get(generation.plan.name, {})
        wanted = generation.chunks.filter(
            pc.is_in(generation.chunks["name"], value_set=pa.array(list(failures), pa.string()))
        )
        for chunk in iter_chunks(wanted):
            places = tuple(sorted(failure.place for failure in failures[chunk.name]))
            name = chunk_name(len(chunks), [chunk.name, "+".join(map(str, places))])
            if chunk.start == UNREAD and chunk.shard in listed:
                chunk = _as_listed(chunk)
            chunks.append(
                replace(
                    chunk,
                    ordinal=len(chunks),
                    name=name,
                    samples=len(places),
                    select=places,
                    redoes=chunk.name,
                )
            )
    return chunks_to_table(chunks)


def _listed_later(generations: Sequence[Generation]) -> frozenset[str | None]:
    """Return the shards and tables that could not be read for one plan, and were for another."""
    unread: set[str | None] = set()
    read: set[str | None] = set()
    for generation in generations:
        whole = pc.equal(generation.chunks["samples"], 1)
        unread |= {chunk.shard for chunk in iter_chunks(generation.chunks.filter(whole)) if chunk.start == UNREAD}
    for generation in generations if unread else ():
        some = pc.is_in(generation.chunks["shard"], value_set=pa.array(list(unread), pa.string()))
        read |= {chunk.shard for chunk in iter_chunks(generation.chunks.filter(some)) if chunk.start >= 0}
    return frozenset(read)


def _as_listed(chunk: Chunk) -> Chunk:
    if chunk.rows is not None:
        return replace(chunk, rows=replace(chunk.rows, start=LISTED_LATER, stop=LISTED_LATER + 1))
    return replace(chunk, runs=tuple(replace(run, start=LISTED_LATER, stop=LISTED_LATER) for run in chunk.runs))
