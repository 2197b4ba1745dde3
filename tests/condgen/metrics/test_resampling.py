"""Bootstrap intervals hold the truth as often as they say; the sign-flip test is the exact one."""

import itertools

import numpy as np
import pytest

from condgen.metrics import resampling
from condgen.metrics.resampling import bootstrap_weights, percentile_interval, sign_flip_p_value


def weights(*arguments: int) -> np.ndarray:
    return np.concatenate(list(bootstrap_weights(*arguments)))


def test_each_resample_draws_as_many_images_as_there_are() -> None:
    drawn = weights(30, 200, 0)
    assert drawn.shape == (200, 30)
    assert (drawn.sum(axis=1) == 30).all()
    assert drawn.mean(axis=0) == pytest.approx(np.ones(30), abs=0.35)


def test_resamples_depend_on_the_seed_alone_and_not_on_how_many_are_made_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    at_once = weights(10, 50, 3)
    monkeypatch.setattr(resampling, "_WEIGHTS_AT_ONCE", 70)
    np.testing.assert_array_equal(at_once, weights(10, 50, 3))
    assert (at_once != weights(10, 50, 4)).any()


@pytest.mark.slow
def test_an_interval_of_95_percent_holds_the_true_mean_about_so_often() -> None:
    rng = np.random.default_rng(0)
    held = 0
    for seed in range(300):
        values = rng.normal(1.0, 2.0, 50)
        low, high = percentile_interval(weights(50, 400, seed) @ values / 50)
        held += low <= 1.0 <= high
    assert 0.90 <= held / 300 <= 0.98


def test_the_p_value_is_that_of_all_flips_of_signs() -> None:
    differences = np.array([1.2, 0.4, -0.3, 2.0, 0.9, 0.1, 1.1, -0.2])
    sums = [abs(np.dot(signs, differences)) for signs in itertools.product((-1, 1), repeat=8)]
    exact = np.mean(np.array(sums) >= abs(differences.sum()) - 1e-9)
    assert sign_flip_p_value(differences, 20_000, 0) == pytest.approx(exact, abs=0.01)


def test_no_difference_has_a_p_value_of_one_and_a_clear_one_is_never_zero() -> None:
    assert sign_flip_p_value(np.zeros(20), 500, 0) == 1.0
    assert sign_flip_p_value(np.ones(60), 999, 0) == 1 / 1000
