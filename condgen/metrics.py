"""How good draws are: how colourful, how likely the true ones, and how far from one another."""

from __future__ import annotations

import torch
from torch import Tensor

from condgen.base import Condition
from condgen.errors import ConfigError
from condgen.families.color_classifier import ColorClassifier

__all__ = ["ab_nll", "colorfulness", "draw_diversity", "marginal_ab_nll"]


def colorfulness(rgb: Tensor) -> Tensor:
    """Return Hasler & Suesstrunk's colourfulness M^(3) ("Measuring colourfulness in natural images", 2003).

    With rg = R - G and yb = (R + G) / 2 - B, it is the root of the sum of their variances plus 0.3 times the
    root of the sum of their squared means. Grey is 0; the paper calls 15 slightly, 59 quite, 109 extremely
    colourful.

    Args:
        rgb: ``[..., 3, H, W]``, sRGB in 0 to 255, uint8 or float.

    Returns:
        ``[...]`` float32.
    """
    red, green, blue = rgb.float().unbind(-3)
    rg, yb = red - green, (red + green) / 2 - blue
    spread = torch.sqrt(rg.var(dim=(-2, -1), correction=0) + yb.var(dim=(-2, -1), correction=0))
    offset = torch.sqrt(rg.mean(dim=(-2, -1)).square() + yb.mean(dim=(-2, -1)).square())
    return spread + 0.3 * offset


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


def draw_diversity(draws: Tensor) -> Tensor:
    """Return how far apart the draws of an input are: the mean absolute difference of its pairs, ``[B]`` float32.

    0 is a model that ignores its noise.

    Args:
        draws: ``[B, K, C, H, W]``, K >= 2.

    Raises:
        ConfigError: a single draw.
    """
    num_draws = draws.shape[1]
    if num_draws < 2:
        raise ConfigError("draws", num_draws, "2 or more: diversity is that of pairs")
    first, second = torch.triu_indices(num_draws, num_draws, 1)
    return (draws[:, first] - draws[:, second]).abs().float().mean(dim=(1, 2, 3, 4))
