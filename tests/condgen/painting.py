"""What the tests of color at full size paint, and how they look at it."""

import numpy as np
import torch
from numpy.typing import NDArray

from condgen.color.lab import rgb_to_lab


def lab(rgb: NDArray[np.generic]) -> torch.Tensor:
    """CIE Lab ``[3, H, W]`` of an image of 8 or 16 bits, in float64."""
    return rgb_to_lab(torch.from_numpy(rgb.astype(np.float64)).movedim(-1, -3) / np.iinfo(rgb.dtype).max)


def wild_colors(draws: int, size: int, spread: float) -> NDArray[np.float32]:
    return np.random.default_rng(0).normal(0, spread, (draws, 2, size, size)).astype(np.float32)
