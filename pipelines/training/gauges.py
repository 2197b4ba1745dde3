"""What a run tells Ray's metrics, for Prometheus: its step, loss and rate, its waits, its checkpoints and its status.

The driver sets these gauges from what it has anyway: the rows of metrics.jsonl, the names of new checkpoints, and each
write of status.json. Ray's agent on the driver's node exports them with `ray_` before their names, until the driver
ends. `docs/operations.md` describes them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from pipelines.cluster.gauges import LastingGauges, MakeGauge, ray_gauge
from pipelines.training.run_folder import MetricRow

__all__ = ["ENDED", "GAUGES", "RunGauges"]

ENDED = "ended"
"""State of a run whose driver has let go of it; status.json tells how it ended."""

GAUGES: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "condgen_train_step": ("Optimizer steps done.", ()),
    "condgen_train_steps_wanted": ("Optimizer steps after which training ends.", ()),
    "condgen_train_loss": ("Loss, the mean since the row of metrics before.", ()),
    "condgen_train_loss_term": ("A term of the loss, the mean since the row of metrics before.", ("term",)),
    "condgen_train_images_per_second": ("Images trained on a second, over all workers.", ()),
    "condgen_train_data_wait_ratio": ("Share of the time for which the slowest worker waited for data (0 to 1).", ()),
    "condgen_train_checkpoint_timestamp_seconds": (
        "Time at which the newest whole checkpoint was written; before there is one, the driver's start.",
        (),
    ),
    "condgen_train_status_timestamp_seconds": ("Time at which status.json last told this state.", ("state",)),
    "condgen_train_restarts": ("Attempts and starts of the command since the run's first.", ()),
    "condgen_train_workers": ("Workers that train.", ()),
    "condgen_train_workers_wanted": ("Workers that were asked for, at most.", ()),
}
"""The gauges by their names: the help text, and the labels besides ``run``."""


class RunGauges:
    """The gauges of one run, which its driver sets; safe in threads.

    They are kept from the beginning and exported while this process is connected to Ray (``exported``).

    Args:
        run: URI of the run's folder, the label ``run`` of each gauge.
        make: function that makes a gauge (default: Ray's).
        clock: function that returns the time (seconds since 1970; default: this machine's).
    """

    def __init__(self, run: str, *, make: MakeGauge = ray_gauge, clock: Callable[[], float] = time.time) -> None:
        self._gauges, self._clock = LastingGauges(GAUGES, {"run": run}, make=make), clock

    @contextmanager
    def exported(self) -> Iterator[None]:
        """Export the gauges for the time of the block, in which this process is connected to Ray; at its end say so."""
        with self._gauges.exported():
            try:
                yield
            finally:
                self.set_workers(0)
                self.note_status(ENDED)

    def begin(self, *, step: int, steps: int, workers_wanted: int, checkpoint_s: float = 0.0) -> None:
        """Say where the run stands as its driver starts.

        Args:
            step: number of optimizer steps done.
            steps: number of optimizer steps after which training ends.
            workers_wanted: largest number of workers that was asked for.
            checkpoint_s: time at which the newest whole checkpoint was written (seconds since 1970; default 0, which
                stands for none).
        """
        self._gauges.set("condgen_train_step", step)
        self._gauges.set("condgen_train_steps_wanted", steps)
        self._gauges.set("condgen_train_workers_wanted", workers_wanted)
        self._gauges.set("condgen_train_checkpoint_timestamp_seconds", checkpoint_s or self._clock())

    def begin_attempt(self, epoch: int) -> None:
        """Say that an attempt begins under this epoch of the run's lease; the first epoch is 1."""
        self._gauges.set("condgen_train_restarts", epoch - 1)

    def set_workers(self, workers: int) -> None:
        """Say how many workers train; without any, no images are trained on."""
        self._gauges.set("condgen_train_workers", workers)
        if not workers:
            self._gauges.set("condgen_train_images_per_second", 0.0)
            self._gauges.set("condgen_train_data_wait_ratio", 0.0)

    def add_row(self, row: MetricRow) -> None:
        """Take over a new row of metrics."""
        self._gauges.set("condgen_train_step", row.step)
        self._gauges.set("condgen_train_loss", row.loss)
        for term, loss in row.losses.items():
            self._gauges.set("condgen_train_loss_term", loss, term=term)
        self._gauges.set("condgen_train_images_per_second", row.images_per_s)
        self._gauges.set("condgen_train_data_wait_ratio", max(row.waited, default=0.0))

    def note_checkpoint(self) -> None:
        """Say that a checkpoint is newly complete."""
        self._gauges.set("condgen_train_checkpoint_timestamp_seconds", self._clock())

    def note_status(self, state: str) -> None:
        """Say that status.json was just written with this state."""
        self._gauges.set("condgen_train_status_timestamp_seconds", self._clock(), state=state)
