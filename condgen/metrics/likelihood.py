"""How likely the true colors are under the training set of a classifier of colors alone."""

from __future__ import annotations

from torch import Tensor

from condgen.families.color_classifier.model import ColorClassifier

__all__ = ["marginal_ab_nll"]


def marginal_ab_nll(model: ColorClassifier, y: Tensor) -> Tensor:
    """Return the negative log-likelihood of y's bins under the training set's marginal: nats a grid pixel, ``[B]``.

    It is what -``log_prob`` of the model, which sees the image, is to beat.

    The marginal is the model's prior, the training set's histogram smoothed; a bin that is left without any
    probability counts as 1e-6.

    Args:
        model: whose grid, bins and prior are used.
        y: ab_n, ``[B, 2, H, W]`` float32.
    """
    bins = model.bins.to(y.device).nearest(model.pooled_ab(y))
    log_prior = model.prior.clamp_min(1e-6).log()
    return -log_prior[bins].mean(dim=(-2, -1))
