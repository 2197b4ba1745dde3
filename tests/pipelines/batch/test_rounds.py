"""Rounds of chunks: what the cluster did is tried again, with patience; what is a mistake or a bug is told at once."""

import copy
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import ray
from fakes import SETTINGS, write_image
from ray.exceptions import ActorDiedError, OutOfDiskError, RayTaskError

from condgen.errors import AccessError, CheckpointError, ConfigError, JobError, StorageError
from pipelines.batch import ray_workers
from pipelines.batch import rounds as of_chunks
from pipelines.batch.archive import plan_archive
from pipelines.batch.engine import Functions
from pipelines.batch.pool_shape import PoolShape, Resources
from pipelines.batch.ray_workers import RayWorkers
from pipelines.batch.rounds import run_chunks
from pipelines.batch.worker import LostWorkerError, WorkerSpec
from pipelines.datasets.chunk import ChunkLimits
from pipelines.results.commits import PendingChunks
from pipelines.storage.store import open_store

SHAPE = PoolShape(1, 1, 1.0, 0.0)
FULL = LostWorkerError("the disk is full")
NO_ANSWER = StorageError("s3://bucket/x", "write", "no answer (after 6 tries)", passes=True)


class Rounds:
    """Workers of which each round does one chunk of those pending, or fails."""

    def __init__(self, chunks: int, *outcomes: Exception | None) -> None:
        self.num_rows = chunks
        self.outcomes = list(outcomes)
        self.waits: list[float] = []
        self.driver_fails: Exception | None = None

    def pending(self) -> Any:
        if self.driver_fails is not None:
            error, self.driver_fails = self.driver_fails, None
            raise error
        return self

    def round(self, *_: Any) -> Iterator[int]:
        outcome = self.outcomes.pop(0) if self.outcomes else None
        if outcome is not None:
            raise outcome
        self.num_rows -= 1
        yield self.num_rows


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[[Rounds], list[Any]]:
    def run(rounds: Rounds) -> list[Any]:
        monkeypatch.setattr(of_chunks.time, "sleep", rounds.waits.append)
        return list(run_chunks(rounds.pending, None, rounds))  # type: ignore[arg-type]

    return run


@pytest.fixture
def on_ray(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Any]]:
    """A round of workers on Ray, whose actors fail with an error."""

    def run(error: Exception, shape: Callable[..., PoolShape] = lambda *_: SHAPE, rounds: int = 1) -> list[Any]:
        def fails(*_: Any, **__: Any) -> Iterator[Any]:
            raise error
            yield

        monkeypatch.setattr(ray_workers, "run_on_actors", fails)
        monkeypatch.setattr(ray_workers, "cluster_shape", shape)
        monkeypatch.setattr(ray, "put", lambda _: None)
        spec = WorkerSpec(archive=None, results=None, model=None, model_digest="", settings=SETTINGS)  # type: ignore[arg-type]
        workers = RayWorkers(Resources())
        for _ in range(rounds - 1):
            with pytest.raises(LostWorkerError):
                list(workers.round(PendingChunks(), spec))
        return list(workers.round(PendingChunks(), spec))

    return run


def test_rounds_that_the_cluster_ends_are_tried_again_after_growing_waits(run: Callable[..., list[Any]]) -> None:
    rounds = Rounds(2, FULL, FULL, FULL, None, FULL)
    assert run(rounds) == [1, 0]
    assert rounds.waits == [1.0, 2.0, 4.0, 8.0]


def test_patience_ends_in_one_line(run: Callable[..., list[Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(of_chunks, "_PATIENCE_S", 0.0)
    rounds = Rounds(1, *[FULL] * 20)
    with pytest.raises(JobError, match="again and again: the disk is full"):
        run(rounds)
    assert rounds.waits == [1.0, 2.0, 4.0, 8.0]


def test_storage_that_gives_no_answer_to_a_worker_or_the_driver_is_waited_for(
    run: Callable[..., list[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    rounds = Rounds(2, NO_ANSWER)
    rounds.driver_fails = NO_ANSWER
    assert run(rounds) == [1, 0]
    assert rounds.waits == [1.0, 2.0]
    monkeypatch.setattr(of_chunks, "_PATIENCE_S", 0.0)
    with pytest.raises(StorageError, match="could not write s3://bucket/x: no answer"):
        run(Rounds(1, *[NO_ANSWER] * 20))


@pytest.mark.parametrize(
    "error", [AccessError("x", "write", "no"), KeyError("a bug"), CheckpointError("x"), ConfigError("a", "b", "c")]
)
def test_what_a_worker_raises_ends_the_job_in_any_round(run: Callable[..., list[Any]], error: Exception) -> None:
    rounds = Rounds(2, None, error)
    with pytest.raises(type(error)):
        run(rounds)
    assert not rounds.waits


def test_what_ray_does_is_a_lost_worker(on_ray: Callable[..., list[Any]]) -> None:
    with pytest.raises(LostWorkerError, match=r"^the disk is full$"):
        on_ray(OutOfDiskError("the disk is full\nin many lines"))


@pytest.mark.parametrize(
    "bug", [NO_ANSWER, AccessError("x", "write", "no"), KeyError("a bug"), ConfigError("a", "b", "c")]
)
def test_what_an_actor_raised_is_raised_as_it_was(on_ray: Callable[..., list[Any]], bug: Exception) -> None:
    travelled = copy.copy(bug)  # by its arguments, as pickle does
    with pytest.raises(type(bug)):
        on_ray(RayTaskError("do", "traceback", travelled).as_instanceof_cause())


def test_an_actor_that_can_not_be_made_is_told_at_once(on_ray: Callable[..., list[Any]]) -> None:
    failed = ActorDiedError(RayTaskError("__init__", "Traceback\n  lines\nImportError: no module named x", None))
    assert failed.actor_init_failed
    with pytest.raises(JobError, match="workers can't start: ImportError: no module named x"):
        on_ray(failed)


def test_a_cluster_that_is_too_small_is_a_mistake_at_first_and_waited_for_later(
    on_ray: Callable[..., list[Any]],
) -> None:
    def too_small(*_: Any) -> PoolShape:
        seen.append(1)
        if len(seen) in refused:
            raise ConfigError("cluster", "0 CPUs", "a cluster of at least one CPU")
        return SHAPE

    seen: list[int] = []
    refused = {1}
    with pytest.raises(ConfigError, match="0 CPUs"):
        on_ray(OutOfDiskError("full"), too_small)
    seen, refused = [], {2}
    with pytest.raises(LostWorkerError, match="0 CPUs"):
        on_ray(OutOfDiskError("full"), too_small, rounds=2)


@dataclass(frozen=True)
class BrokenModel:
    """Loads in the driver, and nowhere else."""

    uri = "broken"

    def load(self, expect_digest: str | None = None) -> Any:
        raise CheckpointError("the weights are gone")


def test_an_actor_that_can_not_load_its_model_ends_the_job_with_its_own_error(
    ray_cluster: None, tmp_path: Path
) -> None:
    write_image(tmp_path / "archive" / "0.png", 100)
    archive, results = (open_store(str(tmp_path / name)) for name in ("archive", "results"))
    spec = WorkerSpec(
        archive=archive,
        results=results,
        model=BrokenModel(),
        model_digest="",
        settings=SETTINGS,
        footer={},
        functions=Functions(),
        run="run",
        import_path=(str(Path(__file__).parent), str(Path(__file__).parents[2])),
    )
    began = time.monotonic()
    with pytest.raises(CheckpointError, match="the weights are gone"):
        list(run_chunks(lambda: plan_archive(archive, ChunkLimits()), spec, RayWorkers(Resources())))  # type: ignore[arg-type,return-value]
    assert time.monotonic() - began < 60
