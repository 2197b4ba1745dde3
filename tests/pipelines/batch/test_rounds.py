"""Rounds of chunks: what the cluster did is tried again, with patience; what is a mistake or a bug is told at once."""

import copy
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from fakes import SETTINGS, write_image
from ray.exceptions import ActorDiedError, OutOfDiskError, RayTaskError

from condgen.errors import AccessError, CheckpointError, ConfigError, JobError, StorageError
from pipelines.batch import workers as ray_batch
from pipelines.batch.archive import plan_archive
from pipelines.batch.engine import Functions
from pipelines.batch.pool_shape import PoolShape
from pipelines.batch.workers import WorkerSpec, run_chunks
from pipelines.datasets.chunk import ChunkLimits
from pipelines.storage.store import open_store

SHAPE = PoolShape(1, 1, 1.0, 0.0)
FULL = OutOfDiskError("the disk is full\nin many lines")
NO_ANSWER = StorageError("s3://bucket/x", "write", "no answer (after 6 tries)", passes=True)


class Rounds:
    """Stands for Ray: each round does one chunk of those pending, or fails."""

    def __init__(self, chunks: int, *outcomes: Exception | None) -> None:
        self.left = chunks
        self.outcomes = list(outcomes)
        self.waits: list[float] = []

    def pending(self) -> Any:
        import pyarrow as pa

        if self.outcomes and isinstance(self.outcomes[0], StorageError):
            raise self.outcomes.pop(0)  # type: ignore[misc]
        return pa.table({"name": list(range(self.left))})

    def run(self, *_: Any) -> Iterator[int]:
        outcome = self.outcomes.pop(0) if self.outcomes else None
        if outcome is not None:
            raise outcome
        self.left -= 1
        yield self.left


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Any]]:
    def run(rounds: Rounds, shape: Callable[[int], PoolShape] = lambda _: SHAPE) -> list[Any]:
        monkeypatch.setattr(ray_batch, "_run_round", rounds.run)
        monkeypatch.setattr(ray_batch.time, "sleep", rounds.waits.append)
        return list(run_chunks(rounds.pending, None, shape))  # type: ignore[arg-type]

    return run


def test_rounds_that_the_cluster_ends_are_tried_again_after_growing_waits(run: Callable[..., list[Any]]) -> None:
    rounds = Rounds(2, FULL, FULL, FULL, None, FULL)
    assert run(rounds) == [1, 0]
    assert rounds.waits == [1.0, 2.0, 4.0, 8.0]


def test_patience_ends_in_one_line(run: Callable[..., list[Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_batch, "_PATIENCE_S", 0.0)
    rounds = Rounds(1, *[FULL] * 20)
    with pytest.raises(JobError, match="the disk is full"):
        run(rounds)
    assert rounds.waits == [1.0, 2.0, 4.0, 8.0]


def test_storage_that_gives_no_answer_to_a_worker_or_the_driver_is_waited_for(
    run: Callable[..., list[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    travelled = copy.copy(NO_ANSWER)  # by its arguments, as pickle does
    of_worker = RayTaskError("do", "traceback", travelled).as_instanceof_cause()
    rounds = Rounds(2, of_worker, None, NO_ANSWER)
    assert run(rounds) == [1, 0]
    assert rounds.waits == [1.0, 2.0]
    monkeypatch.setattr(ray_batch, "_PATIENCE_S", 0.0)
    with pytest.raises(StorageError, match="could not write s3://bucket/x: no answer"):
        run(Rounds(1, *[of_worker] * 20))


def test_storage_that_refuses_ends_the_job_at_once(run: Callable[..., list[Any]]) -> None:
    rounds = Rounds(2, None, RayTaskError("do", "traceback", AccessError("x", "write", "no")).as_instanceof_cause())
    with pytest.raises(AccessError):
        run(rounds)
    assert not rounds.waits


def test_a_cluster_that_is_too_small_is_a_mistake_at_first_and_waited_for_later(run: Callable[..., list[Any]]) -> None:
    def shrinking(_: int) -> PoolShape:
        seen.append(1)
        if len(seen) in refused:
            raise ConfigError("cluster", "0 CPUs", "a cluster of at least one CPU")
        return SHAPE

    seen: list[int] = []
    refused = {1}
    with pytest.raises(ConfigError, match="0 CPUs"):
        run(Rounds(2), shrinking)
    seen, refused = [], {2, 3}
    assert run(Rounds(2), shrinking) == [1, 0]


@pytest.mark.parametrize("bug", [KeyError("a bug"), CheckpointError("of another model"), ConfigError("a", "b", "c")])
def test_what_a_worker_raises_ends_the_job_in_any_round(run: Callable[..., list[Any]], bug: Exception) -> None:
    error = RayTaskError("do", "traceback", bug).as_instanceof_cause()
    with pytest.raises(type(bug)):
        run(Rounds(2, None, error))


def test_a_worker_that_can_not_be_made_is_told_at_once(run: Callable[..., list[Any]]) -> None:
    failed = ActorDiedError(RayTaskError("__init__", "Traceback\n  lines\nImportError: no module named x", None))
    assert failed.actor_init_failed
    rounds = Rounds(2, failed)
    with pytest.raises(JobError, match="workers can't start: ImportError: no module named x"):
        run(rounds)
    assert not rounds.waits


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
        list(run_chunks(lambda: plan_archive(archive, ChunkLimits()), spec, lambda _: SHAPE))
    assert time.monotonic() - began < 60
