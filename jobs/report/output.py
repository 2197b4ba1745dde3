"""Where a report's file goes: beside what it is of, or to a file that was named."""

from __future__ import annotations

from pipelines.storage.store import Store, open_store

__all__ = ["open_output"]


def open_output(beside: Store, name: str, out: str | None) -> tuple[Store, str]:
    """Return the folder and the name of the file to write.

    Args:
        beside: folder of what is reported on.
        name: name of the file there, where no other one was named.
        out: the file that was named, a local path or a URI; None where none was.
    """
    if out is None:
        return beside, name
    parent, slash, leaf = out.rpartition("/")
    return open_store(parent or ("/" if slash else ".")), leaf
