"""Calls side by side, in threads that nobody waits for when the process ends; and work that others make way for."""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import TypeVar

__all__ = ["Foreground", "side_by_side"]

T = TypeVar("T")
R = TypeVar("R")


class Foreground:
    """Work that goes first. Safe in threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._count = 0
        self._is_none = threading.Event()
        self._is_none.set()

    @contextmanager
    def working(self) -> Iterator[None]:
        """Do such work."""
        with self._lock:
            self._count += 1
            self._is_none.clear()
        try:
            yield
        finally:
            with self._lock:
                self._count -= 1
                if self._count == 0:
                    self._is_none.set()

    def make_way(self, seconds: float) -> None:
        """Wait until there is no such work, or so many seconds."""
        self._is_none.wait(seconds)


def side_by_side(function: Callable[[T], R], items: Iterable[T], threads: int) -> Iterator[R]:
    """Yield what a function returns for each item, in the order of the items, of which few are taken ahead.

    Args:
        function: function that is called in other threads.
        items: arguments of the calls.
        threads: number of threads.

    Raises:
        What the function raises, in place of its result.
    """
    tasks: queue.SimpleQueue[tuple[Future[R], T] | None] = queue.SimpleQueue()

    def work() -> None:
        while (task := tasks.get()) is not None:
            future, item = task
            try:
                future.set_result(function(item))
            except BaseException as error:  # noqa: BLE001  # raised where the result is asked for
                future.set_exception(error)

    workers = [threading.Thread(target=work, daemon=True, name="gallery-reader") for _ in range(threads)]
    for worker in workers:
        worker.start()
    waiting: deque[Future[R]] = deque()
    try:
        for item in items:
            future: Future[R] = Future()
            waiting.append(future)
            tasks.put((future, item))
            if len(waiting) > 2 * threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for _ in workers:
            tasks.put(None)
