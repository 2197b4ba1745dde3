"""The actor by which the driver and the workers of an attempt talk. Free of torch.

    workers  ─ where they are, rows, checkpoints, errors, how training ended ─>  Monitor  ─ news ─>  driver
    workers  <─ wishes: a checkpoint, a checkpoint and the end ─               Monitor  <─────────  driver

It is pinned to the driver's node, so that no other machine's end takes it away. Where it is lost all the same, worker 0
notices, and the attempt ends with a checkpoint.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from condgen.errors import CondgenError
from pipelines.training.checkpoint_names import CheckpointName
from pipelines.training.run_folder import MetricRow

__all__ = ["Monitor", "News", "Wishes", "WorkerPlace"]


@dataclass(frozen=True, kw_only=True)
class Wishes:
    """What the driver wants of the workers.

    Attributes:
        stop: whether they are to save a checkpoint and end.
        saves: number of checkpoints that were asked for since the monitor began; each more is one more.
        leaving: ranks on machines that are about to leave: the lowest other rank writes the last checkpoint.
    """

    stop: bool = False
    saves: int = 0
    leaving: frozenset[int] = frozenset()


@dataclass(frozen=True, kw_only=True)
class WorkerPlace:
    """Where a worker is.

    Attributes:
        rank: its rank.
        node: id of its node.
        actor: handle of its actor, by which it can be ended.
    """

    rank: int
    node: str
    actor: Any = None


@dataclass(frozen=True, kw_only=True)
class News:
    """What the workers have told since the driver last asked.

    Attributes:
        rows: new rows of metrics.
        checkpoints: names of checkpoints that are newly complete.
        places: all workers that have begun.
        failure: first error that another attempt would meet again, or None.
        reason: reason for the end of training as the workers have it (``steps``, ``max_seconds``, ``stopped``); empty
            before.
    """

    rows: list[MetricRow]
    checkpoints: list[CheckpointName]
    places: list[WorkerPlace]
    failure: CondgenError | None
    reason: str


class Monitor:
    """The driver's actor of one attempt: the workers tell it what they do, and learn from it what is wanted."""

    def __init__(self) -> None:
        self._rows: list[MetricRow] = []
        self._checkpoints: list[CheckpointName] = []
        self._places: dict[int, WorkerPlace] = {}
        self._failure: CondgenError | None = None
        self._reason = ""
        self._wishes = Wishes()

    def begin(self, place: WorkerPlace) -> None:
        """Note where a worker is."""
        self._places[place.rank] = place

    def add_row(self, row: MetricRow) -> None:
        """Add a row; worker 0 calls this."""
        self._rows.append(row)

    def add_checkpoint(self, name: CheckpointName) -> None:
        """Note that a checkpoint is complete; the worker that wrote it calls this."""
        self._checkpoints.append(name)

    def fail(self, error: CondgenError) -> None:
        """Note an error that another attempt would meet again."""
        self._failure = self._failure or error

    def end(self, reason: str) -> None:
        """Note the reason for the end of training; worker 0 calls this when all is written."""
        self._reason = reason

    def news(self) -> News:
        """Return what has been told; rows and checkpoints once."""
        rows, self._rows = self._rows, []
        checkpoints, self._checkpoints = self._checkpoints, []
        return News(
            rows=rows,
            checkpoints=checkpoints,
            places=list(self._places.values()),
            failure=self._failure,
            reason=self._reason,
        )

    def want_stop(self, leaving: frozenset[int]) -> None:
        """Ask the workers to save a checkpoint and end."""
        self._wishes = replace(self._wishes, stop=True, leaving=self._wishes.leaving | leaving)

    def want_save(self) -> None:
        """Ask the workers to save a checkpoint and go on."""
        self._wishes = replace(self._wishes, saves=self._wishes.saves + 1)

    def wishes(self) -> Wishes:
        """Return what is wanted of the workers."""
        return self._wishes
