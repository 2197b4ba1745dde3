"""`condgen evaluate`: the evaluation of `pipelines.evaluation.job`, with its progress and its table shown."""

from __future__ import annotations

from dataclasses import dataclass

from jobs.cli.progress import Progress
from jobs.evaluation.table import table_lines
from pipelines.cluster.starting import ray_cluster
from pipelines.evaluation.job import Evaluation, evaluate
from pipelines.evaluation.options import EvaluateOptions
from pipelines.evaluation.stored import PARQUET_NAME

__all__ = ["EvaluationReport", "run"]


@dataclass(frozen=True)
class EvaluationReport:
    """How good the answers are, in lines."""

    evaluation: Evaluation

    def lines(self) -> list[str]:
        """Return the table, and what is to be said of it."""
        evaluation = self.evaluation
        written = (
            f"{evaluation.out}/evaluation.json, {PARQUET_NAME}"
            if evaluation.out
            else "nowhere: name a folder with --out"
        )
        return [
            *table_lines(evaluation.facts, evaluation.values, evaluation.shortfalls),
            "",
            f"written       {written}",
            f"took          {evaluation.seconds:.0f} s",
        ]


def run(options: EvaluateOptions, *, verbose: bool = False) -> Evaluation:
    """Evaluate results or a model, on Ray where there are many images.

    Raises:
        As `pipelines.evaluation.job.evaluate`.
    """
    with Progress("evaluating", total=None, unit="images") as bar:
        return evaluate(options, cluster=lambda: ray_cluster(verbose=verbose), watch=bar.show)
