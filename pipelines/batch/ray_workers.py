"""A batch job's workers on Ray: a pool of actors on all nodes of the cluster that is connected."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar, cast

from condgen.errors import ConfigError, JobError
from pipelines.batch.pool_shape import PoolShape, Resources, await_room, cluster_shape
from pipelines.batch.worker import ChunkWorker, LostWorkerError, WorkerSpec
from pipelines.cluster.actor_pool import run_on_actors
from pipelines.cluster.errors import unwrap
from pipelines.datasets.chunk import iter_chunks
from pipelines.results.commits import PendingChunks
from pipelines.results.files import Receipt

__all__ = ["RayWorkers"]

logger = logging.getLogger(__name__)
T = TypeVar("T")

# Actors that die, one after the other, without a chunk committed; what keeps one from starting is no death.
_DEATHS = 20
_PATIENT_S = 60.0


class RayWorkers:
    """The actors of a job; they end with their handles. See `pipelines.batch.worker.Workers`.

    Args:
        resources: share of the cluster that the job takes.
    """

    engine = "ray"

    def __init__(self, resources: Resources) -> None:
        self._resources = resources
        self._idle: list[Any] = []
        self._shape = PoolShape(0, 0, 0.0, 0.0)
        self._rounds = 0

    @property
    def cpus(self) -> float:
        """CPUs of the cluster."""
        return self._size("CPU")

    @property
    def gpus(self) -> float:
        """GPUs of the cluster."""
        return self._size("GPU")

    def _size(self, resource: str) -> float:
        import ray

        return float(ray.cluster_resources().get(resource, 0.0))  # type: ignore[no-untyped-call]

    @contextmanager
    def metrics(self, results: str) -> Iterator[Callable[..., None]]:
        """Export what is left to do by Ray's agents, see `pipelines.batch.metrics`."""
        from pipelines.batch.metrics import JobMetrics

        gauges = JobMetrics(results)
        with gauges.exported():
            yield gauges.left

    def begin(self, num_chunks: int) -> None:
        """Wait for nodes, if there is no room, and start as many actors as there is room for.

        Raises:
            ConfigError: the nodes did not come in time.
        """
        import ray

        if not ray.is_initialized():
            ray.init()
        await_room(self._resources)
        self._shape = cluster_shape(num_chunks, self._resources)
        self._idle = [_new_actor(self._shape) for _ in range(self._shape.side_by_side)]

    def ask(self, function: Callable[..., T], *arguments: Any) -> T:
        """Call a function in one of the actors; if that one is lost, another takes its place.

        Raises:
            JobError: one actor after the other is lost.
            CondgenError: whatever the function raised.
        """
        import ray
        from ray.exceptions import GetTimeoutError, RayError

        deaths, patient = 0, True
        answer = self._idle[-1].call.remote(function, *arguments)
        while True:
            try:
                return cast("T", ray.get(answer, timeout=_PATIENT_S))
            except GetTimeoutError:
                if patient:
                    logger.warning("no worker answers for %.0f s: is the cluster busy with other work?", _PATIENT_S)
                patient = False
            except RayError as error:
                _raise_ours(error)
                deaths += 1
                if deaths > _DEATHS:
                    raise JobError(f"workers can't start: {_first_line(error)}") from error
                logger.warning("a worker is lost before it has begun; another takes its place")
                self._idle[-1] = _new_actor(self._shape)
                answer = self._idle[-1].call.remote(function, *arguments)

    def round(self, pending: PendingChunks, spec: WorkerSpec) -> Iterator[Receipt]:
        """Do chunks on a pool of actors, see `Workers.round`.

        Raises:
            LostWorkerError: the cluster failed beyond what the pool bears, or is too small for now.
            ConfigError: the cluster is too small from the beginning.
            CondgenError: whatever an actor raised.
        """
        import ray
        from ray.exceptions import RayError

        self._rounds += 1
        try:
            shape = cluster_shape(pending.num_rows, self._resources)
        except ConfigError as error:
            if self._rounds == 1:
                raise
            raise LostWorkerError(str(error)) from error  # it has lost nodes, and may get others
        try:
            place = ray.put(spec.pickled(spec))

            def start() -> tuple[Any, Any]:
                actor = self._take(shape)
                return actor, actor.begin.remote(spec.import_path, place)

            chunks = iter_chunks(pending)
            yield from run_on_actors(start, chunks, size=shape.most, in_flight=shape.at_once, most_deaths=_DEATHS)
        except RayError as error:
            _raise_ours(error)
            raise LostWorkerError(_first_line(error)) from error

    def _take(self, shape: PoolShape) -> Any:
        """Return an actor for a pool of that shape, started before or new; those that the pool can't use are ended."""
        import ray

        fits = self._shape.of_each == shape.of_each
        while len(self._idle) > (shape.most if fits else 0):
            ray.kill(self._idle.pop())
        return self._idle.pop() if self._idle else _new_actor(shape)


def _new_actor(shape: PoolShape) -> Any:
    import ray

    num_cpus, num_gpus, at_once = shape.of_each
    worker = ray.remote(ChunkWorker).options(
        num_cpus=num_cpus,
        num_gpus=num_gpus,
        max_concurrency=at_once,
        max_restarts=0,
        scheduling_strategy="SPREAD",
    )
    return worker.remote()


def _raise_ours(error: Exception) -> None:
    """Raise what a worker raised (a mistake, a bug, storage that is out); return where the cluster is to blame."""
    from ray.exceptions import RayActorError, RayError, RayTaskError

    if (ours := unwrap(error)) is not None:
        raise ours from error
    if isinstance(error, RayTaskError) and not isinstance(error.cause, RayError):
        raise error
    if isinstance(error, RayActorError) and error.actor_init_failed:
        raise JobError(f"workers can't start: {_last_line(error)}") from error


def _first_line(error: Exception) -> str:
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)


def _last_line(error: Exception) -> str:
    """Return what a traceback ends with: the error that was raised."""
    return next((line for line in reversed(str(error).splitlines()) if line.strip()), type(error).__name__).strip()
