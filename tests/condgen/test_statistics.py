import numpy as np
import pytest

from condgen.errors import DatasetError
from condgen.statistics import DatasetStatistics, count_ab


def test_a_color_counts_at_its_nearest_grid_point() -> None:
    ab = np.array([[[0.0, 4.9, 5.1, -110.0, 300.0]], [[0.0, -4.9, -5.1, 110.0, -300.0]]])
    counts = count_ab(ab)
    assert counts.sum() == 5
    expected = {(11, 11): 2, (12, 10): 1, (0, 22): 1, (22, 0): 1}
    assert {(int(i), int(j)): int(counts[i, j]) for i, j in np.argwhere(counts)} == expected


def test_parts_add_up_to_the_whole() -> None:
    ab = np.random.default_rng(0).normal(0, 30, (5, 2, 8, 8))
    whole = DatasetStatistics.of_ab(ab)
    assert DatasetStatistics.of_ab(ab[:2]) + DatasetStatistics.of_ab(ab[2:]) == whole
    assert whole.num_samples == 5
    assert whole.ab_histogram.sum() == 5 * 64


def test_json_brings_statistics_back() -> None:
    statistics = DatasetStatistics.of_ab(np.random.default_rng(0).normal(0, 30, (2, 2, 4, 4)))
    assert DatasetStatistics.from_json(statistics.to_json()) == statistics


@pytest.mark.parametrize("text", ["", "{}", '{"format": 2}', '{"format": 1, "num_samples": 1, "ab_histogram": [[1]]}'])
def test_damaged_statistics_are_a_dataset_error(text: str) -> None:
    with pytest.raises(DatasetError):
        DatasetStatistics.from_json(text)
