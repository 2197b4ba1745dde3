"""Independent tasks, whose results come as they are done: on the cluster that is connected, or in threads."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from itertools import islice
from typing import Any, TypeVar

from pipelines.cluster.errors import unwrapped

__all__ = ["one_thread", "ray_tasks", "run_in_order", "run_tasks", "thread_tasks"]

T = TypeVar("T")

_WAITING_PER_CPU = 2


def run_tasks(
    function: Callable[..., T], tasks: Iterable[tuple[Any, ...]], threads: int, *, on_ray: bool
) -> Iterator[T]:
    """Call a function for each tuple of arguments and yield the results in any order.

    Args:
        function: a function that can be pickled.
        tasks: arguments of each call, taken as there is room.
        threads: number of threads, where the calls are made in this process.
        on_ray: whether the calls are made on the cluster that is connected, one CPU each.

    Raises:
        CondgenError: whatever the function raised.
        ray.exceptions.RayError: the cluster failed beyond what Ray itself retries.
    """
    return ray_tasks(function, tasks) if on_ray else thread_tasks(function, tasks, threads)


def run_in_order(
    function: Callable[..., T], tasks: Iterable[tuple[Any, ...]], threads: int, *, on_ray: bool
) -> Iterator[T]:
    """Do as `run_tasks`, and yield the results in the order of the tasks.

    Raises:
        As `run_tasks`.
    """
    numbered = ((function, number, arguments) for number, arguments in enumerate(tasks))
    waiting: dict[int, T] = {}
    expected = 0
    for number, result in run_tasks(_numbered, numbered, threads, on_ray=on_ray):
        waiting[number] = result
        while expected in waiting:
            yield waiting.pop(expected)
            expected += 1


def _numbered(function: Callable[..., T], number: int, arguments: tuple[Any, ...]) -> tuple[int, T]:
    return number, function(*arguments)


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute on one thread for the time of the block: the last bits of a sum depend on how many share it."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _call(function: Callable[..., T], arguments: tuple[Any, ...]) -> T:
    import torch

    torch.set_num_threads(1)
    return function(*arguments)


def ray_tasks(function: Callable[..., T], tasks: Iterable[tuple[Any, ...]]) -> Iterator[T]:
    """Call a function for each tuple of arguments, one CPU each, and yield the results in any order.

    A task that is lost with its worker runs again: it must do the same, or write the same bytes to the same name.

    Raises:
        CondgenError: whatever the function raised.
        ray.exceptions.RayError: the cluster failed beyond what Ray itself retries.
    """
    import ray

    remote: Any = ray.remote(num_cpus=1, max_retries=3)(_call)
    cpus = ray.cluster_resources().get("CPU", 1)  # type: ignore[no-untyped-call]
    limit = max(1, int(cpus)) * _WAITING_PER_CPU
    waiting = iter(tasks)
    running: list[ray.ObjectRef[T]] = []
    try:
        with unwrapped():
            while True:
                running += [remote.remote(function, task) for task in islice(waiting, limit - len(running))]
                if not running:
                    return
                done, running = ray.wait(running, num_returns=1)
                yield ray.get(done[0])
    finally:
        for reference in running:
            ray.cancel(reference)


def thread_tasks(function: Callable[..., T], tasks: Iterable[tuple[Any, ...]], threads: int) -> Iterator[T]:
    """Call a function for each tuple of arguments in threads of this process, and yield the results in any order.

    Raises:
        Exception: whatever the function raised.
    """
    waiting = iter(tasks)
    running: set[Future[T]] = set()
    with ThreadPoolExecutor(threads, thread_name_prefix="task") as pool:
        try:
            while True:
                running |= {pool.submit(function, *task) for task in islice(waiting, threads - len(running))}
                if not running:
                    return
                done, running = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    yield future.result()
        finally:
            for future in running:
                future.cancel()
