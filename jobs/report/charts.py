"""Charts of numbers by step as the coordinates that an SVG takes: thinned, smoothed, linear or logarithmic.

A chart of a million rows is as large as one of a thousand: of each stretch of steps, the raw line keeps the least and
the greatest value, so that no peak is lost.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate

from jobs.report.curves import Tick, round_ticks

__all__ = ["Chart", "Drawing", "Mark", "Point", "Series", "make_chart", "say_count", "say_number", "smoothed", "thin"]

Point = tuple[float, float]
"""A step and a value."""

NARROW = (400, 230)
WIDE = (1132, 270)
LEFT, RIGHT, TOP, BOTTOM = 54, 18, 16, 30
_PX_A_STRETCH = 2
_LOG_RATIO = 30.0
"""Positive values are drawn on a logarithmic scale if the greatest is this many times the least, or more."""
_MOST_DECADES = 8
_TABLE_ROWS = 12


@dataclass(frozen=True, kw_only=True)
class Series:
    """What one color of a chart shows.

    Attributes:
        name: name in the legend and in the table.
        points: points in the order of their steps.
        color: number of the color, 0 to 5.
        is_smoothed: whether the points are drawn faintly, and their moving mean over them (default: they are not).
        has_dots: whether each point has a dot, for few of them (default: it has none).
    """

    name: str
    points: Sequence[Point]
    color: int = 0
    is_smoothed: bool = False
    has_dots: bool = False


@dataclass(frozen=True, kw_only=True)
class Mark:
    """Something that happened at a step: `kind` is ``checkpoint`` or ``start``."""

    step: float
    kind: str
    text: str


@dataclass(frozen=True, kw_only=True)
class Line:
    """A polyline's points in pixels, and the names of its classes."""

    points: str
    classes: str


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """A chart at one size, in pixels."""

    width: int
    height: int
    left: int
    right: int
    top: int
    bottom: int
    lines: Sequence[Line]
    dots: Sequence[tuple[float, float, int]]
    x_ticks: Sequence[Tick]
    y_ticks: Sequence[Tick]
    marks: Sequence[tuple[float, Mark]]


@dataclass(frozen=True, kw_only=True)
class Chart:
    """A chart, drawn and in words.

    Attributes:
        title: what is shown, with its unit.
        name: the chart's own word, for identifiers: letters, digits and hyphens.
        summary: the chart in words.
        drawings: the chart at its sizes, the narrow one first.
        legend: names and colors where there are several series, or a smoothed one.
        header, rows: the chart as a table of some steps.
        last_step: the step at the right edge.
        is_log: whether the values' axis is logarithmic.
    """

    title: str
    name: str
    summary: str
    drawings: Sequence[Drawing]
    legend: Sequence[tuple[str, int]]
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    last_step: float
    is_log: bool = False
    is_wide: bool = field(default=False)


def make_chart(
    title: str,
    series: Sequence[Series],
    *,
    name: str,
    last_step: float,
    marks: Sequence[Mark] = (),
    may_be_log: bool = False,
    from_zero: bool = False,
    is_wide: bool = False,
) -> Chart | None:
    """Return a chart, or None where no series has a point.

    Args:
        title: what is shown, with its unit.
        series: what is drawn; points whose value is no finite number are left out.
        name: word for identifiers.
        last_step: step at the right edge, at least.
        marks: what happened at which steps.
        may_be_log: whether positive values that differ much are drawn on a logarithmic scale.
        from_zero: whether the axis of the values begins at 0.
        is_wide: whether there is a drawing over the whole page's width as well.
    """
    drawn = [(one, [point for point in one.points if math.isfinite(point[1])]) for one in series]
    drawn = [(one, points) for one, points in drawn if points]
    if not drawn:
        return None
    averages = [smoothed(points) if one.is_smoothed else points for one, points in drawn]
    last_step = max(last_step, *(points[-1][0] for _, points in drawn), 1)
    values = [value for _, points in drawn for _, value in points]
    axis = _Axis.of(values, may_be_log=may_be_log, from_zero=from_zero)
    sizes = [NARROW, WIDE] if is_wide else [NARROW]
    header, rows = _table([one.name for one, _ in drawn], averages)
    return Chart(
        title=title,
        name=name,
        summary="; ".join(_in_words(one.name, points) for (one, _), points in zip(drawn, averages, strict=True)),
        drawings=[_draw(size, drawn, averages, axis, last_step, marks) for size in sizes],
        legend=[(one.name, one.color) for one, _ in drawn] if len(drawn) > 1 else [],
        header=header,
        rows=rows,
        last_step=last_step,
        is_log=axis.is_log,
        is_wide=is_wide,
    )


@dataclass(frozen=True, kw_only=True)
class _Axis:
    """The axis of the values: from `low` to `high`, with round ticks."""

    low: float
    high: float
    ticks: Sequence[float]
    is_log: bool

    @classmethod
    def of(cls, values: Sequence[float], *, may_be_log: bool, from_zero: bool) -> _Axis:
        least, most = float(min(values)), max(values)
        if may_be_log and least > 0 and most / least >= _LOG_RATIO:
            least = max(least, most / 10**_MOST_DECADES)
            first, last = math.floor(math.log10(least)), math.ceil(math.log10(most) - 1e-9)
            powers = range(first, last + 1, -(-(last - first) // 5))
            return cls(low=first, high=last, ticks=[10.0**power for power in powers], is_log=True)
        if from_zero or (least > 0 and most - least >= most / 2):
            least = min(least, 0.0)
        ticks = round_ticks(least, most, 5)
        if ticks[-1] < most and len(ticks) > 1:
            ticks.append(round(2 * ticks[-1] - ticks[-2], 12))
        high = max(ticks[-1], most)
        return cls(low=ticks[0], high=high if high > ticks[0] else ticks[0] + 1, ticks=ticks, is_log=False)

    def share(self, value: float) -> float:
        """Return where a value lies, 0 at the lower end and 1 at the upper."""
        place = math.log10(max(value, 10.0**self.low)) if self.is_log else value
        return (place - self.low) / (self.high - self.low)


def _draw(
    size: tuple[int, int],
    drawn: Sequence[tuple[Series, Sequence[Point]]],
    averages: Sequence[Sequence[Point]],
    axis: _Axis,
    last_step: float,
    marks: Sequence[Mark],
) -> Drawing:
    width, height = size
    right, bottom = width - RIGHT, height - BOTTOM
    most = (right - LEFT) // _PX_A_STRETCH

    def x_place(step: float) -> float:
        return round(LEFT + (right - LEFT) * step / last_step, 1)

    def y_place(value: float) -> float:
        return round(bottom - (bottom - TOP) * axis.share(value), 1)

    def line(points: Sequence[Point], classes: str) -> Line:
        shown = thin(points, most)
        return Line(points=" ".join(f"{x_place(s):g},{y_place(v):g}" for s, v in shown), classes=classes)

    lines, dots = [], []
    for (one, points), average in zip(drawn, averages, strict=True):
        if one.is_smoothed:
            lines.append(line(points, f"line line{one.color} faint"))
        lines.append(line(average, f"line line{one.color}"))
        if one.has_dots or len(points) == 1:
            dots += [(x_place(step), y_place(value), one.color) for step, value in thin(points, most)]
    x_ticks = [step for step in round_ticks(0.0, last_step, width // 80) if step == round(step)]
    return Drawing(
        width=width,
        height=height,
        left=LEFT,
        right=right,
        top=TOP,
        bottom=bottom,
        lines=lines,
        dots=dots,
        x_ticks=[Tick(place=x_place(step), text=say_count(step)) for step in x_ticks],
        y_ticks=[Tick(place=y_place(value), text=f"{value:g}") for value in axis.ticks],
        marks=[(x_place(mark.step), mark) for mark in marks if mark.step <= last_step],
    )


def thin(points: Sequence[Point], most: int) -> list[Point]:
    """Return at most twice `most` points: the least and the greatest value of each of `most` stretches of steps."""
    if len(points) <= 2 * most:
        return list(points)
    first, last = points[0][0], points[-1][0]
    stretches: dict[int, list[Point]] = {}
    for point in points:
        place = min(most - 1, int(most * (point[0] - first) / ((last - first) or 1)))
        stretches.setdefault(place, []).append(point)
    kept: list[Point] = []
    for stretch in stretches.values():
        ends = (min(stretch, key=lambda point: point[1]), max(stretch, key=lambda point: point[1]))
        kept += sorted(set(ends))
    return kept


def smoothed(points: Sequence[Point]) -> list[Point]:
    """Return the points with the means of their neighbors on both sides, over a twentieth of all points.

    Towards both ends there are fewer neighbors, the same number on each side, so that no slope is flattened.
    """
    count, reach = len(points), len(points) // 40
    sums = [0.0, *accumulate(value for _, value in points)]
    out = []
    for place, (step, _) in enumerate(points):
        near = min(reach, place, count - 1 - place)
        out.append((step, (sums[place + near + 1] - sums[place - near]) / (2 * near + 1)))
    return out


def say_count(number: float) -> str:
    """Return a whole number, a large one in thousands or millions: 9 000, 250k, 2.5M."""
    for size, letter in ((1_000_000, "M"), (1_000, "k")):
        if abs(number) >= max(size, 10_000):
            return f"{number / size:.4g}{letter}"
    return f"{number:,.0f}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def say_number(value: float) -> str:
    """Return a number with four digits that count."""
    return f"{value:.4g}"


def _in_words(name: str, points: Sequence[Point]) -> str:
    (first, begun), (last, ended) = points[0], points[-1]
    if len(points) == 1:
        return f"{name}: {say_number(begun)} at step {first:g}"
    low = min(points, key=lambda point: point[1])
    text = f"{name}: {say_number(begun)} at step {first:.0f}, {say_number(ended)} at step {last:.0f}"
    return text if low[0] in (first, last) else f"{text}, least {say_number(low[1])} at step {low[0]:.0f}"


def _table(names: Sequence[str], lines: Sequence[Sequence[Point]]) -> tuple[list[str], list[list[str]]]:
    """Return a header and rows of some steps, evenly spread, of the series with the most points."""
    steps = [step for step, _ in max(lines, key=len)]
    if len(steps) > _TABLE_ROWS:
        steps = [steps[place * (len(steps) - 1) // (_TABLE_ROWS - 1)] for place in range(_TABLE_ROWS)]
    steps = sorted({*steps, *(step for line in lines if len(line) <= _TABLE_ROWS for step, _ in line)})
    cells = [dict(line) for line in lines]
    rows = [[f"{step:.0f}", *(say_number(one[step]) if step in one else "" for one in cells)] for step in steps]
    return ["step", *names], rows
