"""How good K draws are as a distribution, and how smooth they are: energy score, diversity, total variation.

All work on small images (64 px) in the units of what they are given: ab, or codes of sRGB.
"""

from __future__ import annotations

import torch
from torch import Tensor

from condgen.errors import ConfigError

__all__ = ["draw_diversity", "energy_score", "pair_distance", "rms_norm", "total_variation"]


def rms_norm(x: Tensor) -> Tensor:
    """Return the root of the sum over channels and pixels of squares, divided by the root of the number of pixels.

    It is the root mean square of a pixel's Euclidean length, in the units of ``x``.

    Args:
        x: ``[..., C, H, W]`` float.

    Returns:
        ``[...]``.
    """
    return x.square().sum(dim=-3).mean(dim=(-2, -1)).sqrt()


def pair_distance(draws: Tensor) -> Tensor:
    """Return the mean ``rms_norm`` of the differences of all pairs of draws, the diversity of the draws.

    Args:
        draws: ``[..., K, C, H, W]`` float, K >= 2.

    Returns:
        ``[...]``; 0 is a model that ignores its noise.

    Raises:
        ConfigError: a single draw.
    """
    first, second = _pairs(draws.shape[-4])
    return rms_norm(draws[..., first, :, :, :] - draws[..., second, :, :, :]).mean(dim=-1)


def energy_score(draws: Tensor, truth: Tensor) -> Tensor:
    """Return the energy score of K draws against the one truth; lower is better.

    Gneiting and Raftery ("Strictly Proper Scoring Rules, Prediction, and Estimation", 2007, eq. 21, with its sign
    turned): E|Y - y| - E|Y - Y'| / 2 with ``rms_norm`` as the norm, the second expectation over pairs of different
    draws, which makes the estimate unbiased. It is least in expectation for draws of the true distribution. A single
    draw, or a point prediction, has its plain error.

    Args:
        draws: ``[..., K, C, H, W]`` float, K >= 1.
        truth: ``[..., C, H, W]`` float.

    Returns:
        ``[...]``, in the units of the images.
    """
    error = rms_norm(draws - truth.unsqueeze(-4)).mean(dim=-1)
    return error if draws.shape[-4] == 1 else error - pair_distance(draws) / 2


def total_variation(x: Tensor) -> Tensor:
    """Return the mean absolute difference of horizontal neighbors plus that of vertical ones, over all channels.

    Args:
        x: ``[..., C, H, W]`` float with H, W >= 2.

    Returns:
        ``[...]``, in the units of ``x`` a pixel.
    """
    across = (x[..., 1:] - x[..., :-1]).abs().mean(dim=(-3, -2, -1))
    down = (x[..., 1:, :] - x[..., :-1, :]).abs().mean(dim=(-3, -2, -1))
    return across + down


def draw_diversity(draws: Tensor) -> Tensor:
    """Return how far apart the draws of an input are: the mean absolute difference of its pairs, ``[B]`` float32.

    0 is a model that ignores its noise.

    Args:
        draws: ``[B, K, C, H, W]``, K >= 2.

    Raises:
        ConfigError: a single draw.
    """
    first, second = _pairs(draws.shape[1])
    return (draws[:, first] - draws[:, second]).abs().float().mean(dim=(1, 2, 3, 4))


def _pairs(num_draws: int) -> tuple[Tensor, Tensor]:
    if num_draws < 2:
        raise ConfigError("draws", num_draws, "2 or more: diversity is that of pairs")
    first, second = torch.triu_indices(num_draws, num_draws, 1)
    return first, second
