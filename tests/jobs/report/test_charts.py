"""Charts by step: no larger for more rows, no peak lost, logarithmic where values span decades."""

import math

import pytest

from jobs.report.charts import Mark, Series, make_chart, say_count, smoothed, thin


def test_many_points_become_few_and_keep_each_peak() -> None:
    points = [(float(step), math.sin(step / 5000)) for step in range(100_000)]
    points[54_321] = (54_321.0, 9.0)
    points[54_322] = (54_322.0, -9.0)
    kept = thin(points, 100)
    assert len(kept) <= 200
    assert {(54_321.0, 9.0), (54_322.0, -9.0)} <= set(kept)
    assert kept == sorted(kept)
    assert thin(points[:200], 100) == points[:200]


def test_the_smoothed_line_follows_a_slope_without_a_lag_and_calms_noise() -> None:
    slope = [(float(step), 3.0 * step) for step in range(1000)]
    assert [value for _, value in smoothed(slope)] == pytest.approx([value for _, value in slope])
    noise = [(float(step), float(step % 2)) for step in range(1000)]
    assert all(abs(value - 0.5) < 0.05 for _, value in smoothed(noise)[100:-100])


def chart(values: list[float], **options: object) -> object:
    series = Series(name="loss", points=[(float(step), value) for step, value in enumerate(values)])
    return make_chart("Loss", [series], name="loss", last_step=len(values), may_be_log=True, **options)


@pytest.mark.parametrize(
    ("values", "is_log"),
    [([100.0, 10.0, 1.0], True), ([5.0, 2.0, 1.0], False), ([100.0, 1.0, 0.0], False), ([-1.0, -200.0], False)],
)
def test_only_positive_values_over_decades_are_logarithmic(values: list[float], is_log: bool) -> None:
    made = chart(values)
    assert made.is_log is is_log
    (drawing,) = made.drawings
    places = [tuple(map(float, point.split(","))) for point in drawing.lines[0].points.split()]
    assert all(drawing.left <= x <= drawing.right and drawing.top <= y <= drawing.bottom for x, y in places)
    heights = [y for _, y in places]
    assert heights == sorted(heights), "what falls, falls"


def test_equal_steps_down_the_decades_are_equal_on_the_chart() -> None:
    heights = [float(point.split(",")[1]) for point in chart([100.0, 10.0, 1.0]).drawings[0].lines[0].points.split()]
    assert heights[1] - heights[0] == pytest.approx(heights[2] - heights[1], abs=0.11)


def test_a_value_without_end_and_a_lonely_one_are_no_trouble() -> None:
    assert chart([math.nan, math.inf]) is None
    lonely = chart([math.nan, 3.0])
    assert lonely.drawings[0].dots, "a line of one point is not seen"
    assert lonely.summary == "loss: 3 at step 1"
    assert chart([2.0, 2.0]).rows == [["0", "2"], ["1", "2"]]


def test_the_table_has_few_rows_of_the_first_the_last_and_each_validation() -> None:
    training = Series(name="training", points=[(float(step), 1.0) for step in range(1, 5001)], is_smoothed=True)
    validation = Series(name="validation", points=[(1234.0, 7.0)], has_dots=True)
    made = make_chart("Loss", [training, validation], name="loss", last_step=5000)
    assert made.header == ["step", "training", "validation"]
    assert made.rows[0][0] == "1"
    assert made.rows[-1][0] == "5000"
    assert ["1234", "1", "7"] in made.rows
    assert len(made.rows) == 13


def test_marks_beyond_the_steps_are_left_out() -> None:
    marks = [Mark(step=1, kind="start", text="a"), Mark(step=99, kind="start", text="b")]
    made = chart([3.0, 2.0, 1.0], marks=marks)
    assert [mark.text for _, mark in made.drawings[0].marks] == ["a"]


def test_large_counts_are_short() -> None:
    assert [say_count(number) for number in (999, 9000, 250_000, 2_500_000)] == [
        "999",
        "9\N{NARROW NO-BREAK SPACE}000",
        "250k",
        "2.5M",
    ]
