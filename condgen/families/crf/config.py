"""The configuration of ``crf``. Free of torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from condgen.checks import Count, Natural, NotNegative, Positive, Probability, Share
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

    pairwise_weight: NotNegative = 10.0
    window_radius: Count = 4
    position_width: Positive = 3.0
    image_width: Positive = 0.15
    smooth_share: Share = 0.1
    compatibility_width: NotNegative = 30.0
    steps: Count = 10
    shared_noise: Probability = 0.9
    cell_px: Natural = 0
