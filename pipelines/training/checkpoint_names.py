"""The folders of a run's checkpoints: their names, and which of them are complete.

``checkpoints/step-00000100-e0003`` was written at step 100 by the writer of epoch 3 (see `pipelines.training.lease`).
Versions 0.1 and 0.2 had no epochs: their ``checkpoints/step-00000100`` is of epoch 0.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from pipelines.storage.store import Store

__all__ = ["CHECKPOINTS", "COMPLETE", "CheckpointName", "checkpoint_files", "complete_checkpoints", "completed_s"]

CHECKPOINTS = "checkpoints"
COMPLETE = "complete.json"
"""The mark of a whole checkpoint, which is written last."""
_NAME = re.compile(r"step-(\d+)(?:-e(\d+))?")


@dataclass(frozen=True, order=True)
class CheckpointName:
    """The name of a checkpoint's folder; checkpoints are in order by step, then by epoch.

    Attributes:
        step: number of optimizer steps done.
        epoch: epoch of its writer; 0 where it had none.
    """

    step: int
    epoch: int = 0

    @classmethod
    def parse(cls, text: str) -> CheckpointName | None:
        """Return the name that a folder has, or None of a folder of something else."""
        match = _NAME.fullmatch(text)
        return cls(int(match[1]), int(match[2] or 0)) if match else None

    @classmethod
    def of_file(cls, name: str) -> CheckpointName | None:
        """Return the checkpoint that a file of the run is in, or None where it is in none."""
        parts = name.split("/")
        return cls.parse(parts[1]) if len(parts) > 2 and parts[0] == CHECKPOINTS else None

    def __str__(self) -> str:
        return f"step-{self.step:08d}" + (f"-e{self.epoch:04d}" if self.epoch else "")

    def file(self, name: str) -> str:
        """Return the name of a file of the checkpoint, relative to the run's folder."""
        return f"{CHECKPOINTS}/{self}/{name}"


def complete_checkpoints(names: Iterable[str]) -> list[CheckpointName]:
    """Return the checkpoints that are whole, in order, of the names of all files below ``checkpoints``."""
    marks = (CheckpointName.of_file(name) for name in names if name.endswith(f"/{COMPLETE}"))
    return sorted(mark for mark in marks if mark is not None)


def checkpoint_files(store: Store) -> list[str]:
    """Return the names of all files in the folders of a run's checkpoints."""
    return [entry.name for entry in store.list(CHECKPOINTS)]


def completed_s(store: Store, checkpoint: CheckpointName) -> float:
    """Return the time at which a checkpoint was completed (seconds since 1970); 0 where the storage does not tell."""
    mark = checkpoint.file(COMPLETE)
    return max(
        (entry.modified_s for entry in store.list(f"{CHECKPOINTS}/{checkpoint}") if entry.name == mark), default=0.0
    )
