"""The verification of results as a whole: all that their plans say is there, and is right; `condgen verify` runs it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from condgen.errors import DatasetError
from pipelines.cluster.starting import usable_cpus
from pipelines.cluster.tasks import run_in_order
from pipelines.datasets.chunk import Chunk, iter_chunks
from pipelines.datasets.contents import parts_of
from pipelines.datasets.opening import archive_store
from pipelines.results.account import Account, NamedFiles, retried_places
from pipelines.results.commits import DrawsListing, look_up
from pipelines.results.files import draws_name
from pipelines.results.plan import Generation, job_digest, load_plans
from pipelines.results.settings import BatchSettings
from pipelines.results.verification.draws import ExpectedChunk, ResultFault, check_chunks
from pipelines.results.verification.tables import Findings, check_plans, check_run, check_strays, check_tables
from pipelines.storage.store import Store, open_store

__all__ = ["RAY_FROM_BYTES", "Verification", "verify_results"]

Sizes: TypeAlias = npt.NDArray[np.int64]

RAY_FROM_BYTES = 4 << 30
"""From this many bytes of draws files on, in storage that any machine reaches, Ray reads them; else threads do."""

_FOOTER_READERS = 16
_CHUNKS_A_TASK = 16


@dataclass(frozen=True, kw_only=True)
class Verification:
    """The outcome of a verification.

    Attributes:
        results: place of the results.
        plans, chunks: numbers of plans and chunks that were looked for.
        findings: the account, the faults.
        attempts: number of attempts' marks that were left; they harm nothing.
        left_out: numbers of the archive's files that were in no plan when it was listed last, by what they are.
        quick: whether only footers were read.
        seconds: time that it took.
    """

    results: str
    plans: int
    chunks: int
    findings: Findings
    attempts: int
    quick: bool
    seconds: float
    left_out: Mapping[str, int]

    @property
    def exit_code(self) -> int:
        """The exit code: 1 where anything is missing or wrong."""
        return 1 if self.findings.counts else 0

    def lines(self) -> list[str]:
        """Return the report, a line each."""
        found, account = self.findings, self.findings.account
        read = f"{found.rows:,} rows, {found.size_bytes / 1e6:,.1f} MB" if not self.quick else "footers alone"
        lines = [
            f"results       {self.results} ({self.plans} plan{'s' * (self.plans != 1)}, {self.chunks:,} chunks)",
            (
                f"images        {account.images:,}: {account.with_draws:,} with {account.num_draws} draws each, "
                f"{account.errors:,} errors, {account.filtered:,} filtered"
            ),
            f"read          {read} in {self.seconds:.1f} s",
        ]
        if self.left_out:
            total, parts = sum(self.left_out.values()), parts_of(self.left_out)
            lines.append(f"left out      {total:,} other files of the archive ({parts})")
        if found.repeated:
            lines.append(f"repeated      {found.repeated:,} images whose key another image of their shard has too")
        if self.attempts:
            lines.append(f"attempts      {self.attempts:,} marks are left of workers that were lost")
        if not found.counts:
            return [*lines, "complete      nothing is missing, and all is as it was written"]
        total = sum(found.counts.values())
        kinds = ", ".join(f"{name} {count:,}" for name, count in sorted(found.counts.items()))
        lines.append(f"faults        {total:,} ({kinds})")
        lines += [f"  {fault.file}: {fault.error}: {fault.message}" for fault in found.examples]
        if total > len(found.examples):
            lines.append(f"  ... and {total - len(found.examples):,} more")
        return lines


def verify_results(
    results: str,
    *,
    archive: str | None = None,
    quick: bool = False,
    cluster: Callable[[], AbstractContextManager[None]] = nullcontext,
    watch: Callable[[int, int, int], None] = lambda _done, _total, _faults: None,
) -> Verification:
    """Check all of a batch job's results.

    Args:
        results: a folder or prefix that `condgen colorize` or `translate` wrote.
        archive: place where its images lie now, to be compared with what the rows say of their sources.
        quick: whether to read the footers of draws files alone.
        cluster: context that starts Ray and ends it, where there is much to read; by default Ray starts by itself.
        watch: function that is told how many chunks are read, of how many, and the faults found.

    Raises:
        DatasetError: no job was begun there.
        MissingError, AccessError, StorageError: see `pipelines.storage.store`.
    """
    began = time.monotonic()
    store = open_store(results).require()
    sources = archive_store(archive).require() if archive is not None else None
    try:
        generations = load_plans(store)
    except DatasetError as error:
        findings = Findings(Account(num_draws=1))
        findings.add([ResultFault("plan", "Damaged", str(error))])
        generations = []
    else:
        if not generations:
            raise DatasetError(f"{store.uri} has no plan: name the RESULTS of condgen colorize or translate")
        findings = _verified(store, generations, sources, quick=quick, cluster=cluster, watch=watch)
    return Verification(
        results=results,
        plans=len(generations),
        chunks=sum(one.plan.num_chunks for one in generations),
        findings=findings,
        attempts=len(store.list("attempts")),
        quick=quick,
        seconds=time.monotonic() - began,
        left_out=next((one.plan.left_out for one in reversed(generations) if one.plan.kind == "archive"), {}),
    )


def _verified(
    store: Store,
    generations: Sequence[Generation],
    sources: Store | None,
    *,
    quick: bool,
    cluster: Callable[[], AbstractContextManager[None]],
    watch: Callable[[int, int, int], None],
) -> Findings:
    """Check all that there is, the plans and draws files first."""
    plan = generations[0].plan
    settings = BatchSettings.from_json(plan.settings)
    expected = ExpectedChunk(
        job=job_digest(plan.model["digest"], dict(plan.settings)),
        model=plan.model["digest"],
        settings=plan.settings,
        draws=settings.draws,
        seed=settings.seed,
        columns=settings.output.columns,
    )
    findings = Findings(Account(num_draws=settings.draws))
    account = findings.account
    account.images = sum(one.plan.num_samples for one in generations if one.plan.kind == "archive")
    findings.add(check_plans(generations))
    sizes, strays = _listed(store, generations, account.missing)
    findings.add(check_strays(store, generations, strays))
    findings.add_missing(account.missing)
    _read_all(store, generations, sizes, findings, expected, sources, quick=quick, cluster=cluster, watch=watch)
    if not account.is_closed:
        parts = f"{account.with_draws} images with draws, {account.errors} errors and {account.filtered} filtered"
        findings.add([ResultFault("draws", "Account", f"{parts} are not the {account.images} images of the plans")])
    if not account.missing:
        findings.add(check_tables(store, generations, account))
    findings.add(check_run(store, generations, account))
    return findings


def _listed(
    store: Store, generations: Sequence[Generation], missing: NamedFiles
) -> tuple[Sequence[Sizes], Iterator[str]]:
    """Return the sizes of each plan's draws files (-1 where there is none), and the names of files of no plan.

    Those that are not there are added to `missing`.
    """
    listing = DrawsListing(store)
    parts: dict[int, list[Sizes]] = {one.plan.generation: [] for one in generations}
    for part in look_up(listing, generations):
        parts[part.generation.plan.generation].append(part.sizes)
        for row in np.flatnonzero(~part.is_there).tolist():
            missing.add(draws_name(part.chunks["name"][row].as_py()))
    return [np.concatenate([np.zeros(0, np.int64), *sizes]) for sizes in parts.values()], listing.rest()


def _read_all(
    store: Store,
    generations: Sequence[Generation],
    sizes: Sequence[Sizes],
    findings: Findings,
    expected: ExpectedChunk,
    sources: Store | None,
    *,
    quick: bool,
    cluster: Callable[[], AbstractContextManager[None]],
    watch: Callable[[int, int, int], None],
) -> None:
    """Add what is found in each draws file, in the order of the plans."""
    retried = retried_places(generations)
    total = sum(int((one >= 0).sum()) for one in sizes)
    by_ray = not quick and "://" in store.uri and sum(int(one.clip(0).sum()) for one in sizes) >= RAY_FROM_BYTES
    # Hashing leaves Python's lock; footers, and answers from afar, are waited for.
    threads = _FOOTER_READERS if quick or "://" in store.uri else usable_cpus()
    read = faults = 0
    with cluster() if by_ray else nullcontext():
        for generation, its_sizes in zip(generations, sizes, strict=True):
            there = _there(generation, its_sizes)
            batches = iter(partial(_first, there), [])
            tasks = ((store, batch, expected, sources, quick) for batch in batches)
            for found in run_in_order(check_chunks, tasks, threads, on_ray=by_ray):
                read += len(found)
                faults += sum(len(one.faults) for one in found)
                watch(read, total, faults)
                for one in found:
                    findings.add_chunk(generation.plan.name, one, retried.get(one.chunk, frozenset()))


def _first(chunks: Iterator[tuple[Chunk, int]]) -> list[tuple[Chunk, int]]:
    return list(islice(chunks, _CHUNKS_A_TASK))


def _there(generation: Generation, sizes: Sizes) -> Iterator[tuple[Chunk, int]]:
    begin = 0
    for piece in generation.stored.pieces():
        its_sizes = sizes[begin : begin + piece.num_rows].tolist()
        begin += piece.num_rows
        yield from ((chunk, size) for chunk, size in zip(iter_chunks(piece), its_sizes, strict=True) if size >= 0)
