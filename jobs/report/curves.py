"""A training curve as numbers that an SVG polyline takes: scaled, smoothed, with round ticks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["Curve", "Tick", "make_curve", "round_ticks"]

WIDTH, HEIGHT = 720, 260
LEFT, RIGHT, TOP, BOTTOM = 56, 16, 14, 34
MAX_POINTS = 600


@dataclass(frozen=True, kw_only=True)
class Tick:
    """A mark on an axis: its place in pixels of the chart, and its text."""

    place: float
    text: str


@dataclass(frozen=True, kw_only=True)
class Curve:
    """A chart of the loss.

    Attributes:
        name: name of what is drawn.
        raw, smooth: the points of two polylines, in pixels of a WIDTH x HEIGHT chart.
        validation: the points of the loss in validation; empty where there is none.
        x_ticks, y_ticks: the axes.
        summary: the chart in words, for those who can't see it.
    """

    name: str
    raw: str
    smooth: str
    validation: str
    x_ticks: Sequence[Tick]
    y_ticks: Sequence[Tick]
    summary: str
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = WIDTH - RIGHT
    top: int = TOP
    bottom: int = HEIGHT - BOTTOM


def make_curve(rows: Sequence[Mapping[str, Any]], validation: Sequence[Mapping[str, Any]] = ()) -> Curve:
    """Return the curve of a run's metrics.

    Args:
        rows: each with `step` and `loss`; others are passed over, as those with a loss that is no number.
        validation: rows of validation, of the same kind (default: none).

    Raises:
        ValueError: there are no two such rows of metrics.
    """
    points, held_out = _points(rows), _points(validation)
    if len(points) < 2:
        raise ValueError("a curve needs two points")
    points = points[:: -(-len(points) // MAX_POINTS)]
    steps, losses = [step for step, _ in points], [loss for _, loss in points]
    smooth = _smoothed(losses, weight=max(0.0, 1 - 20 / len(losses)))
    all_losses = [*losses, *(loss for _, loss in held_out)]
    x_top = max([*steps, *(step for step, _ in held_out)])
    x_ticks, y_ticks = round_ticks(0.0, x_top, 6), round_ticks(min(0.0, *all_losses), max(all_losses), 5)
    y_low, y_high = y_ticks[0], max(*y_ticks, *all_losses)

    def x_place(step: float) -> float:
        return round(LEFT + (WIDTH - RIGHT - LEFT) * step / x_top, 1)

    def y_place(loss: float) -> float:
        return round(HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP) * (loss - y_low) / ((y_high - y_low) or 1), 1)

    def line(places: Sequence[tuple[float, float]]) -> str:
        return " ".join(f"{x_place(step)},{y_place(loss)}" for step, loss in places)

    summary = f"loss by step: {losses[0]:.3g} at step {steps[0]:g}, {smooth[-1]:.3g} at step {steps[-1]:g}"
    if held_out:
        summary += f"; in validation {held_out[-1][1]:.3g} at step {held_out[-1][0]:g}"
    return Curve(
        name="loss",
        raw=line(points),
        smooth=line(list(zip(steps, smooth, strict=True))),
        validation=line(held_out),
        x_ticks=[Tick(place=x_place(value), text=f"{value:g}") for value in x_ticks if value <= x_top],
        y_ticks=[Tick(place=y_place(value), text=f"{value:g}") for value in y_ticks if value <= y_high],
        summary=summary,
    )


def _points(rows: Sequence[Mapping[str, Any]]) -> list[tuple[float, float]]:
    return [
        (float(row["step"]), float(row["loss"]))
        for row in rows
        if isinstance(row.get("step"), int) and isinstance(row.get("loss"), int | float) and math.isfinite(row["loss"])
    ]


def _smoothed(values: Sequence[float], *, weight: float) -> list[float]:
    """Return the exponential average, corrected for its start."""
    average, total, out = 0.0, 0.0, []
    for value in values:
        average = weight * average + (1 - weight) * value
        total = weight * total + (1 - weight)
        out.append(average / total)
    return out


def round_ticks(low: float, high: float, most: int) -> list[float]:
    """Return about `most` round numbers (1, 2, 5 times a power of ten) from at or below `low` up to `high`."""
    span = (high - low) or abs(high) or 1.0
    power = 10.0 ** math.floor(math.log10(span / most))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor * most >= span)
    first = math.floor(low / step)
    return [round(i * step, 12) for i in range(first, math.floor(high / step + 1e-9) + 1)]
