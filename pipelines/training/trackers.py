"""Trackers show a run's rows elsewhere: TensorBoard, MLflow, Weights & Biases. What they are of is the run's own rows.

    metrics.jsonl, validation.jsonl ─ begin ─┐
    new rows ─ add ──────────────────────────┴─ thread ─ every tracker that was asked for

A tracker begins with what the folder holds, and begins again where training goes on from an earlier step, so that a run
that was cut has one curve, without gaps and without points that are there twice. A tracker that fails is left out, with
a line that says so. Training waits for none.
"""

from __future__ import annotations

import importlib.util
import logging
import queue
import textwrap
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from condgen.checks import check_choice
from condgen.errors import ConfigError
from pipelines.training.lease import Fence, FencedError
from pipelines.training.run_folder import MetricRow, RunFolder
from pipelines.training.tracker_kinds import Mlflow, Point, TensorBoard, TrackedRun, Tracker, Wandb
from pipelines.training.validation_rows import ValidationRow

__all__ = ["KINDS", "Trackers", "check_trackers"]

logger = logging.getLogger(__name__)

_REASON_CHARACTERS = 200
_CLOSE_S = 60.0
"""Longest time for which trackers are waited for at the end (seconds)."""


@dataclass(frozen=True)
class _Kind:
    module: str
    install: str
    make: Callable[[TrackedRun], Tracker]


KINDS: Mapping[str, _Kind] = {
    "tensorboard": _Kind("tensorboardX", "tensorboardX", TensorBoard),
    "mlflow": _Kind("mlflow", "mlflow-skinny", Mlflow),
    "wandb": _Kind("wandb", "wandb", Wandb),
}


def check_trackers(names: Sequence[str]) -> None:
    """Refuse trackers that are unknown or not installed.

    Raises:
        ConfigError: the first of them, and what to install.
    """
    for name in names:
        check_choice("--track", name, KINDS)
        if importlib.util.find_spec(KINDS[name].module) is None:
            raise ConfigError("--track", name, f"a tracker that is installed: pip install {KINDS[name].install}")


class Trackers:
    """The trackers of a run, in a thread of the driver; used as a context.

    Args:
        names: names of the trackers, in ``KINDS``.
        folder: folder of the run.
        fence: function that returns the right to write there as it is now.
        config: complete configuration of the run.
        say: function that shows a line to the user.

    Attributes:
        is_finished: whether the run has ended by itself, which the trackers are told at the end.
    """

    def __init__(
        self,
        names: Sequence[str],
        folder: RunFolder,
        *,
        fence: Callable[[], Fence | None],
        config: Mapping[str, Any],
        say: Callable[[str], None],
    ) -> None:
        self.is_finished = False
        self._names, self._folder, self._say = tuple(dict.fromkeys(names)), folder, say
        self._run = TrackedRun(store=folder.store, fence=fence, config=config)
        self._trackers: dict[str, Tracker] = {}
        self._points: list[Point] = []
        self._last: dict[str, int] = {}
        self._waiting: queue.SimpleQueue[Point | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._serve, name="trackers", daemon=True)

    def __enter__(self) -> Trackers:
        if self._names:
            newest = self._folder.newest_step()
            rows = [_of_training(row) for row in self._folder.read_metrics(newest)]
            self._points = rows + [_of_validation(row) for row in self._folder.read_validation(newest).values()]
            self._last = {point.run: point.step for point in sorted(self._points, key=lambda point: point.step)}
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._names:
            self._waiting.put(None)
            self._thread.join(_CLOSE_S)

    def add(self, row: MetricRow) -> None:
        """Show a row of metrics."""
        self._waiting.put(_of_training(row))

    def add_validation(self, row: ValidationRow) -> None:
        """Show a row of validation."""
        self._waiting.put(_of_validation(row))

    def _serve(self) -> None:
        for name in self._names:
            self._try(name, lambda name=name: self._trackers.update({name: KINDS[name].make(self._run)}))  # type: ignore[misc]
        self._tell_all(lambda tracker: tracker.begin(self._points))
        while (point := self._waiting.get()) is not None:
            went_back = point.step <= self._last.get(point.run, 0)
            if went_back:  # training goes on from an earlier step
                self._points = [one for one in self._points if one.run != point.run or one.step < point.step]
            self._points.append(point)
            self._last[point.run] = point.step
            if went_back:
                self._tell_all(lambda tracker: tracker.begin(self._points))
            else:
                self._tell_all(lambda tracker: tracker.add(point))
        self._tell_all(lambda tracker: tracker.close(is_finished=self.is_finished))

    def _tell_all(self, tell: Callable[[Tracker], None]) -> None:
        for name, tracker in list(self._trackers.items()):
            self._try(name, lambda tracker=tracker: tell(tracker))  # type: ignore[misc]

    def _try(self, name: str, call: Callable[[], None]) -> None:
        try:
            call()
        except FencedError:
            self._trackers.pop(name, None)
        except Exception as error:
            self._trackers.pop(name, None)
            logger.debug("%s failed", name, exc_info=True)
            reason = textwrap.shorten(str(error), _REASON_CHARACTERS, placeholder=" ...") or type(error).__name__
            self._say(f"{name} shows no more of this run ({reason}): the next start of the command shows all of it")


def _of_training(row: MetricRow) -> Point:
    values = {"loss": row.loss, **{f"losses/{name}": value for name, value in row.losses.items()}}
    values |= {"learning_rate": row.lr, "images_per_s": row.images_per_s, "epoch": row.epoch}
    values |= {"undecodable": row.undecodable, "stalled_s": row.stalled_s}
    if row.waited:
        values["waited"] = sum(row.waited) / len(row.waited)
    return Point(run="train", step=row.step, seconds=row.seconds, values=values)


def _of_validation(row: ValidationRow) -> Point:
    values = {"loss": row.loss, **{f"losses/{name}": value for name, value in row.losses.items()}, **row.metrics}
    return Point(run="validation", step=row.step, seconds=None, values=values)
