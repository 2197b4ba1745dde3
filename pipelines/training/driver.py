"""The driver's side of Ray Train: shares of the cluster, the start of the workers, and the watch over them."""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, cast

from condgen.errors import CondgenError, ConfigError, JobError
from pipelines.cluster.starting import LEAST_CPUS, configure_data, ray_cluster, usable_cpus
from pipelines.training.job import Monitor, TrainJob
from pipelines.training.run_folder import MetricRow

__all__ = ["Shares", "run_workers", "share_cluster"]

_RESTARTS = 3
_POLL_S = 0.3
_END_WAIT_S = 60.0


@dataclass(frozen=True)
class Shares:
    """How a cluster is divided.

    Attributes:
        worker_cpus, worker_gpus: CPUs and GPUs of a training worker.
        threads: number of torch's threads in a worker.
        task_cpus: CPUs that Ray reserves for a decoding task.
    """

    worker_cpus: float
    worker_gpus: float
    threads: int
    task_cpus: float


def share_cluster(resources: dict[str, float], workers: int) -> Shares:
    """Divide a cluster's CPUs between training and decoding, so that decoding always has some.

    With GPUs, each worker has one GPU and one CPU, and decoding has all other CPUs. On CPUs alone, decoding has a
    quarter of them and at least one, and the workers share the rest, in fractions where they outnumber the CPUs.

    Raises:
        ConfigError: the cluster has GPUs, but fewer than workers.
    """
    cpus, gpus = resources.get("CPU", 1.0), int(resources.get("GPU", 0))
    if gpus:
        if workers > gpus:
            raise ConfigError("workers", workers, f"at most {gpus}: each has a GPU of its own")
        worker_cpus, spare = min(1.0, cpus / (2 * workers)), max(cpus - workers, cpus / 2)
    else:
        spare = max(1.0, cpus // 4) if cpus > 1 else 0.5 * cpus
        worker_cpus = (cpus - spare) / workers
    # No more threads than CPUs of its own: one that waits for a core that decodes holds up all others at each barrier.
    threads = max(1, min(8, int(cpus / workers))) if gpus else max(1, int(worker_cpus))
    return Shares(
        worker_cpus=_floor(worker_cpus),
        worker_gpus=1.0 if gpus else 0.0,
        threads=threads,
        task_cpus=_floor(min(1.0, spare / workers)),
    )


def _floor(cpus: float) -> float:
    return max(0.01, int(cpus * 100) / 100)


def run_workers(job: TrainJob, *, watch: Callable[[MetricRow], None] | None, verbose: bool) -> float:
    """Run Ray Train to the end.

    Returns:
        The rate from the first row of metrics to the last (images/s; 0 for fewer than two rows).

    Raises:
        JobError: workers die again and again, or the cluster was lost.
        CondgenError: the error that a worker met.
        KeyboardInterrupt: the run was stopped; the workers saved a checkpoint.
    """
    # Ray Train would otherwise move its workers into a folder of its own.
    os.environ.setdefault("RAY_CHDIR_TO_TRIAL_DIR", "0")
    os.environ.setdefault("RAY_TRAIN_METRICS_ENABLED", "0")
    with (
        ray_cluster(verbose=verbose, num_cpus=max(LEAST_CPUS, usable_cpus())),
        tempfile.TemporaryDirectory(prefix="condgen-train-") as scratch,
    ):
        import ray
        from ray.train.torch import TorchTrainer
        from ray.train.v2.api.config import FailureConfig, LoggingConfig, RunConfig, ScalingConfig

        from pipelines.training.worker import train_worker

        configure_data(verbose=verbose)
        workers = job.options.workers
        shares = share_cluster(cast("Any", ray.cluster_resources)(), workers)
        monitor = ray.remote(num_cpus=0)(Monitor).remote()
        placed = replace(job, threads=job.options.threads or shares.threads, task_cpus=shares.task_cpus)
        trainer = TorchTrainer(
            train_worker,
            train_loop_config={"job": placed, "monitor": monitor},
            scaling_config=ScalingConfig(
                num_workers=workers,
                use_gpu=shares.worker_gpus > 0,
                resources_per_worker={"CPU": shares.worker_cpus}
                | ({"GPU": shares.worker_gpus} if shares.worker_gpus else {}),
            ),
            run_config=cast("Any", RunConfig)(
                name="condgen",
                storage_path=scratch,
                failure_config=FailureConfig(max_failures=_RESTARTS),
                logging_config=LoggingConfig(log_level="INFO" if verbose else "CRITICAL"),
            ),
        )
        return _Attempt(trainer, monitor, watch).wait()


class _Attempt:
    """Ray Train in a thread of its own, so that the main one passes rows on and hears of Ctrl-C."""

    def __init__(self, trainer: Any, monitor: Any, watch: Callable[[MetricRow], None] | None) -> None:
        self._trainer, self._monitor, self._watch = trainer, monitor, watch
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._fit, name="train", daemon=True)
        # Not Thread.join: one that Ctrl-C interrupts takes the thread for ended (CPython 3.11, 3.12), and so would we.
        self._ended = threading.Event()
        self._first_and_last: list[MetricRow] = []

    def wait(self) -> float:
        """Wait until training ends, however it ends; returns images/s from the first row of metrics to the last."""
        import ray

        self._thread.start()
        try:
            while not self._ended.wait(_POLL_S):
                self._pass_rows_on()
                failure: CondgenError | None = ray.get(self._monitor.failure.remote())
                if failure is not None:
                    self._ended.wait(_END_WAIT_S)
                    raise failure
            self._pass_rows_on()
        except KeyboardInterrupt:
            # The workers save a checkpoint first; a second Ctrl-C does not wait for it.
            ray.get(self._monitor.stop.remote())
            self._ended.wait(_END_WAIT_S)
            raise
        except ray.exceptions.RayError as error:
            reason = str(error).strip().splitlines()[:1] or [type(error).__name__]
            raise JobError(f"Ray's cluster was lost ({reason[0]}): run the same command again to go on") from error
        if self._error is not None:
            reason = str(self._error).strip().splitlines()[-1:] or [type(self._error).__name__]
            raise JobError(f"training failed after {_RESTARTS} restarts ({reason[0]}): --verbose shows Ray's log")
        if len(self._first_and_last) < 2:
            return 0.0
        first, last = self._first_and_last
        return (last.images - first.images) / (last.seconds - first.seconds) if last.seconds > first.seconds else 0.0

    def _fit(self) -> None:
        try:
            self._trainer.fit()
        except BaseException as error:  # noqa: BLE001 - it is raised in the main thread
            self._error = error
        finally:
            self._ended.set()

    def _pass_rows_on(self) -> None:
        import ray

        for row in ray.get(self._monitor.take_rows.remote()):
            self._first_and_last = [*self._first_and_last[:1], row]
            if self._watch:
                self._watch(row)
