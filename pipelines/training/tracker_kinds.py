"""The kinds of trackers. Each imports its package when it begins; none of them is needed to train."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from pipelines.storage.local import LocalBackend
from pipelines.storage.store import Store, json_bytes
from pipelines.training.lease import Fence
from pipelines.training.run_config import flat

__all__ = ["Mlflow", "Point", "TensorBoard", "TrackedRun", "Tracker", "Wandb"]

_NOTES = "trackers.json"
_EVENTS = "tensorboard"
_UPLOAD_S = 30.0


@dataclass(frozen=True, kw_only=True)
class Point:
    """What a row says, as numbers by name.

    Attributes:
        run: which of the run's two kinds of rows it is.
        step: number of optimizer steps.
        seconds: training time until then (s), or None where it is not known.
        values: numbers by name.
    """

    run: Literal["train", "validation"]
    step: int
    seconds: float | None
    values: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class TrackedRun:
    """A run, as trackers see it.

    Attributes:
        store: folder of the run.
        fence: function that returns the right to write there as it is now.
        config: complete configuration.
    """

    store: Store
    fence: Callable[[], Fence | None]
    config: Mapping[str, Any]

    @property
    def name(self) -> str:
        """Last part of the folder's name."""
        return self.store.uri.rstrip("/").rpartition("/")[2]

    def check(self) -> None:
        """Raise FencedError where another writer has taken the run over."""
        fence = self.fence()
        if fence is not None:
            fence.check()

    def note(self, tracker: str) -> str | None:
        """Return the id under which a tracker knows the run; None where it does not yet."""
        return self._notes().get(tracker)

    def write_note(self, tracker: str, run_id: str) -> None:
        """Keep the id under which a tracker knows the run."""
        self.check()
        self.store.write(_NOTES, json_bytes(self._notes() | {tracker: run_id}))

    def _notes(self) -> dict[str, str]:
        notes: dict[str, str] = json.loads(self.store.read(_NOTES)) if self.store.is_file(_NOTES) else {}
        return notes


class Tracker(Protocol):
    """What every kind does."""

    def begin(self, points: Sequence[Point]) -> None:
        """Show a run that has these points until now; it may be called again, after the run went back."""

    def add(self, point: Point) -> None:
        """Show one more point."""

    def close(self, *, is_finished: bool) -> None:
        """Write out what is left."""


class TensorBoard:
    """Event files below ``tensorboard/`` in the run's folder, one of training and one of validation.

    In a local folder they grow as rows come. Storage can't append: there the files are made in a temporary folder and
    stored whole, every half a minute and at the end.
    """

    def __init__(self, run: TrackedRun) -> None:
        self._run = run
        backend = run.store.backend
        self._scratch = None if isinstance(backend, LocalBackend) else tempfile.mkdtemp(prefix="condgen-events-")
        self._root = Path(backend.root if isinstance(backend, LocalBackend) else str(self._scratch)) / _EVENTS
        self._writers: dict[str, Any] = {}
        self._stored_at = -float("inf")

    def begin(self, points: Sequence[Point]) -> None:
        self._close_writers()
        self._run.check()
        for entry in self._run.store.list(_EVENTS):
            if ".tfevents." in entry.name:
                self._run.store.delete(entry.name)
        if self._scratch and self._root.exists():
            shutil.rmtree(self._root)
        now, trained_s = time.time(), max((point.seconds or 0.0 for point in points), default=0.0)
        for point in points:
            self._write(point, now if point.seconds is None else now - trained_s + point.seconds)
        self._flush(now=True)

    def add(self, point: Point) -> None:
        self._run.check()
        self._write(point, time.time())
        self._flush()

    def close(self, *, is_finished: bool) -> None:  # noqa: ARG002 - event files don't say so
        self._flush(now=True)
        self._close_writers()
        if self._scratch:
            shutil.rmtree(self._scratch, ignore_errors=True)

    def _write(self, point: Point, wall_time: float) -> None:
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto.event_pb2 import Event
        from tensorboardX.proto.summary_pb2 import Summary

        if point.run not in self._writers:
            folder = self._root / point.run
            folder.mkdir(parents=True, exist_ok=True)
            self._writers[point.run] = EventsWriter(str(folder / "events"))
        values = [Summary.Value(tag=name, simple_value=value) for name, value in point.values.items()]
        event = Event(wall_time=wall_time, step=point.step, summary=Summary(value=values))
        self._writers[point.run].write_event(event)

    def _flush(self, *, now: bool = False) -> None:
        for writer in self._writers.values():
            writer.flush()
        if self._scratch and (now or time.monotonic() >= self._stored_at + _UPLOAD_S):
            self._run.check()
            for path in sorted(self._root.rglob("*.tfevents.*")):
                self._run.store.write(f"{_EVENTS}/{path.relative_to(self._root).as_posix()}", path.read_bytes())
            self._stored_at = time.monotonic()

    def _close_writers(self) -> None:
        for writer in self._writers.values():
            writer.close()
        self._writers.clear()


class Mlflow:
    """A run of MLflow, at its own ``MLFLOW_TRACKING_URI`` and in the experiment ``MLFLOW_EXPERIMENT_NAME``.

    MLflow forgets nothing: of a run that goes on, points up to the last step that it has are left out.
    """

    def __init__(self, run: TrackedRun) -> None:
        from mlflow import MlflowClient

        self._client = MlflowClient()
        known = run.note("mlflow")
        self._id = known or self._create(run)
        if known is None:
            run.write_note("mlflow", self._id)
        self._client.update_run(self._id, status="RUNNING")
        self._last = {one: self._last_step(_named(one, "loss")) for one in ("train", "validation")}

    def _create(self, run: TrackedRun) -> str:
        from mlflow.entities import Param

        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", "condgen")
        experiment = self._client.get_experiment_by_name(name)
        experiment_id = experiment.experiment_id if experiment else self._client.create_experiment(name)
        tags = {"condgen.run": run.store.uri}
        created = self._client.create_run(experiment_id, run_name=run.name, tags=tags)
        run_id: str = created.info.run_id
        parameters = [Param(name, str(value)) for name, value in flat(run.config)]
        self._client.log_batch(run_id, params=parameters[:100])
        return run_id

    def _last_step(self, name: str) -> int:
        return max((one.step for one in self._client.get_metric_history(self._id, name)), default=0)

    def begin(self, points: Sequence[Point]) -> None:
        for point in points:
            self.add(point)

    def add(self, point: Point) -> None:
        from mlflow.entities import Metric

        if point.step <= self._last[point.run]:
            return
        now_ms = int(time.time() * 1000)
        values = [Metric(_named(point.run, name), value, now_ms, point.step) for name, value in point.values.items()]
        self._client.log_batch(self._id, metrics=values)
        self._last[point.run] = point.step

    def close(self, *, is_finished: bool) -> None:
        self._client.set_terminated(self._id, status="FINISHED" if is_finished else "KILLED")


class Wandb:
    """A run of Weights & Biases, in the project ``WANDB_PROJECT``; offline with ``WANDB_MODE=offline``.

    Of a run that goes on, points up to the last step that the server has are left out. Offline there is no server to
    ask: every start writes the whole run, and the last one is the one to sync.
    """

    def __init__(self, run: TrackedRun) -> None:
        import wandb

        known = run.note("wandb")
        run_id = known or secrets.token_hex(8)
        if known is None:
            run.write_note("wandb", run_id)
        project = os.environ.get("WANDB_PROJECT", "condgen")
        self._run = wandb.init(project=project, id=run_id, resume="allow", name=run.name, config=dict(run.config))
        self._last: dict[str, int] = {}
        for one in ("train", "validation"):
            axis = _named(one, "step")
            self._run.define_metric(_named(one, "*"), step_metric=axis)
            self._last[one] = int(self._run.summary.get(axis) or 0)

    def begin(self, points: Sequence[Point]) -> None:
        for point in sorted(points, key=lambda point: point.step):
            self.add(point)

    def add(self, point: Point) -> None:
        if point.step <= self._last[point.run]:
            return
        self._last[point.run] = point.step
        values = {**point.values, "step": point.step}
        self._run.log({_named(point.run, name): value for name, value in values.items()})

    def close(self, *, is_finished: bool) -> None:
        self._run.finish(exit_code=0 if is_finished else 1)


def _named(run: str, name: str) -> str:
    """Return the name of a number where training and validation are in one place."""
    return f"{run}/{name}"
