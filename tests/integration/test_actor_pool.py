"""The pool of actors on the session's cluster: every item once or more, whatever is killed; what is raised is told."""

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.exceptions import RayTaskError

from pipelines.cluster.actor_pool import run_on_actors


class Squarer:
    """Squares numbers; dies once at a number whose file is there, and refuses negative ones."""

    def __init__(self, folder: str, broken: bool = False) -> None:
        self.folder, self.broken = folder, broken

    def ready(self) -> None:
        if self.broken:
            raise ValueError("can't begin")

    def run(self, number: int) -> tuple[int, int]:
        fuse = Path(self.folder) / str(number)
        if fuse.exists():
            fuse.unlink()
            os.kill(os.getpid(), signal.SIGKILL)
        if number < 0:
            raise ValueError("negative")
        time.sleep(0.01)
        return os.getpid(), number**2


def squares(folder: Path, items: list[int], *, broken: bool = False, size: int = 2) -> list[tuple[int, int]]:
    def start() -> tuple[Any, Any]:
        actor = ray.remote(Squarer).options(num_cpus=1, max_concurrency=2).remote(str(folder), broken)
        return actor, actor.ready.remote()

    return list(run_on_actors(start, items, size=size))


def test_all_items_are_done_by_all_actors_and_what_a_dead_one_had_by_others(ray_cluster: None, tmp_path: Path) -> None:
    for number in (3, 20):
        (tmp_path / str(number)).touch()
    found = squares(tmp_path, list(range(40)))
    assert sorted(square for _, square in found) == [number**2 for number in range(40)]
    assert len({pid for pid, _ in found}) >= 2
    assert not list(tmp_path.iterdir())


def test_more_actors_than_the_cluster_has_room_for_wait(ray_cluster: None, tmp_path: Path) -> None:
    assert len(squares(tmp_path, list(range(9)), size=5)) == 9
    assert squares(tmp_path, []) == []


def test_what_a_task_or_a_start_raises_ends_it(ray_cluster: None, tmp_path: Path) -> None:
    with pytest.raises(RayTaskError, match="negative"):
        squares(tmp_path, [1, 2, -3, 4])
    with pytest.raises(RayTaskError, match="can't begin"):
        squares(tmp_path, [1], broken=True)


def test_deaths_without_end_are_the_clusters_error(ray_cluster: None, tmp_path: Path) -> None:
    class Dying:
        def ready(self) -> None:
            os._exit(1)

        def run(self, number: int) -> int:
            return number

    def start() -> tuple[Any, Any]:
        actor = ray.remote(Dying).options(num_cpus=1).remote()
        return actor, actor.ready.remote()

    with pytest.raises(ray.exceptions.RayActorError):
        list(run_on_actors(start, [1], size=1, most_deaths=1))
