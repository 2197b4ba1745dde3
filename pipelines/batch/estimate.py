"""An estimate of what a batch job will take, from a trial of its first images in this process."""

from __future__ import annotations

import time
from dataclasses import dataclass

import pyarrow.compute as pc

from pipelines.batch.job import BatchJob, BatchRun, list_job
from pipelines.batch.probe import inspect_model
from pipelines.batch.report import image_columns
from pipelines.datasets.chunk import iter_chunks
from pipelines.results.settings import BatchSettings

__all__ = ["Estimate", "estimate_job"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What a job has to do, and what it is expected to take.

    Attributes:
        images, chunks: numbers of images and chunks to be done.
        archive: a line that says what the archive was taken for, and what of it is left out.
        model_uri, family: the model.
        settings: the job's settings, in which nothing is open.
        image_columns: columns of tables that the images are taken from.
        tried_images: images that were tried.
        output_bytes, cpu_seconds: size of the output and time on one CPU of the whole job, its start apart; None where
            no image could be tried.
    """

    images: int
    chunks: int
    archive: str
    model_uri: str
    family: str
    settings: BatchSettings
    image_columns: tuple[str, ...] = ()
    tried_images: int = 0
    output_bytes: float | None = None
    cpu_seconds: float | None = None


def estimate_job(job: BatchJob, *, sample_images: int = 16) -> Estimate:
    """Plan a job and try its first images in this process; nothing is written.

    Args:
        job: what is to be done.
        sample_images: most images that are tried (>= 1).

    Raises:
        As `pipelines.batch.job.run_batch`.
    """
    listed = list_job(job)
    run = BatchRun(listed, inspect_model(listed.source, listed.settings))
    images = num_chunks = 0
    columns: tuple[str, ...] = ()
    for piece in run.listed.left():
        images += int(pc.sum(piece["samples"]).as_py() or 0)
        num_chunks += piece.num_rows
        columns = tuple(dict.fromkeys([*columns, *image_columns([piece])]))
    draw_bytes: list[int] = []
    tried_images, seconds = 0, 0.0
    if num_chunks:
        engine = run.worker_spec().make_engine()
        chunk = next(chunk for piece in run.listed.left() for chunk in iter_chunks(piece))
        placed = list(zip(chunk.places, engine.read(chunk), strict=True))[:sample_images]
        engine.outcomes(placed[:1])  # the first call sets things up
        start = time.perf_counter()
        outcomes = engine.outcomes(placed)
        seconds = time.perf_counter() - start
        tried_images = len(outcomes)
        draw_bytes = [len(draw.image) for one in outcomes.values() if isinstance(one, list) for draw in one]
    return Estimate(
        images=images,
        chunks=num_chunks,
        archive=listed.archive.description,
        model_uri=listed.source.uri,
        family=run.model.family,
        settings=run.model.settings,
        image_columns=columns,
        tried_images=tried_images,
        output_bytes=sum(draw_bytes) / tried_images * images if draw_bytes else None,
        cpu_seconds=seconds / tried_images * images if draw_bytes else None,
    )
