"""Attempts at chunks are marked beside the results: a chunk whose workers die is known, whatever else dies with them.

A worker puts a mark before it begins a chunk, and takes the chunk's marks away when it has committed it. The marks that
are left are the attempts that cost their workers. `run` tells the marks of one run of the command from others.

    attempts/<chunk>/<run>-<random>
"""

from __future__ import annotations

import secrets
from concurrent.futures import ThreadPoolExecutor

from condgen.errors import MissingError
from pipelines.storage.store import Store

__all__ = ["begin_attempt", "clear_attempts", "forget_run"]

_FOLDER = "attempts"
_DELETERS = 8


def begin_attempt(results: Store, chunk_name: str, run: str) -> int:
    """Mark an attempt at a chunk, and return the number of earlier attempts.

    Args:
        results: store of the results.
        chunk_name: name of the chunk.
        run: identity of this run of the command.
    """
    earlier = len(results.list(f"{_FOLDER}/{chunk_name}"))
    results.write(f"{_FOLDER}/{chunk_name}/{run}-{secrets.token_hex(4)}", b"")
    return earlier


def clear_attempts(results: Store, chunk_name: str) -> None:
    """Take away the marks of a chunk that is committed."""
    for entry in results.list(f"{_FOLDER}/{chunk_name}"):
        _delete(results, entry.name)


def forget_run(results: Store, run: str | None = None) -> None:
    """Take away the marks of one run, which was stopped on purpose, or (None) all marks of a job that is complete."""
    names = [entry.name for entry in results.list(_FOLDER)]
    names = [name for name in names if run is None or name.rpartition("/")[2].startswith(f"{run}-")]
    with ThreadPoolExecutor(_DELETERS, thread_name_prefix="attempts") as pool:
        list(pool.map(lambda name: _delete(results, name), names))


def _delete(results: Store, name: str) -> None:
    try:
        results.delete(name)
    except MissingError:
        return  # another worker at the same chunk took it away
