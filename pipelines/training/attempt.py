"""An attempt is one ``fit`` of Ray Train: a fixed number of workers, which end together.

Ray Train starts nothing again by itself. What comes after an attempt, and with how many workers, is the driver's to
decide (``driver.py``).
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, cast

from condgen.errors import CondgenError
from pipelines.training.capacity import Shares
from pipelines.training.checkpoint_names import CheckpointName
from pipelines.training.job import TrainJob
from pipelines.training.monitor import Monitor, News, WorkerPlace
from pipelines.training.run_folder import MetricRow

__all__ = ["Attempt", "AttemptEnd"]

_ENVIRONMENT = {
    # Ray Train would otherwise move its workers into a folder of its own.
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    # Its watcher would wait for the end of a machine's grace and then start the workers again. Drains are the driver's.
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "1",
}
_NO_ROOM = "WorkerGroupStartupTimeoutError"


@dataclass(frozen=True, kw_only=True)
class AttemptEnd:
    """How an attempt ended.

    Attributes:
        reason: the workers' own reason: ``steps``, ``max_seconds``, ``stopped``; empty where they did not say.
        error: Ray Train's error in a line; empty where the workers ended by themselves.
        is_preempted: whether the error is that a machine was taken away.
        has_no_room: whether the error is that the cluster had no room for the workers, busy as it is.
    """

    reason: str
    error: str = ""
    is_preempted: bool = False
    has_no_room: bool = False


class Attempt:
    """Ray Train in a thread of its own, so that the driver's main thread looks at nodes, signals and the clock.

    Args:
        job: job of the workers; its shares are set here.
        workers: number of workers.
        shares: share of the cluster of each.
        scratch: local folder for Ray Train's own files.
        verbose: whether Ray Train's log is shown.
        on_row: function that is called with each new row of metrics.
        on_checkpoint: function that is called with the name of each checkpoint that is newly complete.
    """

    def __init__(
        self,
        job: TrainJob,
        workers: int,
        shares: Shares,
        *,
        scratch: str,
        verbose: bool,
        on_row: Callable[[MetricRow], None],
        on_checkpoint: Callable[[CheckpointName], None],
    ) -> None:
        self.workers = workers
        self.places: list[WorkerPlace] = []
        self.failure: CondgenError | None = None
        self._reason, self._on_row, self._on_checkpoint = "", on_row, on_checkpoint
        self._error: BaseException | None = None
        self._monitor: Any = _pinned_monitor()
        placed = replace(
            job,
            threads=job.options.threads or shares.threads,
            task_cpus=shares.task_cpus,
            on_gpu=shares.worker_gpus > 0,
        )
        config = {"job": placed, "monitor": self._monitor}
        self._trainer = _trainer(config, workers, shares, scratch=scratch, verbose=verbose)
        # Not Thread.join: one that Ctrl-C interrupts takes the thread for ended (CPython 3.11, 3.12), and so would we.
        self._ended = threading.Event()
        threading.Thread(target=self._fit, name="train", daemon=True).start()

    def _fit(self) -> None:
        try:
            self._trainer.fit()
        except BaseException as error:  # noqa: BLE001 - the driver's main thread judges it
            self._error = error
        finally:
            self._ended.set()

    def wait(self, seconds: float) -> bool:
        """Wait for the end, for some time; returns whether it has come. News come in before."""
        has_ended = self._ended.wait(seconds)
        self._hear()
        return has_ended

    def _hear(self) -> None:
        import ray

        try:
            news: News = ray.get(self._monitor.news.remote())
        except ray.exceptions.RayActorError:
            return  # the workers notice too, and end with a checkpoint
        self.places, self._reason = news.places, news.reason
        self.failure = self.failure or news.failure
        for row in news.rows:
            self._on_row(row)
        for name in news.checkpoints:
            self._on_checkpoint(name)

    def stop(self, leaving: Collection[str] = ()) -> None:
        """Ask the workers to save a checkpoint and end.

        Args:
            leaving: ids of the nodes that are about to leave: a worker on another one writes.
        """
        ranks = frozenset(place.rank for place in self.places if place.node in leaving)
        self._monitor.want_stop.remote(ranks)

    def save(self) -> None:
        """Ask the workers to save a checkpoint and go on."""
        self._monitor.want_save.remote()

    def kill(self) -> None:
        """End the workers where they are."""
        import ray

        for place in self.places:
            with suppress(ray.exceptions.RayError, ValueError):
                ray.kill(place.actor)

    def end(self) -> AttemptEnd:
        """Return how the attempt ended; to be called after it has."""
        import ray

        with suppress(ray.exceptions.RayError):
            ray.kill(self._monitor)
        if self._error is None:
            return AttemptEnd(reason=self._reason)
        failures = getattr(self._error, "worker_failures", {}).values()
        actor_errors = [getattr(failure, "health_check_failure", failure) for failure in failures]
        controller = getattr(self._error, "controller_failure", None)
        return AttemptEnd(
            reason=self._reason,
            error=_in_a_line(controller or self._error),
            is_preempted=any(getattr(error, "preempted", False) for error in actor_errors),
            has_no_room=type(controller).__name__ == _NO_ROOM,
        )


def _in_a_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


def _pinned_monitor() -> Any:
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    return cast("Any", ray.remote(Monitor)).options(num_cpus=0, scheduling_strategy=here).remote()


def _run_name(uri: str) -> str:
    """Return the run's name in Ray Train's metrics and folders: the last part of its URI."""
    return re.sub(r"[^\w.-]", "-", uri.rstrip("/").rpartition("/")[2]).strip(".") or "condgen"


def _trainer(config: dict[str, Any], workers: int, shares: Shares, *, scratch: str, verbose: bool) -> Any:
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    from ray.train.torch import TorchTrainer
    from ray.train.v2.api.config import FailureConfig, LoggingConfig, RunConfig, ScalingConfig

    from pipelines.training.backend import WorkerSetup
    from pipelines.training.worker import train_worker

    gpus = {"GPU": shares.worker_gpus} if shares.worker_gpus else {}
    return TorchTrainer(
        train_worker,
        train_loop_config=config,
        torch_config=WorkerSetup(),
        scaling_config=ScalingConfig(
            num_workers=workers, use_gpu=bool(gpus), resources_per_worker={"CPU": shares.worker_cpus} | gpus
        ),
        run_config=cast("Any", RunConfig)(
            name=_run_name(config["job"].out.uri),
            storage_path=scratch,
            failure_config=FailureConfig(max_failures=0, controller_failure_limit=0, max_preemption_failures=0),
            logging_config=LoggingConfig(log_level="INFO" if verbose else "CRITICAL"),
        ),
    )
