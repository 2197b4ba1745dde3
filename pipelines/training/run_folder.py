"""The folder or prefix of a run holds its configuration, checkpoints, metrics and model.

    lease/00000003.json                who writes here: `pipelines.training.lease`
    status.json                        how the run stands: `pipelines.training.status`
    config.json                        all of the configuration and the versions, written first
    metrics.jsonl                      one MetricRow a line, rewritten whole before each checkpoint
    validation.jsonl                   one ValidationRow a line, rewritten whole by the driver
    sheets/step-00000100.png           samples of a checkpoint
    checkpoints/step-00000100-e0003/   the averaged model (model.safetensors, model.json), raw.safetensors,
                                       optimizer.safetensors, state.json, metrics.jsonl; complete.json last, with
                                       their digests; run.json in that of the end
    model.safetensors, model.json      of a finished run: what `condgen colorize --model RUN` loads
    run.json                           written last: the run is finished, and how

A run that is killed while it writes a checkpoint leaves one without its complete.json, which is never read. The number
after the `e` is the writer's epoch; folders of versions 0.1 and 0.2 have none, and are read as before.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import Any

from condgen.errors import CheckpointError, MissingError
from pipelines.storage.store import Store, json_bytes
from pipelines.training.checkpoint_names import COMPLETE, CheckpointName, checkpoint_files
from pipelines.training.keeping import NEWEST, Candidate, choose_kept
from pipelines.training.lease import Fence, FencedError
from pipelines.training.run_config import check_config, goes_on
from pipelines.training.validation_rows import (
    VALIDATION,
    ValidationRow,
    is_due,
    validation_from_bytes,
    validation_to_bytes,
)

__all__ = ["METRICS", "MetricRow", "RunFolder", "rows_from_bytes", "rows_to_bytes"]

METRICS = "metrics.jsonl"
_FINISHED = "run.json"
_CONFIG = "config.json"
_SHEET = "sheets/step-"


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
        stalled_s: time that training stood still for checkpoints since the row before (s; 0 in rows of version 0.2).
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
    stalled_s: float = 0.0
    waited: list[float] = field(default_factory=list)


def rows_to_bytes(rows: Iterable[MetricRow]) -> bytes:
    """Return the content of a metrics.jsonl."""
    return "".join(json.dumps(asdict(row)) + "\n" for row in rows).encode()


def rows_from_bytes(data: bytes) -> list[MetricRow]:
    """Return the rows of a metrics.jsonl, of this or of an earlier version."""
    return [MetricRow(**json.loads(line)) for line in data.decode().splitlines()]


@dataclass(frozen=True)
class RunFolder:
    """The files of one run in storage.

    Attributes:
        store: the folder or prefix.
        fence: right to write there, which is checked before each commit; without one (default) nothing is checked, and
            the run is seen as the newest holder of its lease sees it.
    """

    store: Store
    fence: Fence | None = None

    def finished(self) -> dict[str, Any] | None:
        """Return the content of run.json, or None of a run that is not finished."""
        return self._json(_FINISHED)

    def check(self, config: Mapping[str, Any], defaults: Mapping[str, Any] | None = None) -> None:
        """Check that the folder is new, or was begun with this configuration; its limits may have been raised.

        Args:
            config: complete configuration.
            defaults: values of the fields that the configurations of earlier versions lack (default: none).

        Raises:
            ConfigError: the folder is another run's; the error names the first field that differs.
        """
        before = self.config()
        if before:
            check_config(before, config, defaults or {}, uri=self.store.uri)

    def config(self) -> dict[str, Any]:
        """Return the configuration that the run was begun with; empty where the folder is new."""
        return self._json(_CONFIG) or {}

    def ended(self, config: Mapping[str, Any], defaults: Mapping[str, Any] | None = None) -> dict[str, Any] | None:
        """Return the content of run.json where the run is finished and its limits let it end there, else None.

        Raises:
            ConfigError: as ``check``.
        """
        self.check(config, defaults)
        summary = self.finished()
        return None if summary is None or goes_on(summary, config.get("train", {})) else summary

    def claim(self, config: Mapping[str, Any], defaults: Mapping[str, Any] | None = None) -> dict[str, Any] | None:
        """Begin a run, or go on with one: write the configuration into a new folder, or raise the limits of its own.

        Args:
            config, defaults: see ``check``.

        Returns:
            As ``ended``. A finished run that goes on is no longer finished.

        Raises:
            ConfigError: as ``check``.
            FencedError: another writer has taken the run over.
        """
        summary = self.ended(config, defaults)
        if summary is not None:
            return summary
        before, train = self.config(), config.get("train", {})
        if not before:
            self.write(_CONFIG, json_bytes(config))
        else:
            if self.finished() is not None:
                self._check()
                self.store.delete(_FINISHED)
            limits = {name: train[name] for name in ("steps", "max_seconds") if name in train}
            raised = before | {"train": before.get("train", {}) | limits}
            if raised != before:
                self.write(_CONFIG, json_bytes(raised))
        return None

    def newest(self) -> CheckpointName | None:
        """Return the newest whole checkpoint that counts, or None where there is none."""
        complete = self.fence_now().complete()
        return complete[-1] if complete else None

    def newest_step(self) -> int:
        """Return the step of the newest whole checkpoint that counts; 0 where there is none."""
        newest = self.newest()
        return newest.step if newest else 0

    def holds(self, checkpoint: CheckpointName) -> bool:
        """Return whether a checkpoint is there, and whole."""
        return self.store.is_file(checkpoint.file(COMPLETE))

    def digests(self, checkpoint: CheckpointName) -> dict[str, str]:
        """Return the SHA-256 of each file of a whole checkpoint, in hexadecimal."""
        listed: dict[str, str] = json.loads(self.store.read(checkpoint.file(COMPLETE)))["files"]
        return listed

    def read_checkpoint(
        self,
        checkpoint: CheckpointName,
        read: Callable[[str], bytes] | None = None,
        *,
        only: Collection[str] | None = None,
    ) -> dict[str, bytes]:
        """Return the files of a whole checkpoint.

        Args:
            checkpoint: name of the checkpoint.
            read: function that returns a file of it (default: it is read from the run's folder).
            only: names of the files that are wanted (default: all).

        Raises:
            CheckpointError: a file has changed since it was written.
            MissingError: the checkpoint was removed.
        """
        files = {}
        for name, digest in self.digests(checkpoint).items():
            if only is not None and name not in only:
                continue
            files[name] = read(name) if read else self.store.read(checkpoint.file(name))
            if hashlib.sha256(files[name]).hexdigest() != digest:
                where = self.store.locate(checkpoint.file(name))
                raise CheckpointError(f"{where} is damaged: delete its folder to resume from the one before")
        return files

    def newest_checkpoint(self) -> tuple[int, dict[str, bytes]] | None:
        """Return the step and the files of the newest whole checkpoint, or None where there is none.

        Raises:
            CheckpointError: a file has changed since it was written.
        """
        newest = self.newest()
        return None if newest is None else (newest.step, self.read_checkpoint(newest))

    def save_checkpoint(
        self,
        step: int,
        files: Mapping[str, bytes],
        *,
        loss: float | None = None,
        keep_best: int = 0,
        validate_every: int = 0,
    ) -> CheckpointName:
        """Write a checkpoint, its complete.json last; then remove those that are not kept (see ``choose_kept``).

        A checkpoint of that step which is whole already is left as it is.

        Args:
            step: number of optimizer steps done.
            files: its files, by name.
            loss: mean loss of its last row of metrics (default: none is known).
            keep_best: number of checkpoints that are kept for their loss (default 0).
            validate_every: steps between validations, whose loss then counts (default: the training loss counts).

        Raises:
            FencedError: another writer has taken the run over: the checkpoint is not complete.
        """
        checkpoint = CheckpointName(step, self.fence.epoch if self.fence else 0)
        same = [one for one in self.fence_now().complete() if one.step == step]
        if same:
            return same[-1]
        for name, data in files.items():
            self.store.write(checkpoint.file(name), data)
        digests = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
        self.write(checkpoint.file(COMPLETE), json_bytes({"step": step, "files": digests, "loss": loss}))
        self._prune(keep_best, validate_every)
        return checkpoint

    def read_metrics(self, up_to_step: int) -> list[MetricRow]:
        """Return the rows up to the checkpoint that the run goes on from."""
        if not self.store.exists(METRICS):
            return []
        return [row for row in rows_from_bytes(self.store.read(METRICS)) if row.step <= up_to_step]

    def write_metrics(self, rows: Sequence[MetricRow]) -> None:
        """Write all rows in place of those in the folder.

        Raises:
            FencedError: another writer has taken the run over.
        """
        self._publish({METRICS: rows_to_bytes(rows)})

    def read_validation(self, up_to_step: float = float("inf")) -> dict[int, ValidationRow]:
        """Return the rows of validation by their steps, up to some step (default: all)."""
        if not self.store.exists(VALIDATION):
            return {}
        return validation_from_bytes(self.store.read(VALIDATION), up_to_step)

    def write_validation(self, rows: Mapping[int, ValidationRow]) -> None:
        """Write all rows of validation in place of those in the folder.

        Raises:
            FencedError: another writer has taken the run over.
        """
        data, newest = validation_to_bytes(rows), self.newest()
        # The copy in a finished run's last checkpoint is what a late writer's rows are replaced by.
        copy = {newest.file(VALIDATION): data} if newest is not None and self.finished() is not None else {}
        self._publish({**copy, VALIDATION: data})

    def sheets(self) -> list[int]:
        """Return the steps of which there are sheets of samples."""
        names = (entry.name.removeprefix(_SHEET).removesuffix(".png") for entry in self.store.list("sheets"))
        return [int(name) for name in names if name.isdecimal()]

    def write_sheet(self, step: int, png: bytes) -> None:
        """Write the sheet of samples of a step.

        Raises:
            FencedError: another writer has taken the run over.
        """
        self.write(f"{_SHEET}{step:08d}.png", png)

    def finish(self, files: Mapping[str, bytes], summary: Mapping[str, Any]) -> None:
        """Write the finished model, then run.json.

        Raises:
            FencedError: another writer has taken the run over.
        """
        newest, end = self.newest(), json_bytes(summary)
        if newest is not None:
            self.write(newest.file(_FINISHED), end)
        self._publish({**files, _FINISHED: end})

    def write(self, name: str, data: bytes) -> None:
        """Write a file where this is still the run's writer.

        Raises:
            FencedError: another writer has taken the run over.
        """
        self._check()
        self.store.write(name, data)

    def _publish(self, files: Mapping[str, bytes]) -> None:
        """Write files that have one name for all epochs.

        A writer that was stopped between its check and its write replaces what the next one has written, once. It finds
        that out here, and puts the finished run's files back.
        """
        try:
            for name, data in files.items():
                self.write(name, data)
            self._check()
        except FencedError:
            self._mend(files)
            raise

    def _mend(self, files: Iterable[str]) -> None:
        current = RunFolder(self.store)
        newest = current.newest()
        if newest is None or not self.store.is_file(newest.file(_FINISHED)):
            return  # that run still goes on, and writes them again
        for name in files:
            if self.store.is_file(newest.file(name)):
                self.store.write(name, self.store.read(newest.file(name)))

    def _prune(self, keep_best: int, validate_every: int) -> None:
        names = checkpoint_files(self.store)
        complete = self.fence_now().complete(names)
        if not complete:
            return
        kept = choose_kept(self._candidates(complete, keep_best, validate_every), keep_best)
        own = self.fence.epoch if self.fence else 0
        removed: dict[CheckpointName, list[str]] = {}
        for name in names:
            one = CheckpointName.of_file(name)
            if one is None or one in kept or one.epoch > own:
                continue
            # What is newer and of this epoch is on its way: another worker may write it.
            if one.epoch < own or one in complete or one < complete[-NEWEST:][0]:
                removed.setdefault(one, []).append(name)
        for files in removed.values():
            self._check()
            # A mark goes first, so that what is left of a folder is never taken for a whole one.
            for name in sorted(files, key=lambda name: not name.endswith(f"/{COMPLETE}")):
                self.store.delete(name)

    def _candidates(
        self, checkpoints: Sequence[CheckpointName], keep_best: int, validate_every: int
    ) -> list[Candidate]:
        """Return the checkpoints with their losses, as far as these matter."""
        older, newest = checkpoints[:-NEWEST], [Candidate(one) for one in checkpoints[-NEWEST:]]
        if not keep_best:
            return [*(Candidate(one) for one in older), *newest]
        if not validate_every:
            return [*(Candidate(one, self._training_loss(one)) for one in older), *newest]
        rows = self.read_validation()
        last = max(rows, default=0)
        losses = {step: row.loss for step, row in rows.items()}
        awaited = {one.step: one.step > last and is_due(one.step, validate_every) for one in older}
        judged = (Candidate(one, losses.get(one.step), is_awaited=awaited[one.step]) for one in older)
        return [*judged, *newest]

    def _training_loss(self, checkpoint: CheckpointName) -> float | None:
        with suppress(MissingError):  # a fenced writer may just have removed it
            loss: float | None = json.loads(self.store.read(checkpoint.file(COMPLETE))).get("loss")
            return loss
        return None

    def fence_now(self) -> Fence:
        """Return the fence by which checkpoints count: this writer's own, or the newest."""
        return self.fence or Fence.newest(self.store)

    def _check(self) -> None:
        if self.fence is not None:
            self.fence.check()

    def _json(self, name: str) -> dict[str, Any] | None:
        if not self.store.exists(name):
            return None
        values: dict[str, Any] = json.loads(self.store.read(name))
        return values
