"""Whether a categorical model is as often right as it says: the reliability table and its expected error.

counts = count_reliability(log_p, truth)       # of a part; counts add up
calibration_error(counts), reliability(counts)
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["NUM_CONFIDENCE_BINS", "calibration_error", "count_reliability", "reliability"]

NUM_CONFIDENCE_BINS = 15
"""Equal parts of confidence, from 0 to 1."""


def count_reliability(log_p: Tensor, truth: Tensor) -> NDArray[np.float64]:
    """Count places by the model's confidence, its probability of the likeliest category.

    Args:
        log_p: ``[..., Q]`` float, log probabilities of Q categories.
        truth: ``[...]`` int64, the true category.

    Returns:
        ``[3, NUM_CONFIDENCE_BINS]`` float64: places, the sum of their confidence, and how many of them are right.
    """
    confidence, guess = log_p.max(dim=-1)
    confidence = confidence.exp().double().flatten()
    bins = (confidence * NUM_CONFIDENCE_BINS).long().clamp(0, NUM_CONFIDENCE_BINS - 1)
    right = (guess == truth).double().flatten()
    rows = [
        torch.bincount(bins, weights, minlength=NUM_CONFIDENCE_BINS)
        for weights in (torch.ones_like(confidence), confidence, right)
    ]
    counts: NDArray[np.float64] = torch.stack(rows).numpy()
    return counts


def reliability(counts: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the mean confidence and the accuracy in each part of confidence, ``[15]`` each; NaN where it is empty."""
    with np.errstate(invalid="ignore"):
        return counts[1] / counts[0], counts[2] / counts[0]


def calibration_error(counts: NDArray[np.float64]) -> float:
    """Return the expected calibration error, in 0 to 1; 0 is perfect.

    The mean over places of |accuracy - confidence| of their part: Naeini et al. 2015; Guo et al., "On Calibration of
    Modern Neural Networks", 2017, eq. 3.
    """
    return float(np.abs(counts[2] - counts[1]).sum() / counts[0].sum())
