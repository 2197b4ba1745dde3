"""`condgen verify`: the verification of `pipelines.results.verification.job`, with its progress shown."""

from __future__ import annotations

from jobs.cli.progress import Progress
from pipelines.cluster.starting import ray_cluster
from pipelines.results.verification.job import Verification, verify_results

__all__ = ["run"]


def run(results: str, *, archive: str | None = None, quick: bool = False, verbose: bool = False) -> Verification:
    """Check all of a batch job's results.

    Raises:
        As `pipelines.results.verification.job.verify_results`.
    """
    with Progress("verifying", total=None, unit="chunks") as bar:
        return verify_results(
            results,
            archive=archive,
            quick=quick,
            cluster=lambda: ray_cluster(verbose=verbose),
            watch=lambda done, total, faults: bar.show(done, total, faults=faults),
        )
