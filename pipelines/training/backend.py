"""How Ray Train sets up the workers' processes: their signals, and torch.distributed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from ray.train.backend import Backend
from ray.train.torch import TorchConfig

from pipelines.training.signals import watch_signals

__all__ = ["WorkerSetup"]


@dataclass
class WorkerSetup(TorchConfig):
    """Settings of Ray Train's torch backend, with workers that note their signals.

    NCCL is taken only where each worker has a GPU of its own and sees it, whatever its node has declared.
    """

    @property
    def backend_cls(self) -> type[Backend]:
        return _WorkerBackend


class _WorkerBackend(Backend):
    share_cuda_visible_devices = True

    def __init__(self) -> None:
        self._torch: Any = cast("Any", TorchConfig()).backend_cls()

    def on_start(self, worker_group: Any, backend_config: Any) -> None:
        worker_group.execute(watch_signals)  # in each worker's main thread
        has_gpus = worker_group.get_resources_per_worker().get("GPU", 0) >= 1
        on_gpus = has_gpus and all(worker_group.execute(torch.cuda.is_available))
        self._torch.on_start(worker_group, replace(backend_config, backend="nccl" if on_gpus else "gloo"))

    def on_training_start(self, worker_group: Any, backend_config: Any) -> None:
        self._torch.on_training_start(worker_group, backend_config)

    def on_shutdown(self, worker_group: Any, backend_config: Any) -> None:
        self._torch.on_shutdown(worker_group, backend_config)
