"""The configuration of ``crf``. Free of torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from condgen.checks import check_above, check_at_least, check_between
from condgen.errors import ConfigError
from condgen.families.color_classifier.config import ColorClassifierConfig

__all__ = ["CrfConfig"]


@dataclass(frozen=True, kw_only=True)
class CrfConfig(ColorClassifierConfig):
    """See ``condgen.families.crf.model``. Distances between pixels are in pixels of the model's grid.

    Attributes:
        pairwise_weight: weight of all of a pixel's neighbors together (nats); 0 is the classifier.
        window_radius: r; neighbors are those within a square of 2 r + 1 pixels.
        position_width: a, the width of the Gaussian of the distance.
        image_width: b, the width of the Gaussian of the difference in x, which is in [-1, 1].
        smooth_share: s, the share of the weight that does not depend on x, 0 to 1.
        compatibility_width: c, the width of the Gaussian of the distance between bins (their units; ab units for
            color): bins further apart than some of it disagree wholly. 0 is Potts: any two different bins do.
        steps: mean-field updates.
        shared_noise: s, the share of a draw's noise that a cell's pixels have in common, >= 0 and < 1.
        cell_px: side of the cells (pixels); 0 makes the whole image one cell.
    """

    family: ClassVar[str] = "crf"

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
