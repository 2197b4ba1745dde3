"""`condgen extract`: the extraction of `pipelines.results.extraction.job`, with its progress shown."""

from __future__ import annotations

from jobs.cli.progress import Progress
from pipelines.cluster.starting import ray_cluster
from pipelines.results.extraction.job import ExtractReport, extract_results

__all__ = ["run"]


def run(
    results: str, destination: str, *, draw: int | None = 0, overwrite: bool = False, verbose: bool = False
) -> ExtractReport:
    """Write the images of complete results as files.

    Raises:
        As `pipelines.results.extraction.job.extract_results`.
    """
    with Progress("extracting", total=None, unit="images") as bar:
        return extract_results(
            results,
            destination,
            draw=draw,
            overwrite=overwrite,
            cluster=lambda: ray_cluster(verbose=verbose),
            watch=bar.show,
        )
