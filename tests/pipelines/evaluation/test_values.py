"""From rows to numbers: ratios of sums, class balance over the set, intervals, what is not beaten."""

import numpy as np
import pyarrow as pa
import pytest
from samples import noise

from condgen.errors import DatasetError
from condgen.metrics.color import ab_cells, ab_distance, auc_balanced, count_hits
from pipelines.evaluation.measures import Answer, MeasureSettings, measure, recolored
from pipelines.evaluation.parts import ROWS_SCHEMA
from pipelines.evaluation.summary import estimate
from pipelines.evaluation.values import METRICS, Rows

SETTINGS = MeasureSettings(size_px=32, small_px=16)


def picture(seed: int) -> np.ndarray:
    return noise(seed, 5, 4).repeat(8, axis=0).repeat(8, axis=1)


def table(count: int, answer: str = "point", offset: int = 100) -> tuple[pa.Table, list]:
    """Rows of some images, each answered by another image; and what was measured of each."""
    columns: dict[str, list] = {name: [] for name in ROWS_SCHEMA.names}
    measured = []
    for number in range(count):
        truth = picture(number)
        draws = [picture(number + offset), picture(number + offset + 50)]
        answers = [Answer(answer, draws[: 1 if answer == "point" else 2])]
        answers.append(Answer("grey", [recolored(truth, np.zeros(2))]))
        measured.append(measure(truth, answers, SETTINGS))
        for row in measured[-1].rows:
            columns["source"].append("a.tar")
            columns["key"].append(f"{number:03d}")
            for name in ROWS_SCHEMA.names[2:]:
                columns[name].append(getattr(row, name))
    return pa.table(columns, schema=ROWS_SCHEMA), measured


@pytest.mark.parametrize("answer", ["point", "draws"])
def test_the_balanced_auc_of_rows_is_that_of_all_pixels_together(answer: str) -> None:
    found, measured = table(6, answer)
    rows = Rows.of(found)
    expected = auc_balanced(np.sum([one.hits[answer] for one in measured], axis=0))
    assert METRICS["auc_balanced"].over(rows, answer, np.ones((1, 6)))[0] == pytest.approx(100 * expected)


def test_the_best_draws_balanced_auc_is_of_one_draw_an_image() -> None:
    found, measured = table(5, "draws")
    expected = auc_balanced(np.sum([one.hits["best"] for one in measured], axis=0))
    assert METRICS["auc_balanced"].over(Rows.of(found), "best", np.ones((1, 5)))[0] == pytest.approx(100 * expected)
    alone = []
    for one in measured:
        truth = one.images["reference"]
        place = next(row.draw for row in one.rows if row.answer == "best")
        ab_of = [_ab(codes) for codes in (one.images["draws"][place : place + 1], truth)]
        alone.append(count_hits(ab_distance(*ab_of), ab_cells(ab_of[1])))
    assert auc_balanced(np.sum(alone, axis=0)) == pytest.approx(expected)


def _ab(codes):
    from condgen.color.lab import rgb_to_lab

    return rgb_to_lab(codes.float() / 255)[:, 1:]


def test_ratios_are_of_sums_over_the_set() -> None:
    found, _ = table(4)
    rows = Rows.of(found)
    mine, theirs = (rows.column(answer, "total_variation") for answer in ("point", "reference"))
    value = METRICS["total_variation_ratio"].over(rows, "point", np.ones((1, 4)))[0]
    assert value == pytest.approx(mine.sum() / theirs.sum())
    assert value != pytest.approx((mine / theirs).mean())


def test_a_resample_is_the_set_of_its_images() -> None:
    found, _ = table(4)
    rows = Rows.of(found)
    twice = Rows.of(pa.concat_tables([found.filter(pa.compute.equal(found["key"], "002"))] * 1))
    weights = np.array([[0.0, 0.0, 3.0, 0.0]])
    for name in ("auc_raw", "psnr", "colorfulness_ratio", "colorfulness_difference", "energy_score"):
        alone = METRICS[name].over(twice, "point", np.ones((1, 1)))
        assert METRICS[name].over(rows, "point", weights) == pytest.approx(alone), name


def test_intervals_hold_their_values_and_shrink_with_more_images() -> None:
    few, many = (estimate(Rows.of(table(count)[0]), kind="colorize", resamples=300, seed=0)[0] for count in (6, 60))
    for values in (few, many):
        for name in ("auc_raw", "auc_balanced", "psnr", "total_variation_ratio"):
            one = values[name]["point"]
            assert one.low <= one.value <= one.high, name
    widths = [values["psnr"]["point"].high - values["psnr"]["point"].low for values in (few, many)]
    assert widths[1] < 0.7 * widths[0]


def test_what_random_images_do_not_beat_is_said_and_what_a_perfect_answer_beats_is_not() -> None:
    _, shortfalls = estimate(Rows.of(table(12)[0]), kind="colorize", resamples=300, seed=0)
    said = {(one.metric, one.trivial): one for one in shortfalls}
    assert said["auc_raw", "grey"].is_certain
    assert said["psnr", "grey"].other > said["psnr", "grey"].value
    assert not any(metric in ("colorfulness", "chroma") for metric, _ in said)
    perfect = table(12, offset=0)[0]
    assert [
        one for one in estimate(Rows.of(perfect), kind="colorize", resamples=300, seed=0)[1] if one.is_certain
    ] == []


def test_translation_has_no_metric_of_color() -> None:
    values, _ = estimate(Rows.of(table(3)[0]), kind="translate", resamples=0, seed=0)
    assert {"psnr", "ssim", "energy_score", "rgb_error"} <= values.keys()
    assert not {"auc_raw", "auc_balanced", "ab_error", "colorfulness", "chroma"} & values.keys()
    assert values["psnr"]["point"].low is None


def test_an_answer_that_some_images_lack_is_refused() -> None:
    found, _ = table(3)
    lacking = found.filter(pa.compute.invert(pa.compute.and_(
        pa.compute.equal(found["key"], "001"), pa.compute.equal(found["answer"], "grey")
    )))  # fmt: skip
    with pytest.raises(DatasetError, match="'grey' is not there for every image"):
        Rows.of(lacking)
    with pytest.raises(DatasetError, match="no image"):
        Rows.of(ROWS_SCHEMA.empty_table())
