"""The charts of a training run: loss by term, learning rate, speed, waits, and what validation measured."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from jobs.report.charts import Chart, Mark, Point, Series, make_chart
from jobs.report.run_files import RunFiles
from jobs.viewer.visible import visible

__all__ = ["make_charts"]

_VALIDATION_COLOR = 2
_WORKER_LINES = 6
_MOST_TERMS = 24
_METRICS = {
    "auc": "raw accuracy (AuC) in validation",
    "ab_error": "error in ab in validation",
    "rgb_error": "error in codes of 0 to 255 in validation",
}

_Row = Mapping[str, Any]


def make_charts(files: RunFiles, last_step: int) -> list[Chart]:
    """Return the charts that have anything to show, that of the loss first.

    Args:
        files: content of the run's folder.
        last_step: number of steps that the run has made.
    """
    marks = _marks(files)
    starts = [mark for mark in marks if mark.kind == "start"]
    chart = partial(make_chart, last_step=last_step, marks=starts)
    rows, tested = files.metrics, files.validation
    charts = [
        chart("Loss", _loss(rows, tested, _loss_of), name="loss", marks=marks, may_be_log=True, is_wide=True),
        *_terms(rows, tested, chart),
        *_measures(tested, chart),
        chart("Learning rate", [_plain("learning rate", rows, "lr")], name="lr", from_zero=True),
        chart("Images/s, all workers", [_plain("images/s", rows, "images_per_s", True)], name="speed", from_zero=True),
        chart("Wait for data, % of the time", _waits(rows), name="waited", from_zero=True),
    ]
    stalls = [(step, seconds) for step, seconds in _points(rows, lambda row: row.get("stalled_s")) if seconds > 0]
    if stalls:
        still = [Series(name="seconds", points=stalls, has_dots=True)]
        charts.append(chart("Standing still for checkpoints, s", still, name="stalled", from_zero=True))
    return [one for one in charts if one is not None]


def _marks(files: RunFiles) -> list[Mark]:
    checkpoints = [
        Mark(step=one.step, kind="checkpoint", text=f"checkpoint {one}") for one in sorted(files.checkpoints)
    ]
    starts = {
        one.from_step: Mark(step=one.from_step, kind="start", text=f"went on from step {one.from_step}")
        for one in files.attempts
        if one.epoch > 1
    }
    return [*checkpoints, *starts.values()]


def _terms(rows: Sequence[_Row], tested: Sequence[_Row], chart: Callable[..., Chart | None]) -> list[Chart | None]:
    """Return a chart for each term of the loss; none where the loss has one term alone."""
    names = _names(rows, "losses") or _names(tested, "losses")
    if len(names) < 2:
        return []
    return [
        chart(
            f"Loss: {visible(name)}",
            _loss(rows, tested, partial(_part, "losses", name)),
            name=_word("term", number, name),
            may_be_log=True,
        )
        for number, name in enumerate(names[:_MOST_TERMS])
    ]


def _measures(tested: Sequence[_Row], chart: Callable[..., Chart | None]) -> list[Chart | None]:
    charts = []
    for number, name in enumerate(_names(tested, "metrics")[:_MOST_TERMS]):
        points = _points(tested, partial(_part, "metrics", name))
        series = Series(name=visible(name), points=points, color=_VALIDATION_COLOR, has_dots=True)
        title = _METRICS.get(name, f"{visible(name)} in validation")
        charts.append(chart(title[0].upper() + title[1:], [series], name=_word("metric", number, name)))
    return charts


def _loss(rows: Sequence[_Row], tested: Sequence[_Row], value: Callable[[_Row], Any]) -> list[Series]:
    held_out = _points(tested, value)
    training = Series(name="training", points=_points(rows, value), is_smoothed=True)
    return [
        training,
        *([Series(name="validation", points=held_out, color=_VALIDATION_COLOR, has_dots=True)] if held_out else []),
    ]


def _plain(title: str, rows: Sequence[_Row], name: str, is_smoothed: bool = False) -> Series:
    return Series(name=title, points=_points(rows, lambda row: row.get(name)), is_smoothed=is_smoothed)


def _waits(rows: Sequence[_Row]) -> list[Series]:
    """Return the wait by worker, or of many workers the least, the mean and the most."""
    shares = [(row["step"], _shares(row.get("waited"))) for row in rows]
    shares = [(step, values) for step, values in shares if values]
    most = max((len(values) for _, values in shares), default=0)
    if most > _WORKER_LINES:
        kinds: list[tuple[str, Callable[[Sequence[float]], float]]] = [
            ("mean of the workers", lambda values: sum(values) / len(values)),
            ("most", max),
            ("least", min),
        ]
        return [
            Series(name=name, points=[(step, of(values)) for step, values in shares], color=color, is_smoothed=True)
            for color, (name, of) in enumerate(kinds)
        ]
    return [
        Series(
            name=f"worker {rank}" if most > 1 else "the worker",
            points=[(step, values[rank]) for step, values in shares if rank < len(values)],
            color=rank,
            is_smoothed=True,
        )
        for rank in range(most)
    ]


def _shares(waited: Any) -> list[float]:
    if not isinstance(waited, list):  # version 0.1 did not measure it
        return []
    numbers = [_number(value) for value in waited]
    return [100 * value for value in numbers if value is not None]


def _points(rows: Iterable[_Row], value: Callable[[_Row], Any]) -> list[Point]:
    pairs = ((row["step"], _number(value(row))) for row in rows)
    return [(float(step), number) for step, number in pairs if number is not None]


def _number(value: Any) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if is_number else None


def _loss_of(row: _Row) -> Any:
    return row.get("loss")


def _part(group: str, name: str, row: _Row) -> Any:
    values = row.get(group)
    return values.get(name) if isinstance(values, dict) else None


def _names(rows: Iterable[_Row], group: str) -> list[str]:
    names: dict[str, None] = {}
    for row in rows:
        values = row.get(group)
        names |= dict.fromkeys(values if isinstance(values, dict) else {})
    return sorted(names)


def _word(kind: str, number: int, name: str) -> str:
    return f"{kind}-{number}-{re.sub('[^a-z0-9]+', '-', name.lower())[:40].strip('-')}"
