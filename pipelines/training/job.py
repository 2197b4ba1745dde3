"""What the driver of a training run hands to the workers, and the actor by which they talk.

Free of torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from condgen.errors import CondgenError
from condgen.presets import Preset
from condgen.statistics import DatasetStatistics
from pipelines.models.source import ModelSource
from pipelines.storage.store import Store
from pipelines.streaming.stream import StreamConfig
from pipelines.training.options import TrainOptions
from pipelines.training.run_folder import MetricRow

__all__ = ["Monitor", "TrainJob"]


@dataclass(frozen=True, kw_only=True)
class TrainJob:
    """All that a worker needs; it is pickled to it.

    Attributes:
        options: options of the run, with absolute paths: workers run in folders of their own.
        plans: plan of each stream: ``a``, and ``b`` for the second of two domains.
        statistics: statistics of the training set, where its manifest has them.
        out: folder of the run.
        init_from: model whose averaged weights a new run begins with; None takes none.
        extra: values that model.json keeps beside the weights.
        threads: number of torch's threads in each worker.
        task_cpus: CPUs that Ray reserves for a decoding task.
    """

    options: TrainOptions
    plans: Mapping[str, StreamConfig]
    statistics: DatasetStatistics | None
    out: Store
    init_from: ModelSource | None
    extra: Mapping[str, Any]
    threads: int = 1
    task_cpus: float = 1.0

    @property
    def preset(self) -> Preset:
        """Complete configuration of the run."""
        return self.options.preset

    @property
    def plan(self) -> StreamConfig:
        """Plan of the first dataset."""
        return self.plans["a"]


class Monitor:
    """The driver's actor: workers send rows of metrics and errors to it and ask it whether to stop."""

    def __init__(self) -> None:
        self._rows: list[MetricRow] = []
        self._failure: CondgenError | None = None
        self._stop = False

    def add_row(self, row: MetricRow) -> None:
        """Add a row; worker 0 calls this."""
        self._rows.append(row)

    def take_rows(self) -> list[MetricRow]:
        """Return the rows that came since the last call."""
        rows, self._rows = self._rows, []
        return rows

    def fail(self, error: CondgenError) -> None:
        """Note an error that another attempt would meet again."""
        self._failure = self._failure or error

    def failure(self) -> CondgenError | None:
        """Return the first such error, or None."""
        return self._failure

    def stop(self) -> None:
        """Ask the workers to save a checkpoint and end."""
        self._stop = True

    def wants_stop(self) -> bool:
        """Return whether the workers are asked to end."""
        return self._stop
