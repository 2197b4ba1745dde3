"""`condgen train`: the training engine of `pipelines.training`, with its progress shown."""

from __future__ import annotations

from jobs.cli.progress import Progress
from pipelines.training import MetricRow, TrainOptions, TrainReport, train

__all__ = ["run"]


def run(options: TrainOptions, *, verbose: bool = False) -> TrainReport:
    """Train a model, go on with a run that was cut, or report that the run is finished.

    Raises:
        As `pipelines.train`.
    """
    with Progress("training", total=options.preset.train.steps, unit="steps") as bar:
        return train(options, watch=_Watch(bar), say=bar.say, verbose=verbose)


class _Watch:
    """Moves the bar by the steps of each new row of metrics."""

    def __init__(self, bar: Progress) -> None:
        self._bar = bar
        self._step = 0

    def __call__(self, row: MetricRow) -> None:
        steps, self._step = max(0, row.step - self._step), max(row.step, self._step)
        terms = {name: f"{value:.4f}" for name, value in row.losses.items()}
        self._bar.advance(steps, **terms, **{"images/s": f"{row.images_per_s:.1f}"})
