"""The curve of a loss, and its ticks."""

from typing import Any

import pytest

from jobs.report.curves import make_curve, round_ticks


def test_ticks_are_round_and_cover_the_range() -> None:
    assert round_ticks(0, 400, 6) == [0, 100, 200, 300, 400]
    assert round_ticks(0, 0.93, 5) == [0, 0.2, 0.4, 0.6, 0.8]
    assert round_ticks(-1.5, 2.0, 5) == [-2, -1, 0, 1, 2]


def test_a_curve_leaves_out_what_is_no_number() -> None:
    rows: list[dict[str, Any]] = [
        {"step": 0, "loss": 2.0},
        {"step": 1, "loss": float("nan")},
        {"event": "resumed"},
        {"step": 2, "loss": 1.0},
    ]
    assert len(make_curve(rows).raw.split()) == 2
    with pytest.raises(ValueError, match="two points"):
        make_curve(rows[:2])


def test_the_loss_in_validation_is_a_line_of_the_same_chart() -> None:
    rows: list[dict[str, Any]] = [{"step": 0, "loss": 2.0}, {"step": 100, "loss": 1.0}]
    curve = make_curve(rows, [{"step": 50, "loss": 3.0}, {"step": 100, "loss": 1.0}])
    high, low = (tuple(map(float, point.split(","))) for point in curve.validation.split())
    assert low == tuple(map(float, curve.raw.split()[-1].split(",")))
    assert high[1] < float(curve.raw.split()[0].split(",")[1]), "a higher loss lies higher"
    assert curve.summary.endswith("in validation 1 at step 100")
    assert make_curve(rows).validation == ""
