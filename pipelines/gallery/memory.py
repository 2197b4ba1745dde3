"""What was read and may be asked for again: kept in memory up to a bound, and made once if several ask at once."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import Generic, TypeVar

__all__ = ["KeptValues"]

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class KeptValues(Generic[K, V]):
    """The values that were used last, as many as fit into a bound; at least the newest one. Safe in threads.

    Args:
        bound: sum of all weights (bytes, say, or a number of values).
        weigh: function that says what a value weighs (default: 1).
    """

    def __init__(self, bound: int, weigh: Callable[[V], int] = lambda _value: 1) -> None:
        self._bound, self._weigh = bound, weigh
        self._lock = threading.Lock()
        self._values: OrderedDict[K, tuple[V, int]] = OrderedDict()
        self._pending: dict[K, Future[V]] = {}
        self._weight = 0

    def get(self, key: K, make: Callable[[], V]) -> V:
        """Return a value; where it is not kept, it is made, by the first who asks alone.

        Raises:
            What `make` raises, for all who wait; the next one who asks tries again.
        """
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
                return self._values[key][0]
            waiting = self._pending.get(key)
            mine: Future[V] = Future()
            if waiting is None:
                self._pending[key] = mine
        if waiting is not None:
            return waiting.result()
        try:
            value = make()
        except BaseException as error:
            with self._lock:
                del self._pending[key]
            mine.set_exception(error)
            raise
        with self._lock:
            self._keep(key, value)
            del self._pending[key]
        mine.set_result(value)
        return value

    def forget(self, key: K) -> None:
        """Drop a value; one that is not kept is no error."""
        with self._lock:
            _, weight = self._values.pop(key, (None, 0))
            self._weight -= weight

    def _keep(self, key: K, value: V) -> None:
        weight = self._weigh(value)
        self._values[key] = (value, weight)
        self._weight += weight
        while self._weight > self._bound and len(self._values) > 1:
            _, (_, freed) = self._values.popitem(last=False)
            self._weight -= freed
