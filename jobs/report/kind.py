"""What a folder is that `condgen report` is given: results of a batch job, or a run of training."""

from __future__ import annotations

from typing import Literal

from condgen.errors import DatasetError
from jobs.report.run_files import is_run
from pipelines.storage.store import Store

__all__ = ["find_kind"]


def find_kind(store: Store) -> Literal["results", "run"]:
    """Return what a folder holds.

    Raises:
        MissingError: nothing is there.
        DatasetError: it is neither.
        AccessError, StorageError: the storage gives no answer.
    """
    store.require()
    if any(entry.name.endswith(".json") for entry in store.list("plan")):
        return "results"
    if is_run(store):
        return "run"
    raise DatasetError(
        f"{store.uri} is neither the RESULTS of condgen colorize or translate (it has no plan/) nor a RUN of condgen "
        "train (it has no config.json of one)"
    )
