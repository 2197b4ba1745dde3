"""How sure a mean over images is: bootstrap intervals, and the sign-flip test of paired differences.

Both resample images, are a pure function of a seed, and take the same resamples for every value of one evaluation, so
that differences of values are paired.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

__all__ = ["Interval", "bootstrap_weights", "percentile_interval", "sign_flip_p_value"]

Interval = tuple[float, float]

_WEIGHTS_AT_ONCE = 1 << 24


def bootstrap_weights(num_images: int, num_resamples: int, seed: int) -> Iterator[NDArray[np.float64]]:
    """Yield how often each image is drawn in each resample, some resamples at a time: ``[r, N]``, rows add up to N.

    Efron, "Bootstrap Methods: Another Look at the Jackknife", 1979: N images are drawn with replacement.

    Args:
        num_images: N, >= 1.
        num_resamples: number of resamples.
        seed: seed of the resamples; equal arguments give equal weights.
    """
    rng = np.random.Generator(np.random.Philox(seed))
    step = max(1, _WEIGHTS_AT_ONCE // num_images)
    for first in range(0, num_resamples, step):
        rows = [
            np.bincount(rng.integers(0, num_images, num_images), minlength=num_images)
            for _ in range(first, min(first + step, num_resamples))
        ]
        yield np.array(rows, dtype=np.float64)


def percentile_interval(values: NDArray[np.float64], level: float = 0.95) -> Interval:
    """Return the interval between the percentiles that leave ``level`` of the resampled values between them.

    Values that are NaN, of resamples without the quantity, are left out.
    """
    tail = 100 * (1 - level) / 2
    low, high = np.nanpercentile(values, [tail, 100 - tail])
    return float(low), float(high)


def sign_flip_p_value(differences: NDArray[np.float64], num_flips: int, seed: int) -> float:
    """Return the two-sided p-value of the mean of paired differences being zero, by random flips of their signs.

    Under the hypothesis that the two are alike, a pair's difference is as likely with the other sign (Fisher 1935, a
    permutation test). The observed signs count as one of the flips, so that it is never 0.

    Args:
        differences: ``[N]``, one a pair.
        num_flips: random flips.
        seed: seed of the flips.
    """
    rng = np.random.Generator(np.random.Philox(seed))
    observed = abs(differences.sum()) * (1 - 1e-12)
    as_large = 0
    step = max(1, _WEIGHTS_AT_ONCE // max(1, len(differences)))
    for first in range(0, num_flips, step):
        count = min(step, num_flips - first)
        signs = rng.integers(0, 2, (count, len(differences)), dtype=np.int8) * 2.0 - 1
        as_large += int((np.abs(signs @ differences) >= observed).sum())
    return (as_large + 1) / (num_flips + 1)
