"""The batch job: an archive, a model, and K draws of each image into Parquet, every image accounted for.

    archive ─ plan of chunks ─ (those not yet committed) ─ workers ─ draws/*.parquet ─ errors/*.parquet ─ run.json

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
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from importlib.metadata import version
from itertools import chain

import pyarrow as pa
import pyarrow.compute as pc

from condgen.errors import ConfigError, DatasetError, JobError
from pipelines.batch.archive import NewChunks, Selection, cut_archive, some_names
from pipelines.batch.attempts import forget_run
from pipelines.batch.outcome import check_outcome, check_rate
from pipelines.batch.pool_shape import Resources, runs_here
from pipelines.batch.probe import ModelFacts, inspect_model
from pipelines.batch.report import VERSIONS, BatchReport, Pace, image_columns, write_run
from pipelines.batch.rounds import run_chunks
from pipelines.batch.worker import Workers, WorkerSpec
from pipelines.cluster.starting import stops_by_signal
from pipelines.datasets.chunk import ChunkLimits
from pipelines.datasets.opening import Archive, listing_table, open_archive
from pipelines.datasets.shard_names import locate
from pipelines.models.hooks import Functions
from pipelines.models.source import ModelSource, open_model
from pipelines.results.account import Account, make_account
from pipelines.results.commits import PendingChunks
from pipelines.results.files import draws_schema, write_errors
from pipelines.results.plan import Generation, job_digest, load_plans, write_plan
from pipelines.results.retrying import retry_chunks
from pipelines.results.settings import BatchSettings
from pipelines.storage.store import Store, open_store

__all__ = ["BatchJob", "BatchRun", "ListedJob", "Resources", "list_job", "run_batch"]


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
    """A job's places, its plans and what of them is pending, and the chunks of its archive that no plan has yet."""

    job: BatchJob
    archive: Archive
    archive_uri: str
    results: Store
    source: ModelSource
    settings: BatchSettings
    begun: list[Generation]
    fresh: NewChunks
    pending: PendingChunks

    @property
    def some_chunks(self) -> int:
        """The number of chunks to be done, as far as it is known before they are all cut."""
        return self.pending.num_rows + int(self.fresh.first.num_rows)

    @property
    def most_samples(self) -> int:
        """The largest number of images that may be done, as far as it is known before all chunks are cut."""
        begun = sum(one.plan.num_samples for one in self.begun) if self.job.retry_errors else self.pending.num_samples
        return begun + int(pc.sum(self.fresh.first["samples"]).as_py() or 0)

    def left(self) -> Iterator[pa.Table]:
        """Yield the chunks to be done in pieces of `CHUNK_SCHEMA`, without the failures to be tried again."""
        return chain(self.pending.pieces(), self.fresh.pieces())


def list_job(job: BatchJob) -> ListedJob:
    """List what a job has to do, without its model.

    Raises:
        ConfigError: an option that is not allowed.
        DatasetError, StorageError: the archive or the results can't be used.
    """
    results = open_store(job.results)
    place = locate(job.archive)
    if place.patterns is None and results.is_inside(place.store):
        raise ConfigError("results", job.results, "a place outside ARCHIVE")
    draws_schema(job.settings.output.columns)
    source = open_model(job.model, trust_code=job.trust_code)
    begun = list(load_plans(results))
    before = BatchSettings.from_json(begun[0].plan.settings) if begun else None
    settings = job.settings.settle(before, functions=job.functions.digest())
    job = replace(job, selection=replace(job.selection, taken_as=_taken_as(job, begun)))
    archive = open_archive(place, taken_as=job.selection.taken_as)
    return ListedJob(
        job=job,
        archive=replace(archive, files=listing_table([])),
        archive_uri=place.store.uri if place.patterns is None else open_store(job.archive).uri,
        results=results,
        source=source,
        settings=settings,
        begun=begun,
        fresh=_fresh(job, archive, settings, begun),
        pending=PendingChunks.of(results, begun),
    )


def _taken_as(job: BatchJob, begun: list[Generation]) -> str | None:
    """Return the kind that the archive is taken for: as the user says, which is as the results were begun."""
    wanted, before = job.selection.taken_as, begun[0].plan.taken_as if begun else ""
    if wanted and before and wanted != before:
        raise ConfigError("--as", wanted, f"{before!r}, as these results were begun: name another RESULTS folder")
    return wanted or before or None


def _fresh(job: BatchJob, archive: Archive, settings: BatchSettings, begun: list[Generation]) -> NewChunks:
    selection = replace(job.selection, facts=tuple(name for name, _ in settings.output.columns))
    limits, planned = ChunkLimits(samples=settings.chunk_samples), [one.stored for one in begun]
    fresh = NewChunks(partial(cut_archive, archive, limits, selection, planned))
    if not begun and fresh.first.num_rows == 0:
        raise DatasetError(f"{job.archive}: no image is left by the options (where, limit)")
    return fresh


def run_batch(
    job: BatchJob,
    *,
    cluster: Callable[[], AbstractContextManager[None]] = nullcontext,
    watch: Callable[[Pace], None] | None = None,
) -> BatchReport:
    """Do a job, or what is left of it.

    Args:
        job: the job.
        cluster: context that starts Ray and ends it, where the job needs Ray (`pipelines.batch.pool_shape.runs_here`);
            by default Ray is there (`ray.init()`), or starts by itself.
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
    pace = Pace()
    if not listed.some_chunks and not job.retry_errors:
        run = BatchRun(listed, inspect_model(listed.source, listed.settings))
        return run.finish(run.account(), pace)
    with _workers(listed, cluster) as workers:
        workers.begin(max(1, listed.some_chunks))
        # In one of them, on the device that the model will run on: the driver imports no torch.
        run = BatchRun(listed, workers.ask(inspect_model, listed.source, listed.settings))
        chunks = run.begin()
        if chunks.num_rows:
            _work(run, chunks, pace, workers, watch)
        account = run.account()
        again = run.plan_retry(account)
        if again is not None:
            _work(run, again, pace, workers, watch)
            account = run.account()
    return run.finish(account, pace)


@contextmanager
def _workers(listed: ListedJob, cluster: Callable[[], AbstractContextManager[None]]) -> Iterator[Workers]:
    """The workers of a job for the time of the block: on Ray, or of this machine alone."""
    resources = listed.job.resources
    if runs_here(resources, listed.most_samples):
        from pipelines.batch.local_workers import LocalWorkers

        with stops_by_signal(), LocalWorkers(resources) as here:
            yield here
        return
    from pipelines.batch.ray_workers import RayWorkers

    with cluster():
        yield RayWorkers(resources)


class BatchRun:
    """A job as it is run: its settings have nothing open any more, and its plans are written first.

    Args:
        listed: the job.
        model: its model, and the settings with what the model decides.

    Raises:
        ConfigError: the field that is not as these results were begun.
    """

    def __init__(self, listed: ListedJob, model: ModelFacts) -> None:
        settings, self._abandons = model.settings.to_json(), False
        if listed.begun:
            try:
                listed.begun[0].plan.check(archive=listed.archive_uri, model_digest=model.digest, settings=settings)
            except ConfigError:
                if listed.pending.has_commits:
                    raise
                archive = open_archive(listed.job.archive, taken_as=listed.job.selection.taken_as)
                fresh = _fresh(listed.job, archive, model.settings, [])
                listed, self._abandons = replace(listed, begun=[], fresh=fresh, pending=PendingChunks()), True
        self.listed, self.model = listed, model
        self._plans = list(listed.begun)
        # Results that were begun before an option was there don't get it.
        self._plan_settings = dict(listed.begun[0].plan.settings) if listed.begun else settings
        self._digest = job_digest(model.digest, self._plan_settings)

    def begin(self) -> PendingChunks:
        """Write the plan of what is in no plan yet, and return all chunks that are not committed."""
        if self._abandons:  # nothing was committed: another plan takes the place of those begun
            for entry in self.listed.results.list("plan"):
                self.listed.results.delete(entry.name)
        if not self.listed.fresh.first.num_rows:
            return self.listed.pending
        return self.listed.pending.joined(self._add_plan(self.listed.fresh.pieces(), "archive"))

    def _add_plan(self, chunks: Iterator[pa.Table], kind: str) -> Generation:
        generation = write_plan(
            self.listed.results,
            chunks,
            archive=self.listed.archive_uri,
            model={"uri": self.listed.source.uri, "family": self.model.family, "digest": self.model.digest},
            settings=self._plan_settings,
            generation=len(self._plans),
            kind=kind,
            taken_as=self.listed.job.selection.taken_as or "",
            left_out=self.listed.archive.left_out if kind == "archive" else {},
        )
        self._plans.append(generation)
        return generation

    def worker_spec(self) -> WorkerSpec:
        """Return what the actors need."""
        return WorkerSpec(
            archive=self.listed.archive.store,
            results=self.listed.results,
            model=self.listed.source,
            model_digest=self.model.digest,
            settings=self.model.settings,
            footer={
                "job": self._digest,
                "model": self.model.digest,
                "settings": self._plan_settings,
                "versions": {name: version(name) for name in VERSIONS},
            },
            functions=self.listed.job.functions,
            run=secrets.token_hex(4),
            import_path=self.listed.job.import_path,
            known=some_names(self.listed.fresh.first, *(one.stored for one in self._plans)),
        )

    def pending(self) -> PendingChunks:
        """Return the chunks that are not committed."""
        return PendingChunks.of(self.listed.results, self._plans)

    def account(self) -> Account:
        """Return what became of the images, see `pipelines.results.account`."""
        return make_account(self.listed.results, self._plans, self._digest, self.model.settings.draws)

    def plan_retry(self, account: Account) -> PendingChunks | None:
        """Plan to do again what failed, where the job asks for it and something did; return the chunks."""
        if not self.listed.job.retry_errors or not account.errors or account.missing:
            return None
        return PendingChunks().joined(self._add_plan(retry_chunks(self._plans, account), "retry"))

    def finish(self, account: Account, pace: Pace) -> BatchReport:
        """Write the tables of errors and, last, run.json.

        Raises:
            JobError: an image is not accounted for; or all is, and every image failed, or more than are allowed.
        """
        results = self.listed.results
        if account.missing:
            first = account.missing.first[0]
            raise JobError(f"{len(account.missing)} chunks were not committed, {first} first: run it again")
        if account.foreign:
            first = account.foreign.first[0]
            raise JobError(f"{results.uri}/{first} belongs to another job: delete it and run this one again")
        if not account.is_closed:
            counts = f"{account.with_draws} images with draws, {account.errors} errors and {account.filtered} filtered"
            raise JobError(f"{counts} are not the {account.images} images of the plans: see `condgen verify`")
        for generation in self._plans:
            write_errors(results, generation.plan.name, account.failures_of(generation.plan.name))
        forget_run(results)
        report = BatchReport(
            results=self.listed.job.results,
            images=account.images,
            with_draws=account.with_draws,
            draws=account.draws,
            errors=account.errors,
            filtered=account.filtered,
            errors_by_kind=dict(account.kinds),
            generations=len(self._plans),
            pace=pace,
            archive=self.listed.archive.description,
            image_columns=image_columns(piece for one in self._plans for piece in one.stored.pieces(["rows"])),
        )
        if pace.images or not results.exists("run.json"):  # complete already: what it says of its own run stays
            write_run(results, self._plans, report)
        check_outcome(account, results, self.listed.job.max_error_rate)
        return report


def _work(run: BatchRun, chunks: PendingChunks, pace: Pace, workers: Workers, watch: Callable[[Pace], None]) -> None:
    """Do the chunks that are pending."""
    results, job = run.listed.results, run.listed.job
    pace.archive = run.listed.archive.description
    spec = run.worker_spec()
    chunks_left = chunks.num_rows
    pace.total += chunks.num_samples
    start, before = time.perf_counter(), pace.seconds
    pace.engine, pace.cpus, pace.gpus = workers.engine, workers.cpus, workers.gpus
    watch(pace)
    rounds = chain([chunks], iter(run.pending, None))  # what a second round has is listed before it
    try:
        with workers.metrics(results.uri) as tell_left:
            tell_left(chunks=chunks_left, images=pace.total - pace.images)
            for receipt in run_chunks(partial(next, rounds), spec, workers):
                pace.add(receipt, before + time.perf_counter() - start)
                chunks_left -= 1
                tell_left(chunks=chunks_left, images=pace.total - pace.images)
                watch(pace)
                if chunks_left:
                    check_rate(pace, job.max_error_rate)
    except (KeyboardInterrupt, JobError):
        forget_run(results, spec.run)  # stopped on purpose: no chunk of it is to blame
        raise
