"""What a training run is asked for, and what its driver hands to the workers. Free of torch."""

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
from pipelines.training.lease import DEFAULT_TTL_S, Fence

__all__ = ["TrainJob", "TrainOptions"]


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """What is to be trained, on which data, and where the run is kept.

    Attributes:
        preset: complete configuration of the model, its data and its training.
        data: dataset, a local path or a URI.
        out: folder of the run, a local path or a URI.
        data_b: dataset of the second domain, for ``data.task: domains`` alone (default: none).
        workers: number of training processes (default 1), or the smallest and the largest: then their number follows
            the machines that are there, with a checkpoint before each change.
        gpus_per_worker: GPUs of each process; 0 trains on CPUs (default: 1 on a cluster that others run, and on this
            machine if it has one).
        wait_for_s: longest time to wait for machines that are still to come (seconds; default: 0 on this machine
            alone, 1800 on a cluster that others run).
        max_duration_s: time after which this call saves a checkpoint and ends, counted from its start (seconds); the
            same call again goes on. 0 sets no limit (default).
        member_names: the dataset's own names of members by the names that training knows, as in
            ``{"image": "photo"}``. Training takes the image that is called ``image``, else the only one of a sample.
        cache: folder in which each machine keeps the chunks that it has read (default: none).
        cache_bytes: largest size of that folder (bytes; default 50 GiB).
        init_from: model whose weights a new run begins with, as ``condgen colorize --model`` names it (default: none).
        init_partial: whether to take those weights that match by name and shape, and leave out the others.
        encoder_weights: weights of a pretrained encoder: ``auto`` (the installed package, or torchvision's cache; the
            default), ``torchvision`` (downloaded), ``random``, or a file or URI.
        lease_ttl_s: time without a sign of life after which another start may take the run over (seconds; default 30).
        threads: number of torch's threads in each worker; 0 is the worker's share of the CPUs (default 0).
    """

    preset: Preset
    data: str
    out: str
    data_b: str | None = None
    workers: int | tuple[int, int] = 1
    gpus_per_worker: float | None = None
    wait_for_s: float | None = None
    max_duration_s: float = 0.0
    member_names: Mapping[str, str] = field(default_factory=dict)
    cache: str | None = None
    cache_bytes: int = 50 << 30
    init_from: str | None = None
    init_partial: bool = False
    encoder_weights: str = "auto"
    threads: int = 0
    lease_ttl_s: float = DEFAULT_TTL_S

    @property
    def worker_range(self) -> tuple[int, int]:
        """Smallest and largest number of training processes."""
        return self.workers if isinstance(self.workers, tuple) else (self.workers, self.workers)


@dataclass(frozen=True, kw_only=True)
class TrainJob:
    """All that a worker needs; it is pickled to it.

    Attributes:
        options: options of the run, with absolute paths: workers run in folders of their own.
        plans: plan of each stream: ``a``, and ``b`` for the second of two domains.
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
            check_workers(count, plan.order.lanes, plan.order.batch_size)

    @property
    def plan(self) -> StreamConfig:
        """Plan of the first dataset."""
        return self.plans["a"]
