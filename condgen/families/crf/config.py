"""Configurations of the families of pixels: one Gaussian, a mixture of some, a random field. Free of torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from condgen._checks import check_above, check_at_least, check_between, check_choice
from condgen.errors import ConfigError
from condgen.nn.config import ColorClassifierConfig, UNetConfig

__all__ = ["CrfConfig", "GaussianConfig", "MixtureConfig"]


@dataclass(frozen=True, kw_only=True)
class GaussianConfig(UNetConfig):
    """See ``condgen.families.gaussian.model``.

    Attributes:
        target_channels: of y; 2 for colour (ab).
        min_std: smallest standard deviation, in the target's units: keeps the likelihood of a pixel that is known
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
class MixtureConfig(GaussianConfig):
    """See ``condgen.families.mixture.model``.

    Attributes:
        components: N, Gaussians a pixel.
        covariance: ``diagonal``, or ``full`` among a pixel's channels. For one channel both have the 3 N outputs of a
            mixture density network (Bishop 1994).
    """

    components: int = 5
    covariance: Literal["diagonal", "full"] = "diagonal"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least("model.components", self.components, 1)
        check_choice("model.covariance", self.covariance, ("diagonal", "full"))


@dataclass(frozen=True, kw_only=True)
class CrfConfig(ColorClassifierConfig):
    """See ``condgen.families.crf.model``. Distances between pixels are in pixels of the model's grid.

    Attributes:
        pairwise_weight: of all of a pixel's neighbours together, in nats; 0 is the classifier.
        window_radius: neighbours are those within a square of 2 r + 1 pixels.
        position_width: a, the Gaussian of the distance.
        image_width: b, the Gaussian of the difference in x, which is in [-1, 1].
        smooth_share: s, what of the weight does not look at x, 0 to 1.
        compatibility_width: c, the Gaussian of the distance between bins, in their units (ab units for colour):
            bins further apart than some of it disagree wholly. 0 is Potts: any two different bins do.
        steps: mean-field updates.
        shared_noise: s, the share of a draw's noise that a cell's pixels have in common, >= 0 and < 1.
        cell_px: side of the cells; 0 is one for the whole picture.
    """

    pairwise_weight: float = 10.0
    window_radius: int = 4
    position_width: float = 3.0
    image_width: float = 0.15
    smooth_share: float = 0.1
    compatibility_width: float = 30.0
    steps: int = 10
    shared_noise: float = 0.9
    cell_px: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least("model.pairwise_weight", self.pairwise_weight, 0.0)
        check_at_least("model.window_radius", self.window_radius, 1)
        check_above("model.position_width", self.position_width, 0.0)
        check_above("model.image_width", self.image_width, 0.0)
        if not 0.0 <= self.smooth_share <= 1.0:
            raise ConfigError("model.smooth_share", self.smooth_share, "a number >= 0 and <= 1")
        check_at_least("model.compatibility_width", self.compatibility_width, 0.0)
        check_at_least("model.steps", self.steps, 1)
        check_between("model.shared_noise", self.shared_noise, 0.0, 1.0)
        check_at_least("model.cell_px", self.cell_px, 0)
