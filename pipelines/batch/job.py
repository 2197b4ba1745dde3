"""The batch job: an archive, a model, and K draws of each image into Parquet, every image accounted for.

    archive ─ plan of chunks ─ (those not yet committed) ─ actors ─ draws/*.parquet ─ errors/*.parquet ─ run.json

Running the same job again goes on where it stopped: a chunk whose draws file is there is done. An archive that has
grown, and failures that are to be tried again, are plans of their own.

    import ray
    from pipelines.batch.job import BatchJob, run_batch
    from pipelines.results.plan import BatchSettings

    ray.init()
    report = run_batch(BatchJob(archive="photos/", results="results/", model="runs/first",
                                settings=BatchSettings(draws=5)))
"""

from __future__ import annotations

import hashlib
import inspect
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, fields, replace
from functools import partial
from importlib.metadata import version
from tokenize import TokenError
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from condgen.errors import ConfigError, DatasetError, JobError
from pipelines.batch.archive import Selection, plan_archive
from pipelines.batch.attempts import forget_run
from pipelines.batch.probe import ModelFacts, inspect_model
from pipelines.batch.report import VERSIONS, BatchReport, Pace, write_run
from pipelines.batch.workers import Actors, PoolShape, WorkerSpec, pool_shape, run_chunks
from pipelines.datasets.chunk import ChunkLimits
from pipelines.datasets.opening import Archive, open_archive
from pipelines.models.hooks import Functions
from pipelines.models.source import ModelSource, open_model
from pipelines.results.account import Account, committed, make_account, pending_chunks, retry_chunks
from pipelines.results.files import Receipt, draws_schema, write_errors
from pipelines.results.plan import BatchSettings, Generation, job_digest, load_plans, write_plan
from pipelines.storage.store import Store, open_store

__all__ = ["BatchJob", "Listed", "Prepared", "list_job", "run_batch", "settle_job", "worker_spec"]

_RATE_IMAGES = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchJob:
    """What is to be done.

    Attributes:
        archive, results, model: local paths or URIs; a model may be `package.module:Class`, see `docs/own-models.md`.
        settings: all that decides the bytes.
        selection: what of the archive is wanted.
        retry_errors: do again what failed.
        functions: the user's own, before and after the model.
        trust_code: the model may be a file that is a program.
        actors: at least and at most; None leaves it to the cluster's resources.
        num_gpus: for each actor; None is one where the cluster has any.
        max_error_rate: of the images of this run; above it the job stops.
        import_path: where workers import a user's model from, besides their own path.
    """

    archive: str
    results: str
    model: str
    settings: BatchSettings = field(default_factory=BatchSettings)
    selection: Selection = field(default_factory=Selection)
    retry_errors: bool = False
    functions: Functions = field(default_factory=Functions)
    trust_code: bool = False
    actors: tuple[int, int] | None = None
    num_gpus: float | None = None
    max_error_rate: float = 1.0
    import_path: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """A job's places, its plans and what of them is done, and the chunks of its archive that no plan has yet."""

    job: BatchJob
    archive: Store
    results: Store
    source: ModelSource
    settings: BatchSettings
    begun: list[Generation]
    fresh: pa.Table
    done: dict[str, int]

    @property
    def images_left(self) -> int:
        """Images to be done."""
        tables: list[pa.Table] = self._left
        return int(sum(int(pc.sum(table["samples"]).as_py() or 0) for table in tables))

    @property
    def chunks_left(self) -> int:
        """Chunks to be done; one where failures alone are to be tried again."""
        return max(1, int(sum(table.num_rows for table in self._left)))

    @property
    def _left(self) -> list[pa.Table]:
        return [self.fresh, *([pending_chunks(self.begun, self.done)] if self.begun else [])]


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared(Listed):
    """A job as it is to be run: its settings have nothing open any more."""

    model: ModelFacts

    @property
    def plan_settings(self) -> dict[str, Any]:
        """The settings as the plans hold them: those that were begun before an option was there don't get it."""
        return dict(self.begun[0].plan.settings) if self.begun else self.settings.to_json()


def list_job(job: BatchJob) -> Listed:
    """List what a job has to do, without its model.

    Raises:
        ConfigError: an option that is not allowed.
        DatasetError, StorageError: the archive or the results can't be used.
    """
    _check_apart(job.archive, job.results)
    draws_schema(job.settings.columns)
    results, source = open_store(job.results), open_model(job.model, trust_code=job.trust_code)
    begun, done = list(load_plans(results)), committed(results)
    settings = replace(job.settings, functions=_functions_digest(job.functions))
    settings = settings.settle(BatchSettings.from_json(begun[0].plan.settings) if begun else None)
    archive = open_archive(job.archive)
    return Listed(
        job=job,
        archive=archive.store,
        results=results,
        source=source,
        settings=settings,
        begun=begun,
        fresh=_fresh(job, archive, settings, begun),
        done=done,
    )


def _fresh(job: BatchJob, archive: Archive, settings: BatchSettings, begun: list[Generation]) -> pa.Table:
    selection = replace(job.selection, facts=tuple(name for name, _ in settings.columns))
    limits = ChunkLimits(samples=settings.chunk_samples)
    table = plan_archive(archive, limits, selection, [one.chunks for one in begun])
    if not begun and table.num_rows == 0:
        raise DatasetError(f"{job.archive}: no image is left by the options (where, limit)")
    return table


def settle_job(listed: Listed, model: ModelFacts) -> Prepared:
    """Fix what was open, and refuse what is not as these results were begun.

    Raises:
        ConfigError: the field that differs.
    """
    settings = replace(listed.settings, batch_size=model.batch_size, precision=model.precision)
    begun, fresh = listed.begun, listed.fresh
    if begun:
        archive = open_store(listed.job.archive).uri
        try:
            begun[0].plan.check(archive=archive, model_digest=model.digest, settings=settings.to_json())
        except ConfigError:
            if listed.done:
                raise
            for entry in listed.results.list("plan"):  # nothing was committed: another plan may take its place
                listed.results.delete(entry.name)
            begun, fresh = [], _fresh(listed.job, open_archive(listed.job.archive), settings, [])
    values = {one.name: getattr(listed, one.name) for one in fields(Listed)}
    return Prepared(**{**values, "settings": settings, "begun": begun, "fresh": fresh}, model=model)


def run_batch(
    job: BatchJob,
    *,
    cluster: Callable[[], AbstractContextManager[None]] = nullcontext,
    watch: Callable[[Pace], None] | None = None,
) -> BatchReport:
    """Do a job, or what is left of it.

    Args:
        job: what is to be done.
        cluster: what starts Ray and ends it; by default Ray is there (`ray.init()`), or starts by itself.
        watch: told of the pace, at the beginning and after each chunk.

    Raises:
        ConfigError: an option that is not allowed, or another than these results were begun with.
        CheckpointError, DatasetError, StorageError: the model or the archive can't be used.
        JobError: too many errors, a cluster that fails again and again, or accounts that do not close.
    """
    # All places are resolved here: Ray's start leaves the working directory for a while.
    listed = list_job(job)
    nothing = not listed.images_left and not job.retry_errors
    with nullcontext() if nothing else cluster():
        actors = Actors()
        model = inspect_model(listed.source, listed.settings) if nothing else _inspect_on_cluster(listed, actors)
        prepared = settle_job(listed, model)
        generations = _write_plans(prepared)
        digest = job_digest(prepared.model.digest, prepared.plan_settings)
        pace = Pace()
        if prepared.images_left:
            pace = _work(prepared, generations, digest, watch, pace, actors)
        account = _account(prepared, generations, digest)
        if job.retry_errors and account.errors and not account.missing:
            generations.append(_plan(prepared, retry_chunks(generations, account), len(generations), "retry"))
            pace = _work(prepared, generations, digest, watch, pace, actors)
            account = _account(prepared, generations, digest)
    return _finish(prepared, generations, account, pace)


def _inspect_on_cluster(listed: Listed, actors: Actors) -> ModelFacts:
    """Begin the actors, and look at the model in one of them, on the device that it will run on.

    The driver imports no torch: the actors do while the plan is made.
    """
    import ray

    if not ray.is_initialized():
        ray.init()
    actors.begin(_shape(listed.job, listed.chunks_left))
    return actors.ask(inspect_model, listed.source, listed.settings)


def _shape(job: BatchJob, num_chunks: int) -> PoolShape:
    import ray

    resources = ray.cluster_resources()  # type: ignore[no-untyped-call]
    return pool_shape(resources, num_chunks=num_chunks, actors=job.actors, num_gpus=job.num_gpus)


def _check_apart(archive: str, results: str) -> None:
    """Refuse results inside the archive: the next listing would take them for images."""
    inner, outer = (open_store(place).uri.rstrip("/") + "/" for place in (results, archive.partition("::")[0]))
    if inner.startswith(outer):
        raise ConfigError("results", results, "a place outside ARCHIVE")


def _functions_digest(functions: Functions) -> str:
    """What tells one pair of user's functions from another: their names and their source; empty without any."""
    parts = []
    for function in (functions.before, functions.after):
        if function is None:
            parts.append("")
            continue
        try:
            source = inspect.getsource(function)
        except (OSError, TypeError, SyntaxError, TokenError):  # none, or a file that has changed since
            source = ""
        parts.append(
            f"{getattr(function, '__module__', '')}.{getattr(function, '__qualname__', repr(type(function)))}\n{source}"
        )
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16] if any(parts) else ""


def _plan(prepared: Prepared, chunks: pa.Table, generation: int, kind: str) -> Generation:
    return write_plan(
        prepared.results,
        chunks,
        archive=open_store(prepared.job.archive).uri,
        model={"uri": prepared.source.uri, "family": prepared.model.family, "digest": prepared.model.digest},
        settings=prepared.plan_settings,
        generation=generation,
        kind=kind,
    )


def _write_plans(prepared: Prepared) -> list[Generation]:
    generations = list(prepared.begun)
    if prepared.fresh.num_rows:
        generations.append(_plan(prepared, prepared.fresh, len(generations), "archive"))
    return generations


def _account(prepared: Prepared, generations: list[Generation], digest: str) -> Account:
    return make_account(prepared.results, generations, digest, prepared.settings.draws)


def _work(
    prepared: Prepared,
    generations: list[Generation],
    digest: str,
    watch: Callable[[Pace], None] | None,
    pace: Pace,
    actors: Actors,
) -> Pace:
    """Do the chunks that are left, on the cluster that is connected."""
    import ray

    from pipelines.batch.metrics import JobMetrics

    spec = worker_spec(prepared, digest)
    pending = _Pending(prepared.results, generations)
    pace.total += int(pc.sum(pending().column("samples")).as_py() or 0)
    gauges = JobMetrics(prepared.results.uri)
    start, before = time.perf_counter(), pace.seconds

    resources = ray.cluster_resources()  # type: ignore[no-untyped-call]
    pace.cpus, pace.gpus = resources.get("CPU", 0.0), resources.get("GPU", 0.0)
    if watch:
        watch(pace)
    receipts: Iterator[Receipt] = run_chunks(pending, spec, partial(_shape, prepared.job), actors)
    try:
        for receipt in receipts:
            pace.add(receipt, before + time.perf_counter() - start)
            gauges.left(chunks=pending.left(receipt), images=pace.total - pace.images)
            if watch:
                watch(pace)
            _check_rate(pace, prepared.job.max_error_rate)
    except (KeyboardInterrupt, JobError):
        forget_run(prepared.results, spec.run)  # stopped on purpose: no chunk of it is to blame
        raise
    return pace


class _Pending:
    """Lists what is not committed, and counts it down."""

    def __init__(self, results: Store, generations: list[Generation]) -> None:
        self._results = results
        self._generations = generations
        self._left = 0

    def __call__(self) -> pa.Table:
        table = pending_chunks(self._generations, committed(self._results))
        self._left = table.num_rows
        return table

    def left(self, _receipt: Receipt) -> int:
        """The chunks that are left after one more receipt."""
        self._left -= 1
        return self._left


def _check_rate(pace: Pace, most: float) -> None:
    if pace.images >= min(_RATE_IMAGES, pace.total) and pace.errors > most * pace.images:
        kinds = ", ".join(f"{count} {kind}" for kind, count in pace.kinds.most_common(5))
        raise JobError(
            f"{pace.errors} of {pace.images} images failed ({kinds}), more than --max-error-rate {most:g}: what is "
            "done is committed; mend the cause, or allow a higher rate, and run the same command again"
        )


def worker_spec(prepared: Prepared, digest: str) -> WorkerSpec:
    """What the actors of a job need; `digest` is what the footers of their files state."""
    return WorkerSpec(
        archive=prepared.archive,
        results=prepared.results,
        model=prepared.source,
        model_digest=prepared.model.digest,
        settings=prepared.settings,
        footer={
            "job": digest,
            "model": prepared.model.digest,
            "settings": prepared.plan_settings,
            "versions": {name: version(name) for name in VERSIONS},
        },
        functions=prepared.job.functions,
        run=secrets.token_hex(4),
        import_path=prepared.job.import_path,
    )


def _finish(prepared: Prepared, generations: list[Generation], account: Account, pace: Pace) -> BatchReport:
    """Write the tables of errors and, last, run.json."""
    results = prepared.results
    if account.missing:
        raise JobError(f"{len(account.missing)} chunks were not committed, {account.missing[0]} first: run it again")
    if account.foreign:
        raise JobError(f"{results.uri}/{account.foreign[0]} belongs to another job: delete it and run this one again")
    if not account.is_closed:
        counts = f"{account.with_draws} images with draws, {account.errors} errors and {account.filtered} filtered"
        raise JobError(f"{counts} are not the {account.images} images of the plans: see `condgen verify`")
    for generation in generations:
        write_errors(results, generation.plan.name, account.of_plan(generation.plan.name))
    forget_run(results)
    report = BatchReport(
        results=prepared.job.results,
        images=account.images,
        with_draws=account.with_draws,
        draws=account.draws,
        errors=account.errors,
        filtered=account.filtered,
        errors_by_kind=account.kinds,
        generations=len(generations),
        pace=pace,
    )
    if pace.images or not results.exists("run.json"):  # complete already: what it says of its own run stays
        write_run(results, generations, report)
    return report
