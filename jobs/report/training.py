"""`condgen report` of a training run: one HTML file that shows how it goes or went, and needs no network.

    metrics.jsonl, validation.jsonl ── charts by step ──────────────┐
    checkpoints/, lease/ ── what is kept, and interruptions ────────┤
    sheets/*.png ── smaller ones, with a slider over them ──────────┼── training.html.j2
    status.json, run.json, config.json ── tables ───────────────────┘

What it takes does not grow with the run: rows are thinned, and of many sheets some are shown.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from jobs.cli.progress import Progress
from jobs.report.charts import Chart, say_count
from jobs.report.output import open_output
from jobs.report.run_charts import make_charts
from jobs.report.run_files import RunFiles, read_run
from jobs.report.run_sheets import MAX_SHEETS, Sheet, read_sheets
from jobs.viewer.page import render_page
from jobs.viewer.visible import visible
from pipelines.storage.store import open_store
from pipelines.training.run_config import flat

__all__ = ["RunPage", "TrainingData", "collect", "render", "run"]

_SILENT_S = 120.0
"""A driver rewrites status.json every few seconds: after this time it may be gone."""
_LIVE = ("waiting", "running", "validating")


@dataclass(frozen=True, kw_only=True)
class RunPage:
    """A page that was written."""

    path: str
    step: int
    num_sheets: int
    size_bytes: int

    def lines(self) -> list[str]:
        """Return the summary, a line."""
        shown = f"training to step {self.step}, {self.num_sheets} sheets of samples"
        return [f"report        {self.path} ({shown}, {max(self.size_bytes, 10_000) / 1e6:.2f} MB)"]


@dataclass(frozen=True, kw_only=True)
class TrainingData:
    """All that the page shows; texts are as they are shown.

    Attributes:
        run: place of the run.
        title: what is trained: the preset's name, or the family's.
        step: number of steps that the run has made.
        state: how the run stands, in a word.
        alerts: sentences that stand at the top, because something is wrong.
        tiles: numbers and what they are.
        charts: charts by step, that of the loss first.
        notes: sentences on what could not be read.
        sheets: sheets of samples in the order of their steps.
        num_sheets: number of sheets that the run has.
        status, attempts, checkpoints, environment: rows of tables.
        num_attempts: number of all attempts.
        config: groups of the configuration: a name and its rows.
    """

    run: str
    title: str
    step: int
    state: str
    alerts: Sequence[str]
    tiles: Sequence[tuple[str, str]]
    charts: Sequence[Chart]
    notes: Sequence[str]
    sheets: Sequence[Sheet]
    num_sheets: int
    status: Sequence[tuple[str, str]]
    attempts: Sequence[Sequence[str]]
    num_attempts: int
    checkpoints: Sequence[Sequence[str]]
    environment: Sequence[tuple[str, str]]
    config: Sequence[tuple[str, Sequence[tuple[str, str]]]] = field(default=())


def run(uri: str, out: str | None = None) -> RunPage:
    """Write the page of a training run, which may be going on.

    Args:
        uri: folder or prefix of the run.
        out: the file, a local path or a URI; `report.html` in the run by default.

    Raises:
        MissingError: nothing is there.
        StorageError: the run or the page can't be read or written.
    """
    data = collect(uri)
    page = render(data).encode()
    store, name = open_output(open_store(uri), "report.html", out)
    store.write(name, page)
    return RunPage(path=out or store.locate(name), step=data.step, num_sheets=len(data.sheets), size_bytes=len(page))


def collect(uri: str, *, now: datetime | None = None) -> TrainingData:
    """Read what the page shows.

    Args:
        uri: folder or prefix of the run.
        now: the time by which a driver may be found silent (default: the time by the clock).
    """
    store = open_store(uri)
    store.require()
    files = read_run(store)
    notes = list(files.notes)
    with Progress("report", total=min(MAX_SHEETS, len(files.sheets)), unit="sheets") as progress:
        sheets = read_sheets(store, files.sheets, notes, progress.advance)
    steps = _steps(files)
    return TrainingData(
        run=visible(uri),
        title=visible(files.config.get("preset") or files.config.get("family") or "a model"),
        step=steps,
        state=_state(files),
        alerts=_alerts(files, now or datetime.now(UTC)),
        tiles=_tiles(files),
        charts=make_charts(files, steps),
        notes=notes,
        sheets=sheets,
        num_sheets=len(files.sheets),
        status=[(name, visible(value)) for name, value in _status(files)],
        attempts=[_attempt_cells(one) for one in files.attempts],
        num_attempts=files.num_attempts,
        checkpoints=_checkpoint_cells(files),
        environment=_environment(files),
        config=_config(files.config),
    )


def render(data: TrainingData) -> str:
    """Return the page as HTML: one file, everything in it."""
    return render_page("training.html.j2", styles=("page.css", "training.css"), script="steps.js", report=data)


def _steps(files: RunFiles) -> int:
    """Return the number of steps that the run has made, as far as its files tell."""
    rows = [*files.metrics[-1:], *files.validation[-1:]]
    known = [files.status.get("step"), files.summary.get("step"), *(row["step"] for row in rows)]
    return max((int(step) for step in known if isinstance(step, int)), default=0)


def _state(files: RunFiles) -> str:
    if files.status.get("state"):
        return visible(files.status["state"])
    return "done" if files.summary else "not finished"  # versions 0.1 and 0.2 had no status.json


def _alerts(files: RunFiles, now: datetime) -> list[str]:
    alerts = []
    if files.status.get("state") == "failed":
        reason = files.status.get("reason") or "its driver did not say why"
        alerts.append(f"Training failed: {visible(reason)}.")
    broken = [row["step"] for row in files.metrics if not _is_number(row.get("loss", 0.0))]
    if broken:
        alerts.append(f"The loss is no number from step {broken[0]} on: charts leave such values out.")
    silent_s = _silent_s(files.status, now)
    if files.status.get("state") in _LIVE and silent_s > _SILENT_S:
        alerts.append(
            f"The run says that it is {visible(files.status['state'])}, but has given no sign of life for "
            f"{_say_time(silent_s)}: its driver may be gone. Start the same command again to go on."
        )
    return alerts


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _silent_s(status: Mapping[str, Any], now: datetime) -> float:
    try:
        return (now - datetime.fromisoformat(str(status["updated"]))).total_seconds()
    except (KeyError, ValueError, TypeError):
        return 0.0


def _tiles(files: RunFiles) -> list[tuple[str, str]]:
    tiles = [(_state(files), "state")]
    steps, wanted = _steps(files), files.config.get("train", {}).get("steps")
    tiles.append((_say_count(steps), f"of {_say_count(wanted)} steps" if isinstance(wanted, int) else "steps"))
    if files.metrics:
        last = files.metrics[-1]
        if _is_number(last.get("loss")):
            tiles.append((f"{last['loss']:.4g}", "loss in the last row"))
        tested = [row for row in files.validation if _is_number(row.get("loss"))]
        if tested:
            best = min(tested, key=lambda row: float(row["loss"]))
            tiles.append((f"{best['loss']:.4g}", f"least loss in validation, at step {_say_count(best['step'])}"))
        if _is_number(last.get("images")):
            tiles.append((say_count(last["images"]), "images trained on"))
        if _is_number(last.get("seconds")):
            tiles.append((_say_time(last["seconds"]), "of training"))
            if _is_number(last.get("images")) and last["seconds"] > 0:
                tiles.append((f"{last['images'] / last['seconds']:.1f}", "images/s, over all"))
    return tiles


def _status(files: RunFiles) -> list[tuple[str, Any]]:
    status, summary = files.status, files.summary
    rows: list[tuple[str, Any]] = [("state", _state(files))]
    if status.get("reason"):
        rows.append(("reason", status["reason"]))
    elif summary.get("reason"):
        ends = {"steps": "all steps are done", "max_seconds": "train.max_seconds are over"}
        rows.append(("reason", ends.get(summary["reason"], summary["reason"])))
    rows += [(title, status[name]) for title, name in _STATUS_FIELDS if status.get(name) not in (None, "")]
    if "workers" in status:
        rows.append(("workers", f"{status['workers']} of {status.get('workers_wanted', status['workers'])}"))
    lease = status.get("lease")
    if isinstance(lease, dict):
        holder = f"process {lease.get('pid')} on {lease.get('host')} since {_say_date(lease.get('since', ''))}"
        rows.append(("lease", f"{holder} (epoch {lease.get('epoch')} of the lease)"))
    if status.get("updated"):
        rows.append(("updated", _say_date(status["updated"])))
    left_out = files.metrics[-1].get("undecodable") if files.metrics else 0
    if left_out:
        rows.append(("left out", f"{left_out} samples that can't be decoded"))
    return rows


_STATUS_FIELDS = (
    ("step", "step"),
    ("steps in all", "steps"),
    ("epoch of the data", "epoch"),
    ("images/s", "images_per_s"),
    ("newest checkpoint", "checkpoint"),
)


def _attempt_cells(attempt: Any) -> list[str]:
    process = attempt.holder.process
    values = (attempt.epoch, attempt.from_step, _say_date(attempt.holder.since), process.host, process.pid)
    return [visible(value) for value in values]


def _checkpoint_cells(files: RunFiles) -> list[list[str]]:
    losses = {row["step"]: row["loss"] for row in files.validation if _is_number(row.get("loss"))}
    return [
        [str(one), f"{losses[one.step]:.4g}" if one.step in losses else "", f"{size / 1e6:.1f}"]
        for one, size in sorted(files.checkpoints.items())
    ]


def _environment(files: RunFiles) -> list[tuple[str, str]]:
    versions = files.config.get("versions")
    rows = dict(versions) if isinstance(versions, dict) else {}
    revision = rows.pop("revision", None)
    hosts = list(dict.fromkeys(one.holder.process.host for one in files.attempts))
    named = [("git revision", revision)] if revision else []
    named += [("machines of the driver", ", ".join(hosts))] if hosts else []
    return [(visible(name), visible(value)) for name, value in [*sorted(rows.items()), *named]]


def _config(config: Mapping[str, Any]) -> list[tuple[str, list[tuple[str, str]]]]:
    """Return the groups of a configuration: its objects, and before them the fields that are in none."""
    plain = {name: value for name, value in config.items() if not isinstance(value, Mapping)}
    groups: list[tuple[str, Mapping[str, Any]]] = [("run", plain)] if plain else []
    groups += [(name, value) for name, value in config.items() if isinstance(value, Mapping) and name != "versions"]
    return [
        (visible(name), [(visible(field), visible(_say_value(value))) for field, value in flat(values)])
        for name, values in groups
    ]


def _say_value(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return {None: "none", True: "yes", False: "no", "": "none"}.get(value, str(value)) if _is_key(value) else str(value)


def _is_key(value: Any) -> bool:
    return value is None or isinstance(value, bool | str)


def _say_count(number: Any) -> str:
    return f"{int(number):,}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def _say_time(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 172800 else f"{seconds / 86400:.1f} days"


def _say_date(text: str) -> str:
    return str(text).replace("T", " ").replace("+00:00", " UTC")
