"""`condgen colorize` and `condgen translate`: the batch job of `pipelines.batch.job`, with its progress shown."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from jobs.cli.progress import Progress
from pipelines.batch.estimate import Estimate, estimate_job
from pipelines.batch.job import BatchJob, run_batch
from pipelines.batch.report import BatchReport, Pace
from pipelines.cluster.imports import spare_pandas
from pipelines.cluster.starting import ray_cluster, usable_cpus

__all__ = ["DryRun", "dry_run", "run"]


def run(job: BatchJob, *, verbose: bool = False) -> BatchReport:
    """Do a job, or what is left of it, on Ray.

    Raises:
        As `pipelines.batch.job.run_batch`.
    """
    spare_pandas()
    job = replace(job, import_path=(*job.import_path, str(Path.cwd())))
    with Progress("colorizing" if job.settings.kind == "colorize" else "translating", total=None, unit="images") as bar:
        return run_batch(job, cluster=lambda: ray_cluster(verbose=verbose), watch=partial(_show, bar))


def _show(bar: Progress, pace: Pace) -> None:
    """Show a job's pace; at its beginning, what the archive was taken for."""
    if not pace.images:
        bar.say(f"archive: {pace.archive}")
    notes: dict[str, Any] = {"images/s": f"{pace.steady_images_per_s or pace.images_per_s:.1f}", "errors": pace.errors}
    if pace.filtered:
        notes["filtered"] = pace.filtered
    if pace.cpu_use:
        notes["CPU"] = f"{pace.cpu_use:.0%}"
    if pace.gpu_use:
        notes["GPU"] = f"{pace.gpu_use:.0%}"
    bar.show(pace.images, pace.total, **notes)


@dataclass(frozen=True, slots=True, kw_only=True)
class DryRun:
    """What a job would do, and what it is expected to take on so many CPUs."""

    estimate: Estimate
    cpus: int

    def lines(self) -> list[str]:
        """Return the plan, a line each."""
        estimate, settings = self.estimate, self.estimate.settings
        expected = ["expected      nothing could be tried: every image of the sample failed"]
        if estimate.output_bytes is not None and estimate.cpu_seconds is not None:
            duration = _duration(estimate.cpu_seconds / self.cpus)
            expected = [
                f"output size   about {_size(estimate.output_bytes)} (from {estimate.tried_images} images)",
                f"time          about {duration} on {self.cpus} CPUs like this one, the start apart",
            ]
        return [
            f"archive       {estimate.archive}",
            f"images        {estimate.images}",
            *([f"from column   {', '.join(estimate.image_columns)}"] if estimate.image_columns else []),
            f"chunks        {estimate.chunks}",
            f"model         {estimate.family}, {estimate.model_uri}",
            (
                f"draws         {settings.draws} each, {settings.output.output_format}, "
                f"batches of {settings.batch_size}, {settings.precision}"
            ),
            *(expected if estimate.images else ["nothing      is left to do"]),
        ]


def dry_run(job: BatchJob) -> DryRun:
    """Plan a job and try its first images in this process; nothing is written.

    Raises:
        As `pipelines.batch.job.run_batch`.
    """
    return DryRun(estimate=estimate_job(job), cpus=usable_cpus())


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
