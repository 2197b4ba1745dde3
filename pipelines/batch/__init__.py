"""The batch job: an archive, a model, and several draws of each image into Parquet, every image accounted for.

job.py         the job: `BatchJob`, and `run_batch`, which does it or what is left of it
archive.py     what a job reads, as a table of chunks
probe.py       a look at the model before the plan is frozen
workers.py     actors that do chunks, on Ray
engine.py      what a worker does with a chunk, without Ray
isolation.py   images that end a process, tried alone in one of their own
attempts.py    marks of chunks that were begun
metrics.py     counters and gauges for Prometheus
report.py      pace and report of a job, and run.json
estimate.py    size and time of a job, from a trial of its first images
redrawing.py   one draw made again from its row
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from condgen.doors import lazy_names

if TYPE_CHECKING:
    from pipelines.batch.archive import Selection
    from pipelines.batch.estimate import Estimate, estimate_job
    from pipelines.batch.job import BatchJob, Resources, run_batch
    from pipelines.batch.redrawing import RedrawnDraw, StoredDraw, find_draw, redraw
    from pipelines.batch.report import BatchReport, Pace
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "archive": ["Selection"],
            "estimate": ["Estimate", "estimate_job"],
            "job": ["BatchJob", "Resources", "run_batch"],
            "redrawing": ["RedrawnDraw", "StoredDraw", "find_draw", "redraw"],
            "report": ["BatchReport", "Pace"],
        },
    )

__all__ = [
    "BatchJob",
    "BatchReport",
    "Estimate",
    "Pace",
    "RedrawnDraw",
    "Resources",
    "Selection",
    "StoredDraw",
    "estimate_job",
    "find_draw",
    "redraw",
    "run_batch",
]
