"""How likely the true colors are under a classifier of colors, and under its training set alone."""

from __future__ import annotations

from torch import Tensor

from condgen.base import Condition
from condgen.families.color_classifier import ColorClassifier

__all__ = ["ab_nll", "marginal_ab_nll"]


def ab_nll(model: ColorClassifier, condition: Condition, y: Tensor) -> Tensor:
    """Return the negative log-likelihood of y's ab bins given x: nats a pixel of the model's grid, ``[B]``.

    Args:
        model: whose grid and bins are used.
        condition: of B samples.
        y: ab_n, ``[B, 2, H, W]`` float32.
    """
    pixels = model.pooled_ab(y).shape[-2:].numel()
    return -model.log_prob(condition, y) / pixels


def marginal_ab_nll(model: ColorClassifier, y: Tensor) -> Tensor:
    """Return what ``ab_nll`` is to beat: that of y's bins under the training set's marginal, ``[B]``.

    The marginal is the model's prior, the training set's histogram smoothed; a bin that is left without any
    probability counts as 1e-6.

    Args:
        model: whose grid, bins and prior are used.
        y: ab_n, ``[B, 2, H, W]`` float32.
    """
    bins = model.bins.to(y.device).nearest(model.pooled_ab(y))
    log_prior = model.prior.clamp_min(1e-6).log()
    return -log_prior[bins].mean(dim=(-2, -1))
