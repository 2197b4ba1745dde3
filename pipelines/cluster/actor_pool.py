"""A pool of Ray actors does many small tasks; the actors outlive each other.

The batch job needs little of a pool: a few tasks in each actor's hands, and those of a lost actor given to others.
Plain actors do it. Ray Data's pool of the same actors took 12 CPU seconds more to start and half a millisecond more an
image, and ended the whole execution where a node was lost with its blocks.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Generic, TypeAlias, TypeVar

__all__ = ["run_on_actors"]

logger = logging.getLogger(__name__)
T = TypeVar("T")
Start: TypeAlias = Callable[[], tuple[Any, Any]]

_POLL_S = 5.0
_PATIENT_S = 60.0


@dataclass(slots=True, eq=False)
class _Member(Generic[T]):
    """An actor, the reference that is done when it has started (then None), and the tasks in its hands."""

    actor: Any
    starting: Any
    tasks: dict[Any, T] = field(default_factory=dict)


class _Pool(Generic[T]):
    def __init__(self, start: Start, items: Iterable[T], size: int, in_flight: int) -> None:
        self._start = start
        self._items = iter(items)
        self._again: deque[T] = deque()
        self._in_flight = in_flight
        self._members = [self._begin() for _ in range(size)]
        self._began = time.monotonic()

    def _begin(self) -> _Member[T]:
        return _Member(*self._start())

    def refs(self) -> dict[Any, _Member[T]]:
        """Return the references that are waited for, starts and tasks, with their members."""
        starts = {member.starting: member for member in self._members if member.starting is not None}
        return starts | {ref: member for member in self._members for ref in member.tasks}

    def hand_out(self) -> bool:
        """Give tasks to actors that have started, evenly; returns whether any task is in hand or left to give."""
        for depth in range(self._in_flight):
            for member in self._members:
                if member.starting is None and len(member.tasks) == depth:
                    item = self._again.popleft() if self._again else next(self._items, None)
                    if item is None:
                        return any(member.tasks for member in self._members)
                    member.tasks[member.actor.run.remote(item)] = item
        return True

    def started(self, member: _Member[T]) -> None:
        """Note that an actor has started."""
        member.starting = None

    def lose(self, member: _Member[T]) -> None:
        """Give the tasks of an actor that is gone to others, and start another in its place."""
        import ray

        ray.kill(member.actor)  # it may only be out of reach
        self._again.extend(member.tasks.values())
        self._members[self._members.index(member)] = self._begin()

    def end(self) -> None:
        """Kill all actors."""
        import ray

        for member in self._members:
            ray.kill(member.actor)

    def complain(self) -> None:
        """Say once that no actor starts: the cluster has no room for one."""
        is_idle = all(member.starting is not None for member in self._members)
        if is_idle and self._began and time.monotonic() - self._began > _PATIENT_S:
            logger.warning("no worker has started for %.0f s: is the cluster busy with other work?", _PATIENT_S)
            self._began = 0.0


def run_on_actors(
    start: Start, items: Iterable[T], *, size: int, in_flight: int = 2, most_deaths: int = 20
) -> Iterator[Any]:
    """Do a task for each item on a pool of actors, and yield the results in the order in which they come.

    Args:
        start: function that returns an actor with a method `run(item)`, and a reference that is done when the actor has
            started.
        items: items, taken as actors have room; none of them is None.
        size: number of actors; those that the cluster has no room for yet wait, and begin when it has.
        in_flight: tasks in an actor's hands (default: 2).
        most_deaths: deaths of actors, one after the other, that are borne without a task that ends (default: 20).

    Raises:
        ray.exceptions.RayTaskError: a task or a start raised an error; `unwrap` tells whether it is one of ours.
        ray.exceptions.RayError: actors die again and again.
    """
    import ray
    from ray.exceptions import RayError, RayTaskError

    pool = _Pool(start, items, size, in_flight)
    deaths = 0
    try:
        while pool.hand_out():
            refs = pool.refs()
            done, _ = ray.wait(list(refs), num_returns=1, timeout=_POLL_S)
            if not done:
                pool.complain()
            for ref in done:
                member = refs[ref]
                try:
                    value = ray.get(ref)
                except RayTaskError:
                    raise
                except RayError as error:
                    deaths += 1
                    if deaths > most_deaths or getattr(error, "actor_init_failed", False):
                        raise
                    logger.warning("a worker is lost; its chunks are done again by another")
                    pool.lose(member)
                    continue
                if ref == member.starting:
                    pool.started(member)
                    continue
                del member.tasks[ref]
                deaths = 0
                yield value
    finally:
        pool.end()
