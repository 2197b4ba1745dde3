"""The parts of an evaluation on a pool of Ray actors, or one after the other in this process."""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from pipelines.batch.pool_shape import cluster_shape
from pipelines.cluster.actor_pool import run_on_actors
from pipelines.cluster.errors import unwrapped
from pipelines.cluster.tasks import one_thread, ray_tasks
from pipelines.datasets.chunk import iter_chunks
from pipelines.evaluation.measures import MeasureSettings
from pipelines.evaluation.parts import EvaluationSpec, Part, PartMeasurer, PartResult
from pipelines.evaluation.planning import ReferenceSet
from pipelines.evaluation.survey import ChunkSurvey, Survey, add_up, survey_chunks

__all__ = ["in_order", "run_here", "run_on_ray", "survey_reference"]

_CHUNKS_A_TASK = 8
_IN_FLIGHT = 2


def survey_reference(reference: ReferenceSet, settings: MeasureSettings, *, on_ray: bool) -> Survey:
    """Look through the reference set, see `pipelines.evaluation.survey`.

    Raises:
        DatasetError: it has no image that can be decoded.
        StorageError: it can't be read.
    """
    chunks = list(enumerate(iter_chunks(reference.chunks)))
    tasks = (
        (reference.store, chunks[first : first + _CHUNKS_A_TASK], settings, reference.member_names, reference.is_keyed)
        for first in range(0, len(chunks), _CHUNKS_A_TASK)
    )
    found: Iterable[list[ChunkSurvey]]
    with one_thread():
        found = ray_tasks(survey_chunks, tasks) if on_ray else (survey_chunks(*task) for task in tasks)
        return add_up([one for some in found for one in some], settings)


def run_here(spec: EvaluationSpec, parts: Sequence[Part]) -> Iterator[PartResult]:
    """Measure parts in this process, on one thread as the workers do.

    Raises:
        As `pipelines.evaluation.parts.PartMeasurer.run`.
    """
    with one_thread():
        measurer = PartMeasurer(spec)
        for part in parts:
            yield measurer.run(part)


def run_on_ray(spec: EvaluationSpec, parts: Sequence[Part]) -> Iterator[PartResult]:
    """Measure parts on a pool of actors of the cluster that is connected, and yield the results in any order.

    Raises:
        CondgenError: that a part raised.
        ray.exceptions.RayError: the cluster failed beyond what the pool retries.
    """
    import ray

    shape = cluster_shape(len(parts))
    place = ray.put(ray.cloudpickle.dumps(spec))  # type: ignore[no-untyped-call]

    def start() -> tuple[Any, Any]:
        actor: Any = ray.remote(_Worker).options(
            num_cpus=shape.num_cpus, num_gpus=shape.num_gpus, max_restarts=0, scheduling_strategy="SPREAD"
        )
        worker = actor.remote()
        return worker, worker.begin.remote(place)

    with unwrapped():
        yield from run_on_actors(start, parts, size=shape.most, in_flight=_IN_FLIGHT)


class _Worker:
    """The actor: it holds the model and the feature extractor, and measures a part at a time."""

    def begin(self, pickled_spec: bytes) -> None:
        """Load what is needed; raises what keeps it from starting."""
        self._measurer = PartMeasurer(pickle.loads(pickled_spec))  # noqa: S301 - from our own driver

    def run(self, part: Part) -> PartResult:
        """Measure a part."""
        return self._measurer.run(part)


def in_order(results: Iterable[PartResult]) -> Iterator[PartResult]:
    """Yield results in the order of their parts, whatever the order in which they come."""
    waiting: dict[int, PartResult] = {}
    expected = 0
    for result in results:
        waiting[result.ordinal] = result
        while expected in waiting:
            yield waiting.pop(expected)
            expected += 1
