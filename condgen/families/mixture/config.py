"""The configuration of ``mixture``, and what it shares with its case of one component. Free of torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from condgen.checks import Count, Number
from condgen.nn.config import UNetConfig

__all__ = ["MixtureConfig", "PixelMixtureConfig"]


@dataclass(frozen=True, kw_only=True)
class PixelMixtureConfig(UNetConfig):
    """Gaussians at each pixel, however many.

    Attributes:
        target_channels: channels of y; 2 for color (ab).
        min_std: smallest standard deviation (the target's units): keeps the likelihood of a pixel that is known
            exactly from growing without bound.
    """

    target_channels: Count = 2
    min_std: Annotated[float, Number("> 0 and < 1")] = 0.005


@dataclass(frozen=True, kw_only=True)
class MixtureConfig(PixelMixtureConfig):
    """See ``condgen.families.mixture.model``.

    Attributes:
        components: N, Gaussians a pixel.
        covariance: ``diagonal``, or ``full`` among a pixel's channels. For one channel both have the 3 N outputs of a
            mixture density network (Bishop 1994).
    """

    family: ClassVar[str] = "mixture"

    components: Count = 5
    covariance: Literal["diagonal", "full"] = "diagonal"
