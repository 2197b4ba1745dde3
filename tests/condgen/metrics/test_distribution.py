"""The energy score is proper: its own distribution scores best; a point's score is its error."""

import itertools
import math

import pytest
import torch

from condgen.errors import ConfigError
from condgen.metrics.distribution import draw_diversity, energy_score, pair_distance, rms_norm, total_variation


def noise(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_the_norm_is_the_root_of_the_sum_of_squares_over_the_root_of_the_pixels() -> None:
    x = noise(0, 3, 2, 32, 32)
    torch.testing.assert_close(rms_norm(x), x.flatten(1).norm(dim=-1) / 32)
    assert float(rms_norm(torch.tensor([3.0, 4.0]).reshape(2, 1, 1).expand(2, 5, 7))) == pytest.approx(5.0)


def test_a_single_draws_score_is_its_error() -> None:
    draw, truth = noise(1, 1, 2, 4, 4), noise(2, 2, 4, 4)
    torch.testing.assert_close(energy_score(draw, truth), rms_norm(draw[0] - truth))


def test_the_score_is_the_mean_error_less_half_the_mean_over_ordered_pairs() -> None:
    draws, truth = noise(3, 5, 2, 6, 8), noise(4, 2, 6, 8)
    error = sum(float(rms_norm(draw - truth)) for draw in draws) / 5
    pairs = [float(rms_norm(draws[i] - draws[j])) for i, j in itertools.permutations(range(5), 2)]
    assert len(pairs) == 20
    assert float(energy_score(draws, truth)) == pytest.approx(error - sum(pairs) / 20 / 2)
    assert float(pair_distance(draws)) == pytest.approx(sum(pairs) / 20)


def test_the_score_is_least_for_draws_of_the_true_distribution() -> None:
    """One pixel and channel, truth N(0, 1): the score's expectation is known, 1/sqrt(pi) at the truth."""
    truth = noise(5, 20_000, 1, 1, 1)
    scores = {
        scale: float(energy_score(scale * noise(6, 20_000, 4, 1, 1, 1), truth).mean()) for scale in (0.0, 0.5, 1, 2)
    }
    assert min(scores, key=lambda scale: scores[scale]) == 1
    assert scores[1] == pytest.approx(1 / math.sqrt(math.pi), abs=0.02)
    assert scores[0.0] == pytest.approx(math.sqrt(2 / math.pi), abs=0.02)


def test_the_estimate_is_unbiased_in_the_number_of_draws() -> None:
    truth = noise(7, 20_000, 1, 1, 1)
    few, many = (float(energy_score(noise(8, 20_000, k, 1, 1, 1), truth).mean()) for k in (2, 20))
    assert few == pytest.approx(many, abs=0.02)


def test_total_variation_is_the_mean_step_across_plus_the_mean_step_down() -> None:
    ramp = torch.arange(12.0).reshape(1, 3, 4)  # a step of 1 across, of 4 down
    assert float(total_variation(ramp)) == pytest.approx(5.0)
    assert float(total_variation(torch.full((2, 4, 4), 7.0))) == 0.0


def test_diversity_of_one_draw_is_refused() -> None:
    with pytest.raises(ConfigError, match="2 or more"):
        pair_distance(noise(9, 1, 2, 4, 4))
    with pytest.raises(ConfigError, match="2 or more"):
        draw_diversity(noise(9, 1, 1, 2, 4, 4))


def test_draw_diversity_is_the_mean_absolute_difference_of_pairs() -> None:
    draws = torch.tensor([0.0, 1.0, 4.0]).reshape(1, 3, 1, 1, 1).expand(1, 3, 2, 3, 3)
    assert draw_diversity(draws).tolist() == pytest.approx([(1 + 4 + 3) / 3])
