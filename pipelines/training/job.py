"""What the driver of a training run hands to its workers, and the actor by which they talk. Free of torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from condgen.errors import CondgenError
from condgen.presets import Preset
from condgen.statistics import DatasetStatistics
from pipelines.models.source import ModelSource
from pipelines.storage.store import Store
from pipelines.streaming.stream import TrainingPlan
from pipelines.training.run_folder import MetricRow

__all__ = ["Monitor", "Start", "TrainJob"]


@dataclass(frozen=True, kw_only=True)
class Start:
    """What a run's weights begin with, in the place of those that the seed gives.

    Attributes:
        init_from: a like model, whose averaged weights are taken; None takes none.
        init_partial: take what matches by name and shape, and leave the rest as it is.
        encoder_weights: of a pretrained encoder: ``auto`` (the installed package, or torchvision's cache),
            ``torchvision`` (downloaded), ``random``, or a file or URI.
    """

    init_from: ModelSource | None = None
    init_partial: bool = False
    encoder_weights: str = "auto"


@dataclass(frozen=True, kw_only=True)
class TrainJob:
    """All that a worker needs; it is pickled to it.

    Attributes:
        preset: the complete configuration.
        plans: of the data: `a`, and `b` where it is two domains.
        statistics: of the training set, where its manifest has them.
        out: the run's folder.
        extra: kept in model.json beside the weights.
        threads: of torch, in each worker.
        task_cpus: CPUs that a decoding task counts as.
        start: what the weights begin with.
    """

    preset: Preset
    plans: Mapping[str, TrainingPlan]
    statistics: DatasetStatistics | None
    out: Store
    extra: Mapping[str, Any]
    threads: int
    task_cpus: float
    start: Start = field(default_factory=Start)

    @property
    def plan(self) -> TrainingPlan:
        """Of the first dataset."""
        return self.plans["a"]


class Monitor:
    """An actor of the driver's: rows of metrics and errors come to it, the wish to stop is asked of it."""

    def __init__(self) -> None:
        self._rows: list[MetricRow] = []
        self._failure: CondgenError | None = None
        self._stop = False

    def add_row(self, row: MetricRow) -> None:
        """Called by worker 0."""
        self._rows.append(row)

    def take_rows(self) -> list[MetricRow]:
        """The rows since the last call."""
        rows, self._rows = self._rows, []
        return rows

    def fail(self, error: CondgenError) -> None:
        """An error that trying again will not mend."""
        self._failure = self._failure or error

    def failure(self) -> CondgenError | None:
        """The first such error."""
        return self._failure

    def stop(self) -> None:
        """Ask the workers to save a checkpoint and end."""
        self._stop = True

    def wants_stop(self) -> bool:
        """Whether that was asked."""
        return self._stop
