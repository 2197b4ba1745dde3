"""The configuration of ``color_classifier``. Free of torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from condgen.checks import check_above, check_at_least, check_choice
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

    target_channels: int = 2
    bins: Literal["ab", "uniform"] = "ab"
    num_bins: int = 32
    value_limit: float = 1.0
    point: Literal["annealed_mean", "argmax"] = "annealed_mean"
    grid_step: int = 10
    soft_neighbors: int = 10
    soft_sigma: float = 5.0
    rebalance_gamma: float = 0.5
    annealing_temperature: float = 0.38

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("model.grid_step", self.grid_step, (10, 20))
        check_at_least("model.target_channels", self.target_channels, 1)
        check_choice("model.bins", self.bins, ("ab", "uniform"))
        check_at_least("model.num_bins", self.num_bins, 2)
        check_above("model.value_limit", self.value_limit, 0.0)
        check_choice("model.point", self.point, ("annealed_mean", "argmax"))
        if self.bins == "ab" and self.target_channels != 2:
            raise ConfigError("model.bins", "ab", "'uniform' where y is no color (model.target_channels is not 2)")
        if self.bins == "uniform" and self.num_bins**self.target_channels > _MOST_BINS:
            raise ConfigError("model.num_bins", self.num_bins, f"at most {_MOST_BINS} bins a pixel, over its channels")
        if not 1 <= self.soft_neighbors <= 25:
            raise ConfigError("model.soft_neighbors", self.soft_neighbors, "a whole number from 1 to 25")
        check_above("model.soft_sigma", self.soft_sigma, 0.0)
        if not 0.0 < self.rebalance_gamma <= 1.0:
            raise ConfigError("model.rebalance_gamma", self.rebalance_gamma, "a number > 0 and <= 1")
        check_above("model.annealing_temperature", self.annealing_temperature, 0.0)
