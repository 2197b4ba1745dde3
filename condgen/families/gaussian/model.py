"""One Gaussian a pixel: a predicted mean and variance (Nix and Weigend 1994, Kendall and Gal 2017, eq. (5)).

It knows how far the truth may lie from its prediction. It has one mode, so that where p(y | x) has two, its draws lie
between them.
"""

from __future__ import annotations

from typing import ClassVar

from condgen.families.gaussian.config import GaussianConfig
from condgen.families.mixture.model import PixelMixture

__all__ = ["Gaussian"]


class Gaussian(PixelMixture):
    """p(y | x) as a Gaussian of its own for each channel and pixel."""

    family: ClassVar[str] = "gaussian"

    def __init__(self, config: GaussianConfig) -> None:
        super().__init__(config, components=1, covariance="diagonal")
