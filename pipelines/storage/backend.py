"""What a ``Store`` talks to: one try each, no retries here.

A local folder without detours is in `pipelines.storage.local`, all else, by fsspec, in `pipelines.storage.remote`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

__all__ = ["Backend", "Draft", "Entry"]


@dataclass(frozen=True, slots=True, order=True)
class Entry:
    """One listed object: its name relative to the store, its size, and when it was last written.

    `modified_s`, in seconds since 1970, is the storage's own clock's, of a local file the later of its own time stamp
    and the file system's; 0 where the storage does not tell. Entries are equal without it.
    """

    name: str
    size_bytes: int
    modified_s: float = field(default=0.0, compare=False)


class Draft(Protocol):
    """A local file that is to become an object; it may be filled by its path."""

    @property
    def path(self) -> str:
        """Path of the file, which is empty at first."""
        ...

    def store(self) -> None:
        """Store what the file holds under the object's name, atomically; after an error it may be called again."""
        ...

    def discard(self) -> None:
        """Remove the file."""
        ...


class Backend(Protocol):
    """Operations on names relative to a root; they raise ``OSError`` and the client's own errors."""

    @property
    def confines_names(self) -> bool:
        """Whether names must stay inside: their parts mean something, as those of a file's path do."""
        ...

    @property
    def advice_missing(self) -> str:
        """Advice to a user for whom something is not there."""
        ...

    @property
    def advice_access(self) -> str:
        """Advice to a user who was refused."""
        ...

    def child(self, name: str) -> Backend:
        """Return the backend of a folder under this one."""
        ...

    def read(self, name: str) -> bytes:
        """Return all bytes of an object."""
        ...

    def read_range(self, name: str, start: int, stop: int) -> bytes:
        """Return bytes ``[start, stop)``, or fewer where the object ends before."""
        ...

    def write(self, name: str, data: bytes) -> None:
        """Store an object atomically."""
        ...

    def create(self, name: str, data: bytes) -> bool:
        """Store an object atomically unless one of that name is there; return whether it was stored."""
        ...

    def draft(self, name: str) -> Draft:
        """Return a local file that is to become an object."""
        ...

    def exists(self, name: str) -> bool:
        """Return whether there is an object or folder."""
        ...

    def size(self, name: str) -> int:
        """Return an object's size in bytes."""
        ...

    def is_file(self, name: str) -> bool:
        """Return whether there is an object of that name, and no folder."""
        ...

    def list(self, prefix: str, recursive: bool, hidden: bool = False) -> list[Entry]:
        """Return the objects under a folder in any order, names relative to the root.

        Those with a dot before a part of their names are left out unless ``hidden``, or may be.
        """
        ...

    def pages(self, prefix: str) -> Callable[[], Sequence[Entry] | None]:
        """Return a function that lists the objects under a folder: some more of them, in order, or None at the end.

        After an error it may be called again. It is not said whether hidden ones are among them.
        """
        ...

    def delete(self, name: str) -> None:
        """Remove an object; one that is not there is no error."""
        ...
