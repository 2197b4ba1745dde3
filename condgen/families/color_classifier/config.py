"""The configuration of ``color_classifier``. Free of torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from condgen.checks import Count, Number, Positive, PositiveShare
from condgen.errors import ConfigError
from condgen.nn.config import UNetConfig

__all__ = ["ColorClassifierConfig"]

_MOST_BINS = 4096
"""The most bins that a pixel's softmax may have."""


@dataclass(frozen=True, kw_only=True)
class ColorClassifierConfig(UNetConfig):
    """See ``condgen.families.color_classifier.model``. The defaults are those of Zhang et al. 2016.

    Attributes:
        target_channels: channels of y; 2 for color (ab).
        bins: ``ab``, the ab grid in gamut (color alone); ``uniform``, ``num_bins`` levels a channel, all combinations
            of them being a pixel's bins. Uniform bins are encoded hard and all have the same weight.
        num_bins: levels from -value_limit to value_limit, both included.
        value_limit: largest absolute value of y.
        point: the point prediction: ``annealed_mean``, or ``argmax``, the likeliest bin.
        grid_step: step of the ab grid (ab units); 10 gives 313 bins.
        soft_neighbors: nearest bins that share a pixel's soft target.
        soft_sigma: standard deviation of the Gaussian weights among them (ab units).
        rebalance_gamma: share of the uniform distribution in the prior whose inverse weights the classes; 1
            weights all alike.
        annealing_temperature: T of the annealed mean, which is the point prediction.
    """

    family: ClassVar[str] = "color_classifier"

    target_channels: Count = 2
    bins: Literal["ab", "uniform"] = "ab"
    num_bins: Annotated[int, Number(">= 2")] = 32
    value_limit: Positive = 1.0
    point: Literal["annealed_mean", "argmax"] = "annealed_mean"
    grid_step: Literal[10, 20] = 10
    soft_neighbors: int = 10
    soft_sigma: Positive = 5.0
    rebalance_gamma: PositiveShare = 0.5
    annealing_temperature: Positive = 0.38

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.bins == "ab" and self.target_channels != 2:
            raise ConfigError("model.bins", "ab", "'uniform' where y is no color (model.target_channels is not 2)")
        if self.bins == "uniform" and self.num_bins**self.target_channels > _MOST_BINS:
            raise ConfigError("model.num_bins", self.num_bins, f"at most {_MOST_BINS} bins a pixel, over its channels")
        if not 1 <= self.soft_neighbors <= 25:
            raise ConfigError("model.soft_neighbors", self.soft_neighbors, "a whole number from 1 to 25")
