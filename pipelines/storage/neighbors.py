"""One object's trouble, told from that of a storage that is out: the object's neighbors decide.

    neighbors = Neighbors(known=[(store, "a.jpg"), (store, "z.jpg")])
    data = neighbors.read(store, "m.jpg", lambda store: store.read("m.jpg"))

Some errors are the object's own by what they say (410, an archive class, a name that the storage can't have), some are
everyone's (refused credentials, no such bucket). Of a 500, a 403, a timeout or a certificate nobody can tell from the
error alone: if another object can be read now, and this one fails once more, the trouble is its own. Where no other
can be, and one name after the other fails, the storage is out.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, TypeVar

from condgen.errors import ImageError, JobError, MissingError, StorageError
from pipelines.storage.store import RetryPolicy, Store

__all__ = ["Neighbors"]

T = TypeVar("T")

_MANY = 8
"""So many different names in a row, with none that can be read between or beside them, are a storage that is out."""
_ASKED = 8
_ONE_TRY = RetryPolicy(attempts=1)
_TWO_TRIES = RetryPolicy(attempts=2)
_TRIED_HARD = 2


class Neighbors:
    """What one process knows of the objects that it reads. Safe in threads; a copy in another process begins anew.

    Args:
        known: some objects of the same archive that are asked where nothing was read yet, best far from each other.
    """

    def __init__(self, known: Sequence[tuple[Store, str]] = ()) -> None:
        self._known = tuple(known)
        self._lock = threading.Lock()
        self._last: tuple[Store, str] | None = None
        self._failed: dict[str, None] = {}
        self._silent: Counter[str] = Counter()

    @cached_property
    def linked(self) -> Neighbors:
        """The neighbors of what the archive's tables lead to, which may be out while the tables are not."""
        return Neighbors()

    def __reduce__(self) -> tuple[Any, ...]:
        return Neighbors, (self._known,)

    def read(
        self,
        store: Store,
        name: str,
        call: Callable[[Store], T],
        *,
        is_foreign: bool = False,
        others: Callable[[], Iterable[tuple[Store, str]]] = lambda: (),
    ) -> T:
        """Read an object, or raise what its failure means.

        Args:
            store: store of the object.
            name: name of the object.
            call: function that reads it, from the store or one with other retries.
            is_foreign: whether it is where a table says, rather than in the archive's own storage.
            others: function that gives more objects to ask, beside those that were read and `known`.

        Raises:
            ImageError: the trouble is the object's own (stage `read`, the storage's code).
            JobError: the storage is out.
            AccessError, MissingError, StorageError: the archive's own storage refuses everything.
        """
        hopeless = is_foreign and self._silent[store.uri] >= _TRIED_HARD
        try:
            result = call(replace(store, retry=_ONE_TRY) if hopeless else store)
        except StorageError as error:
            return self._settle(store, name, error, call, is_foreign, others)
        self._saw(store, name)
        return result

    def _saw(self, store: Store, name: str) -> None:
        with self._lock:
            self._last = (store, name)
            self._failed.clear()
            self._silent.pop(store.uri, None)

    def _settle(
        self,
        store: Store,
        name: str,
        error: StorageError,
        call: Callable[[Store], T],
        is_foreign: bool,
        others: Callable[[], Iterable[tuple[Store, str]]],
    ) -> T:
        if error.scope == "storage" and not is_foreign:
            raise error
        if not is_foreign and isinstance(error, MissingError) and not replace(store, retry=_TWO_TRIES).answers():
            raise _outage(store, error) from error
        if error.scope == "object" or isinstance(error, MissingError):
            raise _own(error) from error
        with self._lock:
            self._silent[store.uri] += 1
        if self._one_answers(store, name, others):
            try:
                result = call(replace(store, retry=_ONE_TRY))
            except StorageError as again:
                raise _own(again) from again
            self._saw(store, name)
            return result
        with self._lock:
            self._failed[store.locate(name)] = None
            failed = len(self._failed)
        if failed >= _MANY or (not is_foreign and not replace(store, retry=_TWO_TRIES).answers()):
            raise _outage(store, error, failed) from error
        raise _own(error) from error

    def _one_answers(self, store: Store, name: str, others: Callable[[], Iterable[tuple[Store, str]]]) -> bool:
        """Return whether another object can be read now, or is at least answered for."""
        seen = {store.locate(name)}
        asked = 0
        for where, which in (*([self._last] if self._last else ()), *self._known, *others()):
            place = where.locate(which)
            if place in seen or place in self._failed:
                continue
            seen.add(place)
            try:
                replace(where, retry=_TWO_TRIES).read_range(which, 0, 1)
            except StorageError as error:
                if error.scope != "object":
                    with self._lock:
                        self._failed[place] = None
                    asked += 1
                    if asked == _ASKED:
                        return False
                    continue
            return True
        return False


def _own(error: StorageError) -> ImageError:
    if isinstance(error, MissingError):
        return ImageError("read", "Missing", "nothing is there")
    return ImageError("read", error.code or "Storage", error.summary)


def _outage(store: Store, error: StorageError, failed: int = 1) -> JobError:
    many = f"{failed} different objects in a row can't be read, and no other" if failed > 1 else "nothing"
    return JobError(
        f"the storage of {store.uri} is out: {many} can be read ({error.uri}: {error.reason}); what is done is "
        "committed: run the same command again"
    )
