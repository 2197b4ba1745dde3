"""Distances of sets are scipy's and torchmetrics', for whole sets and for sums of their parts."""

import numpy as np
import pytest
import torch

from condgen.errors import ConfigError, DatasetError
from condgen.metrics.sets import FeatureMoments, FrechetReference, frechet_distance, kernel_distance


def features(seed: int, count: int = 200, size: int = 24, shift: float = 0.0, scale: float = 1.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    mixed = rng.standard_normal((count, size)) @ np.random.default_rng(99).standard_normal((size, size))
    return (scale * mixed + shift).astype(np.float32)


def by_scipy(x: np.ndarray, y: np.ndarray) -> float:
    linalg = pytest.importorskip("scipy.linalg")
    cov_x, cov_y = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    root = linalg.sqrtm(cov_x @ cov_y)
    gap = x.mean(axis=0, dtype=np.float64) - y.mean(axis=0, dtype=np.float64)
    return float(gap @ gap + np.trace(cov_x + cov_y - 2 * root.real))


@pytest.mark.parametrize(("shift", "scale"), [(0.0, 1.0), (0.5, 1.0), (0.0, 2.0)])
def test_the_frechet_distance_is_scipys(shift: float, scale: float) -> None:
    x, y = features(0), features(1, shift=shift, scale=scale)
    expected = by_scipy(x.astype(np.float64), y.astype(np.float64))
    found = frechet_distance(FeatureMoments.of(x), FeatureMoments.of(y))
    assert found == pytest.approx(expected, rel=1e-6)
    assert frechet_distance(FeatureMoments.of(y), FeatureMoments.of(x)) == pytest.approx(expected, rel=1e-6)


def test_a_set_is_at_no_distance_from_itself_even_where_its_covariance_is_singular() -> None:
    few = FeatureMoments.of(features(2, count=10))  # rank 9 of 24
    assert frechet_distance(few, few) == pytest.approx(0, abs=1e-4)


def test_one_dimension_by_hand() -> None:
    """N(0, 1) and N(3, 4): 9 + (1 - 2)^2."""
    x = np.array([[-1.0], [1.0]]) / np.sqrt(2)
    y = 3 + 2 * x
    assert frechet_distance(FeatureMoments.of(x), FeatureMoments.of(y)) == pytest.approx(10.0)


def test_parts_add_up_to_the_whole() -> None:
    x, y = features(3), features(4)
    parts = FeatureMoments.of(x[:70]) + FeatureMoments.of(x[70:])
    whole = FeatureMoments.of(x)
    assert parts.count == whole.count
    np.testing.assert_allclose(parts.products, whole.products)
    reference = FrechetReference(FeatureMoments.of(y))
    assert reference.distance(parts) == pytest.approx(reference.distance(whole))


def test_a_covariance_of_one_image_is_refused() -> None:
    with pytest.raises(DatasetError, match="1 images"):
        FeatureMoments.of(features(0, count=1)).mean_and_covariance()


@pytest.mark.slow
def test_the_kernel_distance_is_torchmetrics() -> None:
    kid = pytest.importorskip("torchmetrics.image.kid")
    x, y = features(5), features(6, shift=0.3)
    expected = float(kid.poly_mmd(torch.from_numpy(x).double(), torch.from_numpy(y).double()))
    assert kernel_distance(x, y) == pytest.approx(expected, rel=1e-6)


def test_the_kernel_distance_of_two_samples_of_one_distribution_is_zero_on_average() -> None:
    found = [kernel_distance(features(2 * seed, 60, 4), features(2 * seed + 1, 60, 4)) for seed in range(200)]
    error = np.std(found) / np.sqrt(len(found))
    assert abs(np.mean(found)) < 4 * error
    assert min(found) < 0 < max(found)


def test_the_kernel_distance_needs_two_images() -> None:
    with pytest.raises(ConfigError, match="two images"):
        kernel_distance(features(0, 1), features(1))
