"""The batch job: an archive, a model, and K draws of each image into Parquet, every image accounted for.

    archive ─ plan of chunks ─ (those not yet committed) ─ actors ─ draws/*.parquet ─ errors/*.parquet ─ run.json

Running the same job again goes on where it stopped: a chunk whose draws file is there is done. An archive that has
grown, and failures that are to be tried again, are plans of their own.

    import ray
    from pipelines.batch import BatchJob, run_batch
    from pipelines.results import BatchSettings

    ray.init()
    report = run_batch(BatchJob(archive="photos/", results="results/", model="runs/first",
                                settings=BatchSettings(draws=5)))
"""

from __future__ import annotations

import secrets
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, fields, replace
from functools import partial
from importlib.metadata import version
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from condgen.errors import ConfigError, DatasetError, JobError
from pipelines.batch.archive import Selection, plan_archive
from pipelines.batch.attempts import forget_run
from pipelines.batch.probe import ModelFacts, inspect_model
from pipelines.batch.report import VERSIONS, BatchReport, Pace, write_run
from pipelines.batch.workers import Actors, PoolShape, WorkerSpec, pool_shape, run_chunks
from pipelines.datasets.chunk import ChunkLimits, iter_chunks
from pipelines.datasets.opening import Archive, open_archive
from pipelines.models.hooks import Functions
from pipelines.models.source import ModelSource, open_model
from pipelines.results.account import Account, committed, make_account, pending_chunks, retry_chunks
from pipelines.results.files import draws_schema, write_errors
from pipelines.results.plan import Generation, job_digest, load_plans, write_plan
from pipelines.results.settings import BatchSettings
from pipelines.storage.store import Store, open_store

__all__ = ["BatchJob", "BatchRun", "ListedJob", "PreparedJob", "Resources", "list_job", "run_batch", "settle_job"]

_RATE_IMAGES = 200
_MOST_ERRORS = 0.9
_KNOWN = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """What a job takes of a cluster.

    Attributes:
        actors: numbers of actors, at least and at most (None leaves it to the cluster's resources).
        num_gpus: GPUs for each actor (None is one where the cluster has any).
    """

    actors: tuple[int, int] | None = None
    num_gpus: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchJob:
    """A batch job: the job.

    Attributes:
        archive, results, model: local paths or URIs; a model may be `package.module:Class`, see `docs/own-models.md`.
        settings: options that decide the bytes of the results.
        selection: part of the archive that is wanted.
        resources: share of the cluster that the job takes.
        retry_errors: whether to do again what failed.
        functions: the user's own functions, before and after the model.
        trust_code: whether the model may be a file that is a program.
        max_error_rate: share of the images that may fail (0 to 1). Past it, the job stops once 200 images were tried,
            or has failed at its end. By default it stops where more than nine of ten fail: that is another kind of
            archive, a wrong column or a broken copy; fewer are what old archives and lists of links are like.
        import_path: folders where workers import a user's model from, besides their own path.
    """

    archive: str
    results: str
    model: str
    settings: BatchSettings = field(default_factory=BatchSettings)
    selection: Selection = field(default_factory=Selection)
    resources: Resources = field(default_factory=Resources)
    retry_errors: bool = False
    functions: Functions = field(default_factory=Functions)
    trust_code: bool = False
    max_error_rate: float | None = None
    import_path: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedJob:
    """A job's places, its plans and what of them is done, and the chunks of its archive that no plan has yet."""

    job: BatchJob
    archive: Store
    archive_uri: str
    results: Store
    source: ModelSource
    settings: BatchSettings
    begun: list[Generation]
    fresh: pa.Table
    done: dict[str, int]

    @property
    def left(self) -> pa.Table:
        """The chunks to be done, in `pipelines.datasets.chunk.CHUNK_SCHEMA`, without the failures to be tried again."""
        pending = [pending_chunks(self.begun, self.done)] if self.begun else []
        return pa.concat_tables([*pending, self.fresh])


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedJob(ListedJob):
    """A job as it is to be run: its settings have nothing open any more.

    Attributes:
        model: the model.
        plan_settings: the settings as the plans hold them; those begun before an option was there don't get it.
        digest: digest that the footers of the job's files state.
    """

    model: ModelFacts
    plan_settings: dict[str, Any]
    digest: str

    def write_plan(self, chunks: pa.Table, generation: int, kind: str) -> Generation:
        """Write a plan of some chunks, see `pipelines.results.plan.write_plan`."""
        return write_plan(
            self.results,
            chunks,
            archive=self.archive_uri,
            model={"uri": self.source.uri, "family": self.model.family, "digest": self.model.digest},
            settings=self.plan_settings,
            generation=generation,
            kind=kind,
        )

    def worker_spec(self) -> WorkerSpec:
        """Return what the actors need."""
        return WorkerSpec(
            archive=self.archive,
            results=self.results,
            model=self.source,
            model_digest=self.model.digest,
            settings=self.settings,
            footer={
                "job": self.digest,
                "model": self.model.digest,
                "settings": self.plan_settings,
                "versions": {name: version(name) for name in VERSIONS},
            },
            functions=self.job.functions,
            run=secrets.token_hex(4),
            import_path=self.job.import_path,
            known=_some_names(pa.concat_tables([self.left, *(one.chunks for one in self.begun)])),
        )


def _some_names(chunks: pa.Table) -> tuple[str, ...]:
    """Return the names of a few objects from all over some chunks, those that are far from each other first."""
    places = np.unique(np.linspace(0, chunks.num_rows - 1, min(_KNOWN, chunks.num_rows)).round().astype(int))
    some = list(iter_chunks(chunks.take([*places[:1], *places[:0:-1]])))
    shards = [chunk.shard for chunk in some if chunk.shard is not None]
    files = [chunk.files[len(chunk.files) * part // 3].name for part in range(3) for chunk in some if chunk.files]
    return tuple(dict.fromkeys([*shards, *files]))[:_KNOWN]


def list_job(job: BatchJob) -> ListedJob:
    """List what a job has to do, without its model.

    Raises:
        ConfigError: an option that is not allowed.
        DatasetError, StorageError: the archive or the results can't be used.
    """
    results = open_store(job.results)
    if results.is_inside(open_store(job.archive.partition("::")[0])):
        raise ConfigError("results", job.results, "a place outside ARCHIVE")
    draws_schema(job.settings.output.columns)
    source = open_model(job.model, trust_code=job.trust_code)
    begun, done = list(load_plans(results)), committed(results)
    settings = replace(job.settings, functions=job.functions.digest())
    settings = settings.settle(BatchSettings.from_json(begun[0].plan.settings) if begun else None)
    archive = open_archive(job.archive)
    return ListedJob(
        job=job,
        archive=archive.store,
        archive_uri=open_store(job.archive).uri,
        results=results,
        source=source,
        settings=settings,
        begun=begun,
        fresh=_fresh(job, archive, settings, begun),
        done=done,
    )


def _fresh(job: BatchJob, archive: Archive, settings: BatchSettings, begun: list[Generation]) -> pa.Table:
    selection = replace(job.selection, facts=tuple(name for name, _ in settings.output.columns))
    limits = ChunkLimits(samples=settings.chunk_samples)
    table = plan_archive(archive, limits, selection, [one.chunks for one in begun])
    if not begun and table.num_rows == 0:
        raise DatasetError(f"{job.archive}: no image is left by the options (where, limit)")
    return table


def settle_job(listed: ListedJob, model: ModelFacts) -> PreparedJob:
    """Fix what was open, and refuse what is not as these results were begun.

    Raises:
        ConfigError: the field that differs.
    """
    begun, fresh = listed.begun, listed.fresh
    if begun:
        settings = model.settings.to_json()
        try:
            begun[0].plan.check(archive=listed.archive_uri, model_digest=model.digest, settings=settings)
        except ConfigError:
            if listed.done:
                raise
            for entry in listed.results.list("plan"):  # nothing was committed: another plan may take its place
                listed.results.delete(entry.name)
            begun, fresh = [], _fresh(listed.job, open_archive(listed.job.archive), model.settings, [])
    plan_settings = dict(begun[0].plan.settings) if begun else model.settings.to_json()
    values = {one.name: getattr(listed, one.name) for one in fields(ListedJob)}
    return PreparedJob(
        **{**values, "settings": model.settings, "begun": begun, "fresh": fresh},
        model=model,
        plan_settings=plan_settings,
        digest=job_digest(model.digest, plan_settings),
    )


def run_batch(
    job: BatchJob,
    *,
    cluster: Callable[[], AbstractContextManager[None]] = nullcontext,
    watch: Callable[[Pace], None] | None = None,
) -> BatchReport:
    """Do a job, or what is left of it.

    Args:
        job: the job.
        cluster: context that starts Ray and ends it; by default Ray is there (`ray.init()`), or starts by itself.
        watch: function that is told the pace, at the beginning and after each chunk.

    Raises:
        ConfigError: an option that is not allowed, or another than these results were begun with.
        CheckpointError, DatasetError, StorageError: the model or the archive can't be used.
        JobError: too many errors or nothing else, storage that is out, a cluster that fails again and again, or
            accounts that do not close.
    """
    watch = watch or (lambda _: None)
    # All places are resolved here: Ray's start leaves the working directory for a while.
    listed = list_job(job)
    num_chunks = listed.left.num_rows
    actors = Actors()
    with cluster() if num_chunks or job.retry_errors else nullcontext():
        if num_chunks or job.retry_errors:
            model = _inspect_on_cluster(listed, max(1, num_chunks), actors)
        else:
            model = inspect_model(listed.source, listed.settings)
        prepared = settle_job(listed, model)
        run, pace = BatchRun(prepared), Pace()
        if prepared.left.num_rows:
            _work(run, pace, actors, watch)
        account = run.account()
        if run.plan_retry(account):
            _work(run, pace, actors, watch)
            account = run.account()
    return run.finish(account, pace)


def _inspect_on_cluster(listed: ListedJob, num_chunks: int, actors: Actors) -> ModelFacts:
    """Begin the actors, and look at the model in one of them, on the device that it will run on.

    The driver imports no torch: the actors do while the plan is made.
    """
    import ray

    if not ray.is_initialized():
        ray.init()
    actors.begin(_shape(listed.job.resources, num_chunks))
    return actors.ask(inspect_model, listed.source, listed.settings)


def _shape(resources: Resources, num_chunks: int) -> PoolShape:
    import ray

    cluster = ray.cluster_resources()  # type: ignore[no-untyped-call]
    return pool_shape(cluster, num_chunks=num_chunks, actors=resources.actors, num_gpus=resources.num_gpus)


class BatchRun:
    """A job that is being run: its plans, which are written first, and what is committed of them.

    Args:
        prepared: the job.
    """

    def __init__(self, prepared: PreparedJob) -> None:
        self.prepared = prepared
        self._plans = list(prepared.begun)
        if prepared.fresh.num_rows:
            self._add_plan(prepared.fresh, "archive")

    def _add_plan(self, chunks: pa.Table, kind: str) -> None:
        self._plans.append(self.prepared.write_plan(chunks, len(self._plans), kind))

    def pending(self) -> pa.Table:
        """Return the chunks that are not committed, in `pipelines.datasets.chunk.CHUNK_SCHEMA`."""
        return pending_chunks(self._plans, committed(self.prepared.results))

    def account(self) -> Account:
        """Return what became of the images, see `pipelines.results.account`."""
        return make_account(self.prepared.results, self._plans, self.prepared.digest, self.prepared.settings.draws)

    def plan_retry(self, account: Account) -> bool:
        """Plan to do again what failed, where the job asks for it; return whether there is anything."""
        wanted = self.prepared.job.retry_errors and account.errors > 0 and not account.missing
        if wanted:
            self._add_plan(retry_chunks(self._plans, account), "retry")
        return wanted

    def finish(self, account: Account, pace: Pace) -> BatchReport:
        """Write the tables of errors and, last, run.json.

        Raises:
            JobError: an image is not accounted for; or all is, and every image failed, or more than are allowed.
        """
        results = self.prepared.results
        if account.missing:
            first = account.missing[0]
            raise JobError(f"{len(account.missing)} chunks were not committed, {first} first: run it again")
        if account.foreign:
            first = account.foreign[0]
            raise JobError(f"{results.uri}/{first} belongs to another job: delete it and run this one again")
        if not account.is_closed:
            counts = f"{account.with_draws} images with draws, {account.errors} errors and {account.filtered} filtered"
            raise JobError(f"{counts} are not the {account.images} images of the plans: see `condgen verify`")
        for generation in self._plans:
            write_errors(results, generation.plan.name, account.of_plan(generation.plan.name))
        forget_run(results)
        report = BatchReport(
            results=self.prepared.job.results,
            images=account.images,
            with_draws=account.with_draws,
            draws=account.draws,
            errors=account.errors,
            filtered=account.filtered,
            errors_by_kind=account.kinds,
            generations=len(self._plans),
            pace=pace,
        )
        if pace.images or not results.exists("run.json"):  # complete already: what it says of its own run stays
            write_run(results, self._plans, report)
        _check_outcome(account, results, self.prepared.job.max_error_rate)
        return report


def _work(run: BatchRun, pace: Pace, actors: Actors, watch: Callable[[Pace], None]) -> None:
    """Do the chunks that are pending, on the cluster that is connected."""
    import ray

    from pipelines.batch.metrics import JobMetrics

    results, job = run.prepared.results, run.prepared.job
    spec = run.prepared.worker_spec()
    table = run.pending()
    chunks_left = table.num_rows
    pace.total += int(pc.sum(table["samples"]).as_py() or 0)
    gauges = JobMetrics(results.uri)
    start, before = time.perf_counter(), pace.seconds

    resources = ray.cluster_resources()  # type: ignore[no-untyped-call]
    pace.cpus, pace.gpus = resources.get("CPU", 0.0), resources.get("GPU", 0.0)
    watch(pace)
    try:
        for receipt in run_chunks(run.pending, spec, partial(_shape, job.resources), actors):
            pace.add(receipt, before + time.perf_counter() - start)
            chunks_left -= 1
            gauges.left(chunks=chunks_left, images=pace.total - pace.images)
            watch(pace)
            if chunks_left:
                _check_rate(pace, job.max_error_rate)
    except (KeyboardInterrupt, JobError):
        forget_run(results, spec.run)  # stopped on purpose: no chunk of it is to blame
        raise


def _check_rate(pace: Pace, most: float | None) -> None:
    """Stop a job that fails too often while there is work left to save.

    Raises:
        JobError: more of its images failed than are allowed.
    """
    share = _MOST_ERRORS if most is None else most
    if pace.images >= _RATE_IMAGES and pace.errors > share * pace.images:
        raise JobError(
            f"{_told(pace.errors, pace.images, pace.kinds)}, more than --max-error-rate {share:g}: what is done is "
            "committed; mend the cause, or allow a higher rate, and run the same command again"
        )


def _check_outcome(account: Account, results: Store, most: float | None) -> None:
    """Tell of a job that is complete and all the same no success.

    Raises:
        JobError: every image failed, or more than the user allows.
    """
    again = f"the reasons are in {results.uri}/errors; mend the cause, then --retry-errors"
    if account.errors and account.errors == account.images:
        raise JobError(f"{_told(account.errors, account.images, account.kinds)}, every one: {again}")
    if most is not None and account.errors > most * account.images:
        raise JobError(
            f"{_told(account.errors, account.images, account.kinds)}, more than --max-error-rate {most:g}: all is "
            f"committed, {again}"
        )


def _told(errors: int, images: int, kinds: Mapping[str, int]) -> str:
    most = ", ".join(f"{count} {kind}" for kind, count in Counter(kinds).most_common(5))
    return f"{errors} of {images} images failed ({most})"
