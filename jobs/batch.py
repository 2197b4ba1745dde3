"""`condgen colorize` and `condgen translate`: the batch job of `pipelines.batch.job`, with its progress shown."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from jobs.cli.progress import Progress
from pipelines.batch.job import BatchJob, list_job, run_batch, settle_job
from pipelines.batch.report import BatchReport, Pace
from pipelines.cluster.imports import spare_pandas
from pipelines.cluster.starting import ray_cluster
from pipelines.results.account import pending_chunks

__all__ = ["DryRun", "dry_run", "run"]


def run(job: BatchJob, *, verbose: bool = False) -> BatchReport:
    """Do a job, or what is left of it, on Ray.

    Raises:
        As `pipelines.batch.job.run_batch`.
    """
    spare_pandas()
    job = replace(job, import_path=(*job.import_path, str(Path.cwd())))
    with Progress("colorizing" if job.settings.kind == "colorize" else "translating", total=None, unit="images") as bar:
        return run_batch(job, cluster=lambda: ray_cluster(verbose=verbose), watch=_Watch(bar))


class _Watch:
    """Tells the bar what of a job's pace is new."""

    def __init__(self, bar: Progress) -> None:
        self._bar = bar
        self._shown = 0

    def __call__(self, pace: Pace) -> None:
        self._bar.set_total(pace.total)
        notes: dict[str, Any] = {"images/s": f"{pace.steady_images_per_s or pace.images_per_s:.1f}"}
        notes["errors"] = pace.errors
        if pace.filtered:
            notes["filtered"] = pace.filtered
        if pace.cpu_use:
            notes["CPU"] = f"{pace.cpu_use:.0%}"
        if pace.gpu_use:
            notes["GPU"] = f"{pace.gpu_use:.0%}"
        self._bar.advance(pace.images - self._shown, **notes)
        self._shown = pace.images


@dataclass(frozen=True, slots=True, kw_only=True)
class DryRun:
    """What a job would do.

    Attributes:
        images, chunks: to be done.
        plan: what is to be done with them, a line each.
        tried: how many images were tried for the estimates.
        bytes_out, seconds: expected of the whole job, its start apart; None where no image could be tried.
    """

    images: int
    chunks: int
    plan: tuple[str, ...]
    tried: int
    bytes_out: float | None
    seconds: float | None
    cpus: int

    def lines(self) -> list[str]:
        """The plan, a line each."""
        expected = ["expected      nothing could be tried: every image of the sample failed"]
        if self.bytes_out is not None and self.seconds is not None:
            expected = [
                f"output size   about {_size(self.bytes_out)} (from {self.tried} images)",
                f"time          about {_duration(self.seconds)} on {self.cpus} CPUs like this one, the start apart",
            ]
        return [
            f"images        {self.images}",
            f"chunks        {self.chunks}",
            *self.plan,
            *(expected if self.images else ["nothing      is left to do"]),
        ]


def dry_run(job: BatchJob, *, sample_images: int = 16) -> DryRun:
    """Plan a job and try its first images in this process; nothing is written.

    Raises:
        As `pipelines.batch.job.run_batch`.
    """
    import time

    import pyarrow as pa

    from pipelines.batch.job import worker_spec
    from pipelines.batch.probe import inspect_model
    from pipelines.cluster.starting import usable_cpus
    from pipelines.datasets.chunk import iter_chunks, read_chunk

    listed = list_job(job)
    prepared = settle_job(listed, inspect_model(listed.source, listed.settings))
    pending = [pending_chunks(prepared.begun, prepared.done)] if prepared.begun else []
    table = pa.concat_tables([*pending, prepared.fresh])
    settings = prepared.settings
    images = sum(table["samples"].to_pylist())
    tried = draws = size = 0
    seconds = 0.0
    if table.num_rows:
        engine = worker_spec(prepared, "dry run").make_engine()
        chunk = next(iter_chunks(table))
        placed = list(zip(chunk.places, read_chunk(prepared.archive, chunk), strict=True))[:sample_images]
        engine.outcomes(placed[:1])  # the first call sets things up
        start = time.perf_counter()
        found = engine.outcomes(placed)
        seconds = time.perf_counter() - start
        tried = len(found)
        for outcome in found.values():
            if isinstance(outcome, list):
                draws += len(outcome)
                size += sum(len(draw.image) for draw in outcome)
    cpus = usable_cpus()
    return DryRun(
        images=images,
        chunks=table.num_rows,
        plan=(
            f"model         {prepared.model.family}, {prepared.source.uri}",
            (
                f"draws         {settings.draws} each, {settings.output.output_format}, batches of {settings.batch_size}, "
                f"{settings.precision}"
            ),
        ),
        tried=tried,
        bytes_out=size / tried * images if draws else None,
        seconds=seconds / tried * images / cpus if draws else None,
        cpus=cpus,
    )


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


def _duration(seconds: float) -> str:
    if seconds < 1:
        return "a second"
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
