"""`condgen colorize`: an archive of photographs to a Parquet table of colorized draws.

    archive ─ plan of chunks ─ (those not yet committed) ─ actors ─ draws/*.parquet ─ errors/*.parquet ─ run.json

Running the same command again goes on where it stopped: a chunk whose draws file is there is done.
"""

from __future__ import annotations

import json
import logging
import time
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from typing import cast

import pyarrow as pa

from condgen.errors import ConfigError, JobError
from jobs.runtime import Progress, ray_cluster
from pipelines.chunks import ChunkLimits
from pipelines.plans import BatchSettings, Plan, load_plan, plan_archive, write_plan
from pipelines.ray_batch import WorkerSpec, pool_shape, run_chunks
from pipelines.results import Failure, draws_name, iter_footers, write_errors
from pipelines.storage import Store, open_store
from pipelines.webdatasets import archive_store

__all__ = ["ColorizeOptions", "ColorizeReport", "Pace", "run"]

logger = logging.getLogger(__name__)
_VERSIONS = ("condgen", "torch", "torchvision", "numpy", "pillow", "pyarrow")


@dataclass(frozen=True, slots=True, kw_only=True)
class ColorizeOptions:
    """What `condgen colorize` was asked for.

    Attributes:
        archive, results, model: local paths or URIs.
        settings: all that decides the bytes.
        workers: model actors; 0 leaves it to the cluster's resources.
        verbose: show Ray's own log.
    """

    archive: str
    results: str
    model: str
    settings: BatchSettings = field(default_factory=BatchSettings)
    workers: int = 0
    verbose: bool = False


@dataclass(slots=True)
class Pace:
    """What this run of the command did: images and seconds, and those after the first chunk was committed."""

    images: int = 0
    seconds: float = 0.0
    steady_images: int = 0
    steady_seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ColorizeReport:
    """How a job ended; the counts are of all of the results, the seconds and images/s of this run of the command."""

    results: str
    images: int
    with_draws: int
    draws: int
    errors: int
    errors_by_kind: dict[str, int]
    pace: Pace

    @property
    def images_per_s(self) -> float:
        """Of this run of the command, from the first chunk handed out to the last committed."""
        return self.pace.images / self.pace.seconds if self.pace.seconds > 0 else 0.0

    @property
    def steady_images_per_s(self) -> float:
        """The same, from the first chunk committed on: without what the actors need to start."""
        return self.pace.steady_images / self.pace.steady_seconds if self.pace.steady_seconds > 0 else 0.0

    def lines(self) -> list[str]:
        """The summary, a line each."""
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(self.errors_by_kind.items()))
        if self.pace.images:
            pace = f"{self.pace.images} in {self.pace.seconds:.1f} s: {self.images_per_s:.1f} images/s"
        else:
            pace = "nothing was left to do"
        return [
            f"images in     {self.images}",
            f"draws out     {self.draws} (of {self.with_draws} images)",
            f"errors        {self.errors}" + (f" ({kinds})" if kinds else ""),
            f"this run      {pace}",
            f"Parquet       {self.results}/draws/*.parquet",
        ]


def run(options: ColorizeOptions) -> ColorizeReport:
    """Colorize an archive, or what is left of it.

    Raises:
        ConfigError: an option that is not allowed, or another than these results were begun with.
        CheckpointError, DatasetError, StorageError: the model or the archive can't be used.
        JobError: the accounts do not close; never expected.
    """
    # All places are resolved here: Ray's start leaves the working directory for a while.
    results, model = open_store(options.results), open_store(options.model).require()
    archive = archive_store(options.archive)
    begun = load_plan(results)
    # An archive that can't be read or is empty is an error now, before anything is started.
    chunks = None if begun else plan_archive(options.archive, _limits(options.settings))
    done = _committed(results)
    complete = begun is not None and not _pending(begun[1], done)
    with ThreadPoolExecutor(1, thread_name_prefix="model") as pool:
        # Importing torch and loading the model takes seconds, and so does starting Ray: side by side.
        inspected = pool.submit(_inspect_model, model, options.settings)
        with nullcontext() if complete else ray_cluster(verbose=options.verbose):
            plan, table = _plan(options, results, begun, chunks, inspected.result())
            rows = _pending(table, done)
            logger.info("%d of %d chunks are left to do", len(rows), table.num_rows)
            pace = Pace()
            if rows:
                spec = _worker_spec(archive, results, model, plan, options.settings)
                pace = _work(spec, table.take(pa.array(rows)), options.workers)
    return _finish(options, results, plan, table, pace)


def _pending(table: pa.Table, done: Mapping[str, int]) -> list[int]:
    """The rows of a plan whose draws file is not there."""
    return [row for row, name in enumerate(table["name"].to_pylist()) if draws_name(name) not in done]


def _limits(settings: BatchSettings) -> ChunkLimits:
    return ChunkLimits(samples=settings.chunk_samples)


def _inspect_model(store: Store, settings: BatchSettings) -> dict[str, str]:
    from pipelines.models import load_model, picture_task

    loaded = load_model(store)
    picture_task(loaded)
    if settings.draws > 1 and settings.mode == "draw" and not loaded.model.is_stochastic:
        raise ConfigError("draws", settings.draws, f"1: family {loaded.model.family!r} makes a point prediction")
    return {"uri": store.uri, "family": loaded.model.family, "digest": loaded.digest}


def _plan(
    options: ColorizeOptions,
    results: Store,
    begun: tuple[Plan, pa.Table] | None,
    chunks: pa.Table | None,
    model: dict[str, str],
) -> tuple[Plan, pa.Table]:
    """The plan of these results: the one they were begun with, or a new one."""
    archive = open_store(options.archive).uri
    settings = asdict(options.settings)
    if begun is None:
        return write_plan(results, cast("pa.Table", chunks), archive=archive, model=model, settings=settings)
    begun[0].check(archive=archive, model_digest=model["digest"], settings=settings)
    return begun


def _committed(results: Store) -> dict[str, int]:
    return {entry.name: entry.size_bytes for entry in results.list("draws")}


def _worker_spec(archive: Store, results: Store, model: Store, plan: Plan, settings: BatchSettings) -> WorkerSpec:
    return WorkerSpec(
        archive=archive,
        results=results,
        model=model,
        model_digest=plan.model["digest"],
        settings=settings,
        footer={
            "plan": plan.digest,
            "model": plan.model["digest"],
            "settings": plan.settings,
            "precision": "fp32",
            "versions": {name: version(name) for name in _VERSIONS},
        },
    )


def _work(spec: WorkerSpec, pending: pa.Table, workers: int) -> Pace:
    """Do the chunks that are left, on the cluster that is connected."""
    import ray

    resources = ray.cluster_resources()  # type: ignore[no-untyped-call]
    shape = pool_shape(resources, num_chunks=pending.num_rows, workers=workers)
    pace = Pace()
    errors = 0
    start = first = time.perf_counter()
    with Progress("colorizing", total=sum(pending["samples"].to_pylist()), unit="images") as progress:
        for receipt in run_chunks(pending, spec, shape):
            now = time.perf_counter()
            if pace.images == 0:
                first = now
            else:
                pace.steady_images += receipt.samples
            pace.images += receipt.samples
            pace.seconds, pace.steady_seconds = now - start, now - first
            errors += receipt.errors
            progress.advance(receipt.samples, errors=errors)
    return pace


def _finish(options: ColorizeOptions, results: Store, plan: Plan, table: pa.Table, pace: Pace) -> ColorizeReport:
    """Close the account from the footers of what is committed: errors table, then run.json."""
    sizes = _committed(results)
    names = [draws_name(name) for name in table["name"].to_pylist()]
    missing = [name for name in names if name not in sizes]
    if missing:
        raise JobError(f"{len(missing)} chunks were not committed, {missing[0]} first: run the same command again")
    counts: Counter[str] = Counter()
    failures: list[Failure] = []
    for name, facts in zip(names, iter_footers(results, {name: sizes[name] for name in names}), strict=True):
        if facts["plan"] != plan.digest:
            raise JobError(f"{results.uri}/{name} belongs to another plan: delete it and run the same command again")
        counts.update(facts["counts"])
        failures += [Failure(**row) for row in facts["errors"]]
    with_draws = counts["draws"] // options.settings.draws
    if with_draws + counts["errors"] != plan.num_samples or counts["draws"] % options.settings.draws:
        raise JobError(f"{with_draws} images with draws and {counts['errors']} errors are not {plan.num_samples} in")
    write_errors(results, "000", failures)
    report = ColorizeReport(
        results=options.results,
        images=plan.num_samples,
        with_draws=with_draws,
        draws=counts["draws"],
        errors=counts["errors"],
        errors_by_kind=dict(Counter(f"{failure.stage} {failure.error}" for failure in failures)),
        pace=pace,
    )
    _write_run(results, plan, report)
    return report


def _write_run(results: Store, plan: Plan, report: ColorizeReport) -> None:
    """`run.json`, written last: its presence means that the job is complete."""
    if report.pace.images == 0 and results.exists("run.json"):
        return  # complete already: what it says of its own run stays
    facts = {
        "format": "condgen-run-1",
        "archive": plan.archive,
        "model": dict(plan.model),
        "settings": dict(plan.settings),
        "plan": plan.digest,
        "counts": {
            "images": report.images,
            "with_draws": report.with_draws,
            "draws": report.draws,
            "errors": report.errors,
            "errors_by_kind": report.errors_by_kind,
        },
        "this_run": {
            "images": report.pace.images,
            "seconds": round(report.pace.seconds, 3),
            "images_per_s": round(report.images_per_s, 3),
        },
        "versions": {name: version(name) for name in (*_VERSIONS, "ray")},
    }
    results.write("run.json", (json.dumps(facts, indent=2, sort_keys=True) + "\n").encode())
