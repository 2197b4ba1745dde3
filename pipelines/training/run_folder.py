"""The folder or prefix of a run holds its configuration, checkpoints, metrics and model.

    config.json                        all of the configuration and the versions, written first
    metrics.jsonl                      one MetricRow a line, rewritten whole before each checkpoint
    checkpoints/step-00000100/         the averaged model (model.safetensors, model.json), raw.safetensors,
                                       optimizer.safetensors, state.json; complete.json last, with their digests
    model.safetensors, model.json      of a finished run: what `condgen colorize --model RUN` loads
    run.json                           written last: the run is finished, and how

A run that is killed while it writes a checkpoint leaves one without its complete.json, which is never read.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from condgen.errors import CheckpointError, ConfigError
from pipelines.storage.store import Store, json_bytes

__all__ = ["MetricRow", "RunFolder"]

_COMPLETE = "complete.json"
_CHECKPOINTS = 2
_FINISHED = "run.json"
_CONFIG = "config.json"
_METRICS = "metrics.jsonl"
# What may differ between the runs of one folder: where and by what it is run, not what.
_FREE = ("versions", "format", "data_uri", "workers", "start")


@dataclass(frozen=True, kw_only=True)
class MetricRow:
    """A row of metrics.jsonl: means since the row before.

    Attributes:
        step: number of optimizer steps done.
        epoch: epoch of the data, from 0.
        images: number of images trained on since the run began; an image counts once an epoch.
        seconds: training time since the run began, without the time between a cut and a resume (s).
        loss: sum of ``losses``.
        losses: the model's terms, by name.
        lr: learning rate of the last step.
        images_per_s: rate over all workers (images/s).
        undecodable: number of samples left out since the run began.
        waited: share of the time since the row before that each worker waited for data, by rank.
    """

    step: int
    epoch: int
    images: int
    seconds: float
    loss: float
    losses: dict[str, float]
    lr: float
    images_per_s: float
    undecodable: int
    waited: Sequence[float] = ()


class RunFolder:
    """The files of one run in storage."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def finished(self) -> dict[str, Any] | None:
        """Return the content of run.json, or None of a run that is not finished."""
        return self._json(_FINISHED)

    def claim(self, config: Mapping[str, Any]) -> None:
        """Write the configuration into a new folder, or check that it equals the folder's own.

        Raises:
            ConfigError: the folder is another run's; the error names the first field that differs.
        """
        before = self._json(_CONFIG)
        if before is None:
            self.store.write(_CONFIG, json_bytes(config))
            return
        old, new = dict(_flat(before)), dict(_flat(json.loads(json_bytes(config))))
        for name in sorted(old.keys() | new.keys()):
            if name.split(".")[0] not in _FREE and old.get(name) != new.get(name):
                allowed = f"{old.get(name)!r}, with which {self.store.uri} was begun, or another --out"
                raise ConfigError(name, new.get(name), allowed)

    def newest_checkpoint(self) -> tuple[int, dict[str, bytes]] | None:
        """Return the step and the files of the newest complete checkpoint, or None where there is none.

        Raises:
            CheckpointError: a file has changed since it was written.
        """
        steps = self._complete_steps()
        if not steps:
            return None
        folder = _folder(steps[-1])
        listed = json.loads(self.store.read(f"{folder}/{_COMPLETE}"))["files"]
        files = {name: self.store.read(f"{folder}/{name}") for name in listed}
        for name, data in files.items():
            if hashlib.sha256(data).hexdigest() != listed[name]:
                where = self.store.locate(f"{folder}/{name}")
                raise CheckpointError(f"{where} is damaged: delete its folder to resume from the one before")
        return steps[-1], files

    def save_checkpoint(self, step: int, files: Mapping[str, bytes]) -> None:
        """Write a checkpoint, its complete.json last; then remove all but the newest two."""
        folder = _folder(step)
        for name, data in files.items():
            self.store.write(f"{folder}/{name}", data)
        digests = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
        self.store.write(f"{folder}/{_COMPLETE}", json_bytes({"step": step, "files": digests}))
        keep = {_folder(complete) for complete in self._complete_steps()[-_CHECKPOINTS:]}
        names = [entry.name for entry in self.store.list("checkpoints")]
        # A mark goes first, so that what is left of a folder is never taken for a whole one.
        for name in sorted(names, key=lambda name: not name.endswith(_COMPLETE)):
            if name.rpartition("/")[0] not in keep:
                self.store.delete(name)

    def read_metrics(self, up_to_step: int) -> list[MetricRow]:
        """Return the rows up to the checkpoint that the run goes on from."""
        if not self.store.exists(_METRICS):
            return []
        lines = self.store.read(_METRICS).decode().splitlines()
        rows = [MetricRow(**json.loads(line)) for line in lines]
        return [row for row in rows if row.step <= up_to_step]

    def write_metrics(self, rows: Sequence[MetricRow]) -> None:
        """Write all rows in place of those in the folder."""
        lines = [json.dumps(asdict(row)) + "\n" for row in rows]
        self.store.write(_METRICS, "".join(lines).encode())

    def finish(self, files: Mapping[str, bytes], summary: Mapping[str, Any]) -> None:
        """Write the finished model, then run.json."""
        for name, data in files.items():
            self.store.write(name, data)
        self.store.write(_FINISHED, json_bytes(summary))

    def _complete_steps(self) -> list[int]:
        names = [entry.name for entry in self.store.list("checkpoints")]
        folders = [name.split("/")[-2] for name in names if name.endswith(f"/{_COMPLETE}")]
        return sorted(int(folder.removeprefix("step-")) for folder in folders)

    def _json(self, name: str) -> dict[str, Any] | None:
        if not self.store.exists(name):
            return None
        values: dict[str, Any] = json.loads(self.store.read(name))
        return values


def _folder(step: int) -> str:
    return f"checkpoints/step-{step:08d}"


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
