"""One image measured: perfect answers, means over draws, the best of K, and sizes."""

import numpy as np
import pytest
from samples import noise

from condgen.errors import ConfigError
from condgen.metrics.fidelity import MAX_PSNR_DB
from pipelines.evaluation.measures import Answer, ImageRow, MeasureSettings, measure, measured_size, recolored

SETTINGS = MeasureSettings(size_px=48, small_px=16)


def picture(seed: int, height: int = 48, width: int = 64) -> np.ndarray:
    return noise(seed, width // 8, height // 8).repeat(8, axis=0).repeat(8, axis=1)


def rows_of(rows: list[ImageRow], answer: str) -> list[ImageRow]:
    return [row for row in rows if row.answer == answer]


def test_the_truth_itself_is_a_perfect_answer() -> None:
    truth = picture(0)
    (row,) = rows_of(measure(truth, [Answer("point", [truth])], SETTINGS).rows, "point")
    assert (row.psnr, row.ab_error, row.auc, row.error, row.energy_score) == (MAX_PSNR_DB, 0, 1, 0, 0)
    assert row.ssim == pytest.approx(1)
    assert row.diversity is None


def test_an_answer_as_a_whole_is_the_mean_of_its_draws_and_best_is_the_nearest() -> None:
    truth = picture(0)
    near = recolored(truth, np.array([2.0, 2.0]))
    draws = [picture(1), (truth // 2 + near // 2), near]
    found = measure(truth, [Answer("draws", draws)], SETTINGS)
    whole, *each = rows_of(found.rows, "draws")
    assert [row.draw for row in each] == [0, 1, 2]
    assert (whole.draw, whole.draws) == (-1, 3)
    for name in ("psnr", "ssim", "rgb_error", "ab_error", "auc", "colorfulness", "chroma", "total_variation", "error"):
        assert getattr(whole, name) == pytest.approx(np.mean([getattr(row, name) for row in each]))
    (best,) = rows_of(found.rows, "best")
    assert best.draw == min(range(3), key=lambda k: each[k].error) == 1
    assert best.auc == each[1].auc
    assert best.psnr == max(row.psnr for row in each)
    assert whole.energy_score == pytest.approx(whole.error - whole.diversity / 2)


def test_hits_by_cell_add_up_to_the_aucs_of_the_draws() -> None:
    truth = picture(0)
    found = measure(truth, [Answer("draws", [picture(1), picture(2)])], SETTINGS)
    whole = rows_of(found.rows, "draws")[0]
    reference = found.rows[0]
    pixels = reference.cell_pixels.sum()
    assert pixels == 48 * 64
    assert whole.cell_hits.sum() / (2 * 151 * pixels) == pytest.approx(whole.auc)
    assert found.hits["draws"].sum() == 2 * pixels


def test_grey_has_no_chroma_and_keeps_the_lightness() -> None:
    truth = picture(0)
    grey = recolored(truth, np.zeros(2))
    assert int(np.ptp(grey.astype(int), axis=2).max()) <= 1  # codes are rounded
    (row,) = rows_of(measure(truth, [Answer("grey", [grey])], SETTINGS).rows, "grey")
    assert row.chroma == pytest.approx(0, abs=0.5)
    assert row.total_variation == pytest.approx(0, abs=0.5)


@pytest.mark.parametrize("size", [(24, 32), (96, 128), (48, 64)])
def test_answers_of_any_size_are_brought_to_the_references(size: tuple[int, int]) -> None:
    found = measure(picture(0), [Answer("point", [picture(1, *size)])], SETTINGS)
    assert found.images["point"].shape == found.images["reference"].shape == (1, 3, 48, 64)


def test_the_short_side_is_what_was_asked_for_and_the_aspect_stays() -> None:
    assert measured_size(160, 240, 256) == (256, 384)
    assert measured_size(1000, 500, 256) == (512, 256)
    assert measured_size(100, 101, 16) == (16, 16)


def test_translation_is_measured_in_codes_without_color() -> None:
    truth = np.full((48, 48, 3), 100, np.uint8)
    settings = MeasureSettings(kind="translate", size_px=48)
    (row,) = rows_of(measure(truth, [Answer("point", [truth + np.uint8(3)])], settings).rows, "point")
    assert row.rgb_error == pytest.approx(3)
    assert row.error == pytest.approx(3 * np.sqrt(3), rel=1e-5)
    assert (row.auc, row.ab_error, row.colorfulness, row.cell_hits) == (None, None, None, None)


def test_the_number_of_pixels_at_once_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [Answer("draws", [picture(seed) for seed in range(1, 5)])]
    together = measure(picture(0), answers, SETTINGS).rows
    monkeypatch.setattr("pipelines.evaluation.measures._PIXELS_AT_ONCE", 1)
    for one, other in zip(together, measure(picture(0), answers, SETTINGS).rows, strict=True):
        assert one.energy_score == other.energy_score
        assert one.ssim == pytest.approx(other.ssim)


@pytest.mark.parametrize("changes", [{"kind": "guess"}, {"size_px": 8}])
def test_settings_that_can_not_be_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        MeasureSettings(**changes)
