"""What a training run's folder holds, read for those who look at it: of any version, finished or not, whole or not.

A file that is missing, damaged or of another form is a note on the page, and never the end of it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

from condgen.errors import CondgenError, MissingError
from pipelines.storage.store import Store
from pipelines.training.checkpoint_names import CheckpointName, checkpoint_files, complete_checkpoints
from pipelines.training.lease import Holder, newest_epoch, read_holder
from pipelines.training.run_folder import METRICS, RunFolder
from pipelines.training.validation_rows import VALIDATION

__all__ = ["Attempt", "RunFiles", "is_run", "read_run"]

MAX_ATTEMPTS = 200
_READERS = 8


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """A stretch of training by one set of workers: who wrote it, since when, and from which step it went on."""

    epoch: int
    from_step: int
    holder: Holder


@dataclass(frozen=True, kw_only=True)
class RunFiles:
    """The content of a run's folder.

    Attributes:
        uri: place of the run.
        config: content of config.json; empty where there is none.
        metrics, validation: rows that have a step, in the order of the steps.
        status: content of status.json; empty in runs of versions 0.1 and 0.2.
        summary: content of run.json; empty where the run is not finished.
        checkpoints: checkpoints that are kept, and their sizes in bytes.
        sheets: steps of which there are sheets of samples.
        attempts: newest attempts in their order, at most `MAX_ATTEMPTS`; none in runs of versions 0.1 and 0.2.
        num_attempts: number of all attempts.
        notes: sentences on what could not be read.
    """

    uri: str
    config: Mapping[str, Any]
    metrics: Sequence[Mapping[str, Any]]
    validation: Sequence[Mapping[str, Any]]
    status: Mapping[str, Any]
    summary: Mapping[str, Any]
    checkpoints: Mapping[CheckpointName, int]
    sheets: Sequence[int]
    attempts: Sequence[Attempt]
    num_attempts: int
    notes: Sequence[str]


def is_run(store: Store) -> bool:
    """Return whether a folder is that of a training run, begun by any version of condgen."""
    if store.is_file(METRICS):
        return True
    notes: list[str] = []
    config = _object(store, "config.json", notes)
    return ("family" in config and "train" in config) or "state" in _object(store, "status.json", notes)


def read_run(store: Store) -> RunFiles:
    """Read a run's folder.

    Raises:
        AccessError, StorageError: the storage gives no answer.
    """
    notes: list[str] = []
    names = checkpoint_files(store)
    sizes = dict.fromkeys(complete_checkpoints(names), 0)
    for entry in store.list("checkpoints"):
        checkpoint = CheckpointName.of_file(entry.name)
        if checkpoint in sizes:
            sizes[checkpoint] += entry.size_bytes
    newest = newest_epoch(store)
    return RunFiles(
        uri=store.uri,
        config=_object(store, "config.json", notes),
        metrics=_rows(store, METRICS, notes),
        validation=_rows(store, VALIDATION, notes),
        status=_object(store, "status.json", notes),
        summary=_object(store, "run.json", notes),
        checkpoints=sizes,
        sheets=sorted(RunFolder(store).sheets()),
        attempts=_attempts(store, newest),
        num_attempts=newest,
        notes=notes,
    )


def _object(store: Store, name: str, notes: list[str]) -> dict[str, Any]:
    try:
        content = json.loads(store.read(name))
        if not isinstance(content, dict):
            raise ValueError("no object")
        return content
    except MissingError:
        return {}
    except ValueError:
        notes.append(f"{name} is damaged, and is not shown.")
        return {}


def _rows(store: Store, name: str, notes: list[str]) -> list[dict[str, Any]]:
    try:
        lines = store.read(name).decode(errors="replace").splitlines()
    except MissingError:
        return []
    rows: dict[int, dict[str, Any]] = {}
    damaged = 0
    for line in lines:
        try:
            row = json.loads(line)
            rows[int(row["step"])] = row
        except (ValueError, KeyError, TypeError, OverflowError):
            damaged += bool(line.strip())
    if damaged:
        notes.append(f"{damaged} of {len(lines)} lines of {name} can't be read, and are left out.")
    return [rows[step] for step in sorted(rows)]


def _attempts(store: Store, newest: int) -> list[Attempt]:
    epochs = range(max(1, newest - MAX_ATTEMPTS + 1), newest + 1)
    with ThreadPoolExecutor(_READERS, thread_name_prefix="lease") as pool:
        holders = list(pool.map(partial(_holder, store), epochs))
    attempts = []
    for holder in holders:
        if holder is not None:
            kept = [CheckpointName.parse(name) for name in holder.kept or ()]
            from_step = max((one.step for one in kept if one), default=0)
            attempts.append(Attempt(epoch=holder.epoch, from_step=from_step, holder=holder))
    return attempts


def _holder(store: Store, epoch: int) -> Holder | None:
    try:
        return read_holder(store, epoch)
    except CondgenError:
        return None  # its object was deleted
