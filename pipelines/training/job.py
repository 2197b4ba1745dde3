"""What the driver of a training run hands to the workers. Free of torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from condgen.presets import Preset
from condgen.statistics import DatasetStatistics
from pipelines.models.source import ModelSource
from pipelines.storage.store import Store
from pipelines.streaming.epoch_order import check_workers
from pipelines.streaming.stream import StreamConfig
from pipelines.streaming.unpaired import check_shares
from pipelines.training.lease import Fence
from pipelines.training.options import TrainOptions

__all__ = ["TrainJob"]


@dataclass(frozen=True, kw_only=True)
class TrainJob:
    """All that a worker needs; it is pickled to it.

    Attributes:
        options: options of the run, with absolute paths: workers run in folders of their own.
        plans: plan of each stream: ``a``, and ``b`` for the second of two domains.
        held_out: plans of the fixed samples that validation measures, by the same names; empty where there is none.
        statistics: statistics of the training set, where its manifest has them.
        out: folder of the run.
        fence: right to write there; None where nothing is written.
        init_from: model whose averaged weights a new run begins with; None takes none.
        extra: values that model.json keeps beside the weights.
        threads: number of torch's threads in each worker.
        task_cpus: CPUs that Ray reserves for a decoding task.
        on_gpu: whether each worker has a GPU.
    """

    options: TrainOptions
    plans: Mapping[str, StreamConfig]
    statistics: DatasetStatistics | None
    out: Store
    init_from: ModelSource | None
    extra: Mapping[str, Any]
    fence: Fence | None = None
    threads: int = 1
    task_cpus: float = 1.0
    on_gpu: bool = False
    held_out: Mapping[str, StreamConfig] = field(default_factory=dict)

    @property
    def preset(self) -> Preset:
        """Complete configuration of the run."""
        return self.options.preset

    def check_workers(self, count: int) -> None:
        """Refuse a number of workers that the data can't be shared among.

        Raises:
            ConfigError: the number is not allowed.
        """
        for plan in self.plans.values():
            check_workers(count, plan.order.lanes)
        if len(self.plans) > 1:
            check_shares(count, self.plans)

    @property
    def plan(self) -> StreamConfig:
        """Plan of the first dataset."""
        return self.plans["a"]
