"""The driver's validator has checkpoints validated by tasks of Ray, one at a time, while training goes on.

    worker ─ a checkpoint is complete ─ Monitor ─ driver ─ offer ─> validator's thread ─ task of Ray ─> validation.jsonl
                                                             the newest that waits wins               sheets/step-….png

What fails here is told and never ends training. Training waits for nothing here: the task reads the checkpoint and the
images from storage, counts for no CPU of Ray's, and gives way to everything else on its machine.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from condgen.errors import CondgenError, MissingError
from pipelines.cluster.errors import unwrap, unwrapped
from pipelines.training.checkpoint_names import CheckpointName
from pipelines.training.job import TrainJob
from pipelines.training.lease import Fence, FencedError
from pipelines.training.run_folder import RunFolder
from pipelines.training.validation_rows import ValidationRow, is_due

if TYPE_CHECKING:
    from pipelines.training.validation import Validated

__all__ = ["Validator"]

logger = logging.getLogger(__name__)

_NICENESS = 10
_THREADS = 2
"""Number of torch's threads: always the same, because the last bits of a sum depend on it."""
_CLOSE_S = 5.0


@dataclass(frozen=True)
class _Wish:
    name: CheckpointName
    measures: bool
    sheet: bool


class Validator:
    """Validates checkpoints in a thread of the driver; used as a context, whose end cancels what is under way.

    Args:
        job: job of the run, with the plan of the fixed sample.
        fence: function that returns the right to write into the run's folder as it is now.
        say: function that shows a line to the user.
        on_row: function that is called with each new row, in the validator's thread (default: none).
        run: function that validates a checkpoint (default: a task of Ray).
    """

    def __init__(
        self,
        job: TrainJob,
        *,
        fence: Callable[[], Fence | None],
        say: Callable[[str], None],
        on_row: Callable[[ValidationRow], None] | None = None,
        run: Callable[[TrainJob, CheckpointName, bool, bool], Validated] | None = None,
    ) -> None:
        self._job, self._fence, self._say, self._on_row = job, fence, say, on_row
        self._tasks = _RayTasks(job.options.validation_gpus)
        self._run = run or self._tasks.run
        self._changed = threading.Condition()
        self._next: _Wish | None = None
        self._is_busy = self._is_closed = False
        self._rows: dict[int, ValidationRow] = {}
        self._sheets: set[int] = set()
        self._thread = threading.Thread(target=self._serve, name="validation", daemon=True)

    def __enter__(self) -> Validator:
        if not self._job.held_out:
            return self
        folder = RunFolder(self._job.out, self._fence())
        newest = folder.newest()
        # What is of a checkpoint that is gone is made again.
        last = newest.step if newest else 0
        self._rows, self._sheets = folder.read_validation(last), {step for step in folder.sheets() if step <= last}
        self._thread.start()
        if newest is not None:
            self.offer(newest)
        return self

    def __exit__(self, *_: object) -> None:
        if not self._thread.is_alive():
            return
        with self._changed:
            self._is_closed, self._next = True, None
            self._changed.notify_all()
        self._tasks.cancel()
        self._thread.join(_CLOSE_S)

    def offer(self, name: CheckpointName, *, is_last: bool = False) -> None:
        """Have a checkpoint validated if it is due and was not; it takes the place of another one that waits.

        Args:
            name: name of a checkpoint that is complete.
            is_last: whether it is that of the finished model, which is always due.
        """
        train, step = self._job.preset.train, name.step
        every, sheet_every = train.validate_every_steps, train.sheet_every_steps
        with self._changed:
            wish = _Wish(
                name,
                measures=is_due(step, every) or (is_last and every > 0),
                sheet=is_due(step, sheet_every) or (is_last and sheet_every > 0),
            )
            wish = self._left_of(wish)
            if (wish.measures or wish.sheet) and not self._is_closed:
                self._next = wish
                self._changed.notify_all()

    def wait(self, seconds: float) -> bool:
        """Wait for some time until nothing is left to validate; returns whether it is so."""
        with self._changed:
            return self._changed.wait_for(lambda: self._next is None and not self._is_busy, seconds)

    def _left_of(self, wish: _Wish) -> _Wish:
        """Return what is not done yet of a wish."""
        step = wish.name.step
        return replace(
            wish, measures=wish.measures and step not in self._rows, sheet=wish.sheet and step not in self._sheets
        )

    def _serve(self) -> None:
        while (wish := self._take()) is not None:
            wish = self._left_of(wish)  # the one before may have been of the same step
            if not (wish.measures or wish.sheet):
                continue
            try:
                validated = self._run(self._job, wish.name, wish.measures, wish.sheet)
                if not self._is_closed:
                    self._keep(wish.name.step, validated)
            except Exception as error:  # noqa: BLE001 - training goes on whatever happens here
                self._tell(wish, unwrap(error) or error)

    def _take(self) -> _Wish | None:
        with self._changed:
            self._is_busy = False
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._next is not None or self._is_closed)
            wish, self._next, self._is_busy = self._next, None, True
            return None if self._is_closed else wish

    def _keep(self, step: int, validated: Validated) -> None:
        folder = RunFolder(self._job.out, self._fence())
        if validated.sheet is not None:
            folder.write_sheet(step, validated.sheet)
            self._sheets.add(step)
        if validated.row is not None:
            rows = {**self._rows, step: validated.row}
            folder.write_validation(rows)
            self._rows = rows
            if self._on_row is not None:
                self._on_row(validated.row)

    def _tell(self, wish: _Wish, error: BaseException) -> None:
        if self._is_closed or isinstance(error, FencedError):
            return
        if isinstance(error, MissingError) and self._is_gone(wish.name):
            logger.info("the checkpoint of step %d was removed before it was validated", wish.name.step)
            return
        reason = (str(error).strip().splitlines() or [type(error).__name__])[-1]
        self._say(f"step {wish.name.step} was not validated ({reason}): training goes on without")

    def _is_gone(self, name: CheckpointName) -> bool:
        with suppress(CondgenError):
            return not RunFolder(self._job.out).holds(name)
        return False


class _RayTasks:
    """Validates by tasks of Ray: near the driver on a CPU, or wherever the GPUs are that it is given."""

    def __init__(self, gpus: float) -> None:
        self._gpus = gpus
        self._running: Any = None

    def run(self, job: TrainJob, name: CheckpointName, measures: bool, sheet: bool) -> Validated:
        """Validate a checkpoint; blocks until it has ended."""
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        # A process of its own: it is slow on purpose, and large.
        options: dict[str, Any] = {"num_cpus": 0, "max_calls": 1, "max_retries": 0}
        if self._gpus:
            options["num_gpus"] = self._gpus
        else:
            here = ray.get_runtime_context().get_node_id()
            options["scheduling_strategy"] = NodeAffinitySchedulingStrategy(here, soft=True)
        task: Any = ray.remote(**options)(_validate_in_task)
        self._running = task.remote(job, name, measures, sheet)
        try:
            with unwrapped():
                validated: Validated = ray.get(self._running)
            return validated
        finally:
            self._running = None

    def cancel(self) -> None:
        """End the task that runs, if one does."""
        import ray

        running = self._running
        if running is not None:
            with suppress(Exception):  # it has just ended, or the cluster is gone
                ray.cancel(running, force=True)


def _validate_in_task(job: TrainJob, name: CheckpointName, measures: bool, sheet: bool) -> Validated:
    import torch

    from pipelines.training.validation import validate

    os.nice(_NICENESS)
    torch.set_num_threads(_THREADS)
    device = torch.device("cuda" if job.options.validation_gpus and torch.cuda.is_available() else "cpu")
    return validate(job, name, measures=measures, sheet=sheet, device=device)
