"""The configuration of ``mixture``, and what it shares with its case of one component. Free of torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from condgen.checks import check_at_least, check_choice
from condgen.errors import ConfigError
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

    target_channels: int = 2
    min_std: float = 0.005

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least("model.target_channels", self.target_channels, 1)
        if not 0.0 < self.min_std < 1.0:
            raise ConfigError("model.min_std", self.min_std, "a number > 0 and < 1")


@dataclass(frozen=True, kw_only=True)
class MixtureConfig(PixelMixtureConfig):
    """See ``condgen.families.mixture.model``.

    Attributes:
        components: N, Gaussians a pixel.
        covariance: ``diagonal``, or ``full`` among a pixel's channels. For one channel both have the 3 N outputs of a
            mixture density network (Bishop 1994).
    """

    family: ClassVar[str] = "mixture"

    components: int = 5
    covariance: Literal["diagonal", "full"] = "diagonal"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least("model.components", self.components, 1)
        check_choice("model.covariance", self.covariance, ("diagonal", "full"))
