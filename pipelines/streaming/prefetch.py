"""Items that are made ahead, by a thread, while the one before is used."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from typing import TypeVar, overload

__all__ = ["prefetched"]

T = TypeVar("T")

_LEAVE_S = 0.2


@overload
def prefetched(items: Iterator[T], depth: int) -> Generator[T, None, None]: ...


@overload
def prefetched(items: Iterator[T], depth: int, leave: Callable[[], bool]) -> Generator[T | None, None, None]: ...


def prefetched(
    items: Iterator[T], depth: int, leave: Callable[[], bool] | None = None
) -> Generator[T | None, None, None]:
    """Yield the same items, made up to `depth` ahead by a thread; its error is raised in the place of an item.

    Args:
        items: items, which may take their time.
        depth: number of items that are made ahead (at least 1).
        leave: function that is asked again and again while the next item is not ready: where it says so, None is
            yielded, and the item remains the next one (default: an item is waited for, however long).
    """
    ready: queue.Queue[tuple[T | None, BaseException | None]] = queue.Queue(depth)
    stop = threading.Event()

    def put(item: T | None, error: BaseException | None) -> None:
        while not stop.is_set():
            with suppress(queue.Full):
                ready.put((item, error), timeout=0.1)
                return

    def work() -> None:
        try:
            for item in items:
                put(item, None)
                if stop.is_set():
                    return
            put(None, StopIteration())
        except BaseException as error:  # noqa: BLE001 - it is raised by the reader
            put(None, error)

    threading.Thread(target=work, name="prefetch", daemon=True).start()
    try:
        while True:
            try:
                item, error = ready.get(timeout=_LEAVE_S if leave else None)
            except queue.Empty:
                if leave and leave():
                    yield None
                continue
            if isinstance(error, StopIteration):
                return
            if error is not None:
                raise error
            yield item
    finally:
        stop.set()
