"""Color: L*a*b*, bins of ab, and color at an image's own size.

lab.py           sRGB and L*a*b* as tensor functions, and the scales in which models see them
ab_bins.py       the grid of ab in gamut as bins of a categorical model
uniform_bins.py  uniform levels as bins, for other y than color
colorize.py      fitting an image into a model's square, and putting ab on the original's own L
guide.py         how ab follows the original's edges when it is upsampled

Loops over pixels are in ``_paint`` and ``_lines``, which numba compiles when they are first called (``_compile``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from condgen.doors import lazy_names

if TYPE_CHECKING:
    from condgen.color.ab_bins import AbBins
    from condgen.color.colorize import Fitted, Region, fit_square, recolor, resize
    from condgen.color.guide import Guide, make_guide
    from condgen.color.lab import (
        color_pair,
        denormalize_ab,
        denormalize_l,
        lab_to_rgb,
        normalize_ab,
        normalize_l,
        rgb_to_lab,
    )
    from condgen.color.uniform_bins import UniformBins
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "ab_bins": ["AbBins"],
            "colorize": ["Fitted", "Region", "fit_square", "recolor", "resize"],
            "guide": ["Guide", "make_guide"],
            "lab": [
                "color_pair",
                "denormalize_ab",
                "denormalize_l",
                "lab_to_rgb",
                "normalize_ab",
                "normalize_l",
                "rgb_to_lab",
            ],
            "uniform_bins": ["UniformBins"],
        },
    )

__all__ = [
    "AbBins",
    "Fitted",
    "Guide",
    "Region",
    "UniformBins",
    "color_pair",
    "denormalize_ab",
    "denormalize_l",
    "fit_square",
    "lab_to_rgb",
    "make_guide",
    "normalize_ab",
    "normalize_l",
    "recolor",
    "resize",
    "rgb_to_lab",
]
